// Corruption tables: a small log (test/support/corruption-subject.ts), in which one file is damaged in every way of a kind, case
// by case. Of each damage three programs must say the truth: a reader, `verify`, and the next open. Either everything is still
// there, or what is not is reported with file, position and offset range; no record that was not appended is ever handed out,
// and the end of what can be read is never taken for the end of the log.

import { seededRandom } from '../../src/base/clock.ts';
import { viewOf } from '../../src/base/bytes.ts';
import { BATCH_HEADER_BYTES, BLOCK_BYTES } from '../../src/base/limits.ts';
import { deletions, judgeDeleted } from '../support/corruption-deleted.ts';
import { forgedBatches, staleBatches } from '../support/corruption-stale.ts';
import {
  judge,
  makeLarge,
  makeSubject,
  nameOf,
  type Damage,
  type DamagedAt,
  type Subject,
  type Verdict,
} from '../support/corruption-subject.ts';
import type { SimDisk } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const SECTOR = 512;

interface Table {
  readonly claim: string;
  /** Where it is not what holds of all. */
  readonly holds?: string;
  readonly unit: string;
  readonly subject: Subject;
  /** Cases in the quick run; all of them in the full one. */
  readonly quickCases: number;
  readonly damages: () => Iterable<Damage>;
  readonly total: number;
  readonly judge?: (subject: Subject, disk: SimDisk, at?: DamagedAt) => Verdict;
}

function changed(name: string, path: string, change: (bytes: Uint8Array) => Uint8Array): Damage {
  return { name, apply: (disk) => disk.damage(path, change) };
}

/** Only a segment has places that reports can be compared with. */
function at(path: string, byte: number): { at?: DamagedAt } {
  return path.endsWith('.seg') ? { at: { path, byte } } : {};
}

function flips(path: string, bytes: number, from = 0): Pick<Table, 'damages' | 'total'> {
  return {
    total: (bytes - from) * 8,
    *damages() {
      for (let bit = from * 8; bit < bytes * 8; bit++) {
        const flip = (b: Uint8Array): Uint8Array => {
          b[bit >> 3] ^= 1 << (bit & 7);
          return b;
        };
        yield { ...changed(`${nameOf(path)} bit ${bit}`, path, flip), ...at(path, bit >> 3) };
      }
    },
  };
}

function cuts(path: string, bytes: number, expected?: 'reported'): Pick<Table, 'damages' | 'total'> {
  const only = expected === undefined ? {} : { expected };
  return {
    total: bytes,
    *damages() {
      for (let length = 0; length < bytes; length++)
        yield {
          ...changed(`${nameOf(path)} cut to ${length}`, path, (b) => b.slice(0, length)),
          ...at(path, length),
          ...only,
        };
    },
  };
}

/** Each sector zeroed, replaced by what stood there in the file's life before, by each other sector, and swapped with it. */
function sectors(path: string, bytes: number, stale: Uint8Array | undefined): Pick<Table, 'damages' | 'total'> {
  const count = bytes / SECTOR;
  const part = (b: Uint8Array, sector: number): Uint8Array => b.subarray(sector * SECTOR, (sector + 1) * SECTOR);
  return {
    total: count * (stale === undefined ? 1 : 2) + count * (count - 1) + (count * (count - 1)) / 2,
    *damages() {
      const name = nameOf(path);
      for (let i = 0; i < count; i++) {
        const where = at(path, i * SECTOR);
        yield { ...changed(`${name} sector ${i} zeroed`, path, (b) => (part(b, i).fill(0), b)), ...where };
        if (stale !== undefined)
          yield {
            ...changed(`${name} sector ${i} stale`, path, (b) => (part(b, i).set(part(stale, i)), b)),
            ...where,
          };
        for (let j = 0; j < count; j++) {
          if (j === i) continue;
          const overwrite = (b: Uint8Array): Uint8Array => (part(b, i).set(part(b, j).slice()), b);
          yield changed(`${name} sector ${i} overwritten with ${j}`, path, overwrite);
          if (j < i) continue;
          const swap = (b: Uint8Array): Uint8Array => {
            const kept = part(b, i).slice();
            part(b, i).set(part(b, j).slice());
            part(b, j).set(kept);
            return b;
          };
          yield changed(`${name} sectors ${i} and ${j} swapped`, path, swap);
        }
      }
    },
  };
}

