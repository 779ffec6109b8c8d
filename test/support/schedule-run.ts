// One schedule: several threads' code played on one thread, switched at every atomic operation, exactly as told.
//
// Thread 0 (the commit loop) runs on the stack; another thread runs in a call from one of thread 0's points. It is put
// aside by an exception that unwinds it, and resumed by running it again from its beginning: before each stretch that it
// ran, the memory is put back to what it was then, so the code sees what it saw and does what it did; at the point where
// it stopped, the memory of now returns. That it did the same is checked by a hash over its operations and their results.
// So the code under test is the code that ships, unchanged, and a schedule costs a few dozen microseconds whatever the
// machine is doing: real threads that hand a token over take as many context switches instead.
//
// A point is before each atomic operation on a word that another thread touches too (one of both writing), and after each
// such write, so that plain stores on the wrong side of it show. Whether two operations conflict is learnt on the way
// (Conflicts): a schedule that learns something new makes the exploration begin again.
//
// Limits: sequential consistency, which is what JavaScript's Atomics promise; data that is not ordered by them is seen only
// as far as the points around them tell. Time passes only when nobody can run, or where a scenario lets timers race.

import { READ, WRITE, type Watcher } from './schedule-atomics.ts';
import type { World } from './schedule-memory.ts';

/** Leaves a thread's code. Whoever catches it on the way meets it again at its next atomic operation. */
class Unwind extends Error {}
const UNWIND = new Unwind('put aside');
/** No thread is left to run: the schedule ends. */
const END = -1;
export const CUT = -2;
/** More points than this, and the threads go round in circles. */
const MAX_STEPS = 20_000;

export interface Decision {
  /** Points met so far, by all threads. */
  readonly step: number;
  /** Threads that may go on; the first is what happens without a preemption. */
  readonly options: readonly number[];
  /** How many of `options` cost nothing. */
  readonly free: number;
}

export interface Chooser {
  /** True while a decision could be anything but its first option, or is wanted for another reason. */
  readonly open: boolean;
  /** Asked at every point, whether anything conflicts there or not. */
  readonly everywhere: boolean;
  /** A thread, or CUT to end this schedule. `key` names the state: equal keys have equal futures. */
  choose(decision: Decision, key: () => number): number;
}

/** Which words are read and written by which threads, as bits. */
export class Conflicts {
  #known = { readers: new Uint8Array(0), writers: new Uint8Array(0) };
  readonly #found: { readers: Uint8Array; writers: Uint8Array };
  news = true;

  constructor(words: number) {
    this.#found = { readers: new Uint8Array(words), writers: new Uint8Array(words) };
    this.adopt();
  }

  /** What has been learnt counts from now on. */
  adopt(): void {
    this.#known = { readers: this.#found.readers.slice(), writers: this.#found.writers.slice() };
    this.news = false;
  }

  learn(thread: number, word: number, how: number): void {
    const { readers, writers } = this.#found;
    const bits = how === READ ? readers : writers;
    if ((bits[word] & (1 << thread)) !== 0) return;
    bits[word] |= 1 << thread;
    this.news = true;
  }

  has(thread: number, word: number, how: number): boolean {
    const others = ~(1 << thread);
    const { readers, writers } = this.#known;
    return ((how === READ ? writers[word] : readers[word] | writers[word]) & others) !== 0;
  }
}

interface Waiting {
  readonly word: number;
  readonly timeoutMs: number;
}

type Woken = 'ok' | 'timed-out';

interface Thread {
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

export interface Play {
  readonly world: World;
  /** Code of each thread; the first is the commit loop's. */
  readonly threads: readonly (() => void)[];
  /** What happens each time nobody can run and nobody waits for a timer; a text is a violation. */
  readonly quiet: readonly (() => string | undefined)[];
  /** Waits at most this long may end at any moment, at the price of a preemption; longer ones never do. */
  readonly racingMs: number;
  /** Waits longer than this never end by themselves: what needs them to has lost a wake-up. */
  readonly patienceMs: number;
  /** Records may be left behind: the log is closed or fails in the midst of it. */
  readonly lossy: boolean;
}

export interface TraceRow {
  readonly step: number;
  readonly thread: string;
  readonly what: string;
}

export const threadNames = 'cpqrs';

export class Schedule implements Watcher {
  readonly #play: Play;
  readonly #world: World;
  readonly #conflicts: Conflicts;
  readonly #buffers: readonly SharedArrayBuffer[];
  readonly #hash = new Int32Array(2);
  readonly #pool: Int32Array[] = [];
  #pooled = 0;
  #threads: Thread[] = [];
  #running: Thread | undefined;
  #next = END;
  #ending = false;
  #chooser!: Chooser;
  #quietDone = 0;
  #switched = true;
  steps = 0;
  nowMs = 0;
  /** Timers that ended because nobody could run. */
  timers = 0;
  cut = false;
  violation: string | undefined;
  trace: TraceRow[] | undefined;

