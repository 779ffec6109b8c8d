// Every error at every call. A scripted life goes through open, append, overlapped appends, roll, recycling, truncation,
// close and reopen on a simulated disk; each call that it makes to the disk fails in turn with each error, once and from then
// on for ever, a write also after half of its bytes. Afterwards the disk is whole again, and what is left is checked three
// times: with the caches that the failing process left, after a power cut that loses all that was not on stable storage, and
// after one that keeps it (checkRecovery). No sync may have been tried again on a file where one had failed.

import { SpillwayError } from '../../src/base/errors.ts';
import { checkRecovery, Life, Model, type Step } from '../support/sim-life.ts';
import { SimDisk, type Decide, type SimDiskOptions } from '../support/sim-disk.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

const script: readonly Step[] = [
  'append',
  'append',
  'appendOverlapped',
  'appendOverlapped',
  'roll',
  'append',
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
const errors = ['EIO', 'ENOSPC', 'EDQUOT', 'EINTR', 'EROFS'] as const;
const disks: Record<string, SimDiskOptions> = {
  direct: { mode: 'direct', eager: true },
  'direct-late': { mode: 'direct', eager: false },
  portable: { mode: 'portable', eager: true },
};

interface Ended {
  readonly disk: SimDisk;
  readonly model: Model;
  /** The call that failed; undefined where none did. */
  readonly failedCall: string | undefined;
  /** What is wrong already, before anything is reopened. */
  readonly wrong: string | undefined;
  readonly finished: boolean;
}

function live(options: SimDiskOptions, failAt: number, errno: string, forever: boolean, wrote: number): Ended {
  const disk = new SimDisk(options);
  const model = new Model();
  const life = new Life(disk, model);
  let failedCall: string | undefined;
  const decide: Decide = (i, call, path) => {
    if (i < failAt || (!forever && i > failAt)) return 'works';
    failedCall ??= `${call} ${path}`;
    return { errno, wrote };
  };
  disk.decide = decide;
  let finished = false;
  let wrong: string | undefined;
  try {
    life.open();
    for (const step of script) life.do(step);
    finished = true;
  } catch (error) {
    if (!(error instanceof SpillwayError)) wrong = `not an error of Spillway: ${String(error)}`;
  }
  // Whoever goes on after a failure of a durable write is told so, and nothing is acknowledged any more.
  const acknowledged = model.decided.length;
  if (wrong === undefined && life.isPoisoned) {
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
    if (!(error instanceof SpillwayError)) wrong ??= `close: not an error of Spillway: ${String(error)}`;
  }
  if (disk.syncsAfterFailure > 0) wrong ??= `a sync was tried again after one had failed`;
  return { disk, model, failedCall, wrong, finished };
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
  return undefined;
}

export async function prove({ seed, only }: ProofContext): Promise<Claim[]> {
  const violations: string[] = [];
  let tried = 0;
  let finished = 0;
  const failed = new Set<string>();
  for (const [diskName, options] of Object.entries(disks)) {
    const calls = live(options, Infinity, 'EIO', false, 0).disk.calls;
    for (let at = 0; at < calls; at++) {
      for (const errno of errors) {
        for (const forever of [false, true]) {
          for (const wrote of [0, 0.5]) {
            const name = `${diskName}/${at}/${errno}/${forever ? 'for ever' : 'once'}/${wrote}`;
            if ((only !== undefined && only !== name) || violations.length >= VIOLATIONS_SHOWN) continue;
            const ended = live(options, at, errno, forever, wrote);
            // Half of the bytes: a case of its own only for a write.
            if (wrote > 0 && !ended.failedCall?.startsWith('write')) continue;
            tried++;
            if (ended.failedCall !== undefined) failed.add(ended.failedCall);
            if (ended.finished) finished++;
            const problem = check(ended);
            if (problem === undefined) continue;
            violations.push(`${name}: ${ended.failedCall}: ${problem}; ${repeatCommand('faults', seed, name)}`);
          }
        }
      }
    }
  }
  return [
    {
      claim: 'whichever call fails, with whichever error, what was acknowledged is there and nothing else is',
      tried,
      unit: 'faults',
      atLeast: only === undefined ? 5_000 : 1,
      violations,
      figures: { 'calls that failed, by kind and file': failed.size, 'lives that went on to their end': finished },
    },
  ];
}
