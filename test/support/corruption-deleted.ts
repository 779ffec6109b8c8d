// Files deleted from a log that nobody writes, one and two at a time, and all segments; and names of it that lead nowhere. With a segment records are lost, with
// the checkpoint where the log starts and ends: an opening, `verify` and every reader say CORRUPT, with a range that holds
// what is lost, or still have every record. Without an index, the spare or the lock nothing is lost, and everybody goes on.

import { SpillwayError, type Problem } from '../../src/base/errors.ts';
import { DirectoryLock } from '../../src/log/lock.ts';
import { indexName } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { baseOf, DIR, options, saysWhere, type Damage, type Subject, type Verdict } from './corruption-subject.ts';
import { openLog, readBack, wrongOf } from './log-plans.ts';
import type { SimDisk } from './sim-disk.ts';

interface Deletable {
  readonly what: string;
  readonly path: string;
  /** False where it can be made again from the rest. */
  readonly matters: boolean;
}

function deletables(s: Subject): Deletable[] {
  const indexOf = (segment: string): string => `${DIR}/${indexName(baseOf(segment))}`;
  return [
    { what: 'newest segment', path: s.active, matters: true },
    { what: 'middle segment', path: s.sealed, matters: true },
    { what: 'oldest segment', path: s.oldest, matters: true },
    { what: 'checkpoint', path: s.checkpoint, matters: true },
    { what: 'index of the middle segment', path: indexOf(s.sealed), matters: false },
    { what: 'index of the oldest segment', path: indexOf(s.oldest), matters: false },
    { what: 'spare', path: s.spare, matters: false },
    { what: 'lock', path: s.lock, matters: false },
  ];
}

export function deletions(ending: string, subject: Subject): Damage[] {
  const one = deletables(subject).map((d) => [d]);
  const two = one.flatMap(([a], i) => one.slice(i + 1).map(([b]) => [a, b]));
  // What a log that never rolled loses with its only segment. (Without the checkpoint too it would be a new log.)
  const segments = one.flat().filter((d) => d.path.endsWith('.seg'));
  const deleted = [...one, ...two, segments].map((files): Damage => ({
    name: `${ending} without ${files.map((f) => f.what).join(' and ')}`,
    expected: files.some((f) => f.matters) ? 'reported' : 'whole',
    apply: (disk) => {
      for (const { path } of files) disk.unlink(path);
      disk.syncDir(DIR);
    },
  }));
  const unreachable = [...one.filter(([f]) => f.matters), segments].map((files): Damage => ({
    name: `${ending}, with a name that leads nowhere: ${files.map((f) => f.what).join(' and ')}`,
    expected: 'reported',
    apply: (disk) => files.forEach(({ path }) => disk.leadNowhere(path)),
  }));
  return [...deleted, ...unreachable];
}

/** Offsets that are lost with what is not there any more, inclusive; all where the checkpoint is what is lost. */
function lostWith(s: Subject, disk: SimDisk): { from: number; to: number }[] {
  const segments = [s.oldest, s.sealed, s.active];
  const lost = segments.flatMap((path, i) => {
    const next = i + 1 < segments.length ? baseOf(segments[i + 1]) : s.end;
    return disk.hasFile(path) ? [] : [{ from: Math.max(s.start, baseOf(path)), to: next - 1 }];
  });
  return disk.hasFile(s.checkpoint) ? lost : [...lost, { from: 0, to: Infinity }];
}

/** What is wrong with a report of damage: it has to name a place, and offsets that are lost. */
function wrongReport(problems: readonly Problem[] | undefined, lost: readonly { from: number; to: number }[]): string {
  if (problems === undefined || problems.length === 0 || !problems.every(saysWhere)) return 'names no place';
  const meant = problems.some((p) =>
    lost.some(({ from, to }) => p.firstOffset <= to && (p.lastOffset ?? Infinity) >= from),
  );
  return meant ? '' : 'names none of the offsets that are lost';
}

/** 'whole', 'reported', or what is wrong, in words. */
type Found = string;

