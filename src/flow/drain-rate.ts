// How fast the queue drains, measured, and what a producer that was refused is told of it.
//
// An average that forgets: bytes and time are both weighted by how long ago they were, half as much after each half-life, and the
// rate is one by the other. Dividing by the weighted time, not by the whole half-life, makes it right from the start. Time
// in which nothing was queued says nothing about how fast the queue could have drained: `idle` leaves it out.

/** Retry-After is whole seconds; 0 would be at once. */
const MIN_RETRY_S = 1;
/** Who comes back after this long finds out more than any estimate could tell. */
const MAX_RETRY_S = 60;
/** Less time than this part of the half-life counts as this much: one early write would look like an endless rate. */
const LEAST_SHARE = 1 / 16;

export class DrainRate {
  readonly #halfLifeMs: number;
  #bytes = 0;
  /** Time looked at, weighted as the bytes are. */
  #overMs = 0;
  #lastMs: number | undefined;

  constructor(options: { readonly halfLifeMs: number }) {
    this.#halfLifeMs = options.halfLifeMs;
  }

  /** Bytes that have left the queue since the call before. @param nowMs of a monotonic clock */
  add(bytes: number, nowMs: number): void {
    this.#pass(nowMs);
    this.#bytes += bytes;
  }

  /** Nothing was queued since the call before, of any of the three: that time is not counted. */
  idle(nowMs: number): void {
    this.#lastMs = Math.max(nowMs, this.#lastMs ?? nowMs);
  }

  /** 0 while nothing has been seen to leave. */
  bytesPerSecond(nowMs: number): number {
    this.#pass(nowMs);
    return (this.#bytes / Math.max(this.#overMs, this.#halfLifeMs * LEAST_SHARE)) * 1000;
  }

  #pass(nowMs: number): void {
    const elapsedMs = Math.max(0, nowMs - (this.#lastMs ?? nowMs));
    const kept = 2 ** (-elapsedMs / this.#halfLifeMs);
    this.#bytes *= kept;
    // The integral of the weight over the time that has passed.
    this.#overMs = this.#overMs * kept + (this.#halfLifeMs / Math.LN2) * (1 - kept);
    this.#lastMs = Math.max(nowMs, this.#lastMs ?? nowMs);
  }
}

/** Seconds until the queue is empty at that rate, for the header Retry-After: whole ones, 1 … 60; 60 where nothing moves. */
export function retryAfterSeconds(queuedBytes: number, bytesPerSecond: number): number {
  if (!(queuedBytes > 0)) return MIN_RETRY_S;
  const seconds = Math.ceil(queuedBytes / bytesPerSecond);
  return Math.min(MAX_RETRY_S, Math.max(MIN_RETRY_S, seconds));
}
