// The public interface, as its callers use it.

import t from 'tap';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open, openLane, read, SpillwayError, type LogRecord } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { native } from '../../src/platform/native.ts';
import { codeOf, directory, modeNotReached, until, within } from '../support/log-support.ts';
import { endWorkers, openSmall, recordsOf, text } from '../support/pipeline-logs.ts';
import { workingModes } from '../support/modes.ts';

t.teardown(endWorkers);

const quiet = { maxRecords: 100_000, maxBytes: '16KiB', lingerMs: 20_000 } as const;

async function childWith(
  t: { teardown(f: () => void): unknown },
  dir: string,
  uid?: number,
): Promise<{ child: ChildProcess; word: string }> {
  const child = fork(new URL('../support/pipeline-open-child.js', import.meta.url), [dir, 'js'], {
    execArgv: [],
    ...(uid === undefined ? {} : { uid, gid: uid, cwd: '/' }),
    stdio: 'ignore',
  });
  t.teardown(() => child.kill('SIGKILL'));
  const word = await Promise.race([
    once(child, 'message').then(([m]) => m as string),
    once(child, 'exit').then(([code]) => `ended with ${String(code)}`),
    once(child, 'error').then(([e]) => `did not start: ${String(e)}`),
  ]);
  return { child, word };
}

for (const io of workingModes) {
  t.test(`${io}: the example of the README`, async (t) => {
    const dir = join(directory(t), 'made', 'when', 'missing');
    const log = await open({ dir, io, window: { maxRecords: 1000, maxBytes: '1MiB', lingerMs: 2 } });
    t.equal(log.stats().io, io);
    t.equal(log.stats().nativeMissing === null, native !== undefined);
    t.same(await log.append('orders', Buffer.from('one')), { offset: 0 });
    t.same(await log.appendMany('orders', ['two', 'three']), { firstOffset: 1, lastOffset: 2 });
    t.same(await log.append('other', 'four', { key: 'k' }), { offset: 3 });
    const seen: LogRecord[] = [];
    for await (const record of log.read({ stream: 'orders', from: 1, follow: false })) seen.push(record);
    t.same(
      seen.map((r) => [r.offset, r.stream, text(r), r.key]),
      [
        [1, 'orders', 'two', null],
        [2, 'orders', 'three', null],
      ],
    );
    t.ok(Math.abs(seen[0].timestampMs - Date.now()) < 60_000);
    const lane = openLane(log.lane());
    t.same(await lane.append('orders', 'five'), { offset: 4 });
    await lane.close();
    await log.flush();
    await log.truncateBefore(1);
    t.equal(log.stats().startOffset, 1);
    const stats = log.stats();
    t.match(stats, {
      state: 'open',
      appendedOffset: 5,
      durableOffset: 5,
      records: 5,
      tornBytes: 0,
      rolls: 0,
      segments: 1,
    });
    t.equal(modeNotReached(io, stats.systemCalls, stats.batches), undefined);
    t.equal(stats.systemCalls.commitWrites, stats.batches, 'one write per batch');
    t.equal(stats.latency.count, 5);
    t.equal(stats.durableWrite.count, stats.batches);
    await log.close();
    t.equal(log.stats().state, 'closed', 'figures work in every state');
    t.same(
      (await recordsOf({ read: (o) => read({ dir, ...o }) })).map(text),
      ['two', 'three', 'four', 'five'],
      'read without a writer',
    );
    const again = await open({ dir, io });
    t.same(await again.append('orders', 'six'), { offset: 5 });
    await again.close();
  });

  t.test(`${io}: what is appended at once keeps its order, and what is given back is what was given`, async (t) => {
    const { log } = await openSmall({ dir: directory(t), io });
    const big = Buffer.alloc(4000, 1);
    const payloads = Array.from({ length: 3000 }, (_, i) => (i % 100 === 7 ? big : Buffer.from(`record ${i}`)));
    const offsets = await Promise.all(payloads.map((p) => log.append('s', p).then((a) => a.offset)));
    t.ok(
      offsets.every((o, i) => o === i),
      'offsets in the order of the calls',
    );
    const records = await recordsOf(log);
    t.ok(records.every((r, i) => payloads[i].equals(r.payload)));
    t.equal(records.length, 3000);
    t.ok(log.stats().rolls >= 1, 'over a roll');
    await log.close();
  });

  t.test(`${io}: closing makes everything durable that was appended before, awaited or not`, async (t) => {
    const dir = directory(t);
    const { log } = await openSmall({ dir, io, window: quiet, laneBytes: '64KiB' });
    const appends = Array.from({ length: 2000 }, (_, i) => log.append('s', `${i}:`.padEnd(100, 'x')));
    const closed = log.close();
    t.equal(await codeOf(log.append('s', 'late')), 'CLOSED');
    t.equal(await codeOf(log.flush()), 'CLOSED');
    t.equal(await codeOf(log.truncateBefore(0)), 'CLOSED');
    t.throws(() => log.lane(), { code: 'CLOSED' });
    t.equal(log.close(), closed, 'closing twice is one closing');
    await within(closed, 'close');
    const offsets = (await Promise.all(appends)).map((a) => a.offset);
    t.same(
      offsets,
      Array.from({ length: 2000 }, (_, i) => i),
    );
    await log.close();
    t.equal(await codeOf(log.append('s', 'late')), 'CLOSED');
    const { log: again } = await openSmall({ dir, io });
    const records = await recordsOf(again);
    t.ok(records.length === 2000 && records.every((r, i) => text(r).startsWith(`${i}:`)));
    await again.close();
  });
}

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

