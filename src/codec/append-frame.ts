// APPEND, the frame that carries records: to bytes and back. Its records are laid out as in a lane and on disk
// (platform/lane-memory.ts), so that the server checks them with one header read each and copies all of them in one piece.
//
// Promises: after `decodeAppend` no length in the frames leads outside of them; nothing is copied, and nothing allocated per
// record.

import { setU64, viewOf } from '../base/bytes.ts';
import { IDENTITY_BYTES, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES } from '../base/limits.ts';
import { FLAG_UNTERMINATED, frameBytes } from '../platform/lane-memory.ts';
import {
  APPEND_HEADER_BYTES,
  FRAME_HEADER_BYTES,
  frameType,
  getExact,
  newFrame,
  protocolError,
  type Frame,
} from './frames.ts';

export interface AppendHeader {
  readonly streamId: number;
  readonly firstSequence: number;
  readonly records: number;
  /** APPEND_SKIPS or 0. */
  readonly flags: number;
}

export interface RecordToSend {
  readonly key: Uint8Array | null;
  readonly payload: Uint8Array;
  readonly unterminated: boolean;
}

/** An APPEND whose records were checked. */
export interface Append {
  readonly firstSequence: number;
  readonly records: number;
  /** The record frames, one behind the other, as the lane takes them. A view. */
  readonly frames: Uint8Array;
  /** Key (without identity) and payload of the largest record. */
  readonly largestBytes: number;
}

//     8               16        20         24        24+16
//     ├───────────────┼─────────┼──────────┼─────────┼─────┼─────────┼── … ──┼──────┤
//     │ firstSequence │ records │ reserved │ record  │ key │ payload │ zeros │ next │
//     │ u64           │ u32     │ 0        │ header  │     │         │ to 8  │      │

/** Bytes of one record in an APPEND. @param identity whether the producer has an id: 24 bytes in front of the key */
export function recordBytes(keyBytes: number, payloadBytes: number, identity: boolean): number {
  return frameBytes(identity ? keyBytes + IDENTITY_BYTES : keyBytes, payloadBytes);
}

/**
 * An APPEND. The caller keeps lengths within maxFrameBytes and maxRecordBytes of the WELCOME, and keys within 65,535 bytes
 * (with identity 65,511).
 */
export function encodeAppend(
  header: Omit<AppendHeader, 'records'>,
  records: readonly RecordToSend[],
  identity: boolean,
): Uint8Array {
  let payloadBytes = APPEND_HEADER_BYTES - FRAME_HEADER_BYTES;
  for (const r of records) payloadBytes += recordBytes(r.key?.length ?? 0, r.payload.length, identity);
  const [frame, v] = newFrame(frameType.append, payloadBytes, header.flags, header.streamId);
  setU64(v, 8, header.firstSequence);
  v.setUint32(16, records.length, true);
  v.setUint32(20, 0, true);
  let at = APPEND_HEADER_BYTES;
  // Hot: per record. No allocation, no closure, no exception.
  for (const { key, payload, unterminated } of records) {
    const reserved = identity ? IDENTITY_BYTES : 0;
    const keyBytes = reserved + (key === null ? 0 : key.length);
    v.setUint32(at, payload.length, true);
    v.setUint32(at + 4, unterminated ? FLAG_UNTERMINATED << 16 : 0, true);
    v.setUint32(at + 8, 0, true);
    v.setUint32(at + 12, keyBytes << 16, true);
    at += RECORD_HEADER_BYTES;
    if (identity) frame.fill(0, at, at + IDENTITY_BYTES);
    if (key !== null) frame.set(key, at + reserved);
    frame.set(payload, at + keyBytes);
    at += keyBytes + payload.length;
    while (at % RECORD_ALIGN_BYTES !== 0) frame[at++] = 0;
  }
  return frame;
}

/**
 * Checks the layout of an APPEND. Whether its records are few and small enough is the caller's question.
 * @param identity whether the producer has an id
 */
export function decodeAppend(frame: Frame, identity: boolean): Append {
  const { payload } = frame;
  const v = viewOf(payload);
  const end = payload.length;
  const from = APPEND_HEADER_BYTES - FRAME_HEADER_BYTES;
  if (end < from) throw protocolError(`APPEND: expected a payload of ${from} bytes or more, got ${end}`);
  const firstSequence = getExact(v, 0);
  const records = v.getUint32(8, true);
  if (records === 0) throw protocolError('APPEND: holds no record');
  if (firstSequence + records > Number.MAX_SAFE_INTEGER) throw protocolError('APPEND: sequences of 2^53 or more');
  const reserved = identity ? IDENTITY_BYTES : 0;
  let at = from;
  let largestBytes = 0;
  let read = 0;
  // Hot: per record. No allocation, no closure.
  while (read < records && at + RECORD_HEADER_BYTES <= end) {
    const payloadBytes = v.getUint32(at, true);
    const keyBytes = v.getUint16(at + 14, true);
    // Not frameBytes: its 32-bit arithmetic would wrap for a length near 2^32.
    const unpadded = RECORD_HEADER_BYTES + keyBytes + payloadBytes;
    at += unpadded + (-unpadded & (RECORD_ALIGN_BYTES - 1));
    if (keyBytes < reserved || at > end) break;
    largestBytes = Math.max(largestBytes, keyBytes - reserved + payloadBytes);
    read++;
  }
  if (read < records) throw protocolError(`APPEND: record ${read} of ${records} does not fit the frame`);
  if (at !== end) throw protocolError(`APPEND: holds ${end - at} bytes more than its ${records} records`);
  return { firstSequence, records, frames: payload.subarray(from), largestBytes };
}

/** The frames of `records` of an APPEND's records, from the one with that sequence on. A view. */
export function framesOf(append: Append, firstSequence: number, records: number): Uint8Array {
  const { frames } = append;
  if (records === append.records) return frames;
  const from = positionOf(frames, 0, firstSequence - append.firstSequence);
  return frames.subarray(from, positionOf(frames, from, records));
}

/** Where the record begins that is `records` behind the one at `from`. */
function positionOf(frames: Uint8Array, from: number, records: number): number {
  const v = viewOf(frames);
  let at = from;
  for (let i = 0; i < records; i++) at += frameBytes(v.getUint16(at + 14, true), v.getUint32(at, true));
  return at;
}

/** Payload bytes of checked frames together, without headers, keys and padding. */
export function payloadBytesOf(frames: Uint8Array): number {
  const v = viewOf(frames);
  let sum = 0;
  for (let at = 0; at < frames.length; at += frameBytes(v.getUint16(at + 14, true), v.getUint32(at, true))) {
    sum += v.getUint32(at, true);
  }
  return sum;
}

/** Payloads of checked frames, as views. */
export function payloadsOf(frames: Uint8Array): Uint8Array[] {
  const v = viewOf(frames);
  const payloads: Uint8Array[] = [];
  for (let at = 0; at < frames.length;) {
    const keyBytes = v.getUint16(at + 14, true);
    const payloadBytes = v.getUint32(at, true);
    const from = at + RECORD_HEADER_BYTES + keyBytes;
    payloads.push(frames.subarray(from, from + payloadBytes));
    at += frameBytes(keyBytes, payloadBytes);
  }
  return payloads;
}
