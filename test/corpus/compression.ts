// Compressed bodies: bombs, damage, lies about sizes, and codings that nobody asked for. gzip everywhere, zstd where the Node of the
// gateway has it; the zstd frames are put together by hand, so that they can lie.

import * as zlib from 'node:zlib';
import { gzipSync } from 'node:zlib';
import { join, LINES, MIB, post, TEXT, type Area, type Bytes, type Case, type Said } from './case.ts';

const coded = (
  coding: string,
  name: string,
  body: () => Bytes,
  said: Said,
  stores: () => readonly Bytes[] = () => [],
  type = TEXT,
): Case => ({
  name,
  send: ({ stream }) => [post(stream, `${type}Content-Encoding: ${coding}\r\n`, body())],
  gets: [said],
  stores,
});
const gzip = (name: string, body: () => Bytes, said: Said, stores?: () => readonly Bytes[], type?: string): Case =>
  coded('gzip', `gzip: ${name}`, body, said, stores, type);
const damaged = (name: string, body: () => Bytes): Case => gzip(name, body, 'BAD_ENCODING');

const HELLO = 'hello, hello, hello';
const whole = gzipSync(HELLO);
/** A byte of it changed. Negative counts from the end. */
const flipped = (at: number): Buffer => {
  const copy = Buffer.from(whole);
  copy[(at + copy.length) % copy.length] ^= 0xff;
  return copy;
};

let zeros: Buffer | undefined;
/** A member of 16 MiB of zeros, 16 KiB on the wire. */
const member = (): Buffer => (zeros ??= gzipSync(Buffer.alloc(16 * MIB)));

/** One member whose deflate stream says the same 16 MiB 200 times, 3.1 GiB; its last word says what it likes. */
function longMember(statedBytes: number): Buffer {
  const block = zlib.deflateRawSync(Buffer.alloc(16 * MIB), { finishFlush: zlib.constants.Z_FULL_FLUSH });
  const tail = Buffer.alloc(10);
  tail.writeUInt16LE(3, 0);
  tail.writeUInt32LE(statedBytes, 6);
  return Buffer.concat([whole.subarray(0, 10), ...Array<Buffer>(200).fill(block), tail]);
}