t.test('flush and close with nothing to do, alone and together', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js' });
  t.equal(await codeOf(log.flush()), 'resolved');
  t.same(await Promise.all([codeOf(log.flush()), codeOf(log.flush()), codeOf(log.truncateBefore(0))]), [
    'resolved',
    'resolved',
    'resolved',
  ]);
  const started = performance.now();
  for (let i = 0; i < 5; i++) await log.flush();
  t.ok(performance.now() - started < 900, 'a flush of an idle log does not wait for its next chore');
  const flush = codeOf(log.flush());
  const close = codeOf(log.close());
  t.equal(await close, 'resolved');
  const code = await flush;
  t.ok(code === 'resolved' || code === 'CLOSED', `a flush overtaken by close: ${code}`);
  t.equal(log.stats().state, 'closed');
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

t.test('a following reader sees what comes, and ends when the log closes', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js' });
  const seen: string[] = [];
  const rare: string[] = [];
  const both = Promise.all([
    (async () => {
      for await (const r of log.read({ follow: true })) seen.push(text(r));
    })(),
    (async () => {
      for await (const r of log.read({ follow: true, stream: 'rare', from: 0 })) rare.push(text(r));
    })(),
  ]);
  for (let i = 0; i < 300; i++) {
    const { offset } = await log.append(i % 50 === 0 ? 'rare' : 's', `${i}`);
    if (i % 60 === 0) await until(() => seen.length > offset, `record ${i} is seen while the log is open`);
  }
  const last = log.append('s', 'last');
  await log.close();
  await last;
  await within(both, 'both readers end');
  t.same(
    seen,
    [...Array.from({ length: 300 }, (_, i) => `${i}`), 'last'],
    'what became durable before the end is read',
  );
  t.same(rare, ['0', '50', '100', '150', '200', '250']);
  t.equal(await codeOf(recordsOf(log)), 'resolved', 'reading after close works');
});

t.test('leaving a following loop leaves nothing behind', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js' });
  await log.appendMany('s', ['a', 'b', 'c']);
  for await (const record of log.read({ follow: true })) if (text(record) === 'b') break;
  await within(log.close(), 'close');
  t.pass();
});

t.test('reading from without, while this process writes: abort ends it', async (t) => {
  const dir = directory(t);
  const { log } = await openSmall({ dir, io: 'js' });
  const stop = new AbortController();
  const seen: string[] = [];
  const done = (async () => {
    for await (const r of read({ dir, follow: true, signal: stop.signal })) seen.push(text(r));
  })();
  for (let i = 0; i < 50; i++) await log.append('s', `${i}`);
  await until(() => seen.length === 50, '50 records');
  stop.abort();
  await within(done, 'the reader ends');
  await log.close();
});

t.test('one writer: a second open here or elsewhere is refused and told by whom; then it may', async (t) => {
  const dir = directory(t);
  const { log } = await openSmall({ dir, io: 'js' });
  await t.rejects(open({ dir, io: 'js' }), {
    code: 'LOCKED',
    message: new RegExp(`this process \\(pid ${process.pid}\\)`),
  });
  t.equal((await childWith(t, dir)).word.split(' ')[0], 'LOCKED');
  t.equal(await codeOf(log.append('s', 'x')), 'resolved', 'the holder is not disturbed');
  await log.close();
  const { child, word } = await childWith(t, dir);
  t.equal(word, 'opened');
  await t.rejects(open({ dir, io: 'js' }), { code: 'LOCKED', message: new RegExp(`process ${child.pid}`) });
  child.kill('SIGKILL');
  await once(child, 'exit');
  const again = await open({ dir, io: 'js' });
  t.equal(again.stats().durableOffset, 1, 'a killed holder is taken over at once');
  await again.close();
});

