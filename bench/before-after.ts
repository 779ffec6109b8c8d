// bench:before-after — the same open-loop load to the same log, once with a durable write per record and once batched.
//
// First what the unbatched path carries in a closed loop (8 under way): its capacity. Then 0.7 of that, and 50 × that,
// are offered to both; a record's latency counts from its intended start (lib/open-loop.ts). "Carries" means: at least
// 0.99 of what was offered became durable, at the rate at which it was offered.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { open, type LogOptionsInput, type SpillwayLog } from '../src/index.ts';
import { parseArguments, runBench, type Bench } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { NumberedPayloads, offerLoad, type LoadResult } from './lib/open-loop.ts';
import { SEED } from './lib/payloads.ts';
import type { Cell } from './lib/report.ts';
import { median, spread } from './lib/stats.ts';

const MIB = 1024 * 1024;
const RECORD_BYTES = 256;
const SLO_MS = 20;
const CARRIES = 0.99;
const DOES_NOT_CARRY = 0.5;
const BASE_OF_CAPACITY = 0.7;
const OVERLOAD = 50;
const CLOSED_LOOP_UNDER_WAY = 8;
const DRAIN_SECONDS = 10;
const SAMPLE_RECORDS = 2000;
/** The generator is behind when this much of the SLO is its own. */
const LAG_LIMIT_MS = SLO_MS / 4;

const subjects = {
  // Small bounds, so that an overload shows as refusals within the run and not as memory.
  unbatched: {
    window: { maxRecords: 1, maxBytes: 64 * 1024, lingerMs: 0 },
    laneBytes: MIB,
    maxRecordBytes: 64 * 1024,
    maxWaitingBytes: 4 * MIB,
  },
  batched: { window: { lingerMs: 2 } },
} as const satisfies Record<string, Omit<LogOptionsInput, 'dir'>>;
type SubjectName = keyof typeof subjects;
/** `base` or `overload`. */
type LoadName = 'base' | 'overload';

interface Run extends LoadResult {
  readonly subject: SubjectName;
  readonly load: LoadName;
  readonly offeredPerSecond: number;
  readonly batches: number;
  /** Write and sync calls of batches, and every counted call, per durable record. */
  readonly commitCallsPerRecord: number;
  readonly allCallsPerRecord: number;
  readonly syncsPerRecord: number;
  readonly carriedShare: number;
  /** A sample read back, byte for byte. */
  readonly verifiedRecords: number;
}

const countedCalls = ['pwrite64', 'pwritev', 'pwritev2', 'fdatasync', 'fsync'] as const;

async function verify(log: SpillwayLog, payloads: NumberedPayloads): Promise<number> {
  let records = 0;
  for await (const { payload } of log.read({ from: Math.max(0, log.stats().durableOffset - SAMPLE_RECORDS) })) {
    if (!payloads.isWhole(payload)) throw new BenchError('read back: a record differs from what was appended');
    records++;
  }
  return records;
}

async function inLog<T>(
  bench: Bench,
  subject: SubjectName,
  options: Pick<LogOptionsInput, 'io' | 'segmentBytes' | 'retentionBytes'>,
  body: (log: SpillwayLog) => Promise<T>,
): Promise<T> {
  const dir = join(bench.dataDir, 'log');
  const log = await open({ dir, ...options, ...subjects[subject] });
  bench.report.io = log.stats().io;
  try {
    return await body(log);
  } finally {
    await log.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Records/s with `CLOSED_LOOP_UNDER_WAY` callers who each wait for their record before the next. */
async function closedLoop(log: SpillwayLog, payloads: NumberedPayloads, seconds: number): Promise<number> {
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1000;
  let n = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() < endMs) await log.append('bench', payloads.slice(n++, 1)[0]);
  };
  await Promise.all(Array.from({ length: CLOSED_LOOP_UNDER_WAY }, caller));
  return n / ((performance.now() - startedMs) / 1000);
}

function costOf(
  log: SpillwayLog,
  durable: number,
): Pick<Run, 'batches' | 'commitCallsPerRecord' | 'allCallsPerRecord' | 'syncsPerRecord'> {
  const { systemCalls: calls, batches, io } = log.stats();
  // One pwritev2(RWF_DSYNC) is the write and the sync in one call.
  const syncs = io === 'direct' || io === 'buffered' ? calls.commitWrites : calls.commitSyncs;
  return {
    batches,
    commitCallsPerRecord: (calls.commitWrites + calls.commitSyncs) / durable,
    allCallsPerRecord: countedCalls.reduce((sum, name) => sum + calls[name], 0) / durable,
    syncsPerRecord: syncs / durable,
  };
}

