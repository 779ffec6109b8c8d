// Reading one segment file: its header, and batches at given positions. Reads ahead in chunks that grow while they are
// used up and shrink at the end of what is written, so that following a live log does not read what is not there yet.
// Each chunk is a fresh buffer: records handed out are views into it.

import { join } from 'node:path';
import { BATCH_HEADER_BYTES, BLOCK_BYTES, READ_CHUNK_BYTES } from '../base/limits.ts';
import type { FileIo } from '../platform/file-io.ts';
import {
  checksumMatches,
  decodeBatchHeader,
  decodeSegmentHeader,
  type BatchHeader,
  type Invalid,
  type SegmentHeader,
} from './format.ts';
import { segmentName } from './names.ts';

export interface Batch {
  readonly header: BatchHeader;
  /** From header to the end of the body, at least. */
  readonly bytes: Uint8Array;
}

export class SegmentFile {
  readonly name: string;
  readonly baseOffset: number;
  readonly header: SegmentHeader;
  readonly fileBytes: number;
  readonly #io: FileIo;
  readonly #fd: number;
  #chunk: Uint8Array = new Uint8Array(0);
  #chunkAt = 0;
  #ahead = 16 * BLOCK_BYTES;
  /** The one buffer of who keeps nothing that was read. */
  #own: Uint8Array | undefined;

  private constructor(io: FileIo, fd: number, name: string, header: SegmentHeader, fileBytes: number) {
    this.#io = io;
    this.#fd = fd;
    this.name = name;
    this.header = header;
    this.baseOffset = header.baseOffset;
    this.fileBytes = fileBytes;
  }

  /** It had its length before it had its name: what is shorter was cut. */
  get isCut(): boolean {
    return this.fileBytes < this.header.segmentBytes;
  }

  /** Opens for reading; an invalid header is returned, not thrown. @throws IO_ERROR */
  static open(io: FileIo, dir: string, baseOffset: number): SegmentFile | Invalid {
    const name = segmentName(baseOffset);
    const fd = io.open(join(dir, name), 'read', false);
    const block = new Uint8Array(BLOCK_BYTES);
    const n = io.read(fd, block, 0);
    const header = decodeSegmentHeader(block.subarray(0, n), io.bytes.crc32c);
    if ('invalid' in header) {
      io.close(fd);
      return header;
    }
    if (header.baseOffset !== baseOffset) {
      io.close(fd);
      return { invalid: `the header says base offset ${header.baseOffset}, the name ${baseOffset}` };
    }
    return new SegmentFile(io, fd, name, header, io.size(fd));
  }

