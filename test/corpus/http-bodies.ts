// Bodies over HTTP: records that are none, too large or too many, JSON that is none, and bytes that have to be kept as they came.

import { chunk, chunked, JSON_TYPE, KIB, line, LINES, MIB, post, SCHEMA_STREAM, TEXT, untilAnswered } from './case.ts';
import type { Area, Bytes, Case, Said } from './case.ts';

const BIG = 'b'.repeat(MIB);
const DEPTH = 200_000;
const BINARY = 'Content-Type: application/octet-stream\r\n';

/** One POST and its answer. @param stores none where it is refused */
function one(
  name: string,
  headers: string,
  body: () => Bytes,
  said: Said,
  stores: () => readonly Bytes[] = () => [],
  query = '',
): Case {
  return { name, send: ({ stream }) => [post(stream, headers, body(), query)], gets: [said], stores };
}
const refused = (name: string, headers: string, body: () => Bytes, code: Said, query?: string): Case =>
  one(name, headers, body, code, () => [], query);
/** A body that is one record, kept byte for byte. */
const kept = (name: string, headers: string, bytes: () => Bytes): Case =>
  one(name, headers, bytes, 200, () => [bytes()]);
const notJson = (name: string, bytes: Bytes): Case => refused(`JSON: ${name}`, JSON_TYPE, () => bytes, 'INVALID_JSON');

const sizes: readonly Case[] = [
  refused('text of 0 bytes', TEXT, () => '', 'EMPTY_REQUEST'),
  refused('no line', LINES, () => '', 'EMPTY_REQUEST'),
  refused('blank lines only', LINES, () => '\n\r\n \t\n\n', 'EMPTY_REQUEST'),
  refused('JSON: an array of nothing', JSON_TYPE, () => '[]', 'EMPTY_REQUEST'),
  refused('JSON: white space only', JSON_TYPE, () => ' \n ', 'EMPTY_REQUEST'),
  kept('a record of 1 MiB', TEXT, () => BIG),
  refused('a record of 1 MiB + 1', TEXT, () => `${BIG}b`, 'RECORD_TOO_LARGE'),
  refused('a line of 1 MiB + 1 among others', LINES, () => `a\n${BIG}b\nc\n`, 'RECORD_TOO_LARGE'),
  refused('JSON: an element of 1 MiB + 1', JSON_TYPE, () => `[1,"${BIG}"]`, 'RECORD_TOO_LARGE'),
  one(
    'a line of 1 MiB + 1 among others, with ?partial=1',
    LINES,
    () => `a\n${BIG}b\nc\n`,
    200,
    () => ['a', 'c'],
    '?partial=1',
  ),
  refused('only a line of 1 MiB + 1, with ?partial=1', LINES, () => `${BIG}b\n`, 'RECORD_TOO_LARGE', '?partial=1'),
  one(
    '10,000 records',
    LINES,
    () => 'a\n'.repeat(10_000),
    200,
    () => Array<string>(10_000).fill('a'),
  ),
  refused('10,001 records', LINES, () => 'a\n'.repeat(10_001), 'TOO_MANY_RECORDS'),
  refused('10,001 records, with ?partial=1', LINES, () => 'a\n'.repeat(10_001), 'TOO_MANY_RECORDS', '?partial=1'),
  refused('JSON: 10,001 elements', JSON_TYPE, () => `[${'1,'.repeat(10_000)}1]`, 'TOO_MANY_RECORDS'),
  refused('2 million blank lines and no record', LINES, () => '\n'.repeat(2_000_000), 'EMPTY_REQUEST'),
  refused('one line of 4 MiB without an end', LINES, () => BIG.repeat(4), 'RECORD_TOO_LARGE'),
  refused('a body of 4 MiB + 1', LINES, () => `${BIG.repeat(4)}b`, 'BODY_TOO_LARGE'),
  {
    name: 'a line that never ends',
    send: ({ stream }) => [chunked(stream, '', LINES), untilAnswered(chunk('e'.repeat(64 * KIB)))],
    gets: ['BODY_TOO_LARGE'],
  },
  {
    name: 'a body of 4 MiB + 1 that is announced and does not come',
    send: ({ stream }) => [`${line(stream)}${TEXT}Content-Length: ${4 * MIB + 1}\r\n\r\n`],
    gets: ['BODY_TOO_LARGE'],
  },
  {
    name: 'a body of 4 MiB + 1 that waits to be asked for',
    send: ({ stream }) => [`${line(stream)}${TEXT}Expect: 100-continue\r\nContent-Length: ${4 * MIB + 1}\r\n\r\n`],
    gets: ['BODY_TOO_LARGE'],
  },
  {
    name: '20,000 chunks of one byte',
    send: ({ stream }) => [chunked(stream, `${'1\r\nx\r\n'.repeat(20_000)}0\r\n\r\n`)],
    gets: [200],
    stores: () => ['x'.repeat(20_000)],
  },
];

