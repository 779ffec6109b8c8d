// One lane, both ends on one thread: random interleavings against a model, and wrap at every alignment.

import { seededRandom } from '../../src/base/clock.ts';
import t from 'tap';
import { encodeFramesJs, framesBytes } from '../../src/platform/frames.ts';
import * as fc from 'fast-check';
import { ACK_SLOTS } from '../../src/base/limits.ts';
import { LaneConsumer } from '../../src/platform/lane-consumer.ts';
import {
  createLaneBuffer,
  FLAG_UNTERMINATED,
  frameBytes,
  laneIsClosed,
  laneLatency,
  notifyLane,
} from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { laneWords, presetCursor, TestSink, word, type Frame } from '../support/platform-lane.ts';

const LANE_BYTES = 4096;
/** Key and payload together: the most that options allow for a lane of this size. */
const MAX_RECORD_BYTES = LANE_BYTES / 4;
const SIGN_CURSOR = 2 ** 31;
const WRAP_CURSOR = 2 ** 32;

interface Ends {
  buffer: SharedArrayBuffer;
  words: Int32Array;
  shared: SharedState;
  producer: LaneProducer;
  consumer: LaneConsumer;
}

/** A lane whose cursors stand at `cursor` and whose data is full of old bytes. */
function lane(cursor = 0, ackCursor = 0): Ends {
  const buffer = createLaneBuffer(LANE_BYTES);
  const words = laneWords(buffer);
  presetCursor(buffer, cursor);
  words[word.ackTail] = ackCursor | 0;
  words[word.ackHead] = ackCursor | 0;
  const shared = new SharedState();
  const producer = LaneProducer.take(buffer, shared)!;
  const consumer = new LaneConsumer(buffer);
  consumer.data.fill(0xee);
  return { buffer, words, shared, producer, consumer };
}

/** Bytes that tell where they belong: no two frames of a run hold the same. */
function pattern(bytes: number, seed: number): Buffer {
  const out = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) out[i] = (seed * 31 + i * 7 + 1) & 0xff;
  return out;
}

function walkAll(sink: TestSink, consumer: LaneConsumer): Frame[] {
  sink.begin();
  consumer.walk(sink, Infinity, Infinity, true);
  return sink.frames(consumer);
}

// ---------------------------------------------------------------------------------------------------------------- model

type Step =
  | { do: 'put'; stream: number; flags: number; timestampMs: number; key: number | null; payload: number }
  | { do: 'declare'; stream: number; name: string }
  | { do: 'publish' | 'release' | 'readAcks' }
  | { do: 'walk'; maxRecords: number; maxBytes: number; takeFirst: boolean; maxStreams: number }
  | { do: 'acknowledge'; records: number };

type Item = { size: number; frame?: Frame; declares?: [number, string] };

/** What a lane is: a list of items at byte positions, in plain arithmetic that never wraps. */
class Model {
  items: Item[] = [];
  tail: number;
  head: number;
  /** Items visible / walked over, and the byte position of the walk. */
  published = 0;
  walked = 0;
  at: number;
  publishedTail: number;
  putRecords = 0;
  publishedRecords = 0;
  walkedRecords = 0;
  acks: [number, number][] = [];
  nextOffset = 100;

  constructor(cursor: number) {
    this.tail = this.head = this.at = this.publishedTail = cursor;
  }

  /** Room for an item, padding before it counted; adds it where there is. */
  add(item: Item): boolean {
    const toEnd = LANE_BYTES - (this.tail % LANE_BYTES);
    const pad = item.size > toEnd ? toEnd : 0;
    if (this.tail + pad + item.size - this.head > LANE_BYTES) return false;
    if (pad > 0) this.items.push({ size: pad });
    this.items.push(item);
    this.tail += pad + item.size;
    return true;
  }

