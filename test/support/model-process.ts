// A child of the model proof as its parent sees it: requests with answers, settled calls, followers' records. The next
// child is started while the present one works, so that a kill does not cost its start.

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Answer, FromChild, Request, Settled, ToChild, WireRecord } from './model-protocol.ts';
import { violate } from './model-log.ts';

/** An answer that takes longer is a hang. */
const ANSWER_MS = 15_000;

export interface Listener {
  onSettled(settled: Settled): void;
  onFollowed(follower: number, records: readonly WireRecord[]): void;
  onFollowerEnd(follower: number, how: string): void;
}

export class ChildSystem {
  readonly #child: ChildProcess;
  readonly #ready: Promise<unknown>;
  readonly #gone: Promise<unknown>;
  readonly #waiting = new Map<number, { request: Request; resolve: (a: Answer) => void }>();
  #nextId = 1;
  #listener: Listener | undefined;
  #isGone = false;
  #stderr = '';
  /** Called whenever something came. */
  #onNews: () => void = () => undefined;

  constructor() {
    this.#child = fork(new URL('./model-child.js', import.meta.url), {
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr!.on('data', (text: Buffer) => (this.#stderr += text.toString()));
    this.#ready = once(this.#child, 'message');
    // What it had said before it died is heard before its channel closes.
    this.#gone = Promise.all([once(this.#child, 'exit'), once(this.#child, 'disconnect')]).then(() => {
      this.#isGone = true;
      for (const { resolve } of this.#waiting.values()) resolve({ code: 'GONE' });
      this.#waiting.clear();
      this.#onNews();
    });
    this.#child.on('message', (m: FromChild) => this.#hear(m));
  }

  async listen(listener: Listener): Promise<void> {
    this.#listener = listener;
    await this.#ready;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  post(message: ToChild): void {
    if (this.#isGone) violate(`the process ended by itself: ${this.#stderr.slice(-600)}`);
    this.#child.send(message, () => undefined);
  }

  /** `code` is GONE where the process was killed before it answered. */
  ask(request: Request): Promise<Answer> {
    const id = this.#nextId++;
    return new Promise<Answer>((resolve) => {
      this.#waiting.set(id, { request, resolve });
      this.post({ id, request });
    });
  }

  /** The answer, or a violation where there is none. */
  async answer(request: Request): Promise<Answer> {
    let given: Answer | undefined;
    void this.ask(request).then((a) => {
      given = a;
      this.#onNews();
    });
    await this.until(() => given !== undefined, `${request.kind} is answered`);
    if (given!.code === 'GONE') violate(`the process ended by itself in ${request.kind}: ${this.#stderr.slice(-600)}`);
    return given!;
  }

  /** Waits for messages of the child until the condition holds. @throws Violation after ANSWER_MS */
  async until(condition: () => boolean, what: string): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => finish(() => violate(`not within ${ANSWER_MS} ms: ${what}`)), ANSWER_MS);
      const finish = (act: () => void): void => {
        clearTimeout(late);
        this.#onNews = () => undefined;
        try {
          act();
          resolve();
        } catch (error) {
          reject(error as Error);
        }
      };
      this.#onNews = () => {
        if (condition()) finish(() => undefined);
        else if (this.#isGone) finish(() => violate(`the process ended: ${what}; ${this.#stderr.slice(-600)}`));
      };
      this.#onNews();
    });
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#gone;
  }

  #hear(m: FromChild): void {
    if ('id' in m) {
      const waiter = this.#waiting.get(m.id);
      this.#waiting.delete(m.id);
      waiter?.resolve(m.answer);
    } else if ('settled' in m) {
      this.#listener?.onSettled(m.settled);
    } else if ('follower' in m) {
      if ('records' in m) this.#listener?.onFollowed(m.follower, m.records);
      else this.#listener?.onFollowerEnd(m.follower, m.ended);
    }
    this.#onNews();
  }
}

/** The present child, and one that is being made ready. */
export class ChildPool {
  #present: ChildSystem | undefined;
  #next = new ChildSystem();
  started = 1;

  async take(listener: Listener): Promise<ChildSystem> {
    if (this.#present === undefined || this.#present.isGone) {
      this.#present = this.#next;
      this.#next = new ChildSystem();
      this.started++;
    }
    await this.#present.listen(listener);
    return this.#present;
  }

  async kill(): Promise<void> {
    await this.#present?.kill();
  }

  async end(): Promise<void> {
    await Promise.all([this.#present?.kill(), this.#next.kill()]);
  }
}
