// What a directory holds, found out without changing a byte: sealed segments by their indexes, the unsealed end by
// reading it. `Log.open` acts on the result; `verify` and `inspect` print it.

import { join } from 'node:path';
import { isMissing, SpillwayError, type Problem } from '../base/errors.ts';
import { READ_CHUNK_BYTES } from '../base/limits.ts';
import type { FileIo } from '../platform/file-io.ts';
import { readCheckpoint, type Checkpoint } from './checkpoint.ts';
import type { Invalid } from './format.ts';
import { readIndex } from './index-file.ts';
import { CHECKPOINT_FILE, segmentName, sortNames, type DirectoryListing } from './names.ts';
import { scanSegment } from './scan.ts';
import { SegmentFile } from './segment-file.ts';
import type { SegmentIndex } from './segment-index.ts';

export interface FoundSegment {
  readonly baseOffset: number;
  readonly index: SegmentIndex;
  readonly fileBytes: number;
  readonly salt: number;
  readonly createdAtMs: number;
  /** False for the one being written, and where an index was missing or damaged and had to be made again. */
  readonly sealed: boolean;
}

export interface Recovered {
  readonly listing: DirectoryListing;
  /** undefined for a directory without a log. */
  readonly checkpoint: Checkpoint | undefined;
  /** Segments that hold offsets at or above the start, ascending. */
  readonly segments: FoundSegment[];
  /** Base offsets of segments wholly below the start: left over from a truncation that a crash interrupted. */
  readonly obsolete: number[];
  readonly startOffset: number;
  /** Offset after the last record. */
  readonly endOffset: number;
  readonly tornBytes: number;
  readonly problems: Problem[];
}

/** How often a directory that changed under our eyes is looked at again. */
const LOOKS = 5;

/**
 * Reads a directory. Damage is returned in `problems`, not thrown. Where the caller does not hold the lock a live writer may go
 * on meanwhile: what only looks like damage because of that is looked at again. Who holds it is alone: then a segment that
 * is not there is lost, and never one that somebody has truncated.
 * @throws DIR_UNUSABLE, NOT_A_LOG, UNSUPPORTED_FORMAT, IO_ERROR
 */
export function recover(io: FileIo, dir: string, who: 'writer' | 'visitor' = 'visitor'): Recovered {
  for (let look = 1; ; look++) {
    const found = lookAt(io, dir, who);
    if (who === 'writer' || found.problems.length === 0 || look === LOOKS || !hasChanged(io, dir, found)) return found;
  }
}

function hasChanged(io: FileIo, dir: string, found: Recovered): boolean {
  const { segments } = listDirectory(io, dir);
  if (segments.join() !== found.listing.segments.join()) return true;
  // A start that was read before a truncation does not fit a listing that was made after it.
  const checkpoint = checkpointOf(io, dir);
  const generation = checkpoint === undefined || 'invalid' in checkpoint ? undefined : checkpoint.generation;
  return generation !== found.checkpoint?.generation;
}

