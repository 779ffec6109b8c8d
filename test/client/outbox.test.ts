// What waits and what is sent, without sockets: random histories against a model of a gateway.

import t from 'tap';
import fc from 'fast-check';
import { SpillwayError } from '../../src/base/errors.ts';
import { payloadsOf } from '../../src/codec/append-frame.ts';
import { APPEND_HEADER_BYTES } from '../../src/codec/frames.ts';
import { Backoff } from '../../src/client/backoff.ts';
import { ChunkPool } from '../../src/client/chunk.ts';
import { Outbox } from '../../src/client/outbox.ts';
import { Patience } from '../../src/client/patience.ts';
import type { Part } from '../../src/client/runs.ts';
import { until } from '../support/log-support.ts';

const failed = new SpillwayError('DROPPED', 'dropped');

type Step =
  | { readonly do: 'append'; readonly stream: string; readonly bytes: number }
  | { readonly do: 'many'; readonly stream: string; readonly bytes: number; readonly records: number }
  | { readonly do: 'send'; readonly credit: number; readonly closed: boolean }
  | { readonly do: 'written' }
  | { readonly do: 'settle'; readonly records: number; readonly how: 'ack' | 'refuse' | 'defer'; readonly gap: number }
  | { readonly do: 'reconnect' };

const stream = fc.constantFrom('a', 'b');
const bytes = fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 3_000 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('append' as const), stream, bytes }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('many' as const),
      stream,
      bytes,
      records: fc.integer({ min: 1, max: 120 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('send' as const),
      credit: fc.integer({ min: 0, max: 20_000 }),
      closed: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('written' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      records: fc.integer({ min: 1, max: 200 }),
      how: fc.constantFrom('ack' as const, 'ack' as const, 'refuse' as const, 'defer' as const),
      gap: fc.integer({ min: 0, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reconnect' as const) }) },
);

/** Payloads tell which record they are: so a chunk that was used again too early shows. */
const payload = (record: number, size: number): string =>
  `${record}:`.padEnd(size, String.fromCharCode(97 + (record % 26)));

async function play(steps: readonly Step[]): Promise<void> {
  const outbox = new Outbox(1 << 30);
  outbox.limits = { maxFrameBytes: 16_384, maxRecordBytes: 4_096 };
  const made: { stream: string; text: string }[] = [];
  /** By record: offset where it is in the log, or 'refused'. */
  const fate: (number | 'refused')[] = [];
  const calls: { from: number; records: number; one: boolean; settled: Promise<unknown> }[] = [];
  /** Parts that the socket has not finished, with what their bytes have to be. */
  const writing: { part: Part; bytes: Buffer }[] = [];
  let sentTo = 0;
  let front = 0;
  /** What was refused for the time being ends here. */
  let deferredTo = 0;
  let offset = 0;
  const finish = (): void => {
    const { part, bytes: before } = writing.shift()!;
    if (!before.equals(part.chunk.bytes.subarray(part.from, part.end))) throw new Error('changed while it was written');
    outbox.written(part.chunk);
  };
  const send = (credit: number, closed: boolean): boolean => {
    const part = outbox.take(credit, closed);
    if (part === undefined) return false;
    if (deferredTo > front) throw new Error('sent behind what was refused');
    if (part.firstSequence !== sentTo) throw new Error(`sequence ${part.firstSequence} where ${sentTo} is next`);
    const own = part.end - part.from + APPEND_HEADER_BYTES;
    if (own > 16_384) throw new Error(`a frame of ${own} bytes`);
    if (own > credit && (sentTo > deferredTo || part.records > 1)) throw new Error('more than the credit');
    const body = part.chunk.bytes.subarray(part.from, part.end);
    payloadsOf(body).forEach((p, i) => {
      const { stream: name, text } = made[part.firstSequence + i];
      if (Buffer.from(p).toString() !== text || name !== part.stream) throw new Error('another record');
    });
    writing.push({ part, bytes: Buffer.from(body) });
    sentTo += part.records;
    return true;
  };
  const settle = (wanted: number, how: 'ack' | 'refuse' | 'defer', gap: number): void => {
    const records = Math.min(wanted, sentTo - deferredTo);
    if (records === 0) return;
    const from = deferredTo;
    deferredTo += records;
    if (how === 'defer') return outbox.defer(from, records, failed);
    if (how === 'refuse') outbox.refuse(from, records, failed);
    else outbox.acknowledge(from, (offset += gap), records, false, 0);
    for (let i = front; i < from; i++) fate[i] = 'refused';
    for (let i = 0; i < records; i++) fate[from + i] = how === 'refuse' ? 'refused' : offset++;
    front = deferredTo;
  };
  const add = (name: string, texts: string[], one: boolean): void => {
    const from = made.length;
    for (const text of texts) made.push({ stream: name, text });
    const settled = new Promise((resolve, reject) => {
      if (one) outbox.addOne(name, null, texts[0], 0, 0, resolve, reject);
      else outbox.addMany(name, null, texts, 0, 0, resolve, reject);
    });
    calls.push({ from, records: texts.length, one, settled: settled.catch((error: Error) => error) });
  };
  for (const s of steps) {
    if (s.do === 'append') add(s.stream, [payload(made.length, s.bytes)], true);
    else if (s.do === 'many') {
      const texts = Array.from({ length: s.records }, (_, i) => payload(made.length + i, s.bytes));
      add(s.stream, texts, false);
    } else if (s.do === 'send') send(s.credit, s.closed);
    else if (s.do === 'written' && writing.length > 0) finish();
    else if (s.do === 'settle') settle(s.records, s.how, s.gap);
    else if (s.do === 'reconnect') {
      outbox.rewind();
      sentTo = deferredTo = front;
    }
    const fine = outbox.underWay === sentTo - deferredTo && outbox.defers === deferredTo > front;
    if (outbox.front !== front || !fine) throw new Error('front or what is under way');
  }
  settle(1_000_000, 'ack', 0);
  outbox.rewind();
  sentTo = deferredTo = front;
  while (send(1 << 20, false)) settle(1_000_000, 'ack', 0);
  while (writing.length > 0) finish();
  const { calls: waiting } = outbox;
  if (waiting.length + waiting.waitingBytes + waiting.waitingRecords !== 0) throw new Error('something waits');
  for (const { from, records, one, settled } of calls) {
    const fates = fate.slice(from, from + records);
    const came = await settled;
    if (fates.includes('refused')) {
      const there = fates.filter((f) => f !== 'refused').length;
      const said = (came as Error).message.includes(`(${there} of the ${records}`);
      if (!(came instanceof SpillwayError) || (there > 0 && !said)) throw new Error('refused, and was not told so');
    } else if (one) {
      if ((came as { offset: number }).offset !== fates[0]) throw new Error('another offset');
    } else {
      const { firstOffset, lastOffset, runs } = came as { firstOffset: number; lastOffset: number; runs?: never[] };
      const told = (runs ?? [{ records, firstOffset }]).flatMap((r: { records: number; firstOffset: number }) =>
        Array.from({ length: r.records }, (_, i) => r.firstOffset + i),
      );
      if (firstOffset !== fates[0] || lastOffset !== fates.at(-1) || told.join() !== fates.join()) {
        throw new Error('other offsets');
      }
    }
  }
}

t.test(
  'random histories: every record once, in order, unchanged while it is written, and settled as it was',
  async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 120 }), play), { numRuns: 300, seed: 20_261_121 });
  },
);

