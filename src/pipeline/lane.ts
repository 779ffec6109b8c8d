// The producing side as callers use it: promises over one lane. Per thread; order of calls is order in the log.
//
// An append that finds room goes into the lane at once. What becomes of one that does not is decided in `#admit` by its
// overflow policy, and only there; those that wait are first come first served, bounded by maxWaitingBytes.

import { SpillwayError } from '../base/errors.ts';
import { IDENTITY_BYTES, KEEP_ALIVE_MS, MAX_STREAM_IDS } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import type { LogOptions } from '../base/options.ts';
import type { Clock } from '../base/clock.ts';
import type { Identity } from '../base/types.ts';
import { WaitingQueue } from '../flow/overflow.ts';
import type { Drops, LaneFigures } from '../platform/lane-figures.ts';
import { FLAG_IDENTITY, laneFigures, noAcknowledgement } from '../platform/lane-memory.ts';
import { LaneProducer, type Frames } from '../platform/lane-producer.ts';
import { SharedState } from '../platform/shared-state.ts';
import { signalled } from '../platform/waiter.ts';
import {
  jobOfFrames,
  jobOfPayloads,
  keepOwnCopy,
  letGo,
  noOptions,
  type Admission,
  type Appended,
  type AppendedMany,
  type AppendOptions,
  type Job,
  type Payload,
} from './job.ts';
import { PendingJobs } from './pending.ts';
import { Stages } from './stages.ts';

/** A lane on its way to another thread: structured-cloneable. */
export interface LaneHandle {
  readonly shared: SharedArrayBuffer;
  readonly lane: SharedArrayBuffer;
  readonly limits: Pick<LogOptions, 'maxRecordBytes' | 'maxWaitingBytes'>;
}

export class Lane {
  readonly #shared: SharedState;
  readonly #producer: LaneProducer;
  readonly #limits: LaneHandle['limits'];
  readonly #clock: Clock;
  readonly #figures: LaneFigures;
  readonly #streams = new Map<string, number>();
  /** In the lane, not yet acknowledged. */
  readonly #pending: PendingJobs;
  readonly #blocked: WaitingQueue<Job>;
  readonly #perTurn: boolean;
  #publishing = false;
  #watching = false;
  #refusing = false;
  #closing: Promise<void> | undefined;
  readonly #keepAlive: NodeJS.Timeout;
  readonly #run = noAcknowledgement();
  readonly #idleWaiters: (() => void)[] = [];