/** Undefined where there is none, also where its name leads nowhere. */
export function checkpointOf(io: FileIo, dir: string): Checkpoint | Invalid | undefined {
  try {
    return readCheckpoint(io, dir);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/**
 * The start of the log where a live writer has truncated a segment away since it was listed, or is about to; undefined where
 * that is not so: then a file that cannot be opened is lost. A truncation writes the new start down before it frees
 * anything, and the newest segment is never freed.
 * @param reach offsets below it were in the segment
 */
export function freedSince(io: FileIo, dir: string, baseOffset: number, reach: number): number | undefined {
  // The listing before the checkpoint: whoever freed what is not in it had written the start down by then.
  const hasSuccessor = listDirectory(io, dir).segments.some((s) => s > baseOffset);
  const checkpoint = checkpointOf(io, dir);
  const start = checkpoint === undefined || 'invalid' in checkpoint ? 0 : checkpoint.startOffset;
  return hasSuccessor && start > baseOffset && start >= reach ? start : undefined;
}

function lookAt(io: FileIo, dir: string, who: 'writer' | 'visitor'): Recovered {
  // The checkpoint before the listing: then the directory holds at least what it speaks of.
  const early = checkpointOf(io, dir);
  const listing = listDirectory(io, dir);
  const problems: Problem[] = [];
  const checkpoint = usable(early ?? checkpointOf(io, dir), dir, listing, problems);
  let startOffset = checkpoint?.startOffset ?? 0;
  const durableOffset = checkpoint?.durableOffset ?? 0;
  const segments: FoundSegment[] = [];
  const obsolete: number[] = [];
  let tornBytes = 0;

  listing.segments.forEach((baseOffset, i) => {
    const next = listing.segments[i + 1];
    if (next !== undefined && next <= startOffset) {
      obsolete.push(baseOffset);
      return;
    }
    // A successor was activated only after this one was durable to its end.
    const mine: Problem[] = [];
    const reach = next ?? durableOffset;
    const found = openIfThere(io, dir, baseOffset, listing, reach, mine);
    const isThere = io.exists(join(dir, segmentName(baseOffset)));
    if (mine.length > 0 || !isThere) {
      const start = who === 'visitor' ? freedSince(io, dir, baseOffset, reach) : undefined;
      if (start !== undefined) {
        startOffset = Math.max(startOffset, start);
        return;
      }
      if (mine.length === 0) mine.push(missing(baseOffset, reach));
    }
    problems.push(...mine);
    if (found === undefined) return;
    tornBytes += found.tornBytes;
    const end = found.segment.index.nextOffset;
    if (next !== undefined && end !== next && !problems.some((p) => p.file === segmentName(baseOffset))) {
      problems.push(gap(segmentName(baseOffset), found.segment.index.endPosition, end, next));
    }
    segments.push(found.segment);
  });

  const first = segments[0];
  if (first !== undefined && first.baseOffset > startOffset && obsolete.length === 0) {
    problems.push(gap(segmentName(first.baseOffset), 0, startOffset, first.baseOffset));
  }
  const endOffset = segments.at(-1)?.index.nextOffset ?? startOffset;
  if (problems.length === 0 && durableOffset > endOffset) {
    problems.push({
      file: CHECKPOINT_FILE,
      position: 0,
      firstOffset: endOffset,
      lastOffset: durableOffset - 1,
      message: `the log was durable up to offset ${durableOffset}, its segments end at ${endOffset}`,
    });
  }
  const epoch = Math.max(0, ...segments.map((s) => s.index.epoch));
  if (problems.length === 0 && checkpoint !== undefined && checkpoint.epoch > epoch) {
    const message = `the newest segment is missing: epoch ${checkpoint.epoch} was in use, the newest here has ${epoch}`;
    problems.push({ ...checkpointProblem(message), firstOffset: endOffset });
  }
  return { listing, checkpoint, segments, obsolete, startOffset, endOffset, tornBytes, problems };
}

/** What opening for writing says of a damaged log: the first problem in words, all of them in the details. */
export function corrupt(dir: string, problems: readonly Problem[]): SpillwayError {
  const [p] = problems;
  const range = `offsets ${p.firstOffset} to ${p.lastOffset ?? 'unknown'}`;
  const more = problems.length > 1 ? `; and ${problems.length - 1} more, see spillway verify` : '';
  const path = join(dir, p.file);
  return new SpillwayError('CORRUPT', `${path} at byte ${p.position}, ${range}: ${p.message}${more}`, {
    subject: path,
    problems,
  });
}

/** @throws DIR_UNUSABLE, NOT_A_LOG */
export function listDirectory(io: FileIo, dir: string): DirectoryListing {
  let names: string[] | undefined;
  try {
    names = io.list(dir);
  } catch (error) {
    throw new SpillwayError('DIR_UNUSABLE', `cannot read the directory: ${(error as Error).message}`, { subject: dir });
  }
  if (names === undefined) throw new SpillwayError('DIR_UNUSABLE', `${dir}: no such directory`, { subject: dir });
  const listing = sortNames(names);
  const isLog = listing.hasCheckpoint || listing.segments.length + listing.indexes.size > 0;
  if (!isLog && listing.foreign.length > 0) {
    throw new SpillwayError(
      'NOT_A_LOG',
      `${dir} holds no log but other files (${listing.foreign.slice(0, 3).join(', ')}): choose an empty or new directory`,
      { subject: dir },
    );
  }
  return listing;
}

function usable(
  checkpoint: Checkpoint | Invalid | undefined,
  dir: string,
  listing: DirectoryListing,
  problems: Problem[],
): Checkpoint | undefined {
  if (checkpoint === undefined) {
    // Indexes alone tell of a log too: a new one would take them for its own.
    if (listing.segments.length + listing.indexes.size > 0) problems.push(checkpointProblem('the file is missing'));
    return undefined;
  }
  if (!('invalid' in checkpoint)) return checkpoint;
  refuseNewer(checkpoint, join(dir, CHECKPOINT_FILE));
  problems.push(checkpointProblem(`both copies are damaged: ${checkpoint.invalid}`));
  return undefined;
}

function checkpointProblem(message: string): Problem {
  return { file: CHECKPOINT_FILE, position: 0, firstOffset: 0, lastOffset: null, message };
}

function refuseNewer(invalid: Invalid, path: string): void {
  if (invalid.newer !== true) return;
  throw new SpillwayError('UNSUPPORTED_FORMAT', `${path}: ${invalid.invalid}`, { subject: path });
}

function gap(file: string, position: number, from: number, to: number): Problem {
  const message = to > from ? `offsets ${from} to ${to - 1} are missing` : `offset ${to} stands twice`;
  return { file, position, firstOffset: Math.min(from, to), lastOffset: Math.max(from, to) - 1, message };
}

/** A segment that is listed and cannot be opened. @param reach offsets below it were in it, at least */
export function missing(baseOffset: number, reach: number): Problem {
  const message = 'the segment is listed, and the file is missing';
  return { ...wholeSegment(baseOffset, reach), message };
}

function wholeSegment(baseOffset: number, reach: number): Omit<Problem, 'message'> {
  const lastOffset = reach > baseOffset ? reach - 1 : null;
  return { file: segmentName(baseOffset), position: 0, firstOffset: baseOffset, lastOffset };
}

function openIfThere(
  ...args: Parameters<typeof openSegment>
): { segment: FoundSegment; tornBytes: number } | undefined {
  try {
    return openSegment(...args);
  } catch (error) {
    if (!isMissing(error)) throw error;
    const [, , baseOffset, , reach, problems] = args;
    problems.push(missing(baseOffset, reach));
    return undefined;
  }
}

function openSegment(
  io: FileIo,
  dir: string,
  baseOffset: number,
  listing: DirectoryListing,
  durableOffset: number,
  problems: Problem[],
): { segment: FoundSegment; tornBytes: number } | undefined {
  const file = SegmentFile.open(io, dir, baseOffset);
  if ('invalid' in file) {
    refuseNewer(file, join(dir, segmentName(baseOffset)));
    problems.push({ ...wholeSegment(baseOffset, durableOffset), message: file.invalid });
    return undefined;
  }
  const { header, fileBytes } = file;
  const describe = (index: SegmentIndex, sealed: boolean): FoundSegment => ({
    baseOffset,
    index,
    fileBytes,
    salt: header.salt,
    createdAtMs: header.createdAtMs,
    sealed,
  });
  try {
    const sealedIndex = listing.indexes.has(baseOffset) ? readIndex(io, dir, baseOffset) : undefined;
    if (sealedIndex !== undefined && !('invalid' in sealedIndex) && indexFits(sealedIndex, file)) {
      return { segment: describe(sealedIndex, true), tornBytes: 0 };
    }
    file.keepNothing(Buffer.allocUnsafeSlow(READ_CHUNK_BYTES));
    const scan = scanSegment(file, durableOffset);
    if (scan.newer) refuseNewer({ invalid: scan.problem?.message ?? '', newer: true }, join(dir, file.name));
    if (scan.problem !== undefined) problems.push(scan.problem);
    return { segment: describe(scan.index, false), tornBytes: scan.tornBytes };
  } finally {
    file.close();
  }
}

function indexFits(index: SegmentIndex, file: SegmentFile): boolean {
  return (
    index.baseOffset === file.baseOffset && index.epoch === file.header.epoch && index.endPosition <= file.fileBytes
  );
}
