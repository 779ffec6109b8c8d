// spillway tune: measures the disk, plays the arrivals through the model with every window of the sweep, recommends one, and runs it.
//
//     calibrate ──costs──▶ sweep ──candidates──▶ choose ──window──▶ run for real ──▶ forecast beside fact
//
// Limits: MODEL_ARRIVALS of the arrivals are played (the run takes all); disk: what calibrate.ts takes, then one log of
// the run. All of it lies in one directory of its own within `dir`, which is removed, whatever ends it but a SIGKILL.

import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { seededRandom } from '../base/clock.ts';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { BATCH_HEADER_BYTES, BLOCK_BYTES } from '../base/limits.ts';
import { resolveLogOptions, type WindowOptions } from '../base/options.ts';
import type { CloseReason } from '../base/types.ts';
import { SpillwayLog } from '../pipeline/open.ts';
import { Histogram } from '../platform/histogram.ts';
import { frameBytes } from '../platform/lane-memory.ts';
import { quantileOf, writeMs } from '../window/costs.ts';
import type { Load } from '../window/model.ts';
import {
  bindingOf,
  choose,
  neighboursOf,
  paretoFront,
  SLO_SHARE,
  sweep,
  type Binding,
  type Candidate,
  type Neighbour,
  type Space,
} from '../window/tuner.ts';
import { appendTarget, maxUnderWay } from './append-target.ts';
import { poissonArrivals, upTo } from './arrivals.ts';
import { calibrate, type Calibration } from './calibrate.ts';
import { offer } from './generator.ts';
import type { LoadOptions } from './options.ts';
import { reportOf, type LoadReport } from './report.ts';
import { planOf } from './run.ts';
import type { TuneOptions } from './tune-options.ts';

/** A p99 of fewer is no p99. */
const LEAST_ARRIVALS = 100;
export const MODEL_ARRIVALS = 100_000;
/** Before what is measured: threads that have just started are slower than they will be. */
const WARM_UP_MS = 500;

/** What a window really did. */
export interface Fact {
  readonly window: WindowOptions;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly writesPer1000: number;
  /** What its durable writes took: another time than was measured before says that the disk was another one meanwhile. */
  readonly durableWriteMs: { readonly p50: number; readonly p99: number };
  /** Share of the batches, 0 … 1, by why they closed. */
  readonly closed: Readonly<Record<CloseReason, number>>;
  /** How many batches had at most so many records, and more than the row before. */
  readonly batchRecords: readonly (readonly [records: number, batches: number])[];
  readonly load: LoadReport;
}

export interface Tuned {
  readonly sloP99Ms: number;
  /** Of the SLO, what a forecast has to stay below. */
  readonly sloShare: number;
  readonly arrivals: { readonly records: number; readonly modelled: number; readonly perSecond: number };
  readonly calibration: Calibration;
  readonly candidates: readonly Candidate[];
  readonly front: readonly Candidate[];
  readonly chosen: Candidate;
  /** Whether the forecast of the chosen window stays below the margin; no other's does where it does not. */
  readonly meets: boolean;
  readonly binding: Binding;
  readonly neighbours: readonly Neighbour[];
  readonly fact: Fact;
}

