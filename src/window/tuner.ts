// Which window: sweeps linger × maxRecords × maxBytes through the model, and picks from what came out. Pure: the same arrivals,
// costs and seed give the same answer.
//
// Recommended is, of the windows whose forecast p99 is at most SLO_SHARE of the SLO, the one with the fewest durable writes per 1,000
// records; of those within TIE of it, the one that takes the least memory, and of these the one with the most room for peaks that
// these arrivals did not have. SLO_SHARE is 0.8: forecasts are held to be within 25 %, and 0.8 × 1.25 is 1.
//
// Limits: 21 lingers up to the SLO; two sizes that close a batch at the same number of these records are played once. Few arrivals are
// played several times with other draws, so that one slow write in a thousand is not the difference between two windows.

import type { WindowOptions } from '../base/options.ts';
import { maxBatchBytes } from '../base/options.ts';
import { simulate, together, type Forecast, type Load } from './model.ts';
import type { Costs } from './costs.ts';

/** Of the SLO: a forecast has to stay below it. */
export const SLO_SHARE = 0.8;
/** Windows whose writes differ by less are taken for equal. */
const TIE = 0.02;
const LINGER_STEPS = 20;
/** Records that each window is played with, about, and how often the same arrivals are at most. */
const PLAYED_RECORDS = 60_000;
const MAX_ROUNDS = 8;
const KIB = 1024;
const sizesRecords = [10, 100, 300, 1000, 3000, 10_000] as const;
const sizesBytes = [64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB] as const;
/** As in log.ts. */
const STAGING_BUFFERS = 3;

export interface Candidate {
  readonly window: WindowOptions;
  /** Records of this load that fill a batch, whether by their number or by their bytes. */
  readonly capRecords: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly writesPer1000: number;
  /** Staging buffers, and the most that lay in the lane. */
  readonly memoryBytes: number;
  readonly diskBusy: number;
  readonly producerBusy: number;
  /** Share of the batches, 0 … 1, by why they closed. */
  readonly closed: Readonly<Record<keyof Forecast['closeReasons'], number>>;
}

export interface Space {
  readonly load: Load;
  readonly costs: Costs;
  readonly seed: number;
  readonly sloP99Ms: number;
  readonly maxRecordBytes: number;
}

/** Records at which a batch of this load closes, whatever closes it. */
function capRecords({ maxRecords, maxBytes }: WindowOptions, frameBytes: number): number {
  return Math.min(maxRecords, Math.max(1, Math.floor(maxBytes / frameBytes)));
}

/** Two figures that are read, in ms: of an SLO of 20 the lingers 0, 1, 2 … 20. */
function lingersOf(sloP99Ms: number): number[] {
  return Array.from({ length: LINGER_STEPS + 1 }, (_, i) => Number(((sloP99Ms * i) / LINGER_STEPS).toPrecision(3)));
}

/** All windows that are looked at: those of one linger behind one another. */
export function windowsOf({ sloP99Ms, load }: Pick<Space, 'sloP99Ms' | 'load'>): WindowOptions[] {
  const bytes = sizesBytes.filter((maxBytes) => maxBytes <= load.laneBytes / 2);
  return lingersOf(sloP99Ms).flatMap((lingerMs) =>
    sizesRecords.flatMap((maxRecords) => bytes.map((maxBytes) => ({ maxRecords, maxBytes, lingerMs }))),
  );
}

function candidateOf(window: WindowOptions, forecast: Forecast, { load, maxRecordBytes }: Space): Candidate {
  const { batches, records, latencyUs, closeReasons } = forecast;
  const closed = Object.fromEntries(Object.entries(closeReasons).map(([reason, n]) => [reason, n / batches]));
  return {
    window,
    capRecords: capRecords(window, load.frameBytes),
    p50Ms: latencyUs.quantile(0.5) / 1000,
    p99Ms: latencyUs.quantile(0.99) / 1000,
    writesPer1000: (batches / records) * 1000,
    memoryBytes: STAGING_BUFFERS * maxBatchBytes({ window, maxRecordBytes }) + forecast.laneBytes,
    diskBusy: forecast.diskBusy,
    producerBusy: forecast.producerBusy,
    closed: closed as Candidate['closed'],
  };
}

function played(window: WindowOptions, { load, costs, seed }: Space): Forecast {
  const rounds = Math.max(1, Math.min(MAX_ROUNDS, Math.round(PLAYED_RECORDS / load.arrivalsMs.length)));
  return Array.from({ length: rounds }, (_, i) => simulate(window, load, costs, seed + 2 * i)).reduce(together);
}

export function forecastOf(window: WindowOptions, space: Space): Candidate {
  return candidateOf(window, played(window, space), space);
}

