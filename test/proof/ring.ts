// The ring and the commit loop under every order of their steps: bounded exhaustive exploration of the real code after
// CHESS (Musuvathi & Qadeer, PLDI 2007). How a schedule is played: test/support/schedule-run.ts; how all are gone
// through: schedule-explore.ts; who does what: schedule-scenarios.ts.
//
// After and during each schedule: records come out whole, once, in order, none before it was published; acknowledgements
// come once, in order, for what is durable; everything published is drained and acknowledged; and nobody waits for a
// wake-up that never comes: once no thread can run, only the linger of a window that is not full, or the loop's own
// polls (BUSY_LANE_POLL_MS and below), may be what ends a wait.
//
// Not shown here: more preemptions or more records than stated; memory orders weaker than JavaScript's Atomics have;
// the asynchronous waits of src/pipeline/lane.ts, in whose place callers wait by the same rule and block; the log, in whose
// place a list in memory stands. Deterministic; the seed decides nothing.

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { choicesOf, PROGRESS_WORDS, type Explored } from '../support/schedule-explore.ts';
import { scenarios, type Group, type Scenario } from '../support/schedule-scenarios.ts';
import type { ScheduleTask, ScheduleWorkerData } from '../support/schedule-worker.ts';
import { repeatCommand, VIOLATIONS_SHOWN, type Claim, type ProofContext } from './proof.ts';

/** A schedule takes a millisecond: after this long without a new one, code goes round without an atomic operation. */
const STUCK_MS = 30_000;
const LOOK_MS = 1000;
const WORKERS = 2;

const claims: Record<Group, string> = {
  records: 'records come out of a lane whole, once, in order, and a full lane takes the next as soon as there is room',
  'wake-ups': 'no wake-up is lost, of the commit loop (idle or lingering), of a producer or of a reader',
  acknowledgements: 'acknowledgements come once, in order, only for what is durable, and overwrite none that is unread',
  endings: 'flush, retiring a lane, close and a failing disk leave nobody waiting and nothing unanswered',
};
const groups = Object.keys(claims) as Group[];

/** Schedules per claim, quick and full: about 60 % of what there are, so that a small change of the code may stay. */
const atLeast: Record<Group, readonly [quick: number, full: number]> = {
  records: [8000, 120_000],
  'wake-ups': [5000, 75_000],
  acknowledgements: [3000, 30_000],
  endings: [6000, 80_000],
};

class Explorer {
  readonly #found = new Map<string, Explored>();
  readonly #queue: ScheduleTask[];
  #violations = 0;

  constructor(tasks: readonly ScheduleTask[]) {
    this.#queue = [...tasks];
  }

