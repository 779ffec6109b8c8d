// Proof `kills`: a process is killed by SIGKILL while it writes; what it was told is durable is there afterwards. Real
// processes on a real disk: what the kernel had been handed survives, in whatever state the calls made so far left it.
//
// 1. At random moments of a long life under load (kill-writer.ts), in every mode in turn, the same directories going
//    through all of the kills. 2. Right before, right after or halfway through the n-th system call of a short life
//    (kill-script.ts), for every n, through a hook that a variant of the addon has; then the next life of that directory
//    is killed too, at a call of its own, so that recovery is killed as well. Half of the checks recover a copy, so that
//    the next life meets the directory as the kill left it.
//
// It failed, as it should, with each of these planted: an acknowledgement before the write is done, a recycled segment that
// keeps its epoch and salt, segments freed before the checkpoint says so, a spare renamed before its header is written.

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/base/clock.ts';
import type { IoMode } from '../../src/base/types.ts';
import { buildAddon, cannotBuild } from '../support/build-addon.ts';
import { anyMoment, momentText, runWriter, type Told } from '../support/kill-child.ts';
import { scriptLog, smallLog } from '../support/kill-protocol.ts';
import { Witness } from '../support/kill-witness.ts';
import { compressedIn } from '../support/log-segments.ts';
import type { WriterTask } from '../support/kill-writer.ts';
import { missingModes, temporaryDirectory, workingModes } from '../support/modes.ts';
import { repeatCommand, skip, skipModes, type Claim, type ProofContext } from './proof.ts';

const RANDOM_CLAIM =
  'killed at a random moment: every acknowledged record is there, and nothing else that was not appended';
const CALL_CLAIM = 'killed before, after or within a system call: the same, whichever call it was, and in recovery too';
/** As many writers at a time as the reference machine has cores. */
const AT_ONCE = 2;

const quickRun = { randomKills: 32, everyNth: 12, calls: 36, modes: 1 };
const fullRun = { randomKills: 400, everyNth: 1, calls: 1000, modes: 3 };

type When = 'before' | 'after' | 'torn';

export async function prove(context: ProofContext): Promise<readonly Claim[]> {
  const { only } = context;
  const claims: Claim[] = [];
  if (only === undefined || only === 'random') claims.push(await atRandomMoments(context));
  if (only !== 'random') claims.push(await atEachCall(context));
  return [...claims, ...skipModes(missingModes, 'kills')];
}

async function atRandomMoments({ full, seed, only }: ProofContext): Promise<Claim> {
  const { randomKills } = full ? fullRun : quickRun;
  const violations: string[] = [];
  const sum = { kills: 0, acknowledged: 0, torn: 0, truncations: 0, closes: 0, rolled: 0, compressed: 0 };

  const chain = async (which: number): Promise<void> => {
    const random = seededRandom(seed + which);
    const retentionBytes = which === 1 ? 4 * smallLog.segmentBytes : 0;
    const witness = new Witness(smallLog, retentionBytes);
    const top = temporaryDirectory('spillway-kills-');
    const dir = join(top, 'log');
    try {
      for (let i = 0; i < randomKills / AT_ONCE && violations.length === 0; i++) {
        const run = i;
        const io = workingModes[(i + which) % workingModes.length];
        // One log of plain and of compressed batches.
        const codec = i % 2 === 0 ? 'none' : 'gzip';
        const task: WriterTask = { dir, io, run, threads: random() < 0.5 ? 1 : 2, retentionBytes, codec };
        const moment = anyMoment(random, retentionBytes === 0);
        const told = await runWriter('kill-writer', [JSON.stringify(task)], {}, moment, kill);
        const found = judge(told, witness, run);
        if (existsSync(dir)) sum.compressed += compressedIn(dir);
        if (found.length === 0) {
          const reopenedIn = workingModes[Math.floor(random() * workingModes.length)];
          const checked = await witness.check(dir, reopenedIn, random() < 0.5);
          found.push(...checked.violations);
          if (checked.tornBytes > 0) sum.torn++;
          if (checked.segments > 1) sum.rolled++;
        }
        sum.kills++;
        const where = `directory ${which}, kill ${i} (${io}, ${codec}, ${momentText(moment)})`;
        violations.push(...found.map((v) => `${where}: ${v}; ${repeatCommand('kills', seed, 'random')}`));
      }
      sum.acknowledged += witness.acknowledged;
      sum.truncations += witness.truncations;
      sum.closes += witness.closes;
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, which) => chain(which)));
  // What a life is meant to go through, it must have gone through.
  if (violations.length === 0 && Math.min(sum.truncations, sum.closes, sum.rolled, sum.compressed) === 0) {
    const { truncations, closes, rolled, compressed } = sum;
    violations.push(
      `${truncations} truncations, ${closes} closes, ${rolled} rolls, ${compressed} compressed: expected each`,
    );
  }
  return {
    claim: RANDOM_CLAIM,
    tried: sum.kills,
    unit: 'kills',
    atLeast: only === undefined ? randomKills : 1,
    violations,
    figures: {
      'acknowledged records': sum.acknowledged,
      'torn tails cut': sum.torn,
      truncations: sum.truncations,
      closes: sum.closes,
      'recovered with several segments': sum.rolled,
      'compressed batches found': sum.compressed,
      modes: workingModes.join(' '),
    },
  };
}

