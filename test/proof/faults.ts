// Every error at every call. A scripted life goes through open, append, overlapped appends, roll, recycling, truncation,
// close and reopen on a simulated disk; each call that it makes to the disk, also a mere look, fails in turn with each error, once and from then
// on for ever, a write also after half of its bytes. Afterwards the disk is whole again, and what is left is checked three
// times: with the caches that the failing process left, after a power cut that loses all that was not on stable storage, and
// after one that keeps it (checkRecovery). Where a sync had failed its pages may leave the cache at any moment: they do so before
// the reopening, and in its midst, once the end of the log was read and before it is read again to be written; that opening
// may fail, the next has to find all. No sync may have been tried again on a file where one had failed. Where a call that
// prepares a segment said once that there is no room, the life must have gone on to its end (promise 8).

import { basename } from 'node:path';
import { SpillwayError } from '../../src/base/errors.ts';
import { CHECKPOINT_FILE } from '../../src/log/names.ts';
import { checkRecovery, cutShort, Life, Model, NO_ROOM, type Doing, type Step } from '../support/sim-life.ts';
import { SimDisk, type SimCall, type SimDiskOptions } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const script: readonly Step[] = [
  'append',
  'append',
  'appendOverlapped',
  'appendOverlapped',
  'roll',
  // As many at once as there may be: each needs a buffer of its own.
  'appendOverlapped',
  'appendOverlapped',
  'appendOverlapped',
  'truncate',
  'roll',
  'append',
  'truncate',
  'append',
  'append',
  'reopen',
  'append',
  'roll',
  'append',
];
const errors = ['EIO', 'ENOSPC', 'EDQUOT', 'EINTR', 'EROFS', 'ENOENT'] as const;
/** Calls that take a name: to others ENOENT is no answer. */
const byName = /^(open|exists|rename|unlink) /;

interface Story {
  readonly disk: SimDiskOptions;
  /** Begins where a process was killed in the midst of a roll: its opening has to prepare a segment. */
  readonly killed?: true;
  readonly script: readonly Step[];
}

const afterKill: readonly Step[] = ['append', 'roll', 'append'];
const stories: Record<string, Story> = {
  direct: { disk: { mode: 'direct', eager: true }, script },
  'direct-late': { disk: { mode: 'direct', eager: false }, script },
  portable: { disk: { mode: 'portable', eager: true }, script },
  'direct-killed': { disk: { mode: 'direct', eager: true }, killed: true, script: afterKill },
  'portable-killed': { disk: { mode: 'portable', eager: true }, killed: true, script: afterKill },
};

/** The active segment is sealed, the next is not there yet. */
function killedInRoll(options: SimDiskOptions, model: Model): SimDisk {
  const disk = new SimDisk(options);
  const life = new Life(disk, model);
  life.open();
  life.do('append');
  life.do('append');
  disk.decide = (_, call, path) => (call === 'rename' && path.endsWith('.idx') ? 'cut' : 'works');
  if (!cutShort(disk, () => life.do('roll'))) throw new Error('no index was renamed');
  return disk.afterKill();
}

/**
 * Whether a call prepares a segment, so that a life has to go on where it says once that there is no room. Told by the call
 * and what the log was about, never by what came of it.
 * @param found the opening has written down what it found: what follows in it makes a segment
 */
function prepares(doing: Doing, found: boolean, call: SimCall, path: string): boolean {
  // A checkpoint: what of it is on the disk is unknown, which is final (promise 5).
  if (basename(path).startsWith(CHECKPOINT_FILE)) return false;
  // A batch: final likewise. The header of a segment is not meant, its file is called `spare` until it is written.
  if (path.endsWith('.seg') && (call === 'write' || call === 'sync')) return false;
  // An opening that fails before is told to who opens, and may be tried again; a closing has nothing to go on to.
  if (doing === 'opening') return found;
  // Filling in step with the batches, index, spare, names, the directory; a truncation makes the spare of what it frees.
  return doing !== 'closing';
}

