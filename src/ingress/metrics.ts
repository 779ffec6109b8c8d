// What /metrics and /v1/stats say: the log's figures and those of all accept threads. Prometheus text format 0.0.4.

import type { HistogramImage, LatencyStats } from '../platform/histogram.ts';
import { stageNames, type HistogramName, type LogStats } from '../pipeline/log-stats.ts';
import type { LogView } from '../pipeline/view.ts';
import { windowReasons } from '../window/aimd.ts';
import { counterNames, isGauge, readCounters, type CounterName } from './counters.ts';

/** `bodyBytes` → `body_bytes`. */
function snake(name: string): string {
  return name.replace(/[A-Z0-9]+/g, (part, at: number) => (at === 0 ? part : `_${part}`).toLowerCase());
}

const help: Partial<Record<CounterName, string>> = {
  records: 'Records acknowledged as durable.',
  duplicates: 'Records that were sent again and were there already.',
  shed: 'Requests refused because the queue was too old.',
  refusedDecodedBytes: 'Bytes that came out of compressed bodies before they were refused; of damaged ones at most.',
  oldestAgeMs: 'Age of the oldest record that is not yet durable.',
  eventLoopDelayMs: 'Event loop delay of the last second, of the slowest accept thread.',
};

/** The figures of one histogram, whatever its unit. */
interface Summary {
  readonly count: number;
  readonly sum: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

function inUs(l: LatencyStats): Summary {
  const { count, sumUs: sum, p50Us: p50, p90Us: p90, p99Us: p99, p999Us: p999, maxUs: max } = l;
  return { count, sum, p50, p90, p99, p999, max };
}

class Text {
  #lines: string[] = [];

  add(name: string, type: 'counter' | 'gauge', value: number, help = '', labels = ''): void {
    this.#begin(name, type, help);
    this.#lines.push(`spillway_${name}${labels} ${value}`);
  }

  /** @param label as in `stage="lane"` */
  addSummary(name: string, s: Summary, help: string, label = ''): void {
    this.#begin(name, 'summary', help);
    const full = `spillway_${name}`;
    const quantiles = [
      ['0.5', s.p50],
      ['0.9', s.p90],
      ['0.99', s.p99],
      ['0.999', s.p999],
      ['1', s.max],
    ] as const;
    for (const [q, value] of quantiles) {
      this.#lines.push(`${full}{${label}${label === '' ? '' : ','}quantile="${q}"} ${value}`);
    }
    const labels = label === '' ? '' : `{${label}}`;
    this.#lines.push(`${full}_sum${labels} ${s.sum}`, `${full}_count${labels} ${s.count}`);
  }

