// One lane: a single-producer single-consumer ring of variable-length frames in a SharedArrayBuffer.
// Promises: at most one thread writes and one reads; order is kept; a frame is contiguous, so bytes can be gathered
// from it without being put together again; nothing is allocated per record; memory is laneBytes + 35 KiB, for ever.
//
// Map (bytes; cursors of different writers 128 apart):
//      0  STATE      i32  0 free · 1 taken by a producer · 2 closed by it
//    128  TAIL       i32  producer: end of what is published, counting bytes modulo 2^32
//    132  SEQ        i32  producer: records published, modulo 2^32; stored before TAIL
//    256  HEAD       i32  consumer: bytes it no longer needs, modulo 2^32
//    260  ACK_TAIL   i32  consumer: acknowledgement runs published
//    264  SIGNAL     i32  consumer: counted up after HEAD, ACK_TAIL or the log's state moved
//    268  WAKE_TAIL  i32  consumer: while it sleeps, ring the doorbell only when TAIL …
//    272  WAKE_SEQ   i32            … or SEQ has come this far
//    384  ACK_HEAD   i32  producer: acknowledgement runs read
//    512  ack runs        consumer: ACK_SLOTS × {f64 firstOffset, f64 records}
//         histogram       producer: µs from append to durable, as it sees them
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
import { Histogram, HISTOGRAM_BYTES } from './histogram.ts';
import type { SharedState } from './shared-state.ts';
import { signal } from './waiter.ts';

const word = {
  state: 0,
  tail: 32,
  seq: 33,
  head: 64,
  ackTail: 65,
  signal: 66,
  wakeTail: 67,
  wakeSeq: 68,
  ackHead: 96,
} as const;
const CONTROL_BYTES = 512;
const HISTOGRAM_AT = CONTROL_BYTES + ACK_SLOTS * 16;
const DATA_AT = HISTOGRAM_AT + HISTOGRAM_BYTES;

const KIND_RECORD = 0;
const KIND_PAD = 1;
const KIND_DECLARE = 2;
/** Flag bit: the last line of an input that ended without a newline. */
export const FLAG_UNTERMINATED = 1;

export function frameBytes(keyBytes: number, payloadBytes: number): number {
  return (RECORD_HEADER_BYTES + keyBytes + payloadBytes + (RECORD_ALIGN_BYTES - 1)) & -RECORD_ALIGN_BYTES;
}

/** The memory of a new lane. @param laneBytes a power of two */
export function createLaneBuffer(laneBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(DATA_AT + laneBytes);
}

/** The latency that the producer of a lane has seen, from any thread. */
export function laneLatency(buffer: SharedArrayBuffer): Histogram {
  return new Histogram(buffer, HISTOGRAM_AT);
}

/** True once the producer of a lane has closed it. From any thread. */
export function laneIsClosed(buffer: SharedArrayBuffer): boolean {
  return Atomics.load(new Int32Array(buffer, 0, 1), word.state) === 2;
}

/** Wakes the producer of a lane, from any thread: its log's state has changed. */
export function notifyLane(buffer: SharedArrayBuffer): void {
  signal(new Int32Array(buffer, 0, CONTROL_BYTES / 4), word.signal);
}

/** What both ends see. */
class LaneMemory {
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
    this.ackRuns = new Float64Array(buffer, CONTROL_BYTES, ACK_SLOTS * 2);
    this.data = new Uint8Array(buffer, DATA_AT, this.capacity);
    this.frames = new Int32Array(buffer, DATA_AT, this.capacity / 4);
  }
}

/** The producing end. One thread only. */
export class LaneProducer {
  readonly #lane: LaneMemory;
  readonly #shared: SharedState;
  /** Own cursor, ahead of TAIL between put and publish. */
  #tail: number;
  #seq: number;
  /** Last HEAD seen: read again only when the lane looks full. */
  #head: number;
  #tsMs = -1;
  #tsLow = 0;
  #tsHigh = 0;

  private constructor(lane: LaneMemory, shared: SharedState) {
    this.#lane = lane;
    this.#shared = shared;
    this.#tail = Atomics.load(lane.words, word.tail);
    this.#seq = Atomics.load(lane.words, word.seq);
    this.#head = Atomics.load(lane.words, word.head);
  }

