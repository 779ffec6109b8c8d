// spillway ingest: one record per line, from a file or stdin, into a stream; says what it cost.

import { createReadStream, fstatSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { SpillwayError, reasonOf } from '../base/errors.ts';
import { WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import type { LogOptionsInput } from '../base/options.ts';
import { SpillwayLog } from '../pipeline/open.ts';
import type { LogStats } from '../pipeline/log-stats.ts';
import { LineSplitter, type LongLine } from './lines.ts';
import { count, figure, milliseconds, printJson, printTable } from './output.ts';
import { Progress } from './progress.ts';

export interface IngestOptions {
  readonly log: LogOptionsInput;
  readonly stream: string;
  /** Path, or '-' for stdin. */
  readonly input: string;
  readonly json: boolean;
}

/** Cost of the lines under way to the disk at a time, in bytes as maxWaitingBytes counts: keeps lane and disk busy. */
const INPUT_CHUNK_BYTES = 128 * 1024;
const UNDER_WAY_BYTES = 96 * INPUT_CHUNK_BYTES;
/** Lines of one append call: what a call costs while it waits stays far below maxWaitingBytes. */
const GROUP_LINES = 1000;
/** Refused lines that are named one by one. */
const NAMED_REFUSALS = 20;

interface Tally {
  records: number;
  bytes: number;
  firstOffset: number | null;
  lastOffset: number | null;
  refused: number;
  readonly refusedLines: LongLine[];
}

/** @returns exit status: 0, or 1 when a line was refused or the input was not read to its end */
export async function ingest(options: IngestOptions): Promise<number> {
  checkStreamName(options.stream);
  const inputBytes = options.input === '-' ? refuseDirectoryOnStdin() : await sizeOf(options.input);
  const log = await SpillwayLog.open(options.log);
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const progress = new Progress('ingest', inputBytes);
  const tally: Tally = { records: 0, bytes: 0, firstOffset: null, lastOffset: null, refused: 0, refusedLines: [] };
  const startedMs = performance.now();
  let failure: unknown;
  try {
    await pump(log, options, tally, progress, interrupt.signal);
  } catch (error) {
    failure = error;
  }
  progress.stop();
  try {
    await log.close();
  } catch (error) {
    failure ??= error;
  }
  process.removeListener('SIGINT', onSignal).removeListener('SIGTERM', onSignal);
  const seconds = (performance.now() - startedMs) / 1000;
  summarise(options, log, tally, seconds, interrupt.signal.aborted);
  if (failure !== undefined) throw failure;
  if (interrupt.signal.aborted) process.stderr.write('spillway: interrupted: the input was not read to its end\n');
  return tally.refused > 0 || interrupt.signal.aborted ? 1 : 0;
}

/** Node reads a directory on stdin as an empty input. Its size is never known. */
function refuseDirectoryOnStdin(): undefined {
  if (fstatSync(0).isDirectory()) throw unreadable('-', new Error('stdin is a directory'));
  return undefined;
}

async function sizeOf(path: string): Promise<number> {
  try {
    const info = await stat(path);
    if (info.isDirectory()) throw new Error('is a directory');
    return info.size;
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): SpillwayError {
  return new SpillwayError(
    'INVALID_OPTION',
    `--input ${path}: expected a readable file or -, got: ${reasonOf(error)}`,
    { subject: 'input' },
  );
}

async function pump(
  log: SpillwayLog,
  options: IngestOptions,
  tally: Tally,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const lines = new LineSplitter(log.options.maxRecordBytes, (line) => {
    tally.refused++;
    if (tally.refusedLines.length < NAMED_REFUSALS) tally.refusedLines.push(line);
  });
  // One at a time where little may wait: an append that is refused would leave a hole.
  const limit = Math.min(UNDER_WAY_BYTES, log.options.maxWaitingBytes / 2);
  const underWay: { readonly done: Promise<void>; readonly cost: number }[] = [];
  let underWayCost = 0;
  const interrupted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  const settleDownTo = async (cost: number): Promise<void> => {
    while (underWay.length > 0 && underWayCost > cost) {
      const oldest = underWay[0];
      // On a full disk nothing settles: an interrupt ends the waiting, and closing says what became of it.
      if ((await Promise.race([oldest.done, interrupted.then(() => 'interrupted')])) === 'interrupted') return;
      underWay.shift();
      underWayCost -= oldest.cost;
    }
  };
  const send = async (payloads: readonly Uint8Array[], unterminated: boolean): Promise<void> => {
    let bytes = 0;
    for (const p of payloads) bytes += p.length;
    const cost = bytes + payloads.length * WAITER_OVERHEAD_BYTES;
    await settleDownTo(Math.max(0, limit - cost));
    if (signal.aborted) return;
    const appended = log.appendMany(options.stream, payloads, { unterminated });
    const done = appended.then(({ firstOffset, lastOffset }) => {
      tally.records += payloads.length;
      tally.bytes += bytes;
      tally.firstOffset ??= firstOffset;
      tally.lastOffset = lastOffset;
    });
    done.catch(() => undefined); // awaited in settleDownTo, in order; until then it must not count as unhandled
    underWay.push({ done, cost });
    underWayCost += cost;
  };

  const input =
    options.input === '-' ? process.stdin : createReadStream(options.input, { highWaterMark: INPUT_CHUNK_BYTES });
  const stop = (): void => void input.destroy();
  signal.addEventListener('abort', stop);
  try {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      const cut = lines.push(chunk);
      for (let i = 0; i < cut.length && !signal.aborted; i += GROUP_LINES)
        await send(cut.slice(i, i + GROUP_LINES), false);
      progress.advance(chunk.length);
    }
  } catch (error) {
    if (error instanceof SpillwayError) throw error;
    // Interrupted: what was read up to the last whole line is kept. Otherwise the input itself failed.
    if (!signal.aborted) throw unreadable(options.input, error);
  } finally {
    signal.removeEventListener('abort', stop);
  }
  if (!signal.aborted) {
    const last = lines.end();
    if (last !== undefined) await send([last], true);
  }
  await settleDownTo(-1);
}

function summarise(
  options: IngestOptions,
  log: SpillwayLog,
  tally: Tally,
  seconds: number,
  interrupted: boolean,
): void {
  const stats = log.stats();
  const write = stats.systemCalls.pwrite64 + stats.systemCalls.pwritev + stats.systemCalls.pwritev2;
  const sync = stats.systemCalls.fdatasync + stats.systemCalls.fsync;
  for (const { line, bytes } of tally.refusedLines) {
    process.stderr.write(
      `spillway: line ${line}: ${count(bytes)} bytes, at most ${count(log.options.maxRecordBytes)} fit a record; not ingested [RECORD_TOO_LARGE]\n`,
    );
  }
  if (tally.refused > tally.refusedLines.length)
    process.stderr.write(`spillway: … and ${tally.refused - tally.refusedLines.length} more lines\n`);
  if (!options.json) {
    printText(options, log, tally, stats, { write, sync, seconds });
    return;
  }
  printJson({
    records: tally.records,
    bytes: tally.bytes,
    batches: stats.batches,
    firstOffset: tally.firstOffset,
    lastOffset: tally.lastOffset,
    refused: tally.refused,
    interrupted,
    refusedLines: tally.refusedLines,
    io: stats.io,
    syscalls: {
      write,
      sync,
      commitWrites: stats.systemCalls.commitWrites,
      commitSyncs: stats.systemCalls.commitSyncs,
      byName: stats.systemCalls,
    },
    checkpoints: stats.checkpoints,
    fillBytes: stats.fillBytes,
    closeReasons: stats.closeReasons,
    seconds,
    recordsPerSecond: tally.records / seconds,
    latencyUs: stats.latency,
    durableWriteUs: stats.durableWrite,
  });
}

const modeWords: Record<string, string> = {
  direct: 'one pwritev2(RWF_DSYNC) past the page cache',
  buffered: 'one pwritev2(RWF_DSYNC)',
  portable: 'pwritev + fdatasync',
  js: 'fs.write + fs.fdatasync, without the native addon',
};

function printText(
  options: IngestOptions,
  log: SpillwayLog,
  tally: Tally,
  stats: LogStats,
  cost: { write: number; sync: number; seconds: number },
): void {
  const { dir } = log.options;
  const records = Math.max(1, tally.records);
  const calls = stats.systemCalls;
  process.stdout.write(`${count(tally.records)} records are on stable storage in ${dir}, stream ${options.stream}\n`);
  printTable([
    ['offsets', tally.records === 0 ? 'none' : `${tally.firstOffset} to ${tally.lastOffset}`],
    ['bytes', count(tally.bytes)],
    [
      'batches',
      `${count(stats.batches)}, closed by ${
        Object.entries(stats.closeReasons)
          .filter(([, n]) => n > 0)
          .map(([r, n]) => `${r} ${count(n)}`)
          .join(', ') || 'nothing'
      }`,
    ],
    ['durable write', `${stats.io}: ${modeWords[stats.io]}`],
    [
      'per record',
      `${figure(calls.commitWrites / records)} write calls and ${figure(calls.commitSyncs / records)} sync calls in batches`,
    ],
    [
      'with all upkeep',
      `${figure(cost.write / records)} write calls and ${figure(cost.sync / records)} sync calls (segments, index, checkpoint)`,
    ],
    ['rate', `${count(tally.records / cost.seconds)} records/s, ${figure(tally.bytes / cost.seconds / 1e6)} MB/s`],
    ['append to durable', `p50 ${milliseconds(stats.latency.p50Us)}, p99 ${milliseconds(stats.latency.p99Us)}`],
  ]);
  if (stats.nativeMissing !== null) process.stdout.write(`  the native addon did not load: ${stats.nativeMissing}\n`);
  process.stdout.write(
    `next:  spillway read --dir ${dir} --stream ${options.stream} --count 3\n       spillway verify --dir ${dir}\n`,
  );
}
