// The model of the tuner: small cases counted by hand, properties over random loads, and the same arrivals through the production commit
// loop, lane and log on a simulated clock and disk: every batch the same, closed at the same moment, every latency the same.

import fc from 'fast-check';
import t from 'tap';
import { seededRandom } from '../../src/base/clock.ts';
import type { WindowOptions } from '../../src/base/options.ts';
import { frameBytes } from '../../src/platform/lane-memory.ts';
import { distributionOf, drawn, quantileOf, writeMs, type Costs } from '../../src/window/costs.ts';
import { simulate, together, type Load, type ModelBatch } from '../../src/window/model.ts';
import { directory } from '../support/log-support.ts';
import { CHECKPOINT_WRITE_MS, PAYLOAD_BYTES, playProduction } from '../support/simulated-world.ts';

const SEED = 7;
const always = (ms: number): Float64Array => Float64Array.from([ms]);
/** A disk that takes 2 ms for a block and 4 for sixteen, and nothing else that takes time. */
const costs: Costs = {
  writes: [
    { bytes: 4096, ms: always(2) },
    { bytes: 65_536, ms: always(4) },
  ],
  batchMs: 0,
  encodeMsPerByte: 0,
  checkpointMs: always(CHECKPOINT_WRITE_MS),
  fillMs: always(0),
  wakeMs: always(0),
  timerLateMs: always(0),
  backMs: always(0),
  producer: { sendMs: 0, answerMs: 0, timerMs: 0, lateMs: always(0) },
};

function loadOf(arrivalsMs: readonly number[] | Float64Array, more: Partial<Load> = {}): Load {
  return {
    arrivalsMs: Float64Array.from(arrivalsMs),
    frameBytes: frameBytes(0, PAYLOAD_BYTES),
    tableBytes: 16,
    laneBytes: 4 * 1024 * 1024,
    maxUnderWay: 10_000,
    ...more,
  };
}

interface Seen {
  readonly batches: ModelBatch[];
  readonly latencyMs: { readonly sum: number; readonly max: number };
}

function played(window: WindowOptions, load: Load, with_: Costs = costs): Seen & ReturnType<typeof simulate> {
  const batches: ModelBatch[] = [];
  const forecast = simulate(window, load, with_, SEED, (batch) => batches.push(batch));
  const { sum, max } = forecast.latencyUs;
  return { ...forecast, batches, latencyMs: { sum: sum / 1000, max: max / 1000 } } as never;
}

const wide = { maxRecords: 100, maxBytes: 64 * 1024, lingerMs: 5 };

t.test('by hand: the linger counts from when the first record wakes the loop', async (t) => {
  const { batches, latencyMs } = played(wide, loadOf([10, 12, 30]));
  t.strictSame(batches, [
    { records: 2, reason: 'linger', closedMs: 15 },
    { records: 1, reason: 'linger', closedMs: 35 },
  ]);
  // 15 + 2 − 10, 15 + 2 − 12, 35 + 2 − 30.
  t.equal(latencyMs.sum, 7 + 5 + 7);
  t.equal(latencyMs.max, 7);
});

t.test('by hand: what comes during a write is as old as the write', async (t) => {
  const { batches } = played({ ...wide, lingerMs: 1.5 }, loadOf([10, 12]));
  t.strictSame(batches, [
    { records: 1, reason: 'linger', closedMs: 11.5 },
    // Published at 12, seen at 13.5, when the age from 11.5 on is 2 already.
    { records: 1, reason: 'linger', closedMs: 13.5 },
  ]);
});

