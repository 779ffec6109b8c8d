// Between the figures that everybody sees and the pure law of the adaptive window (window/aimd.ts). On the commit thread; costs a
// comparison per batch, and at most every LOOK_MS some 20 µs per lane: nothing per record.
//
//     look ─── look ─── look ─── look ─── …          lanes' histograms: what came since the look before
//       └──────── control interval ─────┘ decide     INTERVAL_MS and SAMPLES records; at once where FAR records are above the SLO and are
//                                                    more than 1 % of those of the last seconds
//
// Deaf for DEAF_MS from the first batch on (code that is not compiled yet, the first write into a fresh segment), and after each
// move for a look: records are told of that came before it. Of an SLO above 50 ms all of these are longer: a look is one SLO.
// Memory: 18 KiB per lane, and 150 KiB.

import type { CloseReason } from '../base/types.ts';
import type { AdaptiveWindowOptions } from '../base/options.ts';
import { Histogram } from '../platform/histogram.ts';
import type { LaneFigures } from '../platform/lane-figures.ts';
import { laneFigures, laneIsClosed } from '../platform/lane-memory.ts';
import type { SharedState } from '../platform/shared-state.ts';
import {
  afterSilence,
  decide,
  goalMs,
  startState,
  windowReasons,
  type WindowLaw,
  type WindowState,
} from '../window/aimd.ts';
import { Recent } from '../window/recent.ts';
import type { WindowStats } from './log-stats.ts';

const LOOK_MS = 50;
const INTERVAL_MS = 250;
/** Intervals are as long as that many SLOs at least, so that several batches of the largest linger are in one. */
const INTERVAL_SLOS = 10;
/** A p99 of fewer is their maximum; where they do not come, the interval ends after so long all the same. */
const SAMPLES = 100;
const MAX_INTERVAL_MS = 2000;
const FAR = 10;
const DEAF_MS = 1000;
/** Memory of the tail: as long as it takes to grow again once a disk has recovered, and half of the 10 s that an SLO is judged over. */
const TAIL_MS = 5000;
/**
 * A disk that has just become slow shows in 1 % of the last 5 s once half of what 10 s may break is broken. So in the last fifth of the
 * tail a smaller share is enough.
 */
const SUDDEN_PART = 0.2;
const SUDDEN_SHARE = 0.03;
/** Of the tail, in SLOs: what is above counts as this. */
const TAIL_SLOS = 4;
const SAVE_MS = 60_000;
/** Share by which the point must have moved to be written again. */
const SAVE_SHARE = 0.1;

/** Where the last good linger is kept between two runs. What either throws is counted. */
export interface PointStore {
  load(): number | undefined;
  save(lingerMs: number): void;
}

interface SeenLane {
  readonly buffer: SharedArrayBuffer;
  readonly figures: LaneFigures;
  readonly seen: Histogram;
  waitUs: number;
}

/** Sums of an interval. */
interface Interval {
  readonly sinceMs: number;
  readonly batches: number;
  readonly records: number;
  readonly closes: Record<CloseReason, number>;
  readonly writeUs: number;
  waitUs: number;
  far: number;
  readonly latency: Histogram;
}

export class WindowControl {
  /** What the commit loop goes by: its linger moves. */
  readonly window: { readonly maxRecords: number; readonly maxBytes: number; lingerMs: number };
  readonly #shared: SharedState;
  readonly #law: WindowLaw;
  readonly #sloMs: number;
  readonly #lookMs: number;
  readonly #tailMs: number;
  readonly #store: PointStore;
  readonly #lanes: SeenLane[] = [];
  readonly #seenWrites = new Histogram();
  readonly #rest: Recent;
  readonly #sudden: Recent;
  readonly #writes: Recent;
  readonly #latency = new Histogram();
  #state: WindowState;
  #interval: Interval | undefined;
  #nextLookMs = 0;
  /** Before it what is told of is not counted; undefined before the first batch. */
  #deafUntilMs: number | undefined;
  #savedMs: number | undefined;
  #saveAfterMs = 0;