  constructor(play: Play, conflicts: Conflicts) {
    this.#play = play;
    this.#world = play.world;
    this.#conflicts = conflicts;
    this.#buffers = play.world.buffers;
  }

  /** The thread whose code runs: 0 is the commit loop. */
  get running(): number {
    return this.#running?.id ?? END;
  }

  /** Ends the schedule: something is not as it must be. */
  violate(message: string): never {
    this.violation ??= message;
    this.#ending = true;
    throw UNWIND;
  }

  run(chooser: Chooser): void {
    this.#chooser = chooser;
    this.#world.reset();
    this.#pooled = 0;
    this.#threads = this.#play.threads.map((code, id) => newThread(id, code));
    this.#running = undefined;
    this.#ending = false;
    this.#quietDone = 0;
    this.#switched = true;
    this.steps = 0;
    this.nowMs = 0;
    this.timers = 0;
    this.cut = false;
    this.violation = undefined;
    const host = this.#threads[0];
    this.#guard(() => {
      this.#others(this.#nextOf(), host);
      host.code();
      host.done = true;
      this.#running = undefined;
      this.#others(this.#nextOf(), host);
    }, host);
    this.#running = undefined;
  }

  wordOf(words: ArrayBufferView, index: number): number {
    if (this.#running === undefined || !(words instanceof Int32Array)) return -1;
    const buffer = this.#buffers.indexOf(words.buffer as SharedArrayBuffer);
    return buffer < 0 ? -1 : buffer * 128 + index;
  }

  before(word: number, how: number): void {
    const thread = this.#running!;
    this.#conflicts.learn(thread.id, word, how);
    this.#point(thread, this.#conflicts.has(thread.id, word, how));
  }

  after(word: number, how: number, value: number): void {
    const thread = this.#running!;
    mix(thread, (word << 2) | how, value);
    if (this.trace !== undefined && !behind(thread))
      this.#tell(thread, `${how === READ ? 'reads' : 'writes'} ${this.#world.nameOf(word)}: ${value}`);
    if (how === WRITE) this.#point(thread, this.#conflicts.has(thread.id, word, how));
  }

  wait(
    words: Int32Array,
    index: number,
    word: number,
    seen: number,
    timeoutMs: number,
  ): 'ok' | 'not-equal' | 'timed-out' {
    const thread = this.#running!;
    if (word < 0) throw new Error('waits for a word that is not of the scenario');
    this.before(word, READ);
    const value = words[index];
    mix(thread, (word << 2) | 3, value);
    if (value !== seen) {
      if (this.trace !== undefined && !behind(thread)) this.#tell(thread, `need not wait: ${value}, not ${seen}`);
      return 'not-equal';
    }
    if (timeoutMs === 0) return 'timed-out';
    return this.#block(thread, { word, timeoutMs });
  }

  wake(words: ArrayBufferView, index: number): number {
    if (this.#running !== undefined && behind(this.#running)) return 0;
    const word = this.#buffers.indexOf(words.buffer as SharedArrayBuffer) * 128 + index;
    let woken = 0;
    for (const thread of this.#threads) {
      if (thread.waiting?.word !== word) continue;
      thread.waiting = undefined;
      thread.woken = 'ok';
      woken++;
      if (this.trace !== undefined) this.#tell(this.#running, `wakes ${threadNames[thread.id]}`);
    }
    return woken;
  }

  #tell(thread: Thread | undefined, what: string): void {
    this.trace?.push({ step: this.steps, thread: thread === undefined ? '-' : threadNames[thread.id], what });
  }

  /** Runs code that ends by itself or is put aside; whatever else it throws is a violation. */
  #guard(code: () => void, thread: Thread): void {
    try {
      code();
    } catch (error) {
      if (error instanceof Unwind) return;
      this.violation ??= `thread ${threadNames[thread.id]} threw ${(error as Error).stack ?? String(error)}`;
      this.#ending = true;
    }
  }

  /** A place where another thread may go on. */
  #point(thread: Thread, conflict: boolean): void {
    if (this.#ending) throw UNWIND;
    if (thread.id !== 0 && thread.at < thread.passed) return this.#again(thread);
    if (thread.resumeWith !== undefined) return this.#arrive(thread);
    if (++this.steps > MAX_STEPS) this.violate(`does not end: ${MAX_STEPS} steps`);
    const next = conflict || this.#chooser.everywhere ? this.#preempt(thread) : thread.id;
    if (next !== thread.id) this.#leave(thread, next);
    thread.passed++;
    thread.at++;
  }

  /** Waits; returns once the thread has been woken and chosen. */
  #block(thread: Thread, waiting: Waiting): Woken {
    if (this.#ending) throw UNWIND;
    if (thread.id !== 0 && thread.at < thread.passed) {
      const woken = thread.wokenAt.get(thread.at)!;
      this.#again(thread);
      mix(thread, 1, woken === 'ok' ? 1 : 2);
      return woken;
    }
    if (thread.resumeWith === undefined) {
      this.steps++;
      thread.waiting = waiting;
      if (this.trace !== undefined)
        this.#tell(thread, `waits for ${this.#world.nameOf(waiting.word)}, ${waiting.timeoutMs} ms`);
      if (thread.id === 0) {
        this.#others(this.#nextOf(), thread);
        mix(thread, 1, thread.woken === 'ok' ? 1 : 2);
        return thread.woken;
      }
      this.#leave(thread, END);
    }
    thread.wokenAt.set(thread.at, thread.woken);
    this.#arrive(thread);
    mix(thread, 1, thread.woken === 'ok' ? 1 : 2);
    return thread.woken;
  }

  #leave(thread: Thread, next: number): void {
    if (thread.id === 0) return this.#others(next, thread);
    this.#next = next;
    throw UNWIND;
  }

  /** Runs the other threads until it is `host`'s turn. */
  #others(next: number, host: Thread): void {
    while (next > 0) {
      this.#running = this.#threads[next];
      next = this.#resume(this.#running);
      this.#running = undefined;
    }
    if (next === 0 && !this.#ending) {
      this.#running = host;
      this.#switched = true;
      return;
    }
    this.#ending = true;
    if (!host.done) this.#running = host;
    if (!host.done) throw UNWIND;
  }

  /** Brings a thread back to where it stopped and lets it go on. Returns who is next. */
  #resume(thread: Thread): number {
    const memory = this.#save();
    thread.at = 0;
    thread.stretch = 0;
    this.#switched = true;
    if (thread.started) {
      thread.resumeWith = memory;
      thread.againA = thread.hashA;
      thread.againB = thread.hashB;
      thread.hashA = 0;
      thread.hashB = 0;
      this.#world.restore(thread.stretches[0].memory);
    } else {
      thread.started = true;
      thread.stretches.push({ from: -1, memory });
    }
    this.#next = END;
    this.#guard(() => {
      thread.code();
      thread.done = true;
      this.#tell(thread, 'ends');
    }, thread);
    this.#running = undefined;
    if (thread.resumeWith !== undefined) {
      this.violation ??= `thread ${threadNames[thread.id]} did not do again what it did`;
      this.#ending = true;
    }
    if (this.#ending) return END;
    return thread.done || thread.waiting !== undefined ? this.#nextOf() : this.#next;
  }

  /** Passes a point a second time. */
  #again(thread: Thread): void {
    const next = thread.stretches[thread.stretch + 1];
    if (next?.from === thread.at) {
      thread.stretch++;
      this.#world.restore(next.memory);
    }
    thread.at++;
  }

  /** It is where it stopped: from here on it is new. */
  #arrive(thread: Thread): void {
    const memory = thread.resumeWith!;
    thread.resumeWith = undefined;
    if (thread.hashA !== thread.againA || thread.hashB !== thread.againB)
      this.violate(`thread ${threadNames[thread.id]} did something else the second time`);
    this.#world.restore(memory);
    thread.stretches.push({ from: thread.at, memory });
    thread.stretch++;
    thread.passed++;
    thread.at++;
  }

  /** Who goes on at a point that `thread` could pass. */
  #preempt(thread: Thread): number {
    if (!this.#chooser.open && !this.#switched) return thread.id;
    this.#switched = false;
    const options = [thread.id];
    for (const other of this.#threads) if (other !== thread && canRun(other)) options.push(other.id);
    this.#addRacing(options);
    if (options.length === 1) return thread.id;
    const key = this.#key(thread.id, false);
    if (key === thread.lastKey && !this.#chooser.everywhere) return thread.id;
    thread.lastKey = key;
    return this.#chosen({ step: this.steps, options, free: 1 }, key);
  }

  /** Who goes on where the last thread cannot. */
  #nextOf(): number {
    for (;;) {
      if (this.#ending) return END;
      const options = this.#threads.filter(canRun).map((t) => t.id);
      if (options.length > 0) {
        const free = options.length;
        this.#addRacing(options);
        this.steps++;
        if (options.length === 1) return options[0];
        return this.#chosen({ step: this.steps, options, free }, this.#key(END, true));
      }
      if (this.#threads.every((t) => t.done)) return END;
      const problem = this.#stuck();
      if (problem === undefined) continue;
      this.violation ??= problem;
      this.#ending = true;
    }
  }

  #addRacing(options: number[]): void {
    for (const thread of this.#threads)
      if (thread.waiting !== undefined && thread.waiting.timeoutMs <= this.#play.racingMs) options.push(thread.id);
  }

  #chosen(decision: Decision, key: number): number {
    const next = this.#chooser.choose(decision, () => key);
    if (next === CUT) {
      this.cut = true;
      this.#ending = true;
      return END;
    }
    const thread = this.#threads[next];
    if (thread.waiting !== undefined) this.#timeOut(thread);
    return next;
  }

  #timeOut(thread: Thread): void {
    this.nowMs += thread.waiting!.timeoutMs;
    this.#tell(thread, `its wait of ${thread.waiting!.timeoutMs} ms is over`);
    thread.waiting = undefined;
    thread.woken = 'timed-out';
  }

  /** Nobody can run: time passes, or somebody from outside does something. A text says why neither may be. */
  #stuck(): string | undefined {
    const { window } = this.#world;
    const left = this.#world.left;
    const timed = this.#threads
      .filter((t) => t.waiting !== undefined && t.waiting.timeoutMs <= this.#play.patienceMs)
      .sort((a, b) => a.waiting!.timeoutMs - b.waiting!.timeoutMs)[0];
    // A wait of 1 ms is the loop's poll; a longer one is the linger, which a full window must not sit out.
    const full = left.records >= window.maxRecords || left.bytes >= window.maxBytes;
    if (timed !== undefined && !(full && timed.waiting!.timeoutMs > 1)) {
      this.timers++;
      this.#timeOut(timed);
      return undefined;
    }
    const waits = this.#threads
      .filter((t) => t.waiting !== undefined)
      .map((t) => `${threadNames[t.id]} waits for ${this.#world.nameOf(t.waiting!.word)}`)
      .join(', ');
    const state = `${left.records} records published and not drained; ${waits}`;
    if (left.records > 0 && !this.#play.lossy) return `lost wake-up: ${state}`;
    if (this.#threads.some((t) => t.id !== 0 && !t.done)) return `lost wake-up: ${state}`;
    const act = this.#play.quiet[this.#quietDone++];
    if (act === undefined) return `nobody can run: ${state}`;
    this.#tell(undefined, 'all is quiet');
    return act();
  }

  #key(current: number, blocked: boolean): number {
    this.#world.hash(this.#hash);
    let [a, b] = this.#hash;
    const add = (word: number): void => {
      a = Math.imul(a ^ word ^ (a >>> 15), 0x9e3779b1);
      b = Math.imul(b ^ word ^ (b >>> 13), 0x85ebca6b) + 1;
    };
    for (const t of this.#threads) {
      add(t.hashA);
      add(t.hashB);
      add(t.done ? -1 : t.waiting === undefined ? -2 : t.waiting.word);
      add(t.woken === 'ok' ? 0 : 1);
    }
    add(current);
    add(blocked ? 1 : 0);
    add(Math.round(this.nowMs));
    add(this.#quietDone);
    a ^= a >>> 15;
    b ^= b >>> 13;
    return (a >>> 0) * 2 ** 21 + (b & 0x1fffff);
  }

  #save(): Int32Array {
    if (this.#pooled === this.#pool.length) this.#pool.push(this.#world.save());
    else this.#world.save(this.#pool[this.#pooled]);
    return this.#pool[this.#pooled++];
  }
}

function newThread(id: number, code: () => void): Thread {
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

function canRun(thread: Thread): boolean {
  return !thread.done && thread.waiting === undefined;
}

/** True while a thread does again what it did. */
function behind(thread: Thread): boolean {
  return thread.resumeWith !== undefined;
}

function mix(thread: Thread, what: number, value: number): void {
  thread.hashA = Math.imul(Math.imul(thread.hashA ^ what, 0x9e3779b1) ^ value ^ (thread.hashA >>> 15), 0x2c1b3c6d) + 1;
  thread.hashB = Math.imul(Math.imul(thread.hashB ^ value, 0x85ebca6b) ^ what ^ (thread.hashB >>> 13), 0x297a2d39) + 1;
}