t.test('by hand: linger 0 goes as soon as the loop is back; records fill; bytes fill', async (t) => {
  t.strictSame(played({ ...wide, lingerMs: 0 }, loadOf([1, 1.5, 2, 3.5])).batches, [
    { records: 1, reason: 'idle', closedMs: 1 },
    { records: 2, reason: 'idle', closedMs: 3 },
    { records: 1, reason: 'idle', closedMs: 5 },
  ]);
  t.strictSame(played({ ...wide, maxRecords: 2 }, loadOf([1, 2, 3, 9])).batches, [
    { records: 2, reason: 'records', closedMs: 2 },
    // Of age 5 at 7, counted from 2; the last by itself again.
    { records: 1, reason: 'linger', closedMs: 7 },
    { records: 1, reason: 'linger', closedMs: 12 },
  ]);
  t.strictSame(played({ ...wide, maxBytes: 300 }, loadOf([1, 2, 3, 4])).batches, [
    // Three frames of 128 are there: two fit.
    { records: 2, reason: 'bytes', closedMs: 3 },
    { records: 2, reason: 'linger', closedMs: 8 },
  ]);
  t.strictSame(played({ ...wide, maxRecords: 3, maxBytes: 300 }, loadOf([1, 1, 1])).batches, [
    // Three records would be full too, but two are taken.
    { records: 2, reason: 'bytes', closedMs: 1 },
    { records: 1, reason: 'linger', closedMs: 6 },
  ]);
});

t.test('by hand: a batch that is full already is queued behind the write, and the last waits for all', async (t) => {
  const { batches, latencyMs, diskBusy } = played({ ...wide, maxRecords: 1, lingerMs: 0 }, loadOf([1, 1, 1]));
  t.strictSame(
    batches.map((b) => b.closedMs),
    [1, 1, 1],
    'encoded at once',
  );
  t.equal(latencyMs.sum, 18, 'all are told at 7, when the third is durable: 6 ms each');
  t.equal(diskBusy, 6 / 7);
});

t.test('by hand: wake-up, timer, encoding, the way back and the producer take their time', async (t) => {
  const slow: Costs = {
    ...costs,
    batchMs: 0.25,
    wakeMs: always(0.5),
    timerLateMs: always(0.125),
    backMs: always(1),
    producer: { sendMs: 0.25, answerMs: 0.5, timerMs: 0, lateMs: always(0) },
  };
  const { batches, latencyMs, producerBusy } = played(wide, loadOf([10, 10]), slow);
  // Published at 10.25 and 10.5; awake at 10.75; linger to 15.75, late to 15.875; written at 18.125; heard at 19.125.
  t.strictSame(batches, [{ records: 2, reason: 'linger', closedMs: 15.875 }]);
  t.equal(latencyMs.max, 10.125, 'the second answer is given at 20.125');
  t.equal(latencyMs.sum, 9.625 + 10.125);
  t.ok(producerBusy > 0);
});

t.test('by hand: a timer in whole milliseconds sends late, what comes meanwhile too', async (t) => {
  const coarse: Costs = { ...costs, producer: { ...costs.producer, timerMs: 1, lateMs: always(0.25) } };
  const { latencyMs } = played({ ...wide, lingerMs: 0 }, loadOf([0, 0.5, 0.75]), coarse);
  // Sent at 0; the answer at 2 comes behind the timer at 1.25, which sends both; they are seen at 2, durable at 4.
  t.equal(latencyMs.sum, 2 + 3.5 + 3.25);
  // Armed again by the answer at 2: 8 whole ones to 10.25, too early, and one more to 11.5; durable at 13.5.
  const cut = played({ ...wide, lingerMs: 0 }, loadOf([0, 10.6]), coarse);
  t.equal(cut.latencyMs.sum.toFixed(6), (2 + 2.9).toFixed(6));
});

t.test('by hand: at most maxUnderWay are under way; a full lane holds back what is sent', async (t) => {
  const one = played({ ...wide, lingerMs: 0 }, loadOf([0, 0, 0], { maxUnderWay: 1 }));
  t.strictSame(
    one.batches.map((b) => b.closedMs),
    [0, 2, 4],
  );
  const narrow = played({ ...wide, lingerMs: 0, maxBytes: 256 }, loadOf([0, 0, 0, 0, 0], { laneBytes: 512 }));
  t.equal(narrow.laneBytes, 512);
  t.equal(narrow.records, 5);
});

