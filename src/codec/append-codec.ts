// APPEND with everything behind its header compressed, and back (docs/protocol.md). The frame says by a flag how.
//
// Promises: what comes out is at most COMPRESSED_APPEND_BYTES with its header, and never more than the longest frame, whatever the
// bytes say: decodeContent stops there. So it is done at once, on the thread that reads the connection, as bodies of that length
// are: to hand it to a decode thread costs more. Larger frames cannot be compressed.

import * as zlib from 'node:zlib';
import { giveBack } from '../platform/give-back.ts';
import { codecLacks } from './batch-codec.ts';
import { decodeContent } from './decode.ts';
import {
  APPEND_GZIP,
  APPEND_ZSTD,
  COMPRESSED_APPEND_BYTES,
  FRAME_HEADER_BYTES,
  WELCOME_GZIP,
  WELCOME_ZSTD,
  type Frame,
} from './frames.ts';

export type WireCodec = 'none' | 'gzip' | 'zstd';

/** Level 6 takes four times as long for 15 % less. */
export const WIRE_GZIP_LEVEL = 1;
/** What is compressed has to become this much shorter, as a fraction: less is not worth undoing. */
export const WIRE_WORTH = 0.9;

/** Of a WELCOME: what this process can undo. */
export const WELCOME_CODECS = WELCOME_GZIP | (codecLacks('zstd') === undefined ? WELCOME_ZSTD : 0);

/** Flags of an APPEND, by the flags of the WELCOME that allows them. */
export function appendFlagOf(codec: WireCodec, welcomeFlags: number): number {
  if (codec === 'gzip' && (welcomeFlags & WELCOME_GZIP) !== 0) return APPEND_GZIP;
  return codec === 'zstd' && (welcomeFlags & WELCOME_ZSTD) !== 0 ? APPEND_ZSTD : 0;
}

/** The payload of an APPEND, compressed; undefined where it does not pay. */
export function compressPayload(payload: Uint8Array, flag: number): Buffer | undefined {
  const { zstdCompressSync } = zlib as unknown as { zstdCompressSync: typeof zlib.deflateSync };
  const compressed =
    flag === APPEND_GZIP ? zlib.gzipSync(payload, { level: WIRE_GZIP_LEVEL }) : zstdCompressSync(payload);
  return compressed.length <= WIRE_WORTH * payload.length ? compressed : undefined;
}

/**
 * Hands on an APPEND as it was before it was compressed; itself where it was not. Its bytes are good within the call.
 * @throws BAD_ENCODING, BODY_TOO_LARGE, UNSUPPORTED_ENCODING, and what `take` throws
 */
export function expandAppend(frame: Frame, maxFrameBytes: number, take: (plain: Frame) => void): void {
  const { flags } = frame;
  if ((flags & (APPEND_GZIP | APPEND_ZSTD)) === 0) return take(frame);
  const most = Math.min(COMPRESSED_APPEND_BYTES, maxFrameBytes) - FRAME_HEADER_BYTES;
  const payload = decodeContent(frame.payload, (flags & APPEND_GZIP) !== 0 ? 'gzip' : 'zstd', most);
  take({ ...frame, payload });
  // All of its memory, which is a little larger.
  giveBack(new Uint8Array(payload.buffer));
}
