// A log seen from any thread of the process that writes it: figures, and records once they are durable. Everything it needs is
// structured-cloneable, so that a thread can be handed one.

import {
  KEEP_ALIVE_MS,
  READ_CHUNK_BYTES,
  READ_LOOK_BYTES,
  READ_LOOK_RECORDS,
  READ_PIECE_BYTES,
} from '../base/limits.ts';
import type { LogRecord, LogState } from '../base/types.ts';
import { systemClock } from '../base/clock.ts';
import type { SpillwayError } from '../base/errors.ts';
import { checkStreamName } from '../base/names.ts';
import { batchDecoder } from '../codec/batch-codec.ts';
import { RecentIndexes } from '../log/index-file.ts';
import { Places } from '../log/places.ts';
import { LogReader } from '../log/reader.ts';
import { listDirectory } from '../log/recovery.ts';
import { Unpacker } from '../log/unpack.ts';
import { readerIo } from '../platform/choose-io.ts';
import { latencyStats, sizeStats, type HistogramImage, type LatencyStats } from '../platform/histogram.ts';
import { laneHistogramNames } from '../platform/lane-figures.ts';
import { laneFigures, laneIsClosed, laneUsed } from '../platform/lane-memory.ts';
import { logHistogramNames, SharedState } from '../platform/shared-state.ts';
import { signal, signalled } from '../platform/waiter.ts';
import type { Opened } from './commit-thread.ts';
import {
  LaneSums,
  stageNames,
  type HistogramName,
  type LogStats,
  type StageName,
  type WindowStats,
} from './log-stats.ts';
import { windowStats } from './window-control.ts';
import { checkReadOptions, follow, type ReadOptions } from './read.ts';

/** What makes a view, in this thread or another. */
export interface LogViewHandle {
  readonly dir: string;
  readonly segmentBytes: number;
  readonly shared: SharedArrayBuffer;
  readonly opened: Opened;
  /** Memory of the lanes whose latency counts. */
  readonly lanes: readonly SharedArrayBuffer[];
}

/** What one look at a stream found. */
export interface Look {
  /** Where it began. */
  readonly begunAt: number;
  readonly nextOffset: number;
  /** Why it ended there: nothing more is durable, it walked far enough for once, or enough is taken. */
  readonly stop: 'end' | 'walked' | 'taken';
}

export class LogView {
  readonly #dir: string;
  readonly #segmentBytes: number;
  readonly #shared: SharedState;
  readonly #opened: Opened;
  readonly #lanes: SharedArrayBuffer[];
  readonly #places = new Places();
  readonly #indexes = new RecentIndexes();
  readonly #unpacker = new Unpacker(batchDecoder, true);
  /** What looks read into. */
  #lookBuffer: Uint8Array | undefined;
  /** Figures of lanes that are closed. */
  readonly #past = new LaneSums();

  constructor(handle: LogViewHandle) {
    this.#dir = handle.dir;
    this.#segmentBytes = handle.segmentBytes;
    this.#shared = new SharedState(handle.shared);
    this.#opened = handle.opened;
    this.#lanes = [...handle.lanes];
  }

