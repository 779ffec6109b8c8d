// `verify` of log/verify.ts on several threads, with the same result. Once recovery has said what each segment must hold, it is
// checked by itself: every thread, this one too, takes the lowest that nobody has (one shared number) until there is none.
// Segments are taken in order, so when one cannot be read, all below it are with somebody: of several errors, the
// first in the log is thrown, as by one thread.
//
// Limits: VERIFY_THREADS threads, one per VERIFY_THREAD_BYTES of segments, each with one buffer of READ_CHUNK_BYTES or the
// largest batch.

import { availableParallelism } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import type { MessagePort, Worker } from 'node:worker_threads';
import { fromErrorMessage, reasonOf, SpillwayError, toErrorMessage, type ErrorMessage } from '../base/errors.ts';
import { READ_CHUNK_BYTES, VERIFY_THREAD_BYTES, VERIFY_THREADS } from '../base/limits.ts';
import { recover, type Recovered } from '../log/recovery.ts';
import {
  checkSegment,
  segmentChecks,
  sumUp,
  type SegmentCheck,
  type SegmentReport,
  type Verified,
} from '../log/verify.ts';
import { readerIo } from '../platform/choose-io.ts';
import type { FileIo } from '../platform/file-io.ts';
import { startWorker } from '../platform/threads.ts';

export interface VerifyThreadData {
  readonly dir: string;
  readonly checks: readonly SegmentCheck[];
  /** One word: number of the next check that nobody has taken. */
  readonly next: Int32Array;
}

/** What became of one check; `bytesRead` to do it. */
type Checked = { readonly number: number; readonly bytesRead: number } & (
  | { readonly report: SegmentReport }
  | { readonly failed: ErrorMessage }
);

/** Takes one check after the other until all are taken, or one has failed anywhere. */
function* takeChecks(io: FileIo, { dir, checks, next }: VerifyThreadData): Generator<Checked, void, undefined> {
  const buffer = Buffer.allocUnsafeSlow(READ_CHUNK_BYTES);
  for (;;) {
    const number = Atomics.add(next, 0, 1);
    if (number >= checks.length) return;
    const before = io.bytesRead;
    try {
      const report = checkSegment(io, dir, checks[number], buffer);
      yield { number, bytesRead: io.bytesRead - before, report };
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error;
      takeNoMore(next, checks);
      yield { number, bytesRead: io.bytesRead - before, failed: toErrorMessage(error) };
    }
  }
}

function takeNoMore(next: Int32Array, checks: readonly SegmentCheck[]): void {
  Atomics.store(next, 0, checks.length);
}

/** The body of workers/verify.ts. */
export function runVerifyThread(data: VerifyThreadData, port: MessagePort): void {
  const io = readerIo();
  for (const checked of takeChecks(io, data)) port.postMessage(checked);
  io.destroy();
}

function threadsFor(found: Recovered): number {
  const bytes = found.segments.reduce((sum, s) => sum + s.fileBytes, 0);
  return Math.min(availableParallelism(), VERIFY_THREADS, Math.floor(bytes / VERIFY_THREAD_BYTES));
}

export interface VerifyOptions {
  /** Called after each segment that this thread has checked, with the bytes that all have read; it goes on when that is settled. */
  readonly onProgress?: (bytes: number) => void | Promise<void>;
  /** How many threads check; by processors and size of the log otherwise. */
  readonly threads?: number;
}

/** @throws as `verify` of log/verify.ts; WORKER_DIED where a thread took a segment and ended without a word of it */
export async function verifyOnThreads(dir: string, options: VerifyOptions = {}): Promise<Verified> {
  const io = readerIo();
  try {
    const found = recover(io, dir);
    const checks = segmentChecks(found);
    const threads = Math.min(checks.length, options.threads ?? threadsFor(found));
    const reports = await checkAll(io, dir, checks, threads, options.onProgress ?? (() => undefined));
    return sumUp(io, dir, found, reports);
  } finally {
    io.destroy();
  }
}

async function checkAll(
  io: FileIo,
  dir: string,
  checks: readonly SegmentCheck[],
  threads: number,
  onProgress: (bytes: number) => void | Promise<void>,
): Promise<SegmentReport[]> {
  const data: VerifyThreadData = { dir, checks, next: new Int32Array(new SharedArrayBuffer(4)) };
  const done: Checked[] = [];
  let bytesRead = io.bytesRead;
  const hear = (checked: Checked): void => {
    done.push(checked);
    bytesRead += checked.bytesRead;
  };
  let died: string | undefined;
  const joined: Promise<void>[] = [];
  try {
    while (joined.length < threads - 1) {
      const worker = startWorker('verify', data);
      joined.push(join(worker, hear, (why) => (died ??= why)));
    }
    for (const checked of takeChecks(io, data)) {
      hear(checked);
      // What the other threads have said by now is heard here.
      await setImmediate();
      await onProgress(bytesRead);
    }
  } finally {
    takeNoMore(data.next, checks);
    await Promise.all(joined);
  }
  await onProgress(bytesRead);
  done.sort((a, b) => a.number - b.number);
  const reports = done.map((checked) => {
    if ('failed' in checked) throw fromErrorMessage(checked.failed);
    return checked.report;
  });
  if (reports.length < checks.length) {
    throw new SpillwayError(
      'WORKER_DIED',
      `verify: a thread ended in the midst of a segment: ${died ?? 'without a word'}`,
    );
  }
  return reports;
}

/** Resolves once the thread is gone. @param onDeath called where it ends by an error */
function join(worker: Worker, hear: (checked: Checked) => void, onDeath: (why: string) => void): Promise<void> {
  worker.on('message', hear);
  worker.on('error', (error) => onDeath(reasonOf(error)));
  return new Promise((resolve) => worker.on('exit', () => resolve()));
}
