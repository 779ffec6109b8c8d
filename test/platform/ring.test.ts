// One lane, both ends on one thread: full, wrapped, published, walked, acknowledged, closed, at the cursors where it counts. Random
// interleavings: ring-model.test.ts; real threads: ring-threads.test.ts.

import t from 'tap';
import { encodeFramesJs, framesBytes } from '../../src/platform/frames.ts';
import { ACK_SLOTS } from '../../src/base/limits.ts';
import { LaneConsumer } from '../../src/platform/lane-consumer.ts';
import { dropCauses, laneHistogramNames } from '../../src/platform/lane-figures.ts';
import {
  createLaneBuffer,
  frameBytes,
  laneIsClosed,
  laneFigures,
  laneUsed,
  noAcknowledgement,
  notifyLane,
  type BatchTimes,
} from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { laneWords, TestSink, word } from '../support/platform-lane.ts';
import { lane, LANE_BYTES, pattern, SIGN_CURSOR, walkAll, WRAP_CURSOR } from '../support/platform-both-ends.ts';

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

const times = (i: number): BatchTimes => ({ freeMs: i + 0.25, closedMs: i + 0.5, durableMs: i + 0.75 });

t.test('acknowledgements fill their slots and no more', async (t) => {
  for (const start of [0, 2 ** 31 - 500, 2 ** 32 - 500]) {
    const { producer, consumer } = lane(0, start);
    for (let i = 0; i < ACK_SLOTS; i++) consumer.acknowledge(i * 10, 1 + (i % 3), times(i));
    t.equal(consumer.ackRoom(), 0);
    t.notOk(consumer.acksRead);
    const run = noAcknowledgement();
    const runs: number[][] = [];
    while (producer.nextAck(run)) {
      runs.push([run.firstOffset, run.records, run.freeMs, run.closedMs, run.durableMs]);
    }
    t.strictSame(
      runs,
      Array.from({ length: ACK_SLOTS }, (_, i) => [i * 10, 1 + (i % 3), i + 0.25, i + 0.5, i + 0.75]),
      `from ${start}`,
    );
    t.equal(consumer.ackRoom(), ACK_SLOTS);
    t.ok(consumer.acksRead);
  }
  const { producer, consumer } = lane();
  const run = noAcknowledgement();
  consumer.acknowledge(2 ** 52 + 1, 2 ** 40, times(0));
  t.ok(producer.nextAck(run));
  t.match(run, { firstOffset: 2 ** 52 + 1, records: 2 ** 40 }, 'offsets beyond 32 bits');
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

t.test('the figures of a lane are kept apart from each other, its frames and its acknowledgements', async (t) => {
  const { buffer, producer, consumer } = lane();
  for (let i = 0; i < ACK_SLOTS; i++) consumer.acknowledge(-1, -1, { freeMs: -1, closedMs: -1, durableMs: -1 });
  while (producer.put(1, 0, 1, null, pattern(100, 255)));
  producer.publish();
  const figures = laneFigures(buffer);
  t.strictSame([figures.waitingRecords, figures.waitingBytes, figures.oldestMs], [0, 0, 0]);
  t.strictSame(figures.drops, { newest: 0, oldest: 0, blockedTooLong: 0, backlog: 0 });
  figures.setWaiting(1, 2);
  figures.oldestMs = 3;
  dropCauses.forEach((cause, i) => figures.drop(cause, 4 + i));
  laneHistogramNames.forEach((name, i) => {
    t.equal(figures.histograms[name].count, 0, name);
    figures.histograms[name].record(0, 1 + i);
    figures.histograms[name].record(2 ** 50);
  });
  const again = laneFigures(buffer);
  t.strictSame([again.waitingRecords, again.waitingBytes, again.oldestMs], [1, 2, 3], 'seen by every other look');
  t.strictSame(again.drops, { newest: 4, oldest: 5, blockedTooLong: 6, backlog: 7 });
  laneHistogramNames.forEach((name, i) => t.match(again.histograms[name], { count: 2 + i, max: 2 ** 50 }, name));
  t.match(laneUsed(buffer), { records: 34, bytes: 34 * 120 }, 'not taken over yet');
  t.equal(walkAll(new TestSink(), consumer).length, 34);
  const run = noAcknowledgement();
  consumer.release();
  t.strictSame(laneUsed(buffer), { records: 0, bytes: 0 });
  for (let i = 0; i < ACK_SLOTS; i++) {
    if (!producer.nextAck(run) || run.firstOffset !== -1 || run.durableMs !== -1) t.fail(`slot ${i}`);
  }
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
