// CRC-32C and the sealing of a batch: known answers, laws, and the native implementation against the JS one.

import { seededRandom } from '../../src/base/clock.ts';
import t, { type Test } from 'tap';
import * as fc from 'fast-check';
import { BATCH_CRC_AT, BATCH_HEADER_BYTES, BLOCK_BYTES } from '../../src/base/limits.ts';
import type { ByteOps } from '../../src/platform/file-io.ts';
import { crc32cJs, jsBytes } from '../../src/platform/js-bytes.ts';
import { native, nativeMissing } from '../../src/platform/native.ts';

/** RFC 3720, B.4, and the check value of the CRC catalogue. */
const knownAnswers: [string, Uint8Array, number][] = [
  ['"123456789"', Buffer.from('123456789'), 0xe3069283],
  ['nothing', new Uint8Array(0), 0],
  ['32 zero bytes', new Uint8Array(32), 0x8a9136aa],
  ['32 bytes of 0xff', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['0 … 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ['31 … 0', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  [
    'an iSCSI read command',
    Buffer.from(
      '01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000',
      'hex',
    ),
    0xd9963a56,
  ],
];

/** One bit at a time: nothing in common with either implementation but the polynomial. */
function crcBitwise(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function randomBytes(length: number, seed: number): Uint8Array {
  const random = seededRandom(seed);
  return Uint8Array.from({ length }, () => random() * 256);
}

const implementations: [string, ((bytes: Uint8Array, crc?: number) => number) | undefined][] = [
  ['JS', crc32cJs],
  ['native', native?.crc32c],
  ['native, portable', native?.crc32cPortable],
];

for (const [name, crc32c] of implementations) {
  t.test(`crc32c, ${name}`, async (t) => {
    if (crc32c === undefined) return void t.pass('known answers', { skip: `no native addon: ${nativeMissing}` });
    for (const [what, bytes, crc] of knownAnswers) t.equal(crc32c(bytes), crc, what);
    t.equal(crc32c(new Uint8Array(0), 0xdeadbeef), 0xdeadbeef, 'nothing changes nothing');
    for (let length = 0; length < 70; length++) {
      for (let from = 0; from < 9; from++) {
        const bytes = randomBytes(length + from, length * 9 + from).subarray(from);
        const wanted = crcBitwise(bytes);
        if (crc32c(bytes) !== wanted) t.fail(`length ${length} at ${from}: ${crc32c(bytes)}, wanted ${wanted}`);
      }
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000, size: 'max' }), fc.nat(), (bytes, n) => {
        const at = bytes.length === 0 ? 0 : n % bytes.length;
        const whole = crc32c(bytes);
        const composed = crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at)));
        return (
          whole === crcBitwise(bytes) &&
          whole === composed &&
          whole === crc32c(bytes, 0) &&
          whole >= 0 &&
          whole < 2 ** 32
        );
      }),
      { seed: 6, numRuns: 150 },
    );
    const large = randomBytes(300_000, 3);
    t.equal(crc32c(large), crcBitwise(large), 'large');
    t.equal(crc32c(large.subarray(100_001), crc32c(large.subarray(0, 100_001))), crc32c(large), 'in two parts');
  });
}

/** A staging buffer full of old bytes, behind a prefix. */
function staging(bytes: number, prefixBytes: number, shift = 0): Uint8Array {
  const whole = new Uint8Array(bytes + shift).fill(0xee);
  const at = whole.subarray(shift);
  at.set(randomBytes(prefixBytes, prefixBytes));
  return at;
}

