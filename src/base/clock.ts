// Time and randomness are arguments, never globals: a simulated clock drives the same code in tests.

export interface Clock {
  /** Milliseconds since the epoch; may jump when the machine's clock is set. For timestamps only. */
  wallMs(): number;
  /** Milliseconds, fractional, never going back; meaningful within one thread. For durations. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

/** 32 random bits. */
export type Random32 = () => number;

export const systemRandom32: Random32 = () => crypto.getRandomValues(new Uint32Array(1))[0];
