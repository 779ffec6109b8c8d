// The global Atomics of this thread, replaced: every operation on a control word of the scenario's memory asks the
// schedule first. Only in the worker that plays the schedules (schedule-worker.ts), never in a test's own thread.
// Operations on other memory, or while no played thread runs, go straight through.

const { load, store, add, compareExchange, exchange } = Atomics;

export const READ = 1;
export const WRITE = 2;

export interface Watcher {
  /** Number of the word, or -1 where it is none of the scenario's or no played thread runs. */
  wordOf(words: ArrayBufferView, index: number): number;
  /** May leave by an exception: the thread is put aside. */
  before(word: number, how: number): void;
  after(word: number, how: number, value: number): void;
  wait(
    words: Int32Array,
    index: number,
    word: number,
    seen: number,
    timeoutMs: number,
  ): 'ok' | 'not-equal' | 'timed-out';
  wake(words: ArrayBufferView, index: number): number;
}

type Words = Int32Array;

export function watchAtomics(watcher: Watcher): void {
  const watched =
    (how: number, original: (words: Words, index: number, ...values: number[]) => number) =>
    (words: Words, index: number, ...values: number[]): number => {
      const word = watcher.wordOf(words, index);
      if (word < 0) return original(words, index, ...values);
      watcher.before(word, how);
      const value = original(words, index, ...values);
      watcher.after(word, how, value);
      return value;
    };
  Object.assign(Atomics, {
    load: watched(READ, load as typeof Atomics.load),
    store: watched(WRITE, store as typeof Atomics.store),
    add: watched(WRITE, add as typeof Atomics.add),
    exchange: watched(WRITE, exchange as typeof Atomics.exchange),
    compareExchange: watched(WRITE, compareExchange as (words: Words, index: number, ...values: number[]) => number),
    notify: (words: Words, index: number): number => watcher.wake(words, index),
    wait: (words: Words, index: number, seen: number, timeoutMs = Infinity): string =>
      watcher.wait(words, index, watcher.wordOf(words, index), seen, timeoutMs),
  });
}
