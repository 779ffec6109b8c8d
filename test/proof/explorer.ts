// Crash explorer. Every short sequence of {append batch, roll, truncate, close and reopen}, every still shorter one that
// also truncates to the end or at the end of a segment and reopens with another segment size, and random longer ones of all;
// from a fresh log and from one with sealed and recycled segments. A crash in the midst of every call to the disk; after it
// every subset of what was not on stable storage, as far as a bound, in pages of 4,096 and sectors of 512 bytes; and the kill
// of the process alone, which keeps the caches. Then again in the midst of every call of the recovery.
// Each distinct state (what the caches hold × what is on stable storage × what was acknowledged) is checked once: see
// checkRecovery.
//
// What is sampled is decided by the seed and the name of the crash alone, so that one crash by itself tries what it tried
// among all: disk/start/sequence/call.

import { createHash } from 'node:crypto';
import { seededRandom } from '../../src/base/clock.ts';
import { compressorFor } from '../../src/codec/batch-codec.ts';
import { ExplorerLife, ownSteps, type ExplorerStep } from '../support/explorer-life.ts';
import { checkRecovery, cutShort, Life, Model } from '../support/sim-life.ts';
import { SimDisk, type SimDiskOptions } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const mainSteps: readonly ExplorerStep[] = ['append', 'roll', 'truncate', 'reopen'];
const allSteps: readonly ExplorerStep[] = [...mainSteps, 'appendOverlapped', ...ownSteps];
/** Prepared before the sequence: nothing, or two sealed segments of which one is freed, so that a spare is there. */
const starts: Record<string, readonly ExplorerStep[]> = {
  fresh: [],
  warm: ['append', 'append', 'roll', 'appendOverlapped', 'appendOverlapped', 'roll', 'append', 'truncate'],
};
const COMPRESSED = 'direct, late writer, gzip';
const disks: Record<string, SimDiskOptions> = {
  'direct, eager writer': { mode: 'direct', eager: true },
  'portable, late writer': { mode: 'portable', eager: false },
  /** Its batches are compressed. */
  [COMPRESSED]: { mode: 'direct', eager: false },
};

interface Bounds {
  /** Of sequences of the main steps, and of all steps. */
  readonly length: number;
  readonly lengthOfAll: number;
  /** Random sequences beyond that length, per disk and start. */
  readonly longer: number;
  /** Subsets per crash and tear size; beyond it, the extremes, each alone, and random ones. */
  readonly subsets: number;
  /** Every so many states the recovery itself is cut at each call. */
  readonly recoveryEvery: number;
}

const quickBounds: Bounds = { length: 3, lengthOfAll: 2, longer: 4, subsets: 48, recoveryEvery: 90 };
const fullBounds: Bounds = { length: 4, lengthOfAll: 3, longer: 150, subsets: 4096, recoveryEvery: 8 };