/** A table that is short enough to be tried whole each time. */
function all(damages: readonly Damage[]): Pick<Table, 'damages' | 'total' | 'quickCases'> {
  return { damages: () => damages, total: damages.length, quickCases: damages.length };
}

/** Either block of the checkpoint, and each sector of it: the other block knows what is needed. */
function oneBlock(path: string): Damage[] {
  const sizes = { block: BLOCK_BYTES, sector: SECTOR };
  return Object.entries(sizes).flatMap(([what, bytes]) =>
    Array.from({ length: (2 * BLOCK_BYTES) / bytes }, (_, i): Damage => {
      const zero = (b: Uint8Array): Uint8Array => b.fill(0, i * bytes, (i + 1) * bytes);
      return { ...changed(`${nameOf(path)} ${what} ${i} zeroed`, path, zero), expected: 'whole' };
    }),
  );
}

/** Each batch but the last: its header, its midst and its end. Valid ones stand far behind it. */
function farBehind({ active, batches }: Subject): Damage[] {
  const all = batches.get(active)!;
  return all.slice(0, -1).flatMap(({ position, end }, i) =>
    [position, Math.floor((position + end) / 2), end - 2 * BLOCK_BYTES].map((byte): Damage => {
      const zero = (b: Uint8Array): Uint8Array => b.fill(0, byte, byte + SECTOR);
      return { ...changed(`batch ${i} zeroed at ${byte}`, active, zero), ...at(active, byte), expected: 'reported' };
    }),
  );
}

interface Subjects {
  readonly closed: Subject;
  readonly killed: Subject;
  readonly truncated: Subject;
  readonly young: Subject;
  readonly idle: Subject;
  readonly large: Subject;
  readonly compressed: Subject;
  readonly compressedKilled: Subject;
}

function tables(subjects: Subjects): Table[] {
  const { closed: s, killed, truncated, young, idle, large } = subjects;
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
      quickCases: 1500,
      ...flips(path, sizeOf(path)),
    });
    made.push({
      claim: `${what} cut to each length`,
      unit: 'lengths',
      subject: s,
      quickCases: 750,
      ...cuts(path, sizeOf(path)),
    });
    made.push({
      claim: `sectors of ${what} zeroed, stale, doubled, swapped`,
      unit: 'cases',
      subject: s,
      quickCases: 750,
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
      quickCases: 750,
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
    quickCases: 750,
    subject: truncated,
    ...flips(truncated.checkpoint, sizeOf(truncated.checkpoint)),
  });
  made.push({
    claim: 'each bit of the active segment of a killed log flipped (its last batch may be cut)',
    unit: 'bit flips',
    quickCases: 750,
    subject: killed,
    ...flips(killed.active, sizeOf(killed.active)),
  });
  made.push({
    claim: 'the active segment of a killed log cut to each length: never its end',
    unit: 'lengths',
    quickCases: 600,
    subject: { ...killed, mayEnd: killed.end },
    ...cuts(killed.active, sizeOf(killed.active), 'reported'),
  });
  for (const [ending, subject] of [
    ['closed', s],
    ['killed', killed],
  ] as const)
    made.push({
      claim: `batches of another life of the segment, told by epoch or salt alone, in a ${ending} log`,
      unit: 'batches',
      ...all(staleBatches(ending, subject)),
      // None of these damages the last batch of a killed log: it may not be missing.
      subject: { ...subject, mayEnd: subject.end },
    });
  for (const [ending, subject] of [
    ['closed', subjects.compressed],
    ['killed', subjects.compressedKilled],
  ] as const) {
    const { active } = subject;
    const bytes = subject.batches.get(active)!.at(-1)!.end;
    made.push({
      claim: `each bit of the batches of a ${ending} log flipped, of which some are compressed`,
      unit: 'bit flips',
      quickCases: 750,
      subject,
      ...flips(active, bytes),
    });
    made.push({
      claim: `sectors of a ${ending} log zeroed, doubled, swapped, whose batches are compressed in part`,
      unit: 'cases',
      quickCases: 400,
      subject,
      ...sectors(active, bytes, undefined),
    });
  }
  const [first] = s.batches.get(s.active)!;
  const tableAt = first.position + BATCH_HEADER_BYTES;
  const inTable = flips(
    s.active,
    tableAt + viewOf(s.disk.fileBytes(s.active)).getUint32(first.position + 20, true),
    tableAt,
  );
  made.push({
    claim: 'each bit of the stream table of a batch of the active segment flipped',
    unit: 'bit flips',
    subject: s,
    quickCases: inTable.total,
    ...inTable,
  });
  made.push({
    claim: 'control: batches with another stream, timestamp, flag, length or key, and a right checksum',
    holds: 'the judge sees each of them',
    unit: 'batches',
    subject: s,
    ...all(forgedBatches(s)),
  });
  made.push({
    claim: 'each bit of the last batch flipped in a log that was killed after a second without records',
    unit: 'bit flips',
    quickCases: 400,
    subject: idle,
    ...flips(idle.active, idle.batches.get(idle.active)!.at(-1)!.end, idle.batches.get(idle.active)!.at(-1)!.position),
  });
  made.push({
    claim: 'batches of 320 KiB damaged in a killed log, with others far behind',
    unit: 'cases',
    subject: large,
    ...all(farBehind(large)),
  });
  for (const [ending, subject] of Object.entries({ closed: s, killed, truncated }))
    made.push({
      claim: `either block of the checkpoint of a ${ending} log zeroed, and each sector: nothing is lost, nothing reported`,
      unit: 'cases',
      subject,
      ...all(oneBlock(subject.checkpoint)),
    });
  for (const [ending, subject] of [
    ['closed', s],
    ['killed', killed],
    ['truncated', truncated],
    ['young', young],
  ] as const)
    made.push({
      claim: `each file of a ${ending} log deleted, each two of them, all segments; names that lead nowhere`,
      unit: 'deletions',
      subject,
      ...all(deletions(ending, subject)),
      judge: judgeDeleted,
    });
  // The short ones first: what they find is told within a second.
  const cases = (table: Table): number => Math.min(table.quickCases, table.total);
  return made.sort((a, b) => cases(a) - cases(b));
}

