// Reading the log, while it is written or not, in the writer's process or in another.
//
// A record is handed out only once it is durable. In the writer's process the durable offset says so. Elsewhere nothing
// does for the newest batch (an older one is durable because the next was begun): there the reader syncs the segment
// itself before it hands that batch out. It costs a sync per look at the end, and never shows what a power cut could
// take back.
//
// What is read: from sealed segments only the batches that hold the stream, from the offset on, by their index; from the
// segment being written everything behind the position already read.

import { isMissing, SpillwayError } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/limits.ts';
import type { BatchDecoder, LogRecord } from '../base/types.ts';
import type { FileIo } from '../platform/file-io.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { Invalid, RecordFilter } from './format.ts';
import { CHECKPOINT_FILE, segmentName } from './names.ts';
import type { LookOptions } from './places.ts';
import { readIndex, type RecentIndexes } from './index-file.ts';
import { checkpointOf, freedSince, listDirectory } from './recovery.ts';
import { damaged, notYetThere, overtaken } from './reader-errors.ts';
import { nextValidBatch } from './scan.ts';
import { SegmentFile, type Batch } from './segment-file.ts';
import type { SegmentIndex } from './segment-index.ts';
import { Unpacker } from './unpack.ts';

export interface ReaderOptions {
  /** Only this stream; all when undefined. */
  readonly stream: string | undefined;
  /** First offset wanted; the oldest there is when undefined. */
  readonly from: number | undefined;
  /** Offset up to which the log is known to be durable, when the writer is in this process; else undefined. */
  readonly durableOffset?: () => number;
  /** None: a compressed batch is UNSUPPORTED_FORMAT. A look has its own. */
  readonly decoder?: BatchDecoder;
  /** For who wants a few records, again and again, and must not be held up for long. */
  readonly look?: LookOptions;
}

/** What opening a segment costs, as bytes walked over that take as long, and one with an index that is new. */
const SEGMENT_WALK_BYTES = 128 * 1024;
const INDEX_WALK_BYTES = 256 * 1024;

interface Place {
  readonly file: SegmentFile;
  /** Of a sealed segment. */
  readonly index: SegmentIndex | undefined;
  /** Numbers of the batches still to read, where the index and a stream tell; next first. */
  batches: number[] | undefined;
  position: number;
  /** Offset of the batch at `position`. */
  offset: number;
  /** Highest offset that a sync of this reader covers. */
  syncedOffset: number;
}

export class LogReader {
  readonly #io: FileIo;
  readonly #dir: string;
  readonly #stream: string | undefined;
  readonly #durableOffset: (() => number) | undefined;
  readonly #wantedFrom: number | undefined;
  readonly #look: LookOptions | undefined;
  readonly #unpacker: Unpacker;
  /** May still be walked over. */
  #walkBytes: number;
  #stopped = false;
  /** Offset of the next record to hand out, or where one would be. */
  #next: number;
  #place: Place | undefined;

