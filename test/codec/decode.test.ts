// Content codings: what is decoded, what is refused, and how much is produced before a bomb is refused.

import t, { type Test } from 'tap';
import * as fc from 'fast-check';
import * as zlib from 'node:zlib';
import { seededRandom } from '../../src/base/clock.ts';
import { SpillwayError } from '../../src/base/errors.ts';
import { DECODE_SLACK_BYTES } from '../../src/base/limits.ts';
import { decodeContent, parseContentEncoding, type Encoding } from '../../src/codec/decode.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

interface Zstd {
  zstdCompressSync?: (
    bytes: Uint8Array,
    options?: { params?: Record<number, number>; pledgedSrcSize?: number },
  ) => Buffer;
}
const zstdCompress = (zlib as Zstd).zstdCompressSync;
const noZstd = zstdCompress === undefined ? { skip: `Node ${process.version} has no zstd` } : {};
const constants = zlib.constants as unknown as Record<string, number>;

function codeOf(body: Uint8Array, encoding: Encoding, maxBytes = MIB): string {
  try {
    return `${decodeContent(body, encoding, maxBytes).length} bytes`;
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return error.code;
  }
}

function isOwn(t: Test, bytes: Uint8Array, what: string): void {
  t.ok(
    bytes.buffer.byteLength <= Math.max(2 * bytes.length, 1),
    `${what}: ${bytes.length} of ${bytes.buffer.byteLength}`,
  );
  const length = bytes.length;
  const moved = structuredClone(bytes, { transfer: [bytes.buffer as ArrayBuffer] });
  t.strictSame([moved.length, bytes.length], [length, 0], `${what}: it can be transferred`);
}

function randomBytes(length: number, seed: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Uint8Array.from({ length }, () => random() * 256));
}

t.test('names of codings', async (t) => {
  const names: [string | undefined, Encoding][] = [
    [undefined, 'identity'],
    ['', 'identity'],
    ['identity', 'identity'],
    ['gzip', 'gzip'],
    [' GZip ', 'gzip'],
    ['x-gzip', 'gzip'],
  ];
  for (const [header, encoding] of names) t.equal(parseContentEncoding(header), encoding, String(header));
  for (const header of ['br', 'deflate', 'compress', 'gzip, gzip', 'gzip,identity', 'gzip zstd', 'x', '\0', '*']) {
    t.throws(() => parseContentEncoding(header), { code: 'UNSUPPORTED_ENCODING' }, JSON.stringify(header));
  }
  t.throws(() => parseContentEncoding('gzip, br'), { message: /expected one coding, got 'gzip, br'/ });
  t.throws(() => parseContentEncoding('br'), { message: /expected gzip, zstd or identity, got 'br'/ });
});

t.test('zstd on a Node without it', async (t) => {
  if (zstdCompress !== undefined) {
    t.equal(parseContentEncoding('zstd'), 'zstd');
    return;
  }
  const refusal = { code: 'UNSUPPORTED_ENCODING', message: /zstd needs Node 22.15 or later, and this is v/ };
  t.throws(() => parseContentEncoding('zstd'), refusal);
  t.throws(() => decodeContent(Buffer.from('28b52ffd', 'hex'), 'zstd', MIB), refusal);
});

t.test('identity is the body itself', async (t) => {
  const body = randomBytes(100, 1);
  t.equal(decodeContent(body, 'identity', 100), body);
  t.throws(() => decodeContent(body, 'identity', 99), { code: 'BODY_TOO_LARGE' });
});

