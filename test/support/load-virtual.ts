// Time that passes only when nothing else is left to do, and a target whose answers take what the test says.

import type { Target, Timer } from '../../src/load/generator.ts';

const MAX_STEPS = 2_000_000;

interface Event {
  readonly atMs: number;
  readonly callback: () => void;
  dead: boolean;
}

export class VirtualTimer implements Timer {
  #nowMs = 1_000_000;
  #queue: Event[] = [];
  busyShare = 0;
  /** Extra delay of callbacks that were to come between `fromMs` and `toMs` after the start: a blocked event loop. */
  blocked: { readonly fromMs: number; readonly toMs: number } | undefined;

  nowMs(): number {
    return this.#nowMs;
  }

  get elapsedMs(): number {
    return this.#nowMs - 1_000_000;
  }

  after(ms: number, callback: () => void): () => void {
    // A span that rounding loses would never end.
    const event = { atMs: this.#nowMs + Math.max(1e-6, ms), callback, dead: false };
    this.#queue.push(event);
    return () => {
      event.dead = true;
    };
  }

  busy(): () => number {
    return () => this.busyShare;
  }

  /** Lets time pass until the promise settles. */
  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const watched = promise.finally(() => (settled = true));
    watched.catch(() => undefined);
    for (let step = 0; step < MAX_STEPS; step++) {
      // Promise jobs: what an answer sets off needs a few turns of them.
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      if (settled) return watched;
      if (step % 64 === 0) this.#queue = this.#queue.filter((event) => !event.dead);
      let first: Event | undefined;
      for (const event of this.#queue) if (!event.dead && event.atMs < (first?.atMs ?? Infinity)) first = event;
      if (first === undefined) throw new Error('nothing left that could happen');
      first.dead = true;
      this.#nowMs = Math.max(this.#nowMs, first.atMs);
      const { blocked } = this;
      if (blocked !== undefined && this.elapsedMs >= blocked.fromMs && this.elapsedMs < blocked.toMs) {
        this.#nowMs = 1_000_000 + blocked.toMs;
      }
      first.callback();
    }
    throw new Error('more steps than a test should need');
  }
}

export class VirtualTarget implements Target {
  readonly maxUnderWay: number;
  readonly #timer: VirtualTimer;
  readonly #answer: (n: number) => number | Error | undefined;
  sent = 0;
  underWay = 0;
  mostUnderWay = 0;
  readonly sentAtMs: number[] = [];

  /** @param answer of the n-th request: ms until it is accepted, an error 1 ms later, undefined for never */
  constructor(timer: VirtualTimer, maxUnderWay: number, answer: (n: number) => number | Error | undefined) {
    this.#timer = timer;
    this.maxUnderWay = maxUnderWay;
    this.#answer = answer;
  }

  send(): Promise<number> {
    const answer = this.#answer(this.sent++);
    this.sentAtMs.push(this.#timer.elapsedMs);
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    return new Promise((resolve, reject) => {
      if (answer === undefined) return;
      this.#timer.after(typeof answer === 'number' ? answer : 1, () => {
        this.underWay--;
        if (typeof answer === 'number') resolve(1);
        else reject(answer);
      });
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
