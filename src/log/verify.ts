// Checks a whole log without changing it: every batch and every record of every segment, sealed or not, and the indexes
// against what they index. Goes on behind damage, so that all of it is reported. Needs no lock: what a live writer is
// just writing looks like a torn tail.

import { join } from 'node:path';
import { isMissing, type Problem } from '../base/errors.ts';
import { READ_CHUNK_BYTES } from '../base/limits.ts';
import type { BatchDecoder } from '../base/types.ts';
import type { FileIo } from '../platform/file-io.ts';
import { countRecords, decodeStreamTable, type Invalid } from './format.ts';
import { indexName, segmentName, sortNames } from './names.ts';
import { readIndex } from './index-file.ts';
import { freedSince, missing, recover, type Recovered } from './recovery.ts';
import { scanSegment } from './scan.ts';
import { SegmentFile, type Batch } from './segment-file.ts';
import type { SegmentIndex } from './segment-index.ts';
import { Unpacker } from './unpack.ts';

export interface Verified {
  readonly ok: boolean;
  readonly records: number;
  /** Payload bytes of those records. */
  readonly bytes: number;
  readonly batches: number;
  /** Batches of those whose codec this process does not have: their checksums are right, their records were not looked at, nor their bytes counted. */
  readonly unreadBatches: number;
  /** What this process would need to read them. */
  readonly unreadFor: string | null;
  /** First and last readable offset; null for an empty log. */
  readonly firstOffset: number | null;
  readonly lastOffset: number | null;
  readonly segments: number;
  readonly tornBytes: number;
  readonly problems: readonly Problem[];
  /** Files that are not Spillway's; left alone. */
  readonly foreign: readonly string[];
}

/** One segment to check, with what recovery knows of it. Plain, so that another thread can be handed one. */
export interface SegmentCheck {
  readonly baseOffset: number;
  /** Offsets below this one must be there. */
  readonly mustReach: number;
  /** Records below it are checked, not counted. */
  readonly startOffset: number;
  readonly hasIndex: boolean;
  readonly hasNext: boolean;
}

export interface SegmentReport {
  records: number;
  bytes: number;
  batches: number;
  unreadBatches: number;
  unreadFor: string | null;
  readonly problems: Problem[];
}

/**
 * @param onProgress called with the bytes looked at so far
 * @throws DIR_UNUSABLE, NOT_A_LOG, UNSUPPORTED_FORMAT, IO_ERROR; damage is returned, not thrown
 */
export function verify(
  io: FileIo,
  dir: string,
  onProgress: (bytes: number) => void = () => undefined,
  decoder?: BatchDecoder,
): Verified {
  const found = recover(io, dir);
  const room = checkRoom(decoder);
  const reports = segmentChecks(found).map((check) => {
    const report = checkSegment(io, dir, check, room);
    onProgress(io.bytesRead);
    return report;
  });
  return sumUp(io, dir, found, reports);
}

/** What is to be checked of what recovery found, ascending. Each check stands for itself. */
export function segmentChecks(found: Recovered): SegmentCheck[] {
  const { listing, checkpoint, obsolete, segments, startOffset } = found;
  const all = listing.segments.map((baseOffset, i) => {
    const next = listing.segments.at(i + 1);
    const sealed = segments.find((s) => s.baseOffset === baseOffset && s.sealed);
    return {
      baseOffset,
      mustReach: Math.max(sealed?.index.nextOffset ?? 0, next ?? checkpoint?.durableOffset ?? 0),
      startOffset,
      hasIndex: listing.indexes.has(baseOffset),
      hasNext: next !== undefined,
    };
  });
  return all.filter((check) => !obsolete.includes(check.baseOffset));
}

/** Memory of one thread that checks: for what is read, and for what is decompressed. */
export interface CheckRoom {
  readonly buffer: Uint8Array;
  readonly unpacker: Unpacker;
}

export function checkRoom(decoder: BatchDecoder | undefined): CheckRoom {
  return { buffer: Buffer.allocUnsafeSlow(READ_CHUNK_BYTES), unpacker: new Unpacker(decoder, true) };
}

/** @throws IO_ERROR */
export function checkSegment(io: FileIo, dir: string, check: SegmentCheck, room: CheckRoom): SegmentReport {
  const report: SegmentReport = {
    records: 0,
    bytes: 0,
    batches: 0,
    unreadBatches: 0,
    unreadFor: null,
    problems: [],
  };
  try {
    walkSegment(io, dir, check, report, room);
  } catch (error) {
    // Truncated by a live writer while it was read.
    if (freedSince(io, dir, check.baseOffset, check.mustReach) !== undefined) return report;
    if (!isMissing(error)) throw error;
    report.problems.push(missing(check.baseOffset, check.mustReach));
  }
  return report;
}

/** @param reports of all checks, in their order */
export function sumUp(io: FileIo, dir: string, found: Recovered, reports: readonly SegmentReport[]): Verified {
  const problems = [...found.problems];
  const totals = { records: 0, bytes: 0, batches: 0, unreadBatches: 0, unreadFor: null as string | null };
  for (const report of reports) {
    totals.records += report.records;
    totals.bytes += report.bytes;
    totals.batches += report.batches;
    totals.unreadBatches += report.unreadBatches;
    totals.unreadFor ??= report.unreadFor;
    problems.push(...report.problems);
  }
  for (const baseOffset of found.listing.indexes) {
    if (found.listing.segments.includes(baseOffset)) continue;
    if (baseOffset < found.startOffset) continue; // its segment was truncated away; a crash left the index
    const message = 'there is an index but no segment';
    problems.push({ file: indexName(baseOffset), position: 0, firstOffset: baseOffset, lastOffset: null, message });
  }
  // What a live writer has freed by now looked wrong because it was being freed.
  const real = unique(problems).filter((p) => !isFreed(io, dir, found, p));
  const empty = totals.records === 0;
  return {
    ok: real.length === 0,
    ...totals,
    firstOffset: empty ? null : found.startOffset,
    lastOffset: empty ? null : found.endOffset - 1,
    segments: found.listing.segments.length,
    tornBytes: found.tornBytes,
    problems: real,
    foreign: found.listing.foreign,
  };
}

