// bench:append — durable records/s and MB/s, beside the floor in the same rounds.
//
// Per record size and number of producers, one log in its steady state: segments are recycled, so no zeros are written
// while the clock runs (asserted). Each round: ours, then the floor with batches of the size ours had, as many of them,
// then one write + fdatasync per record. MB are 10^6 bytes.
//
// Two ratios, both printed:
//   of the floor   payload MB/s ÷ (floor's MB/s × payload share of our disk bytes): what a plain loop would carry if it
//                  wrote the same batches, headers and padding included. This one is judged.
//   of raw MB/s    payload MB/s ÷ floor's MB/s: counts our headers and padding against us.

import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { open, type LogStats, type SpillwayLog } from '../src/index.ts';
import type { AppendWorkerData, AppendWorkerMessage } from './append-worker.ts';
import { parseArguments, runBench, type Bench, type Io } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { Floor, floorModeOf } from './lib/floor.ts';
import { PayloadCycle, POOL_BYTES, SEED, verifyTail, type Sample } from './lib/payloads.ts';
import { MAX_UNDER_WAY_BYTES, produce } from './lib/producer.ts';
import type { Cell } from './lib/report.ts';
import { median, spread } from './lib/stats.ts';

const MIB = 1024 * 1024;
const FLOOR_TARGET = 0.85;
const FLOOR_TARGET_FROM_BYTES = 256;
const RECORD_TARGET = 300;
const GROUP_RECORDS = 500;
const SAMPLE_RECORDS = 2000;

interface Settings {
  readonly roundBytes: number;
  readonly rounds: number;
  readonly segmentBytes: number;
  readonly windowRecords: number;
  /** Records of one `record` round of the floor. */
  readonly singleRecords: number;
  /** 1: payloads lie anywhere in their buffer. A copy between aligned addresses can be several times faster. */
  readonly alignBytes: number;
  readonly io: Io;
}

interface Round {
  readonly recordsPerSecond: number;
  readonly payloadMBps: number;
  readonly diskMBps: number;
  readonly batchBytes: number;
  readonly recordsPerBatch: number;
  readonly floorMBps: number;
  readonly floorP50Us: number;
  readonly ofFloor: number;
  readonly ofRawFloor: number;
  readonly singlesPerSecond: number;
  /** Over one write + fdatasync per record: ours, and what the floor itself would reach with our batches. */
  readonly overSingles: number;
  readonly floorOverSingles: number;
}

/** Something that appends `groups` groups through each producer, and ends when all is durable. */
interface Producers {
  readonly count: number;
  readonly cycles: ReadonlyMap<string, PayloadCycle>;
  append(groups: number): Promise<void>;
  close(): Promise<void>;
}

function mainThread(log: SpillwayLog, recordBytes: number, alignBytes: number): Producers {
  const cycle = new PayloadCycle(recordBytes, GROUP_RECORDS, SEED, alignBytes);
  let from = 0;
  return {
    count: 1,
    cycles: new Map([['p0', cycle]]),
    async append(groups) {
      await produce(log, 'p0', cycle, from, groups);
      from += groups;
    },
    async close() {},
  };
}

async function workers(log: SpillwayLog, recordBytes: number, alignBytes: number, count: number): Promise<Producers> {
  const cycles = new Map<string, PayloadCycle>();
  const threads: Worker[] = [];
  for (let i = 0; i < count; i++) {
    const sequence = { stream: `p${i}`, recordBytes, groupRecords: GROUP_RECORDS, seed: SEED + i, alignBytes };
    const data: AppendWorkerData = { lane: log.lane(), ...sequence };
    cycles.set(data.stream, new PayloadCycle(recordBytes, GROUP_RECORDS, data.seed, alignBytes));
    const thread = new Worker(new URL('./append-worker.js', import.meta.url), { workerData: data });
    threads.push(thread);
    await once(thread, 'message');
  }
  const tell = (message: AppendWorkerMessage): void => threads.forEach((t) => t.postMessage(message));
  return {
    count,
    cycles,
    async append(groups) {
      // `once` also rejects when a worker throws.
      const done = Promise.all(threads.map((t) => once(t, 'message')));
      tell({ groups });
      await done;
    },
    async close() {
      const ended = Promise.all(threads.map((t) => once(t, 'exit')));
      tell('close');
      await ended;
    },
  };
}

