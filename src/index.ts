// The public interface of the package. Everything else may change without notice.

import { systemClock } from './base/clock.ts';
import { SpillwayError } from './base/errors.ts';
import type { LogOptionsInput } from './base/options.ts';
import { Lane, type LaneHandle } from './pipeline/lane.ts';
import { SpillwayLog } from './pipeline/open.ts';

export { SpillwayError, type ErrorCode, type ErrorDetails, type Problem } from './base/errors.ts';
export type { LogOptionsInput } from './base/options.ts';
export type { CloseReason, IoMode, LogRecord, LogState } from './base/types.ts';
export type { Admission, Appended, AppendedMany, AppendOptions, Payload } from './pipeline/job.ts';
export type { Lane, LaneHandle } from './pipeline/lane.ts';
export type { SpillwayLog } from './pipeline/open.ts';
export type { LogStats } from './pipeline/log-stats.ts';
export type { LatencyStats, SizeStats } from './platform/histogram.ts';
export { read, type ReadOptions } from './pipeline/read.ts';
export type { Client, ClientState, ClientStats } from './client/client.ts';
export { connect } from './client/connect.ts';
export type { ClientOptionsInput } from './client/options.ts';

/**
 * Opens a log for writing; makes the directory when it is missing. One writer per directory.
 *
 *     const log = await open({ dir: './data', window: { maxRecords: 1000, maxBytes: '1MiB', lingerMs: 2 } })
 *
 * Every option: docs/options.md. Rejects with INVALID_OPTION, DIR_UNUSABLE, NOT_A_LOG, LOCKED, UNSUPPORTED_FORMAT, CORRUPT
 * (with `details.problems`), DISK_FULL, IO_ERROR.
 */
export function open(options: LogOptionsInput): Promise<SpillwayLog> {
  return SpillwayLog.open(options);
}

/**
 * Takes over a lane, made by `log.lane()`, in the thread that calls; `append` and `appendMany` as on the log.
 * @throws LANE_TAKEN, INVALID_OPTION
 */
export function openLane(handle: LaneHandle): Lane {
  const shared = handle?.shared instanceof SharedArrayBuffer && handle.lane instanceof SharedArrayBuffer;
  if (!shared) throw new SpillwayError('INVALID_OPTION', 'openLane: expected what log.lane() gave');
  return new Lane(handle, systemClock);
}
