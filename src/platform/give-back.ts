// Memory of bytes that came over the wire, given back as soon as they are in the lane.
//
// Left to the collector, buffers that live through a few of its rounds count as old, and V8 goes through all of its heap to get at
// them: up to half of the gateway's CPU under bulk load (a mark-compact per 20 requests of 64 KiB; after: none).

import { native } from './native.ts';

/** Smaller ones cost more to give back than to leave. */
const LEAST_BYTES = 4096;

/**
 * To be called by the one owner of the bytes, once nothing reads them any more: they are empty after it, in every view. Bytes that are
 * not all of their buffer (node's pool) are left to the collector, and all are where there is no addon.
 */
export function giveBack(bytes: Uint8Array | Uint32Array): void {
  if (bytes.byteLength >= LEAST_BYTES) native?.release(bytes);
}
