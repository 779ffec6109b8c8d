// The log: ordered, durable, in segment files. Promises:
//  - a batch is written by ONE durable write, aligned to 4,096 bytes, and never touched again;
//  - at most three writes are under way, one at the disk and the others queued behind it, and none after one that failed;
//  - offsets are dense from 0; `durableOffset` moves only when a durable write has returned success;
//  - memory: three staging buffers of the largest batch (four with a codec), and the index of the active segment.
// One thread. Blocking. Knows nothing of lanes, windows or promises.
//
// Roll, step by step:
//  1. all writes under way have returned: the active segment is durable to its end.
//  2. its index is written to a temporary file, synced, renamed, the directory synced. Now it is sealed.
//     Crash before: the segment is read again at the next open, and sealed then. After: not read again.
//  3. the spare gets its header (new epoch, new salt) and becomes the next segment (log/spare.ts).
//     Crash before: the next open makes a new active segment. After: it is there, empty.
//  4. the checkpoint is written; then retention may free old segments, never before.
//
// Truncation: 1. the new start goes to the checkpoint, durably. 2. segments wholly below it are freed: index removed, file
// made the spare or removed, directory synced. Crash between: the next open frees them.

import { join } from 'node:path';
import type { Clock, Random32 } from '../base/clock.ts';
import { isDiskFull, SpillwayError, reasonOf } from '../base/errors.ts';
import { BLOCK_BYTES, MAX_INDEX_ENTRIES } from '../base/limits.ts';
import { maxBatchBytes, type LogOptions, type WindowOptions } from '../base/options.ts';
import type { BatchCompressor, BatchPlan } from '../base/types.ts';
import type { FileIo } from '../platform/file-io.ts';
import { CheckpointFile } from './checkpoint.ts';
import { encodeSegmentHeader, planBatchBytes, type SegmentHeader } from './format.ts';
import { writeIndex } from './index-file.ts';
import { indexName, segmentName } from './names.ts';
import { BatchPacker, type Compression } from './pack.ts';
import { corrupt, recover, type FoundSegment, type Recovered } from './recovery.ts';
import { retainedFrom, type Sealed } from './retention.ts';
import { SegmentIndex } from './segment-index.ts';
import { Spare } from './spare.ts';
import { rewriteLastBatch } from './tail.ts';

export interface LogDependencies {
  readonly io: FileIo;
  readonly clock: Clock;
  readonly random32: Random32;
  /** None: batches are stored plain. */
  readonly compressor?: BatchCompressor | undefined;
}

export type StorageOptions = Pick<
  LogOptions,
  'dir' | 'segmentBytes' | 'maxRecordBytes' | 'retentionBytes' | 'retentionMs'
> & { readonly window: WindowOptions };

interface Active {
  readonly fd: number;
  readonly header: SegmentHeader;
  readonly index: SegmentIndex;
}

/** A batch whose write is under way. */
interface UnderWay {
  readonly endOffset: number;
  readonly startedMs: number;
}

export class Log {
  readonly recovered: Recovered;
  readonly compression: Readonly<Compression>;
  readonly #dir: string;
  readonly #io: FileIo;
  readonly #clock: Clock;
  readonly #random32: Random32;
  readonly #options: StorageOptions;
  readonly #checkpoint: CheckpointFile;
  readonly #spare: Spare;
  readonly #staging: readonly Uint8Array[];
  readonly #packer: BatchPacker;
  readonly #sealed: Sealed[] = [];
  readonly #underWay: UnderWay[] = [];
  #active: Active | undefined;
  #epoch: number;
  #batches = 0;
  #startOffset: number;
  #appendedOffset: number;
  #durableOffset: number;
  #poison: SpillwayError | undefined;
  /** True between steps 2 and 3 of a roll that a full disk interrupted: nothing may go into a sealed segment. */
  #activeIsSealed = false;
  #closed = false;
  /** Called once per batch, in order: with the µs of its durable write, and when that had returned, by the monotonic clock. */
  onWrite: (us: number, atMs: number) => void = () => undefined;
  batchBytesWritten = 0;
  rolls = 0;
  checkpoints = 0;
  retentionFailures = 0;

