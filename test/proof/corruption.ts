// Corruption tables: a small log (test/support/corruption-subject.ts), in which one file is damaged in every way of a kind, case
// by case. Of each damage three programs must say the truth: a reader, `verify`, and the next open. Either everything is still
// there, or what is not is reported with file, position and offset range; no record that was not appended is ever handed out,
// and the end of what can be read is never taken for the end of the log.

import { seededRandom } from '../../src/base/clock.ts';
import { deletions, judgeDeleted } from '../support/corruption-deleted.ts';
import { staleBatches } from '../support/corruption-stale.ts';
import { judge, makeSubject, nameOf, type Damage, type Subject, type Verdict } from '../support/corruption-subject.ts';
import type { SimDisk } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const SECTOR = 512;

interface Table {
  readonly claim: string;
  readonly unit: string;
  readonly subject: Subject;
  /** Cases in the quick run; all of them in the full one. */
  readonly quickCases: number;
  readonly damages: () => Iterable<Damage>;
  readonly total: number;
  readonly judge?: (subject: Subject, disk: SimDisk) => Verdict;
}

function changed(name: string, path: string, change: (bytes: Uint8Array) => Uint8Array): Damage {
  return { name, apply: (disk) => disk.damage(path, change) };
}

function flips(path: string, bytes: number): Pick<Table, 'damages' | 'total'> {
  return {
    total: bytes * 8,
    *damages() {
      for (let bit = 0; bit < bytes * 8; bit++) {
        const flip = (b: Uint8Array): Uint8Array => {
          b[bit >> 3] ^= 1 << (bit & 7);
          return b;
        };
        yield changed(`${nameOf(path)} bit ${bit}`, path, flip);
      }
    },
  };
}

function cuts(path: string, bytes: number): Pick<Table, 'damages' | 'total'> {
  return {
    total: bytes,
    *damages() {
      for (let length = 0; length < bytes; length++)
        yield changed(`${nameOf(path)} cut to ${length}`, path, (b) => b.slice(0, length));
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
        yield changed(`${name} sector ${i} zeroed`, path, (b) => (at(b, i).fill(0), b));
        if (stale !== undefined)
          yield changed(`${name} sector ${i} stale`, path, (b) => (at(b, i).set(at(stale, i)), b));
        for (let j = 0; j < count; j++) {
          if (j === i) continue;
          const overwrite = (b: Uint8Array): Uint8Array => (at(b, i).set(at(b, j).slice()), b);
          yield changed(`${name} sector ${i} overwritten with ${j}`, path, overwrite);
          if (j < i) continue;
          const swap = (b: Uint8Array): Uint8Array => {
            const kept = at(b, i).slice();
            at(b, i).set(at(b, j).slice());
            at(b, j).set(kept);
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

function tables(s: Subject, killed: Subject, truncated: Subject, young: Subject): Table[] {
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
    ['closed', s],
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
  return made;
}

export async function prove({ full, seed, only }: ProofContext): Promise<Claim[]> {
  const closed = makeSubject('closed');
  const killed = makeSubject('killed');
  const truncated = makeSubject('truncated');
  const young = makeSubject('young');
  for (const subject of [closed, killed, truncated, young]) {
    const untouched = judge(subject, subject.disk);
    if (untouched !== 'whole') throw new Error(`the log is not whole before any damage: ${JSON.stringify(untouched)}`);
  }
  const random = seededRandom(seed);
  let found = 0;
  return tables(closed, killed, truncated, young).map((table) => {
    const { subject } = table;
    const violations: string[] = [];
    const verdicts = { whole: 0, reported: 0 };
    let tried = 0;
    // A random part of the cases in the quick run, spread evenly; all of them in the full one.
    const share = full || only !== undefined ? 1 : Math.min(1, table.quickCases / table.total);
    for (const { name, apply, expected } of table.damages()) {
      if (only !== undefined ? only !== name : random() >= share) continue;
      if (found >= VIOLATIONS_SHOWN) break;
      tried++;
      const disk = subject.disk.afterKill();
      apply(disk);
      const verdict = (table.judge ?? judge)(subject, disk);
      const came = typeof verdict === 'string' ? verdict : 'fooled';
      if (came !== 'fooled') verdicts[came]++;
      if (expected === undefined ? came !== 'fooled' : came === expected) continue;
      const wrong = typeof verdict === 'string' ? `${verdict}, expected ${expected}` : verdict.wrong;
      found++;
      violations.push(`${name}: ${wrong}; ${repeatCommand('corruption', seed, name)}`);
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
