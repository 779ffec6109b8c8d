// Undoes the Content-Encoding of one request body: identity, gzip, or zstd where this Node has it.
//
// Promises:
//   - decoding stops having produced at most maxBytes + DECODE_SLACK_BYTES, whatever the body is. zlib's sync functions honour
//     maxOutputLength (its streams do not): they check it after each chunk of output, and here the first chunk is already
//     one byte larger than what may come, so that there is never a second one, and nothing is joined;
//   - every byte of the body is part of what was decoded. A truncated body, a wrong checksum, and bytes behind the end are
//     BAD_ENCODING. gzip: several members are one body (RFC 1952, 2.2). zstd: exactly one frame;
//   - the result lies in memory of its own, or is the body itself (identity): never in Node's pool, so it can be transferred.
// Limits: a zstd window of 2^ZSTD_WINDOW_LOG bytes; one coding per body.

import * as zlib from 'node:zlib';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { DECODE_SLACK_BYTES, ZSTD_WINDOW_LOG } from '../base/limits.ts';
import { show } from '../base/options.ts';

export type Encoding = 'identity' | 'gzip' | 'zstd';

interface Decompressed {
  readonly buffer: Buffer;
  /** Counts what was read. */
  readonly engine: { readonly bytesWritten: number };
}
interface DecompressOptions {
  readonly info: true;
  readonly maxOutputLength: number;
  readonly chunkSize: number;
  readonly params?: Readonly<Record<number, number>>;
}
/** The types know neither `info` nor zstd. */
type Decompress = (body: Uint8Array, options: DecompressOptions) => Decompressed;

const gunzip = zlib.gunzipSync as unknown as Decompress;
const unzstd = (zlib as { zstdDecompressSync?: unknown }).zstdDecompressSync as Decompress | undefined;
const { ZSTD_d_windowLogMax } = zlib.constants as unknown as { ZSTD_d_windowLogMax: number };

function unsupported(message: string): SpillwayError {
  return new SpillwayError('UNSUPPORTED_ENCODING', `Content-Encoding: ${message}`);
}

function damaged(encoding: Encoding, message: string, decodedBytes = 0): SpillwayError {
  return new SpillwayError('BAD_ENCODING', `body: ${encoding}: ${message}`, { decodedBytes });
}

function tooLarge(maxBytes: number, decodedBytes = 0): SpillwayError {
  const message = `body: expected at most ${maxBytes} bytes once decoded, got more`;
  return new SpillwayError('BODY_TOO_LARGE', message, { decodedBytes });
}

function checkZstd(): Decompress {
  if (unzstd !== undefined) return unzstd;
  throw unsupported(`zstd needs Node 22.15 or later, and this is ${process.version}; gzip works`);
}

/** @throws UNSUPPORTED_ENCODING for an unknown coding, more than one, or zstd on a Node without it */
export function parseContentEncoding(header: string | undefined): Encoding {
  const coding = (header ?? '').trim().toLowerCase();
  switch (coding) {
    case '':
    case 'identity':
      return 'identity';
    case 'gzip':
    case 'x-gzip': // the same, says RFC 9110, 8.4.1.3
      return 'gzip';
    case 'zstd':
      checkZstd();
      return 'zstd';
    default:
      if (coding.includes(',')) throw unsupported(`expected one coding, got ${show(coding)}`);
      throw unsupported(`expected gzip, zstd or identity, got ${show(coding)}`);
  }
}