/** Makes a directory of our own within `dir`, runs, and removes it, and whatever of `dir` was missing. @throws DIR_UNUSABLE */
async function withScratch<T>(dir: string, body: (scratch: string) => Promise<T>): Promise<T> {
  const parent = resolve(dir);
  const scratch = join(parent, `spillway-tune-${process.pid}`);
  let firstMade: string | undefined;
  try {
    firstMade = mkdirSync(scratch, { recursive: true });
  } catch (error) {
    throw new SpillwayError('DIR_UNUSABLE', `option 'dir': ${dir} cannot be written: ${reasonOf(error)}`, {
      subject: 'dir',
    });
  }
  try {
    return await body(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    removeEmpty(parent, firstMade ?? scratch);
  }
}

/** From the innermost to the outermost, while they are empty: somebody else may have come to use them. */
function removeEmpty(innermost: string, outermost: string): void {
  try {
    for (let at = innermost; at.length >= outermost.length; at = dirname(at)) rmdirSync(at);
  } catch {
    // It is in use, and stays.
  }
}

/** When records are due, all of them. @throws INVALID_OPTION where they are too few */
export function arrivalsOf(options: LoadOptions): Float64Array {
  const { arrivals } = planOf(options);
  const times: number[] = [];
  for (let atMs = arrivals(); atMs !== undefined; atMs = arrivals()) times.push(atMs);
  if (times.length >= LEAST_ARRIVALS) return Float64Array.from(times);
  const subject = options.trace === undefined ? 'seconds' : 'trace';
  const message = `option '${subject}': expected at least ${LEAST_ARRIVALS} arrivals, for a p99, got ${times.length}`;
  throw new SpillwayError('INVALID_OPTION', message, { subject });
}

/** @param arrivalsMs of them at most MODEL_ARRIVALS are taken */
export function loadOf(options: LoadOptions, arrivalsMs: Float64Array): Load {
  const { laneBytes } = resolveLogOptions({ dir: options.dir });
  return {
    arrivalsMs: arrivalsMs.subarray(0, MODEL_ARRIVALS),
    frameBytes: frameBytes(0, options.recordBytes),
    tableBytes: Math.ceil((8 + options.stream.length) / 8) * 8,
    laneBytes,
    maxUnderWay: maxUnderWay(options, 1),
  };
}

/** @throws INVALID_OPTION where the SLO is below what one durable write takes */
function checkSlo(sloP99Ms: number, { costs, io }: Calibration, load: Load, dir: string): void {
  const blocks = Math.ceil((BATCH_HEADER_BYTES + load.tableBytes + load.frameBytes) / BLOCK_BYTES);
  const p99Ms = writeMs(costs.writes, blocks * BLOCK_BYTES, 0.99);
  if (sloP99Ms > p99Ms) return;
  const kib = (blocks * BLOCK_BYTES) / 1024;
  throw new SpillwayError(
    'INVALID_OPTION',
    `option 'sloP99Ms': expected more than ${p99Ms.toFixed(3)} ms, the p99 of one durable write of ${kib} KiB measured in ${dir} ` +
      `(mode ${io}, p50 ${quantileOf(costs.writes[0].ms, 0.5).toFixed(3)} ms): no window is faster than that, got ${sloP99Ms}`,
    { subject: 'sloP99Ms' },
  );
}

/** Offers the arrivals to a log with this window, in a directory of its own below `dir`. */
export async function runWindow(
  window: WindowOptions,
  options: LoadOptions,
  dir: string,
  signal?: AbortSignal,
): Promise<Fact> {
  const log = await SpillwayLog.open({ dir, window });
  const target = appendTarget([log], options);
  try {
    const plan = planOf(options);
    const perMs = arrivalsOf(options).length / plan.endMs;
    const warmUp = upTo(poissonArrivals(perMs * 1000, seededRandom(options.seed + 1)), WARM_UP_MS, Infinity);
    await offer(target, { ...plan, arrivals: warmUp, endMs: WARM_UP_MS }, undefined, signal);
    await log.flush();
    const before = log.stats();
    const imagesBefore = log.view.images();
    const tally = await offer(target, plan, undefined, signal);
    const after = log.stats();
    const { token: _secret, ...setting } = options;
    const load = reportOf(tally, options, setting);
    const batches = after.batches - before.batches;
    const images = log.view.images();
    const between = (name: 'batchRecords' | 'durableWrite'): Histogram =>
      Histogram.between(imagesBefore[name], images[name]);
    const durableWrite = between('durableWrite');
    const reasons = Object.entries(after.closeReasons) as [CloseReason, number][];
    const closed = reasons.map(([reason, n]) => [reason, (n - before.closeReasons[reason]) / Math.max(1, batches)]);
    return {
      window,
      p50Ms: load.offeredLatencyMs.p50,
      p99Ms: load.offeredLatencyMs.p99,
      writesPer1000: (batches / Math.max(1, after.records - before.records)) * 1000,
      closed: Object.fromEntries(closed) as Fact['closed'],
      durableWriteMs: { p50: durableWrite.quantile(0.5) / 1000, p99: durableWrite.quantile(0.99) / 1000 },
      batchRecords: between('batchRecords').bars(),
      load,
    };
  } finally {
    await target.close();
  }
}

/** Space of the sweep, from what was measured. */
export function spaceOf(sloP99Ms: number, options: LoadOptions, load: Load, { costs }: Calibration): Space {
  const { maxRecordBytes } = resolveLogOptions({ dir: options.dir });
  return { load, costs, seed: options.seed, sloP99Ms, maxRecordBytes };
}

/** All candidates; signals are heard in between. @throws what `signal` was aborted with */
export async function swept(space: Space, signal?: AbortSignal): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (const candidate of sweep(space)) {
    candidates.push(candidate);
    await turn();
    signal?.throwIfAborted();
  }
  return candidates;
}

/**
 * @param progress what it is about to do
 * @throws INVALID_OPTION, DIR_UNUSABLE, IO_ERROR; what `signal` was aborted with
 */
export async function tune(
  options: TuneOptions,
  progress: (doing: string) => void,
  signal?: AbortSignal,
): Promise<Tuned> {
  const { sloP99Ms, load: loadOptions } = options;
  const arrivalsMs = arrivalsOf(loadOptions);
  const load = loadOf(loadOptions, arrivalsMs);
  return withScratch(loadOptions.dir, async (scratch) => {
    const calibration = await calibrate(scratch, progress, signal);
    checkSlo(sloP99Ms, calibration, load, loadOptions.dir);
    progress('playing the arrivals through the model');
    const space = spaceOf(sloP99Ms, loadOptions, load, calibration);
    const candidates = await swept(space, signal);
    const choice = choose(candidates, sloP99Ms);
    progress('running the recommended window');
    const fact = await runWindow(choice.chosen.window, loadOptions, join(scratch, 'run'), signal);
    signal?.throwIfAborted();
    return {
      sloP99Ms,
      sloShare: SLO_SHARE,
      arrivals: {
        records: arrivalsMs.length,
        modelled: load.arrivalsMs.length,
        perSecond: fact.load.offered.recordsPerSecond,
      },
      calibration,
      candidates,
      front: paretoFront(candidates),
      ...choice,
      binding: bindingOf(choice),
      neighbours: neighboursOf(choice.chosen, candidates),
      fact,
    };
  });
}