const gzipCases: readonly Case[] = [
  gzip(
    'a record',
    () => whole,
    200,
    () => [HELLO],
  ),
  gzip(
    'several members are one body',
    () => join(gzipSync('a\n'), gzipSync('b\n')),
    200,
    () => ['a', 'b'],
    LINES,
  ),
  coded(
    'GZIP',
    'gzip in capitals',
    () => whole,
    200,
    () => [HELLO],
  ),
  coded(
    'x-gzip',
    'x-gzip',
    () => whole,
    200,
    () => [HELLO],
  ),
  coded(
    'identity',
    'identity',
    () => HELLO,
    200,
    () => [HELLO],
  ),
  gzip(
    'gzip within gzip: one coding is undone',
    () => gzipSync(whole),
    200,
    () => [whole],
  ),
  gzip('nothing, compressed', () => gzipSync(''), 'EMPTY_REQUEST'),
  gzip(
    'a bomb of 3 GiB in 200 members',
    () => Buffer.concat(Array<Buffer>(200).fill(member())),
    'BODY_TOO_LARGE',
    undefined,
    LINES,
  ),
  gzip('a bomb of 3 GiB in one member that says so', () => longMember(3_355_443_200), 'BODY_TOO_LARGE'),
  gzip('a bomb of 3 GiB that says it is one byte', () => longMember(1), 'BAD_ENCODING'),
  gzip('16 MiB + 1', () => gzipSync(Buffer.alloc(16 * MIB + 1)), 'BODY_TOO_LARGE', undefined, LINES),
  gzip('a record of 1 MiB + 1', () => gzipSync(Buffer.alloc(MIB + 1)), 'RECORD_TOO_LARGE'),
  gzip('16 MiB without a newline', () => member(), 'RECORD_TOO_LARGE', undefined, LINES),
  gzip('10,001 records', () => gzipSync('a\n'.repeat(10_001)), 'TOO_MANY_RECORDS', undefined, LINES),
  gzip(
    '16 million blank lines and no record',
    () => gzipSync(Buffer.alloc(16 * MIB - 1, '\n')),
    'EMPTY_REQUEST',
    undefined,
    LINES,
  ),
  damaged('0 bytes', () => ''),
  damaged('plain text', () => HELLO),
  damaged('zlib instead', () => zlib.deflateSync(HELLO)),
  damaged('bare deflate instead', () => zlib.deflateRawSync(HELLO)),
  damaged('cut in its head', () => whole.subarray(0, 6)),
  damaged('its head alone', () => whole.subarray(0, 10)),
  damaged('cut in the midst', () => whole.subarray(0, 15)),
  damaged('without its trailer', () => whole.subarray(0, -8)),
  damaged('cut in its trailer', () => whole.subarray(0, -1)),
  damaged('a wrong checksum', () => flipped(-8)),
  damaged('a wrong size', () => flipped(-4)),
  damaged('another method than deflate', () => flipped(2)),
  damaged('flags that are reserved', () => join(whole.subarray(0, 3), '\xe0', whole.subarray(4))),
  damaged('an extra field longer than the body', () =>
    join(whole.subarray(0, 3), '\x04', whole.subarray(4, 10), '\xff\xff', whole.subarray(10)),
  ),
  damaged('text behind its end', () => join(whole, 'more')),
  damaged('zeros behind its end', () => join(whole, '\0'.repeat(8))),
  damaged('a second member that is cut', () => join(whole, whole.subarray(0, -3))),
  coded('gzip, gzip', 'gzip: two codings', () => gzipSync(whole), 'UNSUPPORTED_ENCODING'),
  {
    name: 'gzip: two codings in two headers',
    send: ({ stream }) => [post(stream, `${TEXT}${'Content-Encoding: gzip\r\n'.repeat(2)}`, gzipSync(whole))],
    gets: ['UNSUPPORTED_ENCODING'],
  },
  ...['br', 'deflate', 'compress', 'snappy', 'aws-chunked', '*', 'gzip;q=1', '__proto__'].map((coding) =>
    coded(coding, `the coding ${coding}`, () => HELLO, 'UNSUPPORTED_ENCODING'),
  ),
];

/** What a gateway says that has no zstd. */
const withoutZstd: Case = {
  ...coded('zstd', 'the coding zstd, where the Node of the gateway has none', () => HELLO, 'UNSUPPORTED_ENCODING'),
  says: /zstd needs Node 22\.15/,
  withoutZstd: true,
};

export const compression: Area = {
  name: 'compression',
  about: 'Bodies with a Content-Encoding, but for zstd. What counts is decoded bytes, whatever the ratio.',
  to: 'http',
  gateway: 'plain',
  cases: [...gzipCases, withoutZstd],
};

const BLOCK = { raw: 0, rle: 1, compressed: 2, reserved: 3 } as const;
const MAX_BLOCK = 128 * 1024;

function block(kind: keyof typeof BLOCK, size: number, content: Bytes, last: boolean): Uint8Array {
  const head = Buffer.alloc(3);
  head.writeUIntLE((last ? 1 : 0) | (BLOCK[kind] << 1) | (size << 3), 0, 3);
  return join(head, content);
}
const raw = (text: string, last = true): Uint8Array => block('raw', text.length, text, last);
/** So many bytes of `z`, in blocks of 128 KiB that take 4 bytes each. */
function repeated(bytes: number): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (let left = bytes; left > 0; left -= MAX_BLOCK) {
    blocks.push(block('rle', Math.min(left, MAX_BLOCK), 'z', left <= MAX_BLOCK));
  }
  return join(...blocks);
}

interface FrameHead {
  /** log2 of the window. */
  readonly window?: number;
  /** What it says it holds, in 8 bytes. */
  readonly states?: number | bigint;
  readonly dictionary?: number;
}

function frame({ window = 17, states, dictionary }: FrameHead, blocks: Bytes): Uint8Array {
  const descriptor = (states === undefined ? 0 : 0xc0) | (dictionary === undefined ? 0 : 3);
  const head = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, (window - 10) << 3]);
  const id = Buffer.alloc(dictionary === undefined ? 0 : 4);
  if (dictionary !== undefined) id.writeUInt32LE(dictionary);
  const size = Buffer.alloc(states === undefined ? 0 : 8);
  if (states !== undefined) size.writeBigUInt64LE(BigInt(states));
  return join(head, id, size, blocks);
}