/** @throws BODY_TOO_LARGE, BAD_ENCODING, UNSUPPORTED_ENCODING */
export function decodeContent(body: Uint8Array, encoding: Encoding, maxBytes: number): Uint8Array {
  switch (encoding) {
    case 'identity':
      if (body.length > maxBytes) throw tooLarge(maxBytes);
      return body;
    case 'gzip':
      return decompress(gunzip, encoding, body, gzipBytes(body), maxBytes);
    case 'zstd': {
      const decoder = checkZstd();
      const statedBytes = zstdBytes(body);
      // The decoder would take it for a window that is too large.
      if (statedBytes !== undefined && statedBytes > maxBytes) throw tooLarge(maxBytes);
      return decompress(decoder, encoding, body, statedBytes, maxBytes, { [ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG });
    }
  }
}

/** @param statedBytes how much the body says it holds, which the decoder checks; undefined where it does not say */
function decompress(
  decoder: Decompress,
  encoding: Encoding,
  body: Uint8Array,
  statedBytes: number | undefined,
  maxBytes: number,
  params?: Readonly<Record<number, number>>,
): Uint8Array {
  const limit = Math.min(statedBytes ?? maxBytes, maxBytes);
  // A smaller buffer would come out of Node's pool.
  const chunkSize = Math.max(limit + 1, DECODE_SLACK_BYTES);
  const options = { info: true, maxOutputLength: Math.max(limit, 1), chunkSize } as const;
  let done: Decompressed;
  try {
    done = decoder(body, params === undefined ? options : { ...options, params });
  } catch (error) {
    throw refusal(error, encoding, limit, maxBytes, chunkSize);
  }
  const { buffer, engine } = done;
  const rest = body.length - engine.bytesWritten;
  if (rest > 0) throw damaged(encoding, `expected its end at byte ${engine.bytesWritten}, got ${rest} more bytes`);
  return ownMemory(buffer, chunkSize);
}

/** @param chunkBytes the one piece of output there was: more cannot have been decoded */
function refusal(
  error: unknown,
  encoding: Encoding,
  limit: number,
  maxBytes: number,
  chunkBytes: number,
): SpillwayError {
  switch ((error as { code?: unknown }).code) {
    case 'ERR_BUFFER_TOO_LARGE':
      if (limit === maxBytes) return tooLarge(maxBytes, chunkBytes);
      return damaged(encoding, `it holds more than the ${limit} bytes it states`, chunkBytes);
    case 'ZSTD_error_frameParameter_windowTooLarge':
      return windowTooLarge();
    default:
      return damaged(encoding, reasonOf(error));
  }
}

/** Without the pool, and without keeping more than twice what is used. */
function ownMemory(buffer: Buffer, chunkBytes: number): Uint8Array {
  const { buffer: memory, byteOffset, length } = buffer;
  const own = byteOffset === 0 && memory.byteLength === chunkBytes && length * 2 >= chunkBytes;
  return own ? new Uint8Array(memory, 0, length) : new Uint8Array(buffer);
}

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b, 0x08]);

/**
 * What a gzip body of one member holds: its last word, modulo 2^32, which zlib checks. Undefined where there may be several
 * members: the first bytes of one, anywhere.
 *
 *     1f 8b 08 flags time(4) xfl os · [extra name comment crc16] · deflate … · crc32(4) · size(4)   and again
 */
function gzipBytes(body: Uint8Array): number | undefined {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  if (bytes.length < 18 || bytes.includes(GZIP_MAGIC, 1)) return undefined;
  return bytes.readUInt32LE(bytes.length - 4);
}

const ZSTD_MAGIC = 0xfd2fb528;
const BLOCK_RLE = 1;

function windowTooLarge(): SpillwayError {
  return unsupported(`expected a zstd window of at most ${2 ** ZSTD_WINDOW_LOG / 1024 ** 2} MiB, got a larger one`);
}

/**
 * What a zstd frame says it holds; undefined where it does not say. Walks its blocks: Node 22.15 takes a truncated frame for a
 * whole one, and every Node reads the first frame only.
 *
 *     magic(4) · descriptor · [window] · [dictionary 0|1|2|4] · [size 0|1|2|4|8] · {last:1 type:2 size:21 · block} … · [checksum(4)]
 *
 * @throws BAD_ENCODING where the body is not exactly one frame; UNSUPPORTED_ENCODING where its window is too large
 */
function zstdBytes(body: Uint8Array): number | undefined {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  const need = (end: number): void => {
    if (end > bytes.length) throw damaged('zstd', `it ends at byte ${bytes.length}, in the middle of a frame`);
  };
  need(5);
  if (bytes.readUInt32LE(0) !== ZSTD_MAGIC) throw damaged('zstd', 'it does not begin with a frame');
  const descriptor = bytes[4];
  const single = (descriptor & 0x20) !== 0;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6];
  const sizeAt = 5 + (single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3];
  let at = sizeAt + sizeBytes;
  need(at);
  // exponent(5) mantissa(3): the window is 2^(10 + exponent) · (1 + mantissa / 8).
  if (!single && bytes[5] > (ZSTD_WINDOW_LOG - 10) << 3) throw windowTooLarge();
  for (let last = false; !last;) {
    need(at + 3);
    const header = bytes.readUIntLE(at, 3);
    last = (header & 1) === 1;
    at += 3 + (((header >> 1) & 3) === BLOCK_RLE ? 1 : header >> 3);
    need(at);
  }
  if ((descriptor & 4) !== 0) at += 4;
  need(at);
  if (at < bytes.length)
    throw damaged('zstd', `expected its end at byte ${at}, got ${bytes.length - at} more bytes: send one frame`);
  if (sizeBytes === 0) return undefined;
  if (sizeBytes === 8) return Number(bytes.readBigUInt64LE(sizeAt));
  return bytes.readUIntLE(sizeAt, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
}