/** Appends until segments go round: the first ones are filled with zeros while they are made, and cost twice. */
async function warmUp(
  log: SpillwayLog,
  producers: Producers,
  groupBytes: number,
  segmentBytes: number,
): Promise<number> {
  const perSegment = Math.ceil(segmentBytes / (groupBytes * producers.count));
  let groups = 0;
  const append = async (n: number): Promise<void> => {
    await producers.append(n);
    groups += n;
  };
  while (log.stats().rolls < 4) await append(perSegment);
  await append(perSegment * 2);
  return groups;
}

async function oneRound(
  log: SpillwayLog,
  producers: Producers,
  floor: Floor,
  recordBytes: number,
  s: Settings,
  groups: number,
): Promise<Round> {
  const before = log.stats();
  const startedMs = performance.now();
  await producers.append(groups);
  const seconds = (performance.now() - startedMs) / 1000;
  const after = log.stats();
  const records = groups * GROUP_RECORDS * producers.count;
  if (after.durableOffset - before.durableOffset !== records) {
    throw new BenchError(
      `${records} records were appended, ${after.durableOffset - before.durableOffset} became durable`,
    );
  }
  if (after.fillBytes !== before.fillBytes)
    throw new BenchError('zeros were written while the clock ran: not the steady state');
  const of = (key: keyof LogStats): number => (after[key] as number) - (before[key] as number);
  const batches = of('batches');
  const batchBytes = Math.ceil(of('diskBytes') / batches / 4096) * 4096;
  const plain = await floor.batches(floorModeOf(after.io), batchBytes, batches);
  const single = await floor.records(recordBytes, s.singleRecords);

  const payloadBytes = records * recordBytes;
  const payloadShare = payloadBytes / of('diskBytes');
  const payloadMBps = payloadBytes / seconds / 1e6;
  const floorMBps = plain.bytes / plain.seconds / 1e6;
  const singlesPerSecond = single.batches / single.seconds;
  return {
    recordsPerSecond: records / seconds,
    payloadMBps,
    diskMBps: of('diskBytes') / seconds / 1e6,
    batchBytes,
    recordsPerBatch: records / batches,
    floorMBps,
    floorP50Us: plain.p50Us,
    ofFloor: payloadMBps / (floorMBps * payloadShare),
    ofRawFloor: payloadMBps / floorMBps,
    singlesPerSecond,
    overSingles: records / seconds / singlesPerSecond,
    floorOverSingles: (floorMBps * payloadShare * 1e6) / recordBytes / singlesPerSecond,
  };
}

interface Subject {
  readonly recordBytes: number;
  readonly producers: number;
  readonly io: string;
  readonly rounds: Round[];
  readonly closeReasons: LogStats['closeReasons'];
  readonly appended: number;
  readonly durable: number;
  readonly sample: Sample;
}

