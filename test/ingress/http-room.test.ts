// Room for HTTP: bodies that wait for it, grow in it or come in crumbs, readers, slow and vanished clients. Memory that was held is
// free again after each.

import http from 'node:http';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { HEADERS_TIMEOUT_MS, MAX_HEADER_BYTES, REQUEST_TIMEOUT_MS } from '../../src/base/limits.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ask, bytes, head, post, Raw, recordsOf, untilFigures } from '../support/gateway-talk.ts';
import { until } from '../support/log-support.ts';

const KIB = 1024;

t.test('bodies wait for room in ingressBytes; one whose client goes away leaves nothing behind', async (t) => {
  const small = {
    wireBodyBytes: '64KiB',
    ingressBytes: '64KiB',
    highWater: 1,
    maxBlockMs: 150,
    streams: { long: { maxBlockMs: 60_000 } },
  };
  const g = await Inside.start(t, small);
  // Four pieces of 16 KiB are all there is: held by bodies that do not come.
  const holders = await Promise.all(Array.from({ length: 4 }, () => Raw.connect(g.port)));
  for (const holder of holders) holder.write(head('s', 64 * KIB));
  await untilFigures(g.port, (f) => f.ingressBytes === 64 * KIB, 'four hold all');
  const refused = await post(g.port, 's', 'x', bytes);
  isError(t, refused, 'BACKLOG_FULL', 'no room for one byte');
  t.equal(refused.headers['retry-after'], '1');
  t.equal(g.count('refusedBodies'), 1, 'counted');
  const gone = await Raw.connect(g.port);
  gone.write(`${head('long', 3)}abc`);
  const goneHalf = await Raw.connect(g.port);
  goneHalf.write(`${head('long', 3)}a`);
  const next = await Raw.connect(g.port);
  next.write(`${head('long', 4)}next`);
  await until(() => g.count('connections') === 7, 'all are there');
  gone.destroy();
  goneHalf.destroy();
  // One that waits is noticed at once, however its client has gone.
  holders.forEach((holder) => holder.destroy());
  isStored(t, await next.answer(), 'the room goes to who waits');
  next.destroy();
  await g.isAtRest(t, 'after clients that went away');
  const { text } = await ask(g.port, { path: recordsOf('long') });
  t.notMatch(text, /"a"/, 'nothing of what did not come whole');

  const chunked = await Raw.connect(g.port);
  chunked.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n`,
  );
  await untilFigures(g.port, (f) => f.ingressBytes === 16 * KIB, 'a chunked one takes a first piece');
  chunked.write('0\r\n\r\n');
  isStored(t, await chunked.answer(), 'the chunked one');
  chunked.destroy();
  await g.isAtRest(t, 'after a chunked one');
  t.ok(g.count('aborted') >= 3, 'who went away is counted');
  t.equal(g.count('answers5xx'), 0, 'and is no failure of ours');
  await g.end(t);
});

t.test('compressed bodies have half of the room: plain ones still come in', async (t) => {
  const small = { wireBodyBytes: '64KiB', ingressBytes: '128KiB', highWater: 1, maxBlockMs: 60_000 };
  const g = await Inside.start(t, small);
  const gzipped = (headers: string): string => head('s', 64 * KIB).replace('\r\n\r\n', `\r\n${headers}\r\n\r\n`);
  // Of eight pieces of 16 KiB they get four.
  const holders = await Promise.all(Array.from({ length: 8 }, () => Raw.connect(g.port)));
  for (const holder of holders) holder.write(gzipped('Content-Encoding: gzip'));
  await untilFigures(g.port, (f) => f.ingressBytes === 64 * KIB && f.connections >= 8, 'four hold half');
  for (let i = 0; i < 20; i++) isStored(t, await post(g.port, 's', 'x', bytes), 'a plain one');
  const gz = { ...bytes, 'content-encoding': 'gzip' };
  const one = post(g.port, 's', gzipSync('compressed'), gz);
  holders.forEach((holder) => holder.destroy());
  isStored(t, await one, 'a compressed one, when it is its turn');
  await g.isAtRest(t, 'after them');
  await g.end(t);
});

t.test(
  'bodies that have come in part and need more room than there is: one after the other comes to its end',
  async (t) => {
    const g = await Inside.start(t, {
      wireBodyBytes: '64KiB',
      ingressBytes: '128KiB',
      highWater: 1,
      maxBlockMs: 60_000,
    });
    const count = 8;
    const body = 'x'.repeat(60 * KIB);
    const chunkedHead = `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const all = await Promise.all(Array.from({ length: count }, () => Raw.connect(g.port)));
    const half = body.slice(0, 15 * KIB);
    // Announced and not, in turns; each first with what fits its first piece.
    all.forEach((raw, i) =>
      raw.write(
        i % 2 === 0 ? `${head('s', body.length)}${half}` : `${chunkedHead}${half.length.toString(16)}\r\n${half}\r\n`,
      ),
    );
    await untilFigures(g.port, (f) => f.ingressBytes === 128 * KIB, 'there is no room left');
    const rest = body.slice(half.length);
    all.forEach((raw, i) => raw.write(i % 2 === 0 ? rest : `${rest.length.toString(16)}\r\n${rest}\r\n0\r\n\r\n`));
    for (const [i, raw] of all.entries()) {
      isStored(t, await raw.answer(), `body ${i}`);
      raw.destroy();
    }
    t.equal(g.count('refusedBodies'), 0);
    const lines = (await ask(g.port, { path: recordsOf('s') })).text.trimEnd().split('\n');
    t.same(
      lines.map((line) => (JSON.parse(line) as { payload: string }).payload),
      Array<string>(count).fill(body),
    );
    await g.isAtRest(t, 'afterwards');

    // Nobody comes to an end: they are refused in time, also the one that may grow beside the others.
    await g.end(t);
    const impatient = await Inside.start(t, {
      wireBodyBytes: '64KiB',
      ingressBytes: '64KiB',
      highWater: 1,
      maxBlockMs: 200,
    });
    const stuck = await Promise.all(Array.from({ length: 4 }, () => Raw.connect(impatient.port)));
    stuck.forEach((raw) => raw.write(`${head('s', body.length)}${half}`));
    await untilFigures(impatient.port, (f) => f.ingressBytes === 64 * KIB, 'again no room');
    stuck.forEach((raw) => raw.write('x'.repeat(10 * KIB)));
    let refused = 0;
    const left = new Set(stuck);
    const answers = stuck.map(async (raw) => {
      const answer = await raw.answer();
      left.delete(raw);
      refused += answer.status === 429 ? 1 : 0;
      return answer;
    });
    await until(() => refused === 3, 'all but the elder are refused');
    const [elder] = left;
    elder.write(body.slice(25 * KIB));
    isStored(t, await answers[stuck.indexOf(elder)], 'the elder');
    stuck.forEach((raw) => raw.destroy());
    await impatient.isAtRest(t, 'afterwards');
    await impatient.end(t);
  },
);

