// The threads that run the CPU stage of requests (codec/request.ts), and what keeps them bounded.
//
// Promises:
//   - a plain body of at most DECODE_INLINE_BYTES without a schema is done at once, on the calling thread;
//   - memory moves both ways and is never copied, unless the body is a view of a part of its buffer;
//   - at most `threads` tasks run; the others wait in order, bounded in bytes (`maxWaitingBytes`, each body with
//     WAITER_OVERHEAD_BYTES) and in time (`maxWaitMs`, or what the call says); beyond that a task is refused: BACKLOG_FULL;
//   - a task has DECODE_TASK_MS, then its thread is ended and replaced. The others are not touched. Where a schema was to be checked,
//     the refusal is final (SCHEMA_MISMATCH): whoever repeated such a record would take the thread from the others again.
// Limits: a heap cap does not contain a hostile record. V8 ends the thread where it runs out of heap slowly, and the whole process
// where a single allocation does not fit. So the cap has to hold the largest record that a schema parses: decodeHeapMiB.

import type { ResourceLimits } from 'node:worker_threads';
import { FixedQueue, Piscina } from 'piscina';
import { fromErrorMessage, reasonOf, SpillwayError, type ErrorMessage } from '../base/errors.ts';
import {
  DECODE_HEAP_MIB,
  DECODE_HEAP_PER_RECORD_BYTE,
  DECODE_INLINE_BYTES,
  DECODE_TASK_MS,
  DECODE_WAITING_BYTES,
  WAITER_OVERHEAD_BYTES,
} from '../base/limits.ts';
import { decodeRequest, type DecodedRequest, type DecodeTask } from '../codec/request.ts';
import { ByteBudget } from '../flow/budget.ts';
import { workerEnvironment, workerUrl } from '../platform/threads.ts';

const MIB = 1024 * 1024;

export interface DecodePoolOptions {
  readonly threads: number;
  /** Heap caps of a thread, decodeHeapMiB at least. Default: that of records of 1 MiB. */
  readonly resourceLimits?: ResourceLimits;
  /** Default DECODE_WAITING_BYTES. */
  readonly maxWaitingBytes?: number;
  /** How long a task waits for a thread where its call does not say. Default: without end. */
  readonly maxWaitMs?: number;
  /** Default DECODE_TASK_MS. */
  readonly taskMs?: number;
}

/** Old space that a decode thread needs, where a schema parses records as large as that. */
export function decodeHeapMiB(maxRecordBytes: number): number {
  return DECODE_HEAP_MIB + Math.ceil((maxRecordBytes * DECODE_HEAP_PER_RECORD_BYTE) / MIB);
}

/** What a decode thread answers: an error of ours crosses as a value, since structured clone keeps no class. */
export type DecodeReply = { readonly decoded: DecodedRequest } | { readonly error: ErrorMessage };

export class DecodePool {
  readonly #pool: Piscina<DecodeTask, DecodeReply>;
  /** One per thread, given in order. */
  readonly #threads: ByteBudget;
  readonly #threadCount: number;
  readonly #maxWaitingBytes: number;
  readonly #maxWaitMs: number;
  readonly #taskMs: number;
  #waitingBytes = 0;
  #closed: Promise<void> | undefined;

