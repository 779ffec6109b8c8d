// The body of a POST: content coding, records of text, JSON and bytes, schema; and the frames that are made of them.
//
//     shape u8 · flags u8 · records u8 · record bytes u8 · body
//
// Judged by JSON.parse, by zlib without limits, by lines split as text, and native against JavaScript.

import fc from 'fast-check';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { BAD_RECORDS_SHOWN, DECODE_SLACK_BYTES } from '../../../src/base/limits.ts';
import { decodeRequest, type DecodeTask } from '../../../src/codec/request.ts';
import { splitRecords, type Ranges } from '../../../src/codec/split.ts';
import { encodeFrames, encodeFramesJs, framesBytes } from '../../../src/platform/frames.ts';
import { bytesOf, must, outcomeOf, Taker, type Target } from '../target.ts';

const GZIP = 1;
/** The body is what is to be packed: so that what is within is reached. */
const PACK = 2;
const TINY = 4;
const SCHEMA = 8;
const CHECKSUM = 16;
const NORMAL = { maxRecords: 10_000, maxRecordBytes: 65_536, maxBytes: 262_144 };

const shapes = ['ndjson', 'json', 'bytes'] as const;
const codes = [
  'BODY_TOO_LARGE',
  'BAD_ENCODING',
  'UNSUPPORTED_ENCODING',
  'INVALID_JSON',
  'TOO_MANY_RECORDS',
  'EMPTY_REQUEST',
] as const;

const dir = mkdtempSync(join(tmpdir(), 'spillway-fuzz-'));
const schema = join(dir, 'schema.json');
writeFileSync(schema, '{"type":"object","required":["a"],"properties":{"a":{"type":"integer"}}}');
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

function mustBeRanges(split: Ranges, bodyBytes: number, { maxRecords, maxRecordBytes }: DecodeTask['limits']): void {
  const { count, ranges, bad, badCount } = split;
  let end = 0;
  for (let i = 0; i < count; i++) {
    const [from, to] = [ranges[2 * i], ranges[2 * i + 1]];
    must(
      from >= end && to >= from && to <= bodyBytes,
      'ranges lie in the body, in order',
      () => `${end} ${from} ${to}`,
    );
    must(to - from <= maxRecordBytes, 'no record is too large', () => `${to - from}`);
    end = to;
  }
  must(count + badCount > 0 && count + badCount <= maxRecords, 'records are counted', () => `${count} + ${badCount}`);
  must(bad.length === Math.min(badCount, BAD_RECORDS_SHOWN), 'the first bad records are described');
  let [index, offset] = [-1, -1];
  for (const b of bad) {
    must(b.index > index && b.index < count + badCount, 'bad records have their place among the records', () =>
      JSON.stringify(bad),
    );
    must(b.byteOffset > offset && b.byteOffset < bodyBytes, 'bad records have their place in the body');
    [index, offset] = [b.index, b.byteOffset];
  }
}

/** Text by hand: what is between newlines, without one CR before each, and without blank lines. */
function linesOf(body: string): string[] {
  const lines = body.split('\n');
  const last = lines.pop()!;
  return [...lines.map((line) => line.replace(/\r$/, '')), last].filter((line) => /[^ \t\r]/.test(line));
}

function mustBeJson(body: Uint8Array, outcome: { readonly value?: Ranges; readonly code?: string }): void {
  const latin1 = text(body);
  let parsed: unknown;
  let isJson = true;
  try {
    parsed = JSON.parse(latin1);
  } catch {
    isJson = false;
  }
  if (outcome.code === 'TOO_MANY_RECORDS') return;
  if (!isJson) {
    const isBlank = /^[ \t\r\n]*$/.test(latin1);
    must(outcome.code === (isBlank ? 'EMPTY_REQUEST' : 'INVALID_JSON'), 'what JSON.parse refuses is refused');
    return;
  }
  const elements: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  if (elements.length === 0) return must(outcome.code === 'EMPTY_REQUEST', 'an empty array holds no record');
  const split = outcome.value;
  if (split === undefined) return must(false, 'what JSON.parse takes is taken', () => `got ${outcome.code}`);
  must(split.count + split.badCount === elements.length, 'a record for each element', () => latin1.slice(0, 100));
  if (split.badCount > 0 || split.count > 100) return;
  for (let i = 0; i < split.count; i++) {
    const record = latin1.slice(split.ranges[2 * i], split.ranges[2 * i + 1]);
    must(JSON.stringify(JSON.parse(record)) === JSON.stringify(elements[i]), 'a record is its element', () => record);
  }
}

function mustAgree(body: Uint8Array, task: DecodeTask): void {
  const byNative = outcomeOf(codes, () => splitRecords(body, task.shape, task.limits));
  const byJs = outcomeOf(codes, () => splitRecords(body, task.shape, task.limits, null));
  const plain = (o: typeof byJs): string =>
    'refused' in o
      ? o.refused.message
      : JSON.stringify([
          o.value.count,
          [...o.value.ranges.subarray(0, 2 * o.value.count)],
          o.value.bad,
          o.value.badCount,
        ]);
  must(plain(byNative) === plain(byJs), 'native and JavaScript split alike', () => `${plain(byNative)} ${plain(byJs)}`);
  const split = 'value' in byJs ? byJs.value : undefined;
  if (task.shape === 'json') mustBeJson(body, 'value' in byJs ? { value: byJs.value } : { code: byJs.refused.code });
  if (split === undefined) return;
  mustBeRanges(split, body.length, task.limits);
  if (task.shape === 'ndjson' && split.badCount === 0) {
    const lines = linesOf(text(body));
    const found = Array.from(lines, (_, i) => text(body.subarray(split.ranges[2 * i], split.ranges[2 * i + 1])));
    must(lines.length === split.count && lines.join('\n') === found.join('\n'), 'records are the lines', () =>
      JSON.stringify([lines, found]),
    );
  }
  const keyBytes = body.length % 2 === 0 ? 0 : 24;
  const bytes = framesBytes(split.ranges, split.count, keyBytes);
  const [a, b] = [new Uint8Array(bytes), new Uint8Array(bytes).fill(0xaa)];
  const ends = [encodeFrames, encodeFramesJs].map((e, i) =>
    e(i === 0 ? a : b, body, split.ranges, split.count, keyBytes),
  );
  must(ends.every((end) => end === bytes) && Buffer.compare(a, b) === 0, 'native and JavaScript frame alike');
}

