// Sheds load by age: while the oldest record has waited for longer than a bound, new ones are refused, as an answer that comes
// too late is worth nothing and only makes the next one late too.
//
// After CoDel (RFC 8289). Taken: the signal is how long the queue makes one wait, never how long the queue is, which says
// nothing without the drain rate (section 3). Not taken: dropping at the head and its control law, which thins out one packet
// after the other so that senders slow down (what waits here was accepted and is not dropped, and producers are told in
// plain words); and the interval over which the age must stay above the target (the bound here is no target of some
// milliseconds but one that a burst does not reach: shedAgeMs is 100 times the SLO by default). Hysteresis stands in for both.

export class Shed {
  readonly #shedAgeMs: number;
  #shedding = false;

  /** @param shedAgeMs 0 never sheds */
  constructor(shedAgeMs: number) {
    this.#shedAgeMs = shedAgeMs;
  }

  get shedding(): boolean {
    return this.#shedding;
  }

  /**
   * @param oldestAgeMs how long the oldest record has waited; 0 where none waits
   * @returns whether new records are refused: from an age above shedAgeMs on, until it is below half of that
   */
  update(oldestAgeMs: number): boolean {
    const bound = this.#shedAgeMs;
    this.#shedding = bound > 0 && (this.#shedding ? oldestAgeMs >= bound / 2 : oldestAgeMs > bound);
    return this.#shedding;
  }
}
