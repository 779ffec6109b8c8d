// How much longer a request may be held back: maxBlockMs of its stream, for all places where it waits for the gateway together.
// What its client takes to send it does not count.

export class Patience {
  readonly #clock: { monotonicMs(): number };
  #leftMs: number;

  constructor(maxBlockMs: number, clock: { monotonicMs(): number }) {
    this.#leftMs = maxBlockMs;
    this.#clock = clock;
  }

  get leftMs(): number {
    return this.#leftMs;
  }

  /** @param wait resolves with false where the time it is given was over before */
  async spend(wait: (timeoutMs: number) => Promise<boolean>): Promise<boolean> {
    const fromMs = this.#clock.monotonicMs();
    const came = await wait(this.#leftMs);
    this.#leftMs = Math.max(0, this.#leftMs - (this.#clock.monotonicMs() - fromMs));
    return came;
  }
}