async function atEachCall({ full, seed, only }: ProofContext): Promise<Claim> {
  const modes = workingModes.filter((mode) => mode !== 'js');
  if (modes.length === 0) return skip(CALL_CLAIM, 'kills', 'the native addon does not load here');
  const why = cannotBuild();
  if (why !== undefined) return skip(CALL_CLAIM, 'kills', why);
  const plan = full ? fullRun : quickRun;
  const script = new Script(buildAddon({ defines: ['SPILLWAY_TEST_HOOKS'] }), seed);
  const cases: { mode: IoMode; n: number; when: When }[] = [];
  if (only !== undefined) {
    const [mode, n, when] = only.split(':');
    await script.learn(mode as IoMode);
    cases.push({ mode: mode as IoMode, n: Number(n), when: when as When });
  } else {
    for (const mode of modes.slice(0, plan.modes)) {
      const calls = await script.learn(mode);
      for (let n = 1 + (seed % plan.everyNth); n <= calls; n += plan.everyNth) {
        // `torn` is drawn for second kills: it is the same as `after` for all calls but writes.
        const both = (['before', 'after'] as const).map((when) => ({ mode, n, when }));
        cases.push(...(full ? both : [both[cases.length % 2]]));
      }
    }
  }
  const planned = new Set(cases.map(({ mode, n }) => `${mode}:${n}`)).size;
  const worker = async (): Promise<void> => {
    // In full a second kill follows every fourth of the first ones: enough of them, and the run stays under 15 minutes.
    for (let c = cases.shift(); c !== undefined; c = cases.shift())
      await script.kill(c.mode, c.n, c.when, !full || (c.when === 'before' && c.n % 2 === 0));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (script.violations.length === 0 && script.killedAt.size !== planned)
    script.violations.push(`killed at ${script.killedAt.size} calls, expected ${planned}: lives were over before`);
  const calls = [...script.calls].map(([mode, n]) => `${mode} ${n}`).join(', ');
  return {
    claim: CALL_CLAIM,
    tried: script.kills,
    unit: 'kills',
    atLeast: only === undefined ? plan.calls : 1,
    violations: script.violations,
    figures: {
      'calls of a life': calls,
      'different calls killed at': script.killedAt.size,
      'torn tails cut': script.torn,
      'acknowledged records': script.acknowledged,
    },
  };
}

/** Short lives in directories of their own, killed at a named call. */
class Script {
  readonly violations: string[] = [];
  readonly killedAt = new Set<string>();
  /** Calls of an undisturbed life, by mode. */
  readonly calls = new Map<IoMode, number>();
  kills = 0;
  torn = 0;
  acknowledged = 0;
  readonly #prebuild: string;
  readonly #seed: number;

  constructor(prebuild: string, seed: number) {
    this.#prebuild = prebuild;
    this.#seed = seed;
  }

  /** Lives once without a kill. @returns the calls of a life */
  async learn(mode: IoMode): Promise<number> {
    const top = temporaryDirectory('spillway-kills-');
    try {
      const told = await this.#live(join(top, 'log'), mode, 0, 'never');
      const calls = callsTold(told);
      if (calls === undefined)
        this.violations.push(`${mode}: without a kill the life ended with '${told.lines.at(-1)}'`);
      this.calls.set(mode, calls ?? 0);
      return calls ?? 0;
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  }

  /** One kill at this call of a first life; if `twice`, another at a drawn call of the second. */
  async kill(mode: IoMode, n: number, when: When, twice: boolean): Promise<void> {
    const name = `${mode}:${n}:${when}`;
    const again = repeatCommand('kills', this.#seed, name);
    const random = seededRandom(this.#seed + 1000 * n + 10 * mode.length + when.length);
    const secondN = 1 + Math.floor(random() * this.calls.get(mode)!);
    const secondWhen = (['before', 'after', 'torn'] as const)[Math.floor(random() * 3)];
    const onCopy = random() < 0.5;
    const top = temporaryDirectory('spillway-kills-');
    const dir = join(top, 'log');
    const witness = new Witness(scriptLog);
    const say = (v: string): number => this.violations.push(`${name}: ${v}; ${again}`);
    try {
      if (await this.#killOne(dir, mode, witness, 0, n, when, onCopy, say)) this.killedAt.add(`${mode}:${n}`);
      if (twice)
        await this.#killOne(dir, mode, witness, 1, secondN, secondWhen, false, (v) =>
          say(`then ${secondN}:${secondWhen}: ${v}`),
        );
      this.acknowledged += witness.acknowledged;
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  }

  async #killOne(
    dir: string,
    mode: IoMode,
    witness: Witness,
    run: number,
    n: number,
    when: When,
    onCopy: boolean,
    say: (violation: string) => void,
  ): Promise<boolean> {
    const told = await this.#live(dir, mode, run, `${n}:${when}`);
    const calls = callsTold(told);
    // Batches close by time too, so that a life may be some calls shorter: then it was over before.
    const over = calls !== undefined && calls < n;
    const found = over ? witness.hear(run, told.lines) : judge(told, witness, run);
    if (!over) this.kills++;
    if (found.length === 0) {
      const checked = await witness.check(dir, mode, onCopy);
      found.push(...checked.violations);
      if (checked.tornBytes > 0) this.torn++;
    }
    found.forEach(say);
    return !over;
  }

  #live(dir: string, mode: IoMode, run: number, killAt: string): Promise<Told> {
    const env = { SPILLWAY_PREBUILD: this.#prebuild, SPILLWAY_TEST_KILL_AT: killAt };
    return runWriter('kill-script', [dir, mode, String(run)], env, undefined, kill);
  }
}

function kill(pid: number): void {
  process.kill(pid, 'SIGKILL');
}

/** Undefined for a life that did not end as it should. */
function callsTold({ lines }: Told): number | undefined {
  const last = lines.at(-1) ?? '';
  return last.startsWith('z ') ? Number(last.slice(2)) : undefined;
}

/** Hears what a writer told; it must have died by the kill and by nothing else. */
function judge(told: Told, witness: Witness, run: number): string[] {
  const violations = witness.hear(run, told.lines);
  if (told.hung) violations.push(`the writer hung, last '${told.lines.at(-1)}'`);
  else if (told.signal !== 'SIGKILL')
    violations.push(`the writer was not killed: code ${told.code}, signal ${told.signal}, last '${told.lines.at(-1)}'`);
  return violations;
}
