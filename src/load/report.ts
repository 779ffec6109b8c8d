// What a run of the generator says: figures, and who was the limit.
//
// The generator was, when its sends went out late by its own doing (p99 of its lag above OWN_LAG_LIMIT_MS) or its event loop had
// hardly a pause (above BUSY_LIMIT): then the latencies are its own as well, and say nothing of the target. Else the target
// was, when requests that were due waited for a place (p99 above LATE_LIMIT_MS), were never sent, or never answered.

import type { Histogram } from '../platform/histogram.ts';
import type { Tally } from './generator.ts';

const OWN_LAG_LIMIT_MS = 10;
const BUSY_LIMIT = 0.9;
const LATE_LIMIT_MS = 10;

export interface LatencyFigures {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

export interface LoadReport {
  /** What was asked for. */
  readonly setting: Readonly<Record<string, unknown>>;
  readonly seconds: number;
  readonly interrupted: boolean;
  readonly offered: { readonly requests: number; readonly records: number; readonly recordsPerSecond: number };
  /** What reached the target: the others never got a free connection. */
  readonly sent: { readonly requests: number; readonly records: number; readonly recordsPerSecond: number };
  readonly accepted: {
    readonly requests: number;
    readonly records: number;
    readonly recordsPerSecond: number;
    readonly bytesPerSecond: number;
  };
  /** Requests by code. */
  readonly refused: Readonly<Record<string, number>>;
  readonly unsent: number;
  readonly unanswered: number;
  /** From the intended time to the answer, of accepted requests. */
  readonly latencyMs: LatencyFigures;
  /** The same of all but refused ones, at least: what was never accepted counts as far as it had come. */
  readonly offeredLatencyMs: LatencyFigures;
  readonly lateMs: LatencyFigures;
  readonly ownLagMs: LatencyFigures;
  /** From the sending to the answer, of all that were answered, refused ones too. */
  readonly heldMs: LatencyFigures;
  readonly eventLoopBusy: number;
  readonly limit: 'none' | 'target' | 'generator';
  /** Why, in a sentence. */
  readonly verdict: string;
}

function figures(us: Histogram): LatencyFigures {
  return {
    p50: us.quantile(0.5) / 1000,
    p99: us.quantile(0.99) / 1000,
    p999: us.quantile(0.999) / 1000,
    max: us.max / 1000,
  };
}

const ms = (value: number): string => `${Number(value.toPrecision(3))} ms`;
const percent = (share: number): string => `${Math.round(share * 100)} %`;

function judge(tally: Tally, ownLagMs: LatencyFigures, lateMs: LatencyFigures): Pick<LoadReport, 'limit' | 'verdict'> {
  if (ownLagMs.p99 > OWN_LAG_LIMIT_MS) {
    const verdict = `this generator was the limit: 1 % of its requests went out more than ${ms(ownLagMs.p99)} late by its own doing (threshold ${OWN_LAG_LIMIT_MS} ms)`;
    return { limit: 'generator', verdict };
  }
  if (tally.busy > BUSY_LIMIT) {
    const verdict = `this generator was the limit: its event loop was busy ${percent(tally.busy)} of the time (threshold ${percent(BUSY_LIMIT)})`;
    return { limit: 'generator', verdict };
  }
  const reasons = [
    tally.unsent > 0 ? `${tally.unsent} requests never got a free connection` : '',
    tally.unanswered > 0 ? `${tally.unanswered} were not answered` : '',
    lateMs.p99 > LATE_LIMIT_MS ? `1 % waited more than ${ms(lateMs.p99)} for a free connection` : '',
  ].filter((reason) => reason !== '');
  if (reasons.length > 0) {
    return {
      limit: 'target',
      verdict: `the target, or the number of connections, was the limit: ${reasons.join(', ')}`,
    };
  }
  if (tally.sent === 0) return { limit: 'none', verdict: 'nothing was due' };
  const own = `p99 of its own lag ${ms(ownLagMs.p99)}, event loop ${percent(tally.busy)} busy`;
  return { limit: 'none', verdict: `every request went out when it was due, and was answered (${own})` };
}

/** @param size of one request */
export function reportOf(
  tally: Tally,
  size: { readonly perRequest: number; readonly recordBytes: number },
  setting: Readonly<Record<string, unknown>>,
): LoadReport {
  const offeredSeconds = Math.max(tally.offeredMs, 1) / 1000;
  const during = (requests: number): LoadReport['sent'] => ({
    requests,
    records: requests * size.perRequest,
    recordsPerSecond: (requests * size.perRequest) / offeredSeconds,
  });
  // A target that answers late is not credited with the time it took.
  const seconds = Math.max(offeredSeconds, tally.answeredMs / 1000);
  const ownLagMs = figures(tally.ownLagUs);
  const lateMs = figures(tally.lateUs);
  return {
    setting,
    seconds,
    interrupted: tally.interrupted,
    offered: during(tally.sent + tally.unsent),
    sent: during(tally.sent),
    accepted: {
      requests: tally.accepted,
      records: tally.acceptedRecords,
      recordsPerSecond: tally.acceptedRecords / seconds,
      bytesPerSecond: (tally.acceptedRecords * size.recordBytes) / seconds,
    },
    refused: Object.fromEntries([...tally.refused].sort((a, b) => b[1] - a[1])),
    unsent: tally.unsent,
    unanswered: tally.unanswered,
    latencyMs: figures(tally.latencyUs),
    offeredLatencyMs: figures(tally.offeredLatencyUs),
    lateMs,
    ownLagMs,
    heldMs: figures(tally.heldUs),
    eventLoopBusy: tally.busy,
    ...judge(tally, ownLagMs, lateMs),
  };
}
