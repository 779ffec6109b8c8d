// All lanes together: order, offsets and acknowledgements of what was drained, against a model too; the bound of what is not
// acknowledged yet; and the end of a lane.

import t from 'tap';
import * as fc from 'fast-check';
import { ACK_SLOTS } from '../../src/base/limits.ts';
import { planFrames } from '../support/platform-lane.ts';
import { allAcks, Producers, shares, text, wide } from '../support/platform-lane-set.ts';

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
        p.set.assign(appended - plan.records, 0, 0);
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
    p.set.assign(offset, 0, 0);
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
  p.set.assign(0, 0, 0);
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
  p.set.assign(7, 0, 0);
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
  p.set.assign(8, 0, 0);
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

t.test('a lane without room for acknowledgements is not drained, and goes on once they are read', async (t) => {
  const p = new Producers(2);
  const one = { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 };
  let offset = 0;
  const commit = (): number => {
    const { plan } = p.set.drain(one);
    p.set.assign(offset, 0, 0);
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
    p.set.assign(offset, 0, 0);
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
