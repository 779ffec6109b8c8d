// Resident memory of a process over time, as the kernel counts it, and how it rises.

import { readFileSync } from 'node:fs';
import { median } from './stats.ts';

export interface Sample {
  /** Since the process was started. */
  readonly seconds: number;
  readonly rssMiB: number;
  readonly anonymousMiB: number;
}

/** What a process has in memory; undefined once it is gone. */
export function sampleOf(pid: number, startedMs: number): Sample | undefined {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return undefined;
  }
  // Shared memory of the lanes is anonymous too, whichever line the kernel counts it in.
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? NaN) / 1024;
  const anonymousMiB = of('RssAnon') + of('RssShmem');
  const rssMiB = of('VmRSS');
  if (Number.isNaN(rssMiB)) return undefined;
  return { seconds: (performance.now() - startedMs) / 1000, rssMiB, anonymousMiB };
}

/**
 * Slope per minute by Theil and Sen (Sen, JASA 63, 1968): the median of the slopes between all pairs of samples at least a few
 * seconds apart, NaN where there are none. Least squares follow the saw teeth of a garbage collector at the ends of the series.
 */
export function slopePerMinute<T extends { readonly seconds: number }>(
  samples: readonly T[],
  value: (s: T) => number,
): number {
  const slopes: number[] = [];
  samples.forEach((a, i) => {
    for (const b of samples.slice(i + 1)) {
      const apart = b.seconds - a.seconds;
      if (apart >= 5) slopes.push(((value(b) - value(a)) / apart) * 60);
    }
  });
  return slopes.length === 0 ? NaN : median(slopes);
}
