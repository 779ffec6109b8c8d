// What lab:aimd runs: a window with a log of its own under open-loop arrivals, for as long as it is told, beside a process that disturbs
// the disk where the regime says so. Latency is the log's own, from append to the acknowledgement that its producer reads: what the SLO
// is stated for, and the same for every window. The generator's, from the intended time, stands beside it.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { seededRandom } from '../../src/base/clock.ts';
import { open, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import { appendTarget } from '../../src/load/append-target.ts';
import { onOffArrivals, poissonArrivals, traceArrivals, upTo, type Arrivals } from '../../src/load/arrivals.ts';
import { offer, type Target } from '../../src/load/generator.ts';
import { reportOf } from '../../src/load/report.ts';
import { readTrace } from '../../src/load/trace.ts';
import { Histogram } from '../../src/platform/histogram.ts';
import { own, packageRoot } from './frame.ts';

const MIB = 1024 * 1024;
export const RECORD_BYTES = 256;
const SAMPLE_MS = 250;
const GRACE_MS = 5000;
const MAX_REQUESTS = 10_000_000;
/** Beside the repository, as everywhere here; where it is not there, seeded bursts stand in for it. */
const tracePath = join(packageRoot, '..', 'shared', 'data', 'traces', 'azure_llm_code_2023.csv');
/** An hour of arrivals in 35 s: 250 requests/s on average, bursts of 6,700/s. */
const TRACE_SCALE = 100;

export interface Regime {
  readonly name: string;
  /** @param endMs how long they are to go on */
  readonly arrivals: (seed: number, endMs: number) => Arrivals;
  readonly perRequest: number;
  /** When the disturber is there, as fractions of the time. */
  readonly disturbed: readonly [from: number, to: number] | undefined;
  readonly steady: boolean;
  readonly words: string;
}

/** The first part of a trace that is so long and holds as many arrivals as are in so much time on average: it begins with a silence. */
function busyPart(times: Float64Array, endMs: number): Float64Array {
  const lengthMs = endMs * TRACE_SCALE;
  const wanted = Math.min(1, lengthMs / times[times.length - 1]) * times.length;
  for (let from = 0; ; from++) {
    const to = times.findIndex((atMs) => atMs >= times[from] + lengthMs);
    const end = to < 0 ? times.length : to;
    if (end - from >= wanted || to < 0) return times.slice(from, end).map((atMs) => atMs - times[from]);
  }
}

const poisson = (perSecond: number) => (seed: number) => poissonArrivals(perSecond, seededRandom(seed));

export function regimes(): readonly Regime[] {
  const hasTrace = existsSync(tracePath);
  const times = hasTrace ? readTrace(tracePath) : undefined;
  const replay = (seed: number, endMs: number): Arrivals =>
    times === undefined ? onOffArrivals(250, seededRandom(seed)) : traceArrivals(busyPart(times, endMs), TRACE_SCALE);
  return [
    {
      name: 'low',
      arrivals: poisson(500),
      perRequest: 1,
      disturbed: undefined,
      steady: true,
      words: '500 records/s, one per request',
    },
    {
      name: 'high',
      arrivals: poisson(1000),
      perRequest: 20,
      disturbed: undefined,
      steady: true,
      words: '20,000 records/s, 20 per request',
    },
    {
      name: 'slow disk',
      arrivals: poisson(500),
      perRequest: 4,
      disturbed: [0, 1],
      steady: true,
      words: '2,000 records/s, 4 per request, beside the disturber',
    },
    {
      name: 'replay',
      arrivals: replay,
      perRequest: 8,
      disturbed: [1 / 3, 2 / 3],
      steady: false,
      words: `${hasTrace ? `the trace at ${TRACE_SCALE} ×` : 'seeded bursts (no trace at hand)'}, 8 records per request, the disturber in the middle third`,
    },
  ];
}

export interface Subject {
  readonly name: string;
  readonly window: NonNullable<LogOptionsInput['window']>;
}

/** Another process that writes `chunkBytes` and syncs, then rests. */
export interface Disturbance {
  readonly chunkBytes: number;
  readonly pauseMs: number;
}

export class Disturber {
  readonly #dir: string;
  readonly #how: Disturbance;
  #child: ChildProcess | undefined;

  constructor(dir: string, how: Disturbance) {
    this.#dir = dir;
    this.#how = how;
  }

  start(): void {
    const script = fileURLToPath(new URL('./aimd-disturber.js', import.meta.url));
    const args = [script, this.#dir, String(this.#how.chunkBytes), String(this.#how.pauseMs)];
    this.#child ??= own(spawn(process.execPath, args, { stdio: 'ignore' }));
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
}

/** A log with its window, open as long as it takes part. */
export class Contender {
  readonly subject: Subject;
  readonly log: SpillwayLog;
  readonly #dir: string;
  #turn = 0;

  private constructor(subject: Subject, log: SpillwayLog, dir: string) {
    this.subject = subject;
    this.log = log;
    this.#dir = dir;
  }

  static async open(subject: Subject, parent: string): Promise<Contender> {
    const dir = join(parent, `log-${process.hrtime.bigint()}`);
    mkdirSync(dir);
    const log = await open({
      dir,
      // The sizes of the sweep bound batches, not the number of records.
      window: { maxRecords: 100_000, ...subject.window },
      laneBytes: 4 * MIB,
      segmentBytes: 16 * MIB,
      retentionBytes: 32 * MIB,
    });
    return new Contender(subject, log, dir);
  }

  /** Requests of one run, whatever the log does. */
  target(perRequest: number): Target {
    const target = appendTarget([this.log], {
      perRequest,
      recordBytes: RECORD_BYTES,
      stream: 'lab',
      seed: ++this.#turn,
    });
    return { ...target, close: async () => undefined };
  }

  async close(): Promise<void> {
    await this.log.close();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

export interface Piece {
  readonly atMs: number;
  readonly p99Ms: number;
  readonly records: number;
  readonly writes: number;
}

export interface Run {
  readonly subject: string;
  readonly regime: string;
  readonly seconds: number;
  /** Of everything but what was skipped. */
  readonly p99Ms: number;
  readonly records: number;
  readonly writes: number;
  /** p99 of one durable write. */
  readonly writeP99Ms: number;
  /** From the intended time, and how late requests went out by the generator's own doing. */
  readonly intendedP99Ms: number;
  readonly ownLagP99Ms: number;
  /** The generator was the limit: then nothing is judged. */
  readonly byGenerator: boolean;
  readonly intervals: readonly Piece[];
  readonly trail: readonly { readonly atMs: number; readonly lingerMs: number; readonly p99Ms: number | null }[];
}

interface Look {
  readonly atMs: number;
  readonly images: ReturnType<SpillwayLog['view']['images']>;
  readonly records: number;
  readonly writes: number;
}

function lookAt(log: SpillwayLog, atMs: number): Look {
  const { records, batches } = log.stats();
  return { atMs, images: log.view.images(), records, writes: batches };
}

function between(a: Look, b: Look): Piece {
  return {
    atMs: b.atMs,
    p99Ms: Histogram.between(a.images.latency, b.images.latency).quantile(0.99) / 1000,
    records: b.records - a.records,
    writes: b.writes - a.writes,
  };
}

/** Offers a regime's arrivals. @param skipMs of the start, which does not count */
export async function runRegime(
  contender: Contender,
  regime: Regime,
  setting: { readonly seconds: number; readonly skipMs: number; readonly intervalMs: number; readonly seed: number },
  disturber: Disturber,
): Promise<Run> {
  const { log, subject } = contender;
  const endMs = setting.seconds * 1000 + setting.skipMs;
  const [fromMs, toMs] = (regime.disturbed ?? [2, 2]).map((part) => part * endMs);
  if (fromMs === 0) {
    disturber.start();
    await delay(200);
  }
  const startMs = performance.now();
  const nowMs = (): number => performance.now() - startMs;
  let first: Look | undefined;
  let last: Look | undefined;
  const intervals: Piece[] = [];
  const trail: { atMs: number; lingerMs: number; p99Ms: number | null }[] = [];
  let samples: Look | undefined;
  const sample = setInterval(() => {
    const atMs = nowMs();
    if (atMs >= fromMs && atMs < toMs) disturber.start();
    else if (atMs >= toMs) void disturber.stop();
    const now = lookAt(log, atMs);
    trail.push({
      atMs,
      lingerMs: log.stats().window.lingerMs,
      p99Ms: samples === undefined || now.records === samples.records ? null : between(samples, now).p99Ms,
    });
    samples = now;
    if (atMs < setting.skipMs) return;
    first ??= now;
    last ??= now;
    if (atMs - last.atMs >= setting.intervalMs - SAMPLE_MS / 2) {
      intervals.push(between(last, now));
      last = now;
    }
  }, SAMPLE_MS);
  try {
    const arrivals = upTo(regime.arrivals(setting.seed, endMs), endMs, MAX_REQUESTS);
    const tally = await offer(contender.target(regime.perRequest), { arrivals, endMs, graceMs: GRACE_MS });
    const end = lookAt(log, nowMs());
    first ??= end;
    const rest = last === undefined ? 0 : end.atMs - last.atMs;
    if (last !== undefined && rest >= setting.intervalMs / 2) intervals.push(between(last, end));
    const whole = between(first, end);
    const writes = Histogram.between(first.images.durableWrite, end.images.durableWrite);
    const size = { perRequest: regime.perRequest, recordBytes: RECORD_BYTES };
    const report = reportOf(tally, size, {});
    return {
      subject: subject.name,
      regime: regime.name,
      seconds: (end.atMs - first.atMs) / 1000,
      p99Ms: whole.p99Ms,
      records: whole.records,
      writes: whole.writes,
      writeP99Ms: writes.quantile(0.99) / 1000,
      intendedP99Ms: report.latencyMs.p99,
      ownLagP99Ms: report.ownLagMs.p99,
      byGenerator: report.limit === 'generator',
      intervals,
      trail,
    };
  } finally {
    clearInterval(sample);
    await disturber.stop();
  }
}
