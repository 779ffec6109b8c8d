// The bytes on disk, version 1. Everything little-endian. docs/format.md shows the same with a hex example that a test
// decodes. A segment file is one header block, then batches back to back, each padded to a block of 4,096 bytes:
//
//     0        4096              4096+n×4096
//     ├────────┼─────────────────┼──────────────────┼─ … ─┼─ zeros, or batches of an older epoch ─┤
//     │ header │ batch           │ batch            │     │                                       │
//
// A batch:
//
//     0                                         64                    64 + tableBytes
//     ├─────────────────────────────────────────┼─────────────────────┼──────────────────────┼─ zeros ─┤
//     │ header, its last word the checksum      │ stream table        │ records              │         │
//
//     header   magic "SPLB" u32 · version u8 · codec u8 · streams u16 · batchBytes u32 · bodyBytes u32 · rawBytes u32
//              · tableBytes u32 · records u32 · epoch u32 · baseOffset u64 · firstTimestampMs u64 · committedAtMs u64
//              · salt u32 · crc32c u32
//     table    per stream: id u16 · nameBytes u16 · records u32 · name; zeros up to a multiple of 8
//     records  frames as they lay in the lane (platform/lane-memory.ts); with a codec, all of them compressed as one. Header
//              and table stay plain: recovery and the index never decompress
//
// The checksum covers header and body but its own four bytes; padding is not covered. `epoch` and `salt` are those of
// the segment header: epoch counts activations of segment files, salt is random, so neither an old batch in a recycled
// segment nor a payload made to look like a batch can pass for a new one.

import { getU64, setU64, viewOf } from '../base/bytes.ts';
import {
  BATCH_CRC_AT,
  BATCH_HEADER_BYTES,
  BLOCK_BYTES,
  IDENTITY_BYTES,
  MAX_BATCH_RAW_BYTES,
  MAX_STREAM_TABLE_BYTES,
  RECORD_ALIGN_BYTES,
  RECORD_HEADER_BYTES,
} from '../base/limits.ts';
import { codecs, type BatchPlan, type Identity, type LogRecord } from '../base/types.ts';
import { FLAG_IDENTITY, FLAG_UNTERMINATED } from '../platform/lane-memory.ts';

export const FORMAT_VERSION = 1;
export const CODEC_NONE = 0;

const BATCH_MAGIC = 0x424c5053; // "SPLB"
const SEGMENT_MAGIC = 0x534c5053; // "SPLS"

/** What ties a batch to the segment it was written into. */
export interface SegmentIdentity {
  readonly epoch: number;
  readonly salt: number;
}

export interface SegmentHeader extends SegmentIdentity {
  readonly baseOffset: number;
  readonly segmentBytes: number;
  readonly createdAtMs: number;
}

export interface BatchHeader extends SegmentIdentity {
  /** Place in `codecs` of base/types.ts, or one that only a newer version knows. */
  readonly codec: number;
  readonly streams: number;
  /** On disk, padding included. */
  readonly batchBytes: number;
  /** Stream table and records as stored. */
  readonly bodyBytes: number;
  /** The same before compression. */
  readonly rawBytes: number;
  readonly tableBytes: number;
  readonly records: number;
  readonly baseOffset: number;
  readonly firstTimestampMs: number;
  readonly committedAtMs: number;
}

/** Why bytes are not what they should be; `newer` where only a newer version could read them. */
export interface Invalid {
  readonly invalid: string;
  readonly newer?: true;
}

export function encodeSegmentHeader(block: Uint8Array, h: SegmentHeader, crc32c: (b: Uint8Array) => number): void {
  block.fill(0, 0, BLOCK_BYTES);
  const v = viewOf(block);
  v.setUint32(0, SEGMENT_MAGIC, true);
  v.setUint16(4, FORMAT_VERSION, true);
  setU64(v, 8, h.baseOffset);
  v.setUint32(16, h.epoch, true);
  v.setUint32(20, h.salt, true);
  setU64(v, 24, h.segmentBytes);
  setU64(v, 32, h.createdAtMs);
  v.setUint32(BATCH_CRC_AT, crc32c(block.subarray(0, BATCH_CRC_AT)), true);
}

