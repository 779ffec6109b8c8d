// What the corruption tables damage, and how they judge: a small log on a simulated disk, and whether a reader, `verify` and
// the next opening tell the truth about it.
//
// The log: 64 KiB segments; the sealed one lies in a recycled file, so that sectors of an older epoch are at hand, and is full
// to its last block; the active one is half full. Closed in order: its checkpoint covers all. (Damage to the very last batch
// within a second of a crash, before a checkpoint, looks like a torn tail: docs/guarantees.md.) Beside it a killed log of large
// segments, whose batches are longer than anything that a reader takes at once.

import { SpillwayError, type Problem } from '../../src/base/errors.ts';
import { BATCH_HEADER_BYTES, CHECKPOINT_MS } from '../../src/base/limits.ts';
import type { Codec } from '../../src/base/types.ts';
import { batchDecoder } from '../../src/codec/batch-codec.ts';
import { DirectoryLock } from '../../src/log/lock.ts';
import type { Log } from '../../src/log/log.ts';
import { CHECKPOINT_FILE, indexName, LOCK_FILE, segmentName, SPARE_FILE } from '../../src/log/names.ts';
import { scanSegment } from '../../src/log/scan.ts';
import { SegmentFile } from '../../src/log/segment-file.ts';
import { verify } from '../../src/log/verify.ts';
import { fill, firstWrong, KIB, openLog, readBack, type Filled } from './log-plans.ts';
import { LoopByHand } from './pipeline-loop.ts';
import { SimDisk } from './sim-disk.ts';

export const DIR = '/log';
const SEGMENT_BYTES = 64 * 1024;
export const options = { segmentBytes: SEGMENT_BYTES, window: { maxRecords: 50, maxBytes: 8 * 1024, lingerMs: 0 } };

export interface Subject {
  readonly disk: SimDisk;
  readonly oldest: string;
  readonly sealed: string;
  readonly index: string;
  readonly active: string;
  readonly checkpoint: string;
  readonly spare: string;
  readonly lock: string;
  /** What the sealed segment's file held in its life before. */
  readonly stale: Uint8Array;
  readonly filled: Required<Filled>;
  readonly start: number;
  readonly end: number;
  /** Where the batches of each segment stand: to compare reports with. */
  readonly batches: ReadonlyMap<
    string,
    readonly { readonly position: number; readonly end: number; readonly offset: number }[]
  >;
  /** A killed log may lose its very last batch to damage, which then looks like a torn tail: where that batch begins. */
  readonly mayEnd: number;
}

/**
 * killed: nothing says how far the active segment was durable. truncated: killed right after a truncation; young: that was its
 * first, so that its oldest segment begins at 0, and nothing is recycled; idle: killed after a second without records.
 */
export type Ending = 'closed' | 'killed' | 'truncated' | 'young' | 'idle';

/** @param codec of its batches of two blocks, which become one; those of one block stay plain: both stand side by side */
export function makeSubject(ending: Ending, codec: Codec = 'none'): Subject {
  let disk = new SimDisk();
  disk.makeDir(DIR);
  const lock = DirectoryLock.take(disk, DIR);
  const { log } = openLog(DIR, disk, options, undefined, codec);
  // Batches of one block and of two, several streams, until the second segment has rolled.
  const sizes: number[] = [];
  const streamOf = (o: number): string => `s${o % 3}`;
  const append = (): void => {
    const two = log.appendedOffset % 3 === 0;
    const [perBatch, payloadBytes] = two ? [7, 900] : [5, 500];
    for (let i = 0; i < perBatch; i++) sizes.push(payloadBytes);
    fill(log, 1, { perBatch, payloadBytes, streamOf });
  };
  while (log.rolls < 1) append();
  const first = `${DIR}/${segmentName(0)}`;
  const stale = disk.fileBytes(first).slice();
  if (ending !== 'young') log.truncateBefore(log.durableOffset);
  while (log.rolls < (ending === 'young' ? 2 : 3)) append();
  for (let i = 0; i < 5; i++) append();
  const mayEnd = log.durableOffset;
  append();
  if (ending === 'truncated' || ending === 'young') log.truncateBefore(log.startOffset + 3);
  if (ending === 'closed') {
    log.close();
    lock.release();
  }
  if (ending === 'idle') disk = idleFor(log, disk);
  // As if retention had freed the first segment only now.
  addFile(disk, `${DIR}/${SPARE_FILE}`, stale);
  const start = log.startOffset;
  const end = log.durableOffset;
  const segments = disk.paths.filter((p) => p.endsWith('.seg')).sort();
  const sealed = segments.at(-2)!;
  if (codec !== 'none' && log.compression.batches === 0) throw new Error('no batch is compressed');
  if (segments.length !== 3) throw new Error(`unexpected files: ${disk.paths.join(' ')}`);
  return {
    disk,
    oldest: segments[0],
    sealed,
    index: `${DIR}/${indexName(baseOf(sealed))}`,
    active: segments.at(-1)!,
    checkpoint: `${DIR}/${CHECKPOINT_FILE}`,
    spare: `${DIR}/${SPARE_FILE}`,
    lock: `${DIR}/${LOCK_FILE}`,
    stale,
    filled: { streamOf, bytesOf: (o) => sizes[o] },
    start,
    end,
    batches: new Map(segments.map((path) => [path, batchesOf(disk, path)])),
    mayEnd: ending === 'killed' ? mayEnd : end,
  };
}

