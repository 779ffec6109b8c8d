// Crash explorer. Every sequence of up to four steps (three in the quick run) of {append batch, roll, truncate, close and
// reopen}, and random longer ones, from a fresh log and from one with sealed and recycled segments; a crash in the midst of every call to the disk;
// after it every subset of what was not on stable storage, as far as a bound, in pages of 4,096 and sectors of 512 bytes;
// and the kill of the process alone, which keeps the caches. Then again in the midst of every call of the recovery.
// Each distinct state (what the disk holds × what was acknowledged) is checked once: see checkRecovery.

import { createHash } from 'node:crypto';
import { seededRandom } from '../../src/base/clock.ts';
import { checkRecovery, cutShort, Life, Model, type Step } from '../support/sim-life.ts';
import { SimDisk, type SimDiskOptions } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const steps: readonly Step[] = ['append', 'roll', 'truncate', 'reopen'];
/** Prepared before the sequence: nothing, or two sealed segments of which one is freed, so that a spare is there. */
const starts: Record<string, readonly Step[]> = {
  fresh: [],
  warm: ['append', 'append', 'roll', 'appendOverlapped', 'appendOverlapped', 'roll', 'append', 'truncate'],
};
const disks: Record<string, SimDiskOptions> = {
  'direct, eager writer': { mode: 'direct', eager: true },
  'portable, late writer': { mode: 'portable', eager: false },
};

interface Bounds {
  readonly length: number;
  /** Random sequences beyond that length, per disk and start. */
  readonly longer: number;
  /** Subsets per crash and tear size; beyond it, the extremes, each alone, and random ones. */
  readonly subsets: number;
  /** Every so many states the recovery itself is cut at each call. */
  readonly recoveryEvery: number;
}

function sequences(length: number): Step[][] {
  const all: Step[][] = [[]];
  for (let from = 0, n = 0; n < length; n++) {
    const until = all.length;
    for (; from < until; from++) for (const step of steps) all.push([...all[from], step]);
  }
  return all;
}

/** Choices for a power cut: all combinations where they are at most `bound`, else what is most telling. */
function* choicesOf(decisions: readonly number[], bound: number, random: () => number): Generator<number[]> {
  const combinations = decisions.reduce((product, n) => product * n, 1);
  const none = decisions.map(() => 0);
  if (combinations <= bound) {
    for (let i = 0; i < combinations; i++) {
      let rest = i;
      yield decisions.map((n) => {
        const choice = rest % n;
        rest = Math.floor(rest / n);
        return choice;
      });
    }
    return;
  }
  const last = decisions.map((n) => n - 1);
  yield none;
  yield last;
  let made = 2;
  for (let i = 0; i < decisions.length && made < bound; i++, made += 2) {
    yield none.with(i, decisions[i] - 1);
    yield last.with(i, 0);
  }
  for (; made < bound; made++) yield decisions.map((n) => Math.floor(random() * n));
}

class Explorer {
  readonly seen = new Set<string>();
  readonly violations: string[] = [];
  crashes = 0;
  repeats = 0;
  kills = 0;
  readonly #bounds: Bounds;
  readonly #seed: number;
  readonly #random: () => number;

  constructor(bounds: Bounds, seed: number) {
    this.#bounds = bounds;
    this.#seed = seed;
    this.#random = seededRandom(seed);
  }

  /** Every crash within the last step of a sequence; those before it belong to the shorter sequence. */
  explore(diskName: string, startName: string, sequence: readonly Step[]): void {
    const run = (cutAt: number): { disk: SimDisk; model: Model; lastStepAt: number; cut: boolean } => {
      const disk = new SimDisk(disks[diskName]);
      const model = new Model();
      const life = new Life(disk, model);
      let lastStepAt = 0;
      disk.decide = (i) => (i === cutAt ? 'cut' : 'works');
      const cut = cutShort(disk, () => {
        const all = [...starts[startName], ...sequence];
        life.open();
        if (all.length === 0) return;
        for (const step of all.slice(0, -1)) life.do(step);
        lastStepAt = disk.calls;
        life.do(all.at(-1)!);
      });
      return { disk, model, lastStepAt, cut };
    };
    const whole = run(-1);
    // The prepared start is explored once, from its first call on.
    const first = sequence.length === 0 ? 0 : whole.lastStepAt;
    for (let at = first; at <= whole.disk.calls; at++) {
      const { disk, model } = at === whole.disk.calls ? whole : run(at);
      this.#crash(disk, model, `${diskName}/${startName}/${sequence.join('-')}/${at}`, 1);
    }
  }

