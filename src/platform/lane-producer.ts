// The producing end of a lane (map and promises: lane-memory.ts).

import { ACK_SLOTS, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES } from '../base/limits.ts';
import type { Identity } from '../base/types.ts';
import {
  ACK_FIELDS,
  FLAG_IDENTITY,
  FLAG_UNTERMINATED,
  frameBytes,
  KIND_DECLARE,
  KIND_PAD,
  LaneMemory,
  laneWord,
  type Acknowledgement,
} from './lane-memory.ts';
import { plainView } from './native.ts';
import type { SharedState } from './shared-state.ts';
import { signal } from './waiter.ts';

/** Whole record frames: as bytes, or as who writes them where they go, once; `out` is `length` bytes of whatever was there before. */
export type Frames = Uint8Array | { readonly length: number; write(out: Uint8Array): void };

/** The producing end. One thread only. */
export class LaneProducer {
  readonly #lane: LaneMemory;
  readonly #shared: SharedState;
  /** The lane's data, for payload bytes. */
  readonly #bytes: Uint8Array;
  /** Own cursor, ahead of TAIL between put and publish. */
  #tail: number;
  #seq: number;
  /** Last HEAD seen: read again only when the lane looks full. */
  #head: number;
  /** The sleep of the consumer that this end has ended: sleeps are numbered. */
  #rungFor = 0;
  #tsMs = -1;
  #tsLow = 0;
  #tsHigh = 0;

  private constructor(lane: LaneMemory, shared: SharedState) {
    this.#lane = lane;
    this.#shared = shared;
    this.#bytes = plainView(lane.data);
    this.#tail = Atomics.load(lane.words, laneWord.tail);
    this.#seq = Atomics.load(lane.words, laneWord.seq);
    this.#head = Atomics.load(lane.words, laneWord.head);
  }

  /** Takes the lane, or returns undefined where another producer has or had it. */
  static take(buffer: SharedArrayBuffer, shared: SharedState): LaneProducer | undefined {
    const lane = new LaneMemory(buffer);
    return Atomics.compareExchange(lane.words, laneWord.state, 0, 1) === 0 ? new LaneProducer(lane, shared) : undefined;
  }

  /** The signal word of this lane, to wait for with `signalled`. */
  get signalWords(): Int32Array {
    return this.#lane.words;
  }

  readonly signalIndex = laneWord.signal;

  /** Bytes not taken by records that the consumer still needs. May be stale: there may be more. */
  get freeBytes(): number {
    return this.#lane.capacity - this.usedBytes;
  }

  get capacity(): number {
    return this.#lane.capacity;
  }

  /** Bytes the consumer still needs. May be stale: there may be fewer. */
  get usedBytes(): number {
    return (this.#tail - Atomics.load(this.#lane.words, laneWord.head)) >>> 0;
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
    if (key !== null) this.#bytes.set(key, at + RECORD_HEADER_BYTES);
    this.#bytes.set(payload, at + RECORD_HEADER_BYTES + keyBytes);
    this.#clearPadding(at + RECORD_HEADER_BYTES + keyBytes + payload.length);
    this.#seq = (this.#seq + 1) | 0;
    return true;
  }

  // Hot: per record, four words each.
  /**
   * Writes whole record frames behind the last in one piece, and puts this stream's id and the time into each; not yet
   * visible: see `publish`. The caller has checked that lengths and kinds are right: `records` frames, together as long as `frames`.
   * @param identity of the first record; each next one counts `low` up, carrying over into `high`
   * @returns false when the lane has no room for all of them now
   */
  putFrames(
    stream: number,
    timestampMs: number,
    frames: Frames,
    records: number,
    identity: Identity | undefined,
  ): boolean {
    const before = this.#tail;
    const start = this.#claim(frames.length);
    if (start < 0) return false;
    const words = this.#lane.frames;
    const data = this.#bytes;
    if (frames instanceof Uint8Array) data.set(frames, start);
    else {
      try {
        frames.write(data.subarray(start, start + frames.length));
      } catch (error) {
        this.#tail = before;
        throw error;
      }
    }
    if (timestampMs !== this.#tsMs) this.#setTimestamp(timestampMs);
    let low = identity?.low ?? 0;
    let high = identity?.high ?? 0;
    const flags = identity === undefined ? 0 : FLAG_IDENTITY << 16;
    for (let n = 0, i = start >> 2; n < records; n++) {
      const keyBytes = words[i + 3] >>> 16;
      words[i + 1] = (words[i + 1] & (FLAG_UNTERMINATED << 16)) | flags | stream;
      words[i + 2] = this.#tsLow;
      words[i + 3] = this.#tsHigh | (keyBytes << 16);
      if (identity !== undefined) {
        data.set(identity.id, i * 4 + RECORD_HEADER_BYTES);
        words[i + 8] = low;
        words[i + 9] = high;
        low = (low + 1) >>> 0;
        if (low === 0) high++;
      }
      i += frameBytes(keyBytes, words[i]) >> 2;
    }
    this.#seq = (this.#seq + records) | 0;
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
    Atomics.store(words, laneWord.seq, this.#seq);
    Atomics.store(words, laneWord.tail, this.#tail);
    const shared = this.#shared;
    const sleep = Atomics.load(shared.words, shared.sleeping);
    // One ring wakes it. Until it has come round, more would be system calls for nothing.
    if (sleep === 0 || sleep === this.#rungFor) return;
    const enough =
      ((this.#seq - Atomics.load(words, laneWord.wakeSeq)) | 0) >= 0 ||
      ((this.#tail - Atomics.load(words, laneWord.wakeTail)) | 0) >= 0;
    if (!enough) return;
    signal(shared.words, shared.doorbell);
    this.#rungFor = sleep;
  }

  /** Reads the next acknowledgement run into `run`. False when there is none. */
  nextAck(run: Acknowledgement): boolean {
    const { words, ackRuns } = this.#lane;
    const head = words[laneWord.ackHead];
    if (head === Atomics.load(words, laneWord.ackTail)) return false;
    const slot = (head & (ACK_SLOTS - 1)) * ACK_FIELDS;
    run.firstOffset = ackRuns[slot];
    run.records = ackRuns[slot + 1];
    run.freeMs = ackRuns[slot + 2];
    run.closedMs = ackRuns[slot + 3];
    run.durableMs = ackRuns[slot + 4];
    Atomics.store(words, laneWord.ackHead, (head + 1) | 0);
    return true;
  }

  /** Nothing is put after this; the consumer frees the lane once it has drained it. */
  close(): void {
    Atomics.store(this.#lane.words, laneWord.state, 2);
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
    const data = this.#bytes;
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
      this.#head = Atomics.load(lane.words, laneWord.head);
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