  /** For another thread. */
  get handle(): LogViewHandle {
    return {
      dir: this.#dir,
      segmentBytes: this.#segmentBytes,
      shared: this.#shared.buffer,
      opened: this.#opened,
      lanes: [...this.#lanes],
    };
  }

  get state(): LogState {
    return this.#shared.state;
  }

  /** The adaptive window, or the linger that stays. */
  get window(): WindowStats {
    return windowStats(this.#shared);
  }

  /** Why the log is poisoned; undefined while it is not. */
  get failure(): SpillwayError | undefined {
    return this.#shared.failure();
  }

  /** Offset after the last record on stable storage. */
  get durableOffset(): number {
    return this.#shared.offset('durable');
  }

  /** First offset that can be read. */
  get startOffset(): number {
    return this.#shared.offset('start');
  }

  /** Lanes in use. */
  get lanes(): number {
    this.#forgetClosedLanes();
    return this.#lanes.length;
  }

  addLane(buffer: SharedArrayBuffer): void {
    this.#lanes.push(buffer);
  }

  notifyLanes(notify: (buffer: SharedArrayBuffer) => void): void {
    this.#lanes.forEach(notify);
  }

  /** Figures since the log was opened. Works in every state. */
  stats(): LogStats {
    this.#forgetClosedLanes();
    const shared = this.#shared;
    const opened = this.#opened;
    const { histograms, drops } = this.#sums();
    const stages = {} as Record<StageName, LatencyStats>;
    for (const name of stageNames) stages[name] = latencyStats(histograms[name]);
    return {
      state: shared.state,
      uptimeMs: systemClock.monotonicMs() - shared.stat('openedMs'),
      io: opened.io,
      appendedOffset: shared.offset('appended'),
      durableOffset: shared.offset('durable'),
      startOffset: shared.offset('start'),
      records: shared.stat('records'),
      recordBytes: shared.stat('recordBytes'),
      diskBytes: shared.stat('diskBytes'),
      batches: shared.stat('batches'),
      closeReasons: shared.closeCounts(),
      compression: {
        batches: shared.stat('compressedBatches'),
        rawBytes: shared.stat('compressedRawBytes'),
        storedBytes: shared.stat('compressedBytes'),
        us: shared.stat('compressUs'),
      },
      systemCalls: shared.systemCalls(),
      checkpoints: shared.stat('checkpoints'),
      rolls: shared.stat('rolls'),
      segments: shared.stat('segments'),
      retentionFailures: shared.stat('retentionFailures'),
      fillBytes: shared.stat('fillBytes'),
      lanes: shared.stat('lanes'),
      queue: this.#queue(),
      drops,
      latency: latencyStats(histograms.latency),
      stages,
      batchRecords: sizeStats(shared.histograms.batchRecords),
      batchBytes: sizeStats(shared.histograms.batchBytes),
      batchAge: latencyStats(histograms.batchAge),
      durableWrite: latencyStats(shared.histograms.durableWrite),
      window: windowStats(shared),
      tornBytes: opened.tornBytes,
      nativeMissing: opened.nativeMissing ?? null,
    };
  }

  /** Every histogram since the log was opened; what came between two looks is `Histogram.between`. */
  images(): Record<HistogramName, HistogramImage> {
    this.#forgetClosedLanes();
    const { histograms } = this.#sums();
    const images = {} as Record<HistogramName, HistogramImage>;
    for (const name of laneHistogramNames) images[name] = histograms[name].image;
    for (const name of logHistogramNames) images[name] = this.#shared.histograms[name].image;
    return images;
  }

  #sums(): LaneSums {
    const sums = new LaneSums();
    sums.addSums(this.#past);
    for (const buffer of this.#lanes) sums.add(buffer);
    return sums;
  }

  #queue(): LogStats['queue'] {
    let records = 0;
    let bytes = 0;
    let oldestMs = Infinity;
    for (const buffer of this.#lanes) {
      const figures = laneFigures(buffer);
      const used = laneUsed(buffer);
      records += used.records + figures.waitingRecords;
      bytes += used.bytes + figures.waitingBytes;
      if (figures.oldestMs > 0) oldestMs = Math.min(oldestMs, figures.oldestMs);
    }
    return { records, bytes, oldestAgeMs: Math.max(0, oldestMs < Infinity ? systemClock.monotonicMs() - oldestMs : 0) };
  }

  /** Records in order, each once it is durable; see `SpillwayLog.read`. */
  async *read(options: ReadOptions = {}): AsyncGenerator<LogRecord, void, undefined> {
    const { stream, from, follow: follows, signal: abort } = checkReadOptions(options);
    const shared = this.#shared;
    const io = readerIo();
    const wake = (): void => signal(shared.words, shared.progress);
    abort?.addEventListener('abort', wake);
    try {
      const reader = new LogReader(io, this.#dir, {
        stream,
        from,
        durableOffset: () => shared.offset('durable'),
        decoder: batchDecoder,
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
   * Hands out durable records of a stream from an offset on (the oldest there is by default), until there are no more, there were
   * READ_LOOK_RECORDS or READ_PIECE_BYTES of them, READ_LOOK_BYTES are walked over, or `take` says that it did not take one. A record
   * is good only within its call. Blocks while it reads.
   * @throws INVALID_STREAM, OFFSET_OUT_OF_RANGE, CORRUPT, IO_ERROR
   */
  look(stream: string, from: number | undefined, take: (record: LogRecord) => boolean): Look {
    checkStreamName(stream);
    const io = readerIo();
    try {
      const reader = new LogReader(io, this.#dir, {
        stream,
        from,
        durableOffset: () => this.durableOffset,
        look: {
          places: this.#places,
          indexes: this.#indexes,
          unpacker: this.#unpacker,
          walkBytes: READ_LOOK_BYTES,
          // One more is where the next look begins.
          batchRecords: READ_LOOK_RECORDS + 1,
          buffer: (this.#lookBuffer ??= Buffer.allocUnsafeSlow(READ_CHUNK_BYTES)),
        },
      });
      const begunAt = reader.nextOffset;
      let records = 0;
      let bytes = 0;
      try {
        for (let batch = reader.nextBatch(); batch !== undefined; batch = reader.nextBatch()) {
          for (const record of batch) {
            const isOver = records === READ_LOOK_RECORDS || bytes >= READ_PIECE_BYTES;
            if (isOver || !take(record)) return { begunAt, nextOffset: record.offset, stop: 'taken' };
            records++;
            bytes += record.payload.length;
          }
        }
        return { begunAt, nextOffset: reader.nextOffset, stop: reader.stopped ? 'walked' : 'end' };
      } finally {
        reader.close();
      }
    } finally {
      io.destroy();
    }
  }

  /**
   * Walks over the last `bytes` of segments, or somewhat more, oldest record first. Blocks while it reads.
   * @throws CORRUPT, IO_ERROR
   */
  walkEnd(bytes: number, visit: (record: LogRecord) => void): void {
    const io = readerIo();
    try {
      const { segments } = listDirectory(io, this.#dir);
      const first = segments.at(-1 - Math.ceil(bytes / this.#segmentBytes)) ?? segments[0];
      if (first === undefined) return;
      const from = Math.max(first, this.#shared.offset('start'));
      const durableOffset = (): number => this.durableOffset;
      const reader = new LogReader(io, this.#dir, { stream: undefined, from, durableOffset, decoder: batchDecoder });
      try {
        for (let batch = reader.nextBatch(); batch !== undefined; batch = reader.nextBatch()) batch.forEach(visit);
      } finally {
        reader.close();
      }
    } finally {
      io.destroy();
    }
  }

  /** Differs once records of the stream have become durable, and sometimes for others. Take it before looking. */
  mark(stream: string): number {
    return this.#shared.marks.of(stream);
  }

  /** Resolves once the mark of the stream is not `seen` any more, or after `timeoutMs`. Keeps no process alive. */
  async moved(stream: string, seen: number, timeoutMs: number): Promise<void> {
    await this.#shared.marks.changed(stream, seen, timeoutMs);
  }

  /** After a look that came to the end: the durable end now, where nothing of the stream has come since; else undefined. */
  unmovedUntil(stream: string, seen: number): number | undefined {
    const { durableOffset } = this;
    // Odd: something is being published, and may have been missed by the look.
    return (seen & 1) === 0 && this.mark(stream) === seen ? durableOffset : undefined;
  }

  #forgetClosedLanes(): void {
    for (let i = this.#lanes.length - 1; i >= 0; i--) {
      if (!laneIsClosed(this.#lanes[i])) continue;
      this.#past.add(this.#lanes[i]);
      this.#lanes.splice(i, 1);
    }
  }
}