  #crash(disk: SimDisk, model: Model, name: string, depth: number): void {
    if (this.violations.length >= VIOLATIONS_SHOWN) return;
    this.crashes++;
    const rng = this.#random;
    this.#check(disk.afterKill(), model, `${name}/kill`, depth);
    for (const tear of [4096, 512]) {
      for (const choices of choicesOf(disk.decisions(tear), depth === 1 ? this.#bounds.subsets : 8, rng)) {
        this.#check(disk.crash(tear, choices), model, `${name}/${tear}:${choices.join('')}`, depth);
      }
    }
  }

  #check(left: SimDisk, model: Model, name: string, depth: number): void {
    const hash = createHash('sha1');
    left.describe((bytes) => hash.update(bytes));
    hash.update(JSON.stringify([model.decided.length, model.attempted, model.start, model.truncating]));
    // A killed process leaves caches that a later power cut may still lose: not the same state as one on stable storage.
    hash.update(left.decisions(4096).join());
    const key = hash.digest('base64');
    if (this.seen.has(key)) {
      this.repeats++;
      return;
    }
    this.seen.add(key);
    const wrong = checkRecovery(left.afterKill(), model);
    if (wrong !== undefined)
      this.violations.push(
        `${name}: ${wrong}; ${repeatCommand('explorer', this.#seed, name.split('/').slice(0, 3).join('/'))}`,
      );
    else if (depth === 1 && this.#isCutAgain(name)) this.#cutRecovery(left, model, name);
  }

  /** After a kill the recovery works on what only the caches hold: that is cut more often. */
  #isCutAgain(name: string): boolean {
    const every = this.#bounds.recoveryEvery;
    return (name.endsWith('/kill') ? this.kills++ % Math.ceil(every / 10) : this.seen.size % every) === 0;
  }

  #cutRecovery(left: SimDisk, model: Model, name: string): void {
    for (let at = 0; ; at++) {
      const disk = left.afterKill();
      disk.decide = (i) => (i === at ? 'cut' : 'works');
      if (!cutShort(disk, () => new Life(disk, model.copy()).open())) return;
      this.#crash(disk, model, `${name}/recovery ${at}`, 2);
    }
  }
}

export async function prove({ full, seed, only }: ProofContext): Promise<Claim[]> {
  const bounds: Bounds = full
    ? { length: 4, longer: 150, subsets: 4096, recoveryEvery: 8 }
    : { length: 3, longer: 5, subsets: 100, recoveryEvery: 40 };
  const explorer = new Explorer(bounds, seed);
  let tried = 0;
  const explore = (name: string): void => {
    const [disk, start, sequence] = name.split('/');
    explorer.explore(disk, start, sequence === '' ? [] : (sequence.split('-') as Step[]));
    tried++;
  };
  if (only !== undefined) explore(only);
  else {
    const random = seededRandom(seed + 1);
    const one = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
    for (const disk of Object.keys(disks)) {
      for (const start of Object.keys(starts)) {
        for (const sequence of sequences(bounds.length)) explore(`${disk}/${start}/${sequence.join('-')}`);
        for (let i = 0; i < bounds.longer; i++) {
          const length = bounds.length + 1 + Math.floor(random() * 8);
          const sequence = Array.from({ length }, () => one([...steps, 'appendOverlapped', 'append']));
          explore(`${disk}/${start}/${sequence.join('-')}`);
        }
      }
    }
  }
  const atLeast = only !== undefined ? 1 : full ? 100_000 : 4_000;
  return [
    {
      claim: `after a crash at any call of any sequence of up to ${bounds.length} steps, and of random longer ones, what was acknowledged is there, and what was found stays`,
      tried: explorer.seen.size,
      unit: 'distinct states',
      atLeast,
      violations: explorer.violations,
      figures: { sequences: tried, crashes: explorer.crashes, 'states met again': explorer.repeats },
    },
  ];
}
