// bench:instrumentation — what it costs to measure: the append path with its histograms, and the same without them.
//
// The product has no switch for it, so what is compared are two copies of the build, of which one records nothing: BARE below
// says which functions return at once there. Each run is a process of its own, live and bare in turn, as a machine drifts: a
// pair is two neighbours, and the cost is the median over the pairs, not a difference of medians.
// Judged is the CPU time of all threads per record: it says the same on a busy machine, where records/s do not.
//
//     groups    500 records a call, as bench:append
//     singles   1 record a call: two samples each, the most that a record can cost
//
// Limit: two looks at the clock per batch stay in both.

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
  { name: 'groups', groupRecords: 500 },
  { name: 'singles', groupRecords: 1 },
] as const;

/** As it stands in the build, and once in its file: what is behind it is then not reached. */
const BARE = [
  ['platform/histogram.js', 'record(value, count = 1) {'],
  ['pipeline/stages.js', 'begin(run, nowMs) {'],
  ['pipeline/stages.js', 'add(startedMs, records) {'],
  ['pipeline/stages.js', 'end() {'],
] as const;

interface Pair {
  readonly shape: string;
  readonly live: Measured;
  readonly bare: Measured;
  /** CPU per record of the live one over that of the bare one, less 1. */
  readonly cost: number;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** The build, its dependencies beside it. @returns the child in it */
function copyBuild(root: string, to: string, patches: readonly (readonly [string, string])[]): string {
  for (const part of ['src', 'workers', 'bench']) {
    cpSync(join(root, 'dist', part), join(to, 'dist', part), { recursive: true });
  }
  cpSync(join(root, 'package.json'), join(to, 'package.json'));
  for (const linked of ['node_modules', 'build']) symlinkSync(join(root, linked), join(to, linked));
  for (const [file, head] of patches) {
    const path = join(to, 'dist', 'src', file);
    const parts = readFileSync(path, 'utf8').split(head);
    if (parts.length !== 2)
      throw new BenchError(`${file}: expected '${head}' once, found it ${parts.length - 1} times`);
    writeFileSync(path, parts.join(`${head} return;`));
  }
  return join(to, 'dist', 'bench', 'instrumentation-child.js');
}

await runBench(
  'instrumentation',
  () => parseArguments('npm run bench:instrumentation [-- --smoke] [--dir D] [--rounds N]'),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 15);
    const seconds = a.smoke ? 0.3 : 3;
    return {
      parameters: { rounds, seconds, recordBytes: RECORD_BYTES, shapes: SHAPES, bare: BARE, lingerMs: 0 },
      targets: [
        `CPU per record ≤ ${100 * MAX_COST} % more with the histograms than without, median over ${rounds} pairs`,
        'the live one has a sample of every record, the bare one has none',
      ],
      async body({ report, root, dataDir }) {
        const children = { live: join(dataDir, 'live'), bare: join(dataDir, 'bare') };
        for (const dir of Object.values(children)) mkdirSync(dir);
        const live = copyBuild(root, children.live, []);
        const bare = copyBuild(root, children.bare, BARE);
        const pairs: Pair[] = [];
        const run = async (child: string, groupRecords: number): Promise<Measured> => {
          const dir = join(dataDir, 'log');
          const args = [dir, seconds, RECORD_BYTES, groupRecords].map(String);
          const { stdout } = await execute(process.execPath, [child, ...args]);
          rmSync(dir, { recursive: true });
          return JSON.parse(stdout) as Measured;
        };
        for (let r = 0; r < rounds; r++) {
          for (const { name: shape, groupRecords } of SHAPES) {
            report.progress(`${shape}, pair ${r + 1} of ${rounds}`);
            // Who comes first takes turns too.
            const first = await run(r % 2 === 0 ? live : bare, groupRecords);
            const second = await run(r % 2 === 0 ? bare : live, groupRecords);
            const pair = r % 2 === 0 ? { live: first, bare: second } : { live: second, bare: first };
            pairs.push({ shape, ...pair, cost: pair.live.cpuUsPerRecord / pair.bare.cpuUsPerRecord - 1 });
          }
        }
        report.io = pairs[0].live.io;
        report.results = pairs;
        const rows = SHAPES.map(({ name }) => {
          const of = pairs.filter(({ shape }) => shape === name);
          const cost = median(of.map((p) => p.cost));
          const { min, max } = spread(of.map((p) => p.cost));
          report.measured(
            `${name}: CPU per record that the histograms cost (pairs ${percent(min)} … ${percent(max)})`,
            cost <= MAX_COST,
            percent(cost),
            `≤ ${percent(MAX_COST)}`,
          );
          const mid = (side: 'live' | 'bare', what: 'cpuUsPerRecord' | 'recordsPerSecond'): number =>
            median(of.map((p) => p[side][what]));
          return [
            name,
            mid('live', 'cpuUsPerRecord'),
            mid('bare', 'cpuUsPerRecord'),
            percent(cost),
            mid('live', 'recordsPerSecond'),
            mid('bare', 'recordsPerSecond'),
          ];
        });
        const without = pairs.filter((p) => p.live.samples !== p.live.records || p.live.records === 0);
        report.exact('live: runs that have no sample of some record', without.length === 0, without.length, '0');
        const recorded = pairs.reduce((sum, p) => sum + p.bare.samples, 0);
        report.exact('bare: samples', recorded === 0, recorded, '0');
        report.table(
          ['shape', 'CPU µs/record, live', 'bare', 'cost, median of pairs', 'records/s, live', 'bare'],
          rows,
        );
      },
    };
  },
);
