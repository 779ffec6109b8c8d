// A tail with a memory of some seconds: how large the recent samples were, in buckets of one width over a fixed range; what lies outside
// counts in the last one on its side. Time is cut into slices, and the oldest slice is forgotten as a new one begins: what is old counts
// in full, then not at all (samples that fade exponentially keep a tail for as long as their logarithm: 23 s where 1 in 100 counts and
// they fade by 1/e in 5). Memory: 44 KiB, for ever.

const BUCKETS = 512;
const SLICES = 10;

export class Recent {
  /** One after the other; the sum of all behind them. */
  readonly #counts = new Float64Array((SLICES + 1) * BUCKETS);
  readonly #sum = this.#counts.subarray(SLICES * BUCKETS);
  readonly #from: number;
  readonly #width: number;
  readonly #sliceMs: number;
  #slice = 0;
  #sliceEndMs: number | undefined;
  #count = 0;

  /** @param memoryMs a sample is forgotten after so long, or up to a slice (a tenth of it) earlier */
  constructor(from: number, to: number, memoryMs: number) {
    this.#from = from;
    this.#width = (to - from) / BUCKETS;
    this.#sliceMs = memoryMs / SLICES;
  }

  add(value: number, count: number): void {
    const bucket = Math.min(BUCKETS - 1, Math.max(0, Math.floor((value - this.#from) / this.#width)));
    this.#counts[this.#slice * BUCKETS + bucket] += count;
    this.#sum[bucket] += count;
    this.#count += count;
  }

  /** Time has come this far; what is added from now on is of now. */
  age(nowMs: number): void {
    this.#sliceEndMs ??= nowMs + this.#sliceMs;
    for (let passed = 0; nowMs >= this.#sliceEndMs && passed < SLICES; passed++) {
      this.#slice = (this.#slice + 1) % SLICES;
      this.#sliceEndMs += this.#sliceMs;
      const oldest = this.#counts.subarray(this.#slice * BUCKETS, (this.#slice + 1) * BUCKETS);
      for (let b = 0; b < BUCKETS; b++) {
        this.#sum[b] -= oldest[b];
        this.#count -= oldest[b];
      }
      oldest.fill(0);
    }
    // After a silence that was longer than the memory.
    if (nowMs >= this.#sliceEndMs) this.#sliceEndMs = nowMs + this.#sliceMs;
  }

  get count(): number {
    return this.#count;
  }

  /** Upper bound of the bucket below which the fraction `q` of the samples lies; the lower end of the range where there are none. */
  quantile(q: number): number {
    const rank = Math.ceil(q * this.#count);
    if (rank <= 0) return this.#from;
    let seen = 0;
    for (let b = 0; b < BUCKETS; b++) {
      seen += this.#sum[b];
      if (seen >= rank) return this.#from + (b + 1) * this.#width;
    }
    return this.#from + BUCKETS * this.#width;
  }
}
