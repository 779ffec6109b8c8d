// One schedule: several threads' code played on one thread, switched at every atomic operation, exactly as told.
//
// Thread 0 (the commit loop) runs on the stack; another thread runs in a call from one of thread 0's points. It is put
// aside by an exception that unwinds it, and resumed by running it again from its beginning: before each stretch that it
// ran, the memory is put back to what it was then, so the code sees what it saw and does what it did; at the point where
// it stopped, the memory of now returns. That it did the same is checked by a hash over its operations and their results.
// So the code under test is the code that ships, unchanged, and a schedule takes a few hundred microseconds of one core:
// real threads that hand a token over need a context switch each time, milliseconds on a busy machine.
//
// A point is before each atomic operation on a word that another thread touches too (one of both writing), and after each
// such write and each notify, so that plain stores on the wrong side of it show. Whether two operations conflict is
// learnt on the way (schedule-conflicts.ts): a schedule that learns something new makes the exploration begin again.
//
// Limits: sequential consistency, which is what JavaScript's Atomics promise; data that is not ordered by them is seen only
// as far as the points around them tell. Time passes only when nobody can run, or where a scenario lets timers race.

import { BUSY_LANE_POLL_MS } from '../../src/base/limits.ts';
import { READ, WRITE, type Watcher } from './schedule-atomics.ts';
import type { Conflicts } from './schedule-conflicts.ts';
import type { World } from './schedule-memory.ts';
import {
  behind,
  canRun,
  mix,
  newThread,
  threadNames,
  type Thread,
  type Waiting,
  type Woken,
} from './schedule-thread.ts';

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
  /** True while a preemption may be chosen; else it is asked only once after each switch, whether to go on at all. */
  readonly open: boolean;
  /** Asked at every point, whether anything conflicts there or not. */
  readonly everywhere: boolean;
  /** A thread, or CUT to end this schedule. `key` names the state: equal keys have equal futures. */
  choose(decision: Decision, key: () => number): number;
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
    // The marks of streams lie behind the control words: nobody who plays waits for them.
    if (this.#running === undefined || !(words instanceof Int32Array) || words.byteOffset > 0) return -1;
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
    if (words.byteOffset > 0) return 0;
    const word = this.#buffers.indexOf(words.buffer as SharedArrayBuffer) * 128 + index;
    const running = this.#running;
    if (running === undefined || !behind(running)) {
      for (const thread of this.#threads) {
        if (thread.waiting?.word !== word) continue;
        thread.waiting = undefined;
        thread.woken = 'ok';
        if (this.trace !== undefined) this.#tell(running, `wakes ${threadNames[thread.id]}`);
      }
    }
    // Whoever was woken may run before the waker does anything else.
    if (running !== undefined) this.#point(running, this.#conflicts.has(running.id, word, WRITE));
    // How many there were is not told: nothing here asks, and a thread that does it again could not know.
    return 0;
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
      const lines = ((error as Error).stack ?? String(error)).split('\n').map((line) => line.trim());
      this.violation ??= `thread ${threadNames[thread.id]} threw ${lines.slice(0, 2).join(' ')}`;
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
    // Two points with nothing done in between are one: the first of them, which comes before plain reads too.
    const done = this.#key(thread.id, false);
    if (done === thread.lastKey && !this.#chooser.everywhere) return thread.id;
    thread.lastKey = done;
    return this.#chosen({ step: this.steps, options, free: 1 }, this.#key(thread.id, true));
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
    // A short wait is one of the loop's polls; a longer one is the linger, which a full window must not sit out.
    const full = left.records >= window.maxRecords || left.bytes >= window.maxBytes;
    if (timed !== undefined && !(full && timed.waiting!.timeoutMs > BUSY_LANE_POLL_MS)) {
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

  /** The state; without `places`, what has been done and not how far each thread has come since. */
  #key(current: number, places: boolean): number {
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
      if (places) add(t.passed);
    }
    add(current);
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
