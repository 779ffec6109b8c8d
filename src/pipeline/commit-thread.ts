// Both ends of the thread that owns a log: `runCommitThread` on it, `CommitThread` where `open` was called.
// Commands go over a MessagePort that the commit loop reads without an event loop; numbers go through shared memory.

import { MessageChannel, receiveMessageOnPort, type MessagePort, type Worker } from 'node:worker_threads';
import { systemClock, systemRandom32 } from '../base/clock.ts';
import {
  fromErrorMessage,
  isDiskFull,
  reasonOf,
  SpillwayError,
  toErrorMessage,
  type ErrorMessage,
} from '../base/errors.ts';
import type { LogOptions } from '../base/options.ts';
import type { IoMode } from '../base/types.ts';
import { compressorFor } from '../codec/batch-codec.ts';
import { DirectoryLock } from '../log/lock.ts';
import { Log } from '../log/log.ts';
import { listDirectory } from '../log/recovery.ts';
import { readWindowPoint, writeWindowPoint } from '../log/window-file.ts';
import { chooseIo, lockIo } from '../platform/choose-io.ts';
import { ioError, type FileIo } from '../platform/file-io.ts';
import { nativeMissing } from '../platform/native.ts';
import { SharedState } from '../platform/shared-state.ts';
import { startWorker } from '../platform/threads.ts';
import { signal } from '../platform/waiter.ts';
import { CommitLoop, type Command, type Reply } from './commit-loop.ts';
import { WindowControl } from './window-control.ts';

/** Its garbage is short-lived, and there is little of it. The rest of its heap is the index of a segment, and has no cap that could kill it. */
const COMMIT_YOUNG_MIB = 12;

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
    // Before anything is touched.
    const compressor = compressorFor(options.codec);
    lockDisk = lockIo(options.io, state.counters);
    const lock = prepare(lockDisk, options.dir);
    try {
      io = chooseIo(options.dir, options.io, state.counters);
      const log = Log.open({ io, clock: systemClock, random32: systemRandom32, compressor }, options);
      const commands = {
        next: () => receiveMessageOnPort(port)?.message as Command | undefined,
        reply: (reply: Reply) => send({ reply }),
      };
      const control = options.window.sloP99Ms === 0 ? undefined : controlOf(options, state, io);
      const loop = new CommitLoop(state, log, options.window, systemClock, commands, control);
      const { tornBytes, listing } = log.recovered;
      send({ opened: { io: io.mode, tornBytes, foreign: listing.foreign, nativeMissing } });
      last = { reply: loop.run() };
    } finally {
      lock.release();
    }
  } catch (error) {
    last = { failed: toErrorMessage(error, 'IO_ERROR') };
    if (isDiskFull(error)) last = { failed: { ...last.failed, code: 'DISK_FULL' } };
  }
  io?.destroy();
  lockDisk?.destroy();
  // Only now: who hears that the log is closed may open it again at once.
  send(last);
  port.close();
}

/** The adaptive window, from where an earlier run under the same SLO left it. */
function controlOf({ dir, window }: LogOptions, state: SharedState, io: FileIo): WindowControl {
  const { sloP99Ms } = window;
  return new WindowControl(window, state, {
    load: () => {
      const point = readWindowPoint(io, dir);
      return point?.sloP99Ms === sloP99Ms ? point.lingerMs : undefined;
    },
    save: (lingerMs) => writeWindowPoint(io, dir, { sloP99Ms, lingerMs }),
  });
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
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #shared: SharedState;
  readonly #onDeath: () => void;
  readonly #dir: string;
  readonly #waiting = new Map<number, { resolve: () => void; reject: (error: SpillwayError) => void }>();
  #nextId = 1;
  #opened: Opened | undefined;
  #opening: { resolve: (opened: Opened) => void; reject: (error: SpillwayError) => void } | undefined;
  #crash = 'it ended without a word';
  /** Set once the thread is gone. */
  #ended: SpillwayError | undefined;

  private constructor(options: LogOptions, shared: SharedState, onDeath: () => void) {
    const { port1, port2 } = new MessageChannel();
    const data: CommitThreadData = { options, shared: shared.buffer, port: port2 };
    this.#port = port1;
    this.#shared = shared;
    this.#onDeath = onDeath;
    this.#dir = options.dir;
    this.#worker = startWorker('commit', data, [port2], { maxYoungGenerationSizeMb: COMMIT_YOUNG_MIB });
    port1.on('message', (message: Message) => this.#receive(message));
    this.#worker.on('error', (error) => (this.#crash = reasonOf(error)));
    this.#worker.on('exit', () => this.#end());
  }

  /**
   * Starts the thread and waits until it has the log open.
   * @param onDeath called when the thread is gone, after the shared state says what that means
   */
  static async start(options: LogOptions, shared: SharedState, onDeath: () => void): Promise<CommitThread> {
    const thread = new CommitThread(options, shared, onDeath);
    await new Promise<Opened>((resolve, reject) => (thread.#opening = { resolve, reject }));
    // From here on only pending promises keep the process alive, not this thread.
    thread.#worker.unref();
    thread.#port.unref();
    return thread;
  }

  /** What the thread found when it opened the log. */
  get opened(): Opened {
    return this.#opened!;
  }

  /** Sends a command that is not answered. */
  tell(command: { readonly kind: 'lane'; readonly buffer: SharedArrayBuffer }): void {
    this.#post({ ...command, id: 0 });
  }

  /** Sends a command and waits for its answer. Rejects with the commit thread's error. */
  ask(command: { kind: 'flush' } | { kind: 'truncate'; offset: number } | { kind: 'close' }): Promise<void> {
    const id = this.#nextId++;
    return new Promise<void>((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      if (this.#waiting.size === 0) {
        this.#port.ref();
        // Its death must be heard too: the port closes with it, and the process would end with nobody answered.
        this.#worker.ref();
      }
      this.#waiting.set(id, { resolve, reject });
      this.#post({ ...command, id });
    });
  }

  /** Resolves once the thread is gone. */
  async join(): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#worker.ref();
    await new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
  }

  #receive(message: Message): void {
    if ('opened' in message) {
      this.#opened = message.opened;
      this.#opening?.resolve(message.opened);
      return;
    }
    if ('failed' in message) {
      this.#opening?.reject(fromErrorMessage(message.failed));
      return;
    }
    const { id, error } = message.reply;
    const waiter = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) {
      this.#port.unref();
      this.#worker.unref();
    }
    if (error === undefined) waiter?.resolve();
    else waiter?.reject(fromErrorMessage(error));
  }

  #end(): void {
    // The exit may be told before the thread's last messages are: hear them first.
    for (let m = receiveMessageOnPort(this.#port); m !== undefined; m = receiveMessageOnPort(this.#port)) {
      this.#receive(m.message as Message);
    }
    const died: ErrorMessage = { code: 'WORKER_DIED', message: `the commit worker died: ${this.#crash}`, details: {} };
    if (this.#shared.state !== 'closed') {
      this.#shared.fail(died);
      if (this.#opened !== undefined) DirectoryLock.disown(this.#dir);
    }
    this.#ended = fromErrorMessage(died);
    this.#opening?.reject(this.#ended);
    for (const waiter of this.#waiting.values()) waiter.reject(this.#ended);
    this.#waiting.clear();
    this.#onDeath();
    this.#port.close();
  }

  #post(command: Command): void {
    this.#port.postMessage(command);
    Atomics.add(this.#shared.words, this.#shared.commands, 1);
    signal(this.#shared.words, this.#shared.doorbell);
  }
}
