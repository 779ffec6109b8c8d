// Places in the segment that is being written, remembered from read to read: it has no index until it is sealed, and without them
// each read of its end would walk over all of it. For one log handle, in which a segment only ever grows.
// Limits: one segment, a place per PLACE_EVERY_BYTES.

import type { RecentIndexes } from './index-file.ts';
import type { Unpacker } from './unpack.ts';

const PLACE_EVERY_BYTES = 64 * 1024;

/** Where a batch begins. */
interface Place {
  readonly position: number;
  readonly offset: number;
}

export class Places {
  #base = -1;
  #places: Place[] = [];

  /** A batch, or the end of the last, is there. */
  note(base: number, position: number, offset: number): void {
    if (base < this.#base) return;
    if (base > this.#base) {
      this.#base = base;
      this.#places = [];
    }
    const last = this.#places.at(-1);
    if (last === undefined || position >= last.position + PLACE_EVERY_BYTES) this.#places.push({ position, offset });
  }

  /** The last place known at or before an offset. */
  find(base: number, offset: number): Place | undefined {
    return base === this.#base ? this.#places.findLast((place) => place.offset <= offset) : undefined;
  }
}

/** For a look at the log that must not hold up its thread for long. */
export interface LookOptions {
  /** All shared by the readers of one log handle. */
  readonly places: Places;
  readonly indexes: RecentIndexes;
  /** Keeps nothing. */
  readonly unpacker: Unpacker;
  /** What `nextBatch` walks over in all, in bytes, before it says `stopped`. */
  readonly walkBytes: number;
  /** Of a batch no more records are handed out than so many, though all are checked: the caller leaves behind them. */
  readonly batchRecords: number;
  /** What is read is put here: records are views of it, and good until the next call. */
  readonly buffer: Uint8Array;
}
