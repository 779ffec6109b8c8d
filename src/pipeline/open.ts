// The public handle of a log: what `open` gives. Lifecycle (docs/architecture.md has the diagram):
// opening → open ⇄ full → draining → closed, and from any of them → poisoned.

import { resolve as resolvePath } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { SpillwayError } from '../base/errors.ts';
import { resolveLogOptions, show, type LogOptions, type LogOptionsInput } from '../base/options.ts';
import type { LogRecord } from '../base/types.ts';
import { createLaneBuffer, notifyLane } from '../platform/lane-memory.ts';
import { SharedState } from '../platform/shared-state.ts';
import { signalled } from '../platform/waiter.ts';
import { CommitThread } from './commit-thread.ts';
import type { Appended, AppendedMany, AppendOptions, Payload } from './job.ts';
import { Lane, type LaneHandle } from './lane.ts';
import type { LogStats } from './log-stats.ts';
import type { ReadOptions } from './read.ts';
import { LogView } from './view.ts';

/** A log that this process writes. */
export class SpillwayLog {
  readonly options: LogOptions;
  readonly #shared: SharedState;
  readonly #thread: CommitThread;
  readonly #view: LogView;
  readonly #lane: Lane;
  #closing: Promise<void> | undefined;

  private constructor(options: LogOptions, shared: SharedState, thread: CommitThread, view: LogView) {
    this.options = options;
    this.#shared = shared;
    this.#thread = thread;
    this.#view = view;
    this.#lane = new Lane(this.lane(), systemClock);
  }

  /** See `open` of the package. */
  static async open(input: LogOptionsInput): Promise<SpillwayLog> {
    const checked = resolveLogOptions(input);
    const options = { ...checked, dir: resolvePath(checked.dir) };
    const shared = new SharedState();
    let view: LogView | undefined;
    const thread = await CommitThread.start(options, shared, () => view?.notifyLanes(notifyLane));
    view = new LogView({
      dir: options.dir,
      segmentBytes: options.segmentBytes,
      shared: shared.buffer,
      opened: thread.opened,
      lanes: [],
    });
    return new SpillwayLog(options, shared, thread, view);
  }

  /**
   * Appends one record; resolves with its offset once it is on stable storage. While the lane is full, waits.
   * Rejects with INVALID_STREAM, INVALID_RECORD, RECORD_TOO_LARGE, BACKLOG_FULL, TOO_MANY_STREAMS, CLOSED (the record was
   * not appended); POISONED, WORKER_DIED (it may or may not be in the log).
   */
  append(stream: string, payload: Payload, options?: AppendOptions): Promise<Appended> {
    return this.#lane.append(stream, payload, options);
  }

  /**
   * Appends records in order; resolves once all are on stable storage. If one is refused, none is appended; a crash may
   * leave a prefix of them. Rejects as `append` does.
   */
  appendMany(stream: string, payloads: readonly Payload[], options?: AppendOptions): Promise<AppendedMany> {
    return this.#lane.appendMany(stream, payloads, options);
  }

  /**
   * Records in order, each once it is durable. With `follow` it goes on with what comes, until the log closes, the
   * loop is left or `signal` aborts. @throws INVALID_OPTION, INVALID_STREAM, OFFSET_OUT_OF_RANGE, CORRUPT
   */
  read(options: ReadOptions = {}): AsyncGenerator<LogRecord, void, undefined> {
    return this.#view.read(options);
  }

  /**
   * A lane for another thread: send it there (it is structured-cloneable) and take it with `openLane`.
   * @throws TOO_MANY_LANES, CLOSED
   */
  lane(): LaneHandle {
    if (this.#closing !== undefined) throw new SpillwayError('CLOSED', 'lane: the log is closed');
    if (this.#view.lanes >= this.options.maxLanes) {
      throw new SpillwayError('TOO_MANY_LANES', `all ${this.options.maxLanes} lanes are in use (option 'maxLanes')`, {
        subject: 'maxLanes',
      });
    }
    const buffer = createLaneBuffer(this.options.laneBytes);
    this.#view.addLane(buffer);
    this.#thread.tell({ kind: 'lane', buffer });
    const { maxRecordBytes, maxWaitingBytes } = this.options;
    return { shared: this.#shared.buffer, lane: buffer, limits: { maxRecordBytes, maxWaitingBytes } };
  }

  /**
   * Resolves once all that was appended before the call is durable: closes the window early. Of other lanes that is what was
   * in the lane; what still waits for room there is its producer's to await.
   */
  async flush(): Promise<void> {
    if (this.#closing !== undefined) throw new SpillwayError('CLOSED', 'flush: the log is closed');
    await this.#lane.allPut();
    await this.#thread.ask({ kind: 'flush' });
  }

  /**
   * Removes all records below `offset` for readers, durably, and the segments wholly below it from the disk.
   * Rejects with OFFSET_OUT_OF_RANGE beyond the durable end, CLOSED, POISONED.
   */
  async truncateBefore(offset: number): Promise<void> {
    if (this.#closing !== undefined) throw new SpillwayError('CLOSED', 'truncateBefore: the log is closed');
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new SpillwayError('OFFSET_OUT_OF_RANGE', `truncateBefore: expected an offset, got ${show(offset)}`);
    }
    await this.#thread.ask({ kind: 'truncate', offset });
  }

  /** Figures since the log was opened. Works in every state. */
  stats(): LogStats {
    return this.#view.stats();
  }

  /** The same figures and records for another thread. */
  get view(): LogView {
    return this.#view;
  }

  /**
   * Refuses new records, makes everything already appended durable, releases the directory. Closing twice is fine.
   * Rejects with POISONED, WORKER_DIED or DISK_FULL where not everything could be made durable; it is closed all the same.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#lane.refuse();
    // On a full disk what waits for room would wait for ever.
    await Promise.race([this.#lane.allPut(), this.#full()]);
    const failed = this.#shared.failure();
    try {
      if (failed?.code !== 'WORKER_DIED') await this.#thread.ask({ kind: 'close' });
    } finally {
      await this.#thread.join();
      await this.#lane.close();
    }
    if (failed !== undefined) throw failed;
  }

  /** Resolves when the disk is full, or nothing can be put any more. */
  async #full(): Promise<void> {
    const shared = this.#shared;
    for (;;) {
      const seen = Atomics.load(shared.words, shared.progress);
      if (shared.state !== 'open') return;
      await signalled(shared.words, shared.progress, seen);
    }
  }
}