t.test('gzip: any members, one total cap', async (t) => {
  const member = fc.record({
    bytes: fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.record({ length: fc.nat(200_000), fill: fc.nat(255) }).map((r) => new Uint8Array(r.length).fill(r.fill)),
    ),
    level: fc.constantFrom(0, 1, 6, 9),
  });
  let several = 0;
  fc.assert(
    fc.property(fc.array(member, { minLength: 1, maxLength: 5 }), (members) => {
      const whole = Buffer.concat(members.map((m) => m.bytes));
      const body = Buffer.concat(members.map((m) => zlib.gzipSync(m.bytes, { level: m.level })));
      several += members.length > 1 ? 1 : 0;
      if (!whole.equals(decodeContent(body, 'gzip', MIB))) t.fail(`${members.length} members: other bytes`);
      const exact = decodeContent(body, 'gzip', Math.max(whole.length, 1));
      if (!whole.equals(exact)) t.fail('the cap is what it holds: other bytes');
      if (exact.buffer.byteLength > Math.max(2 * exact.length, 1)) t.fail(`keeps ${exact.buffer.byteLength} bytes`);
      if (whole.length > 1) {
        const code = codeOf(body, 'gzip', whole.length - 1);
        // A member whose first bytes occur again inside is decoded up to the cap: the same answer.
        if (code !== 'BODY_TOO_LARGE') t.fail(`one byte over the cap: ${code}`);
      }
    }),
    { seed: 5, numRuns: 100 },
  );
  t.ok(several > 50, `${several} of them had several members`);
  const many = Buffer.concat(Array<Buffer>(100_000).fill(zlib.gzipSync('')));
  t.equal(codeOf(many, 'gzip'), '0 bytes', '100,000 empty members');
});

t.test('gzip: the result has memory of its own', async (t) => {
  for (const length of [0, 1, 100, 4000, 32 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 600 * KIB, MIB]) {
    const bytes = randomBytes(length, 2);
    isOwn(t, decodeContent(zlib.gzipSync(bytes), 'gzip', MIB), `one member of ${length}`);
    const two = Buffer.concat([
      zlib.gzipSync(bytes.subarray(0, length >> 1)),
      zlib.gzipSync(bytes.subarray(length >> 1)),
    ]);
    isOwn(t, decodeContent(two, 'gzip', MIB), `two members of ${length}`);
  }
});

/** A member with every optional field: extra, name, comment, checksum of the header. */
function memberWithAllFields(): Buffer {
  const plain = zlib.gzipSync('abc');
  const head = Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3]),
    Buffer.from([4, 0, 1, 2, 3, 4]),
    Buffer.from('name\0comment\0'),
  ]);
  const check = Buffer.alloc(2);
  check.writeUInt16LE((zlib as unknown as { crc32(b: Buffer): number }).crc32(head) & 0xffff);
  return Buffer.concat([head, check, plain.subarray(10)]);
}

const abc = zlib.gzipSync('abc');
const badGzip: [what: string, body: Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['plain bytes', Buffer.from('{"a":1}\n'.repeat(100))],
  ['deflate with a zlib header', zlib.deflateSync('abc')],
  ['raw deflate', zlib.deflateRawSync('abc')],
  ['a zero behind it', Buffer.concat([abc, Buffer.alloc(1)])],
  ['zeros behind it', Buffer.concat([abc, Buffer.alloc(512)])],
  ['a letter behind it', Buffer.concat([abc, Buffer.from('x')])],
  ['a first byte of a member behind it', Buffer.concat([abc, Buffer.from([0x1f])])],
  ['two of them', Buffer.concat([abc, Buffer.from([0x1f, 0x8b])])],
  ['three of them', Buffer.concat([abc, Buffer.from([0x1f, 0x8b, 8])])],
  ['a member of an unknown method behind it', Buffer.concat([abc, Buffer.from([0x1f, 0x8b, 9]), abc.subarray(3)])],
  ['two members and a zero', Buffer.concat([abc, abc, Buffer.alloc(1)])],
  ['two members with a zero between', Buffer.concat([abc, Buffer.alloc(1), abc])],
  ['a size that is too small', Buffer.concat([abc.subarray(0, -4), Buffer.from([2, 0, 0, 0])])],
  ['a size that is too large', Buffer.concat([abc.subarray(0, -4), Buffer.from([4, 0, 0, 0])])],
  ['a size beyond the cap', Buffer.concat([abc.subarray(0, -4), Buffer.from([0, 0, 0, 0xff])])],
];