  /**
   * @param perTurn what is put in one turn of the event loop is published at its end, together: for threads that take in what many
   * clients send, whose records then share a batch and one ring of the doorbell
   * @throws LANE_TAKEN
   */
  constructor(handle: LaneHandle, clock: Clock, perTurn = false) {
    this.#perTurn = perTurn;
    this.#shared = new SharedState(handle.shared);
    const producer = LaneProducer.take(handle.lane, this.#shared);
    if (producer === undefined) throw new SpillwayError('LANE_TAKEN', 'this lane already has, or had, a producer');
    this.#producer = producer;
    this.#limits = handle.limits;
    this.#blocked = new WaitingQueue(handle.limits.maxWaitingBytes);
    this.#clock = clock;
    this.#figures = laneFigures(handle.lane);
    this.#pending = new PendingJobs(new Stages(this.#figures.histograms));
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
      this.#admit(jobOfPayloads(stream, [payload], options, this.#context(stream), undefined, done, reject));
    });
  }

  /**
   * Appends records in order. Resolves once all are on stable storage; refuses all if one is refused. A crash may leave
   * a prefix of them. Rejects as `append` does.
   */
  appendMany(
    stream: string,
    payloads: readonly Payload[],
    options: AppendOptions = noOptions,
    identity?: Identity,
  ): Promise<AppendedMany> {
    return new Promise<AppendedMany>((resolve, reject) => {
      // What is thrown here rejects the promise: a caller's mistake is never a synchronous exception.
      this.#admit(jobOfPayloads(stream, payloads, options, this.#context(stream), identity, resolve, reject));
    });
  }

  /**
   * As `appendMany`, for records that come framed already: they go into the lane in one copy. The caller has checked every length
   * in them (kind 0, no flag but 1 and 2, flag 2 on all of them when there is an identity and on none otherwise, each within
   * maxRecordBytes), and that they take at most half of the lane: behind padding they then still fit into an empty one.
   */
  appendFrames(
    stream: string,
    frames: Frames,
    records: number,
    admission: Admission,
    identity?: Identity,
  ): Promise<AppendedMany> {
    return new Promise<AppendedMany>((resolve, reject) => {
      if (!this.#streams.has(stream)) checkStreamName(stream);
      if (frames.length > this.#producer.capacity / 2) throw new Error(`${frames.length} bytes of frames in one piece`);
      const nowMs = this.#clock.monotonicMs();
      this.#admit(jobOfFrames(stream, frames, records, identity, admission, nowMs, resolve, reject));
    });
  }

  /** Bytes that are in the lane and not yet taken over, and that wait for room there. */
  get queuedBytes(): number {
    return this.#producer.usedBytes + this.#blocked.bytes;
  }

  /** Records that were refused because the lane was full, by cause. */
  get drops(): Drops {
    return this.#figures.drops;
  }

  /** True while everything is acknowledged. */
  get isIdle(): boolean {
    return this.#pending.length === 0 && this.#blocked.length === 0;
  }

  /** Age of the oldest record that is not yet acknowledged, in ms; 0 where there is none. */
  oldestAgeMs(): number {
    const { oldestMs } = this.#figures;
    return oldestMs === 0 ? 0 : this.#clock.monotonicMs() - oldestMs;
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
    while (this.#blocked.length > 0 || this.#pending.length > 0) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
    clearInterval(this.#keepAlive);
    this.#producer.close();
  }

  #context(stream: string): { known: boolean; maxRecordBytes: number; startedMs: number } {
    const { maxRecordBytes } = this.#limits;
    return { known: this.#streams.has(stream), maxRecordBytes, startedMs: this.#clock.monotonicMs() };
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
    if (job.put === 0) this.#makeWay(job);
    // The caller may use its buffers again while this waits: what waits is a copy.
    keepOwnCopy(job);
    this.#blocked.push(job);
    const { maxBlockMs = Infinity } = job.admission;
    if (maxBlockMs < Infinity) job.timer = setTimeout(() => this.#giveUp(job), maxBlockMs);
    this.#showQueue();
    this.#watch();
  }

  /** Decides what becomes of a call that has to wait, and throws where it may not. Part of one is in the lane: it must. */
  #makeWay(job: Job): void {
    const { overflow = 'block' } = job.admission;
    for (;;) {
      const decision = this.#blocked.decide(overflow, job.bytes);
      if (decision === 'wait') return;
      if (decision === 'refuse') {
        if (overflow === 'drop-newest') {
          this.#figures.drop('newest', job.records);
          throw new SpillwayError('DROPPED', 'the lane is full, and the overflow policy is drop-newest');
        }
        this.#figures.drop('backlog', job.records);
        throw new SpillwayError(
          'BACKLOG_FULL',
          `the lane is full and appends of ${this.#blocked.bytes} bytes wait for it already (maxWaitingBytes ` +
            `${this.#limits.maxWaitingBytes}): await the promises, or slow down`,
        );
      }
      const oldest = this.#blocked.evictOldest();
      clearTimeout(oldest.timer);
      this.#figures.drop('oldest', oldest.records);
      oldest.reject(new SpillwayError('DROPPED', 'newer records took its place: the overflow policy is drop-oldest'));
    }
  }

  #giveUp(job: Job): void {
    if (job.put > 0 || !this.#blocked.remove(job)) return;
    this.#figures.drop('blockedTooLong', job.records);
    this.#showQueue();
    const { maxBlockMs } = job.admission;
    job.reject(new SpillwayError('BACKLOG_FULL', `the lane was full for ${maxBlockMs} ms (maxBlockMs)`));
  }

  /** Puts as much of the job as fits. True when all of it is in the lane. */
  #put(job: Job): boolean {
    const producer = this.#producer;
    const from = job.put;
    const id = this.#streams.get(job.stream) ?? this.#declare(job.stream);
    if (id === undefined) return false;
    const timestampMs = this.#clock.wallMs();
    if (job.frames !== null) {
      if (producer.putFrames(id, timestampMs, job.frames, job.records, job.identity)) job.put = job.records;
    } else if (job.identity !== undefined) {
      this.#putIdentified(job, job.identity, id, timestampMs);
    } else {
      const { payloads, flags, key } = job;
      let i = from;
      while (i < payloads.length && producer.put(id, flags, timestampMs, key, payloads[i])) i++;
      job.put = i;
    }
    if (from === 0 && job.put > 0) {
      if (this.#pending.length === 0) this.#figures.oldestMs = job.startedMs;
      this.#pending.push(job);
    }
    if (job.put > from) this.#publish();
    if (job.put < job.records) return false;
    letGo(job);
    return true;
  }

  #publish(): void {
    if (!this.#perTurn) return this.#producer.publish();
    if (this.#publishing) return;
    this.#publishing = true;
    setImmediate(() => {
      this.#publishing = false;
      this.#producer.publish();
    });
  }

  /** Each record with its number in front of the key. */
  #putIdentified(job: Job, { id: producerId, low, high }: Identity, id: number, timestampMs: number): void {
    const { payloads, flags, key } = job;
    const withKey = Buffer.alloc(IDENTITY_BYTES + (key?.length ?? 0));
    withKey.set(producerId);
    if (key !== null) withKey.set(key, IDENTITY_BYTES);
    withKey.writeUInt32LE(high, 20);
    for (; job.put < payloads.length; job.put++) {
      withKey.writeUInt32LE(low + job.put, 16);
      if (!this.#producer.put(id, flags | FLAG_IDENTITY, timestampMs, withKey, payloads[job.put])) return;
    }
  }

  /** Undefined where the lane has no room for the declaration now. */
  #declare(stream: string): number | undefined {
    if (this.#producer.freeBytes < 512) return undefined;
    const id = this.#shared.nextStreamId();
    if (id > MAX_STREAM_IDS) {
      throw new SpillwayError(
        'TOO_MANY_STREAMS',
        `stream '${stream}': ${MAX_STREAM_IDS} pairs of lane and stream are in use since the log was opened`,
        { subject: stream },
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
      if (this.#pending.length === 0 && this.#blocked.length === 0) break;
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
    else this.#rejectAll(failure);
    this.#showQueue();
    if (this.#blocked.length === 0 || this.#pending.length === 0)
      for (const wake of this.#idleWaiters.splice(0)) wake();
  }

  /** What is not acknowledged, for whoever looks from another thread. */
  #showQueue(): void {
    this.#figures.setWaiting(this.#blocked.records, this.#blocked.bytes);
    this.#figures.oldestMs = (this.#pending.first ?? this.#blocked.first)?.startedMs ?? 0;
  }

  #readAcks(): void {
    const run = this.#run;
    while (this.#producer.nextAck(run)) this.#pending.acknowledge(run, this.#clock.monotonicMs());
    this.#pending.forget();
  }

  #unblock(): void {
    for (let job = this.#blocked.first; job !== undefined; job = this.#blocked.first) {
      try {
        if (!this.#put(job)) return;
      } catch (error) {
        job.reject(error as SpillwayError);
      }
      clearTimeout(job.timer);
      this.#blocked.shift();
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
    const jobs = new Set([...this.#pending.takeAll(), ...this.#blocked.takeAll()]);
    for (const job of jobs) {
      clearTimeout(job.timer);
      job.reject(failure);
    }
  }
}