  async run(): Promise<ReadonlyMap<string, Explored>> {
    const threads = Math.min(WORKERS, availableParallelism(), this.#queue.length);
    await Promise.all(Array.from({ length: threads }, () => this.#work()));
    return this.#found;
  }

  /**
   * Works off the queue on one thread. Where that is stuck or dies, the scenarios that are left are given up: each might do
   * the same.
   */
  async #work(): Promise<void> {
    const progress = new Int32Array(new SharedArrayBuffer(PROGRESS_WORDS * 4));
    const worker = new Worker(new URL('../support/schedule-worker.js', import.meta.url), {
      workerData: { progress: progress.buffer as SharedArrayBuffer } satisfies ScheduleWorkerData,
      execArgv: [],
    });
    try {
      for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
        progress.fill(0);
        const explored = await ask(worker, task, progress);
        const outcome = typeof explored === 'string' ? lost(task, progress, explored) : explored;
        this.#violations += outcome.violations.length;
        if (typeof explored === 'string' || this.#violations >= VIOLATIONS_SHOWN) this.#queue.length = 0;
        this.#found.set(task.scenario, outcome);
      }
    } finally {
      await worker.terminate();
    }
  }
}

/** Lets the worker explore one scenario. A text says why it did not. */
function ask(worker: Worker, task: ScheduleTask, progress: Int32Array): Promise<Explored | string> {
  return new Promise((resolve) => {
    let seen = -1;
    let since = performance.now();
    const look = setInterval(() => {
      if (progress[0] !== seen) {
        seen = progress[0];
        since = performance.now();
      } else if (performance.now() - since > STUCK_MS) end(`did not come back within ${STUCK_MS} ms`);
    }, LOOK_MS);
    const answered = (explored: Explored): void => end(explored);
    const failed = (error: Error): void => end(`ended with ${error.stack ?? error.message}`);
    const exited = (code: number): void => end(`ended with code ${code}`);
    const end = (result: Explored | string): void => {
      clearInterval(look);
      worker.off('message', answered).off('error', failed).off('exit', exited);
      resolve(result);
    };
    worker.on('message', answered).on('error', failed).on('exit', exited);
    worker.postMessage(task);
  });
}

function lost(task: ScheduleTask, progress: Int32Array, what: string): Explored {
  return {
    scenario: task.scenario,
    preemptions: task.preemptions,
    schedules: progress[0],
    cut: 0,
    states: 0,
    longest: 0,
    timers: 0,
    violations: [{ schedule: choicesOf(progress), what }],
  };
}

/** `wrap` tries one scenario, `wrap:17p.42c` one schedule of it; `wrap:` is the schedule without any choice. */
function tasksFor({ full, only }: ProofContext): ScheduleTask[] {
  const [name, choices] = only?.split(':') ?? [];
  const chosen = scenarios.filter((s) => name === undefined || s.name === name);
  if (chosen.length === 0)
    throw new Error(`--only ${only}: expected one of ${scenarios.map((s) => s.name).join(', ')}`);
  return chosen.map((s) => ({ scenario: s.name, preemptions: s.preemptions[full ? 1 : 0], only: choices }));
}

function boundsOf(of: readonly Scenario[], mode: 0 | 1): string {
  const threads = [...new Set(of.map((s) => s.threads.length + 1))].sort((a, b) => a - b);
  return threads
    .map((n) => {
      const bound = Math.min(...of.filter((s) => s.threads.length + 1 === n).map((s) => s.preemptions[mode]));
      return `${bound} preemption${bound === 1 ? '' : 's'} of ${n} threads`;
    })
    .join(' or ');
}

export async function prove(context: ProofContext): Promise<Claim[]> {
  const mode = context.full ? 1 : 0;
  const tasks = tasksFor(context);
  const found = await new Explorer(tasks).run();
  const table: Claim[] = [];
  for (const group of groups) {
    const of = scenarios.filter((s) => s.group === group && found.has(s.name));
    if (of.length === 0) continue;
    const explored = of.map((s) => found.get(s.name)!);
    const sum = (figure: (e: Explored) => number): number => explored.reduce((total, e) => total + figure(e), 0);
    table.push({
      claim: `${claims[group]}: ${of.map((s) => s.name).join(', ')}, in every schedule with at most ${boundsOf(of, mode)}`,
      tried: sum((e) => e.schedules),
      unit: 'schedules',
      atLeast: context.only === undefined ? atLeast[group][mode] : 1,
      violations: explored.flatMap((e) =>
        e.violations.map(
          ({ schedule, what }) =>
            `${e.scenario}: ${what}; ${repeatCommand('ring', context.seed, `${e.scenario}:${schedule}`)}`,
        ),
      ),
      figures: {
        'ended early in a known state': sum((e) => e.cut),
        'states told apart': sum((e) => e.states),
        'schedules in which a timer was needed': sum((e) => e.timers),
      },
      rows:
        explored[0].trace?.map((row) => ({ ...row })) ??
        explored.map(({ scenario, preemptions, schedules, cut, states, longest }) => ({
          scenario,
          preemptions,
          schedules,
          cut,
          states,
          longest,
        })),
    });
  }
  return table;
}