  /**
   * The batch at `position`, checked, or why there is none. What was read ahead earlier may be stale at the end of a
   * live segment, so nothing is called invalid that was not read again.
   */
  batchAt(position: number, expectedOffset: number): Batch | Invalid {
    const cached = this.#decode(position, expectedOffset);
    if (cached !== undefined && !('invalid' in cached)) return cached;
    if (cached === undefined) {
      // Its header is here and sound, its end is not: what is here of it is kept, only the rest is read, and the header
      // of the next. So large batches are read one by one, and next to nothing is copied.
      const header = decodeBatchHeader(this.#head(position), this.header, this.fileBytes - position) as BatchHeader;
      this.#load(position, Math.max(header.batchBytes + BLOCK_BYTES, this.#ahead), true);
      const whole = this.#decode(position, expectedOffset);
      if (whole !== undefined && !('invalid' in whole)) return this.#wentWell(whole);
    }
    this.#load(position, this.#ahead);
    const fresh = this.#decode(position, expectedOffset);
    if (fresh === undefined) {
      // The batch is longer than the chunk, and its header is sound: the length is within the file.
      const header = decodeBatchHeader(this.#head(position), this.header, this.fileBytes - position) as BatchHeader;
      this.#load(position, header.batchBytes + BLOCK_BYTES, true);
      const whole = this.#decode(position, expectedOffset) ?? { invalid: 'the file ends inside a batch' };
      return 'invalid' in whole ? whole : this.#wentWell(whole);
    }
    if (!('invalid' in fresh)) return this.#wentWell(fresh);
    this.#ahead = BLOCK_BYTES;
    return fresh;
  }

  #wentWell(batch: Batch): Batch {
    this.#ahead = Math.min(READ_CHUNK_BYTES, this.#ahead * 2);
    return batch;
  }

  /** A valid batch of this life of the segment at `position`, whatever its offset. For looking behind damage. */
  anyBatchAt(position: number): BatchHeader | undefined {
    if (position < this.#chunkAt || position + BATCH_HEADER_BYTES > this.#chunkAt + this.#chunk.length) {
      this.#load(position, READ_CHUNK_BYTES);
    }
    const header = decodeBatchHeader(this.#head(position), this.header, this.fileBytes - position);
    if ('invalid' in header) return undefined;
    const batch = this.batchAt(position, header.baseOffset);
    return 'invalid' in batch ? undefined : batch.header;
  }

  /** What a batch header at `position` claims to be long; 0 where there is none of this life of the segment. */
  claimedBytesAt(position: number): number {
    this.#load(position, BLOCK_BYTES);
    const header = decodeBatchHeader(this.#head(position), this.header, this.fileBytes - position);
    return 'invalid' in header ? 0 : header.batchBytes;
  }

  /** Bytes of exactly one batch are read next: for jumps along an index. */
  readExactly(bytes: number): void {
    this.#ahead = bytes;
  }

  /** Batches are looked at and let go, never kept: one buffer serves them all. */
  keepNothing(buffer: Uint8Array): void {
    this.#own = buffer;
  }

  /** Forces what the file holds to stable storage; for a reader that cannot ask the writer. */
  sync(): void {
    this.#io.sync(this.#fd);
  }

  close(): void {
    this.#io.close(this.#fd);
  }

  #head(position: number): Uint8Array {
    const at = position - this.#chunkAt;
    return this.#chunk.subarray(at, at + BATCH_HEADER_BYTES);
  }

  /** Undefined where the chunk does not hold the whole batch. */
  #decode(position: number, expectedOffset: number): Batch | Invalid | undefined {
    const at = position - this.#chunkAt;
    if (at < 0 || at + BATCH_HEADER_BYTES > this.#chunk.length) {
      return position + BATCH_HEADER_BYTES > this.fileBytes
        ? { invalid: 'the file ends here' }
        : { invalid: 'not read' };
    }
    const header = decodeBatchHeader(this.#head(position), this.header, this.fileBytes - position);
    if ('invalid' in header)
      return header.newer === true && !this.#vouched(position) ? { invalid: header.invalid } : header;
    if (at + header.batchBytes > this.#chunk.length) return undefined;
    const bytes = this.#chunk.subarray(at, at + header.batchBytes);
    if (!checksumMatches(bytes, header, this.#io.bytes.crc32c))
      return { invalid: 'the checksum of the batch does not match' };
    if (header.baseOffset !== expectedOffset) {
      return { invalid: `the batch begins at offset ${header.baseOffset}, expected ${expectedOffset}` };
    }
    return { header, bytes };
  }

  /** True where the checksum of what claims to be of a newer version is right: else it is damage. */
  #vouched(position: number): boolean {
    const at = position - this.#chunkAt;
    const bodyBytes = new DataView(this.#chunk.buffer, this.#chunk.byteOffset + at).getUint32(12, true);
    if (BATCH_HEADER_BYTES + bodyBytes > this.fileBytes - position) return false;
    const bytes = Buffer.allocUnsafe(BATCH_HEADER_BYTES + bodyBytes);
    this.#io.read(this.#fd, bytes, position);
    return checksumMatches(bytes, { bodyBytes } as BatchHeader, this.#io.bytes.crc32c);
  }

  /** @param keep what the chunk already holds from `position` on is not read again */
  #load(position: number, bytes: number, keep = false): void {
    const wanted = Math.max(0, Math.min(bytes, this.fileBytes - position));
    const chunk = this.#room(wanted);
    const at = position - this.#chunkAt;
    const kept = keep && at >= 0 ? Math.min(wanted, Math.max(0, this.#chunk.length - at)) : 0;
    if (kept > 0) chunk.set(this.#chunk.subarray(at, at + kept));
    const n = kept < wanted ? this.#io.read(this.#fd, chunk.subarray(kept), position + kept) : 0;
    this.#chunk = chunk.subarray(0, kept + n);
    this.#chunkAt = position;
  }

  /** A fresh buffer, since records that were handed out are views; the same again for one who keeps none. */
  #room(bytes: number): Uint8Array {
    if (this.#own === undefined) return Buffer.allocUnsafeSlow(bytes);
    if (this.#own.length < bytes) this.#own = Buffer.allocUnsafeSlow(Math.max(bytes, READ_CHUNK_BYTES));
    return this.#own.subarray(0, bytes);
  }
}
