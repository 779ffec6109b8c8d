// Corruption tables: a small closed log, in which one file is damaged in every way of a kind, case by case. Of each damage
// three programs must say the truth: a reader, `verify`, and the next open. Either everything is still there, or what is not
// is reported with file, position and offset range; no record that was not appended is ever handed out, and the end of what
// can be read is never taken for the end of the log.
//
// The log: 64 KiB segments; the sealed one lies in a recycled file, so that sectors of an older epoch are at hand, and is full
// to its last block; the active one is half full. Closed in order: its checkpoint covers all. (Damage to the very last batch
// within a second of a crash, before a checkpoint, looks like a torn tail: docs/guarantees.md.)

import { seededRandom } from '../../src/base/clock.ts';
import { SpillwayError, type Problem } from '../../src/base/errors.ts';
import { CHECKPOINT_FILE, indexName, segmentName } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { fill, firstWrong, openLog, readBack } from '../support/log-plans.ts';
import { SimDisk } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const DIR = '/log';
const SECTOR = 512;
const SEGMENT_BYTES = 64 * 1024;
const options = { segmentBytes: SEGMENT_BYTES, window: { maxRecords: 50, maxBytes: 8 * 1024, lingerMs: 0 } };

interface Subject {
  readonly disk: SimDisk;
  readonly sealed: string;
  readonly index: string;
  readonly active: string;
  readonly checkpoint: string;
  /** What the sealed segment's file held in its life before. */
  readonly stale: Uint8Array;
  readonly start: number;
  readonly end: number;
  /** A killed log may lose its very last batch to damage, which then looks like a torn tail: where that batch begins. */
  readonly mayEnd: number;
}

/** @param ending killed: nothing says how far the active segment was durable; truncated: killed right after a truncation */
function makeSubject(ending: 'closed' | 'killed' | 'truncated'): Subject {
  const disk = new SimDisk();
  disk.makeDir(DIR);
  const { log } = openLog(DIR, disk, options);
  // Batches of one block and of two, several streams, until the second segment has rolled.
  const append = (): void => {
    const two = log.appendedOffset % 3 === 0;
    fill(log, 1, { perBatch: two ? 7 : 5, payloadBytes: two ? 900 : 500, streamOf: (o) => `s${o % 3}` });
  };
  while (log.rolls < 1) append();
  const first = `${DIR}/${segmentName(0)}`;
  const stale = disk.fileBytes(first).slice();
  log.truncateBefore(log.durableOffset);
  while (log.rolls < 3) append();
  for (let i = 0; i < 5; i++) append();
  const mayEnd = log.durableOffset;
  append();
  if (ending === 'truncated') log.truncateBefore(log.startOffset + 3);
  if (ending === 'closed') log.close();
  const start = log.startOffset;
  const end = log.durableOffset;
  const segments = disk.paths.filter((p) => p.endsWith('.seg')).sort();
  const sealed = segments.at(-2)!;
  if (segments.length !== 3) throw new Error(`unexpected files: ${disk.paths.join(' ')}`);
  const base = Number(sealed.slice(DIR.length + 1, -4));
  return {
    disk,
    sealed,
    index: `${DIR}/${indexName(base)}`,
    active: segments.at(-1)!,
    checkpoint: `${DIR}/${CHECKPOINT_FILE}`,
    stale,
    start,
    end,
    mayEnd: ending === 'killed' ? mayEnd : end,
  };
}

function nameOf(path: string): string {
  return path.slice(DIR.length + 1);
}

/** Whether a report names a place in the log and a range of offsets that makes sense. */
function saysWhere(problem: Problem | undefined): boolean {
  return (
    problem !== undefined &&
    problem.file !== '' &&
    Number.isInteger(problem.position) &&
    Number.isInteger(problem.firstOffset) &&
    (problem.lastOffset === null || problem.lastOffset >= problem.firstOffset)
  );
}

type Verdict = 'whole' | 'reported' | { readonly wrong: string };

