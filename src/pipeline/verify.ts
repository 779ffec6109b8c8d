// `verify` of log/verify.ts on several threads, with the same result. Once recovery has said what each segment must hold, it is
// checked by itself: every thread, this one too, takes the lowest that nobody has (one shared number) until there is none.
// Segments are taken in order, so when one cannot be read, all below it are with somebody: of several errors, the
// first in the log is thrown, as by one thread.
//
// Limits: VERIFY_THREADS threads, one per VERIFY_THREAD_BYTES of segments, each with one buffer of READ_CHUNK_BYTES or the
// largest batch, and one more where batches are compressed.

import { readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { MessagePort, Worker } from 'node:worker_threads';
import { fromErrorMessage, reasonOf, SpillwayError, toErrorMessage, type ErrorMessage } from '../base/errors.ts';
import { VERIFY_THREAD_BYTES, VERIFY_THREADS } from '../base/limits.ts';
import { batchDecoder } from '../codec/batch-codec.ts';
import { segmentName, sortNames } from '../log/names.ts';
import { recover } from '../log/recovery.ts';
import {
  checkRoom,
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
  const room = checkRoom(batchDecoder);
  for (;;) {
    const number = Atomics.add(next, 0, 1);
    if (number >= checks.length) return;
    const before = io.bytesRead;
    try {
      const report = checkSegment(io, dir, checks[number], room);
      yield { number, bytesRead: io.bytesRead - before, report };
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error;
      Atomics.store(next, 0, checks.length);
      yield { number, bytesRead: io.bytesRead - before, failed: toErrorMessage(error) };
    }
  }
}

/** The body of workers/verify.ts. It starts while recovery looks at the log, and is told what to check after that. */
export function runVerifyThread(port: MessagePort): void {
  port.once('message', (data: VerifyThreadData) => {
    const io = readerIo();
    for (const checked of takeChecks(io, data)) port.postMessage(checked);
    io.destroy();
  });
}

/** By the size of the segments. Where they cannot be looked at, recovery will say why. */
function threadsFor(dir: string): number {
  const most = Math.min(availableParallelism(), VERIFY_THREADS);
  let bytes = 0;
  try {
    for (const baseOffset of sortNames(readdirSync(dir)).segments) {
      bytes += statSync(join(dir, segmentName(baseOffset)), { throwIfNoEntry: false })?.size ?? 0;
      if (bytes >= most * VERIFY_THREAD_BYTES) break;
    }
  } catch {
    return 1;
  }
  return Math.min(most, Math.floor(bytes / VERIFY_THREAD_BYTES));
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
  const crew = new Crew();
  try {
    crew.start((options.threads ?? threadsFor(dir)) - 1);
    const found = recover(io, dir);
    const reports = await checkAll(io, dir, segmentChecks(found), crew, options.onProgress);
    return sumUp(io, dir, found, reports);
  } finally {
    await crew.end();
    io.destroy();
  }
}

async function checkAll(
  io: FileIo,
  dir: string,
  checks: readonly SegmentCheck[],
  crew: Crew,
  onProgress: VerifyOptions['onProgress'] = () => undefined,
): Promise<SegmentReport[]> {
  const data: VerifyThreadData = { dir, checks, next: new Int32Array(new SharedArrayBuffer(4)) };
  const before = io.bytesRead;
  crew.tell(data);
  for (const checked of takeChecks(io, data)) {
    crew.hear(checked);
    // What the others have said by now is heard here.
    await setImmediate();
    await onProgress(before + crew.bytesRead);
  }
  await crew.join();
  await onProgress(before + crew.bytesRead);
  crew.checked.sort((a, b) => a.number - b.number);
  const reports = crew.checked.map((checked) => {
    if ('failed' in checked) throw fromErrorMessage(checked.failed);
    return checked.report;
  });
  if (reports.length < checks.length) {
    const why = crew.died ?? 'without a word';
    throw new SpillwayError('WORKER_DIED', `verify: a thread ended in the midst of a segment: ${why}`);
  }
  return reports;
}

/** The other threads, and what all have found. */
class Crew {
  readonly checked: Checked[] = [];
  bytesRead = 0;
  /** The error by which one ended. */
  died: string | undefined;
  readonly #workers: Worker[] = [];
  readonly #ended: Promise<void>[] = [];

  start(count: number): void {
    while (this.#workers.length < count) {
      const worker = startWorker('verify', undefined);
      worker.on('message', (checked: Checked) => this.hear(checked));
      worker.on('error', (error) => (this.died ??= reasonOf(error)));
      this.#ended.push(new Promise((resolve) => worker.on('exit', () => resolve())));
      this.#workers.push(worker);
    }
  }

  tell(data: VerifyThreadData): void {
    for (const worker of this.#workers) worker.postMessage(data);
  }

  hear(checked: Checked): void {
    this.checked.push(checked);
    this.bytesRead += checked.bytesRead;
  }

  /** Resolves once all have come to their end, and been heard. */
  async join(): Promise<void> {
    await Promise.all(this.#ended);
  }

  /** Ends those that are still there. */
  async end(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
