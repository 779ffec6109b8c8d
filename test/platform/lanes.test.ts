// All lanes together: fairness, order, offsets and acknowledgements, and the bounds of one batch.

import t from 'tap';
import * as fc from 'fast-check';
import { ACK_SLOTS, MAX_RANGES, MAX_STREAM_TABLE_BYTES } from '../../src/base/limits.ts';
import type { BatchPlan } from '../../src/base/types.ts';
import { LaneSet, streamRowBytes } from '../../src/platform/lanes.ts';
import { createLaneBuffer } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { planFrames } from '../support/platform-lane.ts';

const LANE_BYTES = 64 * 1024;
const wide = { maxRecords: 1_000_000, maxBytes: 64 * 1024 * 1024, lingerMs: 0 };

class Producers {
  readonly shared = new SharedState();
  readonly set = new LaneSet();
  readonly producers: LaneProducer[] = [];
  readonly buffers: SharedArrayBuffer[] = [];

  constructor(lanes: number, laneBytes = LANE_BYTES) {
    for (let i = 0; i < lanes; i++) this.add(laneBytes);
  }

  add(laneBytes = LANE_BYTES): LaneProducer {
    const buffer = createLaneBuffer(laneBytes);
    const producer = LaneProducer.take(buffer, this.shared)!;
    this.buffers.push(buffer);
    this.producers.push(producer);
    this.set.add(buffer);
    producer.declare(this.producers.length, Buffer.from(`s${this.producers.length}`));
    producer.publish();
    return producer;
  }

  /** Puts records `from` … `to` − 1 of a lane: the payload begins with lane and number. */
  put(lane: number, from: number, to: number, payloadBytes = 16): void {
    for (let i = from; i < to; i++) {
      if (!this.producers[lane].put(lane + 1, 0, 1, null, text(lane, i, payloadBytes)))
        throw new Error(`lane ${lane} is full at ${i}`);
    }
    this.producers[lane].publish();
  }
}

function filled(length: number, value: number): number[] {
  return Array.from({ length }, () => value);
}

function text(lane: number, i: number, bytes: number): Buffer {
  return Buffer.from(`${lane}:${i} `.padEnd(bytes, '.'));
}

/** Records per lane of a plan, in lane order. */
function shares(plan: BatchPlan, lanes: number): number[] {
  const counts = filled(lanes, 0);
  for (const frame of planFrames(plan)) counts[frame.source]++;
  return counts;
}

function allAcks(producer: LaneProducer): number[] {
  const run = { firstOffset: 0, records: 0 };
  const offsets: number[] = [];
  while (producer.nextAck(run)) for (let i = 0; i < run.records; i++) offsets.push(run.firstOffset + i);
  return offsets;
}

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

// ---------------------------------------------------------------------------------------------------------------- model

type Step =
  | { do: 'put'; lane: number; records: number; bytes: number }
  | { do: 'drain'; maxRecords: number; maxBytes: number }
  | { do: 'durable'; batches: number }
  | { do: 'readAcks'; lane: number };

function fail(what: string): never {
  throw new Error(what);
}