  /** @throws DIR_UNUSABLE, NOT_A_LOG, OFFSET_OUT_OF_RANGE, CORRUPT, UNSUPPORTED_FORMAT */
  constructor(io: FileIo, dir: string, options: ReaderOptions) {
    this.#io = io;
    this.#dir = dir;
    this.#stream = options.stream;
    this.#durableOffset = options.durableOffset;
    this.#wantedFrom = options.from;
    this.#look = options.look;
    this.#unpacker = options.look?.unpacker ?? new Unpacker(options.decoder);
    this.#walkBytes = options.look?.walkBytes ?? Infinity;
    const start = this.#startOffset();
    this.#next = options.from ?? start;
    if (this.#next < start) {
      throw new SpillwayError('OFFSET_OUT_OF_RANGE', `offset ${this.#next} was removed: the log starts at ${start}`, {
        subject: String(this.#next),
      });
    }
  }

  /** Where the next record would stand. */
  get nextOffset(): number {
    return this.#next;
  }

  /** Whether `nextBatch` ended because it had walked far enough, and not at the end. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Records of the next batch that has some for this reader; undefined at the end of what is durable now (call again
   * later to follow), and once `walkBytes` are walked over. Blocks for the reading of one batch.
   * @throws CORRUPT, UNSUPPORTED_FORMAT, OFFSET_OUT_OF_RANGE when truncation overtook the reader, IO_ERROR
   */
  nextBatch(): LogRecord[] | undefined {
    for (;;) {
      if (this.#walkBytes <= 0) {
        this.#stopped = true;
        return undefined;
      }
      const place = this.#place ?? this.#locate();
      if (place === undefined) return undefined;
      // Recycled between listing and opening: look again. It is not the end.
      if (place === 'moved') continue;
      this.#place = place;
      const batch = this.#read(place);
      if (batch === 'moved') continue;
      if (batch === undefined) {
        this.#refuseBeyond(place.offset);
        return undefined;
      }
      const records = this.#records(place, batch);
      this.#walkBytes -= batch.header.batchBytes + this.#unpacker.walkedBytes;
      this.#advance(place, batch);
      if (records.length > 0) return records;
    }
  }

  /**
   * For a reader that does not follow, once `nextBatch` has come to the end: looks behind it for batches that only damage can
   * have cut off. Reads the rest of the segment. @throws CORRUPT
   */
  checkEnd(): void {
    const place = this.#place;
    if (place === undefined || place.index !== undefined || this.#durableOffset !== undefined) return;
    const beyond = nextValidBatch(place.file, place.position + BLOCK_BYTES, place.offset);
    if (beyond === undefined) return;
    const now = place.file.batchAt(place.position, place.offset);
    // A live writer may have gone on since.
    if ('invalid' in now) throw this.#corrupt(place.file.name, place.position, place.offset, now.invalid);
  }

  close(): void {
    this.#place?.file.close();
    this.#place = undefined;
  }

  #startOffset(): number {
    const listing = listDirectory(this.#io, this.#dir);
    // Made before the first segment, and never removed.
    if (!listing.hasCheckpoint && listing.segments.length + listing.indexes.size === 0) return 0;
    const checkpoint = this.#checkpoint();
    if (!('invalid' in checkpoint)) return checkpoint.startOffset;
    if (checkpoint.newer !== true) throw this.#corrupt(CHECKPOINT_FILE, 0, 0, checkpoint.invalid);
    throw new SpillwayError('UNSUPPORTED_FORMAT', `${this.#dir}/${CHECKPOINT_FILE}: ${checkpoint.invalid}`);
  }

  /** Opens the segment that holds `#next`. Undefined where the directory has none yet, 'moved' where it vanished meanwhile. */
  #locate(): Place | 'moved' | undefined {
    // Told before anything is walked over, where it is known.
    if (this.#durableOffset !== undefined) this.#refuseBeyond(this.#durableOffset());
    const listing = listDirectory(this.#io, this.#dir);
    const base = listing.segments.findLast((s) => s <= this.#next);
    if (base === undefined) {
      if (listing.segments.length === 0) {
        const checkpoint = this.#checkpoint();
        const { durableOffset: durable, epoch } = 'invalid' in checkpoint ? { durableOffset: 0, epoch: 0 } : checkpoint;
        // Listed again: the first segment may have come in between.
        if (epoch === 0 || listDirectory(this.#io, this.#dir).segments.length > 0) return undefined;
        const last = durable > this.#next ? durable - 1 : null;
        throw this.#corrupt(segmentName(this.#next), 0, this.#next, 'all segments are missing', last);
      }
      // Asked for after the listing: a start that had moved by then would be above what is wanted.
      const start = this.#startOffset();
      if (start > this.#next) throw overtaken(this.#next, this.#wantedFrom, start);
      const [first] = listing.segments;
      throw this.#corrupt(segmentName(first), 0, this.#next, 'the segments before it are missing', first - 1);
    }
    const file = this.#open(
      base,
      listing.segments.find((s) => s > base),
    );
    if (file === undefined) return 'moved';
    if (this.#look !== undefined) file.keepNothing(this.#look.buffer);
    const index = listing.indexes.has(base) ? this.#indexOf(file) : undefined;
    this.#walkBytes -= SEGMENT_WALK_BYTES;
    const known = index === undefined ? this.#look?.places.find(base, this.#next) : undefined;
    const { position, offset } = known ?? { position: BLOCK_BYTES, offset: base };
    const place: Place = { file, index, batches: undefined, position, offset, syncedOffset: -1 };
    if (index !== undefined) this.#seek(place, index);
    return place;
  }

  /** @param next base offset of the segment behind it; undefined for the newest */
  #open(base: number, next: number | undefined): SegmentFile | undefined {
    let file: ReturnType<typeof SegmentFile.open>;
    try {
      file = SegmentFile.open(this.#io, this.#dir, base);
    } catch (error) {
      if (!isMissing(error)) throw error;
      file = { invalid: 'the segment is listed, and the file is missing' };
    }
    if (!('invalid' in file)) return file;
    if (file.newer === true) throw new SpillwayError('UNSUPPORTED_FORMAT', `${segmentName(base)}: ${file.invalid}`);
    // Recycled under our eyes, or damaged: the start of the log tells. It moves before anything is freed.
    const freed = freedSince(this.#io, this.#dir, base, next ?? base);
    if (freed === undefined) {
      const last = Math.max(next ?? 0, this.#knownDurable()) - 1;
      throw this.#corrupt(segmentName(base), 0, base, file.invalid, last < base ? null : last);
    }
    if (freed > this.#next) throw overtaken(this.#next, this.#wantedFrom, freed);
    return undefined;
  }

  #indexOf(file: SegmentFile): SegmentIndex | undefined {
    const { index, isNew } = this.#readIndex(file.baseOffset);
    if (isNew) this.#walkBytes -= INDEX_WALK_BYTES;
    // A damaged index costs speed only: the segment itself is read.
    return 'invalid' in index || index.epoch !== file.header.epoch ? undefined : index;
  }

  #readIndex(baseOffset: number): ReturnType<RecentIndexes['of']> {
    if (this.#look !== undefined) return this.#look.indexes.of(this.#io, this.#dir, baseOffset, this.#stream);
    return { index: readIndex(this.#io, this.#dir, baseOffset, this.#stream), isNew: true };
  }

  #seek(place: Place, index: SegmentIndex): void {
    const first = index.batchAt(this.#next);
    if (this.#stream !== undefined) {
      place.batches = (index.streams.get(this.#stream)?.batches ?? []).filter((b) => b >= first);
      this.#jump(place, index);
    } else if (first < index.batches) {
      place.position = index.positions[first];
      place.offset = index.offsets[first];
    } else {
      place.position = index.endPosition;
      place.offset = index.nextOffset;
    }
  }

  /** To the next batch that holds the stream, or to the end of the segment. */
  #jump(place: Place, index: SegmentIndex): void {
    const number = place.batches?.shift();
    if (number === undefined) {
      place.position = index.endPosition;
      place.offset = index.nextOffset;
      return;
    }
    place.position = index.positions[number];
    place.offset = index.offsets[number];
    place.file.readExactly((index.positions[number + 1] ?? index.endPosition) - place.position);
  }

  /** The batch at the place; undefined at the durable end; 'moved' when the next segment has to be looked at. */
  #read(place: Place): Batch | 'moved' | undefined {
    const limit = this.#durableOffset?.() ?? Infinity;
    if (place.offset >= limit) return undefined;
    if (place.index !== undefined && place.position >= place.index.endPosition)
      return this.#move(place, place.index.nextOffset);
    // A successor's existence is asked for BEFORE the batch is looked for: else one written in between were missed.
    const successor =
      place.index === undefined && place.offset > place.file.baseOffset && this.#hasSegment(place.offset);
    const batch = place.file.batchAt(place.position, place.offset);
    if (!('invalid' in batch)) {
      if (limit === Infinity && place.index === undefined) this.#syncBefore(place, batch);
      return batch;
    }
    if (batch.newer === true) throw new SpillwayError('UNSUPPORTED_FORMAT', `${place.file.name}: ${batch.invalid}`);
    if (successor) return this.#move(place, place.offset);
    const { segments } = listDirectory(this.#io, this.#dir);
    if (!segments.includes(place.file.baseOffset)) {
      // Truncated and recycled while it was read. If what is wanted next is gone too, `#locate` says so.
      this.#leave(place);
      return 'moved';
    }
    if (this.#mustExist(place, limit, segments)) {
      // The evidence was gathered after the look: the batch may have been written in between. Look again.
      const again = place.file.batchAt(place.position, place.offset);
      if (!('invalid' in again)) return again;
      const rolled = place.offset > place.file.baseOffset && this.#hasSegment(place.offset);
      if (!rolled && this.#isReplaced(place)) {
        this.#leave(place);
        return 'moved';
      }
      if (!rolled) throw this.#corrupt(place.file.name, place.position, place.offset, again.invalid);
    }
    return undefined;
  }

  /** True where a batch that was not found is known to be durable: then it is damaged, not still to come. */
  #mustExist(place: Place, limit: number, segments: readonly number[]): boolean {
    const { baseOffset, isCut } = place.file;
    if (place.index !== undefined || limit !== Infinity || isCut || segments.some((s) => s > baseOffset)) return true;
    return this.#knownDurable() > place.offset || this.#isNewerThan(place);
  }

  /** True where a segment behind this one was begun, as far as was written down: not to find it then is damage. */
  #isNewerThan(place: Place): boolean {
    const checkpoint = this.#checkpoint();
    return !('invalid' in checkpoint) && checkpoint.epoch > place.file.header.epoch;
  }

  /** True where an empty segment of an earlier run was too small, and a larger one has its name now. */
  #isReplaced(place: Place): boolean {
    if (place.offset > place.file.baseOffset) return false;
    const file = this.#open(place.file.baseOffset, undefined);
    file?.close();
    return file?.header.epoch !== place.file.header.epoch;
  }

  #syncBefore(place: Place, batch: Batch): void {
    const end = batch.header.baseOffset + batch.header.records;
    if (end <= place.syncedOffset) return;
    // Whatever the file holds by now is durable after this: look how far that is, so that one sync serves all of it.
    let position = place.position;
    let offset = place.offset;
    for (
      let b: ReturnType<SegmentFile['batchAt']> = batch;
      !('invalid' in b);
      b = place.file.batchAt(position, offset)
    ) {
      position += b.header.batchBytes;
      offset += b.header.records;
      if (position - place.position >= 4 * 1024 * 1024) break;
    }
    place.file.sync();
    place.syncedOffset = offset;
  }

  #records(place: Place, batch: Batch): LogRecord[] {
    const filter: RecordFilter = { from: this.#next, stream: this.#stream, most: this.#look?.batchRecords };
    const records = this.#unpacker.records(batch, filter, `${this.#dir}/${place.file.name}`);
    if (Array.isArray(records)) return records;
    const last = place.offset + batch.header.records - 1;
    throw this.#corrupt(place.file.name, place.position, place.offset, records.invalid, last);
  }

  #advance(place: Place, batch: Batch): void {
    this.#next = Math.max(this.#next, batch.header.baseOffset + batch.header.records);
    if (place.batches !== undefined && place.index !== undefined) {
      this.#jump(place, place.index);
      return;
    }
    place.position += batch.header.batchBytes;
    place.offset += batch.header.records;
    this.#look?.places.note(place.file.baseOffset, place.position, place.offset);
  }

  /** At the end of a sealed segment: on to the next, if it is there yet. */
  #move(place: Place, nextOffset: number): 'moved' | undefined {
    this.#next = Math.max(this.#next, nextOffset);
    if (this.#hasSegment(nextOffset)) {
      this.#leave(place);
      return 'moved';
    }
    // Asked for before the listing: what was durable by then is in it.
    const durable = this.#knownDurable();
    const isNewer = this.#isNewerThan(place);
    const { segments } = listDirectory(this.#io, this.#dir);
    // Without its own segment the reader was overtaken by truncation: `#locate` says so, or finds where to go on.
    if (segments.includes(nextOffset) || !segments.includes(place.file.baseOffset)) {
      this.#leave(place);
      return 'moved';
    }
    if (durable > nextOffset || isNewer || segments.some((s) => s > nextOffset)) {
      throw this.#corrupt(segmentName(nextOffset), 0, nextOffset, 'the segment is missing');
    }
    return undefined;
  }

  /** A lower bound of the durable offset. */
  #knownDurable(): number {
    if (this.#durableOffset !== undefined) return this.#durableOffset();
    const checkpoint = this.#checkpoint();
    return 'invalid' in checkpoint ? 0 : checkpoint.durableOffset;
  }

  #checkpoint(): Checkpoint | Invalid {
    return checkpointOf(this.#io, this.#dir) ?? { invalid: 'the file is missing' };
  }

  #leave(place: Place): void {
    place.file.close();
    this.#place = undefined;
  }

  #hasSegment(baseOffset: number): boolean {
    return this.#io.exists(`${this.#dir}/${segmentName(baseOffset)}`);
  }

  #refuseBeyond(end: number): void {
    if (this.#wantedFrom !== undefined && this.#wantedFrom > end) throw notYetThere(this.#wantedFrom, end);
  }

  #corrupt(file: string, position: number, offset: number, message: string, last: number | null = null): SpillwayError {
    return damaged(this.#dir, file, position, offset, message, last);
  }
}
