// Every documented answer of the HTTP listener, from a gateway in this process over a real log. What happens when it gets too
// much, or has to stop: http-flow.test.ts.

import http from 'node:http';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import t, { type Test } from 'tap';
import { errorKinds, type ErrorCode } from '../../src/base/errors.ts';
import { MAX_HEADERS, MAX_PIPELINED } from '../../src/base/limits.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ask, bytes, json, ndjson, post, Raw, recordsOf, untilFigures, type Answer } from '../support/gateway-talk.ts';
import { until } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;
const zstdCompress = (zlib as { zstdCompressSync?: (bytes: Uint8Array) => Buffer }).zstdCompressSync;

const root = temporaryDirectory('spillway-http-test-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));

interface Line {
  readonly offset: number;
  readonly timestampMs: number;
  readonly payload?: string;
  readonly payloadBase64?: string;
}

function linesOf(answer: Answer): Line[] {
  return answer.text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

/** All records of a stream, as text. */
async function payloads(port: number, stream: string): Promise<string[]> {
  const answer = await ask(port, { path: `${recordsOf(stream)}?max=10000` });
  return linesOf(answer).map((l) => l.payload ?? `base64:${l.payloadBase64}`);
}

/** Refused, and goes on as if nothing had been said: how that ends is looked at below, once it has had its time. */
async function deafClient(t: Test): Promise<() => Promise<void>> {
  const g = await Inside.start({ teardown: () => undefined }, { wireBodyBytes: '8KiB' });
  const raw = await Raw.connect(g.port);
  raw.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n`,
  );
  isError(t, await raw.answer(), 'BODY_TOO_LARGE', 'a client that does not listen');
  const sending = setInterval(() => raw.write('x'), 50);
  const startedMs = performance.now();
  const ended = raw.ended(12_000).finally(() => clearInterval(sending));
  ended.catch(() => undefined);
  return async () => {
    await ended;
    t.ok(performance.now() - startedMs > 1000, 'it had its time');
    await g.end(t);
    rmSync(g.dir, { recursive: true, force: true });
  };
}

const deaf = deafClient(t);

t.test('routes: what is there, what is not, and which method', async (t) => {
  const g = await Inside.start(t);
  const { port } = g;
  for (const path of [
    '/',
    '/v1',
    '/v1/streams',
    '/v1/streams/s',
    '/v1/streams/s/records/',
    '/v1/streams/a/b/records',
    '/V1/stats',
    '/metrics/',
    '//v1/stats',
  ]) {
    isError(t, await ask(port, { path }), 'NOT_FOUND', path);
  }
  for (const path of ['/v1/stats', '/metrics', '/healthz', '/readyz']) {
    t.equal((await ask(port, { path: `${path}?x=1` })).status, 200, `${path} with a query`);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      const raw = await Raw.connect(port);
      raw.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`);
      const answer = await raw.answer();
      t.equal(answer.status, 405, `${method} ${path}`);
      t.equal(answer.headers['allow'], 'GET, HEAD', `${method} ${path}: Allow`);
      raw.destroy();
    }
  }
  for (const path of ['/healthz', '/readyz', '/metrics', '/v1/stats']) {
    const [get, head] = [await ask(port, { path }), await ask(port, { method: 'HEAD', path })];
    t.same(
      [head.status, head.text, head.headers['content-type']],
      [200, '', get.headers['content-type']],
      `HEAD ${path}`,
    );
  }
  for (const method of ['PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
    const answer = await ask(port, { method, path: recordsOf('s') });
    isError(t, answer, 'METHOD_NOT_ALLOWED', method);
    t.equal(answer.headers['allow'], 'GET, POST', `${method}: Allow`);
  }
  const head = await ask(port, { method: 'HEAD', path: recordsOf('s') });
  t.equal(head.status, 405, 'HEAD');
  t.equal(head.text, '', 'HEAD: without a body');
  await g.isAtRest(t, 'after the routes');
  await g.end(t);
});

