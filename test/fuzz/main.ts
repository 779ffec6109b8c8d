// `npm run test:fuzz [-- --quick] [--target NAME] [--seed N] [--executions N] [--only FILE] [--save]`: everything that parses bytes
// from outside, fed with bytes that are wrong. One table; bench/out/fuzz.json, of a quick run fuzz-quick.json. Exit 1 on a finding, or
// where a target did less than it should; 2 for arguments that mean nothing.
//
// `--only` tries one saved input again; `--save` writes the corpus anew.

import { basename, dirname, resolve } from 'node:path';
import { existsSync } from 'node:fs';
import { orExit, readFlags, wholeNumber } from '../../bench/lib/experiment.ts';
import { Report, show } from '../../bench/lib/report.ts';
import { root } from '../support/platform-root.ts';
import { runApart } from './apart.ts';
import type { ChildTask } from './files.ts';
import { NATIVE_TARGET, runNative } from './native.ts';
import { targets } from './targets/all.ts';

const FULL_EXECUTIONS = 1_000_000;
const QUICK_NATIVE = 200_000;
const DEFAULT_SEED = 20261121;

interface Row {
  readonly target: string;
  readonly promise: string;
  readonly atLeast: number;
  readonly executions: number;
  readonly covered: number;
  readonly leastCovered: number;
  readonly corpus: number;
  readonly findings: readonly string[];
  readonly seconds: number;
  readonly skipped?: string;
}

const USAGE = 'npm run test:fuzz [-- --quick] [--target NAME] [--seed N] [--executions N] [--only FILE] [--save]';
const flags = {
  quick: { type: 'boolean', default: false },
  target: { type: 'string' },
  seed: { type: 'string', default: String(DEFAULT_SEED) },
  executions: { type: 'string' },
  only: { type: 'string' },
  save: { type: 'boolean', default: false },
} as const;
const { values, seed, given } = orExit('fuzz', () => {
  const read = readFlags(USAGE, flags);
  const { seed, executions } = read.values;
  return {
    values: read.values,
    seed: wholeNumber('seed', seed, 0),
    given: executions === undefined ? undefined : wholeNumber('executions', executions),
  };
});

function usage(message: string): number {
  console.error(`fuzz: ${message}`);
  return 2;
}

async function runOne(name: string, task: ChildTask): Promise<Row> {
  const started = performance.now();
  const target = targets.find((t) => t.name === name);
  const { executions: atLeast } = task;
  const result = target === undefined ? await runNative(task) : await runApart(name, task);
  const leastCovered = task.only === undefined && values.executions === undefined ? (target?.leastCovered ?? 0) : 0;
  const promise = target?.promise ?? 'the C++ side reads and writes within its bounds, under ASan and UBSan';
  return { target: name, promise, atLeast, leastCovered, ...result, seconds: (performance.now() - started) / 1000 };
}

async function main(): Promise<number> {
  const names = [...targets.map((t) => t.name), NATIVE_TARGET];
  const only = values.only === undefined ? undefined : resolve(values.only);
  if (only !== undefined && !existsSync(only)) return usage(`--only: there is no file ${only}`);
  // An input lies in the folder of its target.
  const wanted = values.target ?? (only === undefined ? undefined : basename(dirname(only)));
  if (wanted !== undefined && !names.includes(wanted))
    return usage(`--target: expected one of ${names.join(', ')}, got '${wanted}'`);
  const chosen = wanted === undefined ? names : [wanted];
  const executionsOf = (name: string): number => {
    if (only !== undefined) return 1;
    const quick = targets.find((t) => t.name === name)?.quick ?? QUICK_NATIVE;
    return given ?? (values.quick ? quick : FULL_EXECUTIONS);
  };
  // A part of it is not all of it, nor is a quick run: their figures lie beside.
  const isAll = wanted === undefined && given === undefined;
  const name = isAll ? (values.quick ? 'fuzz-quick' : 'fuzz') : 'fuzz-part';
  const report = new Report(name, false, root, root, { ...values, targets: chosen });
  report.begin(['each target: at least as many executions as stated, no finding']);
  const rows: Row[] = [];
  for (const name of chosen) {
    report.progress(`${name} (${rows.length} of ${chosen.length} done)`);
    const task: ChildTask = {
      seed,
      executions: executionsOf(name),
      save: values.save,
      ...(only === undefined ? {} : { only }),
    };
    rows.push(await runOne(name, task));
  }
  report.results = rows;
  report.table(
    ['target', 'executions', 'covered blocks', 'corpus inputs', 'findings', 'seconds'],
    rows.map((r) =>
      r.skipped === undefined
        ? [r.target, r.executions, r.covered, r.corpus, r.findings.length, r.seconds.toFixed(1)]
        : [`${r.target}: skipped, ${r.skipped}`],
    ),
  );
  for (const r of rows) {
    for (const finding of r.findings) report.say(`  ! ${r.target}: ${finding}`);
    const isEnough = r.executions >= r.atLeast && r.covered >= r.leastCovered;
    report.checks.push({
      name: `${r.target}: ${r.promise}`,
      pass: r.skipped === undefined ? r.findings.length === 0 && isEnough : null,
      figure: r.findings.length,
      target: `0 findings in ${show(r.atLeast)} executions over ${show(r.leastCovered)} blocks`,
      note:
        r.skipped === undefined
          ? `${show(r.executions)} executions, ${show(r.covered)} blocks`
          : `skipped: ${r.skipped}`,
    });
  }
  return report.finish();
}

process.exitCode = await main();
