// The producing side as callers use it: promises over one lane. Per thread; order of calls is order in the log.
//
// An append that finds room goes into the lane at once. One that does not waits in `#blocked`, first come first served,
// bounded by maxWaitingBytes: policy `block`. Other policies would decide in `#admit`, and only there.

import { SpillwayError } from '../base/errors.ts';
import { KEEP_ALIVE_MS, MAX_KEY_BYTES, MAX_STREAM_IDS, WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import { checkKeys, type LogOptions } from '../base/options.ts';
import type { Clock } from '../base/clock.ts';
import { FLAG_UNTERMINATED, laneLatency } from '../platform/lane-memory.ts';
import { LaneProducer } from '../platform/lane-producer.ts';
import type { Histogram } from '../platform/histogram.ts';
import { SharedState } from '../platform/shared-state.ts';
import { signalled } from '../platform/waiter.ts';

/** What `append` takes as a record's bytes; text is stored as UTF-8. */
export type Payload = Uint8Array | string;

export interface AppendOptions {
  /** Kept with the record; at most 65,535 bytes. One of 0 bytes is none. */
  readonly key?: Payload;
  /** Marks the last line of a text that ended without a newline. */
  readonly unterminated?: boolean;
}

export interface Appended {
  readonly offset: number;
}

export interface AppendedMany {
  readonly firstOffset: number;
  /** Records of other lanes may stand between the first and the last. */
  readonly lastOffset: number;
}

/** A lane on its way to another thread: structured-cloneable. */
export interface LaneHandle {
  readonly shared: SharedArrayBuffer;
  readonly lane: SharedArrayBuffer;
  readonly limits: Pick<LogOptions, 'maxRecordBytes' | 'maxWaitingBytes'>;
}

/** Records of one call, from put to acknowledgement. */
interface Job {
  readonly stream: string;
  readonly flags: number;
  key: Uint8Array | null;
  /** Let go once all are in the lane: nobody keeps the caller's bytes until they are acknowledged. */
  payloads: readonly Uint8Array[];
  readonly records: number;
  readonly bytes: number;
  readonly startedMs: number;
  /** Payloads put into the lane so far. */
  put: number;
  /** Records acknowledged so far. */
  acked: number;
  firstOffset: number;
  readonly resolve: (result: AppendedMany) => void;
  readonly reject: (error: SpillwayError) => void;
}

const noOptions: AppendOptions = {};
const noPayloads: readonly Uint8Array[] = [];
const noBytes = new Uint8Array(0);
/** Settled jobs that may stand at the front of the list before it is cut. */
const FORGET_JOBS = 256;

/** Those payloads from `put` on, in one piece of memory: an allocation per record would cost more than the record. */
function copied(payloads: readonly Uint8Array[], put: number): readonly Uint8Array[] {
  let bytes = 0;
  for (let i = put; i < payloads.length; i++) bytes += payloads[i].length;
  const copy = new Uint8Array(bytes);
  let at = 0;
  return payloads.map((p, i) => {
    if (i < put) return noBytes;
    copy.set(p, at);
    return copy.subarray(at, (at += p.length));
  });
}

/** A view over a transferred ArrayBuffer has length 0 and throws on use; `detached` is not there before Node 22. */
function isDetached(view: Uint8Array): boolean {
  try {
    return new Uint8Array(view.buffer).length < 0;
  } catch {
    return true;
  }
}

// Hot: per record. The message is only put together when it is needed.
function toBytes(payload: unknown, name: string, index?: number): Uint8Array {
  if (payload instanceof Uint8Array) {
    if (payload.length > 0 || !isDetached(payload)) return payload;
    throw new SpillwayError('INVALID_RECORD', `${name}: its ArrayBuffer was transferred away`, { subject: name });
  }
  if (typeof payload === 'string') return Buffer.from(payload, 'utf8');
  const what = index === undefined ? name : `${name} ${index}`;
  throw new SpillwayError(
    'INVALID_RECORD',
    `${what}: expected a Uint8Array or a string, got ${payload === null ? 'null' : typeof payload}`,
    {
      subject: what,
    },
  );
}

export class Lane {
  readonly #shared: SharedState;
  readonly #producer: LaneProducer;
  readonly #limits: LaneHandle['limits'];
  readonly #clock: Clock;
  readonly #latency: Histogram;
  readonly #streams = new Map<string, number>();
  /** In the lane, not yet acknowledged, oldest first; `#head` counts those done with at the front. */
  #pending: Job[] = [];
  #head = 0;
  #blocked: Job[] = [];
  #blockedBytes = 0;
  #watching = false;
  #refusing = false;
  #closing: Promise<void> | undefined;
  readonly #keepAlive: NodeJS.Timeout;
  readonly #run = { firstOffset: 0, records: 0 };
  readonly #idleWaiters: (() => void)[] = [];

  /** @throws LANE_TAKEN */
  constructor(handle: LaneHandle, clock: Clock) {
    this.#shared = new SharedState(handle.shared);
    const producer = LaneProducer.take(handle.lane, this.#shared);
    if (producer === undefined) throw new SpillwayError('LANE_TAKEN', 'this lane already has, or had, a producer');
    this.#producer = producer;
    this.#limits = handle.limits;
    this.#clock = clock;
    this.#latency = laneLatency(handle.lane);
    this.#keepAlive = setInterval(() => this.#settle(), KEEP_ALIVE_MS);
    this.#keepAlive.unref();
  }

  /**
   * Appends one record. Resolves with its offset once it is on stable storage.
   * Rejects with INVALID_STREAM, INVALID_RECORD, RECORD_TOO_LARGE, BACKLOG_FULL, TOO_MANY_STREAMS, CLOSED (not appended);
   * POISONED, WORKER_DIED (may or may not be in the log).
   */
  append(stream: string, payload: Payload, options: AppendOptions = noOptions): Promise<Appended> {
    return new Promise<Appended>((resolve, reject) => {
      const done = (result: AppendedMany): void => resolve({ offset: result.firstOffset });
      this.#admit(this.#checked(stream, [payload], options, done, reject));
    });
  }

  /**
   * Appends records in order. Resolves once all are on stable storage; refuses all if one is refused. A crash may leave
   * a prefix of them. Rejects as `append` does.
   */
  appendMany(stream: string, payloads: readonly Payload[], options: AppendOptions = noOptions): Promise<AppendedMany> {
    return new Promise<AppendedMany>((resolve, reject) => {
      // What is thrown here rejects the promise: a caller's mistake is never a synchronous exception.
      this.#admit(this.#checked(stream, payloads, options, resolve, reject));
    });
  }

  /** Resolves once everything that waits for room is in the lane, or was rejected. */
  async allPut(): Promise<void> {
    while (this.#blocked.length > 0) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Refuses new records, waits for those under way, and gives the lane back. Closing twice is fine. */
  close(): Promise<void> {
    this.#refusing = true;
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Refuses new records; `close` then waits for those under way. */
  refuse(): void {
    this.#refusing = true;
  }

  async #close(): Promise<void> {
    while (this.#blocked.length > 0 || this.#unacknowledged > 0) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
    clearInterval(this.#keepAlive);
    this.#producer.close();
  }

  get #unacknowledged(): number {
    return this.#pending.length - this.#head;
  }

  #checked(
    stream: string,
    payloads: readonly Payload[],
    options: AppendOptions,
    resolve: Job['resolve'],
    reject: Job['reject'],
  ): Job {
    if (!this.#streams.has(stream)) checkStreamName(stream);
    if (options !== noOptions) checkKeys(options, ['key', 'unterminated'], 'append options');
    if (!Array.isArray(payloads))
      throw new SpillwayError('INVALID_RECORD', 'appendMany: expected an array of payloads');
    if (payloads.length === 0)
      throw new SpillwayError('INVALID_RECORD', 'appendMany: expected at least one payload, got none');
    const key = options.key === undefined ? null : toBytes(options.key, 'key');
    const keyBytes = key?.length ?? 0;
    if (keyBytes > MAX_KEY_BYTES) {
      throw new SpillwayError('INVALID_RECORD', `key: expected at most ${MAX_KEY_BYTES} bytes, got ${keyBytes}`, {
        subject: 'key',
      });
    }
    // The caller's own array, where it holds no text: what cannot be put at once is copied before this call returns.
    let list: Uint8Array[] | undefined;
    let bytes = 0;
    for (let i = 0; i < payloads.length; i++) {
      const payload = toBytes(payloads[i], 'payload', i);
      if (keyBytes + payload.length > this.#limits.maxRecordBytes) {
        throw new SpillwayError(
          'RECORD_TOO_LARGE',
          `payload ${i}: expected at most maxRecordBytes (${this.#limits.maxRecordBytes}) with its key, got ${keyBytes + payload.length}`,
          { subject: String(i) },
        );
      }
      if (payload !== payloads[i]) list ??= payloads.slice(0, i) as Uint8Array[];
      list?.push(payload);
      bytes += payload.length + keyBytes + WAITER_OVERHEAD_BYTES;
    }
    const flags = options.unterminated === true ? FLAG_UNTERMINATED : 0;
    const startedMs = this.#clock.monotonicMs();
    const records = payloads.length;
    const own = list ?? (payloads as readonly Uint8Array[]);
    return {
      stream,
      flags,
      key,
      payloads: own,
      records,
      bytes,
      startedMs,
      put: 0,
      acked: 0,
      firstOffset: -1,
      resolve,
      reject,
    };
  }

  /** The seam for overflow policies. */
  #admit(job: Job): void {
    const failure = this.#failure();
    if (failure !== undefined) throw failure;
    if (this.#refusing || this.#shared.state === 'draining')
      throw new SpillwayError('CLOSED', 'the log is closed: the record was not appended');
    if (this.#blocked.length === 0 && this.#put(job)) {
      this.#watch();
      return;
    }
    // A single job larger than the bound may wait if it is the first: else it could never be appended.
    if (this.#blockedBytes > 0 && this.#blockedBytes + job.bytes > this.#limits.maxWaitingBytes) {
      throw new SpillwayError(
        'BACKLOG_FULL',
        `the lane is full and appends of ${this.#blockedBytes} bytes wait for it already (maxWaitingBytes ` +
          `${this.#limits.maxWaitingBytes}): await the promises, or slow down`,
      );
    }
    // The caller may use its buffers again while this waits: what waits is a copy.
    job.key = job.key && new Uint8Array(job.key);
    job.payloads = copied(job.payloads, job.put);
    this.#blocked.push(job);
    this.#blockedBytes += job.bytes;
    this.#watch();
  }

  /** Puts as much of the job as fits. True when all of it is in the lane. */
  #put(job: Job): boolean {
    const producer = this.#producer;
    const { payloads, flags, key } = job;
    const from = job.put;
    const id = this.#streams.get(job.stream) ?? this.#declare(job.stream);
    if (id === undefined) return false;
    const timestampMs = this.#clock.wallMs();
    let i = from;
    while (i < payloads.length && producer.put(id, flags, timestampMs, key, payloads[i])) i++;
    job.put = i;
    if (from === 0 && i > 0) this.#pending.push(job);
    if (i > from) producer.publish();
    if (i < payloads.length) return false;
    job.payloads = noPayloads;
    job.key = null;
    return true;
  }

  /** Undefined where the lane has no room for the declaration now. */
  #declare(stream: string): number | undefined {
    if (this.#producer.freeBytes < 512) return undefined;
    const id = this.#shared.nextStreamId();
    if (id > MAX_STREAM_IDS) {
      throw new SpillwayError(
        'TOO_MANY_STREAMS',
        `stream '${stream}': ${MAX_STREAM_IDS} pairs of lane and stream are in use since the log was opened`,
        {
          subject: stream,
        },
      );
    }
    if (!this.#producer.declare(id, Buffer.from(stream, 'latin1'))) return undefined;
    this.#streams.set(stream, id);
    return id;
  }

  /** Runs while something is under way: settles on each signal. One loop per lane. */
  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#keepAlive.ref();
    void this.#loop();
  }

  async #loop(): Promise<void> {
    for (;;) {
      const seen = Atomics.load(this.#producer.signalWords, this.#producer.signalIndex);
      this.#settle();
      if (this.#unacknowledged === 0 && this.#blocked.length === 0) break;
      await signalled(this.#producer.signalWords, this.#producer.signalIndex, seen);
    }
    this.#watching = false;
    this.#keepAlive.unref();
  }

  #settle(): void {
    // The state first: what was acknowledged before it changed is then seen.
    const failure = this.#failure();
    this.#readAcks();
    if (failure === undefined) this.#unblock();
    if (failure !== undefined) this.#rejectAll(failure);
    if (this.#blocked.length === 0 || this.#unacknowledged === 0)
      for (const wake of this.#idleWaiters.splice(0)) wake();
  }

  #readAcks(): void {
    const run = this.#run;
    while (this.#producer.nextAck(run)) {
      const nowMs = this.#clock.monotonicMs();
      while (run.records > 0) {
        const job = this.#pending[this.#head];
        const taken = Math.min(run.records, job.put - job.acked);
        if (job.acked === 0) job.firstOffset = run.firstOffset;
        job.acked += taken;
        run.firstOffset += taken;
        run.records -= taken;
        this.#latency.record((nowMs - job.startedMs) * 1000, taken);
        if (job.acked < job.records) break;
        job.resolve({ firstOffset: job.firstOffset, lastOffset: run.firstOffset - 1 });
        this.#head++;
      }
    }
    if (this.#head === this.#pending.length) {
      this.#pending.length = 0;
      this.#head = 0;
    } else if (this.#head > FORGET_JOBS) {
      this.#pending = this.#pending.slice(this.#head);
      this.#head = 0;
    }
  }

  #unblock(): void {
    while (this.#blocked.length > 0) {
      const job = this.#blocked[0];
      try {
        if (!this.#put(job)) return;
      } catch (error) {
        job.reject(error as SpillwayError);
      }
      this.#blocked.shift();
      this.#blockedBytes -= job.bytes;
    }
  }

  #failure(): SpillwayError | undefined {
    const state = this.#shared.state;
    if (state === 'poisoned') return this.#shared.failure();
    return state === 'closed'
      ? new SpillwayError('CLOSED', 'the log was closed before this record was durable')
      : undefined;
  }

  #rejectAll(failure: SpillwayError): void {
    const jobs = new Set([...this.#pending.slice(this.#head), ...this.#blocked]);
    this.#pending = [];
    this.#head = 0;
    this.#blocked = [];
    this.#blockedBytes = 0;
    for (const job of jobs) job.reject(failure);
  }
}