t.test('the durable end is written down a second after the first batch, and that takes time', async (t) => {
  const with_ = played({ ...wide, lingerMs: 0 }, loadOf([0, 1002.5, 1003]));
  t.strictSame(
    with_.batches.map((b) => b.closedMs),
    // Durable at 2, written down from 1002 to 1005: the two records wait for that.
    [0, 1005],
  );
});

t.test('distributions: draws, quantiles, and writes between and beyond the sizes measured', async (t) => {
  const ms = distributionOf([4, 1, 3, 2]);
  t.strictSame(
    [0, 0.25, 0.5, 0.999].map((f) => drawn(ms, f)),
    [1, 2, 3, 4],
  );
  t.strictSame(
    [0.25, 0.5, 0.99, 1].map((q) => quantileOf(ms, q)),
    [1, 2, 4, 4],
  );
  const writes = [
    { bytes: 4096, ms },
    { bytes: 8192, ms: distributionOf([10, 20]) },
  ];
  t.equal(writeMs(writes, 512, 0), 1, 'no write is shorter than the smallest');
  t.equal(writeMs(writes, 8192, 0.99), 20);
  t.equal(writeMs(writes, 6144, 0), 5.5, 'half way between');
  t.equal(writeMs(writes, 16_384, 0), 20, 'twice the largest');
  t.throws(() => distributionOf([]), /needs samples/);
});

/** Bursts and gaps whose times are binary fractions, so that sums are exact on both sides. */
function burstyArrivals(seed: number, count: number, meanMs: number): Float64Array {
  const random = seededRandom(seed);
  const times = [0];
  // A gap first: the lane's declaration of the stream then stands in a batch by itself.
  let atMs = 100;
  while (times.length < count) {
    atMs += Math.round((random() < 0.1 ? 40 : 1) * meanMs * random() * 64) / 64;
    times.push(atMs);
  }
  return Float64Array.from(times);
}

const compared: readonly { window: WindowOptions; meanMs: number; count: number; reaches: string }[] = [
  { window: { maxRecords: 1000, maxBytes: 64 * 1024, lingerMs: 4 }, meanMs: 1, count: 1500, reaches: 'linger' },
  { window: { maxRecords: 1000, maxBytes: 64 * 1024, lingerMs: 0 }, meanMs: 0.5, count: 1500, reaches: 'idle' },
  { window: { maxRecords: 5, maxBytes: 64 * 1024, lingerMs: 10 }, meanMs: 0.5, count: 1500, reaches: 'records' },
  { window: { maxRecords: 1, maxBytes: 1024, lingerMs: 10 }, meanMs: 1, count: 800, reaches: 'records' },
  { window: { maxRecords: 1000, maxBytes: 1100, lingerMs: 2.25 }, meanMs: 0.25, count: 1500, reaches: 'bytes' },
  { window: { maxRecords: 9, maxBytes: 1100, lingerMs: 3 }, meanMs: 0.25, count: 1500, reaches: 'bytes' },
  { window: { maxRecords: 20, maxBytes: 2560, lingerMs: 1 }, meanMs: 0.125, count: 2000, reaches: 'records' },
  { window: { maxRecords: 40, maxBytes: 8192, lingerMs: 6 }, meanMs: 4, count: 600, reaches: 'linger' },
];

