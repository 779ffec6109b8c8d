// The index of one segment: where each batch begins, and which batches hold which stream. Grows in memory while the
// segment is written; as a file beside it, it is also the mark that the segment is sealed and durable to its end.
//
//     0                                     64                             … per stream
//     ├─────────────────────────────────────┼──────────────────────────────┼────────────────────────────────────────┤
//     │ magic "SPLX" u32 · version u16 · 0  │ per batch:                   │ nameBytes u16 · 0 u16 · records u32 ·  │
//     │ u16 · baseOffset u64 · nextOffset   │ offset − baseOffset u32 ·    │ batches u32 · name · zeros to 4 ·      │
//     │ u64 · endPosition u64 · epoch u32 · │ position / 4096 u32          │ batch numbers u32 …                    │
//     │ batches u32 · streams u32 ·         │                              │                                        │
//     │ bodyBytes u32 · lastCommitMs u64 ·  │                              │                                        │
//     │ 0 u32 · crc32c u32                  │                              │                                        │
//
// The checksum covers header and body but its own four bytes. An index can always be made again from its segment.

import { getU64, setU64, viewOf } from '../base/bytes.ts';
import { BATCH_CRC_AT, BLOCK_BYTES } from '../base/limits.ts';
import type { FileIo } from '../platform/file-io.ts';
import { FORMAT_VERSION, type Invalid } from './format.ts';

const MAGIC = 0x584c5053; // "SPLX"
export const INDEX_HEADER_BYTES = 64;

interface StreamEntry {
  records: number;
  readonly batches: number[];
}

/** Length of the file that an index header claims. */
export function indexBytes(head: Uint8Array): number {
  return INDEX_HEADER_BYTES + viewOf(head).getUint32(44, true);
}

export class SegmentIndex {
  readonly baseOffset: number;
  readonly epoch: number;
  nextOffset: number;
  /** Byte after the last batch. */
  endPosition: number = BLOCK_BYTES;
  lastCommitMs = 0;
  /** First offset and byte position of each batch. */
  readonly offsets: number[] = [];
  readonly positions: number[] = [];
  readonly streams = new Map<string, StreamEntry>();
  /** Numbers of batches that stand at the streams, all together. */
  entries = 0;

  constructor(baseOffset: number, epoch: number) {
    this.baseOffset = baseOffset;
    this.epoch = epoch;
    this.nextOffset = baseOffset;
  }

  get batches(): number {
    return this.offsets.length;
  }

  add(
    batch: { baseOffset: number; records: number; batchBytes: number; committedAtMs: number },
    streams: readonly { name: string; records: number }[],
  ): void {
    const number = this.offsets.length;
    this.offsets.push(batch.baseOffset);
    this.positions.push(this.endPosition);
    for (const { name, records } of streams) {
      const entry = this.streams.get(name);
      this.entries++;
      if (entry === undefined) this.streams.set(name, { records, batches: [number] });
      else {
        entry.records += records;
        // Two lanes that use the same stream have a row each in one batch.
        if (entry.batches.at(-1) !== number) entry.batches.push(number);
      }
    }
    this.nextOffset = batch.baseOffset + batch.records;
    this.endPosition += batch.batchBytes;
    this.lastCommitMs = batch.committedAtMs;
  }

