// Who waits until everything that was appended before is settled: flush and close.

import type { SpillwayError } from '../base/errors.ts';

interface Waiter {
  /** Calls settled by then. */
  readonly target: number;
  readonly resolve: () => void;
  readonly reject: (error: SpillwayError) => void;
}

export class Barrier {
  readonly #calls: { readonly settledCalls: number; readonly length: number };
  #waiters: Waiter[] = [];

  constructor(calls: { readonly settledCalls: number; readonly length: number }) {
    this.#calls = calls;
  }

  wait(): Promise<void> {
    const { settledCalls, length } = this.#calls;
    if (length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ target: settledCalls + length, resolve, reject }));
  }

  /** To be called after calls were settled. */
  look(): void {
    while (this.#waiters.length > 0 && this.#waiters[0].target <= this.#calls.settledCalls) {
      this.#waiters.shift()!.resolve();
    }
  }

  /** Everything that waited was given up. */
  fail(error: SpillwayError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}