t.test('a chunk is used again only when its records are settled and its bytes written', async (t) => {
  const pool = new ChunkPool();
  const chunk = pool.take(100);
  chunk.holders++;
  pool.release(chunk);
  t.not(pool.take(100), chunk, 'held by a write');
  pool.release(chunk);
  t.equal(pool.take(100), chunk);
  const large = pool.take(1_000_000);
  pool.release(large);
  t.not(pool.take(1_000_000), large, 'one of its own size is not kept');
});

t.test('caution after a refusal ends after 16 frames', async (t) => {
  const outbox = new Outbox(1 << 30);
  outbox.limits = { maxFrameBytes: 300, maxRecordBytes: 200 };
  const add = (): void =>
    outbox.addOne(
      's',
      null,
      'x'.repeat(200),
      0,
      0,
      () => undefined,
      () => undefined,
    );
  for (let i = 0; i < 20; i++) add();
  const send = (): boolean => outbox.take(1 << 20, false) !== undefined;
  t.same([send(), send()], [true, true], 'a frame each');
  outbox.defer(0, 2, failed);
  t.equal(send(), false, 'nothing behind what was refused');
  outbox.rewind();
  for (let i = 0; i < 16; i++) {
    t.same([send(), send()], [true, false], 'one by one');
    outbox.acknowledge(i, i, 1, false, 0);
  }
  t.same([send(), send(), send()], [true, true, true]);
});

