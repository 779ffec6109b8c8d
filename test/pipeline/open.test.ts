// The public interface, as its callers use it: open, append, read, follow, flush, close. What may be appended, and what closes a
// batch: append.test.ts; which directories: open-directory.test.ts.

import t from 'tap';
import { join } from 'node:path';
import { open, openLane, read, type LogRecord } from '../../src/index.ts';
import { native } from '../../src/platform/native.ts';
import { codeOf, directory, modeNotReached, until, within } from '../support/log-support.ts';
import { endWorkers, openSmall, quiet, recordsOf, text } from '../support/pipeline-logs.ts';
import { workingModes } from '../support/modes.ts';

t.teardown(endWorkers);

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
