// All lanes together: what a batch takes of each, how fairly, and within which bounds. What becomes of it: lanes-acks.test.ts.

import t from 'tap';
import { MAX_RANGES, MAX_STREAM_TABLE_BYTES } from '../../src/base/limits.ts';
import { LaneSet, streamRowBytes } from '../../src/platform/lanes.ts';
import { planFrames } from '../support/platform-lane.ts';
import { filled, Producers, shares, text, wide } from '../support/platform-lane-set.ts';

t.test('a slow lane is in the very next batch, however busy the others are', async (t) => {
  for (const busy of [1, 3]) {
    const p = new Producers(busy + 1);
    const window = { maxRecords: 50, maxBytes: 1_000_000, lingerMs: 0 };
    const next = filled(busy, 0);
    for (let batch = 0; batch < 40; batch++) {
      for (let lane = 0; lane < busy; lane++) {
        p.put(lane, next[lane], next[lane] + 100);
        next[lane] += 100;
      }
      p.put(busy, batch, batch + 1);
      const { plan, full } = p.set.drain(window);
      t.equal(full, 'records');
      t.equal(plan.records, 50);
      t.equal(shares(plan, busy + 1)[busy], 1, `${busy} busy, batch ${batch}: the slow lane's record`);
      p.set.release();
      while (p.set.availableRecords() > 100 * busy) {
        p.set.drain(wide);
        p.set.release();
      }
    }
  }
});

t.test('saturated lanes share a batch by records, to within one', async (t) => {
  for (const lanes of [1, 2, 3, 5, 7, 16]) {
    for (const maxRecords of [1, 10, 48, 100]) {
      const p = new Producers(lanes);
      for (let lane = 0; lane < lanes; lane++) p.put(lane, 0, 200);
      const sums = filled(lanes, 0);
      const batches = lanes * 3;
      for (let batch = 0; batch < batches && batch * maxRecords < 100 * lanes; batch++) {
        const { plan, full } = p.set.drain({ maxRecords, maxBytes: 10_000_000, lingerMs: 0 });
        const got = shares(plan, lanes);
        t.equal(full, 'records');
        t.equal(plan.records, maxRecords);
        t.ok(Math.max(...got) - Math.min(...got) <= 1, `${lanes} lanes, ${maxRecords} records: ${got}`);
        got.forEach((n, lane) => (sums[lane] += n));
        p.set.release();
      }
      const spread = Math.max(...sums) - Math.min(...sums);
      t.ok(spread <= Math.max(1, lanes - 1), `${lanes} lanes, ${maxRecords} records: ${sums} over all batches`);
    }
  }
});

t.test('saturated lanes share a batch by bytes, to within one', async (t) => {
  for (const lanes of [1, 2, 3, 5, 16]) {
    const p = new Producers(lanes);
    for (let lane = 0; lane < lanes; lane++) p.put(lane, 0, 150, 84); // frames of 104 bytes
    for (let batch = 0; batch < 4; batch++) {
      const { plan, full } = p.set.drain({ maxRecords: 10_000, maxBytes: lanes * 1000, lingerMs: 0 });
      const got = shares(plan, lanes);
      t.equal(full, 'bytes');
      t.ok(plan.recordBytes <= lanes * 1000, `${plan.recordBytes} bytes`);
      t.equal(plan.recordBytes, plan.records * 104);
      t.ok(Math.max(...got) - Math.min(...got) <= 1, `${lanes} lanes: ${got}`);
      p.set.release();
    }
  }
});

t.test('what others leave over, a busy lane fills', async (t) => {
  const p = new Producers(4);
  p.put(0, 0, 500);
  p.put(1, 0, 3);
  const { plan, full } = p.set.drain({ maxRecords: 100, maxBytes: 1_000_000, lingerMs: 0 });
  t.equal(full, 'records');
  t.strictSame(shares(plan, 4), [97, 3, 0, 0]);
});

t.test('records larger than a share still fill the window', async (t) => {
  // 16 lanes and a window of 16 KiB: a share is 1 KiB, a frame 2 KiB. Seven of them fit.
  const p = new Producers(16);
  for (let lane = 0; lane < 16; lane++) p.put(lane, 0, 10, 2040);
  const { plan } = p.set.drain({ maxRecords: 1000, maxBytes: 16 * 1024, lingerMs: 0 });
  t.ok(plan.records >= 7, `${plan.records} records of 2,056 bytes in a window of 16,384`);
});

t.test('a record larger than the window is a batch of its own', async (t) => {
  const p = new Producers(2);
  p.put(0, 0, 2, 5000);
  const window = { maxRecords: 100, maxBytes: 2000, lingerMs: 0 };
  for (let i = 0; i < 2; i++) {
    const { plan, full } = p.set.drain(window);
    t.equal(plan.records, 1);
    t.equal(full, 'bytes');
    p.set.release();
  }
  t.equal(p.set.drain(window).plan.records, 0);
});

t.test('nothing to drain: an empty plan, and no bound reached', async (t) => {
  t.match(new LaneSet().drain(wide), { plan: { records: 0, rangeCount: 0 }, full: undefined });
  const p = new Producers(2);
  for (let i = 0; i < 2; i++)
    t.match(p.set.drain(wide), { plan: { records: 0, rangeCount: 0 }, full: undefined }, 'declarations alone');
  t.equal(p.set.availableBytes(), 0);
  p.put(1, 0, 1);
  t.equal(p.set.drain(wide).plan.records, 1);
});