export async function prove({ full, seed, only }: ProofContext): Promise<Claim[]> {
  const subjects: Subjects = {
    closed: makeSubject('closed'),
    killed: makeSubject('killed'),
    truncated: makeSubject('truncated'),
    young: makeSubject('young'),
    idle: makeSubject('idle'),
    large: makeLarge(),
    compressed: makeSubject('closed', 'gzip'),
    compressedKilled: makeSubject('killed', 'gzip'),
  };
  for (const subject of Object.values(subjects)) {
    const untouched = judge(subject, subject.disk);
    if (untouched !== 'whole') throw new Error(`the log is not whole before any damage: ${JSON.stringify(untouched)}`);
  }
  const random = seededRandom(seed);
  let found = 0;
  return tables(subjects).map((table) => {
    const { subject } = table;
    const violations: string[] = [];
    const verdicts = { whole: 0, reported: 0 };
    let tried = 0;
    // A random part of the cases in the quick run, spread evenly; all of them in the full one.
    const share = full || only !== undefined ? 1 : Math.min(1, table.quickCases / table.total);
    for (const { name, apply, expected, at: damaged } of table.damages()) {
      if (only !== undefined ? only !== name : random() >= share) continue;
      if (found >= VIOLATIONS_SHOWN) break;
      tried++;
      const disk = subject.disk.afterKill();
      apply(disk);
      const verdict = (table.judge ?? judge)(subject, disk, damaged);
      const came = typeof verdict === 'string' ? verdict : 'fooled';
      if (came !== 'fooled') verdicts[came]++;
      if (expected === undefined ? came !== 'fooled' : came === expected) continue;
      const wrong = typeof verdict === 'string' ? `${verdict}, expected ${expected}` : verdict.wrong;
      found++;
      violations.push(`${name}: ${wrong}; ${repeatCommand('corruption', seed, name)}`);
    }
    return {
      claim: `${table.claim}: ${table.holds ?? 'all is there, or what is not is reported'}`,
      tried,
      unit: table.unit,
      atLeast: only !== undefined ? 0 : full ? table.total : Math.floor(Math.min(table.total, table.quickCases) * 0.8),
      violations,
      figures: { 'all there, nothing to report': verdicts.whole, reported: verdicts.reported },
    };
  });
}
