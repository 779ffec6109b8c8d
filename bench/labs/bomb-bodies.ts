// Bodies that say nothing of what they become: built of parts that repeat, so that a bomb of gigabytes is made in milliseconds and is
// still, to the last byte, a body that a decoder accepts. All of them are zeros.
//
//     gzip   header(10) · the same block of deflate, again and again · an empty last block(2) · crc32(4) · size modulo 2^32(4)
//     zstd   magic(4) · descriptor without a size(1) · window of 8 MiB(1) · {last:1 RLE:2 128 KiB:21 · 0} …

import { constants, deflateRawSync, gzipSync } from 'node:zlib';

const MIB = 1024 * 1024;
/** Decoded size of the part that is repeated. */
const UNIT_BYTES = MIB;
const GZIP_HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
const LAST_BLOCK = Buffer.from([3, 0]);
const CRC_POLYNOMIAL = 0xedb88320;

/** 1 MiB of zeros that needs nothing before it: a full flush ends it at a byte, and forgets. */
const unit = deflateRawSync(Buffer.alloc(UNIT_BYTES), { level: 9, finishFlush: constants.Z_FULL_FLUSH });

/** A 32 × 32 matrix over GF(2), a column a word: what a number of zero bits does to the register of CRC-32. */
type Matrix = readonly number[];

function times(matrix: Matrix, vector: number): number {
  let sum = 0;
  for (let i = 0, rest = vector; rest !== 0; i++, rest >>>= 1) if ((rest & 1) === 1) sum ^= matrix[i];
  return sum >>> 0;
}

/** CRC-32 of that many zeros, without looking at one: squares of a matrix, as zlib's crc32_combine does it. */
export function crcOfZeros(bytes: number): number {
  // One zero bit shifts the register, and adds the polynomial where a one falls out.
  let power: Matrix = Array.from({ length: 32 }, (_, i) => (i === 0 ? CRC_POLYNOMIAL : 2 ** (i - 1)));
  let register = 0xffffffff;
  for (let bits = BigInt(bytes) * 8n; bits > 0n; bits >>= 1n) {
    if ((bits & 1n) === 1n) register = times(power, register);
    const matrix = power;
    power = matrix.map((column) => times(matrix, column));
  }
  return (register ^ 0xffffffff) >>> 0;
}

function wholeUnits(bytes: number): number {
  if (bytes % UNIT_BYTES !== 0) throw new Error(`${bytes} is no multiple of ${UNIT_BYTES}`);
  return bytes / UNIT_BYTES;
}

/** One gzip member. */
export function gzipZeros(bytes: number): Buffer {
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crcOfZeros(bytes));
  trailer.writeUInt32LE(bytes % 2 ** 32, 4);
  return Buffer.concat([GZIP_HEADER, ...Array<Buffer>(wholeUnits(bytes)).fill(unit), LAST_BLOCK, trailer]);
}

/** So many members, one behind the other: one body, says RFC 1952. */
export function gzipMembers(members: number, bytesEach: number): Buffer {
  return Buffer.concat(Array<Buffer>(members).fill(gzipZeros(bytesEach)));
}

/** A bomb within a bomb: what comes out of the first is the second. */
export function gzipNested(bytes: number): Buffer {
  return gzipSync(gzipZeros(bytes), { level: 9 });
}

const ZSTD_BLOCK_BYTES = 128 * 1024;

/** One zstd frame that does not say what it holds. */
export function zstdZeros(bytes: number): Buffer {
  const blocks = wholeUnits(bytes) * (UNIT_BYTES / ZSTD_BLOCK_BYTES);
  const out = Buffer.alloc(6 + blocks * 4);
  out.writeUInt32LE(0xfd2fb528, 0);
  out[5] = (23 - 10) << 3;
  for (let i = 0; i < blocks; i++) {
    const last = i === blocks - 1 ? 1 : 0;
    out.writeUIntLE(last | (1 << 1) | (ZSTD_BLOCK_BYTES << 3), 6 + i * 4, 3);
  }
  return out;
}