function keepsSlo(r: { readonly p99: number | null }): boolean {
  return r.p99 !== null && r.p99 <= SLO_MS;
}

interface Middle {
  readonly subject: SubjectName;
  readonly load: LoadName;
  readonly carriedShare: number;
  readonly shares: readonly number[];
  /** Of all records offered; Infinity where never. */
  readonly p99: number;
  readonly row: Cell[];
}

function middleOf(runs: readonly Run[], subject: SubjectName, load: LoadName): Middle {
  const mine = runs.filter((r) => r.subject === subject && r.load === load);
  const of = (pick: (r: Run) => number): number => median(mine.map(pick));
  const p99 = of((r) => r.offeredLatencyMs.p99 ?? Infinity);
  const carriedShare = of((r) => r.carriedShare);
  const lag = of((r) => r.issueLagMs.p99);
  const carries = carriedShare >= CARRIES;
  const verdict = carries ? (p99 <= SLO_MS ? 'carries, SLO kept' : 'carries, SLO missed') : 'does not carry';
  const row = [
    subject,
    load,
    of((r) => r.offeredPerSecond),
    of((r) => r.durablePerSecond),
    of((r) => r.refused),
    of((r) => r.late),
    of((r) => r.commitCallsPerRecord),
    of((r) => r.syncsPerRecord),
    of((r) => r.allCallsPerRecord),
    of((r) => r.latencyMs.p50),
    of((r) => r.latencyMs.p99),
    of((r) => r.latencyMs.p999),
    p99,
    lag,
    verdict + (lag > LAG_LIMIT_MS ? '; generator behind' : ''),
  ];
  return { subject, load, carriedShare, shares: mine.map((r) => r.carriedShare), p99, row };
}

function share(m: Middle): string {
  const { min, max } = spread(m.shares);
  return `rounds ${min.toFixed(3)} … ${max.toFixed(3)}`;
}

