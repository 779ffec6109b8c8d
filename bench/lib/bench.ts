// The frame of every bench: arguments, the data directory (removed at the end, also on failure), exit code.

import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { LogOptionsInput } from '../../src/index.ts';
import { fileSystemOf, Report } from './report.ts';

/** Exit with one clear line, no stack: something is missing here, or an argument is wrong. */
export class BenchError extends Error {}

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

function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1) throw new BenchError(`--${flag}: expected a whole number from 1, got '${text}'`);
  return n;
}

/** @param extra further flags, each of a whole number */
export function parseArguments(usage: string, extra: readonly string[] = []): Arguments {
  const options: Record<string, { type: 'boolean' | 'string' }> = {
    smoke: { type: 'boolean' },
    help: { type: 'boolean' },
    dir: { type: 'string' },
    io: { type: 'string' },
    rounds: { type: 'string' },
  };
  for (const flag of extra) options[flag] = { type: 'string' };
  let values: Record<string, string | boolean | undefined>;
  try {
    ({ values } = parseArgs({ options, allowPositionals: false }) as { values: typeof values });
  } catch (error) {
    throw new BenchError(`${(error as Error).message.split('. ')[0]}; usage: ${usage}`);
  }
  if (values.help === true) {
    console.log(`usage: ${usage}`);
    process.exit(0);
  }
  return {
    smoke: values.smoke === true,
    dir: values.dir as string | undefined,
    io: (values.io ?? 'auto') as Io,
    rounds: wholeNumber('rounds', values.rounds as string | undefined),
    numbers: Object.fromEntries(extra.map((flag) => [flag, wholeNumber(flag, values[flag] as string | undefined)])),
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
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      clean();
      process.exit(1);
    });
  }
  try {
    const a = args();
    const root = findRoot();
    const { parameters, targets, body } = plan(a);
    dataDir = makeDataDir(name, root, a.dir);
    const report = new Report(name, a.smoke, root, dataDir, parameters);
    report.begin(targets);
    await body({ report, root, dataDir });
    process.exitCode = report.finish();
  } catch (error) {
    // Not process.exit: what was printed must reach a pipe.
    const known = error instanceof BenchError || (error as { code?: string }).code === 'INVALID_OPTION';
    console.error(`bench ${name}: ${known ? (error as Error).message : ((error as Error).stack ?? String(error))}`);
    process.exitCode = 1;
  } finally {
    clean();
  }
}