  /** Number of the batch that holds `offset`, or of the first one behind it. */
  batchAt(offset: number): number {
    let low = 0;
    let high = this.offsets.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const end = this.offsets[middle + 1] ?? this.nextOffset;
      if (end <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  encode(io: FileIo): Uint8Array {
    const names = [...this.streams.keys()];
    let bytes = INDEX_HEADER_BYTES + this.offsets.length * 8;
    for (const [name, entry] of this.streams) bytes += 12 + pad4(name.length) + entry.batches.length * 4;
    const out = new Uint8Array(bytes);
    const v = viewOf(out);
    v.setUint32(0, MAGIC, true);
    v.setUint16(4, FORMAT_VERSION, true);
    setU64(v, 8, this.baseOffset);
    setU64(v, 16, this.nextOffset);
    setU64(v, 24, this.endPosition);
    v.setUint32(32, this.epoch, true);
    v.setUint32(36, this.offsets.length, true);
    v.setUint32(40, names.length, true);
    v.setUint32(44, bytes - INDEX_HEADER_BYTES, true);
    setU64(v, 48, this.lastCommitMs);
    let at = INDEX_HEADER_BYTES;
    for (let i = 0; i < this.offsets.length; i++, at += 8) {
      v.setUint32(at, this.offsets[i] - this.baseOffset, true);
      v.setUint32(at + 4, this.positions[i] / BLOCK_BYTES, true);
    }
    for (const [name, entry] of this.streams) {
      v.setUint16(at, name.length, true);
      v.setUint32(at + 4, entry.records, true);
      v.setUint32(at + 8, entry.batches.length, true);
      out.set(Buffer.from(name, 'latin1'), at + 12);
      at += 12 + pad4(name.length);
      for (const number of entry.batches) {
        v.setUint32(at, number, true);
        at += 4;
      }
    }
    v.setUint32(BATCH_CRC_AT, checksum(io, out), true);
    return out;
  }

  /**
   * Reads an index; every count is checked against the bytes there are before it is used, and what it says against itself: so that no
   * index leads a reader backwards, on the spot or to a batch that it does not have.
   * @param only the one stream that matters: what stands at others is passed over; all matter where undefined
   */
  static decode(io: FileIo, bytes: Uint8Array, only?: string): SegmentIndex | Invalid {
    if (bytes.length < INDEX_HEADER_BYTES) return { invalid: 'the index is shorter than its header' };
    const v = viewOf(bytes);
    if (v.getUint32(0, true) !== MAGIC) return { invalid: 'this is not an index' };
    if (v.getUint32(44, true) !== bytes.length - INDEX_HEADER_BYTES)
      return { invalid: 'the length of the index does not fit' };
    if (v.getUint32(BATCH_CRC_AT, true) !== checksum(io, bytes))
      return { invalid: 'the checksum of the index does not match' };
    if (v.getUint16(4, true) !== FORMAT_VERSION)
      return { invalid: `the index has format version ${v.getUint16(4, true)}`, newer: true };
    const index = new SegmentIndex(getU64(v, 8), v.getUint32(32, true));
    index.nextOffset = getU64(v, 16);
    index.endPosition = getU64(v, 24);
    index.lastCommitMs = getU64(v, 48);
    const batches = v.getUint32(36, true);
    const tooShort = { invalid: 'the index ends too early' };
    const contradicts = { invalid: 'the index contradicts itself' };
    let at = INDEX_HEADER_BYTES;
    if (at + batches * 8 > bytes.length) return tooShort;
    let offset = index.baseOffset - 1;
    let position = 0;
    for (let i = 0; i < batches; i++, at += 8) {
      index.offsets.push(index.baseOffset + v.getUint32(at, true));
      index.positions.push(v.getUint32(at + 4, true) * BLOCK_BYTES);
      if (index.offsets[i] <= offset || index.positions[i] <= position) return contradicts;
      offset = index.offsets[i];
      position = index.positions[i];
    }
    const ends = index.endPosition > position && index.nextOffset > offset && index.endPosition % BLOCK_BYTES === 0;
    // Whoever seals a segment has put a batch into it.
    if (batches === 0 || index.offsets[0] !== index.baseOffset || index.positions[0] !== BLOCK_BYTES || !ends) {
      return contradicts;
    }
    if (!Number.isSafeInteger(index.nextOffset) || !Number.isSafeInteger(index.endPosition)) return contradicts;
    const wanted = only === undefined ? undefined : Buffer.from(only, 'latin1');
    for (let s = v.getUint32(40, true); s > 0; s--) {
      if (at + 12 > bytes.length) return tooShort;
      const nameBytes = v.getUint16(at, true);
      const count = v.getUint32(at + 8, true);
      const listAt = at + 12 + pad4(nameBytes);
      if (listAt + count * 4 > bytes.length) return tooShort;
      const nameAt = at + 12;
      const recordsAt = at + 4;
      at = listAt + count * 4;
      if (wanted !== undefined && !isAt(bytes, nameAt, nameBytes, wanted)) continue;
      const name = Buffer.from(bytes.subarray(nameAt, nameAt + nameBytes)).toString('latin1');
      const list = Array.from({ length: count }, (_, i) => v.getUint32(listAt + i * 4, true));
      if (list.some((number, i) => number >= batches || (i > 0 && number <= list[i - 1]))) return contradicts;
      index.streams.set(name, { records: v.getUint32(recordsAt, true), batches: list });
    }
    return index;
  }
}

/** Whether a name of that length is this one: from the end on, where names that are numbered differ. */
function isAt(bytes: Uint8Array, at: number, length: number, name: Uint8Array): boolean {
  if (length !== name.length) return false;
  for (let i = length - 1; i >= 0; i--) if (bytes[at + i] !== name[i]) return false;
  return true;
}

function pad4(n: number): number {
  return (n + 3) & ~3;
}

function checksum(io: FileIo, bytes: Uint8Array): number {
  return io.bytes.crc32c(bytes.subarray(INDEX_HEADER_BYTES), io.bytes.crc32c(bytes.subarray(0, BATCH_CRC_AT)));
}
