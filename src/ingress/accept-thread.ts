// An accept thread that is not the main one: both ends. The supervisor asks, and may ask again before it has an answer: a reload
// comes while the thread drains. Questions have numbers, so each gets its own answer; when the thread ends, all that are open fail.

import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads';
import pino, { type Logger } from 'pino';
import { fromErrorMessage, reasonOf, toErrorMessage, type ErrorMessage } from '../base/errors.ts';
import type { DedupeTable } from '../flow/dedupe.ts';
import { startWorker } from '../platform/threads.ts';
import { Accept, type AcceptData, type Left, type Listening } from './accept.ts';
import { RemoteDedupe, serveDedupe } from './dedupe-port.ts';

export interface AcceptThreadData {
  readonly accept: AcceptData;
  readonly commands: MessagePort;
  readonly dedupe: MessagePort;
}

type Ask = { readonly kind: 'listen' | 'reload' | 'close' } | { readonly kind: 'drain'; readonly withinMs: number };
type Asked = { readonly id: number; readonly ask: Ask };
type Told = { readonly id: number } & ({ readonly answer: unknown } | { readonly error: ErrorMessage });

/** Log lines of every thread go to stderr, a line at a time. One that cannot be written is counted, and ends nothing. */
export function createLogger(level: string, thread: string): Logger {
  let lost = 0;
  const open = (): ReturnType<typeof pino.destination> => {
    const made = pino.destination({ fd: 2, sync: true });
    made.on('error', () => {
      // Told twice by pino. What has failed keeps all that it is given from then on, so it is replaced.
      if (made !== destination) return;
      lost++;
      destination = open();
    });
    return made;
  };
  let destination = open();
  const write = (line: string): void => {
    const before = lost;
    destination.write(line);
    if (before === 0 || lost > before) return;
    lost = 0;
    log.error({ lost: before }, 'log lines could not be written, and are lost');
  };
  const log = pino({ level, base: { thread } }, { write });
  return log;
}

/** The body of workers/accept.ts. */
export function runAcceptThread({ accept: data, commands, dedupe }: AcceptThreadData): void {
  const log = createLogger(data.options.logLevel, `accept-${data.thread}`);
  let accept: Accept | undefined;
  const act = async (ask: Ask): Promise<unknown> => {
    if (ask.kind === 'listen') {
      accept = new Accept(data, new RemoteDedupe(dedupe), log);
      return accept.listen();
    }
    if (ask.kind === 'reload') return accept?.reloadTokens();
    if (ask.kind === 'drain') return accept?.drain(ask.withinMs);
    await accept?.close();
    dedupe.close();
    return undefined;
  };
  commands.on('message', ({ id, ask }: Asked) => {
    act(ask).then(
      (answer) => {
        commands.postMessage({ id, answer } satisfies Told);
        if (ask.kind === 'close') commands.close();
      },
      (error: unknown) => commands.postMessage({ id, error: toErrorMessage(error) } satisfies Told),
    );
  });
}

/** What the gateway needs of an accept thread, be it its own or another. */
export interface Acceptor {
  listen(): Promise<Listening>;
  reloadTokens(): Promise<void>;
  drain(withinMs: number): Promise<Left>;
  close(): Promise<void>;
}

export class AcceptThread implements Acceptor {
  readonly #worker: Worker;
  readonly #commands: MessagePort;
  readonly #ended: Promise<void>;
  /** Questions without an answer. */
  readonly #open = new Map<number, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>();
  #asked = 0;
  /** Why nothing can be asked any more. */
  #over: Error | undefined;
  #closing: Promise<void> | undefined;

  /** @param onDeath called with the reason when the thread ends without being asked to */
  constructor(data: AcceptData, table: DedupeTable, onDeath: (reason: string) => void) {
    const commands = new MessageChannel();
    const dedupe = new MessageChannel();
    serveDedupe(table, dedupe.port1);
    this.#commands = commands.port1;
    const given: AcceptThreadData = { accept: data, commands: commands.port2, dedupe: dedupe.port2 };
    this.#worker = startWorker('accept', given, [commands.port2, dedupe.port2], data.heapLimits);
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    let crash = 'it ended without a word';
    this.#worker.on('error', (error) => (crash = reasonOf(error)));
    this.#worker.on('exit', () => {
      dedupe.port1.close();
      commands.port1.close();
      const reason = this.#closing === undefined ? `died: ${crash}` : 'is closed';
      this.#over = new Error(`accept thread ${data.thread} ${reason}`);
      for (const { reject } of this.#open.values()) reject(this.#over);
      this.#open.clear();
      if (this.#closing === undefined) onDeath(this.#over.message);
    });
    commands.port1.on('message', (told: Told) => {
      const open = this.#open.get(told.id);
      this.#open.delete(told.id);
      if ('error' in told) open?.reject(fromErrorMessage(told.error));
      else open?.resolve(told.answer);
    });
  }

  listen(): Promise<Listening> {
    return this.#ask({ kind: 'listen' }) as Promise<Listening>;
  }

  async reloadTokens(): Promise<void> {
    // Nobody comes in any more.
    if (this.#closing === undefined) await this.#ask({ kind: 'reload' });
  }

  drain(withinMs: number): Promise<Left> {
    return this.#ask({ kind: 'drain', withinMs }) as Promise<Left>;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // The thread may be gone before its answer is heard: that it is gone is one.
    await Promise.race([this.#ended, this.#ask({ kind: 'close' })]);
    await this.#ended;
  }

  #ask(ask: Ask): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#over !== undefined) return reject(this.#over);
      const id = this.#asked++;
      this.#open.set(id, { resolve, reject });
      this.#commands.postMessage({ id, ask } satisfies Asked);
    });
  }
}