interface Fault {
  readonly at: number;
  readonly errno: string;
  readonly forever: boolean;
  /** Part of a write that got through. */
  readonly wrote: number;
}

function* faultsAt(at: number): Generator<Fault> {
  for (const errno of errors)
    for (const forever of [false, true]) for (const wrote of [0, 0.5]) yield { at, errno, forever, wrote };
}

const none: Fault = { at: Infinity, errno: 'EIO', forever: false, wrote: 0 };

interface Ended {
  readonly disk: SimDisk;
  readonly model: Model;
  /** The call that failed; undefined where none did. */
  readonly failedCall: string | undefined;
  /** The failure was one that a life has to go on after. */
  readonly mustGoOn: boolean;
  /** What is wrong already, before anything is reopened. */
  readonly wrong: string | undefined;
  /** Why the life did not come to its end; undefined where it did. */
  readonly stopped: string | undefined;
}

function live({ disk: options, killed, script: steps }: Story, { at, errno, forever, wrote }: Fault): Ended {
  const model = new Model();
  const disk = killed === true ? killedInRoll(options, model) : new SimDisk(options);
  const life = new Life(disk, model);
  let failedCall: string | undefined;
  let mustGoOn = false;
  let found = false;
  disk.decide = (i, call, path) => {
    if (life.doing !== 'opening') found = false;
    if (i < at || (!forever && i > at)) {
      // In an empty directory nothing was found: there is no log to go on with, and the opening fails as a whole.
      if (call === 'sync' && basename(path) === CHECKPOINT_FILE) found = model.decided.length > 0;
      return 'works';
    }
    failedCall ??= `${call} ${path}`;
    mustGoOn = !forever && NO_ROOM.includes(errno) && prepares(life.doing, found, call, path);
    return { errno, wrote };
  };
  let stopped: string | undefined;
  let wrong: string | undefined;
  try {
    life.open();
    for (const step of steps) life.do(step);
  } catch (error) {
    stopped = String(error);
    if (!(error instanceof SpillwayError)) wrong = `not an error of Spillway: ${stopped}`;
  }
  // Whoever goes on after a failure of a durable write is told so, and nothing is acknowledged any more.
  const acknowledged = model.decided.length;
  if (wrong === undefined && life.isPoisoned) {
    stopped ??= 'it is poisoned';
    try {
      life.do('append');
      wrong = 'a poisoned log took another batch';
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code !== 'POISONED')
        wrong = `a poisoned log says ${String(error)}`;
    }
    if (model.decided.length !== acknowledged) wrong ??= 'a poisoned log acknowledged another batch';
  }
  try {
    life.close();
  } catch (error) {
    stopped ??= `close: ${String(error)}`;
    if (!(error instanceof SpillwayError)) wrong ??= `close: not an error of Spillway: ${String(error)}`;
  }
  if (disk.syncsAfterFailure > 0) wrong ??= `a sync was tried again after one had failed`;
  return { disk, model, failedCall, mustGoOn, wrong, stopped };
}

/** What keeps a life from having gone on as if nothing had happened; undefined where it did. */
function stoppedBy({ model, stopped }: Ended, undisturbed: Ended): string | undefined {
  if (stopped !== undefined) return stopped;
  const expected = undisturbed.model.decided;
  const came = model.decided;
  if (came.length !== expected.length) return `${came.length} records were acknowledged, not ${expected.length}`;
  return undefined;
}

/** The first thing wrong with what a failing life left; undefined where all holds. */
function check({ disk, model, wrong }: Ended): string | undefined {
  if (wrong !== undefined) return wrong;
  const whole = disk.decisions(4096);
  const left: Record<string, SimDisk> = {
    'reopened at once': disk.afterKill(),
    'power cut, caches lost': disk.crash(4096, []),
    'power cut, caches kept': disk.crash(
      4096,
      whole.map((n) => n - 1),
    ),
  };
  for (const [name, after] of Object.entries(left)) {
    const problem = checkRecovery(after, model);
    if (problem !== undefined) return `${name}: ${problem}`;
  }
  return disk.mayEvict ? checkEvicted(disk, model) : undefined;
}