  walk(step: Step & { do: 'walk' }): {
    end: string;
    frames: Frame[];
    declared: [number, string][];
    streams: number[];
    bytes: number;
  } {
    const frames: Frame[] = [];
    const declared: [number, string][] = [];
    const streams: number[] = [];
    let bytes = 0;
    let end = 'empty';
    for (; this.walked < this.published; this.walked++) {
      const { size, frame, declares } = this.items[this.walked];
      if (frame !== undefined) {
        if (frames.length === step.maxRecords) end = 'records';
        else if (bytes + size > step.maxBytes && !(step.takeFirst && frames.length === 0)) end = 'bytes';
        else if (!streams.includes(frame.stream) && streams.length >= step.maxStreams) end = 'bytes';
        if (end !== 'empty') break;
        if (!streams.includes(frame.stream)) streams.push(frame.stream);
        frames.push(frame);
        bytes += size;
      } else if (declares !== undefined) {
        declared.push(declares);
      }
      this.at += size;
    }
    this.walkedRecords += frames.length;
    return { end, frames, declared, streams, bytes };
  }
}

const timestamp = fc.oneof(
  fc.nat(2 ** 31 - 1),
  fc.constantFrom(0, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 48 - 1, 1_780_000_000_000),
  fc.maxSafeNat().map((n) => n % 2 ** 48),
);
const length = fc.oneof({ weight: 4, arbitrary: fc.nat(40) }, { weight: 1, arbitrary: fc.nat(MAX_RECORD_BYTES) });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .record({
        stream: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.constantFrom(255, 256, 32_768, 65_535)),
        flags: fc.constantFrom(0, FLAG_UNTERMINATED, 0xff),
        timestampMs: timestamp,
        key: fc.option(length),
        payload: length,
      })
      .filter((r) => (r.key ?? 0) + r.payload <= MAX_RECORD_BYTES)
      .map((r) => ({ do: 'put' as const, ...r })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('declare' as const),
      stream: fc.integer({ min: 1, max: 65_535 }),
      name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/),
    }),
  },
  { weight: 4, arbitrary: fc.constantFrom<Step>({ do: 'publish' }, { do: 'release' }, { do: 'readAcks' }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('walk' as const),
      maxRecords: fc.constantFrom(0, 1, 2, 5, 1000),
      maxBytes: fc.constantFrom(0, 16, 24, 100, 500, 10_000),
      takeFirst: fc.boolean(),
      maxStreams: fc.constantFrom(0, 1, 2, 1000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('acknowledge' as const), records: fc.integer({ min: 1, max: 9 }) }),
  },
);

function must(holds: boolean, what: () => string): void {
  if (!holds) throw new Error(what());
}

/** As JSON, to be compared and shown. */
function text(v: unknown): string {
  return JSON.stringify(v, (_k, x: unknown) => (x instanceof Uint8Array ? Buffer.from(x).toString('hex') : x));
}

function same(found: unknown, wanted: unknown, what: string): void {
  must(text(found) === text(wanted), () => `${what}: found ${text(found)}, wanted ${text(wanted)}`);
}

