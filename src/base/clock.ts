// Time and randomness are arguments, never globals: a simulated clock drives the same code in tests.

export interface Clock {
  /** Milliseconds since the epoch; may jump when the machine's clock is set. For timestamps only. */
  wallMs(): number;
  /** Milliseconds, fractional, never going back; the same on all threads of a process. For durations. */
  monotonicMs(): number;
}

/** Looks for the difference below; the quickest counts, as nothing came between in it. */
const ORIGIN_LOOKS = 8;

/**
 * `performance.now()` counts from the start of its own thread; `process.hrtime()` reads the same clock for all of them, but makes
 * an array each time (32 bytes, and 60 to 95 ns where this takes 55; Node 20 and 24). So the difference is taken once per thread,
 * off by at most half of the quickest look: 0.1 to 0.5 µs as measured between threads.
 */
function threadOriginMs(): number {
  let originMs = 0;
  let quickestMs = Infinity;
  for (let i = 0; i < ORIGIN_LOOKS; i++) {
    const beforeMs = performance.now();
    const [seconds, nanoseconds] = process.hrtime();
    const tookMs = performance.now() - beforeMs;
    if (tookMs >= quickestMs) continue;
    quickestMs = tookMs;
    originMs = seconds * 1e3 + nanoseconds / 1e6 - (beforeMs + tookMs / 2);
  }
  return originMs;
}

const originMs = threadOriginMs();

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => originMs + performance.now(),
};

/** 32 random bits. */
export type Random32 = () => number;

export const systemRandom32: Random32 = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The same numbers for the same seed: mulberry32 (T. Ettinger). For samples, tests and benches, never for secrets. */
export function seededRandom32(seed: number): Random32 {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/** The same as fractions from 0 to below 1. */
export function seededRandom(seed: number): () => number {
  const next = seededRandom32(seed);
  return () => next() / 2 ** 32;
}
