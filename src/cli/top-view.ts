// What `spillway top` shows: two looks at /v1/stats in, lines of text out. A pure function, so that it is tested as one.
//
// Counters and histograms of the gateway only ever grow: rates and quantiles of the time between two looks are differences. Without an
// earlier look, or where the log was opened anew since, they are since the log was opened, and the first line says so.

import { closeReasons } from '../base/types.ts';
import type { CounterName } from '../ingress/counters.ts';
import type { GatewayStats } from '../ingress/metrics.ts';
import { dropCauses, type DropCause } from '../platform/lane-figures.ts';
import { Histogram, noImage } from '../platform/histogram.ts';
import { stageNames, type HistogramName } from '../pipeline/log-stats.ts';
import { count, figure, milliseconds } from './output.ts';

/** One look: stats with histograms. */
export type Look = Required<GatewayStats>;

const BAR = 20;
const NAME = 16;
const CELL = 12;

const dropNames: Readonly<Record<DropCause, string>> = {
  newest: 'drop-newest',
  oldest: 'drop-oldest',
  blockedTooLong: 'blocked too long',
  backlog: 'backlog',
};
/** Refusals that a person wants to know of, by their counter. */
const refusals = ['shed', 'rateLimited', 'refusedBodies', 'connectionsRefused', 'unauthorized', 'answers5xx'] as const;

function bytes(n: number): string {
  for (const [unit, size] of [
    ['GB', 1e9],
    ['MB', 1e6],
    ['kB', 1e3],
  ] as const) {
    if (n >= size) return `${figure(n / size)} ${unit}`;
  }
  return `${figure(n)} B`;
}