/** Plays the steps on a lane and on the model; throws at the first difference. Returns what happened, to be counted. */
function play(
  cursor: number,
  ackCursor: number,
  steps: readonly Step[],
): { wraps: number; refusals: number; records: number } {
  const { words, producer, consumer } = lane(cursor, ackCursor);
  const model = new Model(cursor);
  const sink = new TestSink();
  let serial = 0;
  let refusals = 0;
  for (const s of steps) {
    if (s.do === 'put') {
      const key = s.key === null ? null : pattern(s.key, ++serial);
      const payload = pattern(s.payload, ++serial);
      const { stream, flags, timestampMs } = s;
      const size = Math.ceil((16 + (key?.length ?? 0) + payload.length) / 8) * 8;
      const wanted = model.add({ size, frame: { stream, flags, timestampMs, key: key ?? Buffer.alloc(0), payload } });
      same(producer.put(stream, flags, timestampMs, key, payload), wanted, 'put');
      if (wanted) model.putRecords++;
      else refusals++;
    } else if (s.do === 'declare') {
      const size = Math.ceil((16 + s.name.length) / 8) * 8;
      const wanted = model.add({ size, declares: [s.stream, s.name] });
      same(producer.declare(s.stream, Buffer.from(s.name)), wanted, 'declare');
    } else if (s.do === 'publish') {
      producer.publish();
      model.published = model.items.length;
      model.publishedTail = model.tail;
      model.publishedRecords = model.putRecords;
    } else if (s.do === 'release') {
      consumer.release();
      model.head = model.at;
    } else if (s.do === 'walk') {
      sink.begin();
      sink.maxStreams = s.maxStreams;
      const end = consumer.walk(sink, s.maxRecords, s.maxBytes, s.takeFirst);
      const wanted = model.walk(s);
      same(end, wanted.end, 'how the walk ended');
      same(sink.frames(consumer), wanted.frames, 'records');
      same(sink.declared, wanted.declared, 'declared');
      same(sink.streams, wanted.streams, 'streams');
      same(
        wanted.streams.map((id) => sink.counts[id]),
        wanted.streams.map((id) => wanted.frames.filter((f) => f.stream === id).length),
        'counts',
      );
      same([consumer.walkedRecords, consumer.walkedBytes], [wanted.frames.length, wanted.bytes], 'walked');
    } else if (s.do === 'acknowledge') {
      if (consumer.ackRoom() === 0) continue;
      consumer.acknowledge(model.nextOffset, s.records);
      model.acks.push([model.nextOffset, s.records]);
      model.nextOffset += s.records;
    } else {
      const run = { firstOffset: -1, records: -1 };
      while (producer.nextAck(run)) same([run.firstOffset, run.records], model.acks.shift(), 'acknowledgement');
      same(model.acks, [], 'acknowledgements read');
    }
    same(consumer.availableBytes(), model.publishedTail - model.at, 'bytes to be walked');
    same(consumer.availableRecords(), model.publishedRecords - model.walkedRecords, 'records to be walked');
    same(producer.freeBytes, LANE_BYTES - (model.tail - model.head), 'free bytes');
    same(consumer.ackRoom(), ACK_SLOTS - model.acks.length, 'room for acknowledgements');
    same(consumer.acksRead, model.acks.length === 0, 'acks read');
    same(consumer.hasWalked(model.publishedRecords), model.walkedRecords >= model.publishedRecords, 'hasWalked');
    same(consumer.publishedSeq, model.publishedRecords, 'published');
    same(words[word.tail], model.publishedTail | 0, 'TAIL');
    same(words[word.head], model.head | 0, 'HEAD');
  }
  const wraps = Math.floor(model.tail / LANE_BYTES) - Math.floor(cursor / LANE_BYTES);
  return { wraps, refusals, records: model.walkedRecords };
}

t.test('random interleavings do what the model does, from any cursor', async (t) => {
  const seen = { wraps: 0, refusals: 0, records: 0 };
  const cursor = fc
    .tuple(fc.constantFrom(0, SIGN_CURSOR - LANE_BYTES, WRAP_CURSOR - LANE_BYTES), fc.nat(LANE_BYTES / 8 - 1))
    .map(([base, eighths]) => base + eighths * 8);
  const acks = fc.constantFrom(0, 2 ** 31 - 3, 2 ** 32 - 3);
  fc.assert(
    fc.property(cursor, acks, fc.array(step, { minLength: 20, maxLength: 150, size: 'max' }), (at, ackAt, steps) => {
      const what = play(at, ackAt, steps);
      seen.wraps += what.wraps;
      seen.refusals += what.refusals;
      seen.records += what.records;
    }),
    { seed: 20_261, numRuns: 400 },
  );
  t.ok(seen.wraps > 100 && seen.refusals > 100 && seen.records > 2000, `reached: ${JSON.stringify(seen)}`);
});

t.test('wrap at every alignment, with cursors below, across and beyond 2^31 and 2^32', async (t) => {
  for (const base of [
    0,
    SIGN_CURSOR - 2 * LANE_BYTES,
    SIGN_CURSOR - LANE_BYTES,
    WRAP_CURSOR - 2 * LANE_BYTES,
    WRAP_CURSOR - LANE_BYTES,
  ]) {
    const random = seededRandom(base);
    let wraps = 0;
    for (let start = 0; start < LANE_BYTES; start += 8) {
      const steps: Step[] = [];
      // Enough for two laps: some small, some as large as the lane allows, keys of every remainder.
      for (let i = 0; i < 24; i++) {
        const payload = i % 5 === 0 ? MAX_RECORD_BYTES - 9 : Math.floor(random() * 300);
        steps.push({
          do: 'put',
          stream: 1 + (i % 3),
          flags: i & 1,
          timestampMs: 1.7e12 + i,
          key: i % 2 === 0 ? i % 10 : null,
          payload,
        });
        if (i % 7 === 3) steps.push({ do: 'declare', stream: 9, name: 'a-name.of_9'.slice(0, 1 + (i % 11)) });
        steps.push({ do: 'publish' });
        if (i % 2 === 1) {
          steps.push(
            { do: 'walk', maxRecords: 1000, maxBytes: 1e6, takeFirst: true, maxStreams: 9 },
            { do: 'release' },
          );
        }
      }
      try {
        wraps += play(base + start, 0, steps).wraps;
      } catch (error) {
        t.fail(`cursor ${base} + ${start}: ${(error as Error).message}`);
        return;
      }
    }
    t.ok(wraps >= 512, `from ${base}: every one of 512 alignments, ${wraps} wraps`);
  }
});