function ofError(error: unknown, lost: readonly { from: number; to: number }[]): Found {
  if (!(error instanceof SpillwayError) || error.code !== 'CORRUPT') return `says ${String(error)}`;
  const wrong = wrongReport(error.details.problems, lost);
  return wrong === '' ? 'reported' : `says ${error.message}, which ${wrong}`;
}

/** A reader from `from` on: has every record, or those up to where it says that the log is damaged. */
function reader(s: Subject, disk: SimDisk, from: number | undefined, stream?: string, inProcess = false): Found {
  const lost = lostWith(s, disk);
  const expected: number[] = [];
  for (let o = from ?? s.start; o < s.end; o++)
    if (stream === undefined || stream === s.filled.streamOf(o)) expected.push(o);
  const { records, error } = readBack(disk, DIR, {
    ...(from === undefined ? {} : { from }),
    ...(stream === undefined ? {} : { stream }),
    ...(inProcess ? { durableOffset: () => s.end } : {}),
    checkEnd: true,
  });
  for (const [i, r] of records.entries()) {
    if (r.offset !== expected[i]) return `hands out offset ${r.offset} where ${expected[i]} is due`;
    const wrong = wrongOf(r, s.filled);
    if (wrong !== undefined) return `hands out: ${wrong}`;
  }
  if (error !== undefined) return ofError(error, lost);
  if (records.length < expected.length) return `ends after ${records.length} of ${expected.length} records`;
  return 'whole';
}

function verifies(s: Subject, disk: SimDisk): Found {
  const lost = lostWith(s, disk);
  let verified: ReturnType<typeof verify>;
  try {
    verified = verify(disk, DIR);
  } catch (failure) {
    return `throws ${String(failure)}`;
  }
  const { problems, records } = verified;
  const ofNote = problems.filter((p) => !p.file.endsWith('.idx') || disk.exists(`${DIR}/${p.file}`));
  if (lost.length === 0 && ofNote.length > 0) return `says ${ofNote[0].message}`;
  if (lost.length === 0 || problems.length === 0)
    return records === s.end - s.start ? 'whole' : `counts ${records} records of ${s.end - s.start}`;
  const wrong = wrongReport(ofNote, lost);
  return wrong === '' ? 'reported' : `says ${problems[0].message}, which ${wrong}`;
}

/** What is opened has every record, and nothing to complain of any more. */
function opens(s: Subject, disk: SimDisk): Found {
  const copy = disk.afterKill();
  try {
    const lock = DirectoryLock.take(copy, DIR);
    const { log } = openLog(DIR, copy, options);
    log.close();
    lock.release();
    if (log.startOffset !== s.start || log.durableOffset !== s.end)
      return `takes ${log.startOffset} to ${log.durableOffset} for the log, it was ${s.start} to ${s.end}`;
  } catch (error) {
    return ofError(error, lostWith(s, disk));
  }
  const { problems } = verify(copy, DIR);
  return problems.length > 0 ? `leaves ${problems[0].file}: ${problems[0].message}` : reader(s, copy, undefined);
}

/** Reported where at least one says so; the others then have every record all the same. */
export function judgeDeleted(s: Subject, disk: SimDisk): Verdict {
  const lost = lostWith(s, disk).filter((l) => l.to !== Infinity);
  const midst = lost.map(({ from, to }) => Math.floor((from + to) / 2));
  const programs: Record<string, () => Found> = {
    open: () => opens(s, disk),
    verify: () => verifies(s, disk),
    'a reader of all': () => reader(s, disk, undefined),
    'a reader of one stream': () => reader(s, disk, undefined, 's1'),
    'a reader in the process of the writer': () => reader(s, disk, undefined, undefined, true),
    ...Object.fromEntries(
      [...midst, baseOf(s.sealed), s.end - 1].map((from) => [`a reader from ${from}`, () => reader(s, disk, from)]),
    ),
  };
  let reported = false;
  for (const [program, run] of Object.entries(programs)) {
    let found: Found;
    try {
      found = run();
    } catch (error) {
      found = `throws ${String(error)}`;
    }
    if (found !== 'whole' && found !== 'reported') return { wrong: `${program} ${found}` };
    reported ||= found === 'reported';
  }
  return reported ? 'reported' : 'whole';
}
