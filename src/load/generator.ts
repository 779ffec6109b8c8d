// The open-loop generator: a request is due at its intended time, whatever the target does, and its latency counts from then
// (no coordinated omission: a slow target is charged for all who would have waited).
//
// A request that is due goes out as soon as one may: at most `maxUnderWay` are under way, further ones stay due, and cost
// nothing until their turn. Of the time by which a request goes out late, the part since a place was free is the generator's
// own doing (`ownLag`), the rest the target's: so the report can tell who was the limit.
//
// Bounded: it offers until `endMs`, then waits at most `graceMs` for what is under way. Memory: what is under way.

import { Histogram } from '../platform/histogram.ts';
import type { Arrivals } from './arrivals.ts';

/** Where requests go. */
export interface Target {
  /** Requests under way at the same time. */
  readonly maxUnderWay: number;
  /** Sends one request; resolves with the records that were accepted. What it rejects with has a `code`. */
  send(): Promise<number>;
  /** Ends what is under way. */
  close(): Promise<void>;
}

/** Time as an argument: a test has its own. */
export interface Timer {
  nowMs(): number;
  /** Calls back not before `ms` have passed; what it gives cancels that. */
  after(ms: number, callback: () => void): () => void;
  /** Gives what tells the share of the time since then, 0 … 1, that the event loop was busy. */
  busy(): () => number;
}

const systemTimer: Timer = {
  nowMs: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  busy: () => {
    const before = performance.eventLoopUtilization();
    return () => performance.eventLoopUtilization(before).utilization;
  },
};

export interface Plan {
  readonly arrivals: Arrivals;
  /** The arrivals are all before it. */
  readonly endMs: number;
  /** What is under way at the end may take so long. */
  readonly graceMs: number;
}

export interface Tally {
  /** Requests. */
  sent: number;
  accepted: number;
  acceptedRecords: number;
  /** Requests by the code of what they were refused with, or failed with. */
  readonly refused: Map<string, number>;
  /** Due before the end, and never sent. */
  unsent: number;
  /** Sent, and without an answer when the grace was over. */
  unanswered: number;
  /** How long requests were offered, and until the last answer came. */
  offeredMs: number;
  answeredMs: number;
  /** Of accepted requests, in µs from the intended time. */
  readonly latencyUs: Histogram;
  /** The same of all but refused ones: what never was accepted counts with the time it had waited by the end. */
  readonly offeredLatencyUs: Histogram;
  /** From the intended time to the sending, in µs: all of it, and the generator's own part. */
  readonly lateUs: Histogram;
  readonly ownLagUs: Histogram;
  /** From the sending to the answer, in µs, of all that were answered, refused ones too: how long the target held them. */
  readonly heldUs: Histogram;
  /** Share of the time that the event loop was busy while requests were offered. */
  busy: number;
  interrupted: boolean;
}

/** Distinct codes that are counted one by one. */
const MAX_CODES = 64;
/** Longest sleep: a stop and a clock that stands still show within it. */
const MAX_SLEEP_MS = 100;

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'ERROR';
}

class Run {
  readonly tally: Tally = {
    sent: 0,
    accepted: 0,
    acceptedRecords: 0,
    refused: new Map(),
    unsent: 0,
    unanswered: 0,
    offeredMs: 0,
    answeredMs: 0,
    latencyUs: new Histogram(),
    offeredLatencyUs: new Histogram(),
    lateUs: new Histogram(),
    ownLagUs: new Histogram(),
    heldUs: new Histogram(),
    busy: 0,
    interrupted: false,
  };
  readonly #target: Target;
  readonly #plan: Plan;
  readonly #timer: Timer;
  readonly #startMs: number;
  readonly #busy: () => number;
  readonly #underWay = new Set<{ readonly intendedMs: number }>();
  #next: number | undefined;
  /** Since when there has been a place for one more under way. */
  #freeSinceMs = 0;
  #offering = true;
  #done = false;
  #armed: (() => void) | undefined;
  #finish: () => void = () => undefined;

  constructor(target: Target, plan: Plan, timer: Timer) {
    this.#target = target;
    this.#plan = plan;
    this.#timer = timer;
    this.#startMs = timer.nowMs();
    this.#busy = timer.busy();
    this.#next = plan.arrivals();
  }

