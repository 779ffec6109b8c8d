// Encoded records in the order of their sequences, as runs: records of one stream, side by side in one chunk.
//
//     ├── settled ──┼──── sent ────┼── to send ──┤
//     (let go)      head           unsent        open: the last run, which may still grow
//
// A frame is cut from a run when it is sent, with what has come together by then.

import { APPEND_HEADER_BYTES } from '../codec/frames.ts';
import type { Payload } from '../pipeline/job.ts';
import { ChunkPool, recordEnd, writeRecord, type Chunk } from './chunk.ts';

/** Most records of one frame, until a gateway says that it takes fewer: its maxRequestRecords, where nobody set it. */
const MAX_FRAME_RECORDS = 10_000;
/** Settled runs that may stand at the front of the list before it is cut; and then as many as wait. */
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

export class Runs {
  readonly #pool = new ChunkPool();
  #runs: Run[] = [];
  /** Runs done with at the front; first with records to send. */
  #head = 0;
  #unsent = 0;
  #open: Run | undefined;
  unsentBytes = 0;
  /** Most records of one frame. */
  maxRecords = MAX_FRAME_RECORDS;

  // Hot: per record. Allocates per chunk only.
  /**
   * @param bytes of the record as `recordBytes` has them
   * @param room what has to fit the run: this record, and those that shall stay with it
   */
  put(
    sequence: number,
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
      run.records >= this.maxRecords
    ) {
      run = this.#begin(sequence, stream, room);
    }
    writeRecord(run.chunk, flags, key, payload, payloadBytes);
    run.end += bytes;
    run.records++;
    this.unsentBytes += bytes;
  }

  #begin(firstSequence: number, stream: string, room: number): Run {
    let chunk = this.#open?.chunk;
    if (chunk !== undefined && chunk.bytes.length - chunk.used >= room) chunk.holders++;
    else chunk = this.#pool.take(room);
    const at = chunk.used;
    const run = { stream, chunk, from: at, end: at, firstSequence, records: 0, settled: 0, sent: 0, sentEnd: at };
    this.#runs.push(run);
    this.#open = run;
    return run;
  }

  /** Bytes of the next record to send; 0: there is none. */
  get nextBytes(): number {
    const run = this.#next(false);
    return run === undefined ? 0 : recordEnd(run.chunk, run.sentEnd) - run.sentEnd;
  }

  /** Bytes of a frame with all that is left to send of the next run; 0: there is nothing. */
  frameBytes(closed: boolean): number {
    const run = this.#next(closed);
    return run === undefined ? 0 : run.end - run.sentEnd + APPEND_HEADER_BYTES;
  }

  /** The first run with something to send. @param closed not one that may still grow */
  #next(closed: boolean): Run | undefined {
    const runs = this.#runs;
    while (this.#unsent < runs.length - 1 && runs[this.#unsent].sent === runs[this.#unsent].records) this.#unsent++;
    const run = runs[this.#unsent];
    return run === undefined || run.sent === run.records || (closed && run === this.#open) ? undefined : run;
  }

  /**
   * The records of the next frame, as many of the next run as it holds; at least one. Their chunk is held until `written`.
   * @param maxBytes of the frame, header included
   */
  take(maxBytes: number): Part {
    const run = this.#next(false)!;
    let end = run.end;
    let records = run.records - run.sent;
    if (end - run.sentEnd + APPEND_HEADER_BYTES > maxBytes || records > this.maxRecords) {
      end = recordEnd(run.chunk, run.sentEnd);
      records = 1;
      while (end < run.end && records < this.maxRecords) {
        const next = recordEnd(run.chunk, end);
        if (next - run.sentEnd + APPEND_HEADER_BYTES > maxBytes) break;
        end = next;
        records++;
      }
    }
    const { stream, chunk, sentEnd: from } = run;
    const firstSequence = run.firstSequence + run.sent;
    this.unsentBytes -= end - from;
    run.sent += records;
    run.sentEnd = end;
    chunk.holders++;
    return { stream, chunk, from, end, firstSequence, records };
  }

  /** The socket has done with the bytes of a part. */
  written(chunk: Chunk): void {
    this.#pool.release(chunk);
  }

  /** Everything that is not settled is to be sent again. */
  rewind(): void {
    this.#unsent = this.#head;
    this.unsentBytes = 0;
    for (let i = this.#head; i < this.#runs.length; i++) {
      const run = this.#runs[i];
      run.sent = run.settled;
      run.sentEnd = run.from;
      for (let k = 0; k < run.settled; k++) run.sentEnd = recordEnd(run.chunk, run.sentEnd);
      this.unsentBytes += run.end - run.sentEnd;
    }
  }

  /** What stands before that sequence is settled. */
  settle(front: number): void {
    while (this.#head < this.#runs.length) {
      const run = this.#runs[this.#head];
      run.settled = Math.min(run.records, front - run.firstSequence);
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
