// Latency by stage: of one run with made-up times, through the real commit loop with a clock that moves only while the disk works,
// and of a log as it is used. What is split must come together again.

import t from 'tap';
import { open, openLane, type LogStats } from '../../src/index.ts';
import { Lane } from '../../src/pipeline/lane.ts';
import { stageNames } from '../../src/pipeline/log-stats.ts';
import { Stages } from '../../src/pipeline/stages.ts';
import { createLaneBuffer, laneFigures, noAcknowledgement, type BatchTimes } from '../../src/platform/lane-memory.ts';
import { Histogram } from '../../src/platform/histogram.ts';
import { laneHistogramNames, type LaneFigures, type LaneHistogramName } from '../../src/platform/lane-figures.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { systemClock } from '../../src/base/clock.ts';
import { directory } from '../support/log-support.ts';
import { openLog, SimulatedClock } from '../support/log-plans.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';
import { Producers, wide } from '../support/platform-lane-set.ts';

type Sums = Record<LaneHistogramName, number>;

/** Sums in ms. */
function sumsOf({ histograms }: Pick<LaneFigures, 'histograms'>): Sums {
  const sums = {} as Sums;
  for (const name of laneHistogramNames) sums[name] = Math.round(histograms[name].sum) / 1000;
  return sums;
}

function split(run: BatchTimes, nowMs: number, jobs: readonly (readonly [startedMs: number, records: number])[]): Sums {
  const histograms = {} as Record<LaneHistogramName, Histogram>;
  for (const name of laneHistogramNames) histograms[name] = new Histogram();
  const stages = new Stages(histograms);
  stages.begin({ firstOffset: 0, records: 0, ...run }, nowMs);
  for (const [startedMs, records] of jobs) stages.add(startedMs, records);
  stages.end();
  const records = jobs.reduce((sum, [, n]) => sum + n, 0);
  for (const name of laneHistogramNames) {
    const count = name === 'batchAge' ? 1 : records;
    if (histograms[name].count !== count) throw new Error(`${name}: ${histograms[name].count} samples, not ${count}`);
  }
  return sumsOf({ histograms });
}

t.test('one run: free at 10, closed at 15, durable at 40, told at 42', async (t) => {
  const run = { freeMs: 10, closedMs: 15, durableMs: 40 };
  t.strictSame(
    split(run, 42, [[3, 1]]),
    { latency: 39, lane: 7, window: 5, write: 25, back: 2, batchAge: 12 },
    'appended at 3, while the commit thread was busy',
  );
  t.strictSame(
    split(run, 42, [[12, 1]]),
    { latency: 30, lane: 0, window: 3, write: 25, back: 2, batchAge: 3 },
    'appended at 12, while it waited',
  );
  t.strictSame(
    split(run, 42, [
      [3, 2],
      [9, 1],
      [12, 4],
    ]),
    { latency: 78 + 33 + 120, lane: 15, window: 15 + 12, write: 7 * 25, back: 14, batchAge: 12 },
    'seven records of three calls; the age is that of the oldest',
  );
});

t.test('times of threads whose clocks differ a little are put in order, and the parts are the whole', async (t) => {
  for (const [run, nowMs, startedMs] of [
    [{ freeMs: 10, closedMs: 15, durableMs: 40 }, 39.5, 3],
    [{ freeMs: 10, closedMs: 15, durableMs: 40 }, 41, 15.5],
    [{ freeMs: 16, closedMs: 15, durableMs: 14 }, 13, 12],
    [{ freeMs: 0, closedMs: 0, durableMs: 0 }, 50, 20],
  ] as const) {
    const sums = split(run, nowMs, [[startedMs, 3]]);
    const parts = sums.lane + sums.window + sums.write + sums.back;
    t.ok(Math.abs(parts - sums.latency) < 0.01, JSON.stringify({ ...run, nowMs, startedMs, ...sums }));
    t.ok(
      Object.values(sums).every((sum) => sum >= 0),
      'none is below 0',
    );
  }
});

