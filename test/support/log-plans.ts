// Batch plans made by hand, and a log over them with tiny limits, so that class Log is driven without lanes or threads.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../src/base/clock.ts';
import { SpillwayError } from '../../src/base/errors.ts';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import type { BatchPlan, Codec, IoMode, LogRecord } from '../../src/base/types.ts';
import { batchDecoder, compressorFor } from '../../src/codec/batch-codec.ts';
import { Log, type StorageOptions } from '../../src/log/log.ts';
import { LogReader } from '../../src/log/reader.ts';
import { chooseIo } from '../../src/platform/choose-io.ts';
import type { FileIo } from '../../src/platform/file-io.ts';
import { FLAG_UNTERMINATED, frameBytes } from '../../src/platform/lane-memory.ts';

export interface PlannedRecord {
  readonly stream?: string;
  readonly payload: Uint8Array | string;
  readonly key?: Uint8Array | string;
  readonly timestampMs?: number;
  readonly unterminated?: boolean;
}

function frameOf(r: PlannedRecord, id: number): Buffer {
  const key = Buffer.from(r.key ?? '');
  const payload = Buffer.from(r.payload);
  const frame = Buffer.alloc(frameBytes(key.length, payload.length));
  const timestampMs = r.timestampMs ?? 0;
  frame.writeUInt32LE(payload.length, 0);
  frame.writeUInt16LE(id, 4);
  frame.writeUInt8(r.unterminated === true ? FLAG_UNTERMINATED : 0, 6);
  frame.writeUIntLE(timestampMs, 8, 6);
  frame.writeUInt16LE(key.length, 14);
  key.copy(frame, 16);
  payload.copy(frame, 16 + key.length);
  return frame;
}

/** A plan of these records, in two sources and one range each, so that gathering is exercised too. */
export function planOf(records: readonly PlannedRecord[]): BatchPlan {
  const names: string[] = [''];
  const streamIds: number[] = [];
  const streamRecords: number[] = [];
  const frames = records.map((r) => {
    const name = r.stream ?? 's';
    let id = names.indexOf(name, 1);
    if (id < 0) {
      id = names.push(name) - 1;
      streamIds.push(id);
      streamRecords.push(0);
    }
    streamRecords[id - 1]++;
    return frameOf(r, id);
  });
  const half = Math.ceil(frames.length / 2);
  const sources = [Buffer.concat(frames.slice(0, half)), Buffer.concat(frames.slice(half))];
  const rangeCount = frames.length > 1 ? 2 : 1;
  return {
    sources,
    ranges: Float64Array.from([0, 0, sources[0].length, 1, 0, sources[1].length]),
    rangeCount,
    records: records.length,
    recordBytes: sources[0].length + sources[1].length,
    streamIds,
    streamRecords,
    streamNames: names,
  };
}

/** What the record at `offset` holds in the logs of these tests: different for every offset. */
export function payloadAt(offset: number, bytes = 100): Buffer {
  const payload = Buffer.alloc(bytes, (offset * 37 + 11) & 0xff);
  payload.write(`#${offset}.`.slice(0, bytes), 'latin1');
  return payload;
}

function timestampAt(offset: number): number {
  return 1_700_000_000_000 + offset;
}

export function recordAt(offset: number, bytes?: number): PlannedRecord {
  return { payload: payloadAt(offset, bytes), timestampMs: timestampAt(offset) };
}

export class SimulatedClock implements Clock {
  nowMs = 1_700_000_000_000;
  wallMs(): number {
    return this.nowMs;
  }
  monotonicMs(): number {
    return this.nowMs;
  }
}

export const KIB = 1024;

export const tiny: Omit<StorageOptions, 'dir'> = {
  segmentBytes: 64 * KIB,
  window: { maxRecords: 1000, maxBytes: 16 * KIB, lingerMs: 0 },
  maxRecordBytes: 8 * KIB,
  retentionBytes: 0,
  retentionMs: 0,
};

let salt = 1;

export interface OpenedLog {
  readonly log: Log;
  readonly io: FileIo;
  readonly clock: SimulatedClock;
}