t.test('order, offsets and acknowledgements of interleaved lanes are the model’s', async (t) => {
  const LANES = 3;
  let drained = 0;
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('put' as const),
        lane: fc.nat(LANES - 1),
        records: fc.integer({ min: 1, max: 12 }),
        bytes: fc.nat(200),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('drain' as const),
        maxRecords: fc.constantFrom(1, 2, 5, 20, 1000),
        maxBytes: fc.constantFrom(24, 100, 700, 100_000),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('durable' as const), batches: fc.integer({ min: 1, max: 3 }) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('readAcks' as const), lane: fc.nat(LANES - 1) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 120, size: 'max' }), (steps) => {
      const p = new Producers(LANES, 4096);
      const waiting: string[][] = [[], [], []];
      /** Offsets that each lane's records got, and how many of them it has been told. */
      const offsets: number[][] = [[], [], []];
      const told = [0, 0, 0];
      const numbers = [0, 0, 0];
      const batchEnds: number[] = [];
      let appended = 0;
      let durable = 0;
      const readAcks = (lane: number): void => {
        const due = offsets[lane].filter((offset) => offset < durable);
        const got = allAcks(p.producers[lane]);
        const wanted = due.slice(told[lane]);
        if (got.join() !== wanted.join()) fail(`lane ${lane}: acknowledged ${got}, wanted ${wanted}`);
        told[lane] = due.length;
      };
      const drain = (maxRecords: number, maxBytes: number): number => {
        const there = waiting.flat().length;
        const { plan, full } = p.set.drain({ maxRecords, maxBytes, lingerMs: 0 });
        const frames = planFrames(plan);
        if (frames.length !== plan.records) fail(`${frames.length} frames, ${plan.records} records`);
        if (plan.records > maxRecords) fail(`${plan.records} records, at most ${maxRecords}`);
        if (plan.recordBytes > maxBytes && plan.records > 1) fail(`${plan.recordBytes} bytes, at most ${maxBytes}`);
        if (there > 0 && plan.records === 0) fail('records waited, none was taken');
        if (full === undefined && plan.records < there) fail('records were left although no bound was reached');
        for (const frame of frames) {
          const name = waiting[frame.source].shift();
          if (frame.payload.toString() !== name) fail(`found ${frame.payload}, wanted ${name}`);
          offsets[frame.source].push(appended++);
        }
        const perStream = new Map<number, number>();
        for (const { stream } of frames) perStream.set(stream, (perStream.get(stream) ?? 0) + 1);
        if ([...perStream.keys()].join() !== plan.streamIds.join()) fail(`streams ${plan.streamIds}`);
        if ([...perStream.values()].join() !== plan.streamRecords.join()) fail(`per stream ${plan.streamRecords}`);
        for (const id of plan.streamIds)
          if (plan.streamNames[id] !== `s${id}`) fail(`stream ${id} is ${plan.streamNames[id]}`);
        p.set.assign(appended - plan.records);
        p.set.release();
        batchEnds.push(appended);
        drained += plan.records;
        return plan.records;
      };
      for (const s of steps) {
        if (s.do === 'put') {
          const producer = p.producers[s.lane];
          for (let i = 0; i < s.records; i++) {
            const payload = text(s.lane, numbers[s.lane], s.bytes);
            if (!producer.put(s.lane + 1, 0, 1, null, payload)) break;
            numbers[s.lane]++;
            waiting[s.lane].push(payload.toString());
          }
          producer.publish();
        } else if (s.do === 'drain') {
          drain(s.maxRecords, s.maxBytes);
        } else if (s.do === 'durable') {
          for (let i = 0; i < s.batches && batchEnds.length > 0; i++) durable = batchEnds.shift()!;
          p.set.acknowledge(durable);
        } else {
          readAcks(s.lane);
        }
        if (p.set.availableRecords() !== waiting.flat().length)
          fail(`${p.set.availableRecords()} available, ${waiting.flat().length} wait`);
      }
      while (drain(1000, 100_000) > 0);
      durable = appended;
      p.set.acknowledge(durable);
      for (let lane = 0; lane < LANES; lane++) readAcks(lane);
      if (told.join() !== numbers.join()) fail(`acknowledged ${told}, put ${numbers}`);
    }),
    { seed: 20_262, numRuns: 300 },
  );
  t.ok(drained > 5000, `${drained} records were drained`);
});

t.test('acknowledgements wait for the durable offset, batch by batch', async (t) => {
  const p = new Producers(2);
  p.put(0, 0, 2);
  p.put(1, 0, 1);
  const drainAt = (offset: number): void => {
    p.set.drain(wide);
    p.set.assign(offset);
    p.set.release();
  };
  drainAt(1000);
  p.put(1, 1, 2);
  drainAt(1003);
  p.set.acknowledge(1000);
  t.strictSame(p.producers.map(allAcks), [[], []], 'none is durable');
  p.set.acknowledge(1003);
  t.strictSame(p.producers.map(allAcks), [[1000, 1001], [1002]], 'the first batch');
  p.set.acknowledge(1003);
  t.strictSame(p.producers.map(allAcks), [[], []], 'once only');
  p.set.acknowledge(1004);
  t.strictSame(p.producers.map(allAcks), [[], [1003]], 'the second');
});

t.test('every acknowledgement wakes its producer', async (t) => {
  const p = new Producers(2);
  const signals = (): number[] => p.producers.map((x) => x.signalWords[x.signalIndex]);
  const before = signals();
  p.put(0, 0, 1);
  p.set.drain(wide);
  p.set.assign(0);
  p.set.release();
  p.set.acknowledge(1);
  t.ok(signals()[0] > before[0]);
  p.set.notifyAll();
  t.ok(signals()[1] > before[1], 'and notifyAll wakes all');
});