t.test('two batches assigned, written one after the other, acknowledged together: each keeps its times', async (t) => {
  const p = new Producers(1);
  for (const [offset, freeMs, closedMs] of [
    [0, 1, 2],
    [1, 3, 4],
  ]) {
    p.put(0, offset, offset + 1);
    p.set.drain(wide);
    p.set.assign(offset, freeMs, closedMs);
    p.set.release();
  }
  p.set.written(10);
  p.set.written(20);
  p.set.acknowledge(2);
  const run = noAcknowledgement();
  t.ok(p.producers[0].nextAck(run));
  t.strictSame(run, { firstOffset: 0, records: 1, freeMs: 1, closedMs: 2, durableMs: 10 });
  t.ok(p.producers[0].nextAck(run));
  t.strictSame(run, { firstOffset: 1, records: 1, freeMs: 3, closedMs: 4, durableMs: 20 });
});

/** A disk on which each durable write of a batch takes 5 ms; one that was submitted is waited for in `settle`. */
class SlowIo extends JsIo {
  readonly clock: SimulatedClock;

  constructor(clock: SimulatedClock) {
    super();
    this.clock = clock;
  }

  override durableWrite(...args: Parameters<JsIo['durableWrite']>): void {
    super.durableWrite(...args);
    this.clock.nowMs += 5;
  }

  override submit(...args: Parameters<JsIo['submit']>): void {
    const { nowMs } = this.clock;
    super.submit(...args);
    this.clock.nowMs = nowMs;
  }

  override settle(): void {
    super.settle();
    this.clock.nowMs += 5;
  }
}

t.test('the commit loop: two full batches whose writes overlap, then one by itself', async (t) => {
  const clock = new SimulatedClock();
  const io = new SlowIo(clock);
  const { log } = openLog(directory(t), io, {}, clock);
  const loop = new LoopByHand();
  const buffer = createLaneBuffer(64 * 1024);
  loop.queue({ id: 0, kind: 'lane', buffer });
  const limits = { maxRecordBytes: 8192, maxWaitingBytes: 2 ** 20 };
  const lane = new Lane({ shared: loop.shared.buffer, lane: buffer, limits }, clock);
  const from = clock.nowMs;
  const at = (ms: number): void => void (clock.nowMs = from + ms);
  const told: Promise<unknown>[] = [];
  for (const ms of [1, 2, 3, 4, 6]) {
    at(ms);
    told.push(lane.append('s', 'x'));
  }
  loop.flush();
  at(10);
  loop.run(log, { maxRecords: 2, maxBytes: 16 * 1024, lingerMs: 0 }, clock);
  t.equal(loop.shared.stat('batches'), 3);
  at(50);
  await Promise.all(told);
  // Free at 10, and again at once after the first batch was submitted: nothing settles before the second one is. That one has
  // no full window behind it, so both are waited for: durable at 15 and 20. The third is free at 20 and durable at 25.
  const lanes = [9, 8, 7, 6, 14];
  const writes = [5, 5, 10, 10, 5];
  const backs = [35, 35, 30, 30, 25];
  const sum = (all: readonly number[]): number => all.reduce((total, n) => total + n, 0);
  const sums = sumsOf(laneFigures(buffer));
  t.match(sums, { lane: sum(lanes), window: 0, write: sum(writes), back: sum(backs), batchAge: 9 + 7 + 14 });
  t.equal(sums.latency, sum([49, 48, 47, 46, 44]), 'as it is without being split');
  t.match(loop.shared.histograms.batchRecords, { count: 3, sum: 5, max: 2 });
  t.match(loop.shared.histograms.batchBytes, { count: 3, sum: 5 * 24 });
  t.match(loop.shared.histograms.durableWrite, { count: 3, max: 10_000 });
});

function together(stats: LogStats): { readonly parts: number; readonly whole: number } {
  return { parts: stageNames.reduce((sum, name) => sum + stats.stages[name].sumUs, 0), whole: stats.latency.sumUs };
}

