// What may come as the body of a request over HTTP: media types, content codings, records that are bad, limits. The bytes of each
// record are stored as they came, and of what is refused nothing.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import t from 'tap';
import type { ErrorCode } from '../../src/base/errors.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { bytes, json, ndjson, payloads, post, Raw, recordsOf } from '../support/gateway-talk.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;
const zstdCompress = (zlib as { zstdCompressSync?: (bytes: Uint8Array) => Buffer }).zstdCompressSync;

const root = temporaryDirectory('spillway-http-bodies-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));

t.test('media types, and the bytes of each record as they came', async (t) => {
  const g = await Inside.start(t);
  const cases: [type: string, body: string | Buffer, records: string[]][] = [
    ['application/x-ndjson', '{"a":1}\n{"b":2}\n', ['{"a":1}', '{"b":2}']],
    ['application/x-ndjson', '{"a":1}\n{"b":2}', ['{"a":1}', '{"b":2}']],
    ['application/x-ndjson; charset=utf-8', 'a\r\n\r\n \t\r\n\nb\r\n', ['a', 'b']],
    ['Application/X-NDJSON', 'not json at all\n', ['not json at all']],
    ['application/ndjson', 'a\nb', ['a', 'b']],
    ['application/jsonl', 'a\nb', ['a', 'b']],
    ['application/vnd.api+json', '[1,2]', ['1', '2']],
    ['application/json', ' {"a" : 1.0e0, "a":2} ', ['{"a" : 1.0e0, "a":2}']],
    [
      'application/json',
      '[ {"x":9007199254740993} , "\\ud800", [1, 2] , 1E400,{"__proto__":{"a":1}}]',
      ['{"x":9007199254740993}', '"\\ud800"', '[1, 2]', '1E400', '{"__proto__":{"a":1}}'],
    ],
    ['application/json; charset="UTF-8"', '"one"', ['"one"']],
    ['text/plain', 'a\nb\r\n', ['a\nb\r\n']],
    ['text/plain; charset=latin1', Buffer.from([0xe4, 0x0a]), ['base64:5Ao=']],
    ['application/octet-stream', Buffer.from([0, 255, 10, 128]), ['base64:AP8KgA==']],
  ];
  for (const [i, [type, body, records]] of cases.entries()) {
    const stored = isStored(t, await post(g.port, `types-${i}`, body, { 'content-type': type }), type);
    t.equal(stored.accepted, records.length, `${type}: accepted`);
    t.equal(stored.lastOffset - stored.firstOffset + 1, records.length, `${type}: offsets`);
    t.same(await payloads(g.port, `types-${i}`), records, `${type}: the same bytes`);
  }
  // Who cannot set a type says it in the query; that wins.
  for (const [as, records] of [
    ['ndjson', ['[1', '2]']],
    ['json', ['1', '2']],
    ['bytes', ['[1\n,2]']],
  ] as const) {
    const body = as === 'ndjson' ? '[1\n2]' : '[1\n,2]';
    const answer = await post(g.port, `${recordsOf(`as-${as}`)}?as=${as}`, body, { 'content-type': 'text/html' });
    isStored(t, answer, `?as=${as}`);
    t.same(await payloads(g.port, `as-${as}`), records, `?as=${as}`);
  }
  for (const as of ['', 'xml', '__proto__', 'constructor'])
    isError(t, await post(g.port, `${recordsOf('types')}?as=${as}`, 'x'), 'BAD_REQUEST', `?as=${as}`);
  for (const type of [
    undefined,
    '',
    'application/x-www-form-urlencoded',
    'application/xml',
    'text/html',
    'application/jsonx',
    'application/json; charset=utf-16',
    'application/x-ndjson;charset=latin1',
  ]) {
    const answer = await post(g.port, 'types', 'x', type === undefined ? {} : { 'content-type': type });
    isError(t, answer, 'UNSUPPORTED_MEDIA_TYPE', String(type));
  }
  for (const [type, body] of [
    ['application/x-ndjson', ''],
    ['application/x-ndjson', '\n\r\n \t\n'],
    ['application/json', '[]'],
    ['application/json', ' '],
    ['text/plain', ''],
    ['application/octet-stream', ''],
  ]) {
    isError(
      t,
      await post(g.port, 'types', body, { 'content-type': type }),
      'EMPTY_REQUEST',
      `${type} '${JSON.stringify(body)}'`,
    );
  }
  t.same(await payloads(g.port, 'types'), [], 'what was refused is not there');
  await g.isAtRest(t, 'after all types');
  await g.end(t);
});

t.test('content codings', async (t) => {
  const g = await Inside.start(t, { decodedBodyBytes: '256KiB', wireBodyBytes: '64KiB' });
  const body = Buffer.from(Array.from({ length: 50 }, (_, i) => `{"i":${i}}\n`).join(''));
  const half = body.indexOf('{"i":25}');
  const members = Buffer.concat([zlib.gzipSync(body.subarray(0, half)), zlib.gzipSync(body.subarray(half))]);
  const good: [string, Buffer][] = [
    ['identity', body],
    ['gzip', zlib.gzipSync(body)],
    ['x-gzip', zlib.gzipSync(body)],
    ['GZIP', members],
  ];
  if (zstdCompress !== undefined) good.push(['zstd', zstdCompress(body)]);
  for (const [i, [coding, wire]] of good.entries()) {
    const stored = isStored(
      t,
      await post(g.port, `coded-${i}`, wire, { ...ndjson, 'content-encoding': coding }),
      coding,
    );
    t.equal(stored.accepted, 50, coding);
    t.equal((await payloads(g.port, `coded-${i}`)).join('\n'), body.toString().trimEnd(), `${coding}: the same bytes`);
  }
  const whole = zlib.gzipSync(body);
  const wrongSum = Buffer.from(whole);
  wrongSum[wrongSum.length - 5] ^= 1;
  const bad: [string, Buffer, ErrorCode][] = [
    ['gzip', body, 'BAD_ENCODING'],
    ['gzip', Buffer.alloc(0), 'BAD_ENCODING'],
    ['gzip', whole.subarray(0, -1), 'BAD_ENCODING'],
    ['gzip', whole.subarray(0, 30), 'BAD_ENCODING'],
    ['gzip', Buffer.concat([whole, Buffer.from('behind')]), 'BAD_ENCODING'],
    ['gzip', wrongSum, 'BAD_ENCODING'],
    ['gzip', zlib.gzipSync(Buffer.alloc(256 * KIB + 1, 10)), 'BODY_TOO_LARGE'],
    ['gzip', zlib.gzipSync(Buffer.alloc(40 * 1024 * KIB)), 'BODY_TOO_LARGE'],
    ['br', zlib.brotliCompressSync(body), 'UNSUPPORTED_ENCODING'],
    ['deflate', zlib.deflateSync(body), 'UNSUPPORTED_ENCODING'],
    ['gzip, gzip', zlib.gzipSync(whole), 'UNSUPPORTED_ENCODING'],
    ['identity, gzip', whole, 'UNSUPPORTED_ENCODING'],
    ['none', body, 'UNSUPPORTED_ENCODING'],
  ];
  if (zstdCompress === undefined) bad.push(['zstd', body, 'UNSUPPORTED_ENCODING']);
  else
    bad.push(
      ['zstd', body, 'BAD_ENCODING'],
      ['zstd', zstdCompress(body).subarray(0, -1), 'BAD_ENCODING'],
      ['zstd', zstdCompress(Buffer.alloc(40 * 1024 * KIB)), 'BODY_TOO_LARGE'],
    );
  for (const [coding, wire, code] of bad) {
    isError(
      t,
      await post(g.port, 'coded', wire, { ...ndjson, 'content-encoding': coding }),
      code,
      `${coding}, ${wire.length} bytes`,
    );
    await g.isAtRest(t, `${coding}: ${code}`);
  }
  t.same(await payloads(g.port, 'coded'), [], 'what was refused is not there');
  t.equal(g.count('decodedBytes'), body.length * (good.length - 1), 'decoded bytes are counted');
  const refused = (code: string): number => bad.filter(([coding, , c]) => coding === 'gzip' && c === code).length;
  const bombs = refused('BODY_TOO_LARGE') * (256 * KIB + 1);
  const most = bombs + refused('BAD_ENCODING') * (256 * KIB + 1);
  const counted = g.count('refusedDecodedBytes');
  t.ok(counted > bombs && counted <= most, `of refused ones too, never more than the cap of each: ${counted}`);
  await g.end(t);
});

t.test('all or nothing, unless partial=1: which records are bad, and where', async (t) => {
  const schema = join(root, 'schema.json');
  writeFileSync(schema, JSON.stringify({ type: 'object', required: ['n'], properties: { n: { type: 'integer' } } }));
  const g = await Inside.start(t, { streams: { checked: { schema } } }, { maxRecordBytes: '1KiB' });
  const large = 'x'.repeat(1025);
  const body = ['a', large, 'b', large, 'c'].join('\n');
  const refused = isError(t, await post(g.port, 's', body), 'RECORD_TOO_LARGE', 'two of five too large');
  t.equal(refused['badRecords'], 2);
  t.match(refused['records'], [
    { index: 1, byteOffset: 2, code: 'RECORD_TOO_LARGE' },
    { index: 3, byteOffset: 2 + 1026 + 2, code: 'RECORD_TOO_LARGE' },
  ]);
  t.same(await payloads(g.port, 's'), [], 'nothing of it is there');

  const partly = await post(g.port, `${recordsOf('s')}?partial=1`, body);
  const stored = isStored(t, partly, 'partial=1') as unknown as Record<string, unknown>;
  t.match(stored, {
    accepted: 3,
    badRecords: 2,
    records: [
      { index: 1, byteOffset: 2 },
      { index: 3, byteOffset: 1030 },
    ],
  });
  t.same(await payloads(g.port, 's'), ['a', 'b', 'c']);
  isError(
    t,
    await post(g.port, `${recordsOf('s')}?partial=1`, `${large}\n${large}`),
    'RECORD_TOO_LARGE',
    'partial, all bad',
  );
  isError(t, await post(g.port, `${recordsOf('s')}?partial=0`, body), 'RECORD_TOO_LARGE', 'partial=0');
  isError(t, await post(g.port, 's', large, bytes), 'RECORD_TOO_LARGE', 'one record of its own');

  const many = isError(t, await post(g.port, 's', `${large}\n`.repeat(30)), 'RECORD_TOO_LARGE', 'thirty');
  t.equal(many['badRecords'], 30, 'all are counted');
  t.equal((many['records'] as unknown[]).length, 20, 'the first twenty are named');
  t.match(many['message'], /29 more/);

  const wrong = isError(
    t,
    await post(g.port, 'checked', '{"n":1}\n{"n":"1"}\n{}\n{"n":2'),
    'SCHEMA_MISMATCH',
    'a schema',
  );
  t.match(wrong['records'], [
    { index: 1, byteOffset: 8, code: 'SCHEMA_MISMATCH' },
    { index: 2, byteOffset: 18, code: 'SCHEMA_MISMATCH' },
    { index: 3, byteOffset: 21, code: 'INVALID_JSON' },
  ]);
  const some = await post(g.port, `${recordsOf('checked')}?partial=1`, '{"n":1}\n{"n":"1"}\n{"n" : 3}');
  t.match(isStored(t, some, 'a schema, partial=1'), { accepted: 2, badRecords: 1 });
  t.same(await payloads(g.port, 'checked'), ['{"n":1}', '{"n" : 3}'], 'checked, and stored as they came');

  for (const [text, at] of [
    ['[1,2', 4],
    ['{"a":1}x', 7],
    ['[1,]', 3],
    ['{"a" 1}', 5],
    ['tru', 3],
    ['[1] [2]', 4],
    ['"\n"', 1],
  ] as const) {
    const answer = isError(t, await post(g.port, 's', text, json), 'INVALID_JSON', text);
    t.match(answer['message'], new RegExp(`\\b${at}\\b`), `${text}: the byte position`);
  }
  t.equal((await payloads(g.port, 's')).length, 3, 'none of these is there');
  await g.isAtRest(t, 'after bad records');
  await g.end(t);
});

t.test('limits of a body: on the wire, decoded, records, announced or not', async (t) => {
  const g = await Inside.start(t, { wireBodyBytes: '8KiB', decodedBodyBytes: '16KiB', maxRequestRecords: 100 });
  const { port } = g;
  isStored(t, await post(port, 's', 'x'.repeat(8 * KIB), bytes), 'exactly wireBodyBytes');
  isError(t, await post(port, 's', 'x'.repeat(8 * KIB + 1), bytes), 'BODY_TOO_LARGE', 'one byte more');
  isStored(
    t,
    await post(port, 's', zlib.gzipSync(Buffer.alloc(16 * KIB, 120)), { ...bytes, 'content-encoding': 'gzip' }),
    'decodedBodyBytes',
  );
  isStored(t, await post(port, 's', 'x\n'.repeat(100)), '100 records');
  isError(t, await post(port, 's', 'x\n'.repeat(101)), 'TOO_MANY_RECORDS', '101 records');
  isError(t, await post(port, 's', `[${'1,'.repeat(100)}1]`, json), 'TOO_MANY_RECORDS', '101 elements');

  const announced = await Raw.connect(port);
  announced.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 99999999999\r\n\r\n`,
  );
  const refused = await announced.answer();
  isError(t, refused, 'BODY_TOO_LARGE', 'announced: before a byte of it was sent');
  t.equal(refused.headers['connection'], 'close');
  announced.destroy();

  const chunked = await Raw.connect(port);
  chunked.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n`,
  );
  for (let i = 0; i < 9; i++) chunked.write(`400\r\n${'y'.repeat(KIB)}\r\n`);
  isError(t, await chunked.answer(), 'BODY_TOO_LARGE', 'chunked: as soon as it is too much');
  chunked.destroy();
  await g.isAtRest(t, 'after bodies that are too large');

  const fine = await Raw.connect(port);
  fine.write(
    `POST ${recordsOf('chunked')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n`,
  );
  for (const byte of 'slowly') fine.write(`1\r\n${byte}\r\n`);
  fine.write('0\r\n\r\n');
  isStored(t, await fine.answer(), 'chunked');
  t.same(await payloads(port, 'chunked'), ['slowly']);
  fine.destroy();
  await g.end(t);
});