  constructor(options: DecodePoolOptions) {
    const { threads, resourceLimits = { maxOldGenerationSizeMb: decodeHeapMiB(MIB) } } = options;
    this.#threadCount = threads;
    this.#threads = new ByteBudget(threads);
    this.#maxWaitingBytes = options.maxWaitingBytes ?? DECODE_WAITING_BYTES;
    this.#maxWaitMs = options.maxWaitMs ?? Infinity;
    this.#taskMs = options.taskMs ?? DECODE_TASK_MS;
    this.#pool = new Piscina({
      filename: workerUrl('decode').href,
      minThreads: threads,
      maxThreads: threads,
      maxQueue: threads,
      // Its default queue is one object for all pools of the thread.
      taskQueue: new FixedQueue(),
      // Measured with gzip bodies of 1 MiB: no difference to 'async'. Of 16 KiB: 0.11 ms a task against 0.12.
      atomics: 'disabled',
      recordTiming: false,
      execArgv: [],
      env: workerEnvironment(),
      resourceLimits,
    });
    // A thread that ends while idle is replaced; without a listener the event would end the process.
    this.#pool.on('error', () => undefined);
    // Node 20 aborts the process where a thread is ended while it still loads its modules (ModuleWrap::InstantiateSync): each is
    // given a first task, and neither another nor its end before that is done.
    this.#threads.tryAcquire(threads);
    for (let i = 0; i < threads; i++) void this.#load();
  }

  async #load(): Promise<void> {
    const limits = { maxRecords: 1, maxRecordBytes: 1, maxBytes: 1 };
    const task: DecodeTask = { body: new Uint8Array(1), encoding: 'identity', shape: 'bytes', limits };
    // Where it fails, so will the next, and that is told.
    await this.#pool.run(task).catch(() => undefined);
    this.#threads.release(1);
  }

  /** Bodies that wait for a thread, in bytes. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /**
   * Takes the task's body: do not touch it again, its memory may have moved.
   * Rejects as decodeRequest throws; with BACKLOG_FULL, DRAINING once closed, WORKER_DIED where the thread ended; where it takes
   * too long with SCHEMA_MISMATCH if it has a schema, else BACKLOG_FULL.
   * @param timeoutMs how long it may wait for a thread
   */
  async decode(task: DecodeTask, timeoutMs = this.#maxWaitMs): Promise<DecodedRequest> {
    if (this.#closed !== undefined) throw new SpillwayError('DRAINING', 'the decode threads are closed');
    const isPlain = task.encoding === 'identity' && task.schema === undefined;
    if (isPlain && task.body.length <= DECODE_INLINE_BYTES) return decodeRequest(task);
    if (!this.#threads.tryAcquire(1)) {
      await this.#wait(task.body.length + WAITER_OVERHEAD_BYTES, timeoutMs);
    }
    try {
      return await this.#run(task);
    } finally {
      this.#threads.release(1);
    }
  }

  /** Takes nothing new, finishes what it has, ends the threads. */
  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    await this.#threads.acquire(this.#threadCount, { timeoutMs: Infinity });
    await this.#pool.destroy();
  }

  async #wait(bytes: number, timeoutMs: number): Promise<void> {
    if (this.#waitingBytes + bytes > this.#maxWaitingBytes && this.#waitingBytes > 0) {
      const message = `decode: ${this.#waitingBytes} bytes wait for a thread, at most ${this.#maxWaitingBytes} may`;
      throw new SpillwayError('BACKLOG_FULL', message);
    }
    this.#waitingBytes += bytes;
    const granted = await this.#threads.acquire(1, { timeoutMs });
    this.#waitingBytes -= bytes;
    if (!granted)
      throw new SpillwayError('BACKLOG_FULL', `decode: no thread was free within ${Math.ceil(timeoutMs)} ms`);
  }

  async #run(task: DecodeTask): Promise<DecodedRequest> {
    const body = movable(task.body);
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), this.#taskMs);
    try {
      const options = { transferList: [body.buffer], signal: late.signal };
      const reply = await this.#pool.run({ ...task, body }, options);
      if ('error' in reply) throw fromErrorMessage(reply.error);
      return reply.decoded;
    } catch (error) {
      if (error instanceof SpillwayError) throw error;
      if (late.signal.aborted) throw tookTooLong(task, this.#taskMs);
      throw new SpillwayError('WORKER_DIED', `decode: a thread ended: ${reasonOf(error)}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Without a schema the work is bounded by the body: what takes this long is a machine that is short of CPU. */
function tookTooLong({ schema }: DecodeTask, taskMs: number): SpillwayError {
  if (schema === undefined) return new SpillwayError('BACKLOG_FULL', `decode: not done within ${taskMs} ms`);
  const message = `the check against the schema of the stream took longer than ${taskMs} ms: its records are refused`;
  return new SpillwayError('SCHEMA_MISMATCH', message);
}

/** The body, in a buffer that nobody else has a part of. */
function movable(body: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = body;
  const own = buffer instanceof ArrayBuffer && byteOffset === 0 && buffer.byteLength === length;
  return own ? new Uint8Array(buffer) : new Uint8Array(body);
}
