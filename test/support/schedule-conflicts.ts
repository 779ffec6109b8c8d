// Which control words the threads of a scenario meet at: two operations on a word conflict where they are of different
// threads and one of them writes. Where nothing conflicts, the order does not matter and nobody else needs to get a turn.
// Learnt from the operations seen; what has been learnt counts from the next `adopt` on, never in the midst of a schedule.
// Limit: eight threads.

import { READ } from './schedule-atomics.ts';

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
