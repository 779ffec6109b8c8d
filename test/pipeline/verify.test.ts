// verify on several threads: what it reports is what one thread reports, whatever is damaged, and whatever becomes of them.

import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import type { SpillwayError } from '../../src/base/errors.ts';
import { BLOCK_BYTES, VERIFY_THREAD_BYTES } from '../../src/base/limits.ts';
import { verify, type Verified } from '../../src/log/verify.ts';
import { verifyOnThreads } from '../../src/pipeline/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { copyOf, directory, within } from '../support/log-support.ts';
import { fill, filesOf, openLog, thrown } from '../support/log-plans.ts';
import { VerifyThreads } from '../support/verify-threads.ts';

const THREADS = 3;

const dir = directory(t);
{
  const { log } = openLog(dir, 'js');
  fill(log, 170, { streamOf: (o) => `s${o % 3}` });
  log.truncateBefore(log.durableOffset - 3000);
  log.close();
}
const segments = filesOf(dir, '.seg');
t.ok(segments.length >= 10, `${segments.length} segments`);

async function onThreads(t: Test, where: string): Promise<Verified> {
  const threads = new VerifyThreads();
  t.teardown(() => threads.stop());
  const verified = await verifyOnThreads(where, { threads: THREADS, onProgress: threads.onProgress });
  threads.stop();
  t.equal(threads.started.length, THREADS - 1, 'the others are workers');
  t.ok(threads.said.length > 0, 'and they have checked segments');
  return verified;
}

function flip(path: string, position: number): void {
  const bytes = readFileSync(path);
  bytes[position % bytes.length] ^= 1 << (position % 8);
  writeFileSync(path, bytes);
}

t.test('a whole log', async (t) => {
  const expected = verify(new JsIo(), dir);
  t.match(expected, { ok: true, records: 3000, segments: segments.length });
  t.same(await onThreads(t, dir), expected);
});

t.test('damage in every sealed segment is told in its order', async (t) => {
  const copy = copyOf(t, dir);
  const sealed = segments.slice(0, -1);
  for (const name of sealed) flip(join(copy, name), 2 * BLOCK_BYTES + 100);
  const found = await onThreads(t, copy);
  t.same(found, verify(new JsIo(), copy));
  t.same(
    found.problems.map((p) => p.file),
    sealed,
  );
});

// Numerical Recipes' generator: the same damage in every run.
let state = 20_261_121;
const random = (below: number): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) % below;

for (let round = 1; round <= 24; round++) {
  t.test(`random damage, round ${round}: the same report as of one thread`, async (t) => {
    const copy = copyOf(t, dir);
    const files = [...segments, ...filesOf(dir, '.idx'), 'checkpoint'];
    for (let hits = 1 + random(6); hits > 0; hits--) {
      const path = join(copy, files.splice(random(files.length), 1)[0]);
      const bytes = readFileSync(path);
      const at = random(bytes.length);
      const how = random(8);
      if (how === 0) rmSync(path);
      else if (how === 1) truncateSync(path, at);
      else if (how === 2) writeFileSync(path, bytes.fill(0, at, at + 3 * BLOCK_BYTES));
      else for (let bits = random(8); bits >= 0; bits--) flip(path, random(bytes.length));
    }
    t.same(await onThreads(t, copy), verify(new JsIo(), copy));
  });
}

for (const count of [2, THREADS]) {
  t.test(`segments that cannot be read, ${count} threads: the error of the first, as of one thread`, async (t) => {
    const copy = copyOf(t, dir);
    const unreadable = segments.slice(5, 9).map((name) => join(copy, name));
    const spoil = (): void => {
      for (const path of unreadable) {
        rmSync(path, { force: true, recursive: true });
        mkdirSync(path);
      }
    };
    const threads = new VerifyThreads(spoil, (said) => said.some((s) => s.failed !== undefined));
    t.teardown(() => threads.stop());
    const { onProgress } = threads;
    const error = await verifyOnThreads(copy, { threads: count, onProgress }).catch((e: SpillwayError) => e);
    const { message } = thrown(() => verify(new JsIo(), copy));
    t.match(error, { code: 'IO_ERROR', message, details: { errno: 'EISDIR', subject: unreadable[0] } });
    const failed = threads.said.filter((s) => s.failed !== undefined).length;
    t.ok(failed >= 1 && failed < count, 'another thread met it, and no segment was taken after that');
    threads.stop();
  });
}

