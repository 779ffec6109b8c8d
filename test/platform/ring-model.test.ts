// One lane, both ends on one thread, against a model that never wraps: random interleavings, and wrap at every alignment.

import { seededRandom } from '../../src/base/clock.ts';
import t from 'tap';
import * as fc from 'fast-check';
import { ACK_SLOTS } from '../../src/base/limits.ts';
import { FLAG_UNTERMINATED, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { TestSink, word, type Frame } from '../support/platform-lane.ts';
import {
  lane,
  LANE_BYTES,
  MAX_RECORD_BYTES,
  pattern,
  SIGN_CURSOR,
  WRAP_CURSOR,
} from '../support/platform-both-ends.ts';

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
  acks: number[][] = [];
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
      const [freeMs, closedMs, durableMs] = [0.25, 0.5, 0.75].map((part) => model.nextOffset + part);
      consumer.acknowledge(model.nextOffset, s.records, { freeMs, closedMs, durableMs });
      model.acks.push([model.nextOffset, s.records, freeMs, closedMs, durableMs]);
      model.nextOffset += s.records;
    } else {
      const run = noAcknowledgement();
      while (producer.nextAck(run)) {
        const { firstOffset, records, freeMs, closedMs, durableMs } = run;
        same([firstOffset, records, freeMs, closedMs, durableMs], model.acks.shift(), 'acknowledgement');
      }
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