t.test('names of streams: the allow-list, before anything else is done', async (t) => {
  const g = await Inside.start(t);
  const names = [
    '',
    '.',
    '..',
    '%2e%2e',
    '%2E',
    '-a',
    '.a',
    '_a',
    'a%20b',
    'a*',
    'a?b',
    'a:b',
    'ä',
    'a%2Fb',
    'a%00',
    'x'.repeat(201),
    'x'.repeat(4096),
    'a\\b',
    '$a',
    '~',
  ];
  for (const name of names) {
    // What lies behind a question mark is a query.
    if (name.includes('?') || name === 'ä') continue;
    isError(t, await post(g.port, name, 'x'), 'INVALID_STREAM', `POST '${name.slice(0, 20)}'`);
    isError(t, await ask(g.port, { path: recordsOf(name) }), 'INVALID_STREAM', `GET '${name.slice(0, 20)}'`);
  }
  for (const odd of ['a\0b', 'ä', 'a b', 'a\tb', 'a\x7fb']) {
    const raw = await Raw.connect(g.port);
    raw.write(Buffer.from(`POST ${recordsOf(odd)} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx`, 'utf8'));
    t.equal((await raw.answer()).status, 400, JSON.stringify(odd));
    raw.destroy();
  }
  for (const name of ['a', '0', 'A.b_c-d', 'x'.repeat(200), '__proto__'.slice(2), 'constructor']) {
    isStored(t, await post(g.port, name, 'x'), name);
    t.same(await payloads(g.port, name), ['x'], name);
  }
  await g.end(t);
});

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

