// ByteOps without native code: the same results, several times slower.

import { BATCH_CRC_AT, BLOCK_BYTES } from '../base/limits.ts';
import type { ByteOps } from './file-io.ts';

/** Eight tables for "slicing by 8" (Kounavis and Berry, 2005); reflected polynomial 0x1EDC6F41. */
const tables = makeTables();

function makeTables(): Int32Array[] {
  const list = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    list[0][n] = c;
  }
  for (let n = 0; n < 256; n++) {
    for (let t = 1; t < 8; t++) list[t][n] = (list[t - 1][n] >>> 8) ^ list[0][list[t - 1][n] & 0xff];
  }
  return list;
}

export function crc32cJs(bytes: Uint8Array, crc = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables;
  let c = ~crc;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    const low = c ^ (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    c =
      t7[low & 0xff] ^
      t6[(low >>> 8) & 0xff] ^
      t5[(low >>> 16) & 0xff] ^
      t4[low >>> 24] ^
      t3[bytes[i + 4]] ^
      t2[bytes[i + 5]] ^
      t1[bytes[i + 6]] ^
      t0[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) c = t0[(c ^ bytes[i]) & 0xff] ^ (c >>> 8);
  return ~c >>> 0;
}

function seal(
  staging: Uint8Array,
  prefixBytes: number,
  sources: readonly Uint8Array[],
  ranges: Float64Array,
  rangeCount: number,
): number {
  let end = prefixBytes;
  for (let r = 0; r < rangeCount; r++) {
    const part = sources[ranges[r * 3]].subarray(ranges[r * 3 + 1], ranges[r * 3 + 2]);
    staging.set(part, end);
    end += part.length;
  }
  const crc = crc32cJs(staging.subarray(BATCH_CRC_AT + 4, end), crc32cJs(staging.subarray(0, BATCH_CRC_AT)));
  new DataView(staging.buffer, staging.byteOffset).setUint32(BATCH_CRC_AT, crc, true);
  const padded = Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES;
  staging.fill(0, end, padded);
  return padded;
}

export const jsBytes: ByteOps = { crc32c: crc32cJs, seal };
