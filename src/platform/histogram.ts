// Log-linear histogram of non-negative numbers in shared memory: 64 buckets per power of two, so a quantile is off by
// at most 1/64 (1.6 %) of its value. Range 0 … 2^40 (in µs: 12 days); above it clamps. One writing thread; readers may be
// a few samples behind. Buckets are plain f64 counts, so histograms merge by adding.
// After HdrHistogram (G. Tene); 64 sub-buckets stand for its two significant digits.

const SUB_BITS = 6;
const SUB = 1 << SUB_BITS;
const POWERS = 40;
const BUCKETS = (POWERS - SUB_BITS + 1) * SUB;
/** Slots behind the buckets: count, sum, max. */
const EXTRA = 3;

export const HISTOGRAM_BYTES = (BUCKETS + EXTRA) * 8;

// Hot: per record or group of records. No allocation, no closure, no exception.
function bucketOf(value: number): number {
  if (value < SUB) return value > 0 ? Math.floor(value) : 0;
  const power = value >= 2 ** POWERS ? POWERS - 1 : Math.floor(Math.log2(value));
  const clamped = value >= 2 ** POWERS ? 2 ** POWERS - 1 : value;
  const sub = Math.floor(clamped / 2 ** (power - SUB_BITS)) - SUB;
  // log2 of a value just below a power of two may round up to it: sub is -1 then, which is the bucket below. Right so.
  return (power - SUB_BITS + 1) * SUB + Math.min(sub, SUB - 1);
}

/** Largest value that falls into the bucket: quantiles err upwards, never flattering. */
function upperBound(bucket: number): number {
  if (bucket < SUB) return bucket + 1;
  const power = Math.floor(bucket / SUB) + SUB_BITS - 1;
  return ((bucket % SUB) + SUB + 1) * 2 ** (power - SUB_BITS);
}

export class Histogram {
  readonly #slots: Float64Array;

  constructor(buffer: ArrayBufferLike = new ArrayBuffer(HISTOGRAM_BYTES), byteOffset = 0) {
    this.#slots = new Float64Array(buffer, byteOffset, BUCKETS + EXTRA);
  }

  record(value: number, count = 1): void {
    const s = this.#slots;
    s[bucketOf(value)] += count;
    s[BUCKETS] += count;
    s[BUCKETS + 1] += value * count;
    if (value > s[BUCKETS + 2]) s[BUCKETS + 2] = value;
  }

  get count(): number {
    return this.#slots[BUCKETS];
  }

  get max(): number {
    return this.#slots[BUCKETS + 2];
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.#slots[BUCKETS + 1] / this.count;
  }

  /** Upper bound of the value below which the fraction `q` (0 … 1) of the samples lies; 0 when there are none. */
  quantile(q: number): number {
    const rank = Math.max(1, Math.ceil(q * this.count));
    let seen = 0;
    for (let b = 0; b < BUCKETS; b++) {
      seen += this.#slots[b];
      if (seen >= rank && this.count > 0) return Math.min(upperBound(b), this.max);
    }
    return this.max;
  }

  merge(other: Histogram): void {
    const s = this.#slots;
    for (let i = 0; i < BUCKETS + 2; i++) s[i] += other.#slots[i];
    s[BUCKETS + 2] = Math.max(s[BUCKETS + 2], other.max);
  }

  clear(): void {
    this.#slots.fill(0);
  }
}

/** Latencies in µs. */
export interface LatencyStats {
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

export function latencyStats(h: Histogram): LatencyStats {
  return {
    count: h.count,
    p50Us: h.quantile(0.5),
    p99Us: h.quantile(0.99),
    p999Us: h.quantile(0.999),
    maxUs: h.max,
  };
}
