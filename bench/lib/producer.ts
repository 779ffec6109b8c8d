// The producing loop of bench:append: as many groups as fit under a bound of payload bytes under way, the oldest awaited.

import type { AppendedMany, Payload } from '../../src/index.ts';
import type { PayloadCycle } from './payloads.ts';

/** What both the log and a lane have. */
export interface Appender {
  appendMany(stream: string, payloads: readonly Payload[]): Promise<AppendedMany>;
}

/** Payload bytes of one producer that may be under way. */
export const MAX_UNDER_WAY_BYTES = 8 * 1024 * 1024;

/**
 * Appends groups `from` … `from + groups` of the cycle; returns once all of them are durable.
 */
export async function produce(
  to: Appender,
  stream: string,
  cycle: PayloadCycle,
  from: number,
  groups: number,
): Promise<void> {
  const most = Math.max(1, Math.floor(MAX_UNDER_WAY_BYTES / (cycle.recordBytes * cycle.groupRecords)));
  const underWay: Promise<AppendedMany>[] = Array.from({ length: Math.min(most, groups) });
  for (let g = 0; g < groups; g++) {
    const slot = g % underWay.length;
    if (g >= underWay.length) await underWay[slot];
    underWay[slot] = to.appendMany(stream, cycle.group(from + g));
  }
  await Promise.all(underWay);
}
