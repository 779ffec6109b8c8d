// How the logs of the model proof are opened: limits so small that rolls and laps come within a few commands.

import type { IoMode, LogOptionsInput } from '../../src/index.ts';
import { violate } from './model-log.ts';

const KIB = 1024;
export const shapes = [
  { segmentBytes: 64 * KIB, laneBytes: 16 * KIB, maxRecordBytes: 4 * KIB, window: [50, 4 * KIB, 0] },
  { segmentBytes: 64 * KIB, laneBytes: 4 * KIB, maxRecordBytes: KIB, window: [3, 2 * KIB, 1] },
  { segmentBytes: 128 * KIB, laneBytes: 32 * KIB, maxRecordBytes: 8 * KIB, window: [1000, 16 * KIB, 4] },
  { segmentBytes: 96 * KIB, laneBytes: 8 * KIB, maxRecordBytes: 2 * KIB, window: [1, KIB, 0] },
] as const;
/** Two segments and a little: rolls soon free the oldest. */
export const RETENTION_BYTES = 200 * KIB;
/** Far longer than any run: by age nothing may go. */
const RETENTION_MS = 60_000;
export const MAX_LANES = 4;

export interface Setting {
  readonly shape: number;
  readonly io: IoMode;
  readonly retention: boolean;
}

export function optionsFor(dir: string, { shape, io, retention }: Setting): LogOptionsInput {
  const { window, ...sizes } = shapes[shape];
  const [maxRecords, maxBytes, lingerMs] = window;
  const retentionBytes = retention ? RETENTION_BYTES : 0;
  return {
    dir,
    io,
    ...sizes,
    window: { maxRecords, maxBytes, lingerMs },
    maxLanes: MAX_LANES,
    retentionBytes,
    retentionMs: RETENTION_MS,
  };
}

/** Neither more is kept than retentionBytes, nor a segment less than could be. @throws Violation */
export function checkRetention(segments: number, segmentBytes: number): void {
  const kept = segments * segmentBytes;
  if (kept <= RETENTION_BYTES && kept + segmentBytes > RETENTION_BYTES) return;
  violate(`retention keeps ${segments} segments of ${segmentBytes} bytes, of ${RETENTION_BYTES} allowed`);
}