  /** Takes the lane, or returns undefined where another producer has or had it. */
  static take(buffer: SharedArrayBuffer, shared: SharedState): LaneProducer | undefined {
    const lane = new LaneMemory(buffer);
    return Atomics.compareExchange(lane.words, word.state, 0, 1) === 0 ? new LaneProducer(lane, shared) : undefined;
  }

  /** The signal word of this lane, to wait for with `signalled`. */
  get signalWords(): Int32Array {
    return this.#lane.words;
  }

  readonly signalIndex = word.signal;

  /** Bytes not taken by records that the consumer still needs. May be stale: there may be more. */
  get freeBytes(): number {
    return this.#lane.capacity - ((this.#tail - Atomics.load(this.#lane.words, word.head)) >>> 0);
  }

  // Hot: per record. No allocation, no closure, no exception.
  /**
   * Writes one record behind the last, not yet visible: see `publish`.
   * @returns false when the lane has no room for it now
   */
  put(stream: number, flags: number, timestampMs: number, key: Uint8Array | null, payload: Uint8Array): boolean {
    const keyBytes = key === null ? 0 : key.length;
    const at = this.#claim(frameBytes(keyBytes, payload.length));
    if (at < 0) return false;
    const lane = this.#lane;
    const i = at >> 2;
    if (timestampMs !== this.#tsMs) this.#setTimestamp(timestampMs);
    lane.frames[i] = payload.length;
    lane.frames[i + 1] = stream | (flags << 16);
    lane.frames[i + 2] = this.#tsLow;
    lane.frames[i + 3] = this.#tsHigh | (keyBytes << 16);
    if (key !== null) lane.data.set(key, at + RECORD_HEADER_BYTES);
    lane.data.set(payload, at + RECORD_HEADER_BYTES + keyBytes);
    this.#clearPadding(at + RECORD_HEADER_BYTES + keyBytes + payload.length);
    this.#seq = (this.#seq + 1) | 0;
    return true;
  }

  /** Tells the consumer what a stream id stands for; goes before the first record that uses it. */
  declare(stream: number, name: Uint8Array): boolean {
    const at = this.#claim(frameBytes(0, name.length));
    if (at < 0) return false;
    const i = at >> 2;
    this.#lane.frames[i] = name.length;
    this.#lane.frames[i + 1] = stream | (KIND_DECLARE << 24);
    this.#lane.data.set(name, at + RECORD_HEADER_BYTES);
    return true;
  }

  /** Makes everything put so far visible, and wakes the consumer if it sleeps and asked for this much. */
  publish(): void {
    const { words } = this.#lane;
    Atomics.store(words, word.seq, this.#seq);
    Atomics.store(words, word.tail, this.#tail);
    const shared = this.#shared;
    if (Atomics.load(shared.words, shared.sleeping) === 0) return;
    const enough =
      ((this.#seq - Atomics.load(words, word.wakeSeq)) | 0) >= 0 ||
      ((this.#tail - Atomics.load(words, word.wakeTail)) | 0) >= 0;
    if (enough) signal(shared.words, shared.doorbell);
  }

  /** Reads the next acknowledgement run into `run`: first offset and number of records. False when there is none. */
  nextAck(run: { firstOffset: number; records: number }): boolean {
    const { words, ackRuns } = this.#lane;
    const head = words[word.ackHead];
    if (head === Atomics.load(words, word.ackTail)) return false;
    const slot = (head & (ACK_SLOTS - 1)) * 2;
    run.firstOffset = ackRuns[slot];
    run.records = ackRuns[slot + 1];
    Atomics.store(words, word.ackHead, (head + 1) | 0);
    return true;
  }

  /** Nothing is put after this; the consumer frees the lane once it has drained it. */
  close(): void {
    Atomics.store(this.#lane.words, word.state, 2);
    signal(this.#shared.words, this.#shared.doorbell);
  }

  #setTimestamp(timestampMs: number): void {
    this.#tsMs = timestampMs;
    this.#tsLow = timestampMs | 0;
    this.#tsHigh = (timestampMs / 2 ** 32) & 0xffff;
    // `| 0` of a double beyond 2^31 takes its low 32 bits (ECMA-262 ToInt32), which is what is wanted here.
  }

  // Hot: per record. The bytes between payload and next frame must not carry what was there a lap ago to the disk.
  #clearPadding(from: number): void {
    const { data } = this.#lane;
    for (let p = from; (p & (RECORD_ALIGN_BYTES - 1)) !== 0; p++) data[p] = 0;
  }

  // Hot: per record.
  /** Reserves `size` contiguous bytes and returns their place in `data`, or -1 when there is no room. */
  #claim(size: number): number {
    const lane = this.#lane;
    let at = this.#tail & lane.mask;
    const toEnd = lane.capacity - at;
    const needed = size <= toEnd ? size : toEnd + size;
    if (needed > lane.capacity - ((this.#tail - this.#head) >>> 0)) {
      this.#head = Atomics.load(lane.words, word.head);
      if (needed > lane.capacity - ((this.#tail - this.#head) >>> 0)) return -1;
    }
    if (size > toEnd) {
      lane.frames[at >> 2] = toEnd;
      lane.frames[(at >> 2) + 1] = KIND_PAD << 24;
      at = 0;
    }
    this.#tail = (this.#tail + needed) | 0;
    return at;
  }
}

/** Where a walk over a lane's frames reports to. Returning false from `onStream` ends the walk before that record. */
export interface WalkSink {
  /** Whole frames lie in data[from, to). */
  onRange(from: number, to: number): void;
  /** First record of this stream in the batch. */
  onStream(stream: number): boolean;
  onDeclare(stream: number, name: string): void;
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
  /** Records walked over, modulo 2^32. */
  #seq: number;
  /** What the last walk took. */
  walkedRecords = 0;
  walkedBytes = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.#lane = new LaneMemory(buffer);
    this.#at = Atomics.load(this.#lane.words, word.head);
    this.#seq = 0;
  }

  get data(): Uint8Array {
    return this.#lane.data;
  }

  /** Bytes published and not yet walked; padding included. */
  availableBytes(): number {
    return (Atomics.load(this.#lane.words, word.tail) - this.#at) >>> 0;
  }

  /** Records published and not yet walked. Read after `availableBytes` it may be a little ahead of it. */
  availableRecords(): number {
    return (Atomics.load(this.#lane.words, word.seq) - this.#seq) >>> 0;
  }

  get closedAndEmpty(): boolean {
    return Atomics.load(this.#lane.words, word.state) === 2 && this.availableBytes() === 0;
  }

  /** Records walked so far plus those published: what SEQ stood at. For `LaneSet.mark`. */
  get publishedSeq(): number {
    return Atomics.load(this.#lane.words, word.seq);
  }

  /** True once the record before sequence number `seq` has been walked. */
  hasWalked(seq: number): boolean {
    return ((this.#seq - seq) | 0) >= 0;
  }

  /** True when no acknowledgement waits to be read. */
  get acksRead(): boolean {
    return Atomics.load(this.#lane.words, word.ackHead) === this.#lane.words[word.ackTail];
  }

  /** Acknowledgement runs that still fit. */
  ackRoom(): number {
    const { words } = this.#lane;
    return ACK_SLOTS - ((words[word.ackTail] - Atomics.load(words, word.ackHead)) >>> 0);
  }

  // Hot: per record. No allocation, no exception.
  /**
   * Walks over published frames, at most `maxRecords` records and `maxBytes` bytes of frames, and reports them. The first
   * record is taken whatever its size when `takeFirst`: a record larger than the window is a batch of its own.
   * @returns why it ended; walkedRecords and walkedBytes say how far it came
   */
  walk(sink: WalkSink, maxRecords: number, maxBytes: number, takeFirst: boolean): WalkEnd {
    const { frames, mask, words } = this.#lane;
    const tail = Atomics.load(words, word.tail);
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
    Atomics.store(this.#lane.words, word.head, this.#at);
  }

  /** Publishes one run: the next `records` unacknowledged records of this lane are durable from `firstOffset` on. */
  acknowledge(firstOffset: number, records: number): void {
    const { words, ackRuns } = this.#lane;
    const tail = words[word.ackTail];
    const slot = (tail & (ACK_SLOTS - 1)) * 2;
    ackRuns[slot] = firstOffset;
    ackRuns[slot + 1] = records;
    Atomics.store(words, word.ackTail, (tail + 1) | 0);
  }

  /** Wakes the producer. */
  notify(): void {
    signal(this.#lane.words, word.signal);
  }

  /** Before sleeping: ring only once this many more records, or bytes, are published. */
  wakeAfter(records: number, bytes: number): void {
    Atomics.store(this.#lane.words, word.wakeSeq, (this.#seq + records) | 0);
    Atomics.store(this.#lane.words, word.wakeTail, (this.#at + bytes) | 0);
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