const lines: readonly Case[] = [
  one(
    'blank lines between records',
    LINES,
    () => '\n\na\n\n \t\nb\n\n',
    200,
    () => ['a', 'b'],
  ),
  one(
    'lines that end with CR LF',
    LINES,
    () => 'a\r\nb\r\n',
    200,
    () => ['a', 'b'],
  ),
  one(
    'no newline behind the last line',
    LINES,
    () => 'a\nb',
    200,
    () => ['a', 'b'],
  ),
  one(
    'a CR behind the last line: it is part of it',
    LINES,
    () => 'a\nb\r',
    200,
    () => ['a', 'b\r'],
  ),
  one(
    'lines that are no JSON: they are not looked at',
    LINES,
    () => '{\n}\n',
    200,
    () => ['{', '}'],
  ),
  one(
    'NUL in a line',
    LINES,
    () => 'a\0b\n',
    200,
    () => ['a\0b'],
  ),
];

const deepObjects = (n: number): string => `${'{"a":'.repeat(n)}1${'}'.repeat(n)}`;
const deepArrays = (n: number): string => '['.repeat(n) + ']'.repeat(n);

const keptBytes: readonly Case[] = [
  kept('every byte there is', BINARY, () => Uint8Array.from({ length: 256 }, (_, i) => i)),
  kept('invalid UTF-8 in text', TEXT, () => '\xc3\x28\xff\xfe'),
  one(
    'invalid UTF-8 in a line',
    LINES,
    () => '"\xc3\x28"\n',
    200,
    () => ['"\xc3\x28"'],
  ),
  kept('JSON: invalid UTF-8 in a string', JSON_TYPE, () => '{"a":"\xc3\x28"}'),
  kept(
    'JSON: __proto__',
    JSON_TYPE,
    () => '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
  ),
  kept('JSON: 2^53 + 1', JSON_TYPE, () => '9007199254740993'),
  kept('JSON: 1e400, -0 and 0.1 with 60 digits', JSON_TYPE, () => `{"a":1e400,"b":-0,"c":0.1${'0'.repeat(59)}1}`),
  kept('JSON: lone surrogates as escapes', JSON_TYPE, () => String.raw`{"a":"\ud800","b":"\udc00\ud800"}`),
  kept('JSON: lone surrogates as bytes', JSON_TYPE, () => '"\xed\xa0\x80"'),
  kept('JSON: a key given twice', JSON_TYPE, () => '{"a":1,"a":2}'),
  kept('JSON: objects 200,000 deep', JSON_TYPE, () => deepObjects(DEPTH / 2)),
  one(
    'JSON: arrays 200,000 deep',
    JSON_TYPE,
    () => deepArrays(DEPTH),
    200,
    () => [deepArrays(DEPTH).slice(1, -1)],
  ),
  one(
    'a line 200,000 deep',
    LINES,
    () => `${deepArrays(DEPTH)}\n`,
    200,
    () => [deepArrays(DEPTH)],
  ),
  one(
    'JSON: elements with white space around them',
    JSON_TYPE,
    () => ' [ 1 ,\n"a" , {} ] ',
    200,
    () => ['1', '"a"', '{}'],
  ),
];

const json: readonly Case[] = [
  notJson('200,000 brackets that are not closed', '['.repeat(DEPTH)),
  notJson('200,000 objects that are not closed', '{"a":'.repeat(DEPTH)),
  notJson('cut in the midst', '{"a":[1,2'),
  notJson('a comma too many', '[1,2,]'),
  notJson('two values', '{} {}'),
  notJson('NaN', 'NaN'),
  notJson('a number with a leading zero', '[01]'),
  notJson('single quotes', "{'a':1}"),
  notJson('a comment', '[1] // one'),
  notJson('a newline in a string', '"a\nb"'),
  notJson('an escape that is none', String.raw`"\x41"`),
  notJson('a byte order mark', '\xef\xbb\xbf{}'),
  notJson('UTF-16', '{\0}\0'),
  notJson('NUL behind it', '{}\0'),
];