  #begin(name: string, type: string, help: string): void {
    const line = `# TYPE spillway_${name} ${type}`;
    if (this.#lines.includes(line)) return;
    if (help !== '') this.#lines.push(`# HELP spillway_${name} ${help}`);
    this.#lines.push(line);
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

const states = ['opening', 'open', 'full', 'draining', 'closed', 'poisoned'] as const;

function addLog(text: Text, s: LogStats): void {
  for (const state of states) text.add('log_state', 'gauge', s.state === state ? 1 : 0, '', `{state="${state}"}`);
  text.add('log_appended_offset', 'gauge', s.appendedOffset);
  text.add('log_durable_offset', 'gauge', s.durableOffset, 'Offset after the last record on stable storage.');
  text.add('log_start_offset', 'gauge', s.startOffset);
  text.add('log_records_total', 'counter', s.records);
  text.add('log_batches_total', 'counter', s.batches, 'Durable writes of batches.');
  for (const [reason, n] of Object.entries(s.closeReasons)) {
    text.add('log_batches_closed_total', 'counter', n, 'Batches by what closed them.', `{reason="${reason}"}`);
  }
  text.add('log_compressed_batches_total', 'counter', s.compression.batches, 'Batches stored compressed.');
  text.add('log_compressed_raw_bytes_total', 'counter', s.compression.rawBytes, 'Their records before compression.');
  text.add('log_compressed_stored_bytes_total', 'counter', s.compression.storedBytes, 'Their records as stored.');
  text.add('log_compress_us_total', 'counter', s.compression.us, 'Spent compressing, also where it did not pay.');
  for (const [call, n] of Object.entries(s.systemCalls)) {
    if (call !== 'bytesWritten') text.add('log_system_calls_total', 'counter', n, '', `{call="${call}"}`);
  }
  text.add('log_written_bytes_total', 'counter', s.systemCalls.bytesWritten);
  text.add('log_segments', 'gauge', s.segments);
  text.add('log_retention_failures_total', 'counter', s.retentionFailures);
  addWindow(text, s.window);
  text.add('queued_records', 'gauge', s.queue.records, 'Records in the lanes, and waiting for room there.');
  text.addSummary('log_latency_us', inUs(s.latency), 'From append to durable, per record, since the log was opened.');
  for (const stage of stageNames) {
    const help = 'Parts of log_latency_us: lane, window, write, back (docs/operate.md).';
    text.addSummary('log_stage_us', inUs(s.stages[stage]), help, `stage="${stage}"`);
  }
  text.addSummary('log_durable_write_us', inUs(s.durableWrite), 'One durable write, since the log was opened.');
  text.addSummary('log_batch_records', s.batchRecords, 'Records per batch, since the log was opened.');
  text.addSummary('log_batch_bytes', s.batchBytes, 'Bytes per batch with frame headers, since the log was opened.');
  text.addSummary('log_batch_age_us', inUs(s.batchAge), 'Age of the oldest record when its batch closed.');
}

function addWindow(text: Text, w: LogStats['window']): void {
  text.add('window_linger_ms', 'gauge', w.lingerMs, 'How long the oldest record of a batch waits for company.');
  if (w.sloP99Ms === null) return;
  text.add('window_slo_p99_ms', 'gauge', w.sloP99Ms, 'What the adaptive window follows.');
  if (w.p99Ms !== null)
    text.add('window_p99_ms', 'gauge', w.p99Ms, 'From append to acknowledged, of the last interval.');
  text.add('window_decisions_total', 'counter', w.decisions, 'Control intervals.');
  text.add('window_breaches_total', 'counter', w.breaches, 'Control intervals whose p99 was above the SLO.');
  text.add('window_unreachable', 'gauge', w.unreachable ? 1 : 0, 'A durable write alone takes longer than the SLO.');
  text.add('window_file_failures_total', 'counter', w.fileFailures);
  for (const reason of windowReasons) {
    const help = 'Why the linger is what it is (docs/operate.md).';
    text.add('window_reason', 'gauge', reason === w.reason ? 1 : 0, help, `{reason="${reason}"}`);
  }
}

export interface GatewayStats {
  readonly log: LogStats;
  readonly gateway: Record<CounterName, number>;
  /** Option sloP99Ms: what the gateway is to be held against. */
  readonly sloP99Ms: number;
  /** For whoever wants the quantiles of the time between two looks; only where asked for, as `?histograms=1`. */
  readonly histograms?: Record<HistogramName, HistogramImage>;
}

/** Figures of the whole gateway, from any accept thread. */
export class Report {
  readonly #view: LogView;
  readonly #counters: SharedArrayBuffer;
  readonly #sloP99Ms: number;

  constructor(view: LogView, counters: SharedArrayBuffer, sloP99Ms: number) {
    this.#view = view;
    this.#sloP99Ms = sloP99Ms;
    this.#counters = counters;
  }

  stats(withHistograms = false): GatewayStats {
    const stats = { log: this.#view.stats(), gateway: readCounters(this.#counters), sloP99Ms: this.#sloP99Ms };
    return withHistograms ? { ...stats, histograms: this.#view.images() } : stats;
  }

  metrics(): string {
    const { log, gateway } = this.stats();
    const text = new Text();
    for (const name of counterNames) {
      const gauge = isGauge(name);
      const metric = snake(name).replace(/_total$/, '');
      text.add(gauge ? metric : `${metric}_total`, gauge ? 'gauge' : 'counter', gateway[name], help[name]);
    }
    addLog(text, log);
    return text.toString();
  }
}
