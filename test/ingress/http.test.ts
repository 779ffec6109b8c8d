// Every documented answer of the HTTP listener, from a gateway in this process over a real log: routes, names, tokens, statuses.
// Bodies and what becomes of them: http-bodies.test.ts; bytes on the connection: http-wire.test.ts. What happens when it gets too
// much: http-flow.test.ts, http-room.test.ts; or has to stop: http-stop.test.ts.

import http from 'node:http';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { errorKinds } from '../../src/base/errors.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ask, linesOf, ndjson, payloads, post, Raw, recordsOf } from '../support/gateway-talk.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;

const root = temporaryDirectory('spillway-http-test-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));

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

t.test('errors: every status that HTTP can answer with is one of the table', async (t) => {
  const statuses = new Set<number>(Object.values(errorKinds).map((k) => k.status));
  for (const status of [400, 401, 404, 405, 408, 409, 413, 415, 416, 422, 429, 431, 500, 503])
    t.ok(statuses.has(status), String(status));
  t.ok(statuses.size === 14, [...statuses].join());
});
