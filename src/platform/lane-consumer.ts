// The consuming end of a lane (map and promises: lane-memory.ts).

import { ACK_SLOTS, RECORD_HEADER_BYTES } from '../base/limits.ts';
import { ACK_FIELDS, frameBytes, KIND_PAD, KIND_RECORD, LaneMemory, laneWord, type BatchTimes } from './lane-memory.ts';
import { signal } from './waiter.ts';

/** Where a walk over a lane's frames reports to. Returning false from `onStream` ends the walk before that record. */
export interface WalkSink {
  /** Whole frames lie in data[from, to). */
  onRange(from: number, to: number): void;
  /** First record of this stream in the batch. */
  onStream(stream: number): boolean;
  onDeclare(stream: number, name: string): void;
  /** Calls of `onRange` that still fit. */
  readonly rangesLeft: number;
  /** Records per stream id of this batch, and the batch in which an id was last seen. */
  readonly counts: Uint32Array;
  readonly seenIn: Uint32Array;
  readonly batchNumber: number;
}

export type WalkEnd = 'empty' | 'records' | 'bytes';

/** The consuming end. One thread only. */
export class LaneConsumer {
  readonly #lane: LaneMemory;
  /** Own cursor, ahead of HEAD between walk and release. */
  #at: number;
  /** FIRST_SEQ and the records walked over, modulo 2^32. */
  #seq: number;
  /** What the last walk took. */
  walkedRecords = 0;
  walkedBytes = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.#lane = new LaneMemory(buffer);
    this.#at = Atomics.load(this.#lane.words, laneWord.head);
    this.#seq = this.#lane.words[laneWord.firstSeq];
  }

  get data(): Uint8Array {
    return this.#lane.data;
  }

  /** Bytes published and not yet walked; padding included. */
  availableBytes(): number {
    return (Atomics.load(this.#lane.words, laneWord.tail) - this.#at) >>> 0;
  }

  /** Records published and not yet walked. Read after `availableBytes` it may be a little ahead of it. */
  availableRecords(): number {
    return (Atomics.load(this.#lane.words, laneWord.seq) - this.#seq) >>> 0;
  }

  get closedAndEmpty(): boolean {
    return Atomics.load(this.#lane.words, laneWord.state) === 2 && this.availableBytes() === 0;
  }

  /** Records walked so far plus those published: what SEQ stood at. For `LaneSet.mark`. */
  get publishedSeq(): number {
    return Atomics.load(this.#lane.words, laneWord.seq);
  }

  /** True once the record before sequence number `seq` has been walked. */
  hasWalked(seq: number): boolean {
    return ((this.#seq - seq) | 0) >= 0;
  }

  /** True when no acknowledgement waits to be read. */
  get acksRead(): boolean {
    return Atomics.load(this.#lane.words, laneWord.ackHead) === this.#lane.words[laneWord.ackTail];
  }

  /** Acknowledgement runs that still fit. */
  ackRoom(): number {
    const { words } = this.#lane;
    return ACK_SLOTS - ((words[laneWord.ackTail] - Atomics.load(words, laneWord.ackHead)) >>> 0);
  }

  // Hot: per record. No allocation, no exception.
  /**
   * Walks over published frames, at most `maxRecords` records and `maxBytes` bytes of frames, and reports them. The first
   * record is taken whatever its size when `takeFirst`: a record larger than the window is a batch of its own.
   * @returns why it ended; walkedRecords and walkedBytes say how far it came
   */
  walk(sink: WalkSink, maxRecords: number, maxBytes: number, takeFirst: boolean): WalkEnd {
    const { frames, mask, words } = this.#lane;
    const tail = Atomics.load(words, laneWord.tail);
    const { counts, seenIn, batchNumber } = sink;
    let at = this.#at;
    let from = at & mask;
    let pending = 0;
    let records = 0;
    let bytes = 0;
    let end: WalkEnd = 'empty';
    while (at !== tail) {
      const i = (at & mask) >> 2;
      const meta = frames[i + 1];
      const kind = meta >>> 24;
      if (kind !== KIND_RECORD) {
        if (pending > 0) sink.onRange(from, from + pending);
        pending = 0;
        if (sink.rangesLeft < 2) {
          end = 'bytes';
          break;
        }
        at = (at + this.#control(sink, i, kind)) | 0;
        from = at & mask;
        continue;
      }
      if (records === maxRecords) {
        end = 'records';
        break;
      }
      const size = frameBytes(frames[i + 3] >>> 16, frames[i]);
      if (bytes + size > maxBytes && !(takeFirst && records === 0)) {
        end = 'bytes';
        break;
      }
      const stream = meta & 0xffff;
      if (seenIn[stream] !== batchNumber && !sink.onStream(stream)) {
        end = 'bytes';
        break;
      }
      counts[stream]++;
      records++;
      bytes += size;
      pending += size;
      at = (at + size) | 0;
      if ((at & mask) === 0) {
        // The frame ended exactly at the lane's end: no padding says so, and a range must not run beyond it.
        sink.onRange(from, from + pending);
        pending = 0;
        from = 0;
      }
    }
    if (pending > 0) sink.onRange(from, from + pending);
    this.#at = at;
    this.#seq = (this.#seq + records) | 0;
    this.walkedRecords = records;
    this.walkedBytes = bytes;
    return end;
  }

  /** Gives everything walked over back to the producer. Call `notify` afterwards. */
  release(): void {
    this.#lane.words[laneWord.headSeq] = this.#seq;
    Atomics.store(this.#lane.words, laneWord.head, this.#at);
  }

  /** Publishes one run: the next `records` unacknowledged records of this lane are durable from `firstOffset` on, with their batch. */
  acknowledge(firstOffset: number, records: number, batch: Readonly<BatchTimes>): void {
    const { words, ackRuns } = this.#lane;
    const tail = words[laneWord.ackTail];
    const slot = (tail & (ACK_SLOTS - 1)) * ACK_FIELDS;
    ackRuns[slot] = firstOffset;
    ackRuns[slot + 1] = records;
    ackRuns[slot + 2] = batch.freeMs;
    ackRuns[slot + 3] = batch.closedMs;
    ackRuns[slot + 4] = batch.durableMs;
    Atomics.store(words, laneWord.ackTail, (tail + 1) | 0);
  }

  /** Wakes the producer. */
  notify(): void {
    signal(this.#lane.words, laneWord.signal);
  }

  /** Before sleeping: ring only once this many more records, or bytes, are published. */
  wakeAfter(records: number, bytes: number): void {
    Atomics.store(this.#lane.words, laneWord.wakeSeq, (this.#seq + records) | 0);
    Atomics.store(this.#lane.words, laneWord.wakeTail, (this.#at + bytes) | 0);
  }

  /** Frames that are not records. Returns the bytes to go on. */
  #control(sink: WalkSink, i: number, kind: number): number {
    const payloadBytes = this.#lane.frames[i];
    if (kind === KIND_PAD) return payloadBytes;
    const at = i * 4 + RECORD_HEADER_BYTES;
    const name = Buffer.from(this.#lane.data.subarray(at, at + payloadBytes)).toString('latin1');
    sink.onDeclare(this.#lane.frames[i + 1] & 0xffff, name);
    return frameBytes(0, payloadBytes);
  }
}
