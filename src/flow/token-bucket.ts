// Rate limit per key: a token bucket for each, the oldest forgotten when there are too many.
//
// The bucket is the one of RFC 2697 (section 3, C alone) and of J. Turner, "New directions in communications (or which way to
// the information age?)", IEEE Communications Magazine 24 (10), 1986: full at first, filled at a steady rate up to `burst`, and
// what finds too little in it takes nothing. Not taken from there: the second bucket and its colours (there is no lower class
// that an excess could be put into). Differs: filled by reckoning when it is used, no timer; and an amount above `burst`, which
// there never conforms, takes all of a full bucket and leaves a debt, as a batch cannot be cut.
//
// Promises: in any time of s seconds one key takes at most burst + perSecond × s, plus what its last amount exceeds `burst` by;
// waiting as long as was said is enough, unless the same key took some meanwhile; memory for at most `maxKeys`.
// Limits: a key that was forgotten starts full again. It is the least lately used that goes, so that this gives nothing away
// unless more than maxKeys keys are busy within the time in which a bucket fills; and whoever has as many addresses has as
// many full buckets anyway. A key that takes small amounts all the time may starve a larger one of its own.

import { Chain, type Link } from './chain.ts';

export interface RateLimit {
  /** Steady rate, in units (records, bytes) per second; above 0. */
  readonly perSecond: number;
  /** What a key that was silent may take at once; above 0. */
  readonly burst: number;
  readonly maxKeys: number;
}

interface Bucket {
  readonly key: string;
  /** What was in it at `atMs`; negative is debt. */
  level: number;
  atMs: number;
}

export class TokenBuckets {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #maxKeys: number;
  /** So little may be missing: what rounding of the time (10 ns) and of the level can come to. It is owed, not given. */
  readonly #slack: number;
  readonly #links = new Map<string, Link<Bucket>>();
  /** In order of last use, oldest first. */
  readonly #byUse = new Chain<Bucket>();

  constructor(limit: RateLimit) {
    this.#perMs = limit.perSecond / 1000;
    this.#burst = limit.burst;
    this.#maxKeys = limit.maxKeys;
    this.#slack = this.#perMs * 1e-5 + this.#burst * 1e-12;
  }

  /** Keys remembered. */
  get size(): number {
    return this.#links.size;
  }

  /**
   * Takes all of `amount`, or nothing.
   * @param nowMs of a monotonic clock; going back counts as no time
   * @returns 0: taken; else after how many ms, rounded up, it would be there
   */
  take(key: string, amount: number, nowMs: number): number {
    const bucket = this.#bucket(key, nowMs);
    const elapsedMs = Math.max(0, nowMs - bucket.atMs);
    const level = Math.min(this.#burst, bucket.level + elapsedMs * this.#perMs);
    const missing = Math.min(amount, this.#burst) - level;
    if (missing > this.#slack) return Math.ceil((missing - this.#slack) / this.#perMs);
    bucket.level = level - amount;
    bucket.atMs += elapsedMs;
    return 0;
  }

  #bucket(key: string, nowMs: number): Bucket {
    const known = this.#links.get(key);
    if (known !== undefined) {
      this.#byUse.moveToEnd(known);
      return known.value;
    }
    const oldest = this.#byUse.first;
    if (oldest !== undefined && this.#links.size >= this.#maxKeys) {
      this.#byUse.remove(oldest);
      this.#links.delete(oldest.value.key);
    }
    const bucket = { key, level: this.#burst, atMs: nowMs };
    this.#links.set(key, this.#byUse.push(bucket));
    return bucket;
  }
}