t.test('a frame that ends exactly at the end of the lane needs no padding, one of 8 bytes more does', async (t) => {
  for (const [start, payload, tail] of [
    [LANE_BYTES - 40, 24, LANE_BYTES],
    [LANE_BYTES - 40, 25, LANE_BYTES + 48],
    [LANE_BYTES - 8, 0, LANE_BYTES + 16],
    [WRAP_CURSOR - 40, 24, WRAP_CURSOR],
    [WRAP_CURSOR - 40, 25, WRAP_CURSOR + 48],
  ]) {
    const { words, producer, consumer } = lane(start);
    t.ok(producer.put(1, 0, 5, null, pattern(payload, 1)));
    producer.publish();
    t.equal(words[word.tail], tail | 0, `${payload} bytes at ${start}`);
    const sink = new TestSink();
    t.strictSame(walkAll(sink, consumer)[0].payload, pattern(payload, 1));
    t.equal(sink.ranges.length, 1);
    t.equal(sink.ranges[0][0], (start % LANE_BYTES) + frameBytes(0, payload) <= LANE_BYTES ? start % LANE_BYTES : 0);
  }
});

t.test('a walk over the end of the lane without padding gives two ranges', async (t) => {
  const { producer, consumer } = lane(LANE_BYTES - 64);
  for (let i = 0; i < 4; i++) t.ok(producer.put(1, 0, 1, null, pattern(16, i))); // frames of 32 bytes: two on each side
  producer.publish();
  const sink = new TestSink();
  sink.begin();
  t.equal(consumer.walk(sink, 10, 1000, true), 'empty');
  t.equal(consumer.walkedRecords, 4);
  t.strictSame(sink.ranges, [
    [LANE_BYTES - 64, LANE_BYTES],
    [0, 64],
  ]);
});

t.test('a full lane says no and takes again what was released', async (t) => {
  const { producer, consumer } = lane(WRAP_CURSOR - 512);
  const payload = pattern(112, 1); // frames of 128 bytes: 32 fill the lane
  for (let i = 0; i < 32; i++) t.ok(producer.put(1, 0, 1, null, payload), `record ${i}`);
  t.equal(producer.freeBytes, 0);
  t.notOk(producer.put(1, 0, 1, null, payload), 'one too many');
  t.notOk(producer.put(1, 0, 1, null, new Uint8Array(0)), 'not even 0 bytes');
  t.notOk(producer.declare(2, Buffer.from('name')), 'nor a declaration');
  producer.publish();
  const sink = new TestSink();
  sink.begin();
  t.equal(consumer.walk(sink, 1, 1e6, true), 'records');
  t.notOk(producer.put(1, 0, 1, null, payload), 'walked is not released');
  consumer.release();
  t.ok(producer.put(1, 0, 1, null, payload), 'released');
  t.notOk(producer.put(1, 0, 1, null, payload));
  producer.publish();
  t.equal(consumer.availableRecords(), 32);
  t.equal(walkAll(sink, consumer).length, 32, 'a refused record left nothing behind');
});

t.test('nothing is visible before publish', async (t) => {
  const { producer, consumer, words } = lane();
  const sink = new TestSink();
  producer.declare(1, Buffer.from('s'));
  producer.put(1, 0, 1, null, pattern(5, 1));
  t.strictSame(walkAll(sink, consumer), []);
  t.strictSame(sink.declared, []);
  t.equal(consumer.availableBytes(), 0);
  t.equal(consumer.availableRecords(), 0);
  t.equal(words[word.tail], 0);
  t.equal(words[word.seq], 0);
  producer.publish();
  t.equal(walkAll(sink, consumer).length, 1);
  t.strictSame(sink.declared, [[1, 's']]);
});