t.test('mark: true once all that was published then has been drained', async (t) => {
  const p = new Producers(3);
  t.ok(p.set.mark()(), 'nothing was published');
  p.put(0, 0, 3);
  p.put(1, 0, 1);
  const drained = p.set.mark();
  p.put(2, 0, 5);
  p.put(0, 3, 9);
  t.notOk(drained());
  const one = { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 };
  const left = [3, 1];
  for (let i = 0; i < 40 && !drained(); i++) {
    const { plan } = p.set.drain(one);
    for (const { source } of planFrames(plan)) if (source < 2) left[source]--;
    p.set.release();
    t.equal(drained(), left[0] <= 0 && left[1] <= 0, `left of the marked: ${left}`);
  }
  t.ok(drained());
  t.ok(p.set.availableRecords() > 0, 'without waiting for what came after');
});

t.test('retire: only lanes that are closed, empty and whose acknowledgements were read', async (t) => {
  const p = new Producers(3);
  const rest = (): number => p.set.retire();
  p.put(1, 0, 1);
  t.equal(rest(), 0, 'open');
  p.producers[1].close();
  t.equal(rest(), 0, 'closed, not drained');
  p.set.drain(wide);
  p.set.assign(7);
  p.set.release();
  t.equal(rest(), 0, 'drained, not acknowledged');
  p.set.acknowledge(8);
  t.equal(rest(), 0, 'acknowledged, not read');
  t.strictSame(allAcks(p.producers[1]), [7]);
  t.equal(rest(), 1);
  t.equal(p.set.size, 2);
  t.equal(rest(), 0, 'once');

  p.put(2, 0, 2);
  p.put(0, 0, 1);
  const { plan } = p.set.drain(wide);
  t.strictSame(
    planFrames(plan)
      .map((f) => f.payload.toString().trim().split(' ')[0])
      .sort(),
    ['0:0', '2:0', '2:1'],
    'the rest goes on',
  );
  p.set.assign(8);
  p.set.release();
  p.set.acknowledge(11);
  t.equal(allAcks(p.producers[0]).length, 1);
  t.equal(allAcks(p.producers[2]).length, 2);
  p.producers[0].close();
  p.producers[2].close();
  t.equal(rest(), 2);
  t.match(p.set.drain(wide), { plan: { records: 0 }, full: undefined });
  p.add();
  p.put(3, 0, 1);
  t.equal(shares(p.set.drain(wide).plan, 1)[0], 1, 'a new lane takes the place');
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

t.test('a lane without room for acknowledgements is not drained, and goes on once they are read', async (t) => {
  const p = new Producers(2);
  const one = { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 };
  let offset = 0;
  const commit = (): number => {
    const { plan } = p.set.drain(one);
    p.set.assign(offset);
    offset += plan.records;
    p.set.release();
    p.set.acknowledge(offset);
    return plan.records;
  };
  const records = ACK_SLOTS + 100;
  p.put(0, 0, records, 8);
  let batches = 0;
  while (commit() > 0) batches++;
  t.equal(batches, ACK_SLOTS, 'as many runs as there are slots');
  t.equal(p.set.availableRecords(), 100, 'the rest waits');
  p.put(1, 0, 3);
  for (let i = 0; i < 3; i++) t.equal(commit(), 1, 'the other lane goes on');
  t.equal(commit(), 0);
  const first = allAcks(p.producers[0]);
  while (commit() > 0);
  const offsets = [...first, ...allAcks(p.producers[0])];
  t.equal(offsets.length, records, 'all were acknowledged');
  t.equal(first.at(-1), ACK_SLOTS - 1);
  t.equal(offsets[ACK_SLOTS], ACK_SLOTS + 3, 'behind the other lane’s three');
  t.strictSame(allAcks(p.producers[1]), [ACK_SLOTS, ACK_SLOTS + 1, ACK_SLOTS + 2]);
});

t.test('runs that are not acknowledged yet count as taken slots', async (t) => {
  const p = new Producers(1);
  p.put(0, 0, ACK_SLOTS + 10, 8);
  const one = { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 };
  let offset = 0;
  for (let i = 0; i < ACK_SLOTS + 10; i++) {
    const { plan } = p.set.drain(one);
    p.set.assign(offset);
    offset += plan.records;
    p.set.release();
  }
  t.equal(offset, ACK_SLOTS, 'drained no more than can be acknowledged');
  p.set.acknowledge(offset);
  t.strictSame(
    allAcks(p.producers[0]),
    Array.from({ length: ACK_SLOTS }, (_, i) => i),
  );
});