/** What is on the disk once a commit loop over the log has had nothing to do for a while, by a clock that runs ahead. */
function idleFor(log: Log, disk: SimDisk): SimDisk {
  const loop = new LoopByHand();
  const { words, doorbell } = loop.shared;
  let left: SimDisk | undefined;
  let nowMs = 0;
  const monotonicMs = (): number => {
    nowMs += CHECKPOINT_MS / 10;
    // Nobody sleeps for long: the bell has always been rung.
    Atomics.add(words, doorbell, 1);
    if (nowMs > 2 * CHECKPOINT_MS && left === undefined) {
      left = disk.afterKill();
      loop.close();
    }
    return nowMs;
  };
  loop.run(log, undefined, { monotonicMs, wallMs: () => nowMs });
  return left!;
}

/** The log of large segments: four batches of 320 KiB in the active one, and nothing says that they were durable. */
export function makeLarge(): Subject {
  const disk = new SimDisk();
  disk.makeDir(DIR);
  const { log } = openLog(DIR, disk, {
    segmentBytes: 4 * KIB * KIB,
    window: { maxRecords: 50, maxBytes: 512 * KIB, lingerMs: 0 },
  });
  const payloadBytes = 8000;
  fill(log, 4, { perBatch: 40, payloadBytes });
  const active = `${DIR}/${segmentName(0)}`;
  const batches = batchesOf(disk, active);
  const none = '';
  return {
    disk,
    oldest: active,
    sealed: none,
    index: none,
    active,
    checkpoint: `${DIR}/${CHECKPOINT_FILE}`,
    spare: none,
    lock: none,
    stale: new Uint8Array(0),
    filled: { streamOf: () => 's', bytesOf: () => payloadBytes },
    start: 0,
    end: log.durableOffset,
    batches: new Map([[active, batches]]),
    mayEnd: batches.at(-1)!.offset,
  };
}

function batchesOf(disk: SimDisk, path: string): { position: number; end: number; offset: number }[] {
  const file = SegmentFile.open(disk, DIR, baseOf(path)) as SegmentFile;
  const { index } = scanSegment(file, 0);
  file.close();
  return index.positions.map((position, i) => ({
    position,
    end: index.positions[i + 1] ?? index.endPosition,
    offset: index.offsets[i],
  }));
}

function addFile(disk: SimDisk, path: string, bytes: Uint8Array): void {
  const fd = disk.open(path, 'create', false);
  disk.write(fd, bytes, 0);
  disk.sync(fd);
  disk.close(fd);
  disk.syncDir(DIR);
}

export function baseOf(segment: string): number {
  return Number(segment.slice(DIR.length + 1, -4));
}

export function nameOf(path: string): string {
  return path.slice(DIR.length + 1);
}

