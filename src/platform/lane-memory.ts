// One lane: a single-producer single-consumer ring of variable-length frames in a SharedArrayBuffer.
// Promises: at most one thread writes and one reads; order is kept; a frame is contiguous, so bytes can be gathered
// from it without being put together again; nothing is allocated per record; memory is laneBytes + 146 KiB, for ever:
// 40 KiB of acknowledgement runs and six histograms of 17.5 KiB. With half the buckets quantiles would be off by 3.1 %, not 1.6 %,
// to save 53 KiB: 0.3 % of a lane of 16 MiB.
//
// Map (bytes; cursors of different writers 128 apart):
//      0  STATE      i32  0 free · 1 taken by a producer · 2 closed by it
//    128  TAIL       i32  producer: end of what is published, counting bytes modulo 2^32
//    132  SEQ        i32  producer: records published, modulo 2^32; stored before TAIL
//    136  FIRST_SEQ  i32  nobody: where SEQ stood when the lane was made; 0 but in tests of its wrap
//    256  HEAD       i32  consumer: bytes it no longer needs, modulo 2^32
//    260  ACK_TAIL   i32  consumer: acknowledgement runs published
//    264  SIGNAL     i32  consumer: counted up after HEAD, ACK_TAIL or the log's state moved
//    268  WAKE_TAIL  i32  consumer: while it sleeps, ring the doorbell only when TAIL …
//    272  WAKE_SEQ   i32            … or SEQ has come this far
//    276  HEAD_SEQ   i32  consumer: records it no longer needs, modulo 2^32; stored before HEAD
//    384  ACK_HEAD   i32  producer: acknowledgement runs read
//    392  figures    f64  producer: what waits for room, ages, drops (lane-figures.ts)
//    512  ack runs        consumer: ACK_SLOTS × f64 {firstOffset, records, freeMs, closedMs, durableMs}
//         histograms      producer: latencies as it sees them (lane-figures.ts)
//    then data            producer: laneBytes of frames
//
// Frame, in the lane and on disk alike (little-endian, 8-aligned; producer's stores, consumer's loads):
//
//     0               4               8              12              16
//     ├───────────────┼───────────────┼───────────────┼───────────────┼── … ──┼── … ───┼─ 0…7 ─┤
//     │ payloadBytes  │ stream u16    │ timestampMs, low 48 bits      │  key  │ payload│ zeros │
//     │ u32           │ flags u8      │      (u48)          keyBytes  │       │        │       │
//     │               │ kind u8       │                     u16       │       │        │       │
//
// kind 0 record · 1 padding up to the lane's end (payloadBytes = bytes to skip, header included) · 2 declares a stream
// id (payload = its name). Kinds 1 and 2 live in lanes only and never reach the disk.
//
// Publish order: frame, then SEQ, then TAIL (sequentially consistent store), then the doorbell.
// Sources: Disruptor SingleProducerSequencer (cached consumer cursor), Agrona OneToOneRingBuffer (padding frames).

import { ACK_SLOTS, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES } from '../base/limits.ts';
import { LaneFigures, LANE_HISTOGRAMS_BYTES } from './lane-figures.ts';
import { signal } from './waiter.ts';

/** Places of the control words, as Int32 indexes. */
export const laneWord = {
  state: 0,
  tail: 32,
  seq: 33,
  firstSeq: 34,
  head: 64,
  ackTail: 65,
  signal: 66,
  wakeTail: 67,
  wakeSeq: 68,
  headSeq: 69,
  ackHead: 96,
} as const;
const CONTROL_BYTES = 512;
const FIGURES_AT = 392;
/** Numbers of one acknowledgement run. */
export const ACK_FIELDS = 5;
const HISTOGRAMS_AT = CONTROL_BYTES + ACK_SLOTS * ACK_FIELDS * 8;
const DATA_AT = HISTOGRAMS_AT + LANE_HISTOGRAMS_BYTES;

/** When a batch was what, by a clock that all threads share. */
export interface BatchTimes {
  /** The commit thread had finished with the batch before, and looked for this one. */
  freeMs: number;
  /** The window had closed it: its records were gathered. */
  closedMs: number;
  /** The commit thread saw that its durable write had returned. */
  durableMs: number;
}

/** A run of records of one lane that are durable, as its producer reads it. */
export interface Acknowledgement extends BatchTimes {
  firstOffset: number;
  records: number;
}

export function noAcknowledgement(): Acknowledgement {
  return { firstOffset: 0, records: 0, freeMs: 0, closedMs: 0, durableMs: 0 };
}

export const KIND_RECORD = 0;
export const KIND_PAD = 1;
export const KIND_DECLARE = 2;
/** Flag bit: the last line of an input that ended without a newline. */
export const FLAG_UNTERMINATED = 1;
/** Flag bit: the key begins with an identity (base/types.ts) of IDENTITY_BYTES. */
export const FLAG_IDENTITY = 2;

export function frameBytes(keyBytes: number, payloadBytes: number): number {
  return (RECORD_HEADER_BYTES + keyBytes + payloadBytes + (RECORD_ALIGN_BYTES - 1)) & -RECORD_ALIGN_BYTES;
}

/** The memory of a new lane. @param laneBytes a power of two */
export function createLaneBuffer(laneBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(DATA_AT + laneBytes);
}

/** What the producer of a lane says of it, from any thread. */
export function laneFigures(buffer: SharedArrayBuffer): LaneFigures {
  return new LaneFigures(buffer, FIGURES_AT, HISTOGRAMS_AT);
}

/** Records and bytes in a lane that the consumer still needs, from any thread. May be stale: there may be fewer. */
export function laneUsed(buffer: SharedArrayBuffer): { readonly records: number; readonly bytes: number } {
  const words = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
  // What was taken first: what is read later of what came in is never less.
  const head = Atomics.load(words, laneWord.head);
  const headSeq = Atomics.load(words, laneWord.headSeq);
  return {
    records: (Atomics.load(words, laneWord.seq) - headSeq) >>> 0,
    bytes: (Atomics.load(words, laneWord.tail) - head) >>> 0,
  };
}

/** True once the producer of a lane has closed it. From any thread. */
export function laneIsClosed(buffer: SharedArrayBuffer): boolean {
  return Atomics.load(new Int32Array(buffer, 0, 1), laneWord.state) === 2;
}

/** Wakes the producer of a lane, from any thread: its log's state has changed. */
export function notifyLane(buffer: SharedArrayBuffer): void {
  signal(new Int32Array(buffer, 0, CONTROL_BYTES / 4), laneWord.signal);
}

/** What both ends see. */
export class LaneMemory {
  readonly words: Int32Array;
  readonly ackRuns: Float64Array;
  readonly data: Uint8Array;
  readonly frames: Int32Array;
  readonly mask: number;
  readonly capacity: number;

  constructor(buffer: SharedArrayBuffer) {
    this.capacity = buffer.byteLength - DATA_AT;
    this.mask = this.capacity - 1;
    this.words = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.ackRuns = new Float64Array(buffer, CONTROL_BYTES, ACK_SLOTS * ACK_FIELDS);
    this.data = new Uint8Array(buffer, DATA_AT, this.capacity);
    this.frames = new Int32Array(buffer, DATA_AT, this.capacity / 4);
  }
}
