// LZ4 blocks: there and back, against another implementation in both directions, and whatever bytes come to be decompressed.

import { createRequire } from 'node:module';
import fc from 'fast-check';
import t from 'tap';
import { compressLz4, decompressLz4, newLz4Table } from '../../src/codec/lz4.ts';

/** It puts the length in front, as u32. */
const other = createRequire(import.meta.url)('lz4-napi') as {
  compressSync(raw: Uint8Array): Buffer;
  uncompressSync(stored: Uint8Array): Buffer;
};

const table = newLz4Table();
const GUARD = 64;

/** Compressed, where nothing was written but to the room. */
function compressed(raw: Uint8Array, roomBytes = raw.length + (raw.length >> 7) + 100): Uint8Array {
  const memory = new Uint8Array(roomBytes + 2 * GUARD).fill(0xee);
  const bytes = compressLz4(raw, memory.subarray(GUARD, GUARD + roomBytes), table);
  const outside = [...memory.subarray(0, GUARD), ...memory.subarray(GUARD + roomBytes)];
  if (bytes > roomBytes || outside.some((b) => b !== 0xee)) throw new Error('it wrote outside of its room');
  return memory.slice(GUARD, GUARD + bytes);
}

function withLength(raw: Uint8Array, block: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(raw.length);
  return Buffer.concat([length, block]);
}

function decompressed(
  block: Uint8Array,
  bytes: number,
): { readonly into: Uint8Array; readonly wrong: string | undefined } {
  const memory = new Uint8Array(bytes + 2 * GUARD).fill(0xee);
  const wrong = decompressLz4(block, memory.subarray(GUARD, GUARD + bytes));
  const outside = [...memory.subarray(0, GUARD), ...memory.subarray(GUARD + bytes)];
  if (outside.some((b) => b !== 0xee)) throw new Error('it wrote outside of its room');
  return { into: memory.slice(GUARD, GUARD + bytes), wrong };
}

/** Texts that repeat themselves near and far, runs, and noise. */
const part = fc.oneof(
  fc.uint8Array({ maxLength: 60 }),
  fc.constantFrom('2026-11-22 INFO request took ', ' ms', 'GET /v1/orders ').map((s) => new Uint8Array(Buffer.from(s))),
  fc.tuple(fc.nat(255), fc.nat(700)).map(([b, n]) => new Uint8Array(n).fill(b)),
);
const raws = fc.array(part, { minLength: 0, maxLength: 60 }).map((parts) => Buffer.concat(parts));

t.test('there and back, and both ways with the other implementation', async (t) => {
  fc.assert(
    fc.property(raws, (raw) => {
      const block = compressed(raw);
      const back = decompressed(block, raw.length);
      if (back.wrong !== undefined || !raw.equals(back.into)) return false;
      if (raw.length === 0) return true;
      const theirs = decompressed(other.compressSync(raw).subarray(4), raw.length);
      return (
        other.uncompressSync(withLength(raw, block)).equals(raw) &&
        theirs.wrong === undefined &&
        raw.equals(theirs.into)
      );
    }),
    { numRuns: 800, seed: 11 },
  );
  t.pass('800 runs');
});

t.test('every length from 0 to 600, lengths at the ends of a byte, and matches as far as they may be', async (t) => {
  const text = Buffer.from('abcdefgh'.repeat(80));
  for (let n = 0; n <= 600; n++) {
    const raw = text.subarray(0, n);
    const { into, wrong } = decompressed(compressed(raw), n);
    if (wrong !== undefined || !raw.equals(into)) t.fail(`${n} bytes: ${wrong}`);
  }
  for (const gap of [14, 15, 16, 269, 270, 271, 65_520, 65_527, 65_528, 65_535, 65_536, 70_000]) {
    const noise = crypto.getRandomValues(new Uint8Array(Math.min(gap, 65_536)));
    const raw = Buffer.concat([
      Buffer.from('needle01'),
      noise,
      Buffer.alloc(Math.max(0, gap - 65_536)),
      Buffer.from('needle01'),
      Buffer.alloc(20, 1),
    ]);
    const block = compressed(raw);
    const { into, wrong } = decompressed(block, raw.length);
    t.ok(wrong === undefined && raw.equals(into), `${gap} bytes between: ${wrong}`);
    t.ok(other.uncompressSync(withLength(raw, block)).equals(raw), 'for the other one too');
  }
});

