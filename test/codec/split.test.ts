// Records of a body: lines, elements, the whole; and the bounds of each.

import t from 'tap';
import * as fc from 'fast-check';
import { SpillwayError } from '../../src/base/errors.ts';
import { BAD_RECORDS_SHOWN } from '../../src/base/limits.ts';
import { native, nativeMissing } from '../../src/platform/native.ts';
import { shapeOf, splitRecords, type Ranges, type RecordShape, type SplitLimits } from '../../src/codec/split.ts';

const wide: SplitLimits = { maxRecords: 1_000_000, maxRecordBytes: 1_000_000 };

function textsOf(body: Buffer, { ranges, count }: Ranges): string[] {
  return Array.from({ length: count }, (_, i) => body.subarray(ranges[2 * i], ranges[2 * i + 1]).toString('latin1'));
}

/** Records of a text as texts, or the code of what was thrown. */
function split(text: string | Buffer, shape: RecordShape, limits = wide): string[] | string {
  const body = Buffer.from(text as string);
  try {
    return textsOf(body, splitRecords(body, shape, limits));
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return error.code;
  }
}

t.test('content types', async (t) => {
  const types: [string, RecordShape][] = [
    ['application/x-ndjson', 'ndjson'],
    ['Application/X-NDJSON; charset=UTF-8', 'ndjson'],
    ['application/json', 'json'],
    ['application/json;charset="utf-8"', 'json'],
    ['application/json ; q=1; charset=us-ascii', 'json'],
    ['text/plain', 'bytes'],
    ['text/plain; charset=utf-16', 'bytes'],
    ['application/octet-stream', 'bytes'],
  ];
  for (const [type, shape] of types) t.equal(shapeOf(type), shape, type);
  for (const type of [undefined, '', ';', 'application', 'text/html', 'application/json5', 'x-ndjson', 'constructor']) {
    t.throws(() => shapeOf(type), { code: 'UNSUPPORTED_MEDIA_TYPE', message: /application\/x-ndjson/ }, String(type));
  }
  t.throws(() => shapeOf(undefined), { message: /got none/ });
  t.throws(() => shapeOf('application/x-www-form-urlencoded'), { message: /curl sends it/ });
  for (const type of ['application/x-ndjson; charset=utf-16', 'application/json; charset=latin1']) {
    t.throws(() => shapeOf(type), { code: 'UNSUPPORTED_MEDIA_TYPE', message: /charset utf-8, got/ }, type);
  }
});

const lines: [what: string, text: string, records: string[] | string][] = [
  ['nothing', '', 'EMPTY_REQUEST'],
  ['a newline', '\n', 'EMPTY_REQUEST'],
  ['blank lines only', '\n\r\n \t\r\n\n  ', 'EMPTY_REQUEST'],
  ['one line', 'a\n', ['a']],
  ['no last newline', 'a\nb', ['a', 'b']],
  ['blank lines between', '\n\na\n\n \n\t\n\r\nb\n\n', ['a', 'b']],
  ['CRLF', 'a\r\nb\r\n', ['a', 'b']],
  ['two CR: one belongs to the record', 'a\r\r\n', ['a\r']],
  ['a CR within', 'a\rb\n', ['a\rb']],
  ['a CR at the end of the body', 'a\r', ['a\r']],
  ['only CRs', '\r\r\n\r', 'EMPTY_REQUEST'],
  ['white space around is kept', ' a \r\n\tb\t\n', [' a ', '\tb\t']],
  ['white space that is none here', '\v\n\f\n\0\n', ['\v', '\f', '\0']],
  ['not JSON, and it is not looked at', '{"a":\n]\n', ['{"a":', ']']],
  ['a byte order mark', '\xef\xbb\xbfa\n', ['\xef\xbb\xbfa']],
  ['one byte', 'x', ['x']],
];

t.test('lines', async (t) => {
  for (const [what, text, records] of lines) t.strictSame(split(Buffer.from(text, 'latin1'), 'ndjson'), records, what);
});

