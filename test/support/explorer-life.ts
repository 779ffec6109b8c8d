// A life with the steps that only the explorer takes: truncations to the places where segments end, and reopening with
// another segment size, so that spares do not fit and segments of both sizes lie side by side.

import { Log, type StorageOptions } from '../../src/log/log.ts';
import { sortNames } from '../../src/log/names.ts';
import { SimulatedClock } from './log-plans.ts';
import { DIR, Life, storage, type Step } from './sim-life.ts';

/** truncateToEnd: nothing is left. truncateSegment: exactly the oldest segment goes. resize: a reopen. */
export const ownSteps = ['truncateToEnd', 'truncateSegment', 'resize'] as const;
export type ExplorerStep = Step | (typeof ownSteps)[number];

/** Of a header and two blocks: two short batches or a long one. */
const SMALL_SEGMENT_BYTES = 12 * 1024;

export class ExplorerLife extends Life {
  #log: Log | undefined;
  #options: StorageOptions = storage;
  readonly #clock = new SimulatedClock();

  override open(): void {
    const { model } = this;
    model.lives++;
    let salt = model.lives * 1_000_003;
    const random32 = (): number => (salt = (salt * 48271) % 0x7fffffff);
    this.disk.makeDir(DIR);
    const { disk: io, compressor } = this;
    this.#log = Log.open({ io, clock: this.#clock, random32, compressor }, this.#options);
  }

  override get log(): Log {
    return this.#log!;
  }

  override get isPoisoned(): boolean {
    return this.#log?.poison !== undefined;
  }

  override do(step: ExplorerStep): void {
    const { log } = this;
    try {
      if (step === 'truncateToEnd') this.#truncate(log.durableOffset);
      else if (step === 'truncateSegment') this.#truncate(this.#endOfFirstSegment());
      else if (step === 'resize') this.#resize();
      else super.do(step);
    } finally {
      this.model.acknowledge(log.durableOffset);
    }
  }

  #truncate(offset: number): void {
    const { model } = this;
    model.truncating = offset;
    this.log.truncateBefore(offset);
    model.start = offset;
    model.truncating = undefined;
  }

  /** Where the log starts already, while it has but one segment. */
  #endOfFirstSegment(): number {
    const { segments } = sortNames(this.disk.paths.map((path) => path.slice(DIR.length + 1)));
    return segments.find((base) => base > this.model.start) ?? this.model.start;
  }

  #resize(): void {
    const isSmall = this.#options.segmentBytes === SMALL_SEGMENT_BYTES;
    this.#options = { ...storage, segmentBytes: isSmall ? storage.segmentBytes : SMALL_SEGMENT_BYTES };
    super.do('reopen');
  }
}
