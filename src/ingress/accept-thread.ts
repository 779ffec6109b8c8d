// An accept thread that is not the main one: both ends. The supervisor asks, one question at a time; the thread answers.

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
type Told = { readonly answer: unknown } | { readonly error: ErrorMessage };

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
  commands.on('message', (ask: Ask) => {
    act(ask).then(
      (answer) => {
        commands.postMessage({ answer } satisfies Told);
        if (ask.kind === 'close') commands.close();
      },
      (error: unknown) => commands.postMessage({ error: toErrorMessage(error) } satisfies Told),
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
  #waiting: { readonly resolve: (answer: unknown) => void; readonly reject: (error: Error) => void } | undefined;
  #closing = false;

  /** @param onDeath called with the reason when the thread ends without being asked to */
  constructor(data: AcceptData, table: DedupeTable, onDeath: (reason: string) => void) {
    const commands = new MessageChannel();
    const dedupe = new MessageChannel();
    serveDedupe(table, dedupe.port1);
    this.#commands = commands.port1;
    const given: AcceptThreadData = { accept: data, commands: commands.port2, dedupe: dedupe.port2 };
    this.#worker = startWorker('accept', given, [commands.port2, dedupe.port2], data.heapLimits);
    let crash = 'it ended without a word';
    this.#worker.on('error', (error) => (crash = reasonOf(error)));
    this.#worker.on('exit', () => {
      dedupe.port1.close();
      commands.port1.close();
      this.#waiting?.reject(new Error(`accept thread ${data.thread} died: ${crash}`));
      if (!this.#closing) onDeath(`accept thread ${data.thread} died: ${crash}`);
    });
    commands.port1.on('message', (told: Told) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if ('error' in told) waiting?.reject(fromErrorMessage(told.error));
      else waiting?.resolve(told.answer);
    });
  }

  listen(): Promise<Listening> {
    return this.#ask({ kind: 'listen' }) as Promise<Listening>;
  }

  async reloadTokens(): Promise<void> {
    await this.#ask({ kind: 'reload' });
  }

  drain(withinMs: number): Promise<Left> {
    return this.#ask({ kind: 'drain', withinMs }) as Promise<Left>;
  }

  async close(): Promise<void> {
    this.#closing = true;
    const ended = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
    await this.#ask({ kind: 'close' });
    await ended;
  }

  #ask(ask: Ask): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#commands.postMessage(ask);
    });
  }
}