t.test('the first record is taken whatever its size, the second is not', async (t) => {
  const { producer, consumer } = lane();
  for (let i = 0; i < 2; i++) producer.put(1, 0, 1, null, pattern(1000, i));
  producer.publish();
  const sink = new TestSink();
  sink.begin();
  t.equal(consumer.walk(sink, 10, 100, false), 'bytes');
  t.equal(consumer.walkedRecords, 0);
  t.equal(consumer.walk(sink, 10, 100, true), 'bytes');
  t.equal(consumer.walkedRecords, 1);
  t.equal(consumer.walkedBytes, 1016);
  t.equal(consumer.walk(sink, 10, 1016, false), 'empty', 'exactly as many bytes as fit');
});

t.test('keys: none and empty look the same on disk; the longest is kept', async (t) => {
  const buffer = createLaneBuffer(2 ** 19);
  const producer = LaneProducer.take(buffer, new SharedState())!;
  const consumer = new LaneConsumer(buffer);
  const longest = pattern(65_535, 3);
  t.ok(producer.put(65_535, 255, 2 ** 48 - 1, longest, pattern(3, 1)));
  t.ok(producer.put(1, 0, 0, new Uint8Array(0), new Uint8Array(0)));
  producer.publish();
  const sink = new TestSink();
  const [first, second] = walkAll(sink, consumer);
  t.ok(first.key.equals(longest));
  t.match(first, { stream: 65_535, flags: 255, timestampMs: 2 ** 48 - 1 });
  t.match(second, { stream: 1, flags: 0, timestampMs: 0 });
  t.equal(second.key.length + second.payload.length, 0);
});

t.test('SEQ counts on through 2^31 and 2^32', async (t) => {
  for (const start of [2 ** 31 - 2, 2 ** 32 - 2]) {
    const buffer = createLaneBuffer(LANE_BYTES);
    const words = laneWords(buffer);
    words[word.seq] = start | 0;
    const producer = LaneProducer.take(buffer, new SharedState())!;
    for (let i = 1; i <= 4; i++) {
      producer.put(1, 0, 1, null, pattern(1, i));
      producer.publish();
      t.equal(words[word.seq], (start + i) | 0);
    }
  }
});

t.test('a lane belongs to one producer, once', async (t) => {
  const { buffer, producer, consumer, shared } = lane();
  t.equal(LaneProducer.take(buffer, shared), undefined, 'taken');
  producer.put(1, 0, 1, null, pattern(1, 1));
  producer.publish();
  t.notOk(laneIsClosed(buffer));
  const doorbell = shared.words[shared.doorbell];
  producer.close();
  t.ok(laneIsClosed(buffer));
  t.ok(shared.words[shared.doorbell] > doorbell, 'the consumer hears of it');
  t.equal(LaneProducer.take(buffer, shared), undefined, 'closed');
  t.notOk(consumer.closedAndEmpty, 'a record is left');
  walkAll(new TestSink(), consumer);
  t.ok(consumer.closedAndEmpty);
});

t.test('acknowledgements fill their slots and no more', async (t) => {
  for (const start of [0, 2 ** 31 - 500, 2 ** 32 - 500]) {
    const { producer, consumer } = lane(0, start);
    for (let i = 0; i < ACK_SLOTS; i++) consumer.acknowledge(i * 10, 1 + (i % 3));
    t.equal(consumer.ackRoom(), 0);
    t.notOk(consumer.acksRead);
    const run = { firstOffset: -1, records: -1 };
    const runs: number[][] = [];
    while (producer.nextAck(run)) runs.push([run.firstOffset, run.records]);
    t.strictSame(
      runs,
      Array.from({ length: ACK_SLOTS }, (_, i) => [i * 10, 1 + (i % 3)]),
      `from ${start}`,
    );
    t.equal(consumer.ackRoom(), ACK_SLOTS);
    t.ok(consumer.acksRead);
  }
  const { producer, consumer } = lane();
  const run = { firstOffset: -1, records: -1 };
  consumer.acknowledge(2 ** 52 + 1, 2 ** 40);
  t.ok(producer.nextAck(run));
  t.strictSame(run, { firstOffset: 2 ** 52 + 1, records: 2 ** 40 }, 'offsets beyond 32 bits');
});

