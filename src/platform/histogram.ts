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
  if (value < 2 ** 31) {
    // Nearly all of them, without a logarithm: a bucket is a whole number wide, so a fraction changes nothing.
    const whole = value | 0;
    const power = 31 - Math.clz32(whole);
    return (power - SUB_BITS) * SUB + (whole >>> (power - SUB_BITS));
  }
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

  get sum(): number {
    return this.#slots[BUCKETS + 1];
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count;
  }

  /**
   * Upper bound of the value below which the fraction `q` (0 … 1) of the samples lies; 0 when there are none.
   * @param whole all samples are whole numbers: then it is the largest whole number of the bucket, and exact below 128
   */
  quantile(q: number, whole = false): number {
    const rank = Math.max(1, Math.ceil(q * this.count));
    let seen = 0;
    for (let b = 0; b < BUCKETS; b++) {
      seen += this.#slots[b];
      if (seen >= rank && this.count > 0) return Math.min(upperBound(b) - (whole ? 1 : 0), this.max);
    }
    return this.max;
  }

  /** Every bucket that has samples: the largest value that falls into it (of whole numbers), and how many did. */
  bars(): [atMost: number, count: number][] {
    const bars: [number, number][] = [];
    for (let b = 0; b < BUCKETS; b++) {
      if (this.#slots[b] > 0) bars.push([Math.min(upperBound(b) - 1, this.max), this.#slots[b]]);
    }
    return bars;
  }

  merge(other: Histogram): void {
    const s = this.#slots;
    for (let i = 0; i < BUCKETS + 2; i++) s[i] += other.#slots[i];
    s[BUCKETS + 2] = Math.max(s[BUCKETS + 2], other.max);
  }

  /**
   * Visits what came since `seen`, a histogram that only this call writes: per bucket its upper bound, and how many. Brings `seen` up to
   * date. `between` for who looks often: nothing is allocated.
   */
  visitNew(seen: Histogram, visit: (upTo: number, count: number) => void): void {
    const now = this.#slots;
    const then = seen.#slots;
    if (now[BUCKETS] === then[BUCKETS]) return;
    then[BUCKETS] = now[BUCKETS];
    for (let b = 0; b < BUCKETS; b++) {
      const count = now[b] - then[b];
      if (count === 0) continue;
      then[b] = now[b];
      visit(upperBound(b), count);
    }
  }

  clear(): void {
    this.#slots.fill(0);
  }

  /** As numbers, to be sent elsewhere. */
  get image(): HistogramImage {
    const buckets: number[] = [];
    for (let b = 0; b < BUCKETS; b++) if (this.#slots[b] > 0) buckets.push(b, this.#slots[b]);
    return { sum: this.sum, max: this.max, buckets };
  }

  /** What came between two images of one histogram: its maximum is then the upper bound of its last bucket. */
  static between(earlier: HistogramImage, later: HistogramImage): Histogram {
    const h = new Histogram();
    const s = h.#slots;
    const add = (image: HistogramImage, sign: number): void => {
      for (let i = 0; i + 1 < image.buckets.length; i += 2) {
        const bucket = image.buckets[i];
        if (!Number.isInteger(bucket) || bucket < 0 || bucket >= BUCKETS) continue;
        s[bucket] += sign * image.buckets[i + 1];
        s[BUCKETS] += sign * image.buckets[i + 1];
      }
      s[BUCKETS + 1] += sign * image.sum;
    };
    add(later, 1);
    add(earlier, -1);
    let last = BUCKETS - 1;
    while (last >= 0 && s[last] <= 0) last--;
    if (last >= 0) s[BUCKETS + 2] = Math.min(upperBound(last), later.max);
    return h;
  }
}

/** A histogram as JSON: sum and maximum of its samples, and in turn the number of a bucket and its count, of those that have any. */
export interface HistogramImage {
  readonly sum: number;
  readonly max: number;
  readonly buckets: readonly number[];
}

export const noImage: HistogramImage = { sum: 0, max: 0, buckets: [] };

/** Latencies in µs. */
export interface LatencyStats {
  readonly count: number;
  readonly sumUs: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

export function latencyStats(h: Histogram): LatencyStats {
  return {
    count: h.count,
    sumUs: h.sum,
    p50Us: h.quantile(0.5),
    p90Us: h.quantile(0.9),
    p99Us: h.quantile(0.99),
    p999Us: h.quantile(0.999),
    maxUs: h.max,
  };
}

/** Numbers of records or bytes. */
export interface SizeStats {
  readonly count: number;
  readonly sum: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

export function sizeStats(h: Histogram): SizeStats {
  return {
    count: h.count,
    sum: h.sum,
    p50: h.quantile(0.5, true),
    p90: h.quantile(0.9, true),
    p99: h.quantile(0.99, true),
    p999: h.quantile(0.999, true),
    max: h.max,
  };
}