await runBench(
  'before-after',
  () =>
    parseArguments('npm run bench:before-after [-- --smoke] [--dir D] [--io MODE] [--rounds N] [--seconds N]', [
      'seconds',
    ]),
  (a) => {
    const { smoke } = a;
    const rounds = a.rounds ?? (smoke ? 1 : 3);
    const seconds = a.numbers.seconds ?? (smoke ? 0.4 : 10);
    const drainSeconds = smoke ? 1 : DRAIN_SECONDS;
    const capacityWindows = smoke ? 1 : 5;
    const capacitySeconds = smoke ? 0.3 : 2;
    const segmentBytes = (smoke ? 4 : 64) * MIB;
    const storage = { io: a.io, segmentBytes, retentionBytes: 4 * segmentBytes };
    return {
      parameters: {
        rounds,
        secondsPerLoad: seconds,
        drainSeconds,
        recordBytes: RECORD_BYTES,
        sloMs: SLO_MS,
        baseOfCapacity: BASE_OF_CAPACITY,
        overload: OVERLOAD,
        closedLoop: { underWay: CLOSED_LOOP_UNDER_WAY, windows: capacityWindows, seconds: capacitySeconds },
        subjects,
        ...storage,
        seed: SEED,
      },
      targets: [
        `at base (${BASE_OF_CAPACITY} of its capacity) unbatched carries ≥ ${CARRIES} of the offered rate`,
        `at ${OVERLOAD} × base batched carries ≥ ${CARRIES} of the offered rate, p99 of all records offered ≤ ${SLO_MS} ms (the SLO)`,
        `at ${OVERLOAD} × base unbatched does not: < ${DOES_NOT_CARRY} of the offered rate, or p99 > ${SLO_MS} ms`,
        `the generator's own lag p99 ≤ ${LAG_LIMIT_MS} ms, or the run says nothing of the log`,
      ],
      async body(bench) {
        const { report } = bench;
        const payloads = new NumberedPayloads(RECORD_BYTES, 65_536, SEED);
        report.progress('capacity of the unbatched path');
        const capacities: number[] = [];
        for (let i = 0; i < capacityWindows; i++) {
          capacities.push(
            await inLog(bench, 'unbatched', storage, (log) => closedLoop(log, payloads, capacitySeconds)),
          );
        }
        const capacityPerSecond = median(capacities);
        const base = BASE_OF_CAPACITY * capacityPerSecond;
        const rates: Record<LoadName, number> = { base, overload: OVERLOAD * base };
        report.say(
          `capacity of the unbatched path, closed loop: ${Math.round(capacityPerSecond)} records/s (windows ${capacities.map(Math.round).join(', ')}); base ${Math.round(base)}/s, ${OVERLOAD} × base ${Math.round(rates.overload)}/s\n`,
        );

        const runs: Run[] = [];
        for (let round = 1; round <= rounds; round++) {
          for (const load of ['base', 'overload'] as const) {
            for (const subject of ['unbatched', 'batched'] as const) {
              report.progress(`round ${round} of ${rounds}: ${load} to ${subject}`);
              const run = await inLog(bench, subject, storage, async (log): Promise<Run> => {
                const result = await offerLoad(log, 'bench', payloads, {
                  ratePerSecond: rates[load],
                  seconds,
                  drainSeconds,
                });
                const cost = costOf(log, log.stats().durableOffset);
                const offeredPerSecond = result.offered / seconds;
                const carriedShare = Math.min(
                  result.durable / result.offered,
                  result.durablePerSecond / offeredPerSecond,
                );
                const sum = result.durable + result.refused + result.late;
                report.exact(
                  `round ${round}, ${subject} at ${load}: durable + refused + late`,
                  sum === result.offered,
                  sum,
                  `${result.offered} offered`,
                );
                if (result.late === 0) {
                  const { durableOffset } = log.stats();
                  const name = `round ${round}, ${subject} at ${load}: durable in the log`;
                  report.exact(name, durableOffset === result.durable, durableOffset, `${result.durable} acknowledged`);
                }
                return {
                  subject,
                  load,
                  offeredPerSecond,
                  ...result,
                  ...cost,
                  carriedShare,
                  verifiedRecords: await verify(log, payloads),
                };
              });
              runs.push(run);
            }
          }
        }
        report.results = { capacities, capacityPerSecond, rates, runs };

        const middles = (['base', 'overload'] as const).flatMap((load) =>
          (['unbatched', 'batched'] as const).map((subject) => middleOf(runs, subject, load)),
        );
        const header = [
          'subject',
          'load',
          'offered/s',
          'durable/s',
          'refused',
          'late',
          'commit calls/record',
          'syncs/record',
          'all calls/record',
        ];
        header.push(
          'p50 ms',
          'p99 ms',
          'p99.9 ms',
          'p99 of offered',
          'generator lag p99',
          `verdict (SLO ${SLO_MS} ms)`,
        );
        report.table(
          header,
          middles.map((m) => m.row),
        );
        report.say(
          'p50, p99, p99.9: of the records that became durable, from their intended start; p99 of offered: of all, refused and late ones',
        );
        report.say(
          'included (never: that many were not durable at all). late: accepted, not durable when the drain was over. Medians of the rounds.\n',
        );

        const find = (subject: SubjectName, load: LoadName): Middle =>
          middles.find((m) => m.subject === subject && m.load === load)!;
        const ub = find('unbatched', 'base');
        report.measured(
          `unbatched at base: share carried (${share(ub)})`,
          ub.carriedShare >= CARRIES,
          ub.carriedShare,
          `≥ ${CARRIES}`,
        );
        const bo = find('batched', 'overload');
        report.measured(
          `batched at ${OVERLOAD} × base: share carried (${share(bo)})`,
          bo.carriedShare >= CARRIES,
          bo.carriedShare,
          `≥ ${CARRIES}`,
        );
        report.measured(
          `batched at ${OVERLOAD} × base: p99 ms of all records offered`,
          keepsSlo(bo),
          bo.p99,
          `≤ ${SLO_MS}`,
        );
        const uo = find('unbatched', 'overload');
        const fails = uo.carriedShare < DOES_NOT_CARRY || !keepsSlo(uo);
        const figure = `${uo.carriedShare.toFixed(3)} carried, p99 ${Number.isFinite(uo.p99) ? `${uo.p99.toFixed(1)} ms` : 'never'}`;
        report.measured(
          `unbatched at ${OVERLOAD} × base does not`,
          fails,
          figure,
          `< ${DOES_NOT_CARRY} carried, or p99 > ${SLO_MS} ms`,
        );
        const lag = Math.max(...middles.map((m) => m.row.at(-2) as number));
        report.measured('generator lag p99 ms, worst of the four', lag <= LAG_LIMIT_MS, lag, `≤ ${LAG_LIMIT_MS}`);
      },
    };
  },
);
