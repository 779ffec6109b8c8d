// How long appends wait for a gateway that cannot be reached, or that refuses them for the time being. The clock runs from the
// first moment at which something waited in vain, until something was settled. A connection that was welcomed stops the timer but not the clock, if it
// is lost soon without having settled anything: a gateway that dies of what it is sent would else be tried for ever. One that lasted
// is a gateway that is there, and makes its producers wait: a full disk, for one.

import type { Clock } from '../base/clock.ts';

const LASTING_MS = 20_000;

export class Patience {
  readonly #giveUpMs: number;
  readonly #clock: Clock;
  readonly #onEnd: () => void;
  #sinceMs: number | undefined;
  #connectedMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(giveUpMs: number, clock: Clock, onEnd: () => void) {
    this.#giveUpMs = giveUpMs;
    this.#clock = clock;
    this.#onEnd = onEnd;
  }

  /** Something waits, and there is no connection, or it was refused. */
  start(): void {
    this.#sinceMs ??= this.#clock.monotonicMs();
    if (this.#timer !== undefined) return;
    const leftMs = this.#sinceMs + this.#giveUpMs - this.#clock.monotonicMs();
    const end = (): void => {
      this.#timer = undefined;
      this.#onEnd();
    };
    this.#timer = setTimeout(end, Math.max(0, leftMs));
  }

  /** There is a connection. Saying it again changes nothing. */
  connected(): void {
    this.#connectedMs ??= this.#clock.monotonicMs();
    this.#clear();
  }

  /** Something got through. */
  progress(): void {
    this.stop();
  }

  /** There is none any more, or an attempt has failed. */
  lost(somethingWaits: boolean): void {
    const lasted = this.#connectedMs !== undefined && this.#clock.monotonicMs() - this.#connectedMs > LASTING_MS;
    this.#connectedMs = undefined;
    if (lasted) this.#sinceMs = undefined;
    if (somethingWaits) this.start();
  }

  /** Nothing waits any more. */
  stop(): void {
    this.#sinceMs = undefined;
    this.#clear();
  }

  #clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
