// Records on their way to a gateway that speaks the framed protocol: encoded once, kept until they are settled, sent as often as it
// takes. Knows nothing of sockets.
//
//     runs    ├── settled ──┼──── sent ────┼── to send ──┤
//             (let go)      front          unsent        next
//
// A run is records of one stream, side by side in one chunk and in sequence. A frame is cut from a run when it is sent, with what has
// come together by then: up to CHUNK_BYTES, or one call of appendMany that fits a frame of the gateway, in one piece. Sequences are
// settled from the front, by the protocol; so what is not settled is always one unbroken range, and is what is sent again.
//
// Bounds: maxWaitingBytes of records with their headers and WAITER_OVERHEAD_BYTES a call; a single larger call may wait alone.

import { SpillwayError } from '../base/errors.ts';
import { WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import { recordBytes } from '../codec/append-frame.ts';
import { APPEND_HEADER_BYTES, protocolError } from '../codec/frames.ts';
import type { Payload } from '../pipeline/job.ts';
import { bytesOf, checkRecordBytes } from './check.ts';
import { Calls, type Reject, type ResolveMany, type ResolveOne } from './calls.ts';
import { CHUNK_BYTES, ChunkPool, recordEnd, writeRecord, type Chunk } from './chunk.ts';

/** Most records of one frame: maxRequestRecords of a gateway, where nobody set it. */
const MAX_FRAME_RECORDS = 10_000;
const FORGET_RUNS = 256;

interface Run {
  readonly stream: string;
  readonly chunk: Chunk;
  readonly from: number;
  end: number;
  readonly firstSequence: number;
  records: number;
  settled: number;
  /** Records sent on this connection, or settled before it; and where the next one begins. */
  sent: number;
  sentEnd: number;
}

/** Records to be sent in one frame. */
export interface Part {
  readonly stream: string;
  readonly chunk: Chunk;
  readonly from: number;
  readonly end: number;
  readonly firstSequence: number;
  readonly records: number;
}

export interface OutboxLimits {
  /** Longest frame, header included. */
  readonly maxFrameBytes: number;
  readonly maxRecordBytes: number;
}

export class Outbox {
  readonly calls = new Calls();
  readonly #pool = new ChunkPool();
  readonly #maxWaitingBytes: number;
  limits: OutboxLimits = { maxFrameBytes: Infinity, maxRecordBytes: Infinity };
  /** Oldest first; `#head` counts those done with at the front, `#unsent` is the first with records to send. */
  #runs: Run[] = [];
  #head = 0;
  #unsent = 0;
  /** The last run, while it may still grow. */
  #open: Run | undefined;
  /** Lowest sequence that is not settled, and the one that the next record gets. */
  #front = 0;
  #next = 0;
  /** Sequence after the last record sent on this connection. */
  #sentTo = 0;
  /** Highest sequence that was ever sent: what is sent below it is sent again. */
  #everSentTo = 0;
  /** After the last sequence that a gateway acknowledged. */
  #acknowledgedTo = 0;
  #unsentBytes = 0;
  resentRecords = 0;
  duplicateRecords = 0;
  records = 0;
  durableOffset = 0;

  constructor(maxWaitingBytes: number) {
    this.#maxWaitingBytes = maxWaitingBytes;
  }

  get front(): number {
    return this.#front;
  }

  get acknowledgedTo(): number {
    return this.#acknowledgedTo;
  }

  /** Records sent and not settled. */
  get underWay(): number {
    return this.#sentTo - this.#front;
  }

  /** Records that a gateway may have, although it has not said so. */
  get inDoubt(): number {
    return Math.max(0, this.#everSentTo - this.#front);
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
    const keyBytes = key === null ? 0 : key.length;
    checkRecordBytes(keyBytes + payloadBytes, this.limits.maxRecordBytes, 0);
    const bytes = recordBytes(keyBytes, payloadBytes, true);
    this.#admit(bytes + WAITER_OVERHEAD_BYTES);
    this.calls.addOne(bytes + WAITER_OVERHEAD_BYTES, nowMs, resolve, reject);
    this.#put(stream, flags, key, payload, payloadBytes, bytes, bytes);
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
    for (let i = 0; i < records; i++) {
      const payloadBytes = bytesOf(payloads[i], 'payload', i);
      checkRecordBytes(keyBytes + payloadBytes, this.limits.maxRecordBytes, i);
      bytes += recordBytes(keyBytes, payloadBytes, true);
    }
    this.#admit(bytes + WAITER_OVERHEAD_BYTES);
    this.calls.addMany(records, bytes + WAITER_OVERHEAD_BYTES, nowMs, resolve, reject);
    // One frame is taken or refused as a whole: a call that fits one goes into one.
    const whole = bytes <= this.limits.maxFrameBytes - APPEND_HEADER_BYTES && records <= MAX_FRAME_RECORDS;
    for (let i = 0; i < records; i++) {
      const payload = payloads[i];
      const payloadBytes = typeof payload === 'string' ? Buffer.byteLength(payload, 'utf8') : payload.length;
      const own = recordBytes(keyBytes, payloadBytes, true);
      this.#put(stream, flags, key, payload, payloadBytes, own, whole && i === 0 ? bytes : own);
    }
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

  // Hot: per record. Allocates per chunk only.
  /** @param room what has to fit the run, this record and those that shall stay with it */
  #put(
    stream: string,
    flags: number,
    key: Uint8Array | null,
    payload: Payload,
    payloadBytes: number,
    bytes: number,
    room: number,
  ): void {
    let run = this.#open;
    if (
      run === undefined ||
      run.stream !== stream ||
      run.chunk.bytes.length - run.end < room ||
      run.records >= MAX_FRAME_RECORDS
    ) {
      run = this.#newRun(stream, room);
    }
    writeRecord(run.chunk, flags, key, payload, payloadBytes);
    run.end += bytes;
    run.records++;
    this.#unsentBytes += bytes;
    this.#next++;
  }

  #newRun(stream: string, room: number): Run {
    let chunk = this.#open?.chunk;
    if (chunk !== undefined && chunk.bytes.length - chunk.used >= room) chunk.holders++;
    else chunk = this.#pool.take(Math.min(room, this.limits.maxFrameBytes));
    const at = chunk.used;
    const run: Run = {
      stream,
      chunk,
      from: at,
      end: at,
      firstSequence: this.#next,
      records: 0,
      settled: 0,
      sent: 0,
      sentEnd: at,
    };
    this.#runs.push(run);
    this.#open = run;
    return run;
  }

  /** A full frame waits: nothing is saved by sending it only when the turn of the event loop is over. */
  get fullFrameWaits(): boolean {
    return this.#unsentBytes >= CHUNK_BYTES;
  }

  /**
   * The next frame to send: all that is left of a run, or where that is not allowed, what is.
   * @param maxBytes credit. A run is cut for it only when nothing is under way, as else more credit is to come; then a single record
   * goes without any, as the protocol has it
   * @param closed only runs that do not grow any more
   */
  take(maxBytes: number, closed: boolean): Part | undefined {
    const runs = this.#runs;
    while (this.#unsent < runs.length - 1 && runs[this.#unsent].sent === runs[this.#unsent].records) this.#unsent++;
    const run = runs[this.#unsent];
    if (run === undefined || run.sent === run.records || (closed && run === this.#open)) return undefined;
    const { maxFrameBytes } = this.limits;
    const bytes = run.end - run.sentEnd + APPEND_HEADER_BYTES;
    let end = run.end;
    let records = run.records - run.sent;
    if (bytes > maxBytes || bytes > maxFrameBytes) {
      const alone = this.underWay === 0;
      if (bytes <= maxFrameBytes && !alone) return undefined;
      [end, records] = cut(run, Math.min(maxBytes, maxFrameBytes) - APPEND_HEADER_BYTES);
      if (records === 0) {
        if (!alone) return undefined;
        end = recordEnd(run.chunk, run.sentEnd);
        records = 1;
        if (end - run.sentEnd + APPEND_HEADER_BYTES > maxFrameBytes) {
          this.#refuseOversized(end - run.sentEnd);
          return this.take(maxBytes, closed);
        }
      }
    }
    const firstSequence = run.firstSequence + run.sent;
    const part = { stream: run.stream, chunk: run.chunk, from: run.sentEnd, end, firstSequence, records };
    this.#unsentBytes -= end - run.sentEnd;
    run.sent += records;
    run.sentEnd = end;
    run.chunk.holders++;
    this.#sentTo = firstSequence + records;
    this.resentRecords += Math.max(0, Math.min(this.#everSentTo, this.#sentTo) - firstSequence);
    this.#everSentTo = Math.max(this.#everSentTo, this.#sentTo);
    return part;
  }

  /** A gateway that came back with smaller limits may not take a record that was fine before: nothing behind it could be sent. */
  #refuseOversized(bytes: number): void {
    const { maxFrameBytes } = this.limits;
    const message = `a record of ${bytes} bytes no longer fits a frame of the gateway (${maxFrameBytes} bytes)`;
    this.calls.refuse(1, new SpillwayError('RECORD_TOO_LARGE', message));
    this.#advance(1);
    this.rewind();
  }

  /** The socket has done with the bytes of a part. */
  written(chunk: Chunk): void {
    this.#pool.release(chunk);
  }

  /** For a new connection: everything that is not settled is to be sent again. */
  rewind(): void {
    this.#unsent = this.#head;
    this.#sentTo = this.#front;
    this.#unsentBytes = 0;
    for (let i = this.#head; i < this.#runs.length; i++) {
      const run = this.#runs[i];
      run.sent = run.settled;
      run.sentEnd = run.from;
      for (let k = 0; k < run.settled; k++) run.sentEnd = recordEnd(run.chunk, run.sentEnd);
      this.#unsentBytes += run.end - run.sentEnd;
    }
  }

  /** A run of an ACK. @throws PROTOCOL_ERROR */
  acknowledge(firstSequence: number, firstOffset: number, records: number, duplicate: boolean, nowMs: number): void {
    const known = this.#known(firstSequence, records);
    if (known >= records) return;
    const fresh = records - known;
    this.calls.acknowledge(firstOffset + known, fresh, nowMs);
    this.records += fresh;
    if (duplicate) this.duplicateRecords += fresh;
    this.durableOffset = Math.max(this.durableOffset, firstOffset + records);
    this.#advance(fresh);
    this.#acknowledgedTo = this.#front;
  }

  /** An ERROR for a range. @throws PROTOCOL_ERROR */
  refuse(firstSequence: number, records: number, error: SpillwayError): void {
    const known = this.#known(firstSequence, records);
    if (known >= records) return;
    this.calls.refuse(records - known, error);
    this.#advance(records - known);
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
    this.#unsentBytes = 0;
    this.#front = this.#next = this.#sentTo = this.#everSentTo = this.#acknowledgedTo = 0;
  }

  /** Records of a range that are settled already. @throws PROTOCOL_ERROR for what was not sent, or is not next */
  #known(firstSequence: number, records: number): number {
    if (firstSequence > this.#front || firstSequence + records > this.#sentTo) {
      throw protocolError(
        `the gateway settled sequences ${firstSequence} to ${firstSequence + records}, of ${this.#front} to ${this.#sentTo} under way`,
      );
    }
    return this.#front - firstSequence;
  }

  #advance(records: number): void {
    this.#front += records;
    this.#sentTo = Math.max(this.#sentTo, this.#front);
    while (this.#head < this.#runs.length) {
      const run = this.#runs[this.#head];
      run.settled = Math.min(run.records, this.#front - run.firstSequence);
      if (run.settled < run.records) break;
      if (run === this.#open) this.#open = undefined;
      this.#head++;
      this.#pool.release(run.chunk);
    }
    this.#unsent = Math.max(this.#unsent, this.#head);
    this.#forget();
  }

  #forget(): void {
    const head = this.#head;
    if (head < this.#runs.length && (head <= FORGET_RUNS || head * 2 <= this.#runs.length)) return;
    if (head === this.#runs.length) this.#runs.length = 0;
    else this.#runs = this.#runs.slice(head);
    this.#unsent -= head;
    this.#head = 0;
  }
}

/** The most records, from the first that is not sent, that so many bytes hold; and where they end. */
function cut(run: Run, maxBytes: number): [end: number, records: number] {
  let end = run.sentEnd;
  let records = 0;
  while (run.sent + records < run.records) {
    const next = recordEnd(run.chunk, end);
    if (next - run.sentEnd > maxBytes) break;
    end = next;
    records++;
  }
  return [end, records];
}
