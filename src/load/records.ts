// What the generator sends: requests made once from the seed, then sent in turn, so that making them costs no time later.
// Letters and digits only: no record is blank, none holds a line break.

import { seededRandom32 } from '../base/clock.ts';

/** Memory of all requests together, unless one alone is larger. */
const POOL_BYTES = 16 * 1024 * 1024;
const MAX_REQUESTS = 16;
const letters = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');

export interface RecordSize {
  readonly perRequest: number;
  readonly recordBytes: number;
}

/** Gives the next request's records, over and over. */
export function recordPool({ perRequest, recordBytes }: RecordSize, seed: number): () => readonly Uint8Array[] {
  const requestBytes = perRequest * recordBytes;
  const count = Math.max(1, Math.min(MAX_REQUESTS, Math.floor(POOL_BYTES / requestBytes)));
  const random32 = seededRandom32(seed);
  const requests = Array.from({ length: count }, () => {
    const bytes = Buffer.alloc(requestBytes);
    for (let i = 0; i < bytes.length; i++) bytes[i] = letters[random32() >>> 26];
    return Array.from({ length: perRequest }, (_, i) => bytes.subarray(i * recordBytes, (i + 1) * recordBytes));
  });
  let next = 0;
  return () => requests[next++ % count];
}
