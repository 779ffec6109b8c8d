// A tail with a memory of some seconds: how large the recent samples were, the older ones counting less and less (exponentially, so that
// nothing has to be kept of them but their weight). In buckets of one width over a fixed range; what lies outside counts in the
// last one on its side. Memory: a number per bucket, for ever.

const BUCKETS = 512;

export class Recent {
  readonly #weights = new Float64Array(BUCKETS);
  readonly #from: number;
  readonly #width: number;
  readonly #timeMs: number;
  #atMs = 0;

  /** @param timeMs after so long a sample weighs 1/e of what it did */
  constructor(from: number, to: number, timeMs: number) {
    this.#from = from;
    this.#width = (to - from) / BUCKETS;
    this.#timeMs = timeMs;
  }

  add(value: number, count: number): void {
    const bucket = Math.floor((value - this.#from) / this.#width);
    this.#weights[Math.min(BUCKETS - 1, Math.max(0, bucket))] += count;
  }

  /** Time has come this far; samples that are added from now on are new. */
  age(nowMs: number): void {
    const factor = this.#atMs === 0 ? 1 : Math.exp(-Math.max(0, nowMs - this.#atMs) / this.#timeMs);
    this.#atMs = nowMs;
    for (let b = 0; b < BUCKETS; b++) this.#weights[b] *= factor;
  }

  get weight(): number {
    let sum = 0;
    for (let b = 0; b < BUCKETS; b++) sum += this.#weights[b];
    return sum;
  }

  /** Upper bound of the bucket below which the fraction `q` of the weight lies; the lower end of the range where there is none. */
  quantile(q: number): number {
    const rank = q * this.weight;
    if (rank <= 0) return this.#from;
    let seen = 0;
    for (let b = 0; b < BUCKETS; b++) {
      seen += this.#weights[b];
      if (seen >= rank) return this.#from + (b + 1) * this.#width;
    }
    return this.#from + BUCKETS * this.#width;
  }
}