t.test('thousands of small chunks cost their bytes, not an object each', async (t) => {
  const g = await Inside.start(t);
  const raw = await Raw.connect(g.port);
  const count = 300_000;
  const before = process.memoryUsage().heapUsed;
  raw.write(
    `POST ${recordsOf('s')}?as=bytes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(count)}`,
  );
  await untilFigures(g.port, (f) => f.ingressBytes >= count, 'all have come', 60_000);
  // Nothing that one could not throw away is kept for a chunk.
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  t.ok(
    process.memoryUsage().heapUsed - before < count * 40,
    `${process.memoryUsage().heapUsed - before} bytes of heap`,
  );
  raw.write('0\r\n\r\n');
  const refused = await raw.answer();
  isError(t, refused, 'RECORD_TOO_LARGE', 'read to its end');
  raw.destroy();
  await g.isAtRest(t, 'afterwards');
  await g.end(t);
});

t.test('reading holds memory until it is sent, and no longer than its client is there', async (t) => {
  const g = await Inside.start(t, { ingressBytes: '4MiB', highWater: 1, maxBlockMs: 60_000 });
  for (let i = 0; i < 20; i++) isStored(t, await post(g.port, 's', Buffer.alloc(60 * KIB, 97), bytes), `${i}`);
  const readers: Raw[] = [];
  for (let i = 0; i < 3; i++) {
    const raw = await Raw.connect(g.port);
    raw.socket.pause();
    raw.write(`GET ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\n\r\n`);
    readers.push(raw);
  }
  await until(() => g.count('connections') === 3, 'three read');
  readers.forEach((raw) => raw.destroy());
  await until(() => g.count('connections') === 0, 'and go away');
  // Those that wait for a record: their client goes away first.
  for (let i = 0; i < 3; i++) {
    const raw = await Raw.connect(g.port);
    raw.write(`GET ${recordsOf('s')}?from=${g.durableOffset}&waitMs=60000 HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => g.count('connections') === 1, 'one waits');
    t.equal((await ask(g.port, { path: '/healthz' })).status, 200);
    raw.destroy();
    await until(() => g.count('connections') === 0, 'and goes away');
  }
  await g.isAtRest(t, 'after readers that went away');
  const last = await Raw.connect(g.port);
  last.write(`GET ${recordsOf('s')}?from=${g.durableOffset}&waitMs=60000 HTTP/1.1\r\nHost: x\r\n\r\n`);
  await until(() => g.count('connections') === 1, 'another waits');
  t.equal((await ask(g.port, { path: '/healthz' })).status, 200);
  last.destroy();
  // Before it has noticed.
  await g.end(t);
});

t.test('slow clients: 408 for a head and for a body that do not come, and nothing stays held', async (t) => {
  const asked: http.ServerOptions[] = [];
  const { createServer } = http;
  // As the gateway makes it, in a hurry.
  http.createServer = ((options: http.ServerOptions, listener: http.RequestListener) => {
    asked.push(options);
    return createServer(
      { ...options, headersTimeout: 150, requestTimeout: 400, connectionsCheckingInterval: 20 },
      listener,
    );
  }) as typeof createServer;
  t.teardown(() => (http.createServer = createServer));
  const g = await Inside.start(t);
  http.createServer = createServer;
  const { headersTimeout, requestTimeout, connectionsCheckingInterval, maxHeaderSize } = asked[0];
  t.same(
    { headersTimeout, requestTimeout, connectionsCheckingInterval, maxHeaderSize },
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS + 5000,
      connectionsCheckingInterval: 1000,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    'the limits that node:http is given, and maxBlockMs for a body that is not read yet',
  );
  const cases: [string, string][] = [
    ['a head that stops', `POST ${recordsOf('s')} HTTP/1.1\r\nHost:`],
    ['a body that stops', `${head('s', 100)}half`],
    ['a body that never begins', head('s', 100)],
    [
      'chunks that never end',
      `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n`,
    ],
  ];
  for (const [what, request] of cases) {
    const raw = await Raw.connect(g.port);
    raw.write(request);
    isError(t, await raw.answer(), 'REQUEST_TIMEOUT', what);
    await raw.ended();
    await until(() => g.count('connections') === 0, `${what}: it is gone`);
    await g.isAtRest(t, what);
  }
  t.equal(g.count('timedOut'), cases.length, 'each is counted');
  // A byte at a time: it goes on, and takes too long.
  const drip = await Raw.connect(g.port);
  drip.write(head('s', 10_000));
  const dripping = setInterval(() => drip.write('x'), 10);
  isError(t, await drip.answer(), 'REQUEST_TIMEOUT', 'a byte at a time');
  clearInterval(dripping);
  drip.destroy();
  await until(() => g.count('connections') === 0, 'it is gone');
  await g.isAtRest(t, 'after a byte at a time');
  await g.end(t);
});
