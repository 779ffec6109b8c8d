// What `stats` of a log says.

import type { CounterName } from '../base/limits.ts';
import type { CloseReason, IoMode, LogState } from '../base/types.ts';
import { Histogram, type LatencyStats, type SizeStats } from '../platform/histogram.ts';
import type { Compression } from '../log/pack.ts';
import { dropCauses, laneHistogramNames, type Drops, type LaneHistogramName } from '../platform/lane-figures.ts';
import { laneFigures } from '../platform/lane-memory.ts';
import type { LogHistogramName } from '../platform/shared-state.ts';
import type { WindowReason } from '../window/aimd.ts';

export const stageNames = ['lane', 'window', 'write', 'back'] as const satisfies readonly LaneHistogramName[];
export type StageName = (typeof stageNames)[number];

export type HistogramName = LaneHistogramName | LogHistogramName;

export interface WindowStats {
  readonly lingerMs: number;
  /** Null where the window stays as it is: then there is nothing else to tell. */
  readonly sloP99Ms: number | null;
  /** From append to acknowledged, of the last control interval; null before the first. */
  readonly p99Ms: number | null;
  readonly reason: WindowReason;
  /** Control intervals so far, and those whose p99 was above the SLO. */
  readonly decisions: number;
  readonly breaches: number;
  /** A durable write alone takes longer than the SLO. */
  readonly unreachable: boolean;
  /** Times that the file `window` could not be read or written. */
  readonly fileFailures: number;
}

/** Figures of one log since it was opened. May be a few batches old. */
export interface LogStats {
  readonly state: LogState;
  /** Since the log was opened; a smaller one than before is that of another opening. */
  readonly uptimeMs: number;
  readonly io: IoMode;
  /** Offset after the last record written / on stable storage / the first that can be read. */
  readonly appendedOffset: number;
  readonly durableOffset: number;
  readonly startOffset: number;
  readonly records: number;
  /** Records with their frame headers. */
  readonly recordBytes: number;
  /** Batches with headers and padding. */
  readonly diskBytes: number;
  readonly batches: number;
  readonly closeReasons: Record<CloseReason, number>;
  /**
   * Batches that are stored compressed, their records with frame headers, and as stored; and the µs that the commit thread has spent
   * compressing (pack.ts), also where it did not pay. All 0 without a codec.
   */
  readonly compression: Readonly<Compression>;
  /** Calls of the commit thread, by name; bytesWritten, commitWrites and commitSyncs beside them. */
  readonly systemCalls: Record<CounterName, number>;
  readonly checkpoints: number;
  readonly rolls: number;
  readonly segments: number;
  /** Times that retention could not remove a file; it tries again. */
  readonly retentionFailures: number;
  /** Zeros written to prepare segments. */
  readonly fillBytes: number;
  readonly lanes: number;
  /** Not yet taken into a batch: in the lanes, and waiting for room there. The age is of the oldest that is not acknowledged. */
  readonly queue: { readonly records: number; readonly bytes: number; readonly oldestAgeMs: number };
  /** Records that were refused because a lane was full, by cause. */
  readonly drops: Drops;
  /** From append to durable, as the producers of all lanes of this handle saw it. */
  readonly latency: LatencyStats;
  /** The same, split: for each record the four are together its latency. What they are: platform/lane-figures.ts. */
  readonly stages: Readonly<Record<StageName, LatencyStats>>;
  /** Records, and bytes with frame headers, per batch. */
  readonly batchRecords: SizeStats;
  readonly batchBytes: SizeStats;
  /** Age of the oldest record when its batch closed: a sample per batch and lane. */
  readonly batchAge: LatencyStats;
  /** One durable write. */
  readonly durableWrite: LatencyStats;
  /** The linger now, and of an adaptive window what it follows and why it is there. */
  readonly window: WindowStats;
  readonly tornBytes: number;
  /** Why there is no native addon, where there is none. */
  readonly nativeMissing: string | null;
}

/** Figures of several lanes together. */
export class LaneSums {
  readonly histograms = {} as Record<LaneHistogramName, Histogram>;
  readonly drops = {} as { -readonly [K in keyof Drops]: Drops[K] };

  constructor() {
    for (const name of laneHistogramNames) this.histograms[name] = new Histogram();
    for (const cause of dropCauses) this.drops[cause] = 0;
  }

  add(lane: SharedArrayBuffer): void {
    this.addSums(laneFigures(lane));
  }

  addSums({ histograms, drops }: Pick<LaneSums, 'histograms' | 'drops'>): void {
    for (const name of laneHistogramNames) this.histograms[name].merge(histograms[name]);
    for (const cause of dropCauses) this.drops[cause] += drops[cause];
  }
}
