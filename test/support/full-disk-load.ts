// Two producers of one log, and what each of their appends came to: acknowledged with an offset, refused because too much
// waited already, failed, or still held back.

import { setImmediate as turn } from 'node:timers/promises';
import { openLane, type LogOptionsInput, type SpillwayError, type SpillwayLog } from '../../src/index.ts';
import { payloadOf } from './full-disk-payload.ts';

/** Segments small enough that a disk of a MiB goes through rolls before it is full. */
export const smallLog = {
  segmentBytes: '256KiB',
  laneBytes: '64KiB',
  maxRecordBytes: '16KiB',
  maxWaitingBytes: '32KiB',
  window: { maxRecords: 50, maxBytes: '16KiB', lingerMs: 0 },
} as const satisfies Omit<LogOptionsInput, 'dir'>;

/** Beyond this many the disk was not as small as it should be. */
const MOST_RECORDS = 60_000;

export class Load {
  /** `run:sequence` → offset. */
  readonly acked = new Map<string, number>();
  /** Codes of what failed otherwise than BACKLOG_FULL, with how many. */
  readonly failed = new Map<string, number>();
  refused = 0;
  heldBack = 0;
  readonly #run: number;
  readonly #producers: readonly Pick<SpillwayLog, 'append'>[];
  readonly #lane: ReturnType<typeof openLane>;
  #sequence = 0;

  constructor(log: SpillwayLog, run: number) {
    this.#run = run;
    this.#lane = openLane(log.lane());
    this.#producers = [log, this.#lane];
  }

  get issued(): number {
    return this.#sequence;
  }

  /** Appends the next `count` records, the producers in turns. */
  append(count: number): void {
    for (let i = 0; i < count; i++) {
      const sequence = this.#sequence++;
      const name = `${this.#run}:${sequence}`;
      this.heldBack++;
      this.#producers[sequence % 2].append(`p${sequence % 2}`, payloadOf(this.#run, sequence)).then(
        ({ offset }) => {
          this.heldBack--;
          this.acked.set(name, offset);
        },
        (error: SpillwayError) => {
          this.heldBack--;
          if (error.code === 'BACKLOG_FULL') this.refused++;
          else this.failed.set(error.code, (this.failed.get(error.code) ?? 0) + 1);
        },
      );
    }
  }

  /** Appends until the disk is full and the log refuses what would wait beyond its bound. @throws Error where it does not */
  async untilFull(log: SpillwayLog, limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs;
    let refusedWhenFull: number | undefined;
    for (;;) {
      const { state, durableOffset } = log.stats();
      if (state === 'poisoned') throw new Error(`poisoned: ${[...this.failed.keys()].join()}`);
      if (state === 'full') refusedWhenFull ??= this.refused;
      else refusedWhenFull = undefined;
      if (refusedWhenFull !== undefined && this.refused > refusedWhenFull) return;
      if (performance.now() > deadline || this.issued > MOST_RECORDS) {
        throw new Error(`not full after ${this.issued} records, ${durableOffset} durable: state ${state}`);
      }
      // About what the two lanes take: what is refused is refused because of the disk.
      if (this.heldBack < 200 || state === 'full') this.append(10);
      await turn();
    }
  }

  /** Gives the second lane back. */
  async close(): Promise<void> {
    await this.#lane.close();
  }
}