export function decodeSegmentHeader(block: Uint8Array, crc32c: (b: Uint8Array) => number): SegmentHeader | Invalid {
  if (block.length < BATCH_HEADER_BYTES) return { invalid: 'the file is shorter than a segment header' };
  const v = viewOf(block);
  if (v.getUint32(0, true) !== SEGMENT_MAGIC) return { invalid: 'this is not a segment header' };
  const version = v.getUint16(4, true);
  if (v.getUint32(BATCH_CRC_AT, true) !== crc32c(block.subarray(0, BATCH_CRC_AT))) {
    return { invalid: 'the checksum of the segment header does not match' };
  }
  if (version !== FORMAT_VERSION) {
    return { invalid: `format version ${version}, this program reads ${FORMAT_VERSION}`, newer: true };
  }
  return {
    baseOffset: getU64(v, 8),
    epoch: v.getUint32(16, true),
    salt: v.getUint32(20, true),
    segmentBytes: getU64(v, 24),
    createdAtMs: getU64(v, 32),
  };
}

export interface BatchStamp extends SegmentIdentity {
  readonly baseOffset: number;
  readonly committedAtMs: number;
}

/**
 * Writes header (without its checksum) and stream table of a plan into `staging`.
 * @returns bytes written: where the records go
 */
export function encodeBatchPrefix(staging: Uint8Array, plan: BatchPlan, stamp: BatchStamp): number {
  const v = viewOf(staging);
  let at = BATCH_HEADER_BYTES;
  plan.streamIds.forEach((id, i) => {
    const name = plan.streamNames[id];
    v.setUint16(at, id, true);
    v.setUint16(at + 2, name.length, true);
    v.setUint32(at + 4, plan.streamRecords[i], true);
    at += 8;
    for (let c = 0; c < name.length; c++) staging[at++] = name.charCodeAt(c);
  });
  while (at % RECORD_ALIGN_BYTES !== 0) staging[at++] = 0;
  const tableBytes = at - BATCH_HEADER_BYTES;
  const bodyBytes = tableBytes + plan.recordBytes;
  v.setUint32(0, BATCH_MAGIC, true);
  v.setUint8(4, FORMAT_VERSION);
  v.setUint8(5, CODEC_NONE);
  v.setUint16(6, plan.streamIds.length, true);
  v.setUint32(8, paddedBatchBytes(bodyBytes), true);
  v.setUint32(12, bodyBytes, true);
  v.setUint32(16, bodyBytes, true);
  v.setUint32(20, tableBytes, true);
  v.setUint32(24, plan.records, true);
  v.setUint32(28, stamp.epoch, true);
  setU64(v, 32, stamp.baseOffset);
  setU64(v, 40, firstTimestampMs(plan));
  setU64(v, 48, stamp.committedAtMs);
  v.setUint32(56, stamp.salt, true);
  return at;
}

/** Turns a prefix into that of a batch whose records are stored as `storedBytes` of this codec. */
export function encodeCompressed(staging: Uint8Array, codec: number, tableBytes: number, storedBytes: number): void {
  const v = viewOf(staging);
  v.setUint8(5, codec);
  v.setUint32(8, paddedBatchBytes(tableBytes + storedBytes), true);
  v.setUint32(12, tableBytes + storedBytes, true);
}

function firstTimestampMs(plan: BatchPlan): number {
  const v = viewOf(plan.sources[plan.ranges[0]]);
  const at = plan.ranges[1];
  return v.getUint32(at + 8, true) + v.getUint16(at + 12, true) * 2 ** 32;
}

function paddedBatchBytes(bodyBytes: number): number {
  return Math.ceil((BATCH_HEADER_BYTES + bodyBytes) / BLOCK_BYTES) * BLOCK_BYTES;
}

/** Bytes that the batch of a plan takes on disk. */
export function planBatchBytes(plan: BatchPlan): number {
  let table = 0;
  for (const id of plan.streamIds) table += 8 + plan.streamNames[id].length;
  return paddedBatchBytes(Math.ceil(table / RECORD_ALIGN_BYTES) * RECORD_ALIGN_BYTES + plan.recordBytes);
}

/**
 * Reads a batch header; nothing of the batch but these 64 bytes is looked at, and no length is believed that does not
 * fit the others or the `available` bytes of the file from here on. The checksum is not checked: see `checkBatch`.
 */
