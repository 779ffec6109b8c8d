// Tries every schedule of a scenario with at most so many preemptions, depth first: CHESS (M. Musuvathi, S. Qadeer,
// "Iterative context bounding for systematic testing of multithreaded programs", PLDI 2007). A switch where the running
// thread can no longer go on is free; every other one is a preemption, and most bugs need one or two.
//
// A schedule ends early where it comes to a state that an earlier one has been in with at least as many preemptions left:
// what follows has been tried. A state is the memory, and per thread all it has done and read; 53 bits of a hash stand for
// it, so that a wrong match is one in ten thousand runs of a million states. Without this rule, which saves little, the quick
// run meets the very same states.
//
// A schedule is written as its choices against the rule "go on with whoever runs; else the first who can":
// `sleep:17p.42c` switches to thread p at step 17 and to c, the commit loop, at step 42.

import type { Reply } from '../../src/pipeline/commit-loop.ts';
import { post, runLoop } from './schedule-actors.ts';
import { watchAtomics, type Watcher } from './schedule-atomics.ts';
import { Conflicts } from './schedule-conflicts.ts';
import { World } from './schedule-memory.ts';
import { CUT, Schedule, type Chooser, type Decision, type TraceRow } from './schedule-run.ts';
import { atEnd, PATIENCE_MS, type Scenario } from './schedule-scenarios.ts';
import { threadNames } from './schedule-thread.ts';

/** Violations that are told; where there is one, the others are mostly its relatives. */
const TOLD = 5;

export interface Explored {
  readonly scenario: string;
  readonly preemptions: number;
  /** Distinct schedules that were run. */
  readonly schedules: number;
  /** Of these, those that ended in a state that was known. */
  readonly cut: number;
  readonly states: number;
  readonly longest: number;
  /** Schedules in which time had to pass for anybody to go on. */
  readonly timers: number;
  readonly violations: readonly { readonly schedule: string; readonly what: string }[];
  readonly trace?: readonly TraceRow[];
}

interface Node {
  readonly decision: Decision;
  /** Options that the budget allows. */
  readonly allowed: number;
  taken: number;
}

/** Goes through all schedules, one `run` after the other. */
class DepthFirst implements Chooser {
  readonly everywhere = false;
  readonly #bound: number;
  readonly #nodes: Node[] = [];
  readonly #seen = new Map<number, number>();
  #depth = 0;
  #left: number;

  constructor(bound: number) {
    this.#bound = bound;
    this.#left = bound;
  }

  get states(): number {
    return this.#seen.size;
  }

  get open(): boolean {
    return this.#left > 0;
  }

  choose(decision: Decision, key: () => number): number {
    if (this.#depth < this.#nodes.length) {
      const node = this.#nodes[this.#depth++];
      if (node.decision.step !== decision.step || node.decision.options.join() !== decision.options.join())
        throw new Error(`a schedule went another way at step ${decision.step}`);
      if (node.taken >= decision.free) this.#left--;
      return decision.options[node.taken];
    }
    const state = key();
    const before = this.#seen.get(state);
    if (before !== undefined && before >= this.#left) return CUT;
    this.#seen.set(state, this.#left);
    const allowed = this.#left > 0 ? decision.options.length : decision.free;
    this.#nodes.push({ decision, allowed, taken: 0 });
    this.#depth++;
    return decision.options[0];
  }

  /** The choices of the schedule that was run last. */
  get choices(): string {
    return this.#nodes
      .filter((n) => n.taken > 0)
      .map((n) => `${n.decision.step}${threadNames[n.decision.options[n.taken]]}`)
      .join('.');
  }

  /** The same for a reader in another thread. */
  tell(progress: Int32Array): void {
    let told = 0;
    for (const { decision, taken } of this.#nodes) {
      if (taken === 0 || 3 + told * 2 >= progress.length) continue;
      progress[2 + told * 2] = decision.step;
      progress[3 + told * 2] = decision.options[taken];
      told++;
    }
    progress[1] = told;
    progress[0]++;
  }

  /** Goes on to the next schedule; false when there is none. */
  advance(): boolean {
    this.#depth = 0;
    this.#left = this.#bound;
    for (let last = this.#nodes.at(-1); last !== undefined; last = this.#nodes.at(-1)) {
      if (++last.taken < last.allowed) return true;
      this.#nodes.pop();
    }
    return false;
  }
}

/** Words that tell what is being tried: schedules so far, choices of this one, then (step, thread) of each choice. */
export const PROGRESS_WORDS = 64;

export function choicesOf(progress: Int32Array): string {
  return Array.from(
    { length: progress[1] },
    (_, i) => `${progress[2 + i * 2]}${threadNames[progress[3 + i * 2]]}`,
  ).join('.');
}

/** One schedule, as it was printed. */
class Given implements Chooser {
  readonly open = true;
  readonly everywhere = true;
  readonly #choices = new Map<number, number>();

