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

/** What takes input and gives output, below a decompressor: one call fills the room it is given, as far as there is anything. */
interface Handle {
  writeSync(
    flush: number,
    input: Uint8Array,
    at: number,
    left: number,
    out: Uint8Array,
    outAt: number,
    room: number,
  ): void;
  close(): void;
}
interface Options {
  readonly maxOutputLength: number;
  readonly chunkSize: number;
  readonly params?: Readonly<Record<number, number>>;
}
/**
 * A decompressor of zlib. gunzipSync makes one too, and says nothing of it where it throws; so it is driven here as gunzipSync does.
 * The types do not know these members. minizlib, and thereby npm, lives on the same ones.
 */
interface Engine {
  _handle: Handle;
  /** Room that is left, input that is left: of the last call that did not fail. */
  readonly _writeState: Uint32Array;
  /** Counts what was read. */
  readonly bytesWritten: number;
  _processChunk(body: Uint8Array, flush: number): Buffer;
}
interface Decoder {
  readonly make: new (options: Options) => Engine;
  /** That there is no more input. */
  readonly flush: number;
}

const { Z_FINISH, ZSTD_e_end, ZSTD_d_windowLogMax } = zlib.constants as unknown as Record<string, number>;
const { Gunzip, ZstdDecompress } = zlib as unknown as Record<string, Decoder['make']> & {
  readonly ZstdDecompress?: Decoder['make'];
};
const gunzip: Decoder = { make: Gunzip, flush: Z_FINISH };
const unzstd: Decoder | undefined = ZstdDecompress && { make: ZstdDecompress, flush: ZSTD_e_end };

/**
 * Counts what a decompressor writes. A call that fails does not say how much it wrote: all the room it had counts.
 * A handle of our own before the other: V8 keeps one that was changed, and the output with it, until it collects everything.
 */
function countOutput(engine: Engine): { bytes: number } {
  const { _handle: handle, _writeState: state } = engine;
  const output = { bytes: 0 };
  engine._handle = {
    writeSync: (flush, input, at, left, out, outAt, room) => {
      state[0] = 0;
      handle.writeSync(flush, input, at, left, out, outAt, room);
      output.bytes += room - state[0];
    },
    close: () => handle.close(),
  };
  return output;
}

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

function checkZstd(): Decoder {
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
  { make, flush }: Decoder,
  encoding: Encoding,
  body: Uint8Array,
  statedBytes: number | undefined,
  maxBytes: number,
  params?: Readonly<Record<number, number>>,
): Uint8Array {
  const limit = Math.min(statedBytes ?? maxBytes, maxBytes);
  // A smaller buffer would come out of Node's pool.
  const chunkSize = Math.max(limit + 1, DECODE_SLACK_BYTES);
  const options = { maxOutputLength: Math.max(limit, 1), chunkSize };
  const engine = new make(params === undefined ? options : { ...options, params });
  const output = countOutput(engine);
  let buffer: Buffer;
  try {
    buffer = engine._processChunk(body, flush);
  } catch (error) {
    throw refusal(error, encoding, limit, maxBytes, output.bytes);
  }
  const rest = body.length - engine.bytesWritten;
  if (rest > 0) {
    const message = `expected its end at byte ${engine.bytesWritten}, got ${rest} more bytes`;
    throw damaged(encoding, message, output.bytes);
  }
  return ownMemory(buffer, chunkSize);
}

function refusal(
  error: unknown,
  encoding: Encoding,
  limit: number,
  maxBytes: number,
  decodedBytes: number,
): SpillwayError {
  switch ((error as { code?: unknown }).code) {
    case 'ERR_BUFFER_TOO_LARGE':
      if (limit === maxBytes) return tooLarge(maxBytes, decodedBytes);
      return damaged(encoding, `it holds more than the ${limit} bytes it states`, decodedBytes);
    case 'ZSTD_error_frameParameter_windowTooLarge':
      return windowTooLarge();
    default:
      return damaged(encoding, reasonOf(error), decodedBytes);
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
