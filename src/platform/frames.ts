// Record frames of a body whose records are known by their ranges, in one piece: for `LaneProducer.putFrames`.

import { RECORD_HEADER_BYTES } from '../base/limits.ts';
import { frameBytes } from './lane-memory.ts';
import { native } from './native.ts';

/** Bytes that the frames of records take. @param ranges pairs of from and to @param keyBytes reserved in front of each payload */
export function framesBytes(ranges: Uint32Array, records: number, keyBytes: number): number {
  let bytes = 0;
  for (let i = 0; i < 2 * records; i += 2) bytes += frameBytes(keyBytes, ranges[i + 1] - ranges[i]);
  return bytes;
}

export function encodeFramesJs(
  out: Uint8Array,
  body: Uint8Array,
  ranges: Uint32Array,
  records: number,
  keyBytes: number,
): number {
  const v = new DataView(out.buffer, out.byteOffset, out.byteLength);
  let at = 0;
  for (let i = 0; i < 2 * records; i += 2) {
    const payload = body.subarray(ranges[i], ranges[i + 1]);
    const end = at + frameBytes(keyBytes, payload.length);
    out.fill(0, at, at + RECORD_HEADER_BYTES + keyBytes);
    v.setUint32(at, payload.length, true);
    v.setUint16(at + 14, keyBytes, true);
    const payloadAt = at + RECORD_HEADER_BYTES + keyBytes;
    out.set(payload, payloadAt);
    out.fill(0, payloadAt + payload.length, end);
    at = end;
  }
  return at;
}

/**
 * Writes a frame per record into `out`: length and payload, keyBytes zeros as its key, stream and time left 0.
 * @returns bytes written
 */
export const encodeFrames: typeof encodeFramesJs = native?.encodeFrames ?? encodeFramesJs;
