// Memory that records are encoded into and sent from: record frames as they lie in a lane (platform/lane-memory.ts), each with room
// for its identity, which the gateway fills in (docs/protocol.md, APPEND).
//
// A chunk is held by each run of records in it that is not settled, and by each write of it that the socket has not finished: a
// record that was sent again may be acknowledged, by what was sent first, while its bytes are still on their way. Only then
// it is used again.

import { IDENTITY_BYTES, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES } from '../base/limits.ts';
import { APPEND_HEADER_BYTES } from '../codec/frames.ts';
import { frameBytes } from '../platform/lane-memory.ts';

/** With the header of its APPEND a full chunk is a frame of 64 KiB. */
export const CHUNK_BYTES = 65_536 - APPEND_HEADER_BYTES;
/** Chunks kept for reuse: 8 MiB, as much as a gateway lets one connection have under way where nobody set ingressBytes. */
const MAX_FREE_CHUNKS = 128;

export interface Chunk {
  readonly bytes: Buffer;
  readonly words: Int32Array;
  /** End of the last record. */
  used: number;
  holders: number;
}

/** Where the record ends that begins there. keyBytes of its header holds the identity's too. */
export function recordEnd(chunk: Chunk, at: number): number {
  const i = at >> 2;
  return at + frameBytes(chunk.words[i + 3] >>> 16, chunk.words[i]);
}

export class ChunkPool {
  readonly #free: Chunk[] = [];

  /** An empty chunk with room for at least so many bytes, held once. */
  take(bytes: number): Chunk {
    const free = bytes <= CHUNK_BYTES ? this.#free.pop() : undefined;
    if (free !== undefined) {
      free.used = 0;
      free.holders = 1;
      return free;
    }
    const memory = Buffer.allocUnsafeSlow(Math.max(bytes, CHUNK_BYTES));
    return { bytes: memory, words: new Int32Array(memory.buffer, 0, memory.length >> 2), used: 0, holders: 1 };
  }

  release(chunk: Chunk): void {
    chunk.holders--;
    const usual = chunk.bytes.length === CHUNK_BYTES;
    if (chunk.holders === 0 && usual && this.#free.length < MAX_FREE_CHUNKS) this.#free.push(chunk);
  }
}

// Hot: per record. No allocation, no closure, no exception.
/** Writes a record behind the last; the caller has seen to it that there is room. */
export function writeRecord(
  chunk: Chunk,
  flags: number,
  key: Uint8Array | null,
  payload: Uint8Array | string,
  payloadBytes: number,
): void {
  const { bytes, words } = chunk;
  const at = chunk.used;
  const i = at >> 2;
  const keyBytes = key === null ? 0 : key.length;
  words[i] = payloadBytes;
  words[i + 1] = flags << 16;
  words[i + 2] = 0;
  words[i + 3] = (IDENTITY_BYTES + keyBytes) << 16;
  words[i + 4] = 0;
  words[i + 5] = 0;
  words[i + 6] = 0;
  words[i + 7] = 0;
  words[i + 8] = 0;
  words[i + 9] = 0;
  let p = at + RECORD_HEADER_BYTES + IDENTITY_BYTES;
  if (key !== null) bytes.set(key, p);
  p += keyBytes;
  if (typeof payload === 'string') bytes.write(payload, p, payloadBytes, 'utf8');
  else bytes.set(payload, p);
  p += payloadBytes;
  while ((p & (RECORD_ALIGN_BYTES - 1)) !== 0) bytes[p++] = 0;
  chunk.used = p;
}
