// Bytes that requests and frames under way may hold together: a counting semaphore (Dijkstra 1965) that counts bytes.
//
// Promises:
//   - usedBytes never exceeds the capacity, and what was taken is there again after exactly as much was released;
//   - first come first served, strictly: nobody overtakes, `tryAcquire` neither, so that a large one is not starved by small
//     ones. The price: while a large one waits, small ones behind it wait too, although they would fit;
//   - whoever times out or aborts leaves nothing behind, and those behind it move up.
// Limits: it does not bound how many wait; those are connections, which have a bound of their own. Whoever needs bytes in two
// steps holds the first while it waits for the second, and enough of those block each other until their timeouts: take both at
// once.

import { Chain, type Link } from './chain.ts';

/** Calls back once after a time, in ms, unless the function it returns is called before. An argument, so that tests own time. */
export type After = (ms: number, callback: () => void) => () => void;

/** The longest that setTimeout can do; it takes anything longer for 1 ms. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Does not keep the process alive: whoever waits has a socket that does. */
const systemAfter: After = (ms, callback) => {
  const timer = setTimeout(callback, Math.min(ms, MAX_TIMEOUT_MS)).unref();
  return () => clearTimeout(timer);
};

export interface AcquireOptions {
  /** How long to wait at most, in ms; 0 not at all, Infinity as long as a timer can, which is 24 days. */
  readonly timeoutMs: number;
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
}

interface Waiter {
  readonly bytes: number;
  readonly settle: (granted: boolean) => void;
}

export class ByteBudget {
  readonly #capacityBytes: number;
  readonly #after: After;
  readonly #waiters = new Chain<Waiter>();
  #usedBytes = 0;
  #waitingBytes = 0;

  constructor(bytes: number, after: After = systemAfter) {
    this.#capacityBytes = bytes;
    this.#after = after;
  }

  /** Taken and not yet released. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Asked for by those that wait. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** What `tryAcquire` would give now: 0 while somebody waits, however much is unused. Credit is granted from this. */
  get freeBytes(): number {
    return this.#waiters.length > 0 ? 0 : this.#capacityBytes - this.#usedBytes;
  }

  /** Takes the bytes, if nobody waits for some. @returns false where they are not there; then nothing was taken */
  tryAcquire(bytes: number): boolean {
    // Also for NaN.
    if (!(bytes >= 0)) throw new Error(`acquired ${bytes} bytes`);
    if (this.#waiters.length > 0 || !this.#fits(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /**
   * Takes the bytes once those before have theirs. Resolves with false where the time was over or the signal aborted before,
   * and at once where it is more than the whole budget: that would never be there. Never rejects.
   * After true the bytes are held, also where the signal has aborted meanwhile: release them.
   */
  acquire(bytes: number, options: AcquireOptions): Promise<boolean> {
    const { timeoutMs, signal } = options;
    if (signal?.aborted === true) return Promise.resolve(false);
    if (this.tryAcquire(bytes)) return Promise.resolve(true);
    if (bytes > this.#capacityBytes || !(timeoutMs > 0)) return Promise.resolve(false);
    return new Promise((resolve) => {
      const giveUp = (): void => this.#giveUp(link);
      const cancel = this.#after(timeoutMs, giveUp);
      signal?.addEventListener('abort', giveUp, { once: true });
      const settle = (granted: boolean): void => {
        cancel();
        signal?.removeEventListener('abort', giveUp);
        resolve(granted);
      };
      const link = this.#waiters.push({ bytes, settle });
      this.#waitingBytes += bytes;
    });
  }

  /** Gives bytes back, in any portions, and lets those that wait have them. More than was taken is a mistake of the caller. */
  release(bytes: number): void {
    if (!(bytes >= 0 && bytes <= this.#usedBytes)) {
      throw new Error(`released ${bytes} bytes, while ${this.#usedBytes} are taken`);
    }
    this.#usedBytes -= bytes;
    this.#serve();
  }

  #fits(bytes: number): boolean {
    return bytes <= this.#capacityBytes - this.#usedBytes;
  }

  #serve(): void {
    for (let link = this.#waiters.first; link !== undefined; link = this.#waiters.first) {
      const { bytes, settle } = link.value;
      if (!this.#fits(bytes)) return;
      this.#leave(link);
      this.#usedBytes += bytes;
      settle(true);
    }
  }

  #giveUp(link: Link<Waiter>): void {
    if (!this.#leave(link)) return;
    link.value.settle(false);
    // It may have been the large one that the others stood behind.
    this.#serve();
  }

  #leave(link: Link<Waiter>): boolean {
    if (!this.#waiters.remove(link)) return false;
    this.#waitingBytes -= link.value.bytes;
    return true;
  }
}
