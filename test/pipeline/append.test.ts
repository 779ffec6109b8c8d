// Appending through the public interface: what is a record and what is refused, what closes a batch, and lanes that are full.

import t from 'tap';
import { SpillwayError } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { codeOf, directory, within } from '../support/log-support.ts';
import { endWorkers, openSmall, quiet, recordsOf, text } from '../support/pipeline-logs.ts';

t.teardown(endWorkers);

t.test('payloads: views, Buffers, text, 0 bytes, keys, the unterminated mark', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js' });
  const backing = new Uint8Array(100).map((_, i) => i);
  const pooled = Buffer.from('pooled');
  const list: [Uint8Array | string, Uint8Array][] = [
    [backing.subarray(10, 20), Uint8Array.from([10, 11, 12, 13, 14, 15, 16, 17, 18, 19])],
    [new Uint8Array(backing.buffer, 3, 2), Uint8Array.from([3, 4])],
    [pooled, Buffer.from('pooled')],
    [Buffer.from(new SharedArrayBuffer(4)), Buffer.alloc(4)],
    ['text äöü \u{1f600}\0', Buffer.from('text äöü \u{1f600}\0')],
    ['', Buffer.alloc(0)],
    [new Uint8Array(0), Buffer.alloc(0)],
    [Buffer.from([0xff, 0xfe, 0]), Buffer.from([0xff, 0xfe, 0])],
  ];
  for (const [given] of list) await log.append('s', given);
  await log.append('s', 'v', { key: backing.subarray(1, 4), unterminated: true });
  await log.append('s', '', { key: 'k'.repeat(10_000) });
  const records = await recordsOf(log);
  list.forEach(([, bytes], i) => t.ok(Buffer.from(bytes).equals(records[i].payload), `payload ${i}`));
  t.same([...records[8].key!], [1, 2, 3]);
  t.same([records[8].unterminated, records[9].unterminated], [true, false]);
  t.same([records[9].key?.length, records[9].payload.length], [10_000, 0]);
  t.ok(records.every((r) => r.payload instanceof Uint8Array));
  for (const wrong of [null, undefined, 5, {}, new ArrayBuffer(3), [1, 2]]) {
    t.equal(await codeOf(log.append('s', wrong as unknown as string)), 'INVALID_RECORD', String(wrong));
  }
  t.equal(await codeOf(log.appendMany('s', [])), 'INVALID_RECORD');
  t.equal(await codeOf(log.append('s', 'x', { key: 'k'.repeat(65_536) })), 'INVALID_RECORD');
  t.equal(log.stats().records, 10);
  await log.close();
});

t.test('a refused call appends nothing, and the rest goes on', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js', maxRecordBytes: 1000 });
  const calls = [
    log.append('s', 'a'),
    log.append('s', Buffer.alloc(1001)),
    log.appendMany('s', ['b', Buffer.alloc(1001), 'c']),
    log.append('s', Buffer.alloc(1000)),
    log.append('s', Buffer.alloc(999), { key: 'kk' }),
    log.appendMany('s', ['d', 'e']),
  ].map((p) => codeOf(p));
  t.same(await Promise.all(calls), [
    'resolved',
    'RECORD_TOO_LARGE',
    'RECORD_TOO_LARGE',
    'resolved',
    'RECORD_TOO_LARGE',
    'resolved',
  ]);
  t.same(
    (await recordsOf(log)).map((r) => r.payload.length),
    [1, 1000, 1, 1],
  );
  for (const name of ['', '.', '..', 'a/b', 'a\0', 'a\r\n', '-x', '.x', 'ä', 'x'.repeat(201), '*', '>', 5, undefined]) {
    t.equal(await codeOf(log.append(name as string, 'x')), 'INVALID_STREAM', JSON.stringify(name));
  }
  t.equal(await codeOf(log.append('x'.repeat(200), 'x')), 'resolved');
  t.equal(await codeOf(recordsOf(log, { stream: '../x' })), 'INVALID_STREAM');
  t.equal(await codeOf(recordsOf(log, { from: -1 })), 'INVALID_OPTION');
  t.equal(await codeOf(recordsOf(log, { from: 999 })), 'OFFSET_OUT_OF_RANGE');
  t.equal(await codeOf(recordsOf(log, { form: 1 } as unknown as { from: number })), 'INVALID_OPTION');
  t.equal(await codeOf(log.truncateBefore(999)), 'OFFSET_OUT_OF_RANGE');
  t.equal(await codeOf(log.append('s', 'still open')), 'resolved');
  await log.close();
});

t.test('each close reason is reached, and counted', async (t) => {
  const reasonsOf = async (
    window: object,
    act: (log: Awaited<ReturnType<typeof openSmall>>['log']) => Promise<unknown>,
  ) => {
    const { log } = await openSmall({ dir: directory(t), io: 'js', window });
    await within(act(log), JSON.stringify(window));
    const { closeReasons, batches } = log.stats();
    t.equal(
      Object.values(closeReasons).reduce((a, b) => a + b),
      batches,
      'every batch has one reason',
    );
    await log.close();
    return closeReasons;
  };
  const many = (n: number, bytes: number) => (log: { appendMany(s: string, p: Buffer[]): Promise<unknown> }) =>
    log.appendMany(
      's',
      Array.from({ length: n }, () => Buffer.alloc(bytes)),
    );
  t.match(await reasonsOf({ ...quiet, maxRecords: 10 }, many(30, 10)), {
    records: 3,
    linger: 0,
    idle: 0,
    flush: 0,
    bytes: 0,
  });
  const byBytes = await reasonsOf({ ...quiet, maxBytes: '1KiB' }, (log) =>
    Promise.all([many(20, 1008)(log), log.flush()]),
  );
  t.equal(byBytes.bytes, 20);
  const byLinger = await reasonsOf({ ...quiet, lingerMs: 20 }, (log) => log.append('s', 'x'));
  t.match(byLinger, { linger: 1, records: 0, bytes: 0, flush: 0, idle: 0 });
  const byIdle = await reasonsOf({ ...quiet, lingerMs: 0 }, async (log) => {
    for (let i = 0; i < 3; i++) await log.append('s', 'x');
  });
  t.match(byIdle, { idle: 3, linger: 0, records: 0, bytes: 0, flush: 0 });
  const started = performance.now();
  const byFlush = await reasonsOf(quiet, async (log) => {
    const appended = log.append('s', 'x');
    await log.flush();
    t.equal(log.stats().durableOffset, 1, 'durable when flush resolves');
    await appended;
  });
  t.ok(byFlush.flush >= 1);
  t.ok(performance.now() - started < 5000, 'the linger of 20 s was not waited for');
});

