// The public handle of a log: what `open` gives. Lifecycle (docs/architecture.md has the diagram):
// opening → open ⇄ full → draining → closed, and from any of them → poisoned.

import { resolve as resolvePath } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { SpillwayError } from '../base/errors.ts';
import { KEEP_ALIVE_MS, type CounterName } from '../base/limits.ts';
import { resolveLogOptions, show, type LogOptions, type LogOptionsInput } from '../base/options.ts';
import type { CloseReason, IoMode, LogRecord, LogState } from '../base/types.ts';
import { LogReader } from '../log/reader.ts';
import { readerIo } from '../platform/choose-io.ts';
import { Histogram } from '../platform/histogram.ts';
import { createLaneBuffer, laneIsClosed, laneLatency, notifyLane } from '../platform/lane-memory.ts';
import { SharedState } from '../platform/shared-state.ts';
import { signal, signalled } from '../platform/waiter.ts';
import { CommitThread, type Opened } from './commit-thread.ts';
import { Lane, type AppendedMany, type Appended, type AppendOptions, type LaneHandle, type Payload } from './lane.ts';
import { checkReadOptions, follow, type ReadOptions } from './read.ts';

export interface LatencyStats {
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

/** Figures of one log since it was opened. May be a few batches old. */
export interface LogStats {
  readonly state: LogState;
  readonly io: IoMode;
  /** Offset after the last record written / on stable storage / the first that can be read. */
  readonly appendedOffset: number;
  readonly durableOffset: number;
  readonly startOffset: number;
  readonly records: number;
  /** Records with their frame headers. */
  readonly recordBytes: number;
  /** Batches with headers and padding. */
  readonly diskBytes: number;
  readonly batches: number;
  readonly closeReasons: Record<CloseReason, number>;
  /** Calls of the commit thread, by name; bytesWritten, commitWrites and commitSyncs beside them. */
  readonly systemCalls: Record<CounterName, number>;
  readonly checkpoints: number;
  readonly rolls: number;
  readonly segments: number;
  /** Times that retention could not remove a file; it tries again. */
  readonly retentionFailures: number;
  /** Zeros written to prepare segments. */
  readonly fillBytes: number;
  readonly lanes: number;
  /** From append to durable, as the producers of all lanes of this handle saw it. */
  readonly latency: LatencyStats;
  /** One durable write. */
  readonly durableWrite: LatencyStats;
  readonly tornBytes: number;
  /** Why there is no native addon, where there is none. */
  readonly nativeMissing: string | null;
}

function latencyStats(h: Histogram): LatencyStats {
  return {
    count: h.count,
    p50Us: h.quantile(0.5),
    p99Us: h.quantile(0.99),
    p999Us: h.quantile(0.999),
    maxUs: h.max,
  };
}

/** A log that this process writes. */
export class SpillwayLog {
  readonly options: LogOptions;
  readonly #shared: SharedState;
  readonly #thread: CommitThread;
  readonly #lanes: SharedArrayBuffer[];
  readonly #lane: Lane;
  /** Latency of lanes that are closed. */
  readonly #pastLatency = new Histogram();
  #closing: Promise<void> | undefined;

  private constructor(options: LogOptions, shared: SharedState, thread: CommitThread, lanes: SharedArrayBuffer[]) {
    this.options = options;
    this.#shared = shared;
    this.#thread = thread;
    this.#lanes = lanes;
    this.#lane = new Lane(this.lane(), systemClock);
  }

  /** See `open` of the package. */
  static async open(input: LogOptionsInput): Promise<SpillwayLog> {
    const checked = resolveLogOptions(input);
    const options = { ...checked, dir: resolvePath(checked.dir) };
    const shared = new SharedState();
    const lanes: SharedArrayBuffer[] = [];
    const thread = await CommitThread.start(options, shared, () => lanes.forEach(notifyLane));
    return new SpillwayLog(options, shared, thread, lanes);
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
  async *read(options: ReadOptions = {}): AsyncGenerator<LogRecord, void, undefined> {
    const { stream, from, follow: follows, signal: abort } = checkReadOptions(options);
    const shared = this.#shared;
    const io = readerIo();
    const wake = (): void => signal(shared.words, shared.progress);
    abort?.addEventListener('abort', wake);
    try {
      const reader = new LogReader(io, this.options.dir, {
        stream,
        from,
        durableOffset: () => shared.offset('durable'),
      });
      yield* follow(reader, follows, async () => {
        const seen = Atomics.load(shared.words, shared.progress);
        const ended = shared.state === 'closed' || shared.state === 'poisoned';
        // What became durable before the end is read first.
        if (shared.offset('durable') > reader.nextOffset) return true;
        if (ended || abort?.aborted === true) return false;
        // Waiting for a word of shared memory keeps no process alive, and whoever asks for the next record waits for it.
        const alive = setInterval(() => undefined, KEEP_ALIVE_MS);
        await signalled(shared.words, shared.progress, seen);
        clearInterval(alive);
        return true;
      });
    } finally {
      abort?.removeEventListener('abort', wake);
      io.destroy();
    }
  }

  /**
   * A lane for another thread: send it there (it is structured-cloneable) and take it with `openLane`.
   * @throws TOO_MANY_LANES, CLOSED
   */
  lane(): LaneHandle {
    if (this.#closing !== undefined) throw new SpillwayError('CLOSED', 'lane: the log is closed');
    this.#forgetClosedLanes();
    if (this.#lanes.length >= this.options.maxLanes) {
      throw new SpillwayError('TOO_MANY_LANES', `all ${this.options.maxLanes} lanes are in use (option 'maxLanes')`, {
        subject: 'maxLanes',
      });
    }
    const buffer = createLaneBuffer(this.options.laneBytes);
    this.#lanes.push(buffer);
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
    this.#forgetClosedLanes();
    const shared = this.#shared;
    const latency = new Histogram();
    latency.merge(this.#pastLatency);
    for (const buffer of this.#lanes) latency.merge(laneLatency(buffer));
    const { opened }: { opened: Opened } = this.#thread;
    return {
      state: shared.state,
      io: opened.io,
      appendedOffset: shared.offset('appended'),
      durableOffset: shared.offset('durable'),
      startOffset: shared.offset('start'),
      records: shared.stat('records'),
      recordBytes: shared.stat('recordBytes'),
      diskBytes: shared.stat('diskBytes'),
      batches: shared.stat('batches'),
      closeReasons: shared.closeCounts(),
      systemCalls: shared.systemCalls(),
      checkpoints: shared.stat('checkpoints'),
      rolls: shared.stat('rolls'),
      segments: shared.stat('segments'),
      retentionFailures: shared.stat('retentionFailures'),
      fillBytes: shared.stat('fillBytes'),
      lanes: shared.stat('lanes'),
      latency: latencyStats(latency),
      durableWrite: latencyStats(shared.writeUs),
      tornBytes: opened.tornBytes,
      nativeMissing: opened.nativeMissing ?? null,
    };
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

  #forgetClosedLanes(): void {
    for (let i = this.#lanes.length - 1; i >= 0; i--) {
      if (!laneIsClosed(this.#lanes[i])) continue;
      this.#pastLatency.merge(laneLatency(this.#lanes[i]));
      this.#lanes.splice(i, 1);
    }
  }
}
