// spillway tune: a window for a p99 target, why this one, and whether it kept what was forecast.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { formatBytes, type WindowOptions } from '../base/options.ts';
import { tune, type Fact, type Tuned } from '../load/tune.ts';
import { resolveTuneOptions, tuneOptionTable } from '../load/tune-options.ts';
import { quantileOf, type Distribution } from '../window/costs.ts';
import type { Candidate } from '../window/tuner.ts';
import { flagValues } from './flags.ts';
import { count, figure, printJson, printTable } from './output.ts';
import { tunedHeatMap } from './tune-map.ts';

/** Rows of the front that are shown: the lowest p99, the fewest writes, and as many between. */
const FRONT_ROWS = 12;

const percent = (share: number): string => `${Math.round(share * 100)} %`;
const words = ({ lingerMs, maxRecords, maxBytes }: WindowOptions): string =>
  `linger ${lingerMs} ms, ${count(maxRecords)} records, ${formatBytes(maxBytes)}`;

function closedBy(closed: Candidate['closed']): string {
  const shares = Object.entries(closed).filter(([, share]) => share >= 0.005);
  return shares.map(([reason, share]) => `${reason} ${percent(share)}`).join(', ');
}

function columns(rows: readonly (readonly string[])[]): void {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => row[c].length)));
  for (const row of rows) {
    const cells = row.map((cell, c) => (c === row.length - 1 ? cell : cell.padStart(widths[c])));
    process.stdout.write(`  ${cells.join('  ').trimEnd()}\n`);
  }
}

interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

function both(ms: Distribution): Quantiles {
  return { p50: quantileOf(ms, 0.5), p99: quantileOf(ms, 0.99) };
}

const pair = ({ p50, p99 }: Quantiles): string => `p50 ${figure(p50)} ms, p99 ${figure(p99)} ms`;

/** What stands around a write, by its name: median and p99, in ms. */
function around({ calibration }: Tuned): Record<'wakeMs' | 'timerLateMs' | 'backMs' | 'fillMs', Quantiles> {
  const { wakeMs, timerLateMs, backMs, fillMs } = calibration.costs;
  return { wakeMs: both(wakeMs), timerLateMs: both(timerLateMs), backMs: both(backMs), fillMs: both(fillMs) };
}

function printMeasured(tuned: Tuned, dir: string): void {
  const { calibration, arrivals } = tuned;
  process.stdout.write(`one durable write in ${dir}, mode ${calibration.io}:\n`);
  columns([
    ['size', 'p50 ms', 'p99 ms', 'max ms', 'samples'],
    ...calibration.curve.map((p) => [
      formatBytes(p.bytes),
      figure(p.p50Ms),
      figure(p.p99Ms),
      figure(p.maxMs),
      count(p.samples),
    ]),
  ]);
  const { wakeMs, timerLateMs, backMs } = around(tuned);
  const { sendMs, answerMs } = calibration.costs.producer;
  process.stdout.write('around it:\n');
  printTable([
    ['waking the commit thread', pair(wakeMs)],
    ['its timer is late by', pair(timerLateMs)],
    ['back to the producer', pair(backMs)],
    ['a record costs the producer', `${figure((sendMs + answerMs) * 1000)} µs`],
  ]);
  const part = arrivals.modelled < arrivals.records ? `; the model plays the first ${count(arrivals.modelled)}` : '';
  process.stdout.write(
    `arrivals: ${count(arrivals.records)} records, ${figure(arrivals.perSecond)} records/s${part}\n`,
  );
}

