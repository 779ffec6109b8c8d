// Uses that went wrong once: found by an attack on the whole, kept so that they stay mended.

import { rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { open, openLane, read, type LaneHandle, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { verifyOnThreads } from '../../src/pipeline/verify.ts';
import { readerIo } from '../../src/platform/choose-io.ts';
import type { WriterTask } from '../support/kill-writer.ts';
import { temporaryDirectory, workingModes } from '../support/modes.ts';
import { VerifyThreads } from '../support/verify-threads.ts';

async function opened(t: Test, options: Partial<LogOptionsInput> = {}): Promise<SpillwayLog> {
  const dir = temporaryDirectory('spillway-hostile-');
  const log = await open({ dir, segmentBytes: '2MiB', ...options });
  t.teardown(async () => {
    await log.close().catch(() => undefined);
    rmSync(dir, { recursive: true, force: true });
  });
  return log;
}

t.test('a transferred buffer is refused, and the lane goes on', async (t) => {
  const log = await opened(t);
  const buffer = new ArrayBuffer(8);
  const view = new Uint8Array(buffer);
  structuredClone(buffer, { transfer: [buffer] });
  await t.rejects(log.append('s', view), { code: 'INVALID_RECORD' });
  await t.rejects(log.append('s', 'x', { key: view }), { code: 'INVALID_RECORD' });
  t.same(await log.append('s', 'two'), { offset: 0 });
  t.same(await log.append('s', new Uint8Array(0)), { offset: 1 }, 'an empty record is none of that');
});

t.test('a buffer used again while its append waits for a full lane: the bytes of the call are stored', async (t) => {
  const log = await opened(t, { laneBytes: '256KiB', maxRecordBytes: '64KiB', window: { maxBytes: '64KiB' } });
  const buffer = Buffer.alloc(60_000);
  const appends: Promise<unknown>[] = [];
  for (let i = 0; i < 20; i++) {
    buffer.fill(65 + i);
    appends.push(log.append('s', buffer));
  }
  await Promise.all(appends);
  let text = '';
  for await (const r of log.read()) text += String.fromCharCode(r.payload[0]);
  t.equal(text, 'ABCDEFGHIJKLMNOPQRST');
});

t.test('what is not an array, an option or an offset is refused with a code, never left hanging', async (t) => {
  const log = await opened(t);
  for (const payloads of ['abc', 5, null, undefined, new Set(['a']), new Uint8Array(3), { length: 1, 0: 'a' }]) {
    await t.rejects(log.appendMany('s', payloads as never), { code: 'INVALID_RECORD' });
  }
  for (const options of [null, 'key', { kee: 'x' }]) {
    await t.rejects(log.append('s', 'a', options as never), { code: 'INVALID_OPTION' });
  }
  for (const offset of [NaN, -1, 1.5, '5', Symbol('x'), () => 1, 99]) {
    await t.rejects(log.truncateBefore(offset as never), { code: 'OFFSET_OUT_OF_RANGE' });
  }
  for (const options of [undefined, {}, { dir: 5 }]) {
    await t.rejects(read(options as never).next(), { code: 'INVALID_OPTION' });
  }
  for (const handle of [undefined, {}, { shared: 1, lane: 2 }]) {
    t.throws(() => openLane(handle as never), { code: 'INVALID_OPTION' });
  }
  t.equal(log.stats().records, 0);
});

t.test('close does not wait for a lane that another thread keeps filling', async (t) => {
  const log = await opened(t, { window: { lingerMs: 0 }, segmentBytes: '64MiB' });
  const code = `
    const { workerData } = require('node:worker_threads');
    import(workerData.index).then(async ({ openLane }) => {
      const lane = openLane(workerData.handle);
      const one = async () => { for (;;) await lane.append('w', 'x'.repeat(200)); };
      await Promise.all(Array.from({ length: 5000 }, one)).catch(() => undefined);
    });`;
  const index = new URL('../../src/index.js', import.meta.url).href;
  const handle: LaneHandle = log.lane();
  const worker = new Worker(code, { eval: true, workerData: { index, handle } });
  while (log.stats().records < 20_000) await new Promise((resolve) => setImmediate(resolve));
  await log.close();
  t.equal(log.stats().state, 'closed');
  await once(worker, 'exit');
});

t.test('an idle following read ends when its signal aborts', async (t) => {
  const log = await opened(t);
  await log.append('s', 'a');
  const abort = new AbortController();
  const records = log.read({ follow: true, signal: abort.signal });
  t.equal((await records.next()).value?.offset, 0);
  const next = records.next();
  abort.abort();
  t.equal((await next).done, true);
});

t.test('retentionMs applies to an idle log', async (t) => {
  const log = await opened(t, {
    segmentBytes: '128KiB',
    laneBytes: '256KiB',
    maxRecordBytes: '16KiB',
    window: { maxBytes: '64KiB', lingerMs: 0 },
    retentionMs: 1,
  });
  for (let i = 0; i < 40; i++) await log.append('s', Buffer.alloc(16_000));
  while (log.stats().segments > 1) await new Promise((resolve) => setImmediate(resolve));
  t.ok(log.stats().startOffset > 0, 'only the active segment is left');
});

t.test('verify of a log that is written, rolled and truncated meanwhile finds nothing wrong', async (t) => {
  const dir = temporaryDirectory('spillway-live-');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const task: WriterTask = { dir, io: workingModes[0], run: 1, threads: 1, retentionBytes: 0, codec: 'none' };
  const entry = fileURLToPath(new URL('../support/kill-writer.js', import.meta.url));
  const writer = spawn(process.execPath, [entry, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'inherit'] });
  // It tells 'O' once it is open, 'a …' of each acknowledgement.
  for (let told = ''; !told.includes('\na ');) told += String((await once(writer.stdout, 'data'))[0]);
  writer.stdout.resume();
  let segments = 0;
  const io = readerIo();
  const threads = new VerifyThreads();
  t.teardown(() => threads.stop());
  const { onProgress } = threads;
  // The writer goes on only while its pipe is read: let it, between two looks.
  for (let looks = 0; looks < 400 && (looks < 8 || segments < 4); looks++) {
    await new Promise((resolve) => setImmediate(resolve));
    // One thread and several, in turns.
    const result = looks % 2 === 0 ? verify(io, dir) : await verifyOnThreads(dir, { threads: 3, onProgress });
    segments = Math.max(segments, result.segments);
    t.same(result.problems, []);
  }
  t.ok(threads.said.length > 0, 'several threads have checked segments of it');
  t.ok(segments >= 4, `it rolled meanwhile: ${segments} segments`);
  writer.kill('SIGKILL');
  await once(writer, 'exit');
});
