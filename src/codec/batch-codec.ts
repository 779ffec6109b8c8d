// Compression of the records of a batch, and back. What the bytes are (docs/format.md): gzip one member (RFC 1952), zstd one frame
// (RFC 8878), lz4 one block.
//
// Promises: `compress` writes into the room it is given and nowhere else, allocates nothing, and keeps COMPRESSOR_BYTES at most between
// batches; `decode` allocates as many bytes as it is asked to fill (lz4: none), never what the compressed bytes say; it fills all of
// them, or says why not.
//
// Levels, measured on 64 KiB and 1 MiB of real logs in record frames (one thread, MB of records per second of CPU): gzip 1 130 to
// 480 at 4.5 to 13.7 : 1; gzip 6 a quarter of that speed for 15 % less; zstd 3 better than gzip 6 at twice the speed of gzip 1.

import * as zlib from 'node:zlib';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { codecs, type BatchCompressor, type BatchDecoder, type Codec } from '../base/types.ts';
import { giveBack } from '../platform/give-back.ts';
import { decodeContent } from './decode.ts';
import { compressLz4, decompressLz4, newLz4Table } from './lz4.ts';

const GZIP_LEVEL = 1;

/** What of a compressor of zlib is used here; as in decode.ts, the types do not know these members. */
interface Engine {
  readonly _handle: {
    writeSync(
      flush: number,
      raw: Uint8Array,
      at: number,
      left: number,
      into: Uint8Array,
      to: number,
      room: number,
    ): void;
  };
  /** Room that is left, input that is left: of the last call. */
  readonly _writeState: Uint32Array;
  reset(): void;
}

const { Z_FINISH, ZSTD_e_end } = zlib.constants as unknown as Record<string, number>;
const { Gzip, ZstdCompress } = zlib as unknown as {
  readonly Gzip: new (options: { readonly level: number }) => Engine;
  readonly ZstdCompress?: new () => Engine;
};

/** What this process would need for a codec; undefined where it has it. */
export function codecLacks(codec: Codec): string | undefined {
  if (codec === 'zstd' && ZstdCompress === undefined) return `Node 22.15 or later, and this is ${process.version}`;
  return undefined;
}

/**
 * One engine for all batches, and its output straight into the batch: nothing is allocated per batch.
 * `reset` forgets the level of zstd in the Nodes that were looked at: so its own default is used, 3.
 */
function engineCompressor(codec: Codec, engine: Engine, finish: number): BatchCompressor {
  return {
    codec: codecs.indexOf(codec),
    compress: (raw, into) => {
      engine.reset();
      engine._handle.writeSync(finish, raw, 0, raw.length, into, 0, into.length);
      const [roomLeft, rawLeft] = engine._writeState;
      // Without room left nobody knows whether all is there.
      return roomLeft === 0 || rawLeft > 0 ? 0 : into.length - roomLeft;
    },
  };
}

function lz4Compressor(): BatchCompressor {
  const table = newLz4Table();
  return { codec: codecs.indexOf('lz4'), compress: (raw, into) => compressLz4(raw, into, table) };
}

/** Undefined for `none`. @throws INVALID_OPTION where this process does not have the codec */
export function compressorFor(codec: Codec): BatchCompressor | undefined {
  const lacks = codecLacks(codec);
  if (lacks !== undefined) {
    throw new SpillwayError('INVALID_OPTION', `option 'codec': ${codec} needs ${lacks}; gzip works everywhere`, {
      subject: 'codec',
    });
  }
  switch (codec) {
    case 'none':
      return undefined;
    case 'lz4':
      return lz4Compressor();
    case 'zstd':
      return engineCompressor(codec, new ZstdCompress!(), ZSTD_e_end);
    case 'gzip':
      return engineCompressor(codec, new Gzip({ level: GZIP_LEVEL }), Z_FINISH);
  }
}

/** Fills `into` by zlib. @returns why it cannot */
function inflate(encoding: 'gzip' | 'zstd', stored: Uint8Array, into: Uint8Array): string | undefined {
  try {
    const raw = decodeContent(stored, encoding, into.length);
    const { length } = raw;
    if (length === into.length) into.set(raw);
    // All of its memory, which is larger.
    giveBack(new Uint8Array(raw.buffer));
    return length === into.length ? undefined : `expected ${into.length} bytes, got ${length}`;
  } catch (error) {
    return reasonOf(error).replace(/^body: /, '');
  }
}

export const batchDecoder: BatchDecoder = {
  lacks: (number) => codecLacks(codecs[number]),
  decode: (number, stored, into) => {
    const codec = codecs[number];
    if (codec === 'none') throw new Error('there is nothing to decode');
    return codec === 'lz4' ? decompressLz4(stored, into) : inflate(codec, stored, into);
  },
};