function printFront({ front, candidates, chosen }: Tuned): void {
  const step = Math.max(1, (front.length - 1) / (FRONT_ROWS - 1));
  const shown = Array.from({ length: Math.min(front.length, FRONT_ROWS) }, (_, i) => front[Math.round(i * step)]);
  process.stdout.write(
    `Pareto front, ${shown.length} of ${front.length} windows that no other of ${candidates.length} beats (forecasts):\n`,
  );
  columns([
    ['linger ms', 'records', 'bytes', 'p50 ms', 'p99 ms', 'writes/1,000 records', 'memory MiB', 'closed by'],
    ...shown.map((c) => [
      `${c === chosen ? '→ ' : ''}${c.window.lingerMs}`,
      count(c.window.maxRecords),
      formatBytes(c.window.maxBytes),
      figure(c.p50Ms),
      figure(c.p99Ms),
      figure(c.writesPer1000),
      figure(c.memoryBytes / 1024 / 1024),
      closedBy(c.closed),
    ]),
  ]);
}

const bindingWords = {
  linger: ({ chosen }: Tuned) =>
    `the linger binds: ${percent(chosen.closed.linger + chosen.closed.idle)} of batches close by time, hardly any is full`,
  size: ({ chosen }: Tuned) =>
    `the size binds: ${percent(chosen.closed.records + chosen.closed.bytes)} of batches close because they are full, whatever the linger`,
  disk: ({ chosen }: Tuned) =>
    `the disk binds: it writes ${percent(chosen.diskBusy)} of the time, and what its slowest writes take no window takes away`,
  producer: ({ chosen }: Tuned) =>
    `the producer binds: its thread is busy ${percent(chosen.producerBusy)} of the time with these arrivals`,
} as const;

/** Why this one, in sentences. */
export function reasonsOf(tuned: Tuned): string[] {
  const { chosen, sloP99Ms, sloShare, meets, neighbours, binding } = tuned;
  const limitMs = sloP99Ms * sloShare;
  const first = meets
    ? `fewest durable writes of all windows whose forecast p99 is at most ${figure(limitMs)} ms: ${percent(sloShare)} of the SLO of ${figure(sloP99Ms)} ms, as forecasts are held to be within 25 %`
    : `no window stays within ${figure(limitMs)} ms (${percent(sloShare)} of the SLO of ${figure(sloP99Ms)} ms): this is the lowest p99 there is`;
  const around = neighbours.map(({ change, candidate: c }) => {
    const over = c.p99Ms > limitMs && meets ? ', above the margin' : '';
    const writes = c.writesPer1000 / chosen.writesPer1000 - 1;
    const sign = writes > 0 ? '+' : '';
    const cost = Math.abs(writes) < 0.005 ? 'the same writes' : `writes ${sign}${Math.round(writes * 100)} %`;
    return `with ${change}: p99 ${figure(c.p99Ms)} ms${over}, ${cost}`;
  });
  return [first, bindingWords[binding](tuned), ...around];
}

/** The lines to paste: of a configuration file, and of a command line. */
export function linesOf({ maxRecords, maxBytes, lingerMs }: WindowOptions): { file: string[]; flags: string } {
  const size = formatBytes(maxBytes);
  return {
    file: ['window:', `  maxRecords: ${maxRecords}`, `  maxBytes: ${size}`, `  lingerMs: ${lingerMs}`],
    flags: `--window-records ${maxRecords} --window-bytes ${size} --linger-ms ${lingerMs}`,
  };
}

/** Whether the run kept the SLO; undefined where the generator was the limit: then it says nothing. */
export function sloMet({ sloP99Ms }: Pick<Tuned, 'sloP99Ms'>, fact: Fact): boolean | undefined {
  return fact.load.limit === 'generator' ? undefined : fact.p99Ms <= sloP99Ms;
}

function row(name: string, c: Candidate | Fact): string[] {
  return [name, figure(c.p50Ms), figure(c.p99Ms), figure(c.writesPer1000), closedBy(c.closed)];
}