t.test('linger: a batch waits for company, not longer', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js', window: { ...quiet, lingerMs: 200 } });
  const started = performance.now();
  const appends = Array.from({ length: 10 }, (_, i) => log.append('s', `${i}`));
  await Promise.all(appends);
  const tookMs = performance.now() - started;
  t.ok(tookMs >= 195 && tookMs < 2000, `${tookMs} ms`);
  t.equal(log.stats().batches, 1);
  await log.close();
});

t.test('a full lane: appends wait their turn, all of them', async (t) => {
  const { log } = await openSmall({
    dir: directory(t),
    io: 'js',
    laneBytes: '4KiB',
    maxRecordBytes: 1000,
    window: { maxRecords: 1000, maxBytes: '2KiB', lingerMs: 5 },
  });
  const sizes = Array.from({ length: 400 }, (_, i) => (i * 131) % 1000);
  const single = sizes.map((n) => log.append('s', Buffer.alloc(n, 1)));
  const group = log.appendMany(
    'g',
    Array.from({ length: 200 }, () => Buffer.alloc(100)),
  );
  const last = log.append('s', 'last');
  const offsets = (await within(Promise.all(single), 'all resolved', 30_000)).map((a) => a.offset);
  t.same(
    offsets,
    sizes.map((_, i) => i),
  );
  t.same(await group, { firstOffset: 400, lastOffset: 599 });
  t.same(await last, { offset: 600 });
  t.same(
    (await recordsOf(log)).slice(0, 400).map((r) => r.payload.length),
    sizes,
  );
  await log.close();
});

t.test('maxWaitingBytes: more is refused, nothing accepted is lost', async (t) => {
  const { log } = await openSmall({
    dir: directory(t),
    io: 'js',
    laneBytes: '4KiB',
    maxRecordBytes: 1000,
    maxWaitingBytes: 5000,
    window: { maxRecords: 1000, maxBytes: '2KiB', lingerMs: 1 },
  });
  const settled = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) => log.append('s', `${i}:`.padEnd(500, 'x'))),
  );
  const refused = settled.filter((r) => r.status === 'rejected');
  t.ok(refused.length > 50 && refused.every((r) => (r.reason as SpillwayError).code === 'BACKLOG_FULL'));
  t.ok(refused.every((r) => (r.reason as SpillwayError).retryable));
  const accepted = settled.flatMap((r, i) => (r.status === 'fulfilled' ? [i] : []));
  t.ok(accepted.length >= 10, `${accepted.length} accepted`);
  t.same(
    (await recordsOf(log)).map((r) => Number.parseInt(text(r), 10)),
    accepted,
  );
  t.equal(await codeOf(log.append('s', 'again')), 'resolved', 'and it goes on');
  await log.close();
});

t.test('hundreds of streams, long names', async (t) => {
  const { log } = await openSmall({
    dir: directory(t),
    io: 'js',
    window: { maxRecords: 10_000, maxBytes: '16KiB', lingerMs: 1 },
  });
  const name = (i: number): string => `stream-${i}-`.padEnd(20 + (i % 180), 'n');
  await Promise.all(Array.from({ length: 1050 }, (_, i) => log.append(name(i % 350), `${i}`)));
  const all = await recordsOf(log);
  t.ok(all.length === 1050 && all.every((r, i) => r.stream === name(i % 350) && text(r) === `${i}`));
  for (const i of [0, 17, 349]) {
    t.same((await recordsOf(log, { stream: name(i) })).map(text), [`${i}`, `${i + 350}`, `${i + 700}`]);
  }
  await log.close();
});

t.test('frames that end exactly at the end of the lane: batches over the lap are whole', async (t) => {
  for (const payloadBytes of [240, 1008, 496, 0, 8]) {
    const dir = directory(t);
    const { log } = await openSmall({
      dir,
      io: 'js',
      laneBytes: '32KiB',
      maxRecordBytes: '4KiB',
      window: { maxRecords: 1000, maxBytes: '7000', lingerMs: 1 },
    });
    const count = payloadBytes < 100 ? 4000 : 300;
    const payload = (i: number): Buffer => Buffer.alloc(payloadBytes, i & 0xff);
    await Promise.all(Array.from({ length: count }, (_, i) => log.append('stream8', payload(i))));
    const records = await recordsOf(log);
    t.equal(records.length, count, `${payloadBytes} bytes`);
    t.ok(
      records.every((r, i) => payload(i).equals(r.payload)),
      `${payloadBytes} bytes`,
    );
    await log.close();
    t.equal(verify(new JsIo(), dir).ok, true, `${payloadBytes} bytes`);
  }
});
