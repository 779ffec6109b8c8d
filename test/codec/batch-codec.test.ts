// Compression of the records of a batch and back, for each codec that this Node has.

import { randomBytes } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { codecs } from '../../src/base/types.ts';
import { batchDecoder, codecLacks, compressorFor } from '../../src/codec/batch-codec.ts';
import { thrown } from '../support/log-plans.ts';
import { compressing, here, needs } from '../support/codecs.ts';

const text = Buffer.from('the same words again and again, as logs have them\n'.repeat(400));

t.ok(here.includes('gzip'), `here: ${here.join(', ')}`);
t.equal(compressorFor('none'), undefined);

for (const codec of compressing) {
  const number = codecs.indexOf(codec);
  t.test(`${codec}: what goes in comes out, whatever it is`, needs(codec), async (t) => {
    const compressor = compressorFor(codec)!;
    t.equal(compressor.codec, number);
    const part = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(700)));
    const raws = fc.array(part, { minLength: 1, maxLength: 20 }).map((parts) => Buffer.concat(parts));
    // One compressor for all: what one batch leaves behind must not show in the next.
    fc.assert(
      fc.property(raws, (raw) => {
        const room = new Uint8Array(raw.length + 1000).fill(0xee);
        const bytes = compressor.compress(raw, room.subarray(100, room.length - 100));
        const outside = [...room.subarray(0, 100), ...room.subarray(room.length - 100)];
        const into = new Uint8Array(raw.length);
        const wrong = batchDecoder.decode(number, room.subarray(100, 100 + bytes), into);
        return bytes > 0 && wrong === undefined && raw.equals(into) && outside.every((b) => b === 0xee);
      }),
      { numRuns: 300, seed: 7 },
    );
    t.pass('300 runs');
  });

  t.test(`${codec}: no room, no output; and the next batch is as ever`, needs(codec), async (t) => {
    const compressor = compressorFor(codec)!;
    const room = new Uint8Array(text.length);
    const bytes = compressor.compress(text, room);
    t.ok(bytes > 0 && bytes * 10 < text.length, `${bytes} of ${text.length}`);
    const noise = randomBytes(20_000);
    t.equal(compressor.compress(noise, new Uint8Array(noise.length)), 0, 'what cannot be compressed does not fit');
    for (const less of [1, 10, bytes >> 1, bytes]) {
      const small = new Uint8Array(room.length).fill(0xee);
      t.equal(compressor.compress(text, small.subarray(0, bytes - less)), 0, `${less} bytes short`);
      t.ok(
        small.subarray(bytes - less).every((b) => b === 0xee),
        'nothing behind the room',
      );
    }
    const again = new Uint8Array(text.length);
    t.equal(compressor.compress(text, again), bytes);
    t.same(again.subarray(0, bytes), room.subarray(0, bytes));
  });

  t.test(`${codec}: exactly as many bytes as asked for, else it says why`, needs(codec), async (t) => {
    const room = new Uint8Array(text.length);
    const stored = room.subarray(0, compressorFor(codec)!.compress(text, room));
    for (const wanted of [0, 1, text.length - 1, text.length + 1, 3 * text.length]) {
      const into = new Uint8Array(wanted);
      t.type(batchDecoder.decode(number, stored, into), 'string', `${wanted} of ${text.length}`);
    }
    const into = new Uint8Array(text.length);
    for (const cut of [0, 3, stored.length >> 1, stored.length - 1]) {
      t.type(batchDecoder.decode(number, stored.subarray(0, cut), into), 'string', `cut to ${cut}`);
    }
    t.type(batchDecoder.decode(number, Buffer.concat([stored, stored]), into), 'string', 'twice');
    t.type(batchDecoder.decode(number, randomBytes(stored.length), into), 'string', 'noise');
    t.equal(batchDecoder.decode(number, stored, into), undefined);
    t.ok(text.equals(into));
  });
}

t.test('a bomb is stopped at what it was said to hold', async (t) => {
  const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
  const before = process.memoryUsage().arrayBuffers;
  t.match(batchDecoder.decode(codecs.indexOf('gzip'), bomb, new Uint8Array(100_000)), /expected at most 100000 bytes/);
  const more = process.memoryUsage().arrayBuffers - before;
  t.ok(more < 4 * 1024 * 1024, `${more} bytes more`);
});

t.test('gzip is gzip: other programs read it', async (t) => {
  const room = new Uint8Array(text.length);
  const bytes = compressorFor('gzip')!.compress(text, room);
  t.ok(gunzipSync(room.subarray(0, bytes)).equals(text));
});

t.test('a codec that this process does not have is refused by name, with what it needs', async (t) => {
  const missing = compressing.filter((codec) => codecLacks(codec) !== undefined);
  for (const codec of missing) {
    const { code, message } = thrown(() => compressorFor(codec));
    t.equal(code, 'INVALID_OPTION');
    t.match(message, `option 'codec': ${codec} needs ${codecLacks(codec)}; gzip works everywhere`);
    t.equal(batchDecoder.lacks(codecs.indexOf(codec)), codecLacks(codec));
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  const hasZstd = major > 22 || (major === 22 && minor >= 15);
  t.equal(missing.includes('zstd'), !hasZstd, process.version);
  if (!hasZstd) t.match(codecLacks('zstd'), `Node 22.15 or later, and this is ${process.version}`);
});
