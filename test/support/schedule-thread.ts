// What is known of one played thread: where it stands, what it waits for, and what it takes to bring it back there. How
// it is played: schedule-run.ts.

/** One letter per thread, the commit loop first. */
export const threadNames = 'cpqrs';

export interface Waiting {
  readonly word: number;
  readonly timeoutMs: number;
}

export type Woken = 'ok' | 'timed-out';

export interface Thread {
  readonly id: number;
  readonly code: () => void;
  waiting: Waiting | undefined;
  woken: Woken;
  done: boolean;
  /** Over its operations and their results, one word after the other. */
  hashA: number;
  hashB: number;
  /** State at its last point, to leave out a second one with nothing in between. */
  lastKey: number;
  // The rest is for resuming threads other than 0.
  started: boolean;
  /** Points behind it, and how many of them the present run of its code has come to. */
  passed: number;
  at: number;
  /** Points at which it was resumed, with the memory of that moment. */
  readonly stretches: { readonly from: number; readonly memory: Int32Array }[];
  stretch: number;
  /** What it was woken by, by point. */
  readonly wokenAt: Map<number, Woken>;
  /** The memory to go on with, while it is brought back to where it stopped. */
  resumeWith: Int32Array | undefined;
  againA: number;
  againB: number;
}

export function newThread(id: number, code: () => void): Thread {
  return {
    id,
    code,
    waiting: undefined,
    woken: 'ok',
    done: false,
    hashA: 0,
    hashB: 0,
    lastKey: -1,
    started: false,
    passed: 0,
    at: 0,
    stretches: [],
    stretch: 0,
    wokenAt: new Map(),
    resumeWith: undefined,
    againA: 0,
    againB: 0,
  };
}

export function canRun(thread: Thread): boolean {
  return !thread.done && thread.waiting === undefined;
}

/** True while a thread does again what it did. */
export function behind(thread: Thread): boolean {
  return thread.resumeWith !== undefined;
}

export function mix(thread: Thread, what: number, value: number): void {
  thread.hashA = Math.imul(Math.imul(thread.hashA ^ what, 0x9e3779b1) ^ value ^ (thread.hashA >>> 15), 0x2c1b3c6d) + 1;
  thread.hashB = Math.imul(Math.imul(thread.hashB ^ value, 0x85ebca6b) ^ what ^ (thread.hashB >>> 13), 0x297a2d39) + 1;
}
