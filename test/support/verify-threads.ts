// Watches the threads of a verify. Small logs are checked before another thread has started: `onProgress` lets the others
// work, so that a test is about them too.

import type { Worker } from 'node:worker_threads';
import { within } from './log-support.ts';

type Said = readonly { readonly failed?: unknown }[];

export class VerifyThreads {
  /** What they have said of a segment each, `failed` where one could not be read. */
  readonly said: { readonly failed?: unknown }[] = [];
  readonly started: Worker[] = [];
  readonly #enough: (said: Said) => boolean;
  readonly #onStart: (worker: Worker) => void;
  #running = 0;
  #waiting: (() => void) | undefined;

  /**
   * @param act called with each thread as it starts: nothing of the log has been looked at in it yet
   * @param enough what `onProgress` waits for; the first word by default
   */
  constructor(act: (worker: Worker) => void = () => undefined, enough = (said: Said): boolean => said.length > 0) {
    this.#enough = enough;
    this.#onStart = (worker) => {
      act(worker);
      this.started.push(worker);
      this.#running++;
      worker.on('message', (checked: { failed?: unknown }) => {
        this.said.push(checked);
        this.#waiting?.();
      });
      worker.on('exit', () => {
        this.#running--;
        this.#waiting?.();
      });
    };
    process.on('worker', this.#onStart);
  }

  /** Holds the calling thread back after its first segment, until the others have said enough or are gone. */
  readonly onProgress = async (): Promise<void> => {
    while (this.#running > 0 && !this.#enough(this.said)) {
      await within(new Promise<void>((resolve) => (this.#waiting = resolve)), 'another thread says something', 30_000);
    }
  };

  stop(): void {
    process.off('worker', this.#onStart);
  }
}
