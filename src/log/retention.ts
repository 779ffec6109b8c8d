// Which sealed segments may go: a pure function of their sizes and ages.

import type { LogOptions } from '../base/options.ts';

/** A segment that is durable to its end and not written any more. */
export interface Sealed {
  readonly baseOffset: number;
  readonly nextOffset: number;
  readonly fileBytes: number;
  readonly lastCommitMs: number;
}

/** Offset from which on segments are kept; undefined where all are. */
export function retainedFrom(
  sealed: readonly Sealed[],
  options: Pick<LogOptions, 'segmentBytes' | 'retentionBytes' | 'retentionMs'>,
  nowMs: number,
): number | undefined {
  const { retentionBytes, retentionMs, segmentBytes } = options;
  let total = segmentBytes;
  for (const s of sealed) total += s.fileBytes;
  let start: number | undefined;
  for (const s of sealed) {
    const tooMuch = retentionBytes > 0 && total > retentionBytes;
    const tooOld = retentionMs > 0 && nowMs - s.lastCommitMs > retentionMs;
    if (!tooMuch && !tooOld) break;
    total -= s.fileBytes;
    start = s.nextOffset;
  }
  return start;
}