/** What the three programs make of a damaged disk. */
function judge(subject: Subject, disk: SimDisk): Verdict {
  const { start } = subject;
  const { records, error } = readBack(disk, DIR, { checkEnd: true });
  const garbled = firstWrong(records, start);
  if (garbled !== undefined) return { wrong: `a reader hands out: ${garbled}` };
  // Without an error the log ends where it did, or, killed, one batch earlier: then for all three programs.
  const end = error === undefined && start + records.length === subject.mayEnd ? subject.mayEnd : subject.end;
  if (records.length > end - start) return { wrong: `a reader hands out ${records.length} records of ${end - start}` };
  const { problems } = verify(disk, DIR);
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

interface Damage {
  readonly name: string;
  readonly path: string;
  readonly change: (bytes: Uint8Array) => Uint8Array;
}

interface Table {
  readonly claim: string;
  readonly unit: string;
  readonly subject: Subject;
  /** Cases in the quick run; all of them in the full one. */
  readonly quickCases: number;
  readonly damages: () => Generator<Damage>;
  readonly total: number;
}

function flips(path: string, bytes: number): Pick<Table, 'damages' | 'total'> {
  return {
    total: bytes * 8,
    *damages() {
      for (let bit = 0; bit < bytes * 8; bit++) {
        const change = (b: Uint8Array): Uint8Array => {
          b[bit >> 3] ^= 1 << (bit & 7);
          return b;
        };
        yield { name: `${nameOf(path)} bit ${bit}`, path, change };
      }
    },
  };
}

function cuts(path: string, bytes: number): Pick<Table, 'damages' | 'total'> {
  return {
    total: bytes,
    *damages() {
      for (let length = 0; length < bytes; length++)
        yield { name: `${nameOf(path)} cut to ${length}`, path, change: (b) => b.slice(0, length) };
    },
  };
}

/** Each sector zeroed, replaced by what stood there in the file's life before, by each other sector, and swapped with it. */
function sectors(path: string, bytes: number, stale: Uint8Array | undefined): Pick<Table, 'damages' | 'total'> {
  const count = bytes / SECTOR;
  const at = (b: Uint8Array, sector: number): Uint8Array => b.subarray(sector * SECTOR, (sector + 1) * SECTOR);
  return {
    total: count * (stale === undefined ? 1 : 2) + count * (count - 1) + (count * (count - 1)) / 2,
    *damages() {
      const name = nameOf(path);
      for (let i = 0; i < count; i++) {
        yield { name: `${name} sector ${i} zeroed`, path, change: (b) => (at(b, i).fill(0), b) };
        if (stale !== undefined)
          yield { name: `${name} sector ${i} stale`, path, change: (b) => (at(b, i).set(at(stale, i)), b) };
        for (let j = 0; j < count; j++) {
          if (j === i) continue;
          yield {
            name: `${name} sector ${i} overwritten with ${j}`,
            path,
            change: (b) => (at(b, i).set(at(b, j).slice()), b),
          };
          if (j < i) continue;
          const swap = (b: Uint8Array): Uint8Array => {
            const kept = at(b, i).slice();
            at(b, i).set(at(b, j).slice());
            at(b, j).set(kept);
            return b;
          };
          yield { name: `${name} sectors ${i} and ${j} swapped`, path, change: swap };
        }
      }
    },
  };
}

function tables(s: Subject, killed: Subject, truncated: Subject): Table[] {
  const sizeOf = (path: string): number => s.disk.fileBytes(path).length;
  const made: Table[] = [];
  for (const [what, path, stale] of [
    ['the sealed segment', s.sealed, s.stale],
    ['the active segment', s.active, undefined],
  ] as const) {
    made.push({
      claim: `each bit of ${what} flipped`,
      unit: 'bit flips',
      subject: s,
      quickCases: 3000,
      ...flips(path, sizeOf(path)),
    });
    made.push({
      claim: `${what} cut to each length`,
      unit: 'lengths',
      subject: s,
      quickCases: 1500,
      ...cuts(path, sizeOf(path)),
    });
    made.push({
      claim: `sectors of ${what} zeroed, stale, doubled, swapped`,
      unit: 'cases',
      subject: s,
      quickCases: 1500,
      ...sectors(path, sizeOf(path), stale),
    });
  }
  for (const [what, path] of [
    ['the index', s.index],
    ['the checkpoint', s.checkpoint],
  ] as const) {
    made.push({
      claim: `each bit of ${what} flipped`,
      unit: 'bit flips',
      subject: s,
      quickCases: 1500,
      ...flips(path, sizeOf(path)),
    });
    made.push({
      claim: `${what} cut to each length`,
      unit: 'lengths',
      subject: s,
      quickCases: 800,
      ...cuts(path, sizeOf(path)),
    });
  }
  made.push({
    claim: 'each bit of the checkpoint of a log flipped that was killed right after a truncation',
    unit: 'bit flips',
    quickCases: 1500,
    subject: truncated,
    ...flips(truncated.checkpoint, sizeOf(truncated.checkpoint)),
  });
  made.push({
    claim: 'each bit of the active segment of a killed log flipped (its last batch may be cut)',
    unit: 'bit flips',
    quickCases: 1500,
    subject: killed,
    ...flips(killed.active, sizeOf(killed.active)),
  });
  return made;
}

export async function prove({ full, seed, only }: ProofContext): Promise<Claim[]> {
  const closed = makeSubject('closed');
  const killed = makeSubject('killed');
  const truncated = makeSubject('truncated');
  for (const subject of [closed, killed, truncated]) {
    const untouched = judge(subject, subject.disk);
    if (untouched !== 'whole') throw new Error(`the log is not whole before any damage: ${JSON.stringify(untouched)}`);
  }
  const random = seededRandom(seed);
  return tables(closed, killed, truncated).map((table) => {
    const { subject } = table;
    const violations: string[] = [];
    const verdicts = { whole: 0, reported: 0 };
    let tried = 0;
    // A random part of the cases in the quick run, spread evenly; all of them in the full one.
    const share = full || only !== undefined ? 1 : Math.min(1, table.quickCases / table.total);
    for (const { name, path, change } of table.damages()) {
      if (only !== undefined ? only !== name : random() >= share) continue;
      if (violations.length >= VIOLATIONS_SHOWN) break;
      tried++;
      const disk = subject.disk.afterKill();
      disk.damage(path, change);
      const verdict = judge(subject, disk);
      if (typeof verdict === 'string') verdicts[verdict]++;
      else violations.push(`${name}: ${verdict.wrong}; ${repeatCommand('corruption', seed, name)}`);
    }
    return {
      claim: `${table.claim}: all is there, or what is not is reported`,
      tried,
      unit: table.unit,
      atLeast: only !== undefined ? 0 : full ? table.total : Math.floor(Math.min(table.total, table.quickCases) * 0.8),
      violations,
      figures: { 'all there, nothing to report': verdicts.whole, reported: verdicts.reported },
    };
  });
}