t.test('runs that share a chunk hold it each', async (t) => {
  const outbox = new Outbox(1 << 30);
  outbox.limits = { maxFrameBytes: 1 << 20, maxRecordBytes: 1 << 19 };
  const add = (stream: string, text: string): void =>
    outbox.addOne(
      stream,
      null,
      text,
      0,
      0,
      () => undefined,
      () => undefined,
    );
  add('a', 'first');
  add('b', 'second');
  const sent = outbox.take(1 << 20, false)!;
  outbox.written(sent.chunk);
  outbox.acknowledge(0, 0, 1, false, 0);
  // More than the rest of the chunk: another one is taken.
  add('b', 'x'.repeat(60_000));
  add('b', 'y'.repeat(60_000));
  const part = outbox.take(1 << 20, false)!;
  const texts = payloadsOf(part.chunk.bytes.subarray(part.from, part.end)).map((p) => Buffer.from(p).toString());
  t.equal(texts[0], 'second');
});

t.test(
  'patience: the clock runs on through connections that settle nothing, and not through those that last',
  async (t) => {
    let nowMs = 0;
    let ends = 0;
    const clock = { monotonicMs: () => nowMs, wallMs: () => nowMs };
    const patience = new Patience(100_000, clock, () => ends++);
    t.teardown(() => patience.stop());
    patience.lost(true);
    nowMs = 99_990;
    patience.connected();
    patience.lost(true);
    await until(() => ends === 1, 'ten milliseconds are left');
    patience.stop();
    patience.lost(true);
    patience.connected();
    nowMs += 99_999;
    patience.lost(true);
    patience.stop();
    patience.lost(true);
    patience.progress();
    nowMs += 200_000;
    patience.lost(true);
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.equal(ends, 1);
  },
);

t.test('sequences begin again after everything was given up', async (t) => {
  const outbox = new Outbox(1 << 20);
  const errors: Error[] = [];
  const add = (): void =>
    outbox.addOne(
      's',
      null,
      'x',
      0,
      0,
      () => undefined,
      (error) => errors.push(error),
    );
  add();
  t.equal(outbox.take(1 << 20, false)!.firstSequence, 0);
  add();
  outbox.refuseAll(failed);
  t.equal(errors.length, 2);
  t.equal(outbox.inDoubt, 0);
  t.equal(outbox.take(1 << 20, false), undefined);
  add();
  t.match(outbox.take(1 << 20, false), { firstSequence: 0, records: 1 });
  t.equal(outbox.resentRecords, 0);
});

t.test('backoff: doubles up to 5 s, and is drawn from the upper half', async (t) => {
  const low = new Backoff(() => 0);
  const high = new Backoff(() => 2 ** 32 - 1);
  const waits = Array.from({ length: 9 }, () => [low.nextMs(), high.nextMs()]);
  t.same(
    waits.map(([from]) => from),
    [25, 50, 100, 200, 400, 800, 1600, 2500, 2500],
  );
  t.ok(waits.every(([from, to]) => to > from * 1.99 && to <= from * 2));
  low.reset();
  t.equal(low.nextMs(), 25);
});