function duration(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${figure(ms / 1000)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const cells = (...all: readonly string[]): string => all.map((cell) => cell.padEnd(CELL)).join('');
const row = (name: string, text: string): string => `  ${name.padEnd(NAME)}${text}`.trimEnd();

function latencies(h: Histogram): string {
  if (h.count === 0) return cells('–', '–', '–', '–', '–');
  return cells(...[0.5, 0.9, 0.99, 0.999, 1].map((q) => milliseconds(h.quantile(q))));
}

/** Figures of the time between two looks. */
class Between {
  readonly seconds: number;
  readonly sinceStart: boolean;
  readonly #before: Look | undefined;
  readonly #now: Look;

  constructor(before: Look | undefined, now: Look) {
    this.sinceStart = before === undefined || before.log.uptimeMs >= now.log.uptimeMs;
    this.#before = this.sinceStart ? undefined : before;
    this.#now = now;
    this.seconds = (now.log.uptimeMs - (this.#before?.log.uptimeMs ?? 0)) / 1000;
  }

  of(value: (look: Look) => number): number {
    return value(this.#now) - (this.#before === undefined ? 0 : value(this.#before));
  }

  perSecond(value: (look: Look) => number): number {
    return this.of(value) / this.seconds;
  }

  histogram(name: HistogramName): Histogram {
    return Histogram.between(this.#before?.histograms[name] ?? noImage, this.#now.histograms[name]);
  }
}

function stageLines(between: Between): string[] {
  const stages = stageNames.map((name) => ({ name, h: between.histogram(name) }));
  const all = stages.reduce((sum, { h }) => sum + h.sum, 0);
  return stages.map(({ name, h }) => {
    const share = all > 0 ? Math.max(0, h.sum) / all : 0;
    const bar = '█'.repeat(Math.round(share * BAR)).padEnd(BAR, '·');
    return row(`  ${name}`, `${latencies(h)}${bar} ${Math.round(share * 100)} %`);
  });
}

function batchLines(between: Between): string[] {
  const sizes = (name: 'batchRecords' | 'batchBytes', text: (n: number) => string): string => {
    const h = between.histogram(name);
    if (h.count === 0) return cells('–', '–', '–', '–', '–');
    return cells(...[0.5, 0.9, 0.99, 0.999, 1].map((q) => text(h.quantile(q, true))));
  };
  const closed = closeReasons.map((reason) => ({ reason, n: between.of((l) => l.log.closeReasons[reason]) }));
  const batches = closed.reduce((sum, { n }) => sum + n, 0);
  const share = (n: number): string => (batches === 0 ? '–' : `${Math.round((n / batches) * 100)} %`);
  return [
    row('records/batch', sizes('batchRecords', figure)),
    row('bytes/batch', sizes('batchBytes', bytes)),
    row('oldest at close', latencies(between.histogram('batchAge'))),
    row('closed by', closed.map(({ reason, n }) => `${reason} ${share(n)}`).join('   ')),
  ];
}

function lossLines(between: Between, { log }: Look): string[] {
  const total = dropCauses.reduce((sum, cause) => sum + log.drops[cause], 0);
  const drops = dropCauses
    .filter((cause) => log.drops[cause] > 0)
    .map((cause) => `${dropNames[cause]} ${figure(between.perSecond((l) => l.log.drops[cause]))}/s`);
  const refused = refusals
    .map((name: CounterName) => ({ name, perSecond: between.perSecond((l) => l.gateway[name]) }))
    .filter(({ perSecond }) => perSecond > 0)
    .map(({ name, perSecond }) => `${name} ${figure(perSecond)}/s`);
  return [
    row('drops', total === 0 ? 'none since start' : `${drops.join('   ')}   (${count(total)} since start)`),
    row('refusals', refused.length === 0 ? 'none' : refused.join('   ')),
  ];
}

function windowLine({ log: { window } }: Look): string {
  const linger = `${figure(window.lingerMs)} ms`;
  if (window.sloP99Ms === null) return row('linger', `${linger}, as set`);
  const p99 =
    window.p99Ms === null ? '' : `   last interval p99 ${figure(window.p99Ms)} of ${figure(window.sloP99Ms)} ms`;
  const breaches = `   ${count(window.breaches)} of ${count(window.decisions)} intervals above`;
  return row('linger', `${linger} (${window.reason})${p99}${breaches}${window.unreachable ? '   OUT OF REACH' : ''}`);
}

/** @param origin where the gateway is @param statedMs SLO to judge by; 0 for the gateway's own */
export function topLines(origin: string, statedMs: number, before: Look | undefined, now: Look): string[] {
  const { log, gateway } = now;
  const between = new Between(before, now);
  const time = duration(between.seconds * 1000);
  const latency = between.histogram('latency');
  const p99Ms = latency.quantile(0.99) / 1000;
  const sloP99Ms = statedMs === 0 ? now.sloP99Ms : statedMs;
  const slo = `SLO p99 ${figure(sloP99Ms)} ms`;
  const judged = latency.count === 0 ? slo : `${slo}: ${p99Ms <= sloP99Ms ? 'held' : 'BROKEN'}`;
  const writesPerSecond = between.perSecond((l) => l.log.batches);
  const recordsPerSecond = between.perSecond((l) => l.log.records);
  const perWrite = writesPerSecond > 0 ? figure(recordsPerSecond / writesPerSecond) : '–';
  return [
    `spillway top   ${origin}   log ${log.state === 'open' ? 'open' : log.state.toUpperCase()}, ${log.io}, up ${duration(log.uptimeMs)}   ` +
      (between.sinceStart ? `figures SINCE START, ${time}` : `figures of the last ${time}`),
    '',
    row(
      'records',
      `${figure(recordsPerSecond)}/s   ${bytes(between.perSecond((l) => l.log.recordBytes))}/s   ` +
        `${figure(writesPerSecond)} durable writes/s   ${perWrite} records per durable write`,
    ),
    row(
      'queue',
      `${count(log.queue.records)} records   ${bytes(log.queue.bytes)}   oldest ${figure(log.queue.oldestAgeMs)} ms` +
        (gateway.paused > 0 ? '   PAUSED: sockets are not read' : ''),
    ),
    ...lossLines(between, now),
    row(
      'clients',
      `${count(gateway.connections)} connections   ${figure(between.perSecond((l) => l.gateway.requests))} requests/s   ` +
        `${figure(between.perSecond((l) => l.gateway.frames))} frames/s   event loop ${figure(gateway.eventLoopDelayMs)} ms late`,
    ),
    '',
    row('', cells('p50', 'p90', 'p99', 'p99.9', 'max')),
    row('end to end', `${latencies(latency)}${judged}`),
    ...stageLines(between),
    row('durable write', latencies(between.histogram('durableWrite'))),
    '',
    ...batchLines(between),
    windowLine(now),
  ];
}