function checkSealed(
  t: Test,
  seal: ByteOps['seal'],
  prefixBytes: number,
  parts: [number, number, number][],
  shift: number,
): void {
  const sources = [randomBytes(5000, 1), new Uint8Array(new SharedArrayBuffer(3000)), randomBytes(64, 9).subarray(3)];
  sources[1].set(randomBytes(3000, 2));
  const what = `prefix ${prefixBytes}, ranges ${JSON.stringify(parts)}, at ${shift}`;
  const ranges = new Float64Array([...parts.flat(), 0, 0, 9999]); // one more, that is not to be read
  const gathered = Buffer.concat(parts.map(([s, from, to]) => Buffer.from(sources[s].slice(from, to))));
  const length = prefixBytes + gathered.length;
  const padded = Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;
  const out = staging(padded + 100, prefixBytes, shift);
  const before = Buffer.from(out);
  t.equal(seal(out, prefixBytes, sources, ranges, parts.length), padded, `${what}: length with padding`);
  t.ok(before.subarray(0, BATCH_CRC_AT).equals(out.subarray(0, BATCH_CRC_AT)), `${what}: header before the checksum`);
  const headerEnd = BATCH_CRC_AT + 4;
  t.ok(
    before.subarray(headerEnd, prefixBytes).equals(out.subarray(headerEnd, prefixBytes)),
    `${what}: rest of the prefix`,
  );
  t.ok(gathered.equals(out.subarray(prefixBytes, length)), `${what}: records`);
  t.ok(
    out.subarray(length, padded).every((b) => b === 0),
    `${what}: zeros up to the block`,
  );
  t.ok(
    out.subarray(padded).every((b) => b === 0xee),
    `${what}: nothing behind it`,
  );
  const covered = Buffer.concat([out.subarray(0, BATCH_CRC_AT), out.subarray(headerEnd, length)]);
  const crc = new DataView(out.buffer, out.byteOffset).getUint32(BATCH_CRC_AT, true);
  t.equal(crc, crcBitwise(covered), `${what}: checksum of all but itself`);
}

const cases: [number, [number, number, number][]][] = [
  [BATCH_HEADER_BYTES, []],
  [BATCH_HEADER_BYTES, [[0, 0, 5000]]],
  [
    BATCH_HEADER_BYTES + 16,
    [
      [0, 8, 16],
      [1, 0, 3000],
      [0, 4000, 4008],
      [2, 0, 61],
    ],
  ],
  [
    BATCH_HEADER_BYTES + 13,
    [
      [2, 1, 2],
      [2, 5, 5],
      [0, 1, 4],
    ],
  ],
  [BATCH_HEADER_BYTES, [[0, 0, BLOCK_BYTES - BATCH_HEADER_BYTES]]], // exactly a block: no padding
  [BATCH_HEADER_BYTES, [[0, 0, BLOCK_BYTES - BATCH_HEADER_BYTES + 1]]],
  [BATCH_HEADER_BYTES, [[0, 0, BLOCK_BYTES - BATCH_HEADER_BYTES - 1]]],
  [BLOCK_BYTES, [[1, 0, 8]]],
];

for (const [name, seal] of [
  ['JS', jsBytes.seal],
  ['native', native?.seal],
] as const) {
  t.test(`seal, ${name}: layout`, async (t) => {
    if (seal === undefined) return void t.pass('layout', { skip: `no native addon: ${nativeMissing}` });
    for (const [prefixBytes, parts] of cases)
      for (const shift of [0, 8]) checkSealed(t, seal, prefixBytes, parts, shift);
  });
}

t.test('seal: native and JS give the same bytes for random batches', async (t) => {
  if (native === undefined) return void t.pass('the same', { skip: `no native addon: ${nativeMissing}` });
  const addon = native;
  const sources = [randomBytes(70_000, 11), new Uint8Array(new SharedArrayBuffer(70_000))];
  sources[1].set(randomBytes(70_000, 12));
  const range = fc.tuple(fc.nat(1), fc.nat(60_000), fc.oneof(fc.nat(64), fc.nat(9000)));
  fc.assert(
    fc.property(
      fc.integer({ min: BATCH_HEADER_BYTES, max: 3000 }),
      fc.array(range, { maxLength: 40 }),
      (prefixBytes, list) => {
        const ranges = new Float64Array(list.flatMap(([s, from, bytes]) => [s, from, from + bytes]));
        const total = prefixBytes + list.reduce((sum, [, , bytes]) => sum + bytes, 0);
        const [a, b] = [staging(total + 2 * BLOCK_BYTES, prefixBytes), staging(total + 2 * BLOCK_BYTES, prefixBytes)];
        const lengths = [
          jsBytes.seal(a, prefixBytes, sources, ranges, list.length),
          addon.seal(b, prefixBytes, sources, ranges, list.length),
        ];
        return lengths[0] === lengths[1] && Buffer.compare(a, b) === 0;
      },
    ),
    { seed: 7, numRuns: 100 },
  );
  t.pass('the same');
});