for (const [i, { window, meanMs, count, reaches }] of compared.entries()) {
  const name = `${window.lingerMs} ms, ${window.maxRecords} records, ${window.maxBytes} bytes, one per ${meanMs} ms`;
  t.test(`as the production loop, batch for batch: ${name}`, async (t) => {
    const arrivalsMs = burstyArrivals(i + 1, count, meanMs);
    const real = playProduction(directory(t), window, arrivalsMs, (bytes) => writeMs(costs.writes, bytes, 0));
    const model = played(window, loadOf(arrivalsMs));
    t.strictSame(
      model.batches.map(({ records, closedMs }) => ({ records, closedMs })),
      real.batches,
    );
    t.match(model.closeReasons, real.closeReasons);
    t.ok(real.closeReasons[reaches as 'linger'] > 0, `${reaches} was reached`);
    t.strictSame(model.latencyUs.image, real.latencyUs.image, 'every latency');
    t.equal(model.records, count);
    t.ok(real.checkpoints > 0, `${real.checkpoints} times the durable end was written down`);
    if (window.maxRecords <= 5) t.ok(real.submits > 0, `${real.submits} batches were queued behind a write`);
  });
}

const anyWindow = fc.record({
  maxRecords: fc.integer({ min: 1, max: 200 }),
  maxBytes: fc.integer({ min: 1024, max: 65_536 }),
  lingerMs: fc.oneof(fc.constant(0), fc.double({ min: 0.01, max: 20, noNaN: true })),
});
const anyGaps = fc.array(fc.double({ min: 0, max: 30, noNaN: true }), { minLength: 1, maxLength: 300 });
const noisy: Costs = {
  ...costs,
  writes: costs.writes.map(({ bytes }) => ({ bytes, ms: Float64Array.from([0.1, 0.2, 5]) })),
  wakeMs: Float64Array.from([0.01, 0.5]),
  timerLateMs: Float64Array.from([0, 0.3]),
  backMs: Float64Array.from([0.02, 2]),
  producer: { sendMs: 0.01, answerMs: 0.01, timerMs: 1, lateMs: Float64Array.from([0.1, 1]) },
};

t.test(
  'properties: records are conserved, no batch is over the window, latency has a floor, a seed is a seed',
  async () => {
    fc.assert(
      fc.property(anyWindow, anyGaps, fc.integer({ min: 1, max: 50 }), (window, gaps, maxUnderWay) => {
        let atMs = 0;
        const load = loadOf(
          gaps.map((gap) => (atMs += gap)),
          { maxUnderWay, laneBytes: 4096 },
        );
        const batches: ModelBatch[] = [];
        const forecast = simulate(window, load, noisy, SEED, (batch) => batches.push(batch));
        const most = Math.min(window.maxRecords, Math.max(1, Math.floor(window.maxBytes / load.frameBytes)));
        const total = batches.reduce((sum, b) => sum + b.records, 0);
        const again = simulate(window, load, noisy, SEED);
        return (
          total === gaps.length &&
          forecast.records === gaps.length &&
          forecast.latencyUs.count === gaps.length &&
          batches.every((b) => b.records >= 1 && b.records <= most) &&
          // Nothing is told before its write and the way back.
          forecast.latencyUs.quantile(0) >= 100 &&
          JSON.stringify(again.latencyUs.image) === JSON.stringify(forecast.latencyUs.image)
        );
      }),
      { seed: SEED, numRuns: 300 },
    );
  },
);

t.test('properties: singles far apart wait for the linger, whatever it is', async (t) => {
  for (const lingerMs of [1, 3, 17]) {
    const singles = Array.from({ length: 50 }, (_, i) => i * 50);
    const { latencyUs } = simulate({ ...wide, lingerMs }, loadOf(singles), noisy, SEED);
    t.ok(latencyUs.quantile(0) / 1000 >= lingerMs, `linger ${lingerMs} ms`);
  }
});

t.test('other seeds, other draws; several plays together are one larger one', async (t) => {
  const singles = loadOf(Array.from({ length: 200 }, (_, i) => i * 10));
  const [a, b] = [1, 2].map((seed) => simulate(wide, singles, noisy, seed));
  t.not(a.latencyUs.sum, b.latencyUs.sum);
  const sum = a.latencyUs.sum + b.latencyUs.sum;
  const both = together(a, b);
  t.match(both, { records: 400, batches: 400 });
  t.equal(both.latencyUs.sum, sum);
  t.equal(both.closeReasons.linger, 400);
});
