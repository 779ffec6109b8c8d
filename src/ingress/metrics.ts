// What /metrics and /v1/stats say: the log's figures and those of all accept threads. Prometheus text format 0.0.4.

import type { LogStats } from '../pipeline/log-stats.ts';
import type { LogView } from '../pipeline/view.ts';
import { counterNames, isGauge, readCounters, type CounterName } from './counters.ts';

/** `bodyBytes` → `body_bytes`. */
function snake(name: string): string {
  return name.replace(/[A-Z0-9]+/g, (part, at: number) => (at === 0 ? part : `_${part}`).toLowerCase());
}

const help: Partial<Record<CounterName, string>> = {
  records: 'Records acknowledged as durable.',
  duplicates: 'Records that were sent again and were there already.',
  shed: 'Requests refused because the queue was too old.',
  refusedDecodedBytes:
    'Bytes decoded, at most, of compressed bodies that turned out too large: decodedBodyBytes and 64 KiB of each.',
  oldestAgeMs: 'Age of the oldest record that is not yet durable.',
  eventLoopDelayMs: 'Event loop delay of the last second, of the slowest accept thread.',
};

class Text {
  #lines: string[] = [];

  add(name: string, type: 'counter' | 'gauge', value: number, help = '', labels = ''): void {
    const full = `spillway_${name}`;
    if (!this.#lines.includes(`# TYPE ${full} ${type}`)) {
      if (help !== '') this.#lines.push(`# HELP ${full} ${help}`);
      this.#lines.push(`# TYPE ${full} ${type}`);
    }
    this.#lines.push(`${full}${labels} ${value}`);
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
  for (const [call, n] of Object.entries(s.systemCalls)) {
    if (call !== 'bytesWritten') text.add('log_system_calls_total', 'counter', n, '', `{call="${call}"}`);
  }
  text.add('log_written_bytes_total', 'counter', s.systemCalls.bytesWritten);
  text.add('log_segments', 'gauge', s.segments);
  text.add('log_retention_failures_total', 'counter', s.retentionFailures);
  for (const [name, l] of [
    ['log_latency_us', s.latency],
    ['log_durable_write_us', s.durableWrite],
  ] as const) {
    text.add(name, 'gauge', l.p50Us, 'Since the log was opened.', '{quantile="0.5"}');
    text.add(name, 'gauge', l.p99Us, '', '{quantile="0.99"}');
    text.add(name, 'gauge', l.p999Us, '', '{quantile="0.999"}');
    text.add(name, 'gauge', l.maxUs, '', '{quantile="1"}');
  }
}

/** Figures of the whole gateway, from any accept thread. */
export class Report {
  readonly #view: LogView;
  readonly #counters: SharedArrayBuffer;

  constructor(view: LogView, counters: SharedArrayBuffer) {
    this.#view = view;
    this.#counters = counters;
  }

  stats(): { log: LogStats; gateway: Record<CounterName, number> } {
    return { log: this.#view.stats(), gateway: readCounters(this.#counters) };
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