const types: readonly Case[] = [
  refused('no Content-Type', '', () => 'x', 'UNSUPPORTED_MEDIA_TYPE'),
  refused(
    'the Content-Type of a form',
    'Content-Type: application/x-www-form-urlencoded\r\n',
    () => 'a=b',
    'UNSUPPORTED_MEDIA_TYPE',
  ),
  refused('multipart', 'Content-Type: multipart/form-data; boundary=x\r\n', () => '--x--', 'UNSUPPORTED_MEDIA_TYPE'),
  refused(
    'JSON: in UTF-16, as its type says',
    'Content-Type: application/json; charset=utf-16\r\n',
    () => '{\0}\0',
    'UNSUPPORTED_MEDIA_TYPE',
  ),
  refused('a Content-Type of 4 KiB', `Content-Type: ${'a/'.repeat(2 * KIB)}\r\n`, () => 'x', 'UNSUPPORTED_MEDIA_TYPE'),
  refused('?as=__proto__', '', () => 'x', 'BAD_REQUEST', '?as=__proto__'),
  refused('an empty Idempotency-Key', `${TEXT}Idempotency-Key:\r\n`, () => 'x', 'BAD_REQUEST'),
  refused(
    'an Idempotency-Key of 256 characters',
    `${TEXT}Idempotency-Key: ${'k'.repeat(256)}\r\n`,
    () => 'x',
    'BAD_REQUEST',
  ),
  refused('two Idempotency-Keys', `${TEXT}${'Idempotency-Key: k\r\n'.repeat(2)}`, () => 'x', 'BAD_REQUEST'),
  {
    name: 'an Idempotency-Key for other records',
    send: ({ stream }) => ['one', 'two'].map((body) => post(stream, `${TEXT}Idempotency-Key: k\r\n`, body)),
    gets: [200, 'IDEMPOTENCY_MISMATCH'],
    stores: () => ['one'],
  },
];

const schema = (
  name: string,
  headers: string,
  body: () => Bytes,
  said: Said,
  stores?: () => readonly Bytes[],
): Case => ({
  ...one(`schema: ${name}`, headers, body, said, stores),
  stream: SCHEMA_STREAM,
});

const schemas: readonly Case[] = [
  schema(
    'a record that fits',
    JSON_TYPE,
    () => '{"n":1}',
    200,
    () => ['{"n":1}'],
  ),
  schema('a record that does not', JSON_TYPE, () => '{"n":"1"}', 'SCHEMA_MISMATCH'),
  schema('a line that is no JSON', LINES, () => '{"n":1}\n{"n":\n', 'INVALID_JSON'),
  schema('invalid UTF-8', LINES, () => '{"a":"\xc3\x28"}\n', 'INVALID_JSON'),
  schema(
    '__proto__ is a property like any other',
    JSON_TYPE,
    () => '{"__proto__":{"n":"x"}}',
    200,
    () => ['{"__proto__":{"n":"x"}}'],
  ),
  schema(
    '2^53 + 1 is kept',
    JSON_TYPE,
    () => '{"n":9007199254740993}',
    200,
    () => ['{"n":9007199254740993}'],
  ),
  schema('arrays 200,000 deep', LINES, () => `${deepArrays(DEPTH)}\n`, 'SCHEMA_MISMATCH'),
  schema('200,000 brackets that are not closed', LINES, () => `${'['.repeat(DEPTH)}\n`, 'INVALID_JSON'),
  schema('1 MiB of small objects', LINES, () => `[${'{},'.repeat(MIB / 3 - 2)}{}]\n`, 'SCHEMA_MISMATCH'),
];

const page = (query: string, code: Said): Case => ({
  name: `GET ?${query}`,
  send: ({ stream }) => [`GET /v1/streams/${stream}/records?${query} HTTP/1.1\r\nHost: x\r\n\r\n`],
  gets: [code],
});

const reads: readonly Case[] = [
  page('from=-1', 'BAD_REQUEST'),
  page('from=1e3', 'BAD_REQUEST'),
  page('from=9007199254740993', 'BAD_REQUEST'),
  page('from=9007199254740991', 'OFFSET_OUT_OF_RANGE'),
  page('max=0', 'BAD_REQUEST'),
  page('max=10001', 'BAD_REQUEST'),
  page('waitMs=60001', 'BAD_REQUEST'),
  page('form=0', 'BAD_REQUEST'),
  page('__proto__=0', 'BAD_REQUEST'),
];

export const bodies: Area = {
  name: 'bodies',
  about:
    'Records that are none, too large or too many, JSON that is none, and bytes that have to be kept as they came.',
  to: 'http',
  gateway: 'plain',
  cases: [...sizes, ...lines, ...keptBytes, ...json, ...types, ...schemas, ...reads],
};