t.test('gzip: what is not exactly members', async (t) => {
  t.equal(codeOf(memberWithAllFields(), 'gzip'), '3 bytes', 'a header with all fields');
  for (const [what, body] of badGzip) t.equal(codeOf(body, 'gzip'), 'BAD_ENCODING', what);
  const body = Buffer.concat([memberWithAllFields(), zlib.gzipSync(randomBytes(300, 3))]);
  const first = memberWithAllFields().length;
  for (let length = 0; length < body.length; length++) {
    if (length === first) continue; // a whole member
    t.equal(codeOf(body.subarray(0, length), 'gzip'), 'BAD_ENCODING', `cut at ${length} of ${body.length}`);
  }
  for (let bit = 0; bit < 64; bit++) {
    const flipped = Buffer.from(abc);
    flipped[abc.length - 8 + (bit >> 3)] ^= 1 << (bit & 7);
    t.equal(codeOf(flipped, 'gzip'), 'BAD_ENCODING', `bit ${bit} of the trailer`);
  }
});

/** Sum of the buffers that zlib took for output while `work` ran, joining included: no less than what it produced. */
function outputOf(work: () => void): number {
  const { allocUnsafe, concat } = Buffer;
  let bytes = 0;
  Buffer.allocUnsafe = (size: number) => {
    bytes += size;
    return allocUnsafe(size);
  };
  Buffer.concat = ((list: Uint8Array[], length: number) => {
    bytes += length;
    return concat(list, length);
  }) as typeof Buffer.concat;
  try {
    work();
  } finally {
    Object.assign(Buffer, { allocUnsafe, concat });
  }
  return bytes;
}

t.test('gzip: what is decoded is held once', async (t) => {
  const bytes = randomBytes(3 * MIB, 9);
  const single = zlib.gzipSync(bytes);
  const double = Buffer.concat([zlib.gzipSync(bytes.subarray(0, MIB)), zlib.gzipSync(bytes.subarray(MIB))]);
  const one = outputOf(() => decodeContent(single, 'gzip', 16 * MIB));
  t.ok(one >= 3 * MIB && one <= 3 * MIB + DECODE_SLACK_BYTES, `one member: ${one} bytes`);
  const two = outputOf(() => decodeContent(double, 'gzip', 4 * MIB));
  t.ok(two >= 3 * MIB && two <= 4 * MIB + DECODE_SLACK_BYTES, `two members: ${two} bytes`);
});

t.test('a refusal says how much had come out', async (t) => {
  const came = (body: Uint8Array, encoding: Encoding, maxBytes: number): unknown => {
    try {
      return `${decodeContent(body, encoding, maxBytes).length} bytes`;
    } catch (error) {
      return (error as SpillwayError).details.decodedBytes;
    }
  };
  const bytes = randomBytes(200 * KIB, 11);
  const one = zlib.gzipSync(bytes);
  const lying = Buffer.from(one);
  lying.writeUInt32LE(100 * KIB, lying.length - 4);
  const wrongSum = Buffer.from(one);
  wrongSum[wrongSum.length - 8] ^= 1;
  for (const maxBytes of [64 * KIB, 128 * KIB, 150_000]) {
    t.equal(came(one, 'gzip', maxBytes), maxBytes + 1, `too large for ${maxBytes}`);
    t.equal(came(Buffer.concat([one, one]), 'gzip', maxBytes), maxBytes + 1, `two members, too large for ${maxBytes}`);
  }
  t.equal(came(lying, 'gzip', MIB), 100 * KIB + 1, 'more than it states');
  const marked = Buffer.concat([one, Buffer.from('\0 more')]);
  t.equal(came(marked, 'gzip', MIB), bytes.length, 'bytes behind the end');
  t.equal(came(wrongSum, 'gzip', MIB), bytes.length + 1, 'a damaged one: at most what there was room for');
  if (zstdCompress !== undefined) t.equal(came(zstdCompress(bytes), 'zstd', 64 * KIB), 0, 'stated, and never begun');
});

async function gzipOfZeros(bytes: number): Promise<Buffer> {
  const gzip = zlib.createGzip();
  const chunks: Buffer[] = [];
  gzip.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise<void>((resolve, reject) => gzip.once('end', resolve).once('error', reject));
  const zeros = Buffer.alloc(4 * MIB);
  for (let sent = 0; sent < bytes; sent += zeros.length) {
    if (!gzip.write(zeros)) await new Promise<void>((resolve) => gzip.once('drain', resolve));
  }
  gzip.end();
  await ended;
  return Buffer.concat(chunks);
}

