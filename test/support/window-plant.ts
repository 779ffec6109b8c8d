// What a window is tried on without a disk: a commit loop in simulated time (a batch closes when its linger is over and the write before
// it has returned; ages count from there), records that come independently, or from clients that wait for their answers, and the
// adaptive law fed from it as pipeline/window-control.ts does it.

import { seededRandom } from '../../src/base/clock.ts';
import { decide, startState, type WindowLaw, type WindowState } from '../../src/window/aimd.ts';
import { Recent } from '../../src/window/recent.ts';

/** What holds from a moment on. */
export interface Regime {
  readonly untilMs: number;
  /** Records per second that come by themselves. */
  readonly rate: number;
  /** Clients that send the next record when the last one is acknowledged, `thinkMs` later. */
  readonly clients?: number;
  readonly writeMs: (random: () => number) => number;
}

export interface Second {
  readonly atMs: number;
  readonly p99Ms: number;
  readonly lingerMs: number;
  readonly records: number;
  readonly writes: number;
}

const INTERVAL_MS = 250;
const BACK_MS = 0.1;
const MAX_RECORDS = 1000;

function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(0.99 * sorted.length) - 1)] ?? 0;
}

/** Runs the regimes one after the other. @returns figures per piece of time, a second unless told, and every state of the law */
export function runPlant(
  law: WindowLaw | { readonly staticMs: number },
  sloMs: number,
  regimes: readonly Regime[],
  seed = 1,
  pieceMs = 1000,
): { readonly seconds: readonly Second[]; readonly states: readonly WindowState[] } {
  const random = seededRandom(seed);
  const exponential = (meanMs: number): number => -Math.log(1 - random()) * meanMs;
  const isStatic = typeof law !== 'string';
  const states = [startState(sloMs)];
  const rest = new Recent(-sloMs, 4 * sloMs, 5000);
  const sudden = new Recent(-sloMs, 4 * sloMs, 1000);
  const writes = new Recent(0, 4 * sloMs, 5000);
  const seconds: Second[] = [];
  let now = 0;
  let freeAt = 0;
  let notBefore = 0;
  let arrival = 0;
  const returning: number[] = [];
  let interval = { latencies: [] as number[], waits: 0, writeMs: 0, batches: 0, bySize: 0, sinceMs: 0 };
  let second = { latencies: [] as number[], records: 0, writes: 0 };
  for (const regime of regimes) {
    while (returning.length < (regime.clients ?? 0)) returning.push(now + random());
    if (arrival < now) arrival = now + (regime.rate > 0 ? exponential(1000 / regime.rate) : Infinity);
    while (now < regime.untilMs) {
      const lingerMs = isStatic ? law.staticMs : states.at(-1)!.lingerMs;
      const next = (): number => Math.min(arrival, ...returning);
      const first = next();
      // Ages count from when the batch before was drained, or from the first record after silence.
      const dueMs = Math.max(freeAt, Math.max(first, notBefore) + lingerMs, first);
      const batch: number[] = [];
      let clients = 0;
      let closedAt = dueMs;
      while (batch.length < MAX_RECORDS) {
        const at = next();
        if (at > dueMs) break;
        batch.push(at);
        if (at === arrival) arrival += regime.rate > 0 ? exponential(1000 / regime.rate) : Infinity;
        else {
          returning.splice(returning.indexOf(at), 1);
          clients++;
        }
        if (batch.length === MAX_RECORDS) closedAt = Math.max(freeAt, at);
      }
      const writeMs = regime.writeMs(random);
      const durableAt = closedAt + writeMs;
      notBefore = closedAt;
      freeAt = durableAt;
      for (let c = 0; c < clients; c++) returning.push(durableAt + BACK_MS + 0.2 * random());
      for (const at of batch) {
        const latencyMs = durableAt + BACK_MS - at;
        interval.latencies.push(latencyMs);
        interval.waits += closedAt - at;
        second.latencies.push(latencyMs);
        rest.add(latencyMs - lingerMs, 1);
        sudden.add(latencyMs - lingerMs, 1);
      }
      interval.batches++;
      interval.writeMs += writeMs;
      if (batch.length === MAX_RECORDS) interval.bySize++;
      writes.add(writeMs, 1);
      second.records += batch.length;
      second.writes++;
      now = durableAt;
      const { latencies, batches } = interval;
      const lengthMs = now - interval.sinceMs;
      if (!isStatic && (lengthMs >= 2000 || (lengthMs >= INTERVAL_MS && latencies.length >= 100))) {
        rest.age(now);
        sudden.age(now);
        writes.age(now);
        states.push(
          decide(law, sloMs, states.at(-1)!, {
            nowMs: now,
            samples: latencies.length,
            p99Ms: p99(latencies),
            restP99Ms: Math.max(rest.quantile(0.99), sudden.quantile(0.97)),
            writeP50Ms: writes.quantile(0.5),
            writeP99Ms: writes.quantile(0.99),
            recordsPerBatch: latencies.length / batches,
            bySize: interval.bySize / batches,
            waited: interval.waits / latencies.length / Math.max(lingerMs, interval.writeMs / batches),
            perLinger: (latencies.length / lengthMs) * lingerMs,
          }),
        );
        interval = { latencies: [], waits: 0, writeMs: 0, batches: 0, bySize: 0, sinceMs: now };
      }
      if (now >= (seconds.length + 1) * pieceMs) {
        seconds.push({
          atMs: now,
          p99Ms: p99(second.latencies),
          lingerMs,
          records: second.records,
          writes: second.writes,
        });
        second = { latencies: [], records: 0, writes: 0 };
      }
    }
  }
  return { seconds, states };
}