/** By regular expressions: nothing in common with the code under test. */
function linesOf(text: string): string[] {
  const parts = text.split('\n');
  const last = parts.pop()!;
  return [...parts.map((line) => line.replace(/\r$/, '')), last].filter((line) => /[^\r \t]/.test(line));
}

t.test('lines: random texts', async (t) => {
  const piece = fc.constantFrom('\n', '\n', '\r\n', '\r', ' ', '\t', 'a', '{}', '\xff', '\0', '\x0b');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const text = pieces.join('');
      const wanted = linesOf(text);
      t.strictSame(split(Buffer.from(text, 'latin1'), 'ndjson'), wanted.length === 0 ? 'EMPTY_REQUEST' : wanted, text);
    }),
    { seed: 8, numRuns: 1000 },
  );
});

t.test('elements of an array, or the one value', async (t) => {
  const cases: [string, string[] | string][] = [
    ['', 'EMPTY_REQUEST'],
    [' \n', 'EMPTY_REQUEST'],
    ['[]', 'EMPTY_REQUEST'],
    [' [ ] ', 'EMPTY_REQUEST'],
    ['{}', ['{}']],
    [' {"a" : [1, 2]}\n', ['{"a" : [1, 2]}']],
    ['[1]', ['1']],
    [' [ 1 ,\n{"a":[1,2]} , [ ],[[3]],"x,]" ] ', ['1', '{"a":[1,2]}', '[ ]', '[[3]]', '"x,]"']],
    ['9007199254740993', ['9007199254740993']],
    ['"\xff"', ['"\xff"']],
    ['null', ['null']],
    ['[1', 'INVALID_JSON'],
    ['{}{}', 'INVALID_JSON'],
    ['\xef\xbb\xbf{}', 'INVALID_JSON'],
    ['hello', 'INVALID_JSON'],
  ];
  for (const [text, records] of cases) t.strictSame(split(Buffer.from(text, 'latin1'), 'json'), records, text);
});

t.test('the whole body', async (t) => {
  t.equal(split('', 'bytes'), 'EMPTY_REQUEST');
  for (const text of [' ', '\n', 'a\nb', '\0']) t.strictSame(split(text, 'bytes'), [text]);
});

t.test('a body that is a view of a larger buffer', async (t) => {
  const whole = Buffer.from('xx\na\nb\nyy');
  const body = new Uint8Array(whole.buffer, whole.byteOffset + 3, 4);
  const { count, ranges } = splitRecords(body, 'ndjson', wide);
  t.strictSame([count, ...ranges.subarray(0, 4)], [2, 0, 1, 2, 3]);
});

/** A body of `count` records, the one at each of `large` with 11 bytes instead of 3. */
function bodyOf(shape: RecordShape, count: number, large: ReadonlySet<number>): Buffer {
  const records = Array.from({ length: count }, (_, i) => (large.has(i) ? '"xxxxxxxxx"' : '"x"'));
  return Buffer.from(shape === 'json' ? `[${records.join(',')}]` : `\n${records.join('\n\n')}\n`);
}