  constructor(text: string) {
    for (const choice of text.split('.').filter((c) => c !== '')) {
      const thread = threadNames.indexOf(choice.slice(-1));
      if (!/^\d+[a-z]$/.test(choice) || thread < 0) throw new Error(`'${choice}': expected a step and a thread`);
      this.#choices.set(Number.parseInt(choice, 10), thread);
    }
  }

  choose(decision: Decision): number {
    const thread = this.#choices.get(decision.step);
    return thread !== undefined && decision.options.includes(thread) ? thread : decision.options[0];
  }
}

/** The schedule that Atomics of this thread belong to. */
let playing: Schedule | undefined;
const watcher: Watcher = {
  wordOf: (words, index) => playing?.wordOf(words, index) ?? -1,
  before: (word, how) => playing!.before(word, how),
  after: (word, how, value) => playing!.after(word, how, value),
  wait: (...args) => playing!.wait(...args),
  wake: (words, index) => playing?.wake(words, index) ?? 0,
};
let watching = false;

/**
 * @param only the choices of one schedule; undefined tries all
 * @param progress PROGRESS_WORDS words: told the choices before each schedule, so that one that is stuck can be named
 */
export function explore(
  scenario: Scenario,
  preemptions: number,
  only: string | undefined,
  progress: Int32Array,
): Explored {
  if (!watching) watchAtomics(watcher);
  watching = true;
  const world = new World(scenario.lanes, scenario.window);
  const conflicts = new Conflicts(world.buffers.length * 128);
  const replies: Reply[] = [];
  const violate = (message: string): never => schedule.violate(message);
  const atRest = (): string | undefined => {
    if (world.shared.words[world.shared.sleeping] === 0 && scenario.failsFrom === undefined)
      return 'the loop waits without SLEEPING';
    const problem = scenario.atRest?.(world);
    if (problem === undefined) post(world, 'close');
    return problem;
  };
  const schedule = new Schedule(
    {
      world,
      threads: [
        () => void replies.push(runLoop(world, violate, () => schedule.nowMs, scenario.failsFrom ?? Infinity)),
        ...scenario.threads.map((code) => () => code(world)),
      ],
      quiet: scenario.closes === true ? [] : [atRest],
      racingMs: scenario.racingMs ?? 0,
      patienceMs: PATIENCE_MS,
      lossy: scenario.closes === true || scenario.failsFrom !== undefined,
    },
    conflicts,
  );
  playing = schedule;
  /** Runs once; what came of it. */
  const play = (chooser: Chooser): string | undefined => {
    replies.length = 0;
    schedule.run(chooser);
    if (schedule.violation !== undefined || schedule.cut) return schedule.violation;
    if (replies.length !== 1) return 'the loop did not end';
    const [{ error }] = replies;
    if (scenario.failsFrom !== undefined)
      return error?.code === 'POISONED' ? undefined : 'a close after a failed write says that all is well';
    return error === undefined ? atEnd(scenario, world) : `the loop failed: ${error.message}`;
  };

  // A schedule that learns of a conflict makes it begin again: the last exploration, which counts, has learnt nothing.
  let found: Explored;
  do {
    const all = new DepthFirst(preemptions);
    const given = only === undefined ? undefined : new Given(only);
    const violations: { schedule: string; what: string }[] = [];
    let schedules = 0;
    let cut = 0;
    let longest = 0;
    let timers = 0;
    conflicts.adopt();
    if (given !== undefined) schedule.trace = [];
    do {
      all.tell(progress);
      const what = play(given ?? all);
      schedules++;
      if (schedule.cut) cut++;
      if (schedule.timers > 0) timers++;
      longest = Math.max(longest, schedule.steps);
      if (what !== undefined) violations.push({ schedule: only ?? all.choices, what });
    } while (!conflicts.news && violations.length < TOLD && given === undefined && all.advance());
    found = {
      scenario: scenario.name,
      preemptions,
      schedules,
      cut,
      states: all.states,
      longest,
      timers,
      violations,
      ...(schedule.trace === undefined ? {} : { trace: schedule.trace }),
    };
  } while (conflicts.news && found.violations.length < TOLD);
  playing = undefined;
  return found;
}