t.test(
  'a log as it is used: lanes of two handles, one of them closed; per record the parts are the whole',
  async (t) => {
    const log = await open({ dir: directory(t), window: { maxRecords: 50, maxBytes: '64KiB', lingerMs: 5 } });
    const other = openLane(log.lane());
    await other.appendMany(
      's',
      Array.from({ length: 120 }, () => 'y'),
    );
    await other.close();
    const started = systemClock.monotonicMs();
    await log.append('s', 'one');
    const tookMs = systemClock.monotonicMs() - started;
    await Promise.all(Array.from({ length: 200 }, () => log.append('s', 'x')));
    const stats = log.stats();
    const { parts, whole } = together(stats);
    for (const name of stageNames) t.equal(stats.stages[name].count, 321, name);
    t.equal(stats.latency.count, 321);
    t.ok(Math.abs(parts - whole) <= whole * 1e-9 + 1, `${parts} µs of ${whole} µs`);
    t.ok(stats.stages.window.maxUs >= 4000, `the linger of 5 ms is in the window: ${stats.stages.window.maxUs} µs`);
    t.ok(stats.stages.window.maxUs <= Math.max(tookMs * 1000, stats.latency.maxUs) + 1, 'and it is no longer than all');
    t.equal(stats.batchRecords.count, stats.batches);
    t.equal(stats.batchRecords.sum, stats.records);
    t.equal(stats.batchBytes.sum, stats.recordBytes);
    t.ok(stats.batchRecords.max <= 50);
    t.ok(stats.batchAge.count >= stats.batches, 'a sample per batch and lane');
    t.ok(stats.uptimeMs > 0 && stats.uptimeMs < 60_000, `${stats.uptimeMs} ms since it was opened`);
    t.match(stats.queue, { records: 0, bytes: 0, oldestAgeMs: 0 });
    await log.close();
    t.equal(log.stats().latency.count, 321, 'also once it is closed');
  },
);

t.test('queue and drops: what waits for the linger and for room, and what was refused, by cause', async (t) => {
  const log = await open({
    dir: directory(t),
    laneBytes: '4KiB',
    maxRecordBytes: 1024,
    maxWaitingBytes: 3000,
    window: { maxRecords: 1000, maxBytes: 2048, lingerMs: 20_000 },
  });
  const first = log.append('s', Buffer.alloc(500));
  const { queue } = log.stats();
  t.match(queue, { records: 1 });
  t.ok(queue.bytes >= 520, `${queue.bytes} bytes, with the declaration of the stream`);
  t.ok(queue.oldestAgeMs >= 0 && queue.oldestAgeMs < 20_000);
  await log.flush();
  await first;
  t.strictSame(log.stats().queue, { records: 0, bytes: 0, oldestAgeMs: 0 });

  // In one turn of the event loop, so that nothing is given back meanwhile to this producer's knowledge; what the commit thread
  // takes makes room all the same, so the records are more than lane and batches under way can hold.
  const payload = Buffer.alloc(1000);
  const offered: Promise<unknown>[] = [];
  for (let i = 0; i < 2000; i++)
    offered.push(log.append('s', payload, { overflow: i < 1000 ? 'drop-oldest' : 'block' }));
  for (let i = 0; i < 500; i++) offered.push(log.append('s', payload, { overflow: 'drop-newest' }));
  const { drops } = log.stats();
  const refused = (await Promise.allSettled(offered)).filter((r) => r.status === 'rejected').length;
  const { newest, oldest, backlog, blockedTooLong } = log.stats().drops;
  t.equal(newest + oldest + backlog, refused, JSON.stringify(drops));
  t.equal(blockedTooLong, 0);
  t.ok(oldest > 0 && backlog > 0, 'each cause was met that can be made sure of');
  t.match(log.stats().queue, { records: 0, bytes: 0, oldestAgeMs: 0 });
  await log.close();
});
