import t from 'tap';
import * as fc from 'fast-check';
import { seededRandom } from '../../src/base/clock.ts';
import { encodeFramesJs, framesBytes } from '../../src/platform/frames.ts';
import { native, nativeMissing } from '../../src/platform/native.ts';

function cut(body: Uint8Array, cuts: readonly number[]): Uint32Array {
  const places = [...cuts.map((c) => c % (body.length + 1)), body.length].sort((a, b) => a - b);
  return Uint32Array.from(places.flatMap((to, i) => [i === 0 ? 0 : places[i - 1], to]));
}

t.test('frames of any records: native and JS write the same, of the length that was foretold', async (t) => {
  if (native === undefined) return void t.pass('the same', { skip: `no native addon: ${nativeMissing}` });
  const random = seededRandom(7);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3000 }),
      fc.array(fc.nat(), { maxLength: 40 }),
      fc.constantFrom(0, 24, 65_535),
      (body, cuts, keyBytes) => {
        const ranges = cut(body, cuts);
        const records = ranges.length / 2;
        const bytes = framesBytes(ranges, records, keyBytes);
        const outs = [0, 1].map(() => Uint8Array.from({ length: bytes + 9 }, () => random() * 256));
        outs[1].set(outs[0]);
        const js = encodeFramesJs(outs[0], body, ranges, records, keyBytes);
        const fast = native!.encodeFrames(outs[1], body, ranges, records, keyBytes);
        return js === bytes && fast === bytes && Buffer.compare(outs[0], outs[1]) === 0;
      },
    ),
    { numRuns: 300, seed: 1 },
  );
  t.pass('300 bodies');
});

t.test('native: what does not fit is refused with an English sentence', async (t) => {
  if (native === undefined) return void t.pass('refused', { skip: `no native addon: ${nativeMissing}` });
  const { encodeFrames } = native;
  const out = new Uint8Array(64);
  const body = new Uint8Array(10);
  t.throws(() => encodeFrames(out, body, Uint32Array.of(0, 11), 1, 0), /range 0 must lie within body/);
  t.throws(() => encodeFrames(out, body, Uint32Array.of(5, 4), 1, 0), /range 0 must lie within body/);
  t.throws(() => encodeFrames(out, body, Uint32Array.of(0, 10), 2, 0), /records must not be larger/);
  t.throws(() => encodeFrames(out, body, Uint32Array.of(0, 10, 0, 10, 0, 10), 3, 0), /must fit into out/);
  t.throws(() => encodeFrames(out, body, Uint32Array.of(0, 10), 1, 65_536), /keyBytes must be an integer/);
  t.throws(() => encodeFrames(out, body, [0, 10] as unknown as Uint32Array, 1, 0), /ranges must be a Uint32Array/);
  t.equal(encodeFrames(out, body, Uint32Array.of(0, 10), 1, 0), 32);
});

t.test('native: lines are looked for within the body and written within the ranges alone', async (t) => {
  if (native === undefined) return void t.pass('refused', { skip: `no native addon: ${nativeMissing}` });
  const { findLines } = native;
  const body = Buffer.from('a\nbb\nccc\nd');
  const place = new Uint32Array(2);
  const ranges = new Uint32Array(5);
  findLines(body, place, ranges, 3);
  t.same([...place], [5, 2], 'full, with a word left over');
  t.same([...ranges], [0, 1, 2, 4, 0]);
  place[1] = 0;
  findLines(body, place, ranges, 2);
  t.same([...place], [5, 0], 'before a line that is too long');
  findLines(body, place, ranges, 3);
  t.same([...place], [10, 2]);
  t.same([...ranges.subarray(0, 4)], [5, 8, 9, 10]);
  t.throws(() => findLines(body, Uint32Array.of(11, 0), ranges, 3), /place must hold a position in body/);
  t.throws(() => findLines(body, Uint32Array.of(0, 3), ranges, 3), /number of pairs in ranges/);
  t.throws(() => findLines(body, Uint32Array.of(0), ranges, 3), /place must hold/);
  t.throws(() => findLines(body, [0, 0] as unknown as Uint32Array, ranges, 3), /place must be a Uint32Array/);
  t.throws(() => findLines(body, place, ranges, -1), /maxBytes must be an integer/);
});