t.test('less room than it takes: 0, and nothing outside of it', async (t) => {
  const raw = Buffer.from('the same words again and again, '.repeat(50));
  const { length } = compressed(raw);
  for (let less = 1; less <= length; less++)
    if (compressed(raw, length - less).length !== 0) t.fail(`${less} bytes less`);
  t.equal(compressed(raw, length).length, length, 'exactly as much is enough');
});

t.test('any bytes, cut and changed blocks: an answer, and nothing outside of the room', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(3000), (bytes, room) => {
      decompressed(bytes, room);
      return true;
    }),
    { numRuns: 3000, seed: 12 },
  );
  let taken = 0;
  fc.assert(
    fc.property(raws, fc.nat(), fc.nat(255), (raw, where, value) => {
      const block = compressed(raw);
      const at = where % Math.max(1, block.length);
      if (decompressed(block.subarray(0, at), raw.length).wrong === undefined && raw.length > 0) return false;
      if (raw.length > 0 && decompressed(block, raw.length - 1).wrong === undefined) return false;
      if (decompressed(block, raw.length + 1).wrong === undefined) return false;
      block[at] = value;
      if (decompressed(block, raw.length).wrong === undefined) taken++;
      return true;
    }),
    { numRuns: 1500, seed: 13 },
  );
  t.ok(taken > 0, `${taken} changed blocks still say that many bytes: the checksum of the batch tells them`);
});

/** Literals of the last sequence, by hand; undefined where there is one only. */
function lastLiterals(block: Uint8Array): number | undefined {
  for (let at = 0, sequences = 1; ; sequences++) {
    const token = block[at++];
    const length = (half: number): number => {
      let sum = half;
      if (half === 15) for (let more = 255; more === 255;) sum += more = block[at++];
      return sum;
    };
    const literals = length(token >> 4);
    at += literals;
    if (at >= block.length) return sequences === 1 ? undefined : literals;
    at += 2;
    length(token & 15);
  }
}

t.test('the end of a block is what the format asks for: five literals at least behind the last match', async (t) => {
  let seen = 0;
  for (let n = 13; n <= 400; n++) {
    for (const raw of [Buffer.alloc(n, 7), Buffer.from('abcdefgh'.repeat(60)).subarray(0, n)]) {
      const literals = lastLiterals(compressed(raw));
      if (literals !== undefined) seen++;
      if (literals !== undefined && literals < 5) t.fail(`${n} bytes: ${literals} literals`);
    }
  }
  t.ok(seen > 500, `${seen} blocks with a match`);
});

t.test('what is wrong with a block is said', async (t) => {
  for (const [what, block, bytes, wrong] of [
    ['nothing', [], 10, /ends at byte 0/],
    ['an offset of 0', [0x10, 97, 0, 0, 0x50, 1, 2, 3, 4, 5], 10, /an offset of 0 at byte 2/],
    ['an offset before the beginning', [0x10, 97, 2, 0, 0x50, 1, 2, 3, 4, 5], 10, /an offset of 2 at byte 2, behind 1/],
    ['a match beyond the end', [0x10, 97, 1, 0, 0x50, 1, 2, 3, 4, 5], 4, /more than 4 bytes/],
    ['a match of 15 KiB', [0x1f, 97, 1, 0, ...Array<number>(60).fill(255), 0, 0], 100, /more than 100 bytes/],
    ['literals beyond the end', [0x50, 1, 2, 3, 4, 5], 4, /more than 4 bytes/],
    ['literals that are not there', [0x60, 1, 2, 3, 4, 5], 6, /6 literals at byte 1 of 6/],
    ['half an offset', [0x10, 97, 1], 10, /within an offset/],
    ['fewer than asked for', [0x50, 1, 2, 3, 4, 5], 6, /expected 6 bytes, got 5/],
  ] as const) {
    t.match(decompressed(new Uint8Array(block), bytes).wrong, wrong, what);
  }
  t.equal(decompressed(new Uint8Array([0x10, 97, 1, 0, 0x50, 1, 2, 3, 4, 5]), 10).wrong, undefined, 'a right one');
});