t.test('gzip: a bomb is refused before it goes off', async (t) => {
  const plain = zlib.gzipSync(randomBytes(300 * KIB, 4));
  t.ok(outputOf(() => zlib.gunzipSync(plain)) >= 300 * KIB, 'the count sees the output of zlib');
  const bomb = await gzipOfZeros(GIB);
  t.ok(bomb.length < 1.1 * MIB, `1 GiB of zeros in ${bomb.length} bytes`);
  const small = zlib.gzipSync(Buffer.alloc(MIB));
  const lying = Buffer.from(bomb);
  lying.writeUInt32LE(1000, lying.length - 4);
  const cases: [what: string, body: Buffer, code: string][] = [
    ['one member', bomb, 'BODY_TOO_LARGE'],
    ['behind a small member', Buffer.concat([small, bomb]), 'BODY_TOO_LARGE'],
    ['before a small member', Buffer.concat([bomb, abc]), 'BODY_TOO_LARGE'],
    ['many small members', Buffer.concat(Array<Buffer>(1024).fill(small)), 'BODY_TOO_LARGE'],
    ['a size that lies', lying, 'BAD_ENCODING'],
    ['cut', bomb.subarray(0, -1), 'BODY_TOO_LARGE'],
  ];
  for (const maxBytes of [1, 1000, 64 * KIB, MIB, 16 * MIB]) {
    for (const [what, body, code] of cases) {
      const rssBefore = process.resourceUsage().maxRSS;
      let came = '';
      const produced = outputOf(() => (came = codeOf(body, 'gzip', maxBytes)));
      const grownKib = process.resourceUsage().maxRSS - rssBefore;
      // A cut member states no size: four bytes of its checksum may be taken for one that is smaller than the cap.
      if (what === 'cut') t.match(came, /^(BODY_TOO_LARGE|BAD_ENCODING)$/, `${what}, cap ${maxBytes}`);
      else
        t.equal(
          came,
          what === 'a size that lies' && maxBytes <= 1000 ? 'BODY_TOO_LARGE' : code,
          `${what}, cap ${maxBytes}`,
        );
      t.ok(produced <= maxBytes + DECODE_SLACK_BYTES, `${what}, cap ${maxBytes}: at most ${produced} bytes produced`);
      t.ok(grownKib < 64 * KIB, `${what}, cap ${maxBytes}: ${grownKib} KiB more memory`);
    }
  }
});

/** A frame by hand: descriptor, what follows it, then one raw block with `abc`. */
function frame(descriptor: number, rest: number[]): Buffer {
  const block = [0x01 | (3 << 3), 0, 0, ...Buffer.from('abc')];
  return Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...rest, ...block]);
}
const size8 = [3, 0, 0, 0, 0, 0, 0, 0];
const window = (log: number, mantissa = 0): number => ((log - 10) << 3) | mantissa;

t.test('zstd: frames of every header', noZstd, async (t) => {
  t.equal(codeOf(frame(0x00, [window(10)]), 'zstd'), '3 bytes', 'a window, no size');
  t.equal(codeOf(frame(0x20, [3]), 'zstd'), '3 bytes', 'a single segment');
  t.equal(codeOf(frame(0x80, [window(10), 3, 0, 0, 0]), 'zstd'), '3 bytes', 'a size of four bytes');
  t.equal(codeOf(frame(0xc0, [window(10), ...size8]), 'zstd'), '3 bytes', 'a size of eight bytes');
  t.equal(codeOf(frame(0x01, [window(10), 0]), 'zstd'), '3 bytes', 'a dictionary of none');
  t.equal(codeOf(frame(0x00, [window(23)]), 'zstd'), '3 bytes', 'the largest window');
  for (const [log, mantissa] of [
    [23, 1],
    [24, 0],
    [27, 0],
    [31, 0],
    [41, 7],
  ]) {
    t.equal(
      codeOf(frame(0x00, [window(log, mantissa)]), 'zstd'),
      'UNSUPPORTED_ENCODING',
      `window 2^${log} and ${mantissa}/8`,
    );
    const sized = frame(0x80, [window(log, mantissa), 3, 0, 0, 0]);
    t.equal(codeOf(sized, 'zstd'), 'UNSUPPORTED_ENCODING', `window 2^${log} and ${mantissa}/8, with a size`);
  }
  t.throws(() => decodeContent(frame(0x00, [window(31)]), 'zstd', MIB), { message: /window of at most 8 MiB/ });
  t.equal(codeOf(frame(0x20, [2]), 'zstd'), 'BAD_ENCODING', 'a size that is too small');
  t.equal(codeOf(frame(0x20, [4]), 'zstd'), 'BAD_ENCODING', 'a size that is too large');
  t.equal(codeOf(frame(0xe0, [0, 0, 0, 0, 0, 1, 0, 0]), 'zstd'), 'BODY_TOO_LARGE', 'a size of a terabyte');
  t.equal(codeOf(frame(0x01, [window(10), 7]), 'zstd'), 'BAD_ENCODING', 'a dictionary');
  t.equal(codeOf(frame(0x08, [window(10)]), 'zstd'), 'BAD_ENCODING', 'a reserved bit');
});