  constructor(options: AdaptiveWindowOptions, shared: SharedState, store: PointStore) {
    const { maxRecords, maxBytes, sloP99Ms, law } = options;
    this.#shared = shared;
    this.#law = law;
    this.#sloMs = sloP99Ms;
    this.#lookMs = Math.max(LOOK_MS, sloP99Ms);
    this.#store = store;
    const tailMs = Math.max(TAIL_MS, 2 * INTERVAL_SLOS * sloP99Ms);
    this.#rest = new Recent(-sloP99Ms, TAIL_SLOS * sloP99Ms, tailMs);
    this.#sudden = new Recent(-sloP99Ms, TAIL_SLOS * sloP99Ms, tailMs * SUDDEN_PART);
    this.#tailMs = tailMs;
    this.#writes = new Recent(0, TAIL_SLOS * sloP99Ms, tailMs);
    this.#savedMs = this.#tried(() => store.load());
    this.#state = startState(sloP99Ms, this.#savedMs);
    this.window = { maxRecords, maxBytes, lingerMs: this.#state.lingerMs };
    shared.set('windowSloMs', sloP99Ms);
    this.#publish();
  }

  addLane(buffer: SharedArrayBuffer): void {
    this.#lanes.push({ buffer, figures: laneFigures(buffer), seen: new Histogram(), waitUs: 0 });
  }

  /** A batch was acknowledged. */
  committed(nowMs: number): void {
    if (nowMs < this.#nextLookMs) return;
    // The batch before it was one look before that, at most.
    const silenceMs = nowMs - this.#nextLookMs;
    this.#nextLookMs = nowMs + this.#lookMs;
    if (this.#deafUntilMs === undefined) this.#deafUntilMs = nowMs + DEAF_MS;
    else if (silenceMs > this.#tailMs) this.#move(afterSilence(this.#state), nowMs);
    this.#look(nowMs);
  }

  /** Nothing waits: a good moment to write the point down, where it has moved. */
  idle(nowMs: number): void {
    const { goodMs } = this.#state;
    if (nowMs < this.#saveAfterMs || goodMs === undefined) return;
    if (Math.abs(goodMs - (this.#savedMs ?? 0)) < SAVE_SHARE * goalMs(this.#sloMs)) return;
    this.#saveAfterMs = nowMs + SAVE_MS;
    this.#save(goodMs);
  }

  close(): void {
    const { goodMs } = this.#state;
    if (goodMs !== undefined && goodMs !== this.#savedMs) this.#save(goodMs);
  }

  #save(lingerMs: number): void {
    this.#savedMs = lingerMs;
    this.#tried(() => this.#store.save(lingerMs));
  }

  /** The file is a hint: what is wrong with it is counted, and that is all. */
  #tried<T>(body: () => T): T | undefined {
    try {
      return body();
    } catch {
      this.#shared.add('windowFileFailures', 1);
      return undefined;
    }
  }

  #look(nowMs: number): void {
    const interval = this.#interval;
    this.#rest.age(nowMs);
    this.#sudden.age(nowMs);
    this.#writes.age(nowMs);
    this.#shared.histograms.durableWrite.visitNew(this.#seenWrites, (upToUs, count) => {
      if (interval !== undefined) this.#writes.add(upToUs / 1000, count);
    });
    for (let i = this.#lanes.length - 1; i >= 0; i--) {
      const lane = this.#lanes[i];
      // Before its figures: once it is closed they do not change any more.
      const isClosed = laneIsClosed(lane.buffer);
      this.#lookAt(lane, interval);
      if (isClosed) this.#lanes.splice(i, 1);
    }
    if (interval !== undefined && this.#isOver(interval, nowMs)) this.#decide(interval, nowMs);
    // What comes from now on counts: what came since the look before does not.
    else if (interval === undefined && nowMs >= this.#deafUntilMs!) this.#interval = this.#begin(nowMs);
  }

  #lookAt(lane: SeenLane, interval: Interval | undefined): void {
    const { latency, lane: inLane, window } = lane.figures.histograms;
    const { lingerMs } = this.window;
    latency.visitNew(lane.seen, (upToUs, count) => {
      if (interval === undefined) return;
      const ms = upToUs / 1000;
      interval.latency.record(upToUs - 0.5, count);
      this.#rest.add(ms - lingerMs, count);
      this.#sudden.add(ms - lingerMs, count);
      if (ms > this.#sloMs) interval.far += count;
    });
    const waitUs = inLane.sum + window.sum;
    if (interval !== undefined) interval.waitUs += waitUs - lane.waitUs;
    lane.waitUs = waitUs;
  }

  #begin(sinceMs: number): Interval {
    this.#latency.clear();
    const shared = this.#shared;
    return {
      sinceMs,
      batches: shared.stat('batches'),
      records: shared.stat('records'),
      closes: shared.closeCounts(),
      writeUs: shared.histograms.durableWrite.sum,
      waitUs: 0,
      far: 0,
      latency: this.#latency,
    };
  }

  #isOver({ sinceMs, latency, far }: Interval, nowMs: number): boolean {
    const { count } = latency;
    if (count === 0) return false;
    if (far >= FAR && (far > 0.01 * this.#rest.count || far > SUDDEN_SHARE * this.#sudden.count)) return true;
    const lengthMs = nowMs - sinceMs;
    if (lengthMs < Math.max(INTERVAL_MS, INTERVAL_SLOS * this.#sloMs)) return false;
    return count >= SAMPLES || lengthMs >= MAX_INTERVAL_MS;
  }

  /** What records took beyond the linger: the tail of the last seconds, or what has come up within the last of them. */
  #restMs(): number {
    return Math.max(this.#rest.quantile(0.99), this.#sudden.quantile(1 - SUDDEN_SHARE));
  }

  #decide(interval: Interval, nowMs: number): void {
    const shared = this.#shared;
    const { latency } = interval;
    const closes = shared.closeCounts();
    const closed = (reason: CloseReason): number => closes[reason] - interval.closes[reason];
    const batches = Math.max(1, shared.stat('batches') - interval.batches);
    const lengthMs = Math.max(1, nowMs - interval.sinceMs);
    const records = shared.stat('records') - interval.records;
    const before = this.#state;
    const writeMs = (shared.histograms.durableWrite.sum - interval.writeUs) / 1000 / batches;
    const after = decide(this.#law, this.#sloMs, before, {
      nowMs,
      samples: latency.count,
      p99Ms: latency.quantile(0.99) / 1000,
      restP99Ms: this.#restMs(),
      writeP50Ms: this.#writes.quantile(0.5),
      writeP99Ms: this.#writes.quantile(0.99),
      recordsPerBatch: Math.max(1, records / batches),
      bySize: (closed('records') + closed('bytes')) / batches,
      waited: interval.waitUs / 1000 / latency.count / Math.max(before.lingerMs, writeMs),
      perLinger: (records / lengthMs) * before.lingerMs,
    });
    this.#move(after, nowMs);
    if (after.lingerMs === before.lingerMs) this.#interval = this.#begin(nowMs);
  }

  #move(state: WindowState, nowMs: number): void {
    if (state.lingerMs !== this.#state.lingerMs) this.#deafUntilMs = nowMs + this.#lookMs;
    this.#state = state;
    this.#interval = undefined;
    this.window.lingerMs = state.lingerMs;
    this.#publish();
  }

  #publish(): void {
    const { lingerMs, p99Ms = -1, reason, decisions, breaches, unreachable } = this.#state;
    const shared = this.#shared;
    shared.set('windowLingerMs', lingerMs);
    shared.set('windowP99Ms', p99Ms);
    shared.set('windowReason', windowReasons.indexOf(reason));
    shared.set('windowDecisions', decisions);
    shared.set('windowBreaches', breaches);
    shared.set('windowUnreachable', unreachable ? 1 : 0);
  }
}

/** What the control has published, or the loop where there is none. */
export function windowStats(shared: SharedState): WindowStats {
  const sloMs = shared.stat('windowSloMs');
  const p99Ms = shared.stat('windowP99Ms');
  return {
    lingerMs: shared.stat('windowLingerMs'),
    sloP99Ms: sloMs === 0 ? null : sloMs,
    p99Ms: sloMs === 0 || p99Ms < 0 ? null : p99Ms,
    reason: windowReasons[shared.stat('windowReason')],
    decisions: shared.stat('windowDecisions'),
    breaches: shared.stat('windowBreaches'),
    unreachable: shared.stat('windowUnreachable') === 1,
    fileFailures: shared.stat('windowFileFailures'),
  };
}
