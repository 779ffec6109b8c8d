// Who waits for which records: the calls of append and appendMany in order, settled from the front, as records are.
//
// Promises: columns instead of an object per call, so that an append costs its promise and little else; memory is bounded by
// whoever admits the calls (outbox.ts, http.ts).

import { SpillwayError } from '../base/errors.ts';
import type { Appended, AppendedMany } from '../pipeline/job.ts';
import { Histogram } from '../platform/histogram.ts';

export type ResolveOne = (result: Appended) => void;
export type ResolveMany = (result: AppendedMany) => void;
export type Reject = (error: SpillwayError) => void;

/** Settled calls that may stand at the front of the columns before these are cut; and then as many as wait. */
const FORGET_CALLS = 1024;

const nobody = (): void => undefined;

export class Calls {
  /** Records of the call; 0: one, of `append`. */
  #records: number[] = [];
  #bytes: number[] = [];
  #startedMs: number[] = [];
  #resolve: (ResolveOne | ResolveMany)[] = [];
  #reject: Reject[] = [];
  #head = 0;
  /** Of the call at the front: records settled, where they are, and why not. */
  #settled = 0;
  #appended = 0;
  #firstOffset = 0;
  #lastOffset = 0;
  #runs: { records: number; firstOffset: number }[] | undefined;
  #error: SpillwayError | undefined;
  waitingBytes = 0;
  waitingRecords = 0;
  rejectedRecords = 0;
  settledCalls = 0;
  readonly latency = new Histogram();

  /** Calls that wait. */
  get length(): number {
    return this.#records.length - this.#head;
  }

  addOne(bytes: number, startedMs: number, resolve: ResolveOne, reject: Reject): void {
    this.#add(0, 1, bytes, startedMs, resolve, reject);
  }

  addMany(records: number, bytes: number, startedMs: number, resolve: ResolveMany, reject: Reject): void {
    this.#add(records, records, bytes, startedMs, resolve, reject);
  }

  #add(
    kind: number,
    records: number,
    bytes: number,
    startedMs: number,
    resolve: ResolveOne | ResolveMany,
    reject: Reject,
  ): void {
    this.#records.push(kind);
    this.#bytes.push(bytes);
    this.#startedMs.push(startedMs);
    this.#resolve.push(resolve);
    this.#reject.push(reject);
    this.waitingBytes += bytes;
    this.waitingRecords += records;
  }

  /** The next records are in the log, side by side. No more of them than wait. */
  acknowledge(firstOffset: number, records: number, nowMs: number): void {
    this.waitingRecords -= records;
    let offset = firstOffset;
    let left = records;
    // Calls of one turn of the event loop began at the same time: one sample for all of them.
    let sampleMs = this.#startedMs[this.#head];
    let samples = 0;
    while (left > 0) {
      const i = this.#head;
      const startedMs = this.#startedMs[i];
      if (startedMs !== sampleMs) {
        this.latency.record((nowMs - sampleMs) * 1000, samples);
        sampleMs = startedMs;
        samples = 0;
      }
      const kind = this.#records[i];
      if (kind === 0) {
        (this.#resolve[i] as ResolveOne)({ offset });
        this.#forget(i);
        offset++;
        left--;
        samples++;
        continue;
      }
      const taken = Math.min(left, kind - this.#settled);
      this.#addRun(offset, taken);
      this.#settle(taken, kind);
      offset += taken;
      left -= taken;
      samples += taken;
    }
    if (samples > 0) this.latency.record((nowMs - sampleMs) * 1000, samples);
    this.#cut();
  }

  /** The next records are not in the log, or nobody knows. */
  refuse(records: number, error: SpillwayError): void {
    this.waitingRecords -= records;
    this.rejectedRecords += records;
    for (let left = records; left > 0;) {
      const i = this.#head;
      const kind = this.#records[i];
      if (kind === 0) {
        this.#reject[i](error);
        this.#forget(i);
        left--;
        continue;
      }
      const taken = Math.min(left, kind - this.#settled);
      this.#error ??= error;
      this.#settle(taken, kind);
      left -= taken;
    }
    this.#cut();
  }

  #addRun(firstOffset: number, records: number): void {
    if (this.#appended === 0) this.#firstOffset = firstOffset;
    else if (this.#runs !== undefined || firstOffset !== this.#lastOffset + 1) {
      this.#runs ??= [{ records: this.#appended, firstOffset: this.#firstOffset }];
      const last = this.#runs.at(-1)!;
      if (last.firstOffset + last.records === firstOffset) last.records += records;
      else this.#runs.push({ records, firstOffset });
    }
    this.#appended += records;
    this.#lastOffset = firstOffset + records - 1;
  }

  /** Some more records of the appendMany at the front are settled. */
  #settle(records: number, of: number): void {
    this.#settled += records;
    if (this.#settled < of) return;
    const i = this.#head;
    const firstOffset = this.#firstOffset;
    const lastOffset = this.#lastOffset;
    const runs = this.#runs;
    if (this.#error !== undefined) this.#reject[i](inPart(this.#error, this.#appended, of));
    else
      (this.#resolve[i] as ResolveMany)(
        runs === undefined ? { firstOffset, lastOffset } : { firstOffset, lastOffset, runs },
      );
    this.#settled = 0;
    this.#appended = 0;
    this.#runs = undefined;
    this.#error = undefined;
    this.#forget(i);
  }

  #forget(i: number): void {
    this.waitingBytes -= this.#bytes[i];
    // What they close over is let go at once, not when the columns are cut.
    this.#resolve[i] = nobody;
    this.#reject[i] = nobody;
    this.#head++;
    this.settledCalls++;
  }

  #cut(): void {
    const head = this.#head;
    if (head === this.#records.length) {
      this.#records.length = 0;
      this.#bytes.length = 0;
      this.#startedMs.length = 0;
      this.#resolve.length = 0;
      this.#reject.length = 0;
    } else if (head > FORGET_CALLS && head * 2 > this.#records.length) {
      this.#records = this.#records.slice(head);
      this.#bytes = this.#bytes.slice(head);
      this.#startedMs = this.#startedMs.slice(head);
      this.#resolve = this.#resolve.slice(head);
      this.#reject = this.#reject.slice(head);
    } else return;
    this.#head = 0;
  }
}

/** Where a part of a call is in the log, its error says so. */
function inPart(error: SpillwayError, appended: number, of: number): SpillwayError {
  if (appended === 0) return error;
  return new SpillwayError(
    error.code,
    `${error.message} (${appended} of the ${of} records of this call are in the log)`,
    error.details,
  );
}
