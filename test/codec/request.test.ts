// The CPU stage as a whole: encodings × shapes, what a schema takes out, and the checksum.

import t from 'tap';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { BAD_RECORDS_SHOWN } from '../../src/base/limits.ts';
import { decodeRequest, type DecodedRequest, type DecodeTask } from '../../src/codec/request.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';
import { temporaryDirectory } from '../support/modes.ts';

const dir = temporaryDirectory();
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const integers = join(dir, 'integers.json');
writeFileSync(integers, '{"type":"integer"}');

const limits = { maxRecords: 1000, maxRecordBytes: 10, maxBytes: 10_000 };

function task(text: string | Buffer, more: Partial<DecodeTask> = {}): DecodeTask {
  return { body: Buffer.from(text as string), encoding: 'identity', shape: 'ndjson', limits, ...more };
}

function textsOf({ body, ranges, count }: DecodedRequest): string[] {
  const bytes = Buffer.from(body);
  return Array.from({ length: count }, (_, i) => bytes.toString('latin1', ranges[2 * i], ranges[2 * i + 1]));
}

t.test('encodings and shapes', async (t) => {
  for (const encoding of ['identity', 'gzip'] as const) {
    for (const [shape, text, records] of [
      ['ndjson', '1\n2\r\n\n3', ['1', '2', '3']],
      ['json', '[1, 2,3 ]', ['1', '2', '3']],
      ['bytes', '1\n2', ['1\n2']],
    ] as const) {
      const body = encoding === 'gzip' ? gzipSync(text) : Buffer.from(text);
      const came = decodeRequest(task(body, { encoding, shape }));
      t.strictSame(textsOf(came), records, `${encoding} ${shape}`);
      t.strictSame([came.badCount, came.bad, came.crc32c], [0, [], undefined]);
      t.equal(Buffer.from(came.body).toString(), text);
    }
  }
  const plain = task('1\n');
  t.equal(decodeRequest(plain).body, plain.body, 'a plain body is not copied');
});

t.test('the checksum is that of the decoded body, and of what it is taken for', async (t) => {
  const text = '1\n22\n333\n';
  const of = (came: Partial<DecodeTask>): number => decodeRequest(task(text, { wantCrc32c: true, ...came })).crc32c!;
  t.equal(of({}), crc32cJs(Buffer.from(text), 1), 'lines');
  t.equal(of({ body: gzipSync(text), encoding: 'gzip' }), of({}), 'however it was encoded');
  t.equal(of({ shape: 'bytes' }), crc32cJs(Buffer.from(text), 3), 'one record');
  t.not(of({ shape: 'bytes' }), of({}), 'the same bytes are other records');
});

t.test('what refuses the request is thrown', async (t) => {
  const cases: [string, DecodeTask][] = [
    ['BODY_TOO_LARGE', task('1'.repeat(10_001))],
    ['BODY_TOO_LARGE', task(gzipSync('1'.repeat(10_001)), { encoding: 'gzip' })],
    ['BAD_ENCODING', task('1', { encoding: 'gzip' })],
    ['EMPTY_REQUEST', task('\n')],
    ['EMPTY_REQUEST', task(gzipSync(''), { encoding: 'gzip' })],
    ['TOO_MANY_RECORDS', task('1\n'.repeat(1001))],
    ['INVALID_JSON', task('[1', { shape: 'json' })],
    ['INVALID_OPTION', task('1', { schema: join(dir, 'none.json') })],
  ];
  for (const [code, bad] of cases) t.throws(() => decodeRequest(bad), { name: 'SpillwayError', code }, code);
});

/** What each record of a request is: fine, too large, not of the schema, not JSON. */
type Kind = 'ok' | 'large' | 'type' | 'json';
const textOf: Record<Kind, string> = { ok: '1', large: '11111111111', type: '"a"', json: '{' };
const codeOf: Record<Kind, string> = {
  ok: '',
  large: 'RECORD_TOO_LARGE',
  type: 'SCHEMA_MISMATCH',
  json: 'INVALID_JSON',
};

/** All sequences of kinds up to a length, and long ones, where not every bad record is described. */
function* sequences(): Generator<Kind[]> {
  const kinds: Kind[] = ['ok', 'large', 'type', 'json'];
  let level: Kind[][] = [[]];
  for (let length = 1; length <= 4; length++) {
    level = level.flatMap((before) => kinds.map((kind) => [...before, kind]));
    yield* level;
  }
  const long = (count: number, kind: (i: number) => Kind): Kind[] => Array.from({ length: count }, (_, i) => kind(i));
  yield long(60, () => 'large');
  yield long(60, () => 'json');
  yield long(60, (i) => (i < 30 ? 'large' : 'type'));
  yield long(60, (i) => (i < 30 ? 'type' : 'large'));
  yield long(60, (i) => (i % 2 === 0 ? 'large' : 'type'));
  yield long(90, (i) => kinds[(i * i) % 4]);
  yield long(90, (i) => kinds[(i * 7 + (i >> 2)) % 4]);
  yield long(60, (i) => (i === 5 || i > 40 ? 'type' : i > 8 && i < 40 ? 'large' : 'ok'));
}

t.test('bad records of every kind: their places, and the others', async (t) => {
  let sequence = 0;
  for (const kinds of sequences()) {
    const what = kinds.length < 5 ? kinds.join(' ') : `long sequence ${sequence++}`;
    const text = kinds.map((kind) => `${textOf[kind]}\n`).join('');
    const came = decodeRequest(task(text, { schema: integers }));
    const wanted = kinds.flatMap((kind, index) => (kind === 'ok' ? [] : [{ index, code: codeOf[kind] }]));
    t.equal(came.badCount, wanted.length, `${what}: count`);
    t.strictSame(
      came.bad.map(({ index, code }) => ({ index, code })),
      wanted.slice(0, BAD_RECORDS_SHOWN),
      `${what}: the first of them`,
    );
    const offsets = came.bad.map((b) => text.slice(0, b.byteOffset).split('\n').length - 1);
    t.strictSame(
      offsets,
      came.bad.map((b) => b.index),
      `${what}: their bytes`,
    );
    t.strictSame(
      textsOf(came),
      kinds.filter((kind) => kind === 'ok').map((kind) => textOf[kind]),
      `${what}: the others`,
    );
  }
});

t.test('elements of an array with a schema', async (t) => {
  const came = decodeRequest(task('[1, "x", 2, 33333333333]', { shape: 'json', schema: integers }));
  t.strictSame(textsOf(came), ['1', '2']);
  t.strictSame(
    came.bad.map(({ index, byteOffset, code }) => [index, byteOffset, code]),
    [
      [1, 4, 'SCHEMA_MISMATCH'],
      [3, 12, 'RECORD_TOO_LARGE'],
    ],
  );
});

t.test('without a schema lines are not looked at', async (t) => {
  t.strictSame(textsOf(decodeRequest(task(Buffer.from('{\n\xff\n', 'latin1')))), ['{', '\xff']);
});
