// An APPEND that is compressed, and what it was before.

import { randomBytes } from 'node:crypto';
import t from 'tap';
import { gzipSync } from 'node:zlib';
import { appendFlagOf, compressPayload, expandAppend, WELCOME_CODECS } from '../../src/codec/append-codec.ts';
import { decodeAppend, encodeAppend, payloadsOf } from '../../src/codec/append-frame.ts';
import {
  APPEND_GZIP,
  APPEND_SKIPS,
  APPEND_ZSTD,
  appendCredit,
  COMPRESSED_APPEND_BYTES,
  FRAME_HEADER_BYTES,
  frameType,
  WELCOME_GZIP,
  WELCOME_ZSTD,
  type Frame,
} from '../../src/codec/frames.ts';
import { codeOf, one, raw, record } from '../support/codec-frames.ts';
import { needs } from '../support/codecs.ts';

const payloads = Array.from({ length: 500 }, (_, i) => `request ${i} took ${i % 7} ms and was answered`);
const plain = encodeAppend(
  { streamId: 3, firstSequence: 40, flags: 0 },
  payloads.map((p) => record(p, 'key')),
  true,
);
const maxFrameBytes = 1 << 20;

function framed(body: Uint8Array, flags: number): Frame {
  return one(raw(frameType.append, body, { flags, streamId: 3 }));
}

/** What was handed on, copied: it is good within the call only. */
function expanded(frame: Frame, most = maxFrameBytes): Frame {
  let got: Frame | undefined;
  expandAppend(frame, most, (f) => (got = { ...f, payload: new Uint8Array(f.payload) }));
  return got!;
}

for (const [codec, flag, welcome] of [
  ['gzip', APPEND_GZIP, WELCOME_GZIP],
  ['zstd', APPEND_ZSTD, WELCOME_ZSTD],
] as const) {
  t.test(`${codec}: there and back`, needs(codec), async (t) => {
    t.equal(appendFlagOf(codec, WELCOME_CODECS), flag, 'this process says that it takes it');
    t.equal(appendFlagOf(codec, WELCOME_CODECS & ~welcome), 0, 'and is believed where it does not');
    const compressed = compressPayload(plain.subarray(FRAME_HEADER_BYTES), flag)!;
    t.ok(compressed.length * 4 < plain.length, `${compressed.length} of ${plain.length}`);
    const frame = framed(compressed, flag | APPEND_SKIPS);
    t.equal(appendCredit(frame), COMPRESSED_APPEND_BYTES, 'whatever its length');
    const back = expanded(frame);
    t.match(back, { flags: flag | APPEND_SKIPS, streamId: 3 });
    const append = decodeAppend(back, true);
    t.match(append, { firstSequence: 40, records: 500 });
    t.same(
      payloadsOf(append.frames).map((p) => Buffer.from(p).toString()),
      payloads,
    );
    for (const cut of [1, compressed.length >> 1, compressed.length - 1]) {
      t.equal(
        codeOf(() => expanded(framed(compressed.subarray(0, cut), flag))),
        'BAD_ENCODING',
        `cut to ${cut}`,
      );
    }
    t.equal(
      codeOf(() => expanded(framed(Buffer.concat([compressed, Buffer.from('x')]), flag))),
      'BAD_ENCODING',
    );
  });
}

t.test('one that was not compressed is handed on as it is; codec none never is', async (t) => {
  const frame = one(plain);
  t.equal(appendCredit(frame), plain.length);
  expandAppend(frame, maxFrameBytes, (same) => t.equal(same, frame));
  t.equal(appendFlagOf('none', WELCOME_CODECS), 0);
});

t.test('a bomb stops at 64 KiB, and at the longest frame where that is less', async (t) => {
  const most = COMPRESSED_APPEND_BYTES - FRAME_HEADER_BYTES;
  t.equal(expanded(framed(gzipSync(Buffer.alloc(most)), APPEND_GZIP)).payload.length, most, 'so much is allowed');
  t.equal(
    codeOf(() => expanded(framed(gzipSync(Buffer.alloc(most + 1)), APPEND_GZIP))),
    'BODY_TOO_LARGE',
  );
  const bomb = gzipSync(Buffer.alloc(48 * 1024 * 1024), { level: 9 });
  t.ok(bomb.length < COMPRESSED_APPEND_BYTES, `48 MiB in ${bomb.length} bytes`);
  const before = process.memoryUsage().arrayBuffers;
  t.equal(
    codeOf(() => expanded(framed(bomb, APPEND_GZIP))),
    'BODY_TOO_LARGE',
  );
  const more = process.memoryUsage().arrayBuffers - before;
  t.ok(more < 1024 * 1024, `${more} bytes more`);
  const small = framed(gzipSync(Buffer.alloc(5000)), APPEND_GZIP);
  t.equal(expanded(small, 5008).payload.length, 5000);
  t.equal(
    codeOf(() => expanded(small, 5007)),
    'BODY_TOO_LARGE',
  );
});

t.test('what would not become a tenth shorter is not compressed', async (t) => {
  t.equal(compressPayload(randomBytes(20_000), APPEND_GZIP), undefined);
  t.ok(compressPayload(Buffer.alloc(20_000), APPEND_GZIP)!.length < 200);
});
