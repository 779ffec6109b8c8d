// What the corruption tables damage, and how they judge: a small log on a simulated disk, and whether a reader, `verify` and
// the next opening tell the truth about it.
//
// The log: 64 KiB segments; the sealed one lies in a recycled file, so that sectors of an older epoch are at hand, and is full
// to its last block; the active one is half full. Closed in order: its checkpoint covers all. (Damage to the very last batch
// within a second of a crash, before a checkpoint, looks like a torn tail: docs/guarantees.md.)

import { SpillwayError, type Problem } from '../../src/base/errors.ts';
import { DirectoryLock } from '../../src/log/lock.ts';
import { CHECKPOINT_FILE, indexName, LOCK_FILE, segmentName, SPARE_FILE } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { fill, firstWrong, openLog, readBack } from './log-plans.ts';
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
  readonly start: number;
  readonly end: number;
  /** A killed log may lose its very last batch to damage, which then looks like a torn tail: where that batch begins. */
  readonly mayEnd: number;
}

/**
 * killed: nothing says how far the active segment was durable. truncated: killed right after a truncation; young: that was its
 * first, so that its oldest segment begins at 0, and nothing is recycled.
 */
export type Ending = 'closed' | 'killed' | 'truncated' | 'young';

export function makeSubject(ending: Ending): Subject {
  const disk = new SimDisk();
  disk.makeDir(DIR);
  const lock = DirectoryLock.take(disk, DIR);
  const { log } = openLog(DIR, disk, options);
  // Batches of one block and of two, several streams, until the second segment has rolled.
  const append = (): void => {
    const two = log.appendedOffset % 3 === 0;
    fill(log, 1, { perBatch: two ? 7 : 5, payloadBytes: two ? 900 : 500, streamOf: (o) => `s${o % 3}` });
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
  // As if retention had freed the first segment only now.
  addFile(disk, `${DIR}/${SPARE_FILE}`, stale);
  const start = log.startOffset;
  const end = log.durableOffset;
  const segments = disk.paths.filter((p) => p.endsWith('.seg')).sort();
  const sealed = segments.at(-2)!;
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
    start,
    end,
    mayEnd: ending === 'killed' ? mayEnd : end,
  };
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

export type Verdict = 'whole' | 'reported' | { readonly wrong: string };

/** One case of a table. */
export interface Damage {
  readonly name: string;
  readonly apply: (disk: SimDisk) => void;
  /** The only right verdict, where either would do otherwise; 'fooled' of a control, which has to be taken for valid. */
  readonly expected?: 'whole' | 'reported' | 'fooled';
}

/** What the three programs make of a damaged disk. */
export function judge(subject: Subject, disk: SimDisk): Verdict {
  const { start } = subject;
  const { records, error } = readBack(disk, DIR, { checkEnd: true });
  const garbled = firstWrong(records, start);
  if (garbled !== undefined) return { wrong: `a reader hands out: ${garbled}` };
  // Without an error the log ends where it did, or, killed, one batch earlier: then for all three programs.
  const end = error === undefined && start + records.length === subject.mayEnd ? subject.mayEnd : subject.end;
  if (records.length > end - start) return { wrong: `a reader hands out ${records.length} records of ${end - start}` };
  let problems: readonly Problem[];
  try {
    ({ problems } = verify(disk, DIR));
  } catch (failure) {
    return { wrong: `verify throws ${String(failure)}` };
  }
  if (problems.length > 0 && !problems.every(saysWhere))
    return { wrong: `verify reports no place: ${JSON.stringify(problems)}` };
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
  if (opened !== undefined && (opened.code !== 'CORRUPT' || !saysWhere(opened.details.problems?.[0]))) {
    return { wrong: `open says ${opened.code} ${opened.message}` };
  }
  if (opened === undefined && openedEnd !== end) return { wrong: `open takes ${openedEnd} for the end, it was ${end}` };
  if (error === undefined) {
    if (records.length === end - start) return problems.length > 0 ? 'reported' : 'whole';
    return { wrong: `a reader takes offset ${start + records.length} for the end, it was ${end}` };
  }
  if (error.code !== 'CORRUPT' || !saysWhere(error.details.problems?.[0]))
    return { wrong: `a reader says ${error.code} ${error.message}` };
  if (problems.length === 0) return { wrong: `a reader says ${error.message}, verify finds nothing` };
  return 'reported';
}
