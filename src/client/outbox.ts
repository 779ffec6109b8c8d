// Records on their way to a gateway that speaks the framed protocol: encoded once, kept until they are settled, sent as often as it
// takes. Knows nothing of sockets. How they lie in memory: runs.ts; who waits for them: calls.ts.
//
//     ├── settled ──┼── deferred ──┼── under way ──┼── to send ──┤      sequences of one producer
//                 front        deferredTo        sentTo         next
//
// The gateway answers in the order of the sequences. What it refuses for the time being is deferred: if nothing behind it is stored
// in the meantime, it is sent again, in order; else it is refused. So what is not settled is always one unbroken range, and is what
// the next connection begins with.
//
// Bounds: maxWaitingBytes of records with their headers and WAITER_OVERHEAD_BYTES a call; a single larger call may wait alone.

import { SpillwayError } from '../base/errors.ts';
import { WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import { recordBytes } from '../codec/append-frame.ts';
import { APPEND_HEADER_BYTES, protocolError } from '../codec/frames.ts';
import type { Payload } from '../pipeline/job.ts';
import { bytesOf, checkRecordBytes, passesByItself } from './check.ts';
import { Calls, type Reject, type ResolveMany, type ResolveOne } from './calls.ts';
import { CHUNK_BYTES, type Chunk } from './chunk.ts';
import { Runs, type Part } from './runs.ts';

/** After a refusal so many frames go one by one: behind the next refusal is then nothing that could be stored before it. */
const CAUTIOUS_FRAMES = 16;

/** Refused for the time being. */
interface Deferred {
  readonly records: number;
  readonly error: SpillwayError;
}

export interface OutboxLimits {
  /** Longest frame, header included. */
  readonly maxFrameBytes: number;
  readonly maxRecordBytes: number;
}

export class Outbox {
  readonly calls = new Calls();
  readonly #runs = new Runs();
  readonly #maxWaitingBytes: number;
  limits: OutboxLimits = { maxFrameBytes: Infinity, maxRecordBytes: Infinity };
  #front = 0;
  #deferred: Deferred[] = [];
  #deferredTo = 0;
  #sentTo = 0;
  #next = 0;
  #cautious = 0;
  /** Highest sequence that was ever sent: what is sent below it is sent again. */
  #everSentTo = 0;
  #acknowledgedTo = 0;
  records = 0;
  duplicateRecords = 0;
  resentRecords = 0;
  /** After the highest offset that was acknowledged. */
  durableOffset = 0;

  constructor(maxWaitingBytes: number) {
    this.#maxWaitingBytes = maxWaitingBytes;
  }

  /** Lowest sequence that is not settled. */
  get front(): number {
    return this.#front;
  }

  /** After the last sequence that the gateway has answered. */
  get answeredTo(): number {
    return this.#deferredTo;
  }

  /** After the last sequence that a gateway acknowledged. */
  get acknowledgedTo(): number {
    return this.#acknowledgedTo;
  }

  /** Records sent on this connection that the gateway has not answered. */
  get underWay(): number {
    return this.#sentTo - this.#deferredTo;
  }

  /** Records were refused for the time being: nothing behind them is to be sent until `rewind`. */
  get defers(): boolean {
    return this.#deferred.length > 0;
  }

  /** Records that a gateway may have, although it has not said so. */
  get inDoubt(): number {
    return Math.max(0, this.#everSentTo - this.#deferredTo);
  }

  /** A full frame waits: nothing is saved by sending it only when the turn of the event loop is over. */
  get fullFrameWaits(): boolean {
    return this.#runs.unsentBytes >= CHUNK_BYTES;
  }

  /** @throws INVALID_RECORD, RECORD_TOO_LARGE, BACKLOG_FULL */
  addOne(
    stream: string,
    key: Uint8Array | null,
    payload: Payload,
    flags: number,
    nowMs: number,
    resolve: ResolveOne,
    reject: Reject,
  ): void {
    const payloadBytes = bytesOf(payload, 'payload', 0);
    const bytes = this.#checkedBytes(key === null ? 0 : key.length, payloadBytes, 0);
    this.#admit(bytes + WAITER_OVERHEAD_BYTES);
    this.calls.addOne(bytes + WAITER_OVERHEAD_BYTES, nowMs, resolve, reject);
    this.#runs.put(this.#next++, stream, flags, key, payload, payloadBytes, bytes, bytes);
  }

  /** All or nothing. @throws INVALID_RECORD, RECORD_TOO_LARGE, BACKLOG_FULL */
  addMany(
    stream: string,
    key: Uint8Array | null,
    payloads: readonly Payload[],
    flags: number,
    nowMs: number,
    resolve: ResolveMany,
    reject: Reject,
  ): void {
    const keyBytes = key === null ? 0 : key.length;
    const records = payloads.length;
    let bytes = 0;
    for (let i = 0; i < records; i++) bytes += this.#checkedBytes(keyBytes, bytesOf(payloads[i], 'payload', i), i);
    this.#admit(bytes + WAITER_OVERHEAD_BYTES);
    this.calls.addMany(records, bytes + WAITER_OVERHEAD_BYTES, nowMs, resolve, reject);
    // One frame is taken or refused as a whole: a call that fits one goes into one, as far as credit allows.
    const whole = bytes <= this.limits.maxFrameBytes - APPEND_HEADER_BYTES && records <= this.#runs.maxRecords;
    for (let i = 0; i < records; i++) {
      const payload = payloads[i];
      const payloadBytes = typeof payload === 'string' ? Buffer.byteLength(payload, 'utf8') : payload.length;
      const own = recordBytes(keyBytes, payloadBytes, true);
      this.#runs.put(this.#next++, stream, flags, key, payload, payloadBytes, own, whole && i === 0 ? bytes : own);
    }
  }

  // Hot: per record.
  /** @throws RECORD_TOO_LARGE */
  #checkedBytes(keyBytes: number, payloadBytes: number, index: number): number {
    checkRecordBytes(keyBytes + payloadBytes, this.limits.maxRecordBytes, index);
    const bytes = recordBytes(keyBytes, payloadBytes, true);
    if (bytes + APPEND_HEADER_BYTES > this.limits.maxFrameBytes) throw this.#fitsNoFrame(bytes);
    return bytes;
  }

  #fitsNoFrame(bytes: number): SpillwayError {
    const { maxFrameBytes } = this.limits;
    const message = `a record that takes ${bytes} bytes does not fit a frame of the gateway (${maxFrameBytes} bytes)`;
    return new SpillwayError('RECORD_TOO_LARGE', message);
  }

  #admit(bytes: number): void {
    const { waitingBytes } = this.calls;
    if (waitingBytes === 0 || waitingBytes + bytes <= this.#maxWaitingBytes) return;
    throw new SpillwayError(
      'BACKLOG_FULL',
      `appends of ${waitingBytes} bytes wait for the gateway already (maxWaitingBytes ${this.#maxWaitingBytes}): await the ` +
        'promises, or slow down',
    );
  }

  /**
   * The next frame to send, if there is one that may be sent now.
   * @param creditBytes a run is cut for it only when nothing is under way, as else more credit is to come; then a single record goes
   * without any, as the protocol has it
   * @param closed only runs that do not grow any more
   */
  take(creditBytes: number, closed: boolean): Part | undefined {
    const { maxFrameBytes } = this.limits;
    const alone = this.underWay === 0;
    if (this.defers || (this.#cautious > 0 && !alone)) return undefined;
    const bytes = this.#runs.frameBytes(closed);
    if (bytes === 0) return undefined;
    if (alone && this.#runs.nextBytes + APPEND_HEADER_BYTES > maxFrameBytes) {
      this.#refuseOversized();
      return this.take(creditBytes, closed);
    }
    const limit = Math.min(creditBytes, maxFrameBytes);
    const cuttable = bytes > maxFrameBytes && this.#runs.nextBytes + APPEND_HEADER_BYTES <= limit;
    if (bytes > limit && !alone && !cuttable) return undefined;
    const part = this.#runs.take(limit);
    this.#sentTo = part.firstSequence + part.records;
    this.resentRecords += Math.max(0, Math.min(this.#everSentTo, this.#sentTo) - part.firstSequence);
    this.#everSentTo = Math.max(this.#everSentTo, this.#sentTo);
    return part;
  }

  /** A gateway that came back with smaller limits may not take a record that was fine before: nothing behind it could be sent. */
  #refuseOversized(): void {
    this.calls.refuse(1, this.#fitsNoFrame(this.#runs.nextBytes));
    this.#advance(1);
    this.rewind();
  }

  /** The socket has done with the bytes of a part. */
  written(chunk: Chunk): void {
    this.#runs.written(chunk);
  }

  /** For a new connection: everything that is not settled is to be sent again. */
  rewind(): void {
    // Where all that was ever sent has been answered, what was refused is known not to be in the log.
    if (this.#everSentTo <= this.#deferredTo) {
      this.resentRecords += this.#deferredTo - this.#front;
      this.#everSentTo = this.#front;
    }
    this.#deferred = [];
    this.#deferredTo = this.#sentTo = this.#front;
    this.#runs.rewind();
  }

  /** A run of an ACK. @throws PROTOCOL_ERROR */
  acknowledge(firstSequence: number, firstOffset: number, records: number, duplicate: boolean, nowMs: number): void {
    const known = this.#known(firstSequence, records);
    if (known >= records) return;
    const fresh = records - known;
    if (this.#cautious > 0 && firstSequence + records === this.#sentTo) this.#cautious--;
    this.#refuseDeferred();
    this.calls.acknowledge(firstOffset + known, fresh, nowMs);
    this.records += fresh;
    if (duplicate) this.duplicateRecords += fresh;
    this.durableOffset = Math.max(this.durableOffset, firstOffset + records);
    this.#advance(fresh);
    this.#acknowledgedTo = this.#front;
  }

  /** An ERROR for a range. @returns whether the records are sent again. @throws PROTOCOL_ERROR */
  answerError(firstSequence: number, records: number, error: SpillwayError): boolean {
    // The gateway does not say how many it takes in a frame (maxRequestRecords): half as many, until it does.
    const tooMany = error.code === 'TOO_MANY_RECORDS' && records > 1;
    if (tooMany) this.#runs.maxRecords = Math.min(this.#runs.maxRecords, records >> 1);
    const again = tooMany || passesByItself(error);
    if (again) this.defer(firstSequence, records, error);
    else this.refuse(firstSequence, records, error);
    return again;
  }

  /** An ERROR for a range, for good. @throws PROTOCOL_ERROR */
  refuse(firstSequence: number, records: number, error: SpillwayError): void {
    const known = this.#known(firstSequence, records);
    if (known >= records) return;
    this.#refuseDeferred();
    this.calls.refuse(records - known, error);
    this.#advance(records - known);
  }

  /** An ERROR for a range, for the time being. @throws PROTOCOL_ERROR */
  defer(firstSequence: number, records: number, error: SpillwayError): void {
    const known = this.#known(firstSequence, records);
    if (known >= records) return;
    this.#cautious = CAUTIOUS_FRAMES;
    this.#deferred.push({ records: records - known, error });
    this.#deferredTo += records - known;
  }

  /** Something behind them is settled: sent again now, they would come out of order. */
  #refuseDeferred(): void {
    for (const { records, error } of this.#deferred.splice(0)) {
      this.calls.refuse(records, error);
      this.#advance(records);
    }
  }

  /** What may be in the log or not is given up; what was never sent stays. */
  refuseDoubtful(error: SpillwayError): void {
    const records = this.inDoubt;
    this.calls.refuse(records, error);
    this.#advance(records);
    this.rewind();
  }

  /** Everything is given up, and sequences begin again: those of another producer. */
  refuseAll(error: SpillwayError): void {
    const records = this.#next - this.#front;
    this.calls.refuse(records, error);
    this.#advance(records);
    this.#runs.rewind();
    this.#deferred = [];
    this.#front = this.#next = this.#sentTo = this.#deferredTo = this.#everSentTo = this.#acknowledgedTo = 0;
  }

  /** Records of a range that are answered already. @throws PROTOCOL_ERROR for what was not sent, or is not next */
  #known(firstSequence: number, records: number): number {
    const next = this.#deferredTo;
    if (firstSequence > next || firstSequence + records > this.#sentTo) {
      const range = `${firstSequence} to ${firstSequence + records}`;
      throw protocolError(`the gateway settled sequences ${range}, of ${next} to ${this.#sentTo} under way`);
    }
    return next - firstSequence;
  }

  #advance(records: number): void {
    this.#front += records;
    this.#sentTo = Math.max(this.#sentTo, this.#front);
    this.#deferredTo = Math.max(this.#deferredTo, this.#front);
    this.#runs.settle(this.#front);
  }
}