/** `a record in zstd, ` three times, without the last comma, as zstd itself compresses it, with its checksum. */
const REAL = Buffer.from('28b52ffd2434c500009061207265636f726420696e207a7374642c200100ca996195f45176', 'hex');
const REAL_TEXT = 'a record in zstd, a record in zstd, a record in zstd';
const small = frame({}, raw(HELLO));

const zstd = (name: string, body: () => Bytes, said: Said, stores?: () => readonly Bytes[], type?: string): Case =>
  coded('zstd', `zstd: ${name}`, body, said, stores, type);
const broken = (name: string, body: () => Bytes): Case => zstd(name, body, 'BAD_ENCODING');

export const zstdArea: Area = {
  name: 'zstd',
  about:
    'Bodies with `Content-Encoding: zstd`, on a Node that has it (22.15 and later). One frame; a window of 8 MiB at most.',
  to: 'http',
  gateway: 'zstd',
  cases: [
    zstd(
      'a record',
      () => REAL,
      200,
      () => [REAL_TEXT],
    ),
    zstd(
      'a frame put together by hand',
      () => small,
      200,
      () => [HELLO],
    ),
    zstd(
      'a window of 8 MiB',
      () => frame({ window: 23 }, raw(HELLO)),
      200,
      () => [HELLO],
    ),
    zstd('a window of 16 MiB', () => frame({ window: 24 }, raw(HELLO)), 'UNSUPPORTED_ENCODING'),
    zstd('a window of 2 GiB (log 31)', () => frame({ window: 31 }, raw(HELLO)), 'UNSUPPORTED_ENCODING'),
    zstd(
      'the largest window that can be written (log 41)',
      () => frame({ window: 41 }, raw(HELLO)),
      'UNSUPPORTED_ENCODING',
    ),
    zstd('a bomb of 3 GiB', () => frame({}, repeated(3 * 1024 * MIB)), 'BODY_TOO_LARGE', undefined, LINES),
    zstd('16 MiB + 1', () => frame({}, repeated(16 * MIB + 1)), 'BODY_TOO_LARGE', undefined, LINES),
    zstd('16 MiB without a newline', () => frame({}, repeated(16 * MIB)), 'RECORD_TOO_LARGE', undefined, LINES),
    zstd('a record that says it is 2^63 bytes', () => frame({ states: 2n ** 63n }, raw(HELLO)), 'BODY_TOO_LARGE'),
    broken('a frame that says it holds less', () => frame({ states: 3 }, raw(HELLO))),
    broken('a frame that says it holds more', () => frame({ states: HELLO.length + 1 }, raw(HELLO))),
    broken('a bomb of 3 GiB that says it is one byte', () => frame({ states: 1 }, repeated(3 * 1024 * MIB))),
    broken('0 bytes', () => ''),
    broken('plain text', () => HELLO),
    broken('gzip instead', () => whole),
    broken('cut in its head', () => small.subarray(0, 5)),
    broken('cut in a block', () => small.subarray(0, -1)),
    broken('a last block that does not come', () => frame({}, raw(HELLO, false))),
    broken('without its checksum', () => REAL.subarray(0, -4)),
    broken('a wrong checksum', () => join(REAL.subarray(0, -1), Buffer.of(REAL.at(-1)! ^ 0xff))),
    broken('a block of the reserved kind', () => frame({}, block('reserved', 1, 'x', true))),
    broken('a compressed block of rubbish', () => frame({}, block('compressed', 8, '\xff'.repeat(8), true))),
    broken('a dictionary that nobody has', () =>
      frame({ dictionary: 7 }, block('compressed', 8, '\xff'.repeat(8), true)),
    ),
    broken('two frames', () => join(small, small)),
    broken('text behind its end', () => join(small, 'more')),
    broken('a frame to skip before it', () => join('\x50\x2a\x4d\x18\x04\0\0\0skip', small)),
    coded('zstd, gzip', 'zstd: two codings', () => small, 'UNSUPPORTED_ENCODING'),
  ],
};
