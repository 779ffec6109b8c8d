// What a client may do on the connection of a request over HTTP: odd framing, 100-continue, pipelining, bodies that nobody wants,
// break off or never end. It gets its answer where there is one, nothing of it is stored, and nothing stays held.

import { rmSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { ErrorCode } from '../../src/base/errors.ts';
import { MAX_HEADERS, MAX_PIPELINED } from '../../src/base/limits.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ndjson, payloads, post, Raw, recordsOf, untilFigures } from '../support/gateway-talk.ts';
import { until } from '../support/log-support.ts';

const KIB = 1024;

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
