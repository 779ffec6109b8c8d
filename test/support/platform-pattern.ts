// Records that can be checked from their number alone: lengths, and every byte.

export function keyBytesOf(i: number): number {
  return i % 3 === 0 ? i % 20 : 0;
}

/** 0 … 47 bytes, and now and then some that are near a quarter of the lane. */
export function payloadBytesOf(i: number): number {
  return i % 1009 === 0 ? 1500 + (i % 300) : (Math.imul(i, 2_654_435_761) >>> 27) | (i & 1 ? 0 : 16);
}

/** Key and payload of record `i` of a lane: a running generator, started from both numbers. */
export function fillRecord(into: Uint8Array, lane: number, i: number, bytes: number): void {
  let x = (Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(lane + 1, 0x85ebca6b)) | 1;
  for (let p = 0; p < bytes; p++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
    into[p] = x >>> 24;
  }
}