/** Whether a report names a place in the log and a range of offsets that makes sense. */
export function saysWhere(problem: Problem | undefined): boolean {
  return (
    problem !== undefined &&
    problem.file !== '' &&
    Number.isInteger(problem.position) &&
    Number.isInteger(problem.firstOffset) &&
    (problem.lastOffset === null || problem.lastOffset >= problem.firstOffset)
  );
}

/** The report that damage from `byte` on has to get: the first batch that ends behind it, or the segment's header. */
function isAbout(problem: Problem, subject: Subject, { path, byte }: DamagedAt): boolean {
  const batches = subject.batches.get(path)!;
  const batch = batches.find((b) => b.end > byte);
  // Behind the last batch something younger may have been.
  const behind = [batches.at(-1)?.end ?? 0, subject.end] as const;
  const there = batch === undefined ? behind : ([batch.position, batch.offset] as const);
  const [position, offset] = byte < BATCH_HEADER_BYTES ? [0, baseOf(path)] : there;
  return problem.file === nameOf(path) && problem.position === position && problem.firstOffset === offset;
}

export type Verdict = 'whole' | 'reported' | { readonly wrong: string };

/** Where bytes of a segment were damaged, and none before. */
export interface DamagedAt {
  readonly path: string;
  readonly byte: number;
}

/** One case of a table. */
export interface Damage {
  /** Where known: then each report has to say so, with the position of the batch and its offset. */
  readonly at?: DamagedAt;
  readonly name: string;
  readonly apply: (disk: SimDisk) => void;
  /** The only right verdict, where either would do otherwise; 'fooled' of a control, which has to be taken for valid. */
  readonly expected?: 'whole' | 'reported' | 'fooled';
}

/** What the three programs make of a damaged disk. */
export function judge(subject: Subject, disk: SimDisk, at?: DamagedAt): Verdict {
  const isRight = (p: Problem | undefined): boolean =>
    saysWhere(p) && (at === undefined || isAbout(p as Problem, subject, at));
  const { start } = subject;
  const { records, error } = readBack(disk, DIR, { checkEnd: true });
  const garbled = firstWrong(records, start, subject.filled);
  if (garbled !== undefined) return { wrong: `a reader hands out: ${garbled}` };
  // Without an error the log ends where it did, or, killed, one batch earlier: then for all three programs.
  const end = error === undefined && start + records.length === subject.mayEnd ? subject.mayEnd : subject.end;
  if (records.length > end - start) return { wrong: `a reader hands out ${records.length} records of ${end - start}` };
  let problems: readonly Problem[];
  try {
    ({ problems } = verify(disk, DIR, undefined, batchDecoder));
  } catch (failure) {
    return { wrong: `verify throws ${String(failure)}` };
  }
  if (problems.length > 0 && !problems.every(saysWhere))
    return { wrong: `verify reports no place: ${JSON.stringify(problems)}` };
  if (problems.length > 0 && !problems.some(isRight))
    return { wrong: `verify reports another place: ${JSON.stringify(problems)}` };
  let opened: SpillwayError | undefined;
  let openedEnd = -1;
  const copy = disk.afterKill();
  try {
    const { log } = openLog(DIR, copy, options);
    openedEnd = log.durableOffset;
    log.close();
  } catch (failure) {
    if (!(failure instanceof SpillwayError)) return { wrong: `open throws ${String(failure)}` };
    opened = failure;
  }
  if (opened !== undefined && (opened.code !== 'CORRUPT' || !isRight(opened.details.problems?.[0]))) {
    return { wrong: `open says ${opened.code} ${opened.message}` };
  }
  if (opened === undefined && openedEnd !== end) return { wrong: `open takes ${openedEnd} for the end, it was ${end}` };
  if (error === undefined) {
    if (records.length === end - start) return problems.length > 0 ? 'reported' : 'whole';
    return { wrong: `a reader takes offset ${start + records.length} for the end, it was ${end}` };
  }
  if (error.code !== 'CORRUPT' || !isRight(error.details.problems?.[0]))
    return { wrong: `a reader says ${error.code} ${error.message}` };
  if (problems.length === 0) return { wrong: `a reader says ${error.message}, verify finds nothing` };
  return 'reported';
}
