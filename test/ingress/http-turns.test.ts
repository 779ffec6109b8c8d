// Requests of one connection: one at a time, in order, and nothing behind the last; and requests of many sharing one durable write.

import t from 'tap';
import { gzipSync } from 'node:zlib';
import { MAX_PIPELINED } from '../../src/base/limits.ts';
import { ByHand } from '../support/gateway-by-hand.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ask, post, Raw, recordsOf, untilFigures } from '../support/gateway-talk.ts';
import { until } from '../support/log-support.ts';

const bytes = { 'content-type': 'application/octet-stream' };

function request(stream: string, body: string, more = ''): string {
  return `POST ${recordsOf(stream)} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n${more}Content-Length: ${body.length}\r\n\r\n${body}`;
}

async function payloads(port: number, stream: string): Promise<string[]> {
  const { text } = await ask(port, { path: `${recordsOf(stream)}?from=0` });
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => (JSON.parse(line) as { payload: string }).payload);
}

t.test('pipelined requests have their turns: one is under way, the others wait unread', async (t) => {
  const g = await ByHand.start(t);
  const raw = await Raw.connect(g.port);
  raw.write(request('s', 'one') + request('s', 'two') + request('s', 'three'));
  const { queuedBytes } = await untilFigures(g.port, (f) => f.queuedBytes > 0, 'one is in the lane');
  // Each is asked for by a request of its own: what would come would have come.
  for (let i = 0; i < 20; i++) await ask(g.port, { path: '/healthz' });
  t.equal((await untilFigures(g.port, () => true, '')).queuedBytes, queuedBytes, 'and stays alone there');
  raw.destroy();
});

t.test(`more than ${MAX_PIPELINED} waiting requests cut their connection, and nobody else`, async (t) => {
  const g = await Inside.start(t);
  const wait = `GET ${recordsOf('n')}?waitMs=60000 HTTP/1.1\r\nHost: x\r\n\r\n`;
  const many = await Raw.connect(g.port);
  many.write(wait.repeat(MAX_PIPELINED + 2));
  t.match(await many.ended(), /closed|end|ECONNRESET/);
  const fits = await Raw.connect(g.port);
  fits.write(wait + request('s', 'x').repeat(MAX_PIPELINED));
  fits.socket.end();
  // Its side is closed: nothing is waited for any more.
  t.equal((await fits.answer()).status, 200);
  for (let i = 0; i < MAX_PIPELINED; i++) isStored(t, await fits.answer(), `request ${i}`);
  t.equal((await payloads(g.port, 's')).length, MAX_PIPELINED);
  await g.isAtRest(t, 'afterwards');
  await g.end(t);
});

t.test('what stands behind an answer that closes the connection is not carried out', async (t) => {
  const g = await Inside.start(t);
  const raw = await Raw.connect(g.port);
  const last = request('s', 'last', 'Connection: close\r\n');
  raw.write(request('s', 'before') + last + request('behind', 'x') + request('behind', 'y'));
  isStored(t, await raw.answer(), 'before');
  isStored(t, await raw.answer(), 'the last');
  await raw.ended();
  t.equal(raw.rest, '', 'no answer behind it');

  // Here it is the gateway that closes.
  const refused = await Raw.connect(g.port);
  refused.write(`GET /v1/none HTTP/1.1\r\n\r\n${request('behind', 'x')}`);
  isError(t, await refused.answer(), 'BAD_REQUEST', 'no Host');
  await refused.ended();
  t.equal(refused.rest, '', 'no answer behind it');
  t.same(await payloads(g.port, 'behind'), [], 'and nothing was stored');

  // A refusal whose request has come whole closes nothing.
  const goesOn = await Raw.connect(g.port);
  goesOn.write(request('s', 'first') + request('s', 'a', 'Content-Encoding: br\r\n') + request('s', 'next'));
  isStored(t, await goesOn.answer(), 'first');
  isError(t, await goesOn.answer(), 'UNSUPPORTED_ENCODING', 'refused');
  isStored(t, await goesOn.answer(), 'next');
  goesOn.destroy();
  await g.isAtRest(t, 'afterwards');
  await g.end(t);
});

t.test('rubbish behind a request: one answer to the request, none to the rubbish', async (t) => {
  const g = await Inside.start(t);
  const raw = await Raw.connect(g.port);
  raw.write(`${request('s', 'kept')}RUBBISH\r\n\r\n`);
  isStored(t, await raw.answer(), 'the request');
  await raw.ended();
  t.equal(raw.rest, '', 'nothing else came');
  t.same(await payloads(g.port, 's'), ['kept']);
  const alone = await Raw.connect(g.port);
  alone.write('RUBBISH\r\n\r\n');
  isError(t, await alone.answer(), 'BAD_REQUEST', 'rubbish alone');
  const within = await Raw.connect(g.port);
  within.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
  );
  isError(t, await within.answer(), 'BAD_REQUEST', 'rubbish within a body');
  await g.isAtRest(t, 'afterwards');
  await g.end(t);
});

t.test('a client that has closed its side gets its answer', async (t) => {
  const g = await Inside.start(t);
  const raw = await Raw.connect(g.port);
  raw.socket.end(request('s', 'x'));
  isStored(t, await raw.answer(), 'stored and answered');
  t.equal(await raw.ended(), 'end', 'and closed behind it');
  const half = await Raw.connect(g.port);
  half.socket.end(request('s', 'whole').slice(0, -1));
  t.match(await half.ended(), /end|closed|ECONNRESET/, 'half a body');
  t.same(await payloads(g.port, 's'), ['x']);
  await until(() => g.count('connections') === 0, 'both are gone');
  await g.isAtRest(t, 'afterwards');
  await g.end(t);
});

t.test('compressed bodies share one durable write: none waits for another to be durable', async (t) => {
  const g = await ByHand.start(t, { decodeThreads: 1 });
  const count = 8;
  const headers = { ...bytes, 'content-encoding': 'gzip' };
  const answers = Array.from({ length: count }, (_, i) => post(g.port, 's', gzipSync(`record ${i}`), headers));
  // 16 bytes of header, 8 of payload; and the declaration of the stream.
  const inLane = count * 24 + 24;
  const figures = await untilFigures(g.port, (f) => f.queuedBytes === inLane, 'all are in the lane, none is durable');
  t.equal(figures.ingressBytes, 0, 'and the room of their bodies is there for others');
  // Published at the end of the turn in which they came.
  await ask(g.port, { path: '/healthz' });
  g.commit();
  for (const answer of await Promise.all(answers)) isStored(t, answer, 'durable');
});

t.test('an Idempotency-Key is for the same records: the same bytes of another type are others', async (t) => {
  const g = await Inside.start(t);
  const key = { 'idempotency-key': 'k1' };
  isStored(t, await post(g.port, 's', '[1,2,3]', { ...bytes, ...key }), 'as one record');
  const json = { 'content-type': 'application/json', ...key };
  isError(t, await post(g.port, 's', '[1,2,3]', json), 'IDEMPOTENCY_MISMATCH', 'as three');
  t.match(JSON.parse((await post(g.port, 's', '[1,2,3]', { ...bytes, ...key })).text), {
    accepted: 1,
    duplicate: true,
  });
  t.same(await payloads(g.port, 's'), ['[1,2,3]']);
  await g.end(t);
});
