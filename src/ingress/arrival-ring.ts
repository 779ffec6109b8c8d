// Arrivals of one accept thread on their way to the file that records them (arrival-file.ts): a ring in shared memory with one
// writer, the accept thread, and one reader, the main thread; they may be the same. An arrival is a time, a number of records and
// a number of bytes: nothing that was sent.
//
// Promises: to record one costs three stores and waits for nothing; memory is ARRIVAL_RING_BYTES; a row that finds the ring full
// is lost, and counted.
//
// Map (bytes; cursors of different writers 128 apart):
//      0  TAIL   i32  accept thread: rows recorded, modulo 2^32; stored after the row
//      4  LOST   i32  accept thread: rows that found no room
//    128  HEAD   i32  main thread: rows taken, modulo 2^32
//    132  ENDED  i32  main thread: 1 once nothing is written any more
//    256  rows        accept thread: ARRIVAL_ROWS × f64 {atMs, records, bytes}, atMs by the monotonic clock, never going back

import { ARRIVAL_ROWS } from '../base/limits.ts';

const TAIL = 0;
const LOST = 1;
const HEAD = 32;
const ENDED = 33;
const ROWS_AT = 256;
const FIELDS = 3;
const MASK = ARRIVAL_ROWS - 1;

export const ARRIVAL_RING_BYTES = ROWS_AT + ARRIVAL_ROWS * FIELDS * 8;

/** Memory of a new ring. */
export function createArrivalRing(): SharedArrayBuffer {
  return new SharedArrayBuffer(ARRIVAL_RING_BYTES);
}

export class ArrivalRing {
  readonly #words: Int32Array;
  readonly #rows: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer, 0, ROWS_AT / 4);
    this.#rows = new Float64Array(buffer, ROWS_AT, ARRIVAL_ROWS * FIELDS);
  }

  // Hot: per request or frame. No allocation, no closure, no exception.
  /** By the accept thread alone. */
  record(atMs: number, records: number, bytes: number): void {
    const words = this.#words;
    if (Atomics.load(words, ENDED) === 1) return;
    const tail = words[TAIL];
    if (((tail - Atomics.load(words, HEAD)) | 0) === ARRIVAL_ROWS) {
      Atomics.add(words, LOST, 1);
      return;
    }
    const at = (tail & MASK) * FIELDS;
    this.#rows[at] = atMs;
    this.#rows[at + 1] = records;
    this.#rows[at + 2] = bytes;
    Atomics.store(words, TAIL, (tail + 1) | 0);
  }

  /** Rows that found no room. From any thread. */
  get lost(): number {
    return Atomics.load(this.#words, LOST) >>> 0;
  }

  /** When the oldest row arrived; undefined where there is none. By the main thread alone, as what follows. */
  get oldestMs(): number | undefined {
    const head = this.#words[HEAD];
    return head === Atomics.load(this.#words, TAIL) ? undefined : this.#rows[(head & MASK) * FIELDS];
  }

  /** Takes the oldest row, which there has to be. */
  take(): { readonly records: number; readonly bytes: number } {
    const head = this.#words[HEAD];
    const at = (head & MASK) * FIELDS;
    const row = { records: this.#rows[at + 1], bytes: this.#rows[at + 2] };
    Atomics.store(this.#words, HEAD, (head + 1) | 0);
    return row;
  }

  /** What comes from now on is not recorded, and not lost either. */
  end(): void {
    Atomics.store(this.#words, ENDED, 1);
  }
}
