// Splits the latency that a producer sees by stage (platform/lane-figures.ts has the picture), from what an acknowledgement
// brings: when the batch was what.
//
// All records of a run share `write` and `back`. Of `lane` and `window` one at most differs from record to record: who came
// before the commit thread was free waited in the lane, and for the window as long as all of those; who came after it waited for
// the window alone. So a record costs two samples, and a run four more.

import type { Acknowledgement } from '../platform/lane-memory.ts';
import type { LaneHistogramName } from '../platform/lane-figures.ts';
import type { Histogram } from '../platform/histogram.ts';

export class Stages {
  readonly #histograms: Readonly<Record<LaneHistogramName, Histogram>>;
  #freeMs = 0;
  #closedMs = 0;
  #durableMs = 0;
  #nowMs = 0;
  /** Records of this run that came before the commit thread was free, and after it. */
  #early = 0;
  #late = 0;

  constructor(histograms: Readonly<Record<LaneHistogramName, Histogram>>) {
    this.#histograms = histograms;
  }

  /** A run was read. The times are put in order where they are not: threads look at the clock's origin each for themselves. */
  begin(run: Readonly<Acknowledgement>, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#durableMs = Math.min(run.durableMs, nowMs);
    this.#closedMs = Math.min(run.closedMs, this.#durableMs);
    this.#freeMs = Math.min(run.freeMs, this.#closedMs);
    this.#early = 0;
    this.#late = 0;
  }

  // Hot: per call that appends. No allocation, no closure, no exception.
  /** Records of the run, oldest first, that were appended together. */
  add(startedMs: number, records: number): void {
    const { latency, lane, window, batchAge } = this.#histograms;
    const appendedMs = startedMs < this.#closedMs ? startedMs : this.#closedMs;
    if (this.#early + this.#late === 0) batchAge.record((this.#closedMs - appendedMs) * 1000);
    latency.record((this.#nowMs - appendedMs) * 1000, records);
    if (appendedMs < this.#freeMs) {
      lane.record((this.#freeMs - appendedMs) * 1000, records);
      this.#early += records;
    } else {
      window.record((this.#closedMs - appendedMs) * 1000, records);
      this.#late += records;
    }
  }

  /** All of the run were added. */
  end(): void {
    const { lane, window, write, back } = this.#histograms;
    if (this.#early > 0) window.record((this.#closedMs - this.#freeMs) * 1000, this.#early);
    if (this.#late > 0) lane.record(0, this.#late);
    write.record((this.#durableMs - this.#closedMs) * 1000, this.#early + this.#late);
    back.record((this.#nowMs - this.#durableMs) * 1000, this.#early + this.#late);
  }
}