async function measure(bench: Bench, floor: Floor, recordBytes: number, count: number, s: Settings): Promise<Subject> {
  const dir = join(bench.dataDir, 'log');
  const log = await open({
    dir,
    io: s.io,
    window: { maxRecords: s.windowRecords, lingerMs: 0 },
    segmentBytes: s.segmentBytes,
    retentionBytes: 3 * s.segmentBytes,
  });
  let producers: Producers | undefined;
  try {
    producers =
      count === 1 ? mainThread(log, recordBytes, s.alignBytes) : await workers(log, recordBytes, s.alignBytes, count);
    const groupBytes = recordBytes * GROUP_RECORDS;
    let groups = await warmUp(log, producers, groupBytes, s.segmentBytes);
    const perRound = Math.max(1, Math.round(s.roundBytes / groupBytes / count));
    const rounds: Round[] = [];
    for (let r = 0; r < s.rounds; r++) {
      rounds.push(await oneRound(log, producers, floor, recordBytes, s, perRound));
      groups += perRound;
    }
    const { durableOffset, io, closeReasons } = log.stats();
    const counted = new Map(
      [...producers.cycles].map(([stream, cycle]) => [stream, { cycle, count: groups * GROUP_RECORDS }]),
    );
    const sample = await verifyTail(log.read({ from: durableOffset - SAMPLE_RECORDS }), counted);
    const appended = groups * GROUP_RECORDS * count;
    return { recordBytes, producers: count, io, rounds, closeReasons, appended, durable: durableOffset, sample };
  } finally {
    await producers?.close();
    await log.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

function judge(bench: Bench, x: Subject): Cell[] {
  const of = (key: keyof Round): number => median(x.rounds.map((r) => r[key]));
  const where = `${x.recordBytes} bytes, ${x.producers} producer${x.producers > 1 ? 's' : ''}`;
  bench.report.exact(`${where}: durable records`, x.durable === x.appended, x.durable, String(x.appended));
  if (x.recordBytes >= FLOOR_TARGET_FROM_BYTES) {
    const { min, max } = spread(x.rounds.map((r) => r.ofFloor));
    const name = `${where}: of the floor (rounds ${min.toFixed(2)} … ${max.toFixed(2)})`;
    bench.report.measured(name, of('ofFloor') >= FLOOR_TARGET, of('ofFloor'), `≥ ${FLOOR_TARGET}`);
  }
  // Where the disk itself, written by the plain loop, does not carry that many bytes, no log can.
  const most = of('floorOverSingles');
  const note =
    most < RECORD_TARGET
      ? `the floor with the same batches reaches ${most.toFixed(0)} ×: the disk carries no more`
      : undefined;
  const over = of('overSingles');
  bench.report.measured(
    `${where}: over one write + fdatasync per record`,
    over >= RECORD_TARGET,
    over,
    `≥ ${RECORD_TARGET} ×`,
    note,
  );
  return [
    x.recordBytes,
    x.producers,
    of('recordsPerSecond'),
    of('payloadMBps'),
    of('diskMBps'),
    of('recordsPerBatch'),
    of('batchBytes'),
    of('floorMBps'),
    of('ofFloor'),
    of('ofRawFloor'),
    of('singlesPerSecond'),
    over,
  ];
}

const usage =
  'npm run bench:append [-- --smoke] [--dir D] [--io MODE] [--rounds N] [--window-records N] [--record-bytes N] [--producers N] [--align N]';
await runBench(
  'append',
  () => parseArguments(usage, ['window-records', 'record-bytes', 'producers', 'align']),
  (a) => {
    const { smoke, numbers } = a;
    const s: Settings = {
      roundBytes: (smoke ? 8 : 512) * MIB,
      rounds: a.rounds ?? (smoke ? 2 : 5),
      segmentBytes: (smoke ? 4 : 64) * MIB,
      windowRecords: numbers['window-records'] ?? 1000,
      singleRecords: smoke ? 20 : 500,
      alignBytes: numbers.align ?? 1,
      io: a.io,
    };
    const sizes =
      numbers['record-bytes'] !== undefined ? [numbers['record-bytes']] : smoke ? [256, 4096] : [64, 256, 1024, 4096];
    const counts = numbers.producers === undefined ? [1, 2] : [numbers.producers];
    return {
      parameters: {
        recordBytes: sizes,
        producers: counts,
        ...s,
        windowBytes: '1MiB',
        lingerMs: 0,
        retentionBytes: 3 * s.segmentBytes,
        groupRecords: GROUP_RECORDS,
        payloadPoolBytes: POOL_BYTES,
        maxUnderWayBytes: MAX_UNDER_WAY_BYTES,
        seed: SEED,
      },
      targets: [
        `payload MB/s ≥ ${FLOOR_TARGET} of the floor's (same mode, same batches) at ${FLOOR_TARGET_FROM_BYTES} bytes and above, median over the rounds`,
        `records/s ≥ ${RECORD_TARGET} × one write + fdatasync per record; not judged where the floor itself does not carry that`,
        'every record durable, and the last of each log read back byte for byte',
      ],
      async body(bench) {
        const { report, root, dataDir } = bench;
        const floor = Floor.compile(root, dataDir, 4 * s.segmentBytes);
        await floor.prepare();
        const subjects: Subject[] = [];
        const rows: Cell[][] = [];
        for (const recordBytes of sizes) {
          for (const count of counts) {
            report.progress(`${recordBytes} bytes, ${count} producer(s)`);
            const subject = await measure(bench, floor, recordBytes, count, s);
            report.io = subject.io;
            subjects.push(subject);
            rows.push(judge(bench, subject));
          }
        }
        report.results = subjects;
        const header = [
          'record bytes',
          'producers',
          'durable records/s',
          'payload MB/s',
          'disk MB/s',
          'records/batch',
          'batch bytes',
        ];
        report.table([...header, 'floor MB/s', 'of the floor', 'of raw MB/s', 'singles/s', 'over singles'], rows);
        report.say(
          'of the floor: payload MB/s ÷ (floor MB/s × payload share of our disk bytes), judged. of raw MB/s: payload MB/s ÷ floor MB/s.',
        );
        report.say(
          'singles: one write + fdatasync per record on a growing file. All figures are medians over the rounds.\n',
        );
      },
    };
  },
);
