// High- and low-water mark with hysteresis (a Schmitt trigger): between the two marks the answer stays what it was, so that a
// level that hovers around one mark does not switch producers off and on with every record.
//
//     above   false ──── level ≥ high ───▶ true
//             false ◀─── level ≤ low ──── true

export class Watermark {
  readonly #high: number;
  readonly #low: number;
  #above = false;

  /** @param low below `high`, in the same unit; 0 waits until there is nothing left */
  constructor(high: number, low: number) {
    this.#high = high;
    this.#low = low;
  }

  get above(): boolean {
    return this.#above;
  }

  /** @returns `above` after this level: true from `high` on, until the level is down at `low` */
  update(level: number): boolean {
    // Not `level < low`: nothing is below a mark of 0, and producers would stay off for ever.
    this.#above = this.#above ? level > this.#low : level >= this.#high;
    return this.#above;
  }
}