  /**
   * Opens for writing: recovers, cuts a torn tail, seals what a crash left unsealed. The caller holds the lock.
   * @throws CORRUPT with every problem found; DIR_UNUSABLE, NOT_A_LOG, UNSUPPORTED_FORMAT, IO_ERROR
   */
  static open(deps: LogDependencies, options: StorageOptions): Log {
    const recovered = recover(deps.io, options.dir, 'writer');
    if (recovered.problems.length > 0) throw corrupt(options.dir, recovered.problems);
    return new Log(deps, options, recovered);
  }

  private constructor(deps: LogDependencies, options: StorageOptions, recovered: Recovered) {
    this.recovered = recovered;
    this.#dir = options.dir;
    this.#io = deps.io;
    this.#clock = deps.clock;
    this.#random32 = deps.random32;
    this.#options = options;
    const bytes = maxBatchBytes(options);
    this.#staging = [deps.io.alignedBuffer(bytes), deps.io.alignedBuffer(bytes), deps.io.alignedBuffer(bytes)];
    this.#packer = new BatchPacker(deps.io.bytes, deps.clock, deps.compressor, bytes);
    this.compression = this.#packer.compression;
    this.#startOffset = recovered.startOffset;
    this.#appendedOffset = recovered.endOffset;
    this.#durableOffset = recovered.endOffset;
    this.#spare = new Spare(deps.io, options.dir, options.segmentBytes);

    for (const name of recovered.listing.temporary) this.#io.unlink(join(this.#dir, name));
    // A process that was killed between a rename and the sync of the directory left names that only its cache knows.
    this.#io.syncDir(this.#dir);
    if (recovered.listing.hasSpare) this.#spare.adopt();
    const { checkpoint } = recovered;
    this.#checkpoint =
      checkpoint === undefined
        ? CheckpointFile.create(this.#io, this.#dir)
        : CheckpointFile.open(this.#io, this.#dir, checkpoint);
    this.#epoch = Math.max(checkpoint?.epoch ?? 0, ...recovered.segments.map((s) => s.index.epoch));

    recovered.segments.forEach((s, i) => this.#adopt(s, i === recovered.segments.length - 1));
    // Durable before anything is freed: the start that was read may be in the cache alone.
    this.checkpoint();
    for (const baseOffset of recovered.obsolete) this.#free(baseOffset, 0);
    if (this.#active !== undefined) return;
    this.retain();
    try {
      this.#activate();
      this.checkpoint();
      this.retain();
    } catch (error) {
      // What is there can be read and truncated on a full disk too; the first append waits for room, as at any roll.
      if (!isDiskFull(error) || this.#sealed.length === 0 || this.#poison !== undefined) throw error;
    }
  }

  /** Offset after the last record handed to the disk. */
  get appendedOffset(): number {
    return this.#appendedOffset;
  }

  /** Offset after the last record on stable storage. */
  get durableOffset(): number {
    return this.#durableOffset;
  }

  /** First offset that can be read. */
  get startOffset(): number {
    return this.#startOffset;
  }

  get segments(): number {
    return this.#sealed.length + (this.#active === undefined ? 0 : 1);
  }

  get fillBytes(): number {
    return this.#spare.fillBytes;
  }

  /** Writes under way. */
  get outstanding(): number {
    return this.#underWay.length;
  }

  /** Why nothing can be written any more, once a durable write has failed. */
  get poison(): SpillwayError | undefined {
    return this.#poison;
  }

  /** False when the batch needs a `roll` first: room is asked for what it takes plain, compressed or not. */
  hasRoomFor(plan: BatchPlan): boolean {
    const active = this.#usable();
    if (active === undefined || this.#activeIsSealed) return false;
    const { index, header } = active;
    if (index.batches > 0 && index.entries + plan.streamIds.length > MAX_INDEX_ENTRIES) return false;
    return index.endPosition + planBatchBytes(plan) <= header.segmentBytes;
  }

  /**
   * Encodes the batch and starts its durable write. When `overlap`, the write may still be under way on return, so that
   * the next batch is encoded meanwhile; else it has returned. The plan's bytes are copied in any case.
   * @throws POISONED when this write or an earlier one failed
   */
  append(plan: BatchPlan, overlap: boolean): void {
    const { fd, header, index } = this.#usable()!;
    const staging = this.#staging[this.#batches % this.#staging.length];
    const committedAtMs = this.#clock.wallMs();
    const baseOffset = this.#appendedOffset;
    const { epoch, salt } = header;
    const batchBytes = this.#packer.pack(staging, plan, { epoch, salt, baseOffset, committedAtMs });
    const position = index.endPosition;
    const rows = plan.streamIds.map((id, i) => ({ name: plan.streamNames[id], records: plan.streamRecords[i] }));
    index.add({ baseOffset, records: plan.records, batchBytes, committedAtMs }, rows);
    this.#batches++;
    this.#appendedOffset += plan.records;
    this.batchBytesWritten += batchBytes;
    const underWay = { endOffset: this.#appendedOffset, startedMs: this.#clock.monotonicMs() };
    if (overlap || this.#underWay.length > 0) {
      this.#orPoison(() => this.#io.submit(fd, staging.subarray(0, batchBytes), position));
      this.#underWay.push(underWay);
      // Two stay under way, one at the disk and one behind it: the next batch is encoded meanwhile.
      while (this.#underWay.length > (overlap ? 2 : 0)) this.settle();
    } else {
      this.#orPoison(() => this.#io.durableWrite(fd, staging.subarray(0, batchBytes), position));
      this.#wrote(underWay);
    }
    this.#prepareSpare(index.endPosition);
  }

  /** Waits for the oldest write under way; `durableOffset` then covers it. @throws POISONED */
  settle(): void {
    if (this.#underWay.length === 0) return;
    this.#orPoison(() => this.#io.settle());
    this.#wrote(this.#underWay.shift()!);
  }

  settleAll(): void {
    while (this.#underWay.length > 0) this.settle();
  }

  /**
   * Seals the active segment and goes on in a new one. May be called again after an error for a full disk.
   * @throws IO_ERROR with details.errno ENOSPC or EDQUOT for a full disk; POISONED
   */
  roll(): void {
    const active = this.#usable();
    this.settleAll();
    if (active === undefined || active.index.batches === 0) {
      // Left by a run with smaller segments: too small for this batch, and empty.
      this.#activate();
      if (active !== undefined) this.#io.close(active.fd);
    } else {
      const { fd, index, header } = active;
      writeIndex(this.#io, this.#dir, index);
      this.#activeIsSealed = true;
      this.#activate();
      this.#activeIsSealed = false;
      this.#sealed.push({
        baseOffset: index.baseOffset,
        nextOffset: index.nextOffset,
        fileBytes: header.segmentBytes,
        lastCommitMs: index.lastCommitMs,
      });
      this.#io.close(fd);
      this.rolls++;
    }
    this.checkpoint();
    this.retain();
  }

  /**
   * Removes everything below `offset` for readers, and the segments that lie wholly below it from the disk.
   * @throws OFFSET_OUT_OF_RANGE beyond the durable end
   */
  truncateBefore(offset: number): void {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > this.#durableOffset) {
      const message = `truncateBefore ${offset}: expected an offset from 0 to ${this.#durableOffset}`;
      throw new SpillwayError('OFFSET_OUT_OF_RANGE', message, { subject: String(offset) });
    }
    if (offset > this.#startOffset) {
      this.#startOffset = offset;
      // Into both blocks: damage to one of them must not bring back what was removed.
      this.checkpoint();
      this.checkpoint();
    }
    this.#freeObsolete();
  }

  /** Applies retentionBytes and retentionMs, and frees what could not be freed before. A file that cannot be removed is counted, and tried again. @throws POISONED */
  retain(): void {
    const start = retainedFrom(this.#sealed, this.#options, this.#clock.wallMs());
    try {
      this.truncateBefore(start ?? this.#startOffset);
    } catch (error) {
      if (this.#poison !== undefined) throw error;
      this.retentionFailures++;
    }
  }

  /** True when the durable end has moved since it was last written down. */
  get checkpointIsBehind(): boolean {
    return this.#checkpoint.last.durableOffset !== this.#durableOffset;
  }

  /** Writes the durable end and the start down, durably. */
  checkpoint(): void {
    this.#orPoison(() => this.#checkpoint.write(this.#durableOffset, this.#startOffset, this.#epoch));
    this.checkpoints++;
  }

  /** Finishes what is under way and closes. A poisoned log closes too, without another sync. Closing twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#poison === undefined) {
        this.settleAll();
        this.checkpoint();
      }
    } finally {
      this.#spare.close();
      this.#checkpoint.close();
      if (this.#active !== undefined) this.#io.close(this.#active.fd);
    }
  }

  /** Undefined where a full disk left no room for a segment when the log opened: until `roll` finds some. */
  #usable(): Active | undefined {
    if (this.#poison !== undefined) throw this.#poison;
    if (this.#closed) throw new SpillwayError('CLOSED', 'the log is closed');
    return this.#active;
  }

  #wrote(write: UnderWay): void {
    this.#durableOffset = write.endOffset;
    const nowMs = this.#clock.monotonicMs();
    this.onWrite((nowMs - write.startedMs) * 1000, nowMs);
  }

  /** A durable write that fails is final: what is on the disk is unknown from here on, and no sync can tell. */
  #orPoison(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#poison = new SpillwayError('POISONED', `a durable write failed, reopen the log: ${reasonOf(error)}`, {
        subject: this.#dir,
        cause: error,
      });
      throw this.#poison;
    }
  }

  /** The spare is a convenience until the roll needs it: a full disk shows there, not here. */
  #prepareSpare(position: number): void {
    try {
      this.#spare.keepUpWith(position);
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error;
    }
  }

  #adopt(found: FoundSegment, isLast: boolean): void {
    const { baseOffset, index, fileBytes, salt, createdAtMs } = found;
    if (!found.sealed) {
      const path = join(this.#dir, segmentName(baseOffset));
      const fd = this.#io.open(path, 'write', isLast);
      rewriteLastBatch(this.#io, fd, path, index, salt);
      if (isLast) {
        const header = { epoch: index.epoch, salt, baseOffset, segmentBytes: fileBytes, createdAtMs };
        this.#active = { fd, header, index };
        return;
      }
      this.#io.close(fd);
      writeIndex(this.#io, this.#dir, index);
    }
    this.#sealed.push({ baseOffset, nextOffset: index.nextOffset, fileBytes, lastCommitMs: index.lastCommitMs });
  }

  #activate(): void {
    const header: SegmentHeader = {
      baseOffset: this.#appendedOffset,
      epoch: this.#epoch + 1,
      salt: this.#random32(),
      segmentBytes: this.#options.segmentBytes,
      createdAtMs: this.#clock.wallMs(),
    };
    const block = this.#io.alignedBuffer(BLOCK_BYTES);
    encodeSegmentHeader(block, header, this.#io.bytes.crc32c);
    const fd = this.#spare.take(block, join(this.#dir, segmentName(header.baseOffset)));
    this.#epoch = header.epoch;
    this.#active = { fd, header, index: new SegmentIndex(header.baseOffset, header.epoch) };
  }

  /** The newest segment stays until there is a next one: without any, the log looks as if it had lost it. */
  #freeObsolete(): void {
    for (let [s] = this.#sealed; s !== undefined && s.nextOffset <= this.#startOffset; [s] = this.#sealed) {
      if (this.segments === 1) return;
      this.#free(s.baseOffset, s.fileBytes);
      this.#sealed.shift();
    }
  }

  /** May be called again after an error: what is gone already is left at that. */
  #free(baseOffset: number, fileBytes: number): void {
    const indexPath = join(this.#dir, indexName(baseOffset));
    const path = join(this.#dir, segmentName(baseOffset));
    if (this.#io.exists(indexPath)) this.#io.unlink(indexPath);
    if (this.#io.exists(path) && !this.#spare.offer(path, fileBytes)) this.#io.unlink(path);
    this.#io.syncDir(this.#dir);
  }
}
