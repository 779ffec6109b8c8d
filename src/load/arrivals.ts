// When requests arrive: pure functions of rate, seed and trace, in milliseconds from the start, never going back.
// The mean rate of every pattern is the one asked for; what differs is how arrivals crowd.

/** Time of the next arrival; undefined after the last. */
export type Arrivals = () => number | undefined;

export const arrivalPatterns = ['constant', 'poisson', 'onoff', 'trace'] as const;
export type ArrivalPattern = (typeof arrivalPatterns)[number];

/** Mean length of a burst and of the silence behind it: while it lasts, five times the rate. */
const BURST_MS = 200;
export const SILENCE_MS = 800;

/** An exponentially distributed span. @param random fractions from 0 to below 1 */
function exponential(meanMs: number, random: () => number): number {
  return -Math.log(1 - random()) * meanMs;
}

/** One every 1/rate seconds, the first at once. */
export function constantArrivals(perSecond: number): Arrivals {
  let n = 0;
  return () => (n++ * 1000) / perSecond;
}

/** Independent arrivals: what many users who know nothing of each other look like. */
export function poissonArrivals(perSecond: number, random: () => number): Arrivals {
  let atMs = 0;
  return () => (atMs += exponential(1000 / perSecond, random));
}

/** Bursts of independent arrivals, and silence between them; the lengths of both are exponentially distributed. */
export function onOffArrivals(perSecond: number, random: () => number): Arrivals {
  const meanMs = (1000 / perSecond) * (BURST_MS / (BURST_MS + SILENCE_MS));
  // Time that counts while a burst lasts; all silences so far come on top.
  let burstTimeMs = 0;
  let burstEndMs = exponential(BURST_MS, random);
  let silenceMs = 0;
  return () => {
    burstTimeMs += exponential(meanMs, random);
    while (burstTimeMs > burstEndMs) {
      burstEndMs += exponential(BURST_MS, random);
      silenceMs += exponential(SILENCE_MS, random);
    }
    return burstTimeMs + silenceMs;
  };
}

/** Recorded arrivals. @param timesMs in order, the first 0 @param timeScale 60 plays an hour in a minute */
export function traceArrivals(timesMs: Float64Array, timeScale: number): Arrivals {
  let n = 0;
  return () => (n < timesMs.length ? timesMs[n++] / timeScale : undefined);
}

/** Those before `endMs`, and at most `maxCount`. */
export function upTo(arrivals: Arrivals, endMs: number, maxCount: number): Arrivals {
  let left = maxCount;
  let ended = false;
  return () => {
    const atMs = ended || left === 0 ? undefined : arrivals();
    left--;
    ended = atMs === undefined || atMs >= endMs;
    return ended ? undefined : atMs;
  };
}