function printFact(tuned: Tuned): void {
  const { chosen, fact, sloP99Ms } = tuned;
  columns([['', 'p50 ms', 'p99 ms', 'writes/1,000 records', 'closed by'], row('forecast', chosen), row('fact', fact)]);
  const met = sloMet(tuned, fact);
  const verdict =
    met === undefined
      ? 'not judged'
      : met
        ? `met: p99 ${figure(fact.p99Ms)} ms`
        : `MISSED: p99 ${figure(fact.p99Ms)} ms`;
  process.stdout.write(`  durable writes meanwhile: ${pair(fact.durableWriteMs)}\n`);
  process.stdout.write(`  SLO of ${figure(sloP99Ms)} ms ${verdict}; ${fact.load.verdict}\n`);
}

function printText(tuned: Tuned, dir: string): void {
  printMeasured(tuned, dir);
  printFront(tuned);
  process.stdout.write(`${tuned.meets ? 'recommended' : 'nearest'}: ${words(tuned.chosen.window)}\n`);
  for (const reason of reasonsOf(tuned)) process.stdout.write(`  ${reason}\n`);
  process.stdout.write('the same arrivals, for real:\n');
  printFact(tuned);
  const { file, flags } = linesOf(tuned.chosen.window);
  process.stdout.write(`to paste into a configuration file, or behind a command:\n`);
  for (const line of [...file, '', flags]) process.stdout.write(`${line === '' ? '' : `  ${line}`}\n`);
}

/** Without the samples themselves. */
function jsonOf(tuned: Tuned, setting: object): object {
  const { calibration, candidates, ...rest } = tuned;
  const { batchMs, producer } = calibration.costs;
  return {
    setting,
    ...rest,
    windows: candidates.length,
    io: calibration.io,
    curve: calibration.curve,
    around: { ...around(tuned), batchMs, sendMs: producer.sendMs, answerMs: producer.answerMs },
    why: reasonsOf(tuned),
    paste: linesOf(tuned.chosen.window),
    sloMet: sloMet(tuned, tuned.fact) ?? null,
  };
}

/** Made before anything is measured: who cannot write there hears it at once. @throws INVALID_OPTION */
function makeReportDir(report: string): void {
  try {
    mkdirSync(report, { recursive: true });
    writeFileSync(join(report, 'tune.json'), '');
  } catch (error) {
    throw new SpillwayError('INVALID_OPTION', `option 'report': ${report} cannot be written: ${reasonOf(error)}`, {
      subject: 'report',
    });
  }
}

/**
 * @returns exit status: 0 where the recommended window kept the SLO in the run; 1 where none does, it did not, or nobody can tell
 * @throws INVALID_OPTION, DIR_UNUSABLE, IO_ERROR
 */
export async function tuneCommand(parsed: Readonly<Record<string, unknown>>, json: boolean): Promise<number> {
  const options = resolveTuneOptions(flagValues(tuneOptionTable, parsed));
  const { report } = options;
  if (report !== undefined) makeReportDir(report);
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    const tuned = await tune(options, (doing) => process.stderr.write(`${doing} …\n`), interrupt.signal);
    const { token: _secret, ...arrivals } = options.load;
    const all = jsonOf(tuned, { sloP99Ms: options.sloP99Ms, ...arrivals });
    if (report !== undefined) {
      const whole = { ...all, candidates: tuned.candidates };
      writeFileSync(join(report, 'tune.json'), `${JSON.stringify(whole, null, 2)}\n`);
      writeFileSync(join(report, 'tune-p99.svg'), tunedHeatMap(tuned));
    }
    if (json) printJson(all);
    else printText(tuned, options.load.dir);
    if (report !== undefined) process.stderr.write(`written: ${join(report, 'tune.json')}, tune-p99.svg\n`);
    return tuned.meets && sloMet(tuned, tuned.fact) === true ? 0 : 1;
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    process.stderr.write('spillway: interrupted: nothing is recommended, and what was written is removed\n');
    return 1;
  } finally {
    process.removeListener('SIGINT', onSignal).removeListener('SIGTERM', onSignal);
  }
}