export function openLog(
  dir: string,
  io: IoMode | FileIo,
  options: Partial<StorageOptions> = {},
  clock = new SimulatedClock(),
  codec: Codec = 'none',
): OpenedLog {
  const disk = typeof io === 'string' ? chooseIo(dir, io, new Float64Array(COUNTER_SLOTS)) : io;
  // Salts differ between the lives of a segment, and are the same in every run of the test.
  const random32 = (): number => (salt = (salt * 48271) % 0x7fffffff);
  const deps = { io: disk, clock, random32, compressor: compressorFor(codec) };
  return { log: Log.open(deps, { dir, ...tiny, ...options }), io: disk, clock };
}

export interface FillOptions {
  /** Records per batch; a record is about 116 bytes. */
  readonly perBatch?: number;
  readonly payloadBytes?: number;
  readonly streamOf?: (offset: number) => string;
  readonly overlap?: boolean;
}

/** Appends batches with records that name their own offset; rolls where there is no room. */
export function fill(log: Log, batches: number, options: FillOptions = {}): void {
  const { perBatch = 20, payloadBytes = 100, streamOf = () => 's', overlap = false } = options;
  for (let b = 0; b < batches; b++) {
    const first = log.appendedOffset;
    const plan = planOf(
      Array.from({ length: perBatch }, (_, i) => ({
        ...recordAt(first + i, payloadBytes),
        stream: streamOf(first + i),
      })),
    );
    if (!log.hasRoomFor(plan)) log.roll();
    log.append(plan, overlap);
  }
  log.settleAll();
}

export interface ReadBack {
  readonly records: LogRecord[];
  /** How reading ended, where not at the end of the log. */
  readonly error: SpillwayError | undefined;
}

/** Reads until the end or the first error; in "another process" mode unless a durable offset is given. */
export function readBack(
  io: FileIo,
  dir: string,
  options: { stream?: string; from?: number; durableOffset?: () => number; checkEnd?: boolean } = {},
): ReadBack {
  const records: LogRecord[] = [];
  let reader: LogReader | undefined;
  try {
    const { durableOffset } = options;
    reader = new LogReader(io, dir, {
      stream: options.stream,
      from: options.from,
      decoder: batchDecoder,
      ...(durableOffset === undefined ? {} : { durableOffset }),
    });
    for (let batch = reader.nextBatch(); batch !== undefined; batch = reader.nextBatch()) records.push(...batch);
    if (options.checkEnd === true) reader.checkEnd();
    return { records, error: undefined };
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return { records, error };
  } finally {
    reader?.close();
  }
}

/** What `fill` was asked to append, as far as the offset alone does not say it. */
export interface Filled {
  readonly streamOf?: (offset: number) => string;
  readonly bytesOf?: (offset: number) => number;
}

/** What of a record is not what `fill` appended at its offset; undefined where all of it is. */
export function wrongOf(r: LogRecord, { streamOf = () => 's', bytesOf }: Filled = {}): string | undefined {
  const bytes = bytesOf?.(r.offset) ?? r.payload.length;
  if (!payloadAt(r.offset, bytes).equals(r.payload)) return `the payload at offset ${r.offset} is wrong`;
  if (r.stream !== streamOf(r.offset)) return `offset ${r.offset} is in stream '${r.stream}'`;
  if (r.timestampMs !== timestampAt(r.offset)) return `offset ${r.offset} has the timestamp ${r.timestampMs}`;
  if (r.key !== null) return `offset ${r.offset} has a key`;
  if (r.unterminated || r.identity !== undefined) return `offset ${r.offset} has a flag that was not set`;
  return undefined;
}

/** The first record that is not what was appended at its offset, or is out of order; undefined where all are right. */
export function firstWrong(records: readonly LogRecord[], from?: number, filled?: Filled): string | undefined {
  let previous = from === undefined ? undefined : from - 1;
  for (const r of records) {
    if (previous !== undefined && r.offset !== previous + 1) return `offset ${r.offset} follows ${previous}`;
    const wrong = wrongOf(r, filled);
    if (wrong !== undefined) return wrong;
    previous = r.offset;
  }
  return undefined;
}

export function filesOf(dir: string, end: string): string[] {
  return readdirSync(dir)
    .filter((f) => f.endsWith(end))
    .sort();
}

export function bytesIn(dir: string): number {
  return readdirSync(dir).reduce((sum, f) => sum + statSync(join(dir, f)).size, 0);
}

/** The error that an action throws; fails loudly where it throws none, or one that is not Spillway's. */
export function thrown(action: () => unknown): SpillwayError {
  try {
    action();
  } catch (error) {
    if (error instanceof SpillwayError) return error;
    throw error;
  }
  throw new Error('expected an error, got none');
}