export function decodeBatchHeader(
  head: Uint8Array,
  segment: SegmentIdentity,
  available: number,
): BatchHeader | Invalid {
  if (head.length < BATCH_HEADER_BYTES) return { invalid: 'the file ends inside a batch header' };
  const v = viewOf(head);
  if (v.getUint32(0, true) !== BATCH_MAGIC) return { invalid: 'no batch begins here' };
  if (v.getUint32(28, true) !== segment.epoch || v.getUint32(56, true) !== segment.salt) {
    return { invalid: 'the batch belongs to another life of this segment' };
  }
  const version = v.getUint8(4);
  const header: BatchHeader = {
    codec: v.getUint8(5),
    streams: v.getUint16(6, true),
    batchBytes: v.getUint32(8, true),
    bodyBytes: v.getUint32(12, true),
    rawBytes: v.getUint32(16, true),
    tableBytes: v.getUint32(20, true),
    records: v.getUint32(24, true),
    epoch: segment.epoch,
    baseOffset: getU64(v, 32),
    firstTimestampMs: getU64(v, 40),
    committedAtMs: getU64(v, 48),
    salt: segment.salt,
  };
  const lengthsFit =
    header.batchBytes === paddedBatchBytes(header.bodyBytes) &&
    header.batchBytes <= available &&
    header.tableBytes <= header.bodyBytes &&
    header.tableBytes <= MAX_STREAM_TABLE_BYTES + RECORD_ALIGN_BYTES &&
    header.tableBytes % RECORD_ALIGN_BYTES === 0 &&
    header.records > 0 &&
    header.records <= header.rawBytes / RECORD_HEADER_BYTES &&
    header.baseOffset <= Number.MAX_SAFE_INTEGER - header.records &&
    rawBytesFit(header);
  if (version === FORMAT_VERSION && !lengthsFit) return { invalid: 'the lengths in the batch header do not fit' };
  if (version !== FORMAT_VERSION) return { invalid: `the batch has format version ${version}`, newer: true };
  if (header.codec >= codecs.length) return { invalid: `the batch has codec ${header.codec}`, newer: true };
  return header;
}

/** What is stored plain is as long as it was, and what is compressed was longer. Of a codec that is not known nothing is. */
function rawBytesFit({ codec, rawBytes, bodyBytes }: BatchHeader): boolean {
  if (codec === CODEC_NONE) return rawBytes === bodyBytes;
  return codec >= codecs.length || (rawBytes > bodyBytes && rawBytes <= MAX_BATCH_RAW_BYTES);
}

/** Checks the checksum of a whole batch. @param batch its bytes from header to body end or further */
export function checksumMatches(
  batch: Uint8Array,
  header: BatchHeader,
  crc32c: (b: Uint8Array, crc?: number) => number,
): boolean {
  const crc = crc32c(
    batch.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + header.bodyBytes),
    crc32c(batch.subarray(0, BATCH_CRC_AT)),
  );
  return crc === viewOf(batch).getUint32(BATCH_CRC_AT, true);
}

export interface StreamRow {
  readonly id: number;
  readonly name: string;
  readonly records: number;
}

/** Reads the stream table of a checked batch. */
export function decodeStreamTable(batch: Uint8Array, header: BatchHeader): StreamRow[] | Invalid {
  const v = viewOf(batch);
  const end = BATCH_HEADER_BYTES + header.tableBytes;
  const rows: StreamRow[] = [];
  let at = BATCH_HEADER_BYTES;
  for (let i = 0; i < header.streams; i++) {
    const nameBytes = at + 8 <= end ? v.getUint16(at + 2, true) : end;
    if (at + 8 + nameBytes > end) return { invalid: 'the stream table is longer than it says' };
    const name = Buffer.from(batch.buffer, batch.byteOffset + at + 8, nameBytes).toString('latin1');
    rows.push({ id: v.getUint16(at, true), name, records: v.getUint32(at + 4, true) });
    at += 8 + nameBytes;
  }
  return rows;
}

/** What of a batch a reader wants. */
export interface RecordFilter {
  readonly from: number;
  readonly stream: string | undefined;
  /** No more than so many; all where undefined. */
  readonly most?: number | undefined;
}

/**
 * Reads the records of a checked, plain batch (see unpack.ts) that pass the filter. Payloads are views into `batch`.
 * The checksum has vouched for the bytes; that frames, counts and streams agree is checked all the same.
 */