function sequences(steps: readonly ExplorerStep[], length: number): ExplorerStep[][] {
  const all: ExplorerStep[][] = [[]];
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

/** A number for a name: the same whatever else is tried. */
function seedFor(seed: number, name: string): number {
  return createHash('sha1').update(`${seed}/${name}`).digest().readUInt32LE();
}

/** All that decides what may become of a disk, and what must: in short, the state. */
function keyOf(disk: SimDisk, model: Model): string {
  const hash = createHash('sha256');
  const add = (bytes: Uint8Array | string): unknown => hash.update(bytes);
  disk.describe(add);
  // What is on stable storage, then with the first of the versions that each unsynced page had, and so on.
  const decisions = disk.decisions(4096);
  const versions = Math.max(0, ...decisions);
  for (let version = 0; version < versions; version++) {
    const choices = decisions.map((n) => Math.min(version, n - 1));
    disk.crash(4096, choices).describe(add);
  }
  // A payload begins with its life and its offset.
  const payloads = [...model.decided, ...model.attempted].map((payload) => payload.slice(0, 12));
  const { start, truncating } = model;
  add(JSON.stringify([disk.mode, decisions, model.decided.length, payloads, start, truncating]));
  return hash.digest('base64');
}

class Explorer {
  readonly seen = new Set<string>();
  readonly violations: string[] = [];
  crashes = 0;
  /** Batches that were compressed in sequences that nothing cut. */
  compressed = 0;
  repeats = 0;
  /** Depth and state of which every crash was tried, as far as the bound. */
  readonly #crashed = new Set<string>();
  readonly #bounds: Bounds;
  readonly #context: ProofContext;

  constructor(bounds: Bounds, context: ProofContext) {
    this.#bounds = bounds;
    this.#context = context;
  }

  /** Every crash within the last step of a sequence, or one of them; those before it belong to the shorter sequence. */
  explore(diskName: string, startName: string, sequence: readonly ExplorerStep[], onlyAt?: number): void {
    const name = `${diskName}/${startName}/${sequence.join('-')}`;
    const run = (cutAt: number): { disk: SimDisk; model: Model; lastStepAt: number } => {
      const disk = new SimDisk(disks[diskName]);
      const model = new Model();
      const life = new ExplorerLife(disk, model);
      if (diskName === COMPRESSED) life.compressor = compressorFor('gzip');
      let lastStepAt = 0;
      disk.decide = (i) => (i === cutAt ? 'cut' : 'works');
      cutShort(disk, () => {
        const all = [...starts[startName], ...sequence];
        life.open();
        if (all.length === 0) return;
        for (const step of all.slice(0, -1)) life.do(step);
        lastStepAt = disk.calls;
        life.do(all.at(-1)!);
      });
      if (cutAt < 0 && sequence.length > 0) this.compressed += life.log.compression.batches;
      return { disk, model, lastStepAt };
    };
    this.#orViolation(name, () => {
      const whole = run(-1);
      // The prepared start is explored once, from its first call on.
      const first = sequence.length === 0 ? 0 : whole.lastStepAt;
      for (let at = first; at <= whole.disk.calls; at++) {
        if (onlyAt !== undefined && onlyAt !== at) continue;
        const { disk, model } = at === whole.disk.calls ? whole : run(at);
        this.#crash(disk, model, `${name}/${at}`, 1);
      }
    });
  }

  #crash(disk: SimDisk, model: Model, name: string, depth: number): void {
    if (this.violations.length >= VIOLATIONS_SHOWN) return;
    this.crashes++;
    // Most calls change nothing: what may come of a crash at them was tried at the call before.
    const key = keyOf(disk, model);
    if (this.#crashed.has(`1 ${key}`) || this.#crashed.has(`${depth} ${key}`)) return;
    this.#crashed.add(`${depth} ${key}`);
    this.#check(disk.afterKill(), model, `${name}/kill`, depth, key);
    for (const tear of [4096, 512]) {
      const random = seededRandom(seedFor(this.#context.seed, `${name}/${tear}`));
      for (const choices of choicesOf(disk.decisions(tear), depth === 1 ? this.#bounds.subsets : 8, random)) {
        this.#check(disk.crash(tear, choices), model, `${name}/${tear}:${choices.join('')}`, depth);
      }
    }
  }

  #check(left: SimDisk, model: Model, name: string, depth: number, key = keyOf(left, model)): void {
    if (this.seen.has(key)) {
      this.repeats++;
      return;
    }
    this.seen.add(key);
    this.#orViolation(name, () => {
      const wrong = checkRecovery(left.afterKill(), model);
      if (wrong !== undefined) this.#violated(name, wrong);
      else if (depth === 1 && this.#isCutAgain(left, name)) this.#cutRecovery(left, model, name);
    });
  }

  /** What a recovery finds in the caches alone it must not rely on: after such a kill it is always cut. */
  #isCutAgain(left: SimDisk, name: string): boolean {
    return left.decisions(4096).length > 0 || seedFor(this.#context.seed, name) % this.#bounds.recoveryEvery === 0;
  }

  #cutRecovery(left: SimDisk, model: Model, name: string): void {
    for (let at = 0; ; at++) {
      const disk = left.afterKill();
      disk.decide = (i) => (i === at ? 'cut' : 'works');
      if (!cutShort(disk, () => new Life(disk, model.copy()).open())) return;
      this.#crash(disk, model, `${name}/recovery ${at}`, 2);
    }
  }

  /** Whatever the log throws where nothing failed is a finding, not the end of the proof. */
  #orViolation(name: string, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#violated(name, `throws ${String(error)}`);
    }
  }

  #violated(name: string, what: string): void {
    const { seed, full } = this.#context;
    const only = name.split('/').slice(0, 4).join('/');
    this.violations.push(`${name}: ${what}; ${repeatCommand('explorer', seed, only, full)}`);
  }
}

/** Disk, start, steps and call of a case's name; undefined where there is no such case. */
function parseCase(name: string): Parameters<Explorer['explore']> | undefined {
  const [disk, start, steps, at] = name.split('/');
  const sequence = steps === undefined || steps === '' ? [] : (steps.split('-') as ExplorerStep[]);
  if (disks[disk] === undefined || starts[start] === undefined || sequence.some((s) => !allSteps.includes(s))) return;
  return [disk, start, sequence, at === undefined ? undefined : Number(at)];
}

export async function prove(context: ProofContext): Promise<Claim[]> {
  const { full, seed, only } = context;
  const bounds = full ? fullBounds : quickBounds;
  const explorer = new Explorer(bounds, context);
  let tried = 0;
  const explore = (...args: Parameters<Explorer['explore']>): void => {
    explorer.explore(...args);
    tried++;
  };
  if (only !== undefined) {
    const parsed = parseCase(only);
    if (parsed !== undefined) explore(...parsed);
  } else {
    const random = seededRandom(seed + 1);
    const one = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
    const short = sequences(mainSteps, bounds.length);
    const rarer = sequences(allSteps, bounds.lengthOfAll).filter((s) => !s.every((step) => mainSteps.includes(step)));
    for (const disk of Object.keys(disks)) {
      for (const start of Object.keys(starts)) {
        // With a codec the steps are the same ones, and a batch is other bytes: the quick run tries shorter ones.
        const most = disk === COMPRESSED && !full ? bounds.length - 1 : bounds.length;
        for (const sequence of [...short, ...rarer]) if (sequence.length <= most) explore(disk, start, sequence);
        for (let i = 0; i < bounds.longer; i++) {
          const length = bounds.length + 1 + Math.floor(random() * 8);
          explore(
            disk,
            start,
            // Half of them append: else nothing is there to lose.
            Array.from({ length }, () => one([...allSteps, 'append', 'append', 'append', 'appendOverlapped'])),
          );
        }
      }
    }
  }
  if (only === undefined && explorer.violations.length === 0 && explorer.compressed === 0)
    explorer.violations.push('no batch was compressed: expected some');
  const atLeast = only !== undefined ? 1 : full ? 100_000 : 4_000;
  return [
    {
      claim: `after a crash at any call of any sequence of up to ${bounds.length} steps (${bounds.lengthOfAll} with the rarer ones), and of random longer ones, what was acknowledged is there, and what was found stays`,
      tried: explorer.seen.size,
      unit: 'distinct states',
      atLeast,
      violations: explorer.violations,
      figures: {
        sequences: tried,
        crashes: explorer.crashes,
        'states met again': explorer.repeats,
        'batches compressed': explorer.compressed,
      },
    },
  ];
}