t.test('directories that cannot be a log', async (t) => {
  const base = directory(t);
  const file = join(base, 'file');
  writeFileSync(file, 'mine');
  await t.rejects(open({ dir: file, io: 'js' }), { code: 'DIR_UNUSABLE', message: /file/ });
  await t.rejects(open({ dir: join(file, 'below'), io: 'js' }), { code: 'DIR_UNUSABLE' });
  t.equal(readFileSync(file, 'utf8'), 'mine');
  const foreign = join(base, 'foreign');
  mkdirSync(foreign);
  writeFileSync(join(foreign, 'letter.txt'), 'mine');
  await t.rejects(open({ dir: foreign, io: 'js' }), { code: 'NOT_A_LOG', message: /letter\.txt/ });
  t.same(readdirSync(foreign), ['letter.txt'], 'untouched');
  t.equal(await codeOf(recordsOf({ read: (o) => read({ dir: foreign, ...o }) })), 'NOT_A_LOG');
  t.equal(await codeOf(recordsOf({ read: (o) => read({ dir: join(base, 'nowhere'), ...o }) })), 'DIR_UNUSABLE');
  t.notOk(existsSync(join(base, 'nowhere')), 'reading makes no directory');
  await t.rejects(open({ dir: base, segmntBytes: 5 } as unknown as { dir: string }), {
    code: 'INVALID_OPTION',
    message: /segmentBytes/,
  });
  await t.rejects(open({} as unknown as { dir: string }), { code: 'INVALID_OPTION', message: /dir/ });
});

t.test('a directory that may not be written', async (t) => {
  const dir = directory(t);
  chmodSync(dir, 0o755);
  const root = process.getuid?.() === 0;
  if (!root) chmodSync(dir, 0o555);
  const { word } = root
    ? await childWith(t, dir, 65534)
    : { word: (await open({ dir, io: 'js' }).catch((e: SpillwayError) => e.code)) as string };
  if (root && /did not start|ended with/.test(word)) {
    t.pass(`SKIPPED: as root, and the program cannot be read by another user (${word})`);
    return;
  }
  t.match(word, /^DIR_UNUSABLE/);
  t.same(readdirSync(dir), [], 'nothing was made');
});

t.test('foreign files beside a log are left alone', async (t) => {
  const dir = directory(t);
  (await openSmall({ dir, io: 'js' }).then(({ log }) => log.append('s', 'x').then(() => log.close()))) as void;
  const names = ['letter.txt', '123.seg', '00000000000000000000.seg.bak', 'other.tmp', 'spare.tmp.txt'];
  for (const f of names) writeFileSync(join(dir, f), 'mine');
  const { log } = await openSmall({ dir, io: 'js' });
  await log.appendMany(
    's',
    Array.from({ length: 500 }, () => Buffer.alloc(1000)),
  );
  await log.truncateBefore(400);
  await log.close();
  for (const f of names) t.equal(readFileSync(join(dir, f), 'utf8'), 'mine', f);
});

t.test('a log of a newer version is refused, and not changed', async (t) => {
  for (const file of ['00000000000000000000.seg', 'checkpoint']) {
    const dir = directory(t);
    const { log } = await openSmall({ dir, io: 'js' });
    await log.append('s', 'x');
    await log.close();
    const bytes = readFileSync(join(dir, file));
    for (const at of file === 'checkpoint' ? [0, 4096] : [0]) {
      bytes.writeUInt16LE(2, at + 4);
      bytes.writeUInt32LE(crc32cJs(bytes.subarray(at, at + 60)), at + 60);
    }
    writeFileSync(join(dir, file), bytes);
    await t.rejects(open({ dir, io: 'js' }), { code: 'UNSUPPORTED_FORMAT', message: /version 2/ }, file);
    t.equal(await codeOf(recordsOf({ read: (o) => read({ dir, ...o }) })), 'UNSUPPORTED_FORMAT', `${file}: reading`);
    t.ok(readFileSync(join(dir, file)).equals(bytes));
    await t.rejects(open({ dir, io: 'js' }), { code: 'UNSUPPORTED_FORMAT' }, 'and the lock was given back');
  }
});

t.test('await using closes', async (t) => {
  const dir = directory(t);
  {
    await using log = await open({ dir, io: 'js' });
    await log.append('s', 'x');
  }
  const log = await open({ dir, io: 'js' });
  t.equal(log.stats().durableOffset, 1);
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
