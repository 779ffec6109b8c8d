// Both ends of the thread that owns a log: `runCommitThread` on it, `CommitThread` where `open` was called.
// Commands go over a MessagePort that the commit loop reads without an event loop; numbers go through shared memory.

import { MessageChannel, receiveMessageOnPort, type MessagePort, type Worker } from 'node:worker_threads';
import { systemClock, systemRandom32 } from '../base/clock.ts';
import { fromErrorMessage, reasonOf, SpillwayError, toErrorMessage, type ErrorMessage } from '../base/errors.ts';
import type { LogOptions } from '../base/options.ts';
import type { IoMode } from '../base/types.ts';
import { DirectoryLock } from '../log/lock.ts';
import { Log } from '../log/log.ts';
import { listDirectory } from '../log/recovery.ts';
import { chooseIo, lockIo } from '../platform/choose-io.ts';
import { ioError, type FileIo } from '../platform/file-io.ts';
import { nativeMissing } from '../platform/native.ts';
import { SharedState } from '../platform/shared-state.ts';
import { startWorker } from '../platform/threads.ts';
import { signal } from '../platform/waiter.ts';
import { CommitLoop, type Command, type Reply } from './commit-loop.ts';

export interface CommitThreadData {
  readonly options: LogOptions;
  readonly shared: SharedArrayBuffer;
  readonly port: MessagePort;
}

/** What the commit thread found when it opened the log. */
export interface Opened {
  readonly io: IoMode;
  readonly tornBytes: number;
  readonly foreign: readonly string[];
  /** Why there is no native addon, where there is none. */
  readonly nativeMissing: string | undefined;
}

type Message = { readonly opened: Opened } | { readonly failed: ErrorMessage } | { readonly reply: Reply };

/** Opens the log and runs its commit loop until it is closed. The body of workers/commit.ts. */
export function runCommitThread({ options, shared, port }: CommitThreadData): void {
  const state = new SharedState(shared);
  const send = (message: Message): void => port.postMessage(message);
  let lockDisk: FileIo | undefined;
  let io: FileIo | undefined;
  let last: Message;
  try {
    lockDisk = lockIo(options.io, state.counters);
    const lock = prepare(lockDisk, options.dir);
    try {
      io = chooseIo(options.dir, options.io, state.counters);
      const log = Log.open({ io, clock: systemClock, random32: systemRandom32 }, options);
      const commands = {
        next: () => receiveMessageOnPort(port)?.message as Command | undefined,
        reply: (reply: Reply) => send({ reply }),
      };
      const loop = new CommitLoop(state, log, options.window, systemClock, commands);
      const { tornBytes, listing } = log.recovered;
      send({ opened: { io: io.mode, tornBytes, foreign: listing.foreign, nativeMissing } });
      last = { reply: loop.run() };
    } finally {
      lock.release();
    }
  } catch (error) {
    last = { failed: toErrorMessage(error) };
  }
  io?.destroy();
  lockDisk?.destroy();
  // Only now: who hears that the log is closed may open it again at once.
  send(last);
  port.close();
}

/** Makes the directory if need be, refuses one that is somebody else's, and locks it. */
function prepare(io: FileIo, dir: string): DirectoryLock {
  try {
    io.makeDir(dir);
    listDirectory(io, dir);
    return DirectoryLock.take(io, dir);
  } catch (error) {
    const wrapped = ioError(error, 'open', dir);
    if (wrapped.code !== 'IO_ERROR') throw wrapped;
    throw new SpillwayError('DIR_UNUSABLE', `${dir} cannot be used as a log directory: ${wrapped.message}`, {
      ...wrapped.details,
      subject: dir,
    });
  }
}

/** The supervisor: sends commands, and turns the thread's death into an error for everybody who waits. */
export class CommitThread {
  readonly opened: Opened;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #shared: SharedState;
  readonly #waiting = new Map<number, { resolve: () => void; reject: (error: SpillwayError) => void }>();
  #nextId = 1;

  private constructor(worker: Worker, port: MessagePort, shared: SharedState, opened: Opened) {
    this.#worker = worker;
    this.#port = port;
    this.#shared = shared;
    this.opened = opened;
  }

  /**
   * Starts the thread and waits until it has the log open.
   * @param onDeath called when the thread ended without being asked to, after the shared state says so
   */
  static async start(options: LogOptions, shared: SharedState, onDeath: () => void): Promise<CommitThread> {
    const { port1, port2 } = new MessageChannel();
    const data: CommitThreadData = { options, shared: shared.buffer, port: port2 };
    const worker = startWorker('commit', data, [port2]);
    let thread: CommitThread | undefined;
    let crash = 'it ended without a word';
    const opened = await new Promise<Opened>((resolve, reject) => {
      port1.on('message', (message: Message) => {
        if ('opened' in message) resolve(message.opened);
        else if ('failed' in message) reject(fromErrorMessage(message.failed));
        else thread?.receive(message.reply);
      });
      worker.on('error', (error) => (crash = reasonOf(error)));
      worker.on('exit', () => {
        // Messages posted before the end are still on their way: hear them first.
        setImmediate(() => {
          const died: ErrorMessage = { code: 'WORKER_DIED', message: `the commit worker died: ${crash}`, details: {} };
          reject(fromErrorMessage(died));
          if (shared.state !== 'closed') shared.fail(died);
          thread?.died(fromErrorMessage(died));
          onDeath();
          port1.close();
        });
      });
    });
    // From here on only pending promises keep the process alive, not this thread.
    worker.unref();
    port1.unref();
    thread = new CommitThread(worker, port1, shared, opened);
    return thread;
  }

  /** Sends a command that is not answered. */
  tell(command: { readonly kind: 'lane'; readonly buffer: SharedArrayBuffer }): void {
    this.#post({ ...command, id: 0 });
  }

  /** Sends a command and waits for its answer. Rejects with the commit thread's error. */
  ask(command: { kind: 'flush' } | { kind: 'truncate'; offset: number } | { kind: 'close' }): Promise<void> {
    const id = this.#nextId++;
    return new Promise<void>((resolve, reject) => {
      if (this.#waiting.size === 0) this.#port.ref();
      this.#waiting.set(id, { resolve, reject });
      this.#post({ ...command, id });
    });
  }

  /** Resolves once the thread is gone. */
  async join(): Promise<void> {
    if (this.#worker.threadId === -1) return;
    this.#worker.ref();
    await new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
  }

  /** Ends the thread at once, whatever it does. For tests of its death. */
  async kill(): Promise<void> {
    await this.#worker.terminate();
  }

  receive(reply: Reply): void {
    const waiter = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#port.unref();
    if (reply.error === undefined) waiter?.resolve();
    else waiter?.reject(fromErrorMessage(reply.error));
  }

  died(error: SpillwayError): void {
    for (const waiter of this.#waiting.values()) waiter.reject(error);
    this.#waiting.clear();
  }

  #post(command: Command): void {
    this.#port.postMessage(command);
    Atomics.add(this.#shared.words, this.#shared.commands, 1);
    signal(this.#shared.words, this.#shared.doorbell);
  }
}
