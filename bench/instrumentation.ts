// bench:instrumentation — what it costs to measure: the append path with its histograms, and the same without them.
//
// The product has no switch for it, so what is compared are two copies of the build, of which one records nothing: BARE below
// says which functions return at once there. Each runs in a process of its own, and they take turns of some ten milliseconds, A B,
// B A, so that neighbours see the same machine: a pair is two neighbours, and the cost is the median of the ratios of all pairs.
// No two processes are alike (what is compiled when, where memory lies), so there are several of each.
// Tried before: runs of seconds in turn, −22 % … +43 % on a shared machine; both copies in one process, where the one that was
// loaded second took up to 40 % more, whichever it was.
//
// Judged is the CPU time of all threads per record; records/s are told.
//
//     groups    500 records a call, as bench:append
//     singles   1 record a call: two samples each, the most that a record can cost
//
// Limit: two looks at the clock per batch stay in both.

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Total, Turn } from './instrumentation-child.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { median, spread } from './lib/stats.ts';

const MAX_COST = 0.03;
/** For segments that go round, and code that is compiled. */
const WARM_UP_PAIRS = 30;
const RECORD_BYTES = 256;
const SHAPES = [
  { name: 'groups', groupRecords: 500, turnRecords: 50_000 },
  { name: 'singles', groupRecords: 1, turnRecords: 10_000 },
] as const;

/** As it stands in the build, and once in its file: what is behind it is then not reached. */
const BARE = [
  ['platform/histogram.js', 'record(value, count = 1) {'],
  ['pipeline/stages.js', 'begin(run, nowMs) {'],
  ['pipeline/stages.js', 'add(startedMs, records) {'],
  ['pipeline/stages.js', 'end() {'],
] as const;

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** The build, with what it needs beside it. */
function copyBuild(root: string, to: string, patches: readonly (readonly [string, string])[]): void {
  mkdirSync(to);
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
}

/** A process of a copy. */
class Side {
  readonly turns: Turn[] = [];
  readonly #child: ChildProcess;

  constructor(build: string, dir: string, of: (typeof SHAPES)[number]) {
    const script = join(build, 'dist', 'bench', 'instrumentation-child.js');
    this.#child = fork(script, [dir, ...[RECORD_BYTES, of.groupRecords, of.turnRecords].map(String)]);
  }

  async turn(): Promise<void> {
    this.turns.push(await this.#ask<Turn>('turn'));
  }

  async end(): Promise<Total> {
    const gone = once(this.#child, 'exit');
    const total = await this.#ask<Total>('end');
    await gone;
    return total;
  }

  async #ask<T>(word: 'turn' | 'end'): Promise<T> {
    const stop = new AbortController();
    const { signal } = stop;
    const died = once(this.#child, 'exit', { signal }).then(() => {
      throw new BenchError('a process of it ended too early');
    });
    try {
      this.#child.send(word);
      const [answer] = (await Promise.race([once(this.#child, 'message', { signal }), died])) as [T];
      return answer;
    } finally {
      stop.abort();
      await died.catch(() => undefined);
    }
  }
}

interface Round {
  readonly shape: string;
  /** CPU per record of the live one over that of the bare one, less 1: median over the pairs. */
  readonly cost: number;
  readonly live: Total & { readonly cpuUsPerRecord: number; readonly recordsPerSecond: number };
  readonly bare: Round['live'];
}

async function oneRound(
  builds: { readonly live: string; readonly bare: string },
  dir: string,
  of: (typeof SHAPES)[number],
  pairs: number,
): Promise<Round> {
  mkdirSync(dir);
  const live = new Side(builds.live, join(dir, 'live'), of);
  const bare = new Side(builds.bare, join(dir, 'bare'), of);
  for (let p = -WARM_UP_PAIRS; p < pairs; p++) {
    if (p === 0) for (const side of [live, bare]) side.turns.length = 0;
    const [first, second] = p % 2 === 0 ? [live, bare] : [bare, live];
    await first.turn();
    await second.turn();
  }
  const figures = async (side: Side): Promise<Round['live']> => ({
    ...(await side.end()),
    cpuUsPerRecord: median(side.turns.map(({ cpuUs }) => cpuUs)) / of.turnRecords,
    recordsPerSecond: (of.turnRecords / median(side.turns.map(({ tookMs }) => tookMs))) * 1000,
  });
  const ratios = live.turns.map(({ cpuUs }, i) => cpuUs / bare.turns[i].cpuUs);
  const round = { shape: of.name, cost: median(ratios) - 1, live: await figures(live), bare: await figures(bare) };
  rmSync(dir, { recursive: true });
  return round;
}

await runBench(
  'instrumentation',
  () => parseArguments('npm run bench:instrumentation [-- --smoke] [--dir D] [--rounds N]'),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 9);
    const pairs = a.smoke ? 5 : 150;
    return {
      parameters: { rounds, pairs, recordBytes: RECORD_BYTES, shapes: SHAPES, bare: BARE, lingerMs: 0 },
      targets: [
        `CPU per record ≤ ${percent(MAX_COST)} more with the histograms than without, median over ${rounds} rounds`,
        'the live one has a sample of every record, the bare one has none',
      ],
      async body({ report, root, dataDir }) {
        const live = join(dataDir, 'live');
        const bare = join(dataDir, 'bare');
        copyBuild(root, live, []);
        copyBuild(root, bare, BARE);
        const results: Round[] = [];
        for (let r = 0; r < rounds; r++) {
          for (const of of SHAPES) {
            report.progress(`${of.name}, round ${r + 1} of ${rounds}`);
            results.push(await oneRound({ live, bare }, join(dataDir, 'logs'), of, pairs));
          }
        }
        report.io = results[0].live.io;
        report.results = results;
        const rows = SHAPES.map(({ name }) => {
          const of = results.filter(({ shape }) => shape === name);
          const cost = median(of.map((r) => r.cost));
          const { min, max } = spread(of.map((r) => r.cost));
          const range = `${percent(min)} … ${percent(max)}`;
          const what = `${name}: CPU per record that the histograms cost (rounds ${range})`;
          report.measured(what, cost <= MAX_COST, percent(cost), `≤ ${percent(MAX_COST)}`);
          const mid = (key: 'live' | 'bare', of2: 'cpuUsPerRecord' | 'recordsPerSecond'): number =>
            median(of.map((r) => r[key][of2]));
          const cpu = [mid('live', 'cpuUsPerRecord'), mid('bare', 'cpuUsPerRecord')];
          return [name, ...cpu, percent(cost), mid('live', 'recordsPerSecond'), mid('bare', 'recordsPerSecond')];
        });
        const missing = results.reduce((sum, { live: l }) => sum + Math.abs(l.samples - l.records), 0);
        report.exact('live: records without a sample', missing === 0, missing, '0');
        const recorded = results.reduce((sum, r) => sum + r.bare.samples, 0);
        report.exact('bare: samples', recorded === 0, recorded, '0');
        const header = ['CPU µs/record, live', 'bare', 'cost', 'records/s, live', 'bare'];
        report.table(['shape', ...header], rows);
      },
    };
  },
);
