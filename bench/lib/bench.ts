// The frame of every bench: arguments, the data directory (removed at the end, also on failure), exit code.

import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { LogOptionsInput } from '../../src/index.ts';
import { BenchError, readFlags, runToEnd, wholeNumber } from './experiment.ts';
import { fileSystemOf, Report } from './report.ts';

export type Io = NonNullable<LogOptionsInput['io']>;

export interface Arguments {
  readonly smoke: boolean;
  readonly dir: string | undefined;
  readonly io: Io;
  readonly rounds: number | undefined;
  /** Options of one bench alone, all numbers. */
  readonly numbers: Record<string, number | undefined>;
}

/** The repository: the nearest folder from here upwards whose package.json is ours. */
export function findRoot(from = process.cwd()): string {
  for (let dir = resolve(from); ; dir = dirname(dir)) {
    const path = join(dir, 'package.json');
    if (existsSync(path) && (JSON.parse(readFileSync(path, 'utf8')) as { name?: string }).name === 'spillway')
      return dir;
    if (dirname(dir) === dir)
      throw new BenchError(`no package.json of spillway in ${from} or above: run this in the repository`);
  }
}

/** @param extra further flags, each of a whole number */
export function parseArguments(usage: string, extra: readonly string[] = []): Arguments {
  const options: Record<string, { type: 'boolean' | 'string' }> = {
    smoke: { type: 'boolean' },
    dir: { type: 'string' },
    io: { type: 'string' },
    rounds: { type: 'string' },
  };
  for (const flag of extra) options[flag] = { type: 'string' };
  const values = readFlags(usage, options).values as Record<string, string | boolean | undefined>;
  const number = (flag: string): number | undefined =>
    values[flag] === undefined ? undefined : wholeNumber(flag, values[flag] as string);
  return {
    smoke: values.smoke === true,
    dir: values.dir as string | undefined,
    io: (values.io ?? 'auto') as Io,
    rounds: number('rounds'),
    numbers: Object.fromEntries(extra.map((flag) => [flag, number(flag)])),
  };
}

/** A folder of our own beside `data/`, on the disk of the repository; or in `--dir`. */
function makeDataDir(name: string, root: string, dir: string | undefined): string {
  const parent = dir === undefined ? join(root, 'data') : resolve(dir);
  const path = join(parent, `bench-${name}-${process.pid}`);
  mkdirSync(path, { recursive: true });
  if (['tmpfs', 'ramfs'].includes(fileSystemOf(path))) {
    rmSync(path, { recursive: true });
    throw new BenchError(`${parent} lies in memory: a durable write there says nothing. Choose a disk with --dir`);
  }
  return path;
}

export interface Bench {
  readonly report: Report;
  readonly root: string;
  readonly dataDir: string;
}

/** Runs a bench from argument to exit code. */
export async function runBench(
  name: string,
  args: () => Arguments,
  plan: (a: Arguments) => {
    parameters: Record<string, unknown>;
    targets: readonly string[];
    body: (bench: Bench) => Promise<void>;
  },
): Promise<void> {
  let dataDir: string | undefined;
  const clean = (): void => {
    if (dataDir !== undefined) rmSync(dataDir, { recursive: true, force: true });
  };
  const run = async (): Promise<number> => {
    const a = args();
    const root = findRoot();
    const { parameters, targets, body } = plan(a);
    dataDir = makeDataDir(name, root, a.dir);
    const report = new Report(name, a.smoke, root, dataDir, parameters);
    report.begin(targets);
    await body({ report, root, dataDir });
    return report.finish();
  };
  await runToEnd(`bench ${name}`, run, clean);
}