t.test('zstd: any bytes', noZstd, async (t) => {
  const flags = [constants.ZSTD_c_checksumFlag, constants.ZSTD_c_contentSizeFlag];
  for (const length of [0, 1, 255, 256, 257, 4000, 65_535, 65_536, 65_792, 300_000, 3 * MIB]) {
    for (const [i, bytes] of [randomBytes(length, 6), Buffer.alloc(length, 'abcdefg ')].entries()) {
      for (const checksum of [0, 1]) {
        const params = { [flags[0]]: checksum, [flags[1]]: 1 };
        const body = zstdCompress!(bytes, { params, ...(i === 0 ? { pledgedSrcSize: length } : {}) });
        const came = decodeContent(body, 'zstd', Math.max(length, 1));
        t.ok(bytes.equals(came), `${length} bytes, checksum ${checksum}`);
        if (length > 1)
          t.equal(codeOf(body, 'zstd', length - 1), 'BODY_TOO_LARGE', `${length} bytes, one over the cap`);
        isOwn(t, came, `${length} bytes`);
      }
    }
  }
});

t.test('zstd: what is not exactly one frame', noZstd, async (t) => {
  const params = { [constants.ZSTD_c_checksumFlag]: 1 };
  const body = zstdCompress!(Buffer.concat([randomBytes(200, 7), Buffer.alloc(400_000, 'xyz')]), { params });
  for (let length = 0; length < body.length; length++) {
    t.equal(codeOf(body.subarray(0, length), 'zstd'), 'BAD_ENCODING', `cut at ${length} of ${body.length}`);
  }
  for (let bit = 0; bit < 32; bit++) {
    const flipped = Buffer.from(body);
    flipped[body.length - 4 + (bit >> 3)] ^= 1 << (bit & 7);
    t.equal(codeOf(flipped, 'zstd'), 'BAD_ENCODING', `bit ${bit} of the checksum`);
  }
  const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
  const cases: [string, Buffer][] = [
    ['plain bytes', Buffer.from('{"a":1}\n'.repeat(10))],
    ['gzip', abc],
    ['two frames', Buffer.concat([body, body])],
    ['a zero behind it', Buffer.concat([body, Buffer.alloc(1)])],
    ['a skippable frame behind it', Buffer.concat([body, skippable])],
    ['a skippable frame before it', Buffer.concat([skippable, body])],
    ['a skippable frame only', skippable],
  ];
  for (const [what, bytes] of cases) t.equal(codeOf(bytes, 'zstd'), 'BAD_ENCODING', what);
});

t.test('zstd: a bomb is refused before it goes off', noZstd, async (t) => {
  const zeros = Buffer.alloc(256 * MIB);
  const bombs: [string, Buffer][] = [
    ['that states its size', zstdCompress!(zeros, { pledgedSrcSize: zeros.length })],
    ['that does not', zstdCompress!(zeros, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } })],
  ];
  for (const maxBytes of [1, 1000, MIB, 16 * MIB]) {
    for (const [what, body] of bombs) {
      let came = '';
      const produced = outputOf(() => (came = codeOf(body, 'zstd', maxBytes)));
      t.equal(came, 'BODY_TOO_LARGE', `${body.length} bytes ${what}, cap ${maxBytes}`);
      t.ok(produced <= maxBytes + DECODE_SLACK_BYTES, `${what}, cap ${maxBytes}: at most ${produced} bytes produced`);
    }
  }
});
