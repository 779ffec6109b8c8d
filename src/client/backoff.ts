// How long to wait before the next attempt: doubles from FIRST_MS to MAX_MS, each drawn from its upper half, so that clients that
// lost their gateway at the same moment do not come back at the same moment.

import type { Random32 } from '../base/clock.ts';

const FIRST_MS = 50;
const MAX_MS = 5000;

export class Backoff {
  readonly #random: Random32;
  #ceilingMs = FIRST_MS;

  constructor(random: Random32) {
    this.#random = random;
  }

  nextMs(): number {
    const ms = this.#ceilingMs * (0.5 + this.#random() / 2 ** 33);
    this.#ceilingMs = Math.min(MAX_MS, this.#ceilingMs * 2);
    return ms;
  }

  reset(): void {
    this.#ceilingMs = FIRST_MS;
  }
}
