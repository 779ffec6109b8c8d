// One LZ4 block, to bytes and back. Format and limits: the LZ4 block format description (Y. Collet, 2011 and since); the search is the
// one of its fast mode: a table of the last place of each hash of four bytes, and longer steps the longer nothing was found.
//
//     token u8: literals (high half), match − 4 (low half); 15: bytes of 255 and one less follow, added to it
//     ├───────┼─ more ─┼─ literals ─┼─ offset u16 ─┼─ more ─┤ … the last sequence ends behind its literals
//
// Here and not of a package: those that there are give back each result in memory that is freed by a callback of the event loop, and
// the commit thread has none (measured with lz4-napi: 55 KiB more per batch, for good). Another reads and writes the same blocks: the
// tests hold one against the other.
// Promises: both write to the buffer they are given and nowhere else, and allocate nothing; `decompressLz4` reads nothing outside of
// what it is given, whatever the bytes are.

const HASH_BITS = 14;
const MIN_MATCH = 4;
const MAX_OFFSET = 65_535;
/** The last match begins so far from the end, at least; and this many bytes at the end are literals. */
const LAST_MATCH = 12;
const LAST_LITERALS = 5;
/** After so many places without a match (a power of two) the steps become longer. */
const SKIP_SHIFT = 6;

/** For `compressLz4`, again and again. */
export function newLz4Table(): Int32Array {
  return new Int32Array(1 << HASH_BITS);
}

/** Bytes that a length takes behind its half of the token. */
function moreBytes(length: number): number {
  return length < 15 ? 0 : 1 + Math.floor((length - 15) / 255);
}

function putMore(into: Uint8Array, at: number, length: number): number {
  if (length < 15) return at;
  let rest = length - 15;
  let to = at;
  for (; rest >= 255; rest -= 255) into[to++] = 255;
  into[to++] = rest;
  return to;
}

/** @returns bytes written to the front of `into`; 0 where they would not fit */
export function compressLz4(raw: Uint8Array, into: Uint8Array, table: Int32Array): number {
  const end = raw.length;
  const lastMatchAt = end - LAST_MATCH;
  const matchEnd = end - LAST_LITERALS;
  // Places are kept plus one: 0 is none.
  table.fill(0);
  let anchor = 0;
  let out = 0;
  // Hot: per byte. No allocation, no closure, no exception.
  for (let at = 0; at <= lastMatchAt;) {
    const word = raw[at] | (raw[at + 1] << 8) | (raw[at + 2] << 16) | (raw[at + 3] << 24);
    const hash = Math.imul(word, 0x9e37_79b1) >>> (32 - HASH_BITS);
    let from = table[hash] - 1;
    table[hash] = at + 1;
    const isMatch =
      from >= 0 &&
      at - from <= MAX_OFFSET &&
      (raw[from] | (raw[from + 1] << 8) | (raw[from + 2] << 16) | (raw[from + 3] << 24)) === word;
    if (!isMatch) {
      at += 1 + ((at - anchor) >> SKIP_SHIFT);
      continue;
    }
    let begin = at;
    for (; begin > anchor && from > 0 && raw[begin - 1] === raw[from - 1]; begin--) from--;
    let to = at + MIN_MATCH;
    for (let i = from + (to - begin); to < matchEnd && raw[to] === raw[i]; i++) to++;
    const literals = begin - anchor;
    const match = to - begin - MIN_MATCH;
    if (out + 3 + moreBytes(literals) + literals + moreBytes(match) > into.length) return 0;
    into[out++] = (Math.min(literals, 15) << 4) | Math.min(match, 15);
    out = putMore(into, out, literals);
    for (let i = anchor; i < begin; i++) into[out++] = raw[i];
    into[out++] = (begin - from) & 255;
    into[out++] = (begin - from) >> 8;
    out = putMore(into, out, match);
    at = to;
    anchor = to;
  }
  const literals = end - anchor;
  if (out + 1 + moreBytes(literals) + literals > into.length) return 0;
  into[out++] = Math.min(literals, 15) << 4;
  out = putMore(into, out, literals);
  into.set(raw.subarray(anchor), out);
  return out + literals;
}

/** Fills `into` exactly. @returns why it cannot; undefined where it did */
export function decompressLz4(stored: Uint8Array, into: Uint8Array): string | undefined {
  const end = stored.length;
  const room = into.length;
  let at = 0;
  let out = 0;
  // Hot: per sequence. No allocation, no closure, no exception.
  for (;;) {
    if (at >= end) return `it ends at byte ${at}, before its last sequence`;
    const token = stored[at++];
    let literals = token >> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255 && at < end) literals += more = stored[at++];
    }
    if (literals > end - at) return `${literals} literals at byte ${at} of ${end}`;
    if (literals > room - out) return `it holds more than ${room} bytes`;
    if (literals > 64) into.set(stored.subarray(at, at + literals), out);
    else for (let i = 0; i < literals; i++) into[out + i] = stored[at + i];
    at += literals;
    out += literals;
    if (at === end) return out === room ? undefined : `expected ${room} bytes, got ${out}`;
    if (end - at < 2) return `it ends at byte ${end}, within an offset`;
    const offset = stored[at] | (stored[at + 1] << 8);
    at += 2;
    if (offset === 0 || offset > out) return `an offset of ${offset} at byte ${at - 2}, behind ${out} bytes`;
    let match = (token & 15) + MIN_MATCH;
    if ((token & 15) === 15) {
      let more = 255;
      while (more === 255 && at < end) match += more = stored[at++];
    }
    if (match > room - out) return `it holds more than ${room} bytes`;
    // One that reaches into itself repeats what it has just written: byte by byte. The others are moved in one piece.
    if (offset >= match && match > 32) into.copyWithin(out, out - offset, out - offset + match);
    else for (let i = 0; i < match; i++) into[out + i] = into[out + i - offset];
    out += match;
  }
}