t.test('the doorbell rings only for a sleeper, and only once enough is there', async (t) => {
  for (const start of [0, SIGN_CURSOR - 64, WRAP_CURSOR - 64]) {
    const { producer, consumer, shared } = lane(start);
    const rings = (): number => shared.words[shared.doorbell];
    const put = (): void => {
      producer.put(1, 0, 1, null, pattern(16, 1)); // 32 bytes
      producer.publish();
    };
    consumer.wakeAfter(1, 1);
    put();
    t.equal(rings(), 0, 'nobody sleeps');
    walkAll(new TestSink(), consumer);
    Atomics.store(shared.words, shared.sleeping, 1);
    consumer.wakeAfter(3, 10_000);
    put();
    put();
    t.equal(rings(), 0, 'two of three records');
    put();
    t.equal(rings(), 1, 'three');
    put();
    t.equal(rings(), 1, 'once for each sleep');
    walkAll(new TestSink(), consumer);
    Atomics.store(shared.words, shared.sleeping, 2);
    consumer.wakeAfter(1000, 96);
    put();
    put();
    t.equal(rings(), 1, '64 of 96 bytes');
    put();
    t.equal(rings(), 2, `96 bytes, from ${start}`);
  }
});

t.test('the producer can be woken from any thread', async (t) => {
  const { buffer, producer, consumer } = lane();
  const before = producer.signalWords[producer.signalIndex];
  notifyLane(buffer);
  consumer.notify();
  t.equal(producer.signalWords[producer.signalIndex], before + 2);
});

t.test('the latency of a lane is kept apart from its frames and acknowledgements', async (t) => {
  const { buffer, producer, consumer } = lane();
  for (let i = 0; i < ACK_SLOTS; i++) consumer.acknowledge(-1, -1);
  while (producer.put(1, 0, 1, null, pattern(100, 255)));
  producer.publish();
  t.equal(laneLatency(buffer).count, 0);
  laneLatency(buffer).record(5, 3);
  laneLatency(buffer).record(2 ** 50);
  t.equal(laneLatency(buffer).count, 4);
  t.equal(walkAll(new TestSink(), consumer).length, 34);
  const run = { firstOffset: 0, records: 0 };
  while (producer.nextAck(run)) t.equal(run.firstOffset, -1);
});

t.test(
  'frames put in one piece, as bytes or by who writes them, read as if put one by one; a writer that fails leaves no trace',
  async (t) => {
    const payloads = [pattern(5, 1), pattern(0, 2), pattern(300, 3)];
    const ranges = Uint32Array.of(0, 5, 5, 5, 5, 305);
    const bytes = framesBytes(ranges, 3, 0);
    const write = (out: Uint8Array): void => void encodeFramesJs(out, Buffer.concat(payloads), ranges, 3, 0);
    const frames = new Uint8Array(bytes);
    write(frames);
    // The last start: the frames do not fit before the end of the lane.
    for (const start of [0, SIGN_CURSOR - 64, WRAP_CURSOR - 64]) {
      const single = lane(start);
      for (const p of payloads) single.producer.put(9, 0, 77, null, p);
      single.producer.publish();
      const wanted = walkAll(new TestSink(), single.consumer);
      t.equal(wanted.length, 3);
      for (const how of ['bytes', 'a writer', 'a writer, after one that fails'] as const) {
        const { producer, consumer } = lane(start);
        if (how === 'a writer, after one that fails') {
          const fails = {
            length: bytes,
            write: () => {
              throw new Error('no');
            },
          };
          t.throws(() => producer.putFrames(9, 77, fails, 3, undefined), { message: 'no' });
        }
        t.ok(producer.putFrames(9, 77, how === 'bytes' ? frames : { length: bytes, write }, 3, undefined), how);
        producer.publish();
        t.same(walkAll(new TestSink(), consumer), wanted, `${how}, from ${start}`);
      }
    }
  },
);