function run(input: Uint8Array): void {
  const t = new Taker(input);
  const shape = shapes[t.u8() % shapes.length];
  const flags = t.u8();
  const [records, recordBytes] = [t.u8(), t.u8()];
  const rest = t.rest();
  const limits =
    (flags & TINY) === 0
      ? NORMAL
      : { maxRecords: 1 + (records % 32), maxRecordBytes: 1 + (recordBytes % 64), maxBytes: 16 + recordBytes * 4 };
  const encoding = (flags & GZIP) === 0 ? 'identity' : 'gzip';
  const body = encoding === 'gzip' && (flags & PACK) !== 0 ? gzipSync(rest, { level: 1 }) : new Uint8Array(rest);
  const task: DecodeTask = {
    body,
    encoding,
    shape,
    limits,
    wantCrc32c: (flags & CHECKSUM) !== 0,
    ...((flags & SCHEMA) === 0 ? {} : { schema }),
  };
  const outcome = outcomeOf(codes, () => decodeRequest(task));
  if ('refused' in outcome) {
    if (encoding === 'identity' && body.length <= limits.maxBytes) mustAgree(body, task);
    return;
  }
  const decoded = outcome.value;
  must(decoded.body.length <= limits.maxBytes, 'what is decoded stays below its cap', () => `${decoded.body.length}`);
  if (encoding === 'identity') must(decoded.body === body, 'a plain body is the body itself');
  else {
    const memory = decoded.body.buffer.byteLength;
    must(memory <= limits.maxBytes + DECODE_SLACK_BYTES, 'memory stays below the cap and its slack', () => `${memory}`);
    must(Buffer.compare(gunzipSync(body), decoded.body) === 0, 'decoded as zlib does');
  }
  mustBeRanges(decoded, decoded.body.length, limits);
  if (decoded.count > 0) mustAgree(decoded.body, task);
}

const json = fc.oneof(
  fc.json(),
  fc.json().map((one) => `[${one},${one} ]`),
  fc.array(fc.json()).map((a) => `[${a.join()}]`),
);
/** What is JSON, and what almost is. */
const nearly = fc
  .array(
    // oxfmt-ignore
    fc.constantFrom('0', '00', '01', '-', '-0', '1.5', '1.', '.5', '+1', '1e+9', '1E-', '1e', 'true', 'tru', 'null', 'NaN', '"a"', '"\\u00e9"',
      '"\\u00g0"', '"\\x"', '"\t"', '"', '[]', '[1,]', '{}', '{"a":0}', '{"a"}', '{a:1}', '{"a":1,}', ' ', '\n', ''),
    { minLength: 1, maxLength: 4 },
  )
  .map((tokens) => (tokens.length === 1 ? tokens[0] : `[${tokens.join(',')}]`));
const lines = fc.array(fc.oneof(fc.json(), fc.string(), fc.constantFrom('', '\r', ' \t', '{"a":1}', '{"a":"b"}')));
const body = fc.oneof(
  json.map((j) => Buffer.from(j)),
  nearly.map((j) => Buffer.from(j)),
  lines.map((l) => Buffer.from(l.join('\n'))),
  fc.uint8Array({ maxLength: 64 }),
);
const flags = fc.integer({ min: 0, max: 31 });

export const request: Target = {
  name: 'request',
  promise:
    'a body gives records that lie in it, in order, the same ones natively and in JavaScript, or a documented refusal',
  maxBytes: 2048,
  quick: 25_000,
  leastCovered: 210,
  dictionary: bytesOf(
    '\r\n',
    '\n',
    '"',
    '\\u00e9',
    '\\',
    '[',
    ']',
    '{',
    '}',
    ':',
    ',',
    'true',
    'false',
    'null',
    '-0',
    '00',
    '1.',
    '.5',
    '+1',
    '1e',
    'tru',
    ',]',
    ',}',
    '\\u00',
    '\t',
    '1e9',
    '0.5',
    '[[',
    ']]',
    '{"a":1}',
    '"a"',
    '\x1f\x8b\x08',
    '\xef\xbb\xbf',
  ),
  structured: fc
    .tuple(fc.integer({ min: 0, max: 2 }), flags, fc.nat(255), fc.nat(255), body, fc.boolean())
    .map(([shape, bits, records, bytes, rest, packed]) =>
      // Packed already: then the packing itself is what is changed.
      packed
        ? Buffer.concat([Buffer.of(shape, (bits | GZIP) & ~PACK, records, bytes), gzipSync(rest)])
        : Buffer.concat([Buffer.of(shape, bits, records, bytes), rest]),
    ),
  run,
};
