// What the producer of a lane tells everybody of it, in the lane's memory (map: lane-memory.ts). Plain f64 with one writing
// thread: a reader may see figures that are a little old, never torn ones.
//
// Figures: what waits for room in front of the lane, since when the oldest record waits, and records that were refused, by cause.
// Histograms, in µs, one sample per record unless it says otherwise:
//
//     append ├── lane ──┤── window ──┤──── write ────┤── back ──┤ told     latency = lane + window + write + back
//                    free         closed          durable
//
//     lane      the commit thread was busy with an earlier batch; waiting for room in a full lane counts here too
//     window    from then until the batch closed: linger, the wake-up of the commit thread, gathering
//     write     until the commit thread saw that the durable write had returned: encoding, a roll, writes before it
//     back      until the producer had read the acknowledgement
//     batchAge  from append to closed of the oldest record, one sample per batch and lane

import { Histogram, HISTOGRAM_BYTES } from './histogram.ts';

export const laneHistogramNames = ['latency', 'lane', 'window', 'write', 'back', 'batchAge'] as const;
export type LaneHistogramName = (typeof laneHistogramNames)[number];
export const LANE_HISTOGRAMS_BYTES = laneHistogramNames.length * HISTOGRAM_BYTES;

/**
 * Why records were refused: the lane was full, and its policy was drop-newest or drop-oldest, or block and maxBlockMs was over, or
 * more than maxWaitingBytes would have waited.
 */
export const dropCauses = ['newest', 'oldest', 'blockedTooLong', 'backlog'] as const;
export type DropCause = (typeof dropCauses)[number];
/** Records that were refused because the lane was full, by cause. */
export type Drops = Readonly<Record<DropCause, number>>;

const slot = { waitingRecords: 0, waitingBytes: 1, oldestMs: 2, drops: 3 } as const;
const SLOTS = slot.drops + dropCauses.length;

export class LaneFigures {
  readonly histograms: Readonly<Record<LaneHistogramName, Histogram>>;
  readonly #slots: Float64Array;

  constructor(buffer: SharedArrayBuffer, figuresAt: number, histogramsAt: number) {
    this.#slots = new Float64Array(buffer, figuresAt, SLOTS);
    const made = {} as Record<LaneHistogramName, Histogram>;
    laneHistogramNames.forEach((name, i) => (made[name] = new Histogram(buffer, histogramsAt + i * HISTOGRAM_BYTES)));
    this.histograms = made;
  }

  /** What waits for room in the lane. */
  setWaiting(records: number, bytes: number): void {
    this.#slots[slot.waitingRecords] = records;
    this.#slots[slot.waitingBytes] = bytes;
  }

  get waitingRecords(): number {
    return this.#slots[slot.waitingRecords];
  }

  get waitingBytes(): number {
    return this.#slots[slot.waitingBytes];
  }

  /** When the oldest record was appended that is not acknowledged yet, by the monotonic clock; 0 where there is none. */
  get oldestMs(): number {
    return this.#slots[slot.oldestMs];
  }

  set oldestMs(ms: number) {
    this.#slots[slot.oldestMs] = ms;
  }

  drop(cause: DropCause, records: number): void {
    this.#slots[slot.drops + dropCauses.indexOf(cause)] += records;
  }

  get drops(): Drops {
    const drops = {} as Record<DropCause, number>;
    dropCauses.forEach((cause, i) => (drops[cause] = this.#slots[slot.drops + i]));
    return drops;
  }
}