/** What a failed sync left in the cache leaves it: before a reopening, or in its midst. */
function checkEvicted(left: SimDisk, before: Model): string | undefined {
  const evicted = left.afterKill();
  evicted.evict();
  const problem = checkRecovery(evicted, before);
  if (problem !== undefined) return `evicted, then reopened: ${problem}`;
  const model = before.copy();
  const disk = left.afterKill();
  const life = new Life(disk, model);
  const opened = new Set<string>();
  disk.decide = (_, call, path) => {
    if (call === 'open' && path.endsWith('.seg') && opened.has(path)) disk.evict();
    if (call === 'open') opened.add(path);
    return 'works';
  };
  try {
    life.open();
    life.decide();
    life.do('append');
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    // Nobody can tell what will be there next time.
    if (error.code !== 'IO_ERROR') return `evicted while reopened: ${error.code} ${error.message}`;
  }
  disk.decide = () => 'works';
  const after = checkRecovery(disk.afterKill(), model);
  return after === undefined ? undefined : `evicted while reopened, then reopened: ${after}`;
}

const claims = {
  kept: 'whichever call fails, with whichever error, what was acknowledged is there and nothing else is',
  goesOn:
    'one ENOSPC or EDQUOT while a segment is prepared does not stop a life: all is acknowledged, nothing poisoned',
};

export async function prove({ seed, only }: ProofContext): Promise<Claim[]> {
  const kept: string[] = [];
  const stopped: string[] = [];
  let tried = 0;
  let finished = 0;
  const failed = new Set<string>();
  let mustGoOn = 0;
  const prepared = new Set<string>();
  for (const [storyName, story] of Object.entries(stories)) {
    const undisturbed = live(story, none);
    if (undisturbed.stopped !== undefined) throw new Error(`a life stops without a fault: ${undisturbed.stopped}`);
    for (let at = 0; at < undisturbed.disk.calls; at++) {
      for (const fault of faultsAt(at)) {
        const { errno, forever, wrote } = fault;
        const name = `${storyName}/${at}/${errno}/${forever ? 'for ever' : 'once'}/${wrote}`;
        if ((only !== undefined && only !== name) || kept.length + stopped.length >= VIOLATIONS_SHOWN) continue;
        const ended = live(story, fault);
        // Half of the bytes: a case of its own only for a write.
        if (wrote > 0 && !ended.failedCall?.startsWith('write')) continue;
        if (errno === 'ENOENT' && !byName.test(ended.failedCall ?? '')) continue;
        tried++;
        if (ended.failedCall !== undefined) failed.add(ended.failedCall);
        if (ended.stopped === undefined) finished++;
        const say = (problem: string): string =>
          `${name}: ${ended.failedCall}: ${problem}; ${repeatCommand('faults', seed, name)}`;
        const problem = check(ended);
        if (problem !== undefined) kept.push(say(problem));
        if (!ended.mustGoOn) continue;
        mustGoOn++;
        prepared.add(ended.failedCall ?? '');
        const stop = stoppedBy(ended, undisturbed);
        if (stop !== undefined) stopped.push(say(stop));
      }
    }
  }
  const all = only === undefined;
  return [
    {
      claim: claims.kept,
      tried,
      unit: 'faults',
      atLeast: all ? 6_000 : 1,
      violations: kept,
      figures: { 'calls that failed, by kind and file': failed.size, 'lives that went on to their end': finished },
    },
    {
      claim: claims.goesOn,
      tried: mustGoOn,
      unit: 'faults',
      // A single case that is repeated may be of another kind.
      atLeast: all ? 450 : 0,
      violations: stopped,
      figures: { 'calls that failed, by kind and file': prepared.size },
    },
  ];
}