t.test('a client that is still sending a body nobody wants gets its answer all the same', async (t) => {
  const g = await Inside.start(t, { wireBodyBytes: '64KiB' });
  // More than all the buffers on the way hold: it is still sent when it is refused.
  const body = Buffer.alloc(32 * 1024 * KIB, 120);
  const chunk = Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')]);
  const plain = 'Content-Type: text/plain\r\n';
  const cases: [what: string, headers: string, body: Buffer, code: ErrorCode][] = [
    ['announced', `${plain}Content-Length: ${body.length}\r\n`, body, 'BODY_TOO_LARGE'],
    ['chunked', `${plain}Transfer-Encoding: chunked\r\n`, chunk, 'BODY_TOO_LARGE'],
    [
      'of a wrong type',
      `Content-Type: text/html\r\nContent-Length: ${body.length}\r\n`,
      body,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
  ];
  for (const [what, headers, bytes, code] of cases) {
    const raw = await Raw.connect(g.port);
    // As most clients do: it looks for an answer when it has sent all.
    raw.socket.pause();
    raw.write(`POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
    const failed = await new Promise<Error | null | undefined>((resolve) => raw.socket.write(bytes, resolve));
    raw.socket.resume();
    t.equal(failed?.message, undefined, `${what}: all of it was sent`);
    if (failed === null || failed === undefined) {
      const answer = await raw.answer();
      isError(t, answer, code, what);
      t.equal(answer.headers['connection'], 'close', `${what}: and that was all`);
    }
    raw.destroy();
    await g.isAtRest(t, what);
  }
  await g.end(t);
});

t.test('framing that node:http alone would take, or nobody should', async (t) => {
  const g = await Inside.start(t);
  const { port } = g;
  const head = `POST ${recordsOf('s')} HTTP/1.1\r\n`;
  const type = 'Content-Type: text/plain\r\n';
  const cases: [what: string, request: string, code: ErrorCode][] = [
    [
      'Transfer-Encoding: gzip, chunked',
      `${head}Host: x\r\n${type}Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n`,
      'BAD_REQUEST',
    ],
    [
      'a length and chunks',
      `${head}Host: x\r\n${type}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n`,
      'BAD_REQUEST',
    ],
    ['two lengths', `${head}Host: x\r\n${type}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx`, 'BAD_REQUEST'],
    ['a negative length', `${head}Host: x\r\n${type}Content-Length: -1\r\n\r\n`, 'BAD_REQUEST'],
    ['no HTTP', 'hello\r\n\r\n', 'BAD_REQUEST'],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 'BAD_REQUEST'],
    [
      'absolute form',
      `POST http://other${recordsOf('s')} HTTP/1.1\r\nHost: x\r\n${type}Content-Length: 1\r\n\r\nx`,
      'BAD_REQUEST',
    ],
    ['asterisk form', `OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n`, 'BAD_REQUEST'],
    ['no Host', `${head}${type}Content-Length: 1\r\n\r\nx`, 'BAD_REQUEST'],
    [
      'a chunk that lies',
      `${head}Host: x\r\n${type}Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n`,
      'BAD_REQUEST',
    ],
    [
      '65 headers',
      `${head}Host: x\r\n${type}Content-Length: 1\r\n${'a: b\r\n'.repeat(MAX_HEADERS - 2)}\r\nx`,
      'HEADERS_TOO_LARGE',
    ],
    ['300 headers', `${head}Host: x\r\n${type}Content-Length: 1\r\n${'a:b\r\n'.repeat(300)}\r\nx`, 'HEADERS_TOO_LARGE'],
    ['3,000 headers', `${head}Host: x\r\n${'a: b\r\n'.repeat(3000)}\r\n`, 'HEADERS_TOO_LARGE'],
    ['9 KiB of headers', `${head}Host: x\r\nA: ${'b'.repeat(9 * KIB)}\r\n\r\n`, 'HEADERS_TOO_LARGE'],
    [
      'an expectation that is none',
      `${head}Host: x\r\n${type}Expect: the-unexpected\r\nContent-Length: 1\r\n\r\nx`,
      'BAD_REQUEST',
    ],
  ];
  for (const [what, request, code] of cases) {
    const raw = await Raw.connect(port);
    raw.write(Buffer.from(request, 'latin1'));
    const answer = await raw.answer().catch((error: Error) => error);
    if (answer instanceof Error) t.fail(`${what}: ${answer.message}`);
    else {
      isError(t, answer, code, what);
      t.equal(answer.headers['connection'], 'close', `${what}: the rest is not read`);
      await raw.ended();
    }
    raw.destroy();
    await g.isAtRest(t, what);
  }
  const most = await Raw.connect(port);
  most.write(`${head}Host: x\r\n${type}Content-Length: 4\r\n${'a: b\r\n'.repeat(MAX_HEADERS - 3)}\r\nmost`);
  isStored(t, await most.answer(), `${MAX_HEADERS} headers`);
  most.destroy();
  t.same(await payloads(port, 's'), ['most'], 'nothing of the others was stored');
  await g.end(t);
});

t.test('Expect: 100-continue: the body is asked for when it will be taken, and only then', async (t) => {
  const g = await Inside.start(t, { wireBodyBytes: '8KiB' });
  const head = (length: number, more = ''): string =>
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n${more}\r\n`;
  const fine = await Raw.connect(g.port);
  fine.write(head(5));
  t.equal((await fine.answer()).status, 100);
  fine.write('asked');
  isStored(t, await fine.answer(), 'after 100');
  for (const [what, request, code] of [
    ['too large', head(8 * KIB + 1), 'BODY_TOO_LARGE'],
    ['a wrong coding', head(5, 'Content-Encoding: br\r\n'), 'UNSUPPORTED_ENCODING'],
  ] as const) {
    const raw = await Raw.connect(g.port);
    raw.write(request);
    isError(t, await raw.answer(), code, `${what}: at once`);
    raw.destroy();
  }
  fine.destroy();
  t.same(await payloads(g.port, 's'), ['asked']);
  await g.end(t);
});

t.test('requests behind one another on one connection are answered in their order', async (t) => {
  const g = await Inside.start(t);
  const one = (i: number): string => {
    const body = `r${i}`;
    return `POST ${recordsOf('pipe')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  };
  const raw = await Raw.connect(g.port);
  const count = 12 * MAX_PIPELINED;
  const offsets: number[] = [];
  for (let i = 0; i < count; i++) {
    if (i % MAX_PIPELINED === 0) raw.write(Array.from({ length: MAX_PIPELINED }, (_, j) => one(i + j)).join(''));
    offsets.push(isStored(t, await raw.answer(), `request ${i}`).firstOffset);
  }
  t.ok(
    offsets.every((o, i) => i === 0 || o === offsets[i - 1] + 1),
    'in order',
  );
  t.same(
    await payloads(g.port, 'pipe'),
    Array.from({ length: count }, (_, i) => `r${i}`),
  );
  raw.write(`${one(count)}GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`);
  t.same([(await raw.answer()).status, (await raw.answer()).status, (await raw.answer()).status], [200, 404, 200]);
  raw.destroy();
  await g.isAtRest(t, 'after pipelining');
  await g.end(t);
});

t.test('tokens: the same answer for every reason, and nothing to learn without one', async (t) => {
  const path = join(root, 'tokens');
  writeFileSync(path, `${tokenDigest('right').toString('hex')} shop\n`);
  const g = await Inside.start(t, { tokens: path });
  const { port } = g;
  const right = { authorization: 'Bearer right' };
  isStored(t, await post(port, 'secret-stream', 'x', { ...ndjson, ...right }), 'with a token');
  const basic = { authorization: `Basic ${Buffer.from('anybody:right').toString('base64')}` };
  isStored(t, await post(port, 'basic', 'x', { ...ndjson, ...basic }), 'as the password of Basic');
  const wrong: [string, http.OutgoingHttpHeaders, string?][] = [
    ['missing', {}],
    ['empty', { authorization: '' }],
    ['no scheme', { authorization: 'right' }],
    ['another scheme', { authorization: 'Digest right' }],
    ['Basic with it as the user', { authorization: `Basic ${Buffer.from('right:').toString('base64')}` }],
    ['Basic that is no base64', { authorization: 'Basic right' }],
    ['Basic with a wrong one', { authorization: `Basic ${Buffer.from('shop:wrong').toString('base64')}` }],
    ['empty bearer', { authorization: 'Bearer ' }],
    ['unknown', { authorization: 'Bearer wrong' }],
    ['a prefix', { authorization: 'Bearer righ' }],
    ['long', { authorization: `Bearer ${'r'.repeat(6000)}` }],
    ['in the query', {}, '?token=right&access_token=right&authorization=Bearer%20right'],
  ];
  const bodies = new Set<string>();
  const before = g.count('unauthorized');
  let tried = 0;
  for (const [what, headers, query = ''] of wrong) {
    for (const [method, at] of [
      ['POST', recordsOf('secret-stream')],
      ['POST', recordsOf('no-such-stream')],
      ['GET', recordsOf('secret-stream')],
      ['GET', recordsOf('..')],
      ['PUT', recordsOf('secret-stream')],
      ['GET', '/v1/stats'],
      ['GET', '/metrics'],
      ['GET', '/nothing/here'],
    ] as const) {
      const body = method === 'POST' ? 'x' : undefined;
      const answer = await ask(port, {
        method,
        path: `${at}${query}`,
        headers: { ...ndjson, ...headers },
        ...(body === undefined ? {} : { body }),
      });
      const { requestId: _own, ...rest } = isError(t, answer, 'UNAUTHORIZED', `${what}: ${method} ${at}`);
      t.equal(answer.headers['www-authenticate'], 'Bearer', `${what}: how to come in`);
      bodies.add(JSON.stringify(rest));
      tried++;
    }
  }
  t.equal(bodies.size, 1, `one answer for all: ${[...bodies].join(' ')}`);
  t.equal(g.count('unauthorized') - before, tried, 'each is counted');
  for (const path of ['/healthz', '/readyz'])
    t.equal((await ask(port, { path })).status, 200, `${path} is for everybody`);
  const megabyte = await Raw.connect(port);
  megabyte.write(`GET /v1/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${'r'.repeat(1024 * KIB)}\r\n\r\n`);
  const answer = await megabyte.answer().catch(() => undefined);
  if (answer !== undefined) isError(t, answer, 'HEADERS_TOO_LARGE', 'a megabyte of token');
  megabyte.destroy();
  t.same(
    linesOf(await ask(port, { path: recordsOf('secret-stream'), headers: right })).map((l) => l.payload),
    ['x'],
  );

  writeFileSync(path, `${tokenDigest('new').toString('hex')} shop\n`);
  isStored(t, await post(port, 's', 'x', { ...ndjson, ...right }), 'until the file is read again');
  await g.gateway.reloadTokens();
  isError(t, await post(port, 's', 'x', { ...ndjson, ...right }), 'UNAUTHORIZED', 'the old token, afterwards');
  isStored(t, await post(port, 's', 'x', { ...ndjson, authorization: 'bearer   new ' }), 'the new one');
  writeFileSync(path, 'rubbish\n');
  await t.rejects(g.gateway.reloadTokens(), { code: 'INVALID_OPTION' });
  isStored(
    t,
    await post(port, 's', 'x', { ...ndjson, authorization: 'Bearer new' }),
    'a file with an error changes nothing',
  );
  await g.end(t);
});

t.test('a body that breaks off: nothing of it is stored, nothing stays held', async (t) => {
  const g = await Inside.start(t);
  const head = `POST ${recordsOf('broken')} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n`;
  const cuts: [string, string][] = [
    ['within the head', head],
    ['after the head', `${head}Content-Length: 100\r\n\r\n`],
    ['within the body', `${head}Content-Length: 100\r\n\r\n${'a\n'.repeat(49)}`],
    ['within a chunk', `${head}Transfer-Encoding: chunked\r\n\r\n64\r\n${'a\n'.repeat(30)}`],
    ['before the last chunk', `${head}Transfer-Encoding: chunked\r\n\r\n4\r\na\nb\n\r\n`],
    ['within gzip', `${head}Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n${'a'.repeat(50)}`],
    ['under a key', `${head}Idempotency-Key: k\r\nContent-Length: 100\r\n\r\n${'a\n'.repeat(49)}`],
  ];
  for (const [what, request] of cuts) {
    for (const how of ['destroy', 'resetAndDestroy', 'end'] as const) {
      const raw = await Raw.connect(g.port);
      raw.write(request);
      // Cut once the gateway has begun with it, as far as that shows.
      if (what !== 'within the head') await untilFigures(g.port, (f) => f.ingressBytes > 0, `${what}: it is read`);
      raw.socket[how]();
      await until(() => g.count('connections') === 0, `${what}: ${how}: the connection is gone`);
      raw.destroy();
      await g.isAtRest(t, `${what}, ${how}`);
    }
  }
  t.same(await payloads(g.port, 'broken'), []);
  isStored(t, await post(g.port, 'broken', 'whole', { ...ndjson, 'idempotency-key': 'k' }), 'the key is free');
  await g.end(t);
});

t.test('a client that never ends a body that was refused is cut after a while', async () => (await deaf)());

t.test('errors: every status that HTTP can answer with is one of the table', async (t) => {
  const statuses = new Set<number>(Object.values(errorKinds).map((k) => k.status));
  for (const status of [400, 401, 404, 405, 408, 409, 413, 415, 416, 422, 429, 431, 500, 503])
    t.ok(statuses.has(status), String(status));
  t.ok(statuses.size === 14, [...statuses].join());
});