  whole(): Promise<void> {
    return new Promise((resolve) => {
      this.#finish = resolve;
      this.pump();
    });
  }

  /** Stops offering. */
  interrupt(): void {
    if (!this.#offering) return;
    this.tally.interrupted = true;
    this.#endOffering(this.#nowMs());
  }

  /** Sends whatever is due and has a place; then sleeps until the next is due. */
  pump(): void {
    while (this.#offering) {
      const nowMs = this.#nowMs();
      const atEnd = nowMs >= this.#plan.endMs;
      const hasPlace = this.#underWay.size < this.#target.maxUnderWay;
      if (hasPlace && this.#next !== undefined && this.#next <= nowMs) {
        this.#send(this.#next, nowMs);
        this.#next = this.#plan.arrivals();
      } else if (atEnd) {
        return this.#endOffering(this.#plan.endMs);
      } else {
        // Without a place an answer wakes this up; the end does in any case.
        const untilMs = hasPlace ? Math.min(this.#next ?? Infinity, this.#plan.endMs) : this.#plan.endMs;
        return this.#sleep(untilMs - nowMs);
      }
    }
  }

  #nowMs(): number {
    return this.#timer.nowMs() - this.#startMs;
  }

  #sleep(ms: number): void {
    this.#armed?.();
    this.#armed = this.#timer.after(Math.min(ms, MAX_SLEEP_MS), () => {
      this.#armed = undefined;
      this.pump();
    });
  }

  #send(intendedMs: number, nowMs: number): void {
    const { tally } = this;
    tally.sent++;
    tally.lateUs.record((nowMs - intendedMs) * 1000);
    tally.ownLagUs.record((nowMs - Math.max(intendedMs, this.#freeSinceMs)) * 1000);
    const request = { intendedMs };
    this.#underWay.add(request);
    const settled = (): number => {
      const atMs = this.#nowMs();
      if (this.#underWay.size === this.#target.maxUnderWay) this.#freeSinceMs = atMs;
      this.#underWay.delete(request);
      tally.answeredMs = atMs;
      tally.heldUs.record((atMs - nowMs) * 1000);
      return (atMs - intendedMs) * 1000;
    };
    this.#target.send().then(
      (records) => {
        if (this.#done) return;
        const latencyUs = settled();
        tally.accepted++;
        tally.acceptedRecords += records;
        tally.latencyUs.record(latencyUs);
        tally.offeredLatencyUs.record(latencyUs);
        this.#answered();
      },
      (error: unknown) => {
        if (this.#done) return;
        settled();
        const code = codeOf(error);
        const { refused } = tally;
        const name = refused.has(code) || refused.size < MAX_CODES ? code : 'OTHER';
        refused.set(name, (refused.get(name) ?? 0) + 1);
        this.#answered();
      },
    );
  }

  /** What an answer allows. */
  #answered(): void {
    if (this.#offering) this.pump();
    else if (this.#underWay.size === 0) this.#end();
  }

  #endOffering(atMs: number): void {
    const { tally } = this;
    this.#offering = false;
    this.#armed?.();
    tally.offeredMs = atMs;
    tally.busy = this.#busy();
    while (this.#next !== undefined && this.#next < atMs) {
      tally.unsent++;
      tally.offeredLatencyUs.record((atMs - this.#next) * 1000);
      this.#next = this.#plan.arrivals();
    }
    if (this.#underWay.size === 0) return this.#end();
    this.#armed = this.#timer.after(this.#plan.graceMs, () => this.#end());
  }

  #end(): void {
    if (this.#done) return;
    this.#done = true;
    this.#armed?.();
    const nowMs = this.#nowMs();
    this.tally.unanswered = this.#underWay.size;
    for (const { intendedMs } of this.#underWay) this.tally.offeredLatencyUs.record((nowMs - intendedMs) * 1000);
    this.#finish();
  }
}

/** Offers the plan to the target. @param signal stops offering early */
export async function offer(
  target: Target,
  plan: Plan,
  timer: Timer = systemTimer,
  signal?: AbortSignal,
): Promise<Tally> {
  const run = new Run(target, plan, timer);
  const stop = (): void => run.interrupt();
  signal?.addEventListener('abort', stop);
  try {
    await run.whole();
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  return run.tally;
}