/** One candidate after the other: whoever asks may do something else in between. */
export function* sweep(space: Space): Generator<Candidate, void, undefined> {
  const known = new Map<string, Forecast>();
  for (const window of windowsOf(space)) {
    const key = `${window.lingerMs} ${capRecords(window, space.load.frameBytes)}`;
    const forecast = known.get(key) ?? played(window, space);
    known.set(key, forecast);
    yield candidateOf(window, forecast, space);
  }
}

/** Differences below about 5 % are no differences: the front would be of dozens that nobody can tell apart. */
const grade = (value: number): number => Math.round(Math.log(value) / Math.log(1.05));
const axes = ['p99Ms', 'writesPer1000', 'memoryBytes'] as const;

function beats(a: Candidate, b: Candidate): boolean {
  return axes.every((x) => grade(a[x]) <= grade(b[x])) && axes.some((x) => grade(a[x]) < grade(b[x]));
}

/** Those that none beats in p99, durable writes and memory together, by p99; of equal ones that with the fewest writes and the most room. */
export function paretoFront(candidates: readonly Candidate[]): Candidate[] {
  const front = candidates.filter((c) => !candidates.some((other) => beats(other, c)));
  const best = new Map<string, Candidate>();
  for (const c of front) {
    const key = axes.map((x) => grade(c[x])).join(' ');
    const other = best.get(key);
    const gain = other === undefined ? -1 : c.writesPer1000 - other.writesPer1000;
    if (other === undefined || gain < 0 || (gain === 0 && roomier(c, other))) best.set(key, c);
  }
  return [...best.values()].sort((a, b) => a.p99Ms - b.p99Ms);
}

/** Whether it takes more into a batch, of these records or else of others. */
function roomier(a: Candidate, b: Candidate): boolean {
  const more = a.capRecords - b.capRecords;
  return more > 0 || (more === 0 && a.window.maxRecords * a.window.maxBytes > b.window.maxRecords * b.window.maxBytes);
}

function least(candidates: readonly Candidate[], axis: (c: Candidate) => number): number {
  return candidates.reduce((min, c) => Math.min(min, axis(c)), Infinity);
}

export interface Choice {
  readonly chosen: Candidate;
  /** Whether its forecast p99 stays below SLO_SHARE of the SLO. Where none does it is the one with the lowest p99. */
  readonly meets: boolean;
}

/** @param candidates at least one */
export function choose(candidates: readonly Candidate[], sloP99Ms: number): Choice {
  const within = candidates.filter((c) => c.p99Ms <= sloP99Ms * SLO_SHARE);
  const meets = within.length > 0;
  const lowest = least(candidates, (c) => c.p99Ms);
  const pool = meets ? within : candidates.filter((c) => c.p99Ms <= lowest * (1 + TIE));
  const fewest = least(pool, (c) => c.writesPer1000);
  const few = pool.filter((c) => c.writesPer1000 <= fewest * (1 + TIE));
  const small = least(few, (c) => c.memoryBytes);
  const light = few.filter((c) => c.memoryBytes <= small * (1 + TIE));
  const chosen = light.reduce((best, c) => {
    if (roomier(c, best)) return c;
    return !roomier(best, c) && c.p99Ms < best.p99Ms ? c : best;
  });
  return { chosen, meets };
}

export type Binding = 'linger' | 'size' | 'disk' | 'producer';

export interface Neighbour {
  /** In a word or two: `linger 9 ms`. */
  readonly change: string;
  readonly candidate: Candidate;
}

/** Candidates one step away from the chosen one, in each direction that there is. */
export function neighboursOf(chosen: Candidate, candidates: readonly Candidate[]): Neighbour[] {
  const along = (name: keyof WindowOptions, show: (value: number) => string): Neighbour[] => {
    const line = candidates
      .filter(({ window: w }) =>
        (['lingerMs', 'maxRecords', 'maxBytes'] as const).every((key) => key === name || w[key] === chosen.window[key]),
      )
      .sort((a, b) => a.window[name] - b.window[name]);
    const at = line.findIndex((c) => c.window[name] === chosen.window[name]);
    return [line[at - 1], line[at + 1]]
      .filter((c) => c !== undefined)
      .map((candidate) => ({ change: show(candidate.window[name]), candidate }));
  };
  return [
    ...along('lingerMs', (v) => `linger ${v} ms`),
    ...along('maxRecords', (v) => `${v} records`),
    ...along('maxBytes', (v) => `${v / KIB} KiB`),
  ];
}

/** From here on waiting for the disk, or for the producer's own thread, says more than the window. */
const BUSY = 0.7;

/** What keeps the chosen window from needing fewer writes, or from answering sooner. */
export function bindingOf({ chosen, meets }: Choice): Binding {
  if (chosen.producerBusy > BUSY && chosen.producerBusy >= chosen.diskBusy) return 'producer';
  if (chosen.diskBusy > BUSY || !meets) return 'disk';
  return chosen.closed.records + chosen.closed.bytes >= 0.5 ? 'size' : 'linger';
}
