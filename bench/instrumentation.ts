// bench:instrumentation — what it costs to measure: the append path with its stages and latencies, and the same without them.
//
// The product has no switch for it. So the bench makes a copy of the build in which the functions named in SWITCHED return at once
// while a global says so, and turns that on and off every ten milliseconds or so, within one process: A B, B A. A pair is two
// neighbours in time, with the same machine, code and memory; the cost is the median of the ratios of all pairs, and judged is the
// median over several processes.
// Tried before, on a shared machine: runs of seconds in turn, −22 % … +43 %; both builds in one process, where the one that was
// loaded second took up to 40 % more, whichever it was; two processes by turns, ±12 % for two copies of the same build.
//
// Judged is the CPU time of all threads per record, in two shapes of calls:
//     groups    500 records a call, as bench:append
//     singles   1 record a call: two samples each, the most that a record can cost
//
// Limits: in both are the switch itself (a load and a branch per call), and what is per batch: its two looks at the clock and three
// samples of the commit thread, about 0.2 µs for 1,000 records.

import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Measured } from './instrumentation-child.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { median, spread } from './lib/stats.ts';

const execute = promisify(execFile);
const MAX_COST = 0.03;
const RECORD_BYTES = 256;
const SHAPES = [
  { name: 'groups', groupRecords: 500, turnRecords: 20_000 },
  { name: 'singles', groupRecords: 1, turnRecords: 5000 },
] as const;

/** As it stands in the build, and once in its file. */
const SWITCHED = [
  ['pipeline/stages.js', 'begin(run, nowMs) {'],
  ['pipeline/stages.js', 'add(startedMs, records) {'],
  ['pipeline/stages.js', 'end() {'],
] as const;

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** The build with a switch, and what it needs beside it. @returns the child in it */
function copyBuild(root: string, to: string): string {
  mkdirSync(to);
  for (const part of ['src', 'workers', 'bench']) {
    cpSync(join(root, 'dist', part), join(to, 'dist', part), { recursive: true });
  }
  cpSync(join(root, 'package.json'), join(to, 'package.json'));
  for (const linked of ['node_modules', 'build']) symlinkSync(join(root, linked), join(to, linked));
  for (const [file, head] of SWITCHED) {
    const path = join(to, 'dist', 'src', file);
    const parts = readFileSync(path, 'utf8').split(head);
    if (parts.length !== 2)
      throw new BenchError(`${file}: expected '${head}' once, found it ${parts.length - 1} times`);
    writeFileSync(path, parts.join(`${head} if (globalThis.instrumentationIsOff) return;`));
  }
  return join(to, 'dist', 'bench', 'instrumentation-child.js');
}

await runBench(
  'instrumentation',
  () => parseArguments('npm run bench:instrumentation [-- --smoke] [--dir D] [--rounds N]'),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 7);
    const pairs = a.smoke ? 10 : 400;
    return {
      parameters: { rounds, pairs, recordBytes: RECORD_BYTES, shapes: SHAPES, switched: SWITCHED, lingerMs: 0 },
      targets: [
        `CPU per record ≤ ${percent(MAX_COST)} more with the instrumentation than without, median over ${rounds} processes`,
        'a sample of every record of its turns, and of no other',
      ],
      async body({ report, root, dataDir }) {
        const child = copyBuild(root, join(dataDir, 'switched'));
        const results: (Measured & { readonly shape: string })[] = [];
        for (let r = 0; r < rounds; r++) {
          for (const { name: shape, groupRecords, turnRecords } of SHAPES) {
            report.progress(`${shape}, process ${r + 1} of ${rounds}`);
            const dir = join(dataDir, 'log');
            const args = [pairs, RECORD_BYTES, groupRecords, turnRecords].map(String);
            const { stdout } = await execute(process.execPath, [child, dir, ...args]);
            rmSync(dir, { recursive: true });
            results.push({ shape, ...(JSON.parse(stdout) as Measured) });
          }
        }
        report.io = results[0].io;
        report.results = results;
        const rows = SHAPES.map(({ name }) => {
          const of = results.filter(({ shape }) => shape === name);
          const cost = median(of.map((r) => r.cost));
          const { min, max } = spread(of.map((r) => r.cost));
          const what = `${name}: CPU per record that it costs (processes ${percent(min)} … ${percent(max)})`;
          report.measured(what, cost <= MAX_COST, percent(cost), `≤ ${percent(MAX_COST)}`);
          const mid = (key: 'on' | 'off', figure: 'cpuUsPerRecord' | 'recordsPerSecond'): number =>
            median(of.map((r) => r[key][figure]));
          const cpu = [mid('on', 'cpuUsPerRecord'), mid('off', 'cpuUsPerRecord')];
          return [name, ...cpu, percent(cost), mid('on', 'recordsPerSecond'), mid('off', 'recordsPerSecond')];
        });
        const wrong = results.reduce((sum, r) => sum + Math.abs(r.samples - r.recordsOn), 0);
        const some = results.every((r) => r.recordsOn > 0);
        report.exact('samples more or fewer than records while it was on', wrong === 0 && some, wrong, '0');
        const header = ['CPU µs/record, on', 'off', 'cost', 'records/s, on', 'off'];
        report.table(['shape', ...header], rows);
      },
    };
  },
);