export function decodeRecords(batch: Uint8Array, header: BatchHeader, filter: RecordFilter): LogRecord[] | Invalid {
  const rows = decodeStreamTable(batch, header);
  if (!Array.isArray(rows)) return rows;
  const names = new Map(rows.map((r) => [r.id, r.name]));
  const v = viewOf(batch);
  const end = BATCH_HEADER_BYTES + header.bodyBytes;
  const records: LogRecord[] = [];
  const { most = Infinity } = filter;
  let at = BATCH_HEADER_BYTES + header.tableBytes;
  for (let i = 0; i < header.records; i++) {
    if (at + RECORD_HEADER_BYTES > end) return { invalid: `record ${i} of ${header.records} lies beyond the batch` };
    const payloadBytes = v.getUint32(at, true);
    const meta = v.getUint32(at + 4, true);
    const keyBytes = v.getUint16(at + 14, true);
    const identified = ((meta >>> 16) & FLAG_IDENTITY) !== 0;
    const keyAt = at + RECORD_HEADER_BYTES + (identified ? IDENTITY_BYTES : 0);
    const payloadAt = at + RECORD_HEADER_BYTES + keyBytes;
    const next =
      at + Math.ceil((RECORD_HEADER_BYTES + keyBytes + payloadBytes) / RECORD_ALIGN_BYTES) * RECORD_ALIGN_BYTES;
    const stream = names.get(meta & 0xffff);
    if (next > end || stream === undefined || meta >>> 24 !== 0 || keyAt > payloadAt) {
      return { invalid: `record ${i} of ${header.records} does not fit the batch` };
    }
    const offset = header.baseOffset + i;
    const isWanted = offset >= filter.from && (filter.stream === undefined || filter.stream === stream);
    if (isWanted && records.length < most) {
      records.push({
        offset,
        stream,
        timestampMs: v.getUint32(at + 8, true) + v.getUint16(at + 12, true) * 2 ** 32,
        key: keyAt === payloadAt ? null : batch.subarray(keyAt, payloadAt),
        payload: batch.subarray(payloadAt, payloadAt + payloadBytes),
        unterminated: ((meta >>> 16) & FLAG_UNTERMINATED) !== 0,
        ...(identified ? { identity: identityAt(batch, v, keyAt - IDENTITY_BYTES) } : undefined),
      });
    }
    at = next;
  }
  if (at !== end) return { invalid: 'the batch holds more bytes than its records' };
  return records;
}

function identityAt(batch: Uint8Array, v: DataView, at: number): Identity {
  return { id: batch.subarray(at, at + 16), low: v.getUint32(at + 16, true), high: v.getUint32(at + 20, true) };
}

/**
 * Checks the frames of a checked batch as `decodeRecords` does, and only counts them: nothing is allocated.
 * @param batch begins at a multiple of 4 bytes in its buffer, as everything read in blocks does
 */
export function countRecords(
  batch: Uint8Array,
  header: BatchHeader,
  rows: readonly StreamRow[],
  from: number,
): { records: number; bytes: number } | Invalid {
  const known = new Set(rows.map((r) => r.id));
  const words = new Int32Array(batch.buffer, batch.byteOffset, batch.length >> 2);
  const end = BATCH_HEADER_BYTES + header.bodyBytes;
  let at = BATCH_HEADER_BYTES + header.tableBytes;
  let lastStream = -1;
  let records = 0;
  let bytes = 0;
  // Hot: per record. No allocation, no closure, no exception.
  for (let i = 0; i < header.records; i++) {
    if (at + RECORD_HEADER_BYTES > end) return { invalid: `record ${i} of ${header.records} lies beyond the batch` };
    const word = at >> 2;
    const payloadBytes = words[word];
    const meta = words[word + 1];
    const keyBytes = words[word + 3] >>> 16;
    const stream = meta & 0xffff;
    const least = (meta & (FLAG_IDENTITY << 16)) === 0 ? 0 : IDENTITY_BYTES;
    const fits = payloadBytes >= 0 && payloadBytes <= header.bodyBytes && keyBytes >= least;
    const next = at + ((RECORD_HEADER_BYTES + keyBytes + payloadBytes + RECORD_ALIGN_BYTES - 1) & -RECORD_ALIGN_BYTES);
    if (!fits || next > end || meta >>> 24 !== 0 || (stream !== lastStream && !known.has(stream))) {
      return { invalid: `record ${i} of ${header.records} does not fit the batch` };
    }
    lastStream = stream;
    if (header.baseOffset + i >= from) {
      records++;
      bytes += payloadBytes;
    }
    at = next;
  }
  return at === end ? { records, bytes } : { invalid: 'the batch holds more bytes than its records' };
}