/** @returns why the inside of a valid batch is wrong */
function countBatch(
  batch: Batch,
  { startOffset }: SegmentCheck,
  report: SegmentReport,
  unpacker: Unpacker,
): Invalid | undefined {
  const { header } = batch;
  const lacks = unpacker.lacks(header);
  if (lacks !== undefined) {
    report.batches++;
    report.unreadBatches++;
    report.unreadFor ??= lacks;
    report.records += Math.min(header.records, Math.max(0, header.baseOffset + header.records - startOffset));
    return undefined;
  }
  const rows = decodeStreamTable(batch.bytes, header);
  if (!Array.isArray(rows)) return rows;
  const plain = unpacker.plain(batch);
  const counted = 'invalid' in plain ? plain : countRecords(plain.bytes, plain.header, rows, startOffset);
  if ('invalid' in counted) return counted;
  report.batches++;
  report.records += counted.records;
  report.bytes += counted.bytes;
  return undefined;
}

function walkSegment(io: FileIo, dir: string, check: SegmentCheck, report: SegmentReport, room: CheckRoom): void {
  const file = SegmentFile.open(io, dir, check.baseOffset);
  if ('invalid' in file) return; // recover has reported it
  file.keepNothing(room.buffer);
  try {
    let damaged = false;
    let from: { position: number; offset: number } | undefined;
    let scanned: SegmentIndex | undefined;
    do {
      const count = (batch: Batch): Invalid | undefined => countBatch(batch, check, report, room.unpacker);
      const scan = scanSegment(file, check.mustReach, count, from);
      if (scan.problem !== undefined) report.problems.push(scan.problem);
      damaged ||= scan.problem !== undefined;
      from = scan.resumeAt;
      scanned = damaged ? undefined : scan.index;
    } while (from !== undefined);
    verifyIndex(io, dir, check, scanned, report.problems);
  } finally {
    file.close();
  }
}

function verifyIndex(
  io: FileIo,
  dir: string,
  check: SegmentCheck,
  scanned: SegmentIndex | undefined,
  problems: Problem[],
): void {
  const { baseOffset } = check;
  if (!check.hasIndex) {
    // One that is there by now was written by a live writer, of more than was walked through.
    if (check.hasNext && !io.exists(join(dir, indexName(baseOffset)))) {
      const message = 'the index is missing; it is made again at the next open for writing';
      problems.push({ file: indexName(baseOffset), position: 0, firstOffset: baseOffset, lastOffset: null, message });
    }
    return;
  }
  const index = readIndex(io, dir, baseOffset);
  const file = indexName(baseOffset);
  const say = (message: string): void => {
    problems.push({ file, position: 0, firstOffset: baseOffset, lastOffset: null, message });
  };
  if ('invalid' in index) say(`${index.invalid}; it is made again at the next open for writing`);
  else if (scanned !== undefined && !Buffer.from(index.encode(io)).equals(Buffer.from(scanned.encode(io)))) {
    say(`it does not agree with ${segmentName(baseOffset)}`);
  }
}

function isFreed(io: FileIo, dir: string, { listing, checkpoint }: Recovered, p: Problem): boolean {
  const { segments, indexes } = sortNames([p.file]);
  const [baseOffset] = [...segments, ...indexes];
  if (baseOffset === undefined) return false;
  const next = listing.segments.find((s) => s > baseOffset);
  return freedSince(io, dir, baseOffset, next ?? checkpoint?.durableOffset ?? 0) !== undefined;
}

/** Recovery and the full walk find the same damage at the end of the log; it is told once. */
function unique(problems: readonly Problem[]): Problem[] {
  const seen = new Map<string, Problem>();
  for (const p of problems) if (!seen.has(`${p.file}:${p.position}`)) seen.set(`${p.file}:${p.position}`, p);
  return [...seen.values()];
}

export interface InspectedSegment {
  readonly file: string;
  readonly firstOffset: number;
  readonly nextOffset: number;
  readonly batches: number;
  readonly epoch: number;
  readonly fileBytes: number;
  readonly usedBytes: number;
  readonly sealed: boolean;
  readonly streams: Readonly<Record<string, number>>;
}

/** Segments, offsets, epochs and sizes, from indexes and the unsealed end. @throws as `verify` */
export function inspect(io: FileIo, dir: string): { segments: InspectedSegment[]; found: Recovered } {
  const found = recover(io, dir);
  const segments = found.segments.map((s) => ({
    file: segmentName(s.baseOffset),
    firstOffset: s.baseOffset,
    nextOffset: s.index.nextOffset,
    batches: s.index.batches,
    epoch: s.index.epoch,
    fileBytes: s.fileBytes,
    usedBytes: s.index.endPosition,
    sealed: s.sealed,
    streams: Object.fromEntries([...s.index.streams].map(([name, e]) => [name, e.records])),
  }));
  return { segments, found };
}