t.test('wakeAt: a sleeping consumer is woken once its lanes hold their parts', async (t) => {
  const p = new Producers(2);
  p.set.drain(wide);
  p.set.release();
  const rings = (): number => p.shared.words[p.shared.doorbell];
  p.set.wakeAt(10, 1_000_000);
  Atomics.store(p.shared.words, p.shared.sleeping, 1);
  const before = rings();
  p.put(0, 0, 4);
  t.equal(rings(), before, 'four of five');
  p.put(0, 4, 5);
  t.equal(rings(), before + 1, 'five of ten, from one of two lanes');
  p.put(0, 5, 6);
  t.equal(rings(), before + 1, 'once for each sleep');
  p.set.wakeAt(1, 1);
  Atomics.store(p.shared.words, p.shared.sleeping, 2);
  p.put(1, 0, 1);
  t.equal(rings(), before + 2, 'one is enough when one lacks');
});

const name = (i: number): string => `stream-${i}`;

t.test('a full stream table closes the batch for bytes, and loses nothing', async (t) => {
  const p = new Producers(1, 1024 * 1024);
  const streams = 3000;
  const producer = p.producers[0];
  for (let i = 0; i < streams; i++) {
    producer.declare(100 + i, Buffer.from(name(i)));
    producer.put(100 + i, 0, 1, null, Buffer.from(String(i)));
  }
  producer.publish();
  const found: string[] = [];
  let batches = 0;
  while (p.set.availableRecords() > 0) {
    const { plan, full } = p.set.drain(wide);
    batches++;
    const frames = planFrames(plan);
    t.equal(frames.length, plan.records);
    for (const frame of frames) {
      t.equal(plan.streamNames[frame.stream], name(found.length));
      found.push(frame.payload.toString());
    }
    const table = plan.streamIds.reduce((sum, id) => sum + streamRowBytes(plan.streamNames[id]), 0);
    t.ok(table <= MAX_STREAM_TABLE_BYTES, `${table} bytes of stream table`);
    t.ok(plan.rangeCount <= MAX_RANGES, `${plan.rangeCount} ranges`);
    t.equal(
      plan.streamRecords.reduce((a, b) => a + b, 0),
      plan.records,
    );
    t.equal(full, p.set.availableRecords() > 0 ? 'bytes' : undefined, `batch ${batches}`);
    p.set.release();
    if (plan.records === 0) break;
  }
  t.strictSame(
    found,
    Array.from({ length: streams }, (_, i) => String(i)),
  );
  t.ok(batches >= 4, `${batches} batches`);
});

t.test('ranges never run over, however many declarations lie between the records of however many lanes', async (t) => {
  for (const lanes of [1, 2, 8]) {
    const p = new Producers(lanes, 512 * 1024);
    const each = 2000;
    // Names of one character, so that as many as possible fit the table of one batch: each ends a range.
    for (let lane = 0; lane < lanes; lane++) {
      for (let i = 0; i < each; i++) {
        const id = 1000 + lane * each + i;
        p.producers[lane].declare(id, Buffer.from(String.fromCharCode(97 + (i % 26))));
        p.producers[lane].put(id, 0, 1, null, text(lane, i, 8));
      }
      p.producers[lane].publish();
    }
    const next = filled(lanes, 0);
    let most = 0;
    for (let batch = 0; batch < 200 && p.set.availableRecords() > 0; batch++) {
      const { plan } = p.set.drain({ maxRecords: 5000, maxBytes: 10_000_000, lingerMs: 0 });
      most = Math.max(most, plan.rangeCount);
      const frames = planFrames(plan);
      t.equal(
        frames.length,
        plan.records,
        `${lanes} lanes, batch ${batch}: ${plan.rangeCount} ranges hold all records`,
      );
      for (const frame of frames) {
        const wanted = `${frame.source}:${next[frame.source]++}`;
        if (!frame.payload.toString().startsWith(wanted)) t.fail(`found ${frame.payload}, wanted ${wanted}`);
      }
      p.set.release();
    }
    t.ok(most > 1500 && most <= MAX_RANGES, `at most ${most} ranges`);
    t.strictSame(next, filled(lanes, each), 'nothing was lost');
  }
});

// Not reachable by append: a lane declares an id once, and its first record follows.
t.test('declarations without records do not use the ranges up', async (t) => {
  // A producer whose records were refused after their streams were declared; and one stream declared again and again.
  const p = new Producers(1, 1024 * 1024);
  let put = 0;
  for (let i = 0; i < 3 * MAX_RANGES; i++) {
    p.producers[0].declare(1, Buffer.from('s1'));
    if (p.producers[0].put(1, 0, 1, null, text(0, i, 8))) put++;
  }
  p.producers[0].publish();
  let found = 0;
  for (let batch = 0; batch < 20 && found < put; batch++) {
    const { plan } = p.set.drain(wide);
    t.ok(plan.rangeCount <= MAX_RANGES, `${plan.rangeCount} ranges`);
    found += planFrames({ ...plan, rangeCount: Math.min(plan.rangeCount, MAX_RANGES) }).length;
    p.set.release();
  }
  t.equal(found, put, 'nothing was lost');
});