t.test('a record that is too large is counted and described, the others are found', async (t) => {
  for (const shape of ['ndjson', 'json'] as const) {
    for (const large of [[0], [4], [1, 3], [0, 1, 2, 3, 4], Array.from({ length: 30 }, (_, i) => i + 2)]) {
      const count = 5 + (large.length > 5 ? 40 : 0);
      const body = bodyOf(shape, count, new Set(large));
      const what = `${shape}, ${large.length} of ${count}`;
      const came = splitRecords(body, shape, { maxRecords: count, maxRecordBytes: 10 });
      t.strictSame(textsOf(body, came), Array<string>(count - large.length).fill('"x"'), what);
      t.equal(came.badCount, large.length, what);
      const shown = large.slice(0, BAD_RECORDS_SHOWN);
      t.strictSame(
        came.bad.map((b) => b.index),
        shown,
        `${what}: places`,
      );
      for (const b of came.bad) {
        t.equal(
          body.toString('latin1', b.byteOffset, b.byteOffset + 11),
          '"xxxxxxxxx"',
          `${what}: byte ${b.byteOffset}`,
        );
        t.strictSame([b.code, b.message], ['RECORD_TOO_LARGE', 'expected at most 10 bytes, got 11']);
      }
    }
  }
  const endless = splitRecords(Buffer.alloc(1001, 'a'), 'ndjson', { maxRecords: 1, maxRecordBytes: 1000 });
  t.strictSame([endless.count, endless.badCount], [0, 1], 'one endless line');
  const whole = splitRecords(Buffer.alloc(1001), 'bytes', { maxRecords: 1, maxRecordBytes: 1000 });
  t.strictSame([whole.count, whole.badCount, whole.bad[0].byteOffset], [0, 1, 0], 'the whole body');
  t.equal(splitRecords(Buffer.alloc(1000), 'bytes', { maxRecords: 1, maxRecordBytes: 1000 }).count, 1, 'just not');
});

t.test('too many records, the bad ones counted', async (t) => {
  for (const shape of ['ndjson', 'json'] as const) {
    // 256 pairs, 512, … is where the ranges grow.
    for (const count of [1, 2, 255, 256, 257, 512, 513, 10_000]) {
      const body = bodyOf(shape, count, new Set([count >> 1]));
      const limits = { maxRecords: count, maxRecordBytes: 10 };
      const came = splitRecords(body, shape, limits);
      t.strictSame([came.count, came.badCount], [count - 1, 1], `${shape}: ${count}`);
      t.ok(
        textsOf(body, came).every((text) => text === '"x"'),
        `${shape}: ${count}, each of them`,
      );
      t.ok(came.ranges.length <= Math.max(512, 4 * count), `${shape}: ${count} in ${came.ranges.length} words`);
      const fewer = { ...limits, maxRecords: count - 1 };
      t.throws(
        () => splitRecords(body, shape, fewer),
        { code: 'TOO_MANY_RECORDS' },
        `${shape}: ${count} of ${count - 1}`,
      );
    }
  }
  t.equal(split('\n'.repeat(100_000), 'ndjson', { maxRecords: 1, maxRecordBytes: 1 }), 'EMPTY_REQUEST', 'blank lines');
});

t.test('broken JSON is refused as a whole, with its position', async (t) => {
  const body = Buffer.from('[1,2,{"a":}]');
  t.throws(() => splitRecords(body, 'json', wide), { code: 'INVALID_JSON', message: /at byte 10, got '}'/ });
});

t.test('lines: the addon and JS find the same, bad ones and too many included', async (t) => {
  if (native === undefined) return void t.pass('the same', { skip: `no native addon: ${nativeMissing}` });
  const piece = fc.constantFrom('\n', '\r\n', '\r', ' ', '\t', 'a', 'bbbb', '\xff'.repeat(9));
  const seen = { bad: 0, tooMany: 0, fine: 0 };
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.nat(12), fc.nat(20), (pieces, maxRecordBytes, maxRecords) => {
      const body = Buffer.from(pieces.join(''), 'latin1');
      const [js, fast] = [null, native!].map((addon) => {
        try {
          const { count, ranges, ...bad } = splitRecords(body, 'ndjson', { maxRecordBytes, maxRecords }, addon);
          seen[bad.badCount > 0 ? 'bad' : 'fine']++;
          return { count, ranges: [...ranges.subarray(0, 2 * count)], ...bad };
        } catch (error) {
          const { code, message } = error as SpillwayError;
          if (code === 'TOO_MANY_RECORDS') seen.tooMany++;
          return { code, message };
        }
      });
      t.strictSame(fast, js, JSON.stringify(pieces));
    }),
    { seed: 9, numRuns: 1000 },
  );
  t.ok(Math.min(...Object.values(seen)) > 100, JSON.stringify(seen));
});
