// The frame of every lab: what it asks, how, what is expected and what would refute it are printed first, then the targets, then it
// runs; a table, plots, checks and the same as JSON behind it. Exit 0 where every check holds, or where this machine cannot do it
// (which is said); 1 where one fails.

import type { ChildProcess } from 'node:child_process';
import { accessSync, constants, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BenchError, readFlags, runToEnd, wholeNumber } from '../lib/experiment.ts';
import { fileSystemOf, Report } from '../lib/report.ts';
import { linePlot, type Plot } from '../lib/svg.ts';

export interface Statement {
  readonly name: string;
  readonly question: string;
  readonly method: string;
  readonly expected: string;
  readonly refutedBy: string;
}

/** This machine cannot do it: no root, no control groups. Not a failure, and not a result either. */
export class Skipped extends Error {}

export interface LabArguments {
  readonly smoke: boolean;
  /** About a minute: judged, on less. */
  readonly quick: boolean;
  readonly json: boolean;
  readonly dir: string | undefined;
  readonly out: string | undefined;
  readonly policy: string | undefined;
  /** Flags of numbers. */
  readonly numbers: Readonly<Record<string, number | undefined>>;
}

/** Folder of package.json, in the repository and in an installed package alike. */
export const packageRoot = fileURLToPath(new URL('../../../', import.meta.url));

/**
 * @param numbers flags of whole numbers that the lab takes
 * @param isLive the lab can show one policy live: --policy, and --json for that
 */
export function parseLabArguments(name: string, numbers: readonly string[], isLive = false): LabArguments {
  const flags = ['dir', 'out', ...(isLive ? ['policy'] : []), ...numbers];
  const options: Record<string, { type: 'boolean' | 'string' }> = {
    smoke: { type: 'boolean' },
    quick: { type: 'boolean' },
    ...(isLive ? { json: { type: 'boolean' } as const } : {}),
    ...Object.fromEntries(flags.map((flag) => [flag, { type: 'string' } as const])),
  };
  const usage = `spillway lab ${name} [--smoke] [--quick]${isLive ? ' [--json]' : ''}${flags.map((flag) => ` [--${flag} …]`).join('')}`;
  const values = readFlags(usage, options).values as Record<string, string | boolean | undefined>;
  const number = (flag: string): number | undefined =>
    values[flag] === undefined ? undefined : wholeNumber(flag, values[flag] as string);
  return {
    smoke: values.smoke === true,
    quick: values.quick === true,
    json: values.json === true,
    dir: values.dir as string | undefined,
    out: values.out as string | undefined,
    policy: values.policy as string | undefined,
    numbers: Object.fromEntries(numbers.map((flag) => [flag, number(flag)])),
  };
}

function isDisk(parent: string): boolean {
  try {
    accessSync(parent, constants.W_OK | constants.X_OK);
    return !['tmpfs', 'ramfs'].includes(fileSystemOf(parent));
  } catch {
    return false;
  }
}

/** A folder of our own on a disk that can be written: in `dir`, else where temporary things that are large belong. */
export function makeDiskDir(name: string, dir: string | undefined): string {
  if (dir !== undefined) mkdirSync(dir, { recursive: true });
  const candidates = dir === undefined ? [join(process.cwd(), 'data'), '/var/tmp', '/tmp', process.cwd()] : [dir];
  const parent = candidates.find(isDisk);
  if (parent === undefined) {
    throw new BenchError(`no disk to write to in ${candidates.join(', ')} (memory would count as memory): use --dir`);
  }
  const path = join(resolve(parent), `spillway-lab-${name}-${process.pid}`);
  mkdirSync(path, { recursive: true });
  return path;
}

/** Where figures go: below the current folder, as those of benches do; where that cannot be written, to what is temporary. */
function makeOutDir(out = join(process.cwd(), 'bench', 'out')): string {
  try {
    mkdirSync(out, { recursive: true });
    accessSync(out, constants.W_OK);
    return out;
  } catch {
    const temporary = join(tmpdir(), 'spillway-lab');
    mkdirSync(temporary, { recursive: true });
    console.log(`${out} cannot be written: figures go to ${temporary}`);
    return temporary;
  }
}

const children = new Set<ChildProcess>();

/** A process that ends with the lab, whatever ends it. */
export function own<T extends ChildProcess>(child: T): T {
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

export interface Lab {
  readonly report: Report;
  readonly dataDir: string;
  plot(name: string, plot: Plot): void;
}

export interface LabPlan {
  readonly parameters: Record<string, unknown>;
  readonly targets: readonly string[];
  readonly body: (lab: Lab) => Promise<void>;
}

export function printStatement({ name, question, method, expected, refutedBy }: Statement): void {
  console.log(`lab ${name}`);
  for (const [word, sentence] of Object.entries({ question, method, expected, 'refuted by': refutedBy })) {
    console.log(`  ${word.padEnd(10)}  ${sentence}`);
  }
  console.log('');
}

/** Runs a lab from its statement to the exit status. */
export async function runLab(
  statement: Statement,
  parse: () => LabArguments,
  plan: (a: LabArguments) => LabPlan,
): Promise<void> {
  const { name } = statement;
  let dataDir: string | undefined;
  const clean = (): void => {
    for (const child of children) child.kill('SIGKILL');
    if (dataDir !== undefined) rmSync(dataDir, { recursive: true, force: true });
  };
  const run = async (): Promise<number> => {
    const a = parse();
    printStatement(statement);
    const { parameters, targets, body } = plan(a);
    dataDir = makeDiskDir(name, a.dir);
    const report = new Report(`lab-${name}`, a.smoke, packageRoot, dataDir, parameters, makeOutDir(a.out));
    report.begin(targets, `lab ${name}`);
    try {
      await body({ report, dataDir, plot: (suffix, plot) => report.attach(`${suffix}.svg`, linePlot(plot)) });
    } catch (error) {
      if (!(error instanceof Skipped)) throw error;
      console.log(`lab ${name}: skipped: ${error.message}`);
      return 0;
    }
    return report.finish();
  };
  await runToEnd(`lab ${name}`, run, clean);
}
