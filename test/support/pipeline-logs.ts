// Logs through the public interface, with tiny limits; the threads they start are caught, so that a test can end one.

import type { Worker } from 'node:worker_threads';
import { open, type LogOptionsInput, type LogRecord, type ReadOptions, type SpillwayLog } from '../../src/index.ts';

export const smallLog = {
  segmentBytes: '128KiB',
  laneBytes: '64KiB',
  maxRecordBytes: '16KiB',
  window: { maxRecords: 100, maxBytes: '16KiB', lingerMs: 1 },
} as const;

const workers = new Set<Worker>();
let latest: Worker | undefined;

process.on('worker', (worker: Worker) => {
  workers.add(worker);
  latest = worker;
  worker.once('exit', () => workers.delete(worker));
});

/** Ends every thread that a test left behind: a hang is reported where it was seen, not by the whole file. */
export async function endWorkers(): Promise<void> {
  await Promise.all([...workers].map((w) => w.terminate()));
}

export async function openSmall(options: LogOptionsInput): Promise<{ log: SpillwayLog; commitWorker: Worker }> {
  const log = await open({ ...smallLog, ...options });
  return { log, commitWorker: latest! };
}

export async function recordsOf(
  log: { read(options?: ReadOptions): AsyncIterable<LogRecord> },
  options: ReadOptions = {},
): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for await (const record of log.read(options)) records.push(record);
  return records;
}

export function text(record: LogRecord): string {
  return Buffer.from(record.payload).toString();
}

/** A window that closes no batch of a few records by itself, for as long as a test takes. */
export const quiet = { maxRecords: 100_000, maxBytes: '16KiB', lingerMs: 20_000 } as const;