t.test('what is no log is refused in the same words', async (t) => {
  const foreign = directory(t);
  writeFileSync(join(foreign, 'letter.txt'), 'x');
  for (const where of [foreign, join(foreign, 'nothing-here'), join(foreign, 'letter.txt')]) {
    const { code, message } = thrown(() => verify(new JsIo(), where));
    await t.rejects(verifyOnThreads(where), { code, message });
    await t.rejects(verifyOnThreads(where, { threads: THREADS }), { code, message });
  }
});

for (const [reason, end] of [
  ['without a word', () => undefined],
  ['no memory', (worker) => void worker.emit('error', new Error('no memory'))],
] as [string, (worker: Worker) => void][]) {
  t.test(`a thread takes segments and ends, nothing of them is heard (${reason}): an error, and no hang`, async (t) => {
    const threads = new VerifyThreads((worker) => {
      worker.removeAllListeners('message');
      end(worker);
    });
    t.teardown(() => threads.stop());
    const verified = verifyOnThreads(dir, { threads: 2, onProgress: threads.onProgress });
    const message = `verify: a thread ended in the midst of a segment: ${reason}`;
    await t.rejects(within(verified, 'settled', 30_000), { code: 'WORKER_DIED', message });
    t.ok(threads.said.length > 0, 'it had taken some');
  });
}

t.test('a thread is terminated: the whole report or an error, and no hang', async (t) => {
  const expected = verify(new JsIo(), dir);
  for (const [when, end] of [
    ['as it starts', (worker) => void worker.terminate()],
    ['after its first segment', (worker) => worker.once('message', () => void worker.terminate())],
  ] as [string, (worker: Worker) => void][]) {
    const threads = new VerifyThreads(end);
    t.teardown(() => threads.stop());
    const verified = verifyOnThreads(dir, { threads: 2, onProgress: threads.onProgress });
    const outcome = await within(verified, 'settled', 30_000).catch((error: SpillwayError) => error.code);
    t.same(outcome, outcome === 'WORKER_DIED' ? outcome : expected, when);
    t.equal(threads.started.length, 1);
    threads.stop();
  }
});

t.test('a callback that throws ends it, and leaves no thread behind', async (t) => {
  let exited = 0;
  const threads = new VerifyThreads((worker) => worker.on('exit', () => exited++));
  t.teardown(() => threads.stop());
  const onProgress = (): void => {
    throw new Error('enough');
  };
  await t.rejects(verifyOnThreads(dir, { threads: THREADS, onProgress }), { message: 'enough' });
  t.equal(exited, THREADS - 1);
  t.ok(threads.said.length < segments.length - 1, 'nor do they go on');
});

t.test('progress grows to all bytes that were read', async (t) => {
  const io = new JsIo();
  verify(io, dir);
  const seen: number[] = [];
  await verifyOnThreads(dir, { threads: THREADS, onProgress: (bytes) => void seen.push(bytes) });
  t.equal(seen.at(-1), io.bytesRead);
  t.same(
    seen,
    seen.toSorted((a, b) => a - b),
  );
});

t.test('as many threads as the log is worth: a small one is checked by this thread alone', async (t) => {
  for (const [large, expected] of [
    [0, 1],
    [2, 2],
  ]) {
    const copy = copyOf(t, dir);
    // Holes, they take no room. A sealed segment may have any room behind its batches.
    for (const name of segments.slice(0, large)) truncateSync(join(copy, name), VERIFY_THREAD_BYTES);
    const threads = new VerifyThreads();
    t.teardown(() => threads.stop());
    t.equal((await verifyOnThreads(copy)).ok, true);
    threads.stop();
    t.equal(1 + threads.started.length, Math.min(availableParallelism(), expected), `${large} large segments`);
  }
});
