// HTTP when it gets too much, or has to stop: a full lane under each policy, an old queue, no room for bodies, slow and vanished
// clients, rate limits, full disks, failed logs, draining. Memory that was held is free again after each.

import http from 'node:http';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { HEADERS_TIMEOUT_MS, MAX_HEADER_BYTES, REQUEST_TIMEOUT_MS } from '../../src/base/limits.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { SmallDisk } from '../support/full-disk-mounts.ts';
import { ByHand } from '../support/gateway-by-hand.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import {
  ask,
  bytes,
  figuresOf,
  ndjson,
  post,
  Raw,
  recordsOf,
  untilFigures,
  type Answer,
} from '../support/gateway-talk.ts';
import { until, within } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;
const root = temporaryDirectory('spillway-http-flow-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));

const record = (i: number): Buffer => Buffer.alloc(8 * KIB, `${i}:`);

function head(stream: string, length: number, more = ''): string {
  return `POST ${recordsOf(stream)} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${length}\r\n${more}\r\n`;
}

/** Records of 8 KiB, of which 7 fit the lane. */
async function fillLane(g: ByHand, stream: string, count = 7): Promise<{ answers: Promise<Answer>[]; count: number }> {
  const answers = Array.from({ length: count }, (_, i) => post(g.port, stream, record(i), bytes));
  await untilFigures(g.port, (f) => f.queuedBytes >= count * 8 * KIB, 'all are in the lane');
  return { answers, count };
}

t.test('policy block: the answer waits for room up to maxBlockMs, then 429', async (t) => {
  const g = await ByHand.start(t, {
    // A lane that is full, and nothing waiting for it, is below the low mark here: the lane alone decides.
    highWater: 1,
    lowWater: 0.95,
    shedAgeMs: 0,
    streams: { s: { maxBlockMs: 100 }, longer: { maxBlockMs: 60_000 } },
  });
  const { answers, count } = await fillLane(g, 's');
  const startedMs = performance.now();
  const refused = await post(g.port, 's', record(9), bytes);
  const tookMs = performance.now() - startedMs;
  isError(t, refused, 'BACKLOG_FULL', 'after maxBlockMs of the stream');
  t.ok(tookMs >= 95 && tookMs < 4000, `${tookMs} ms`);
  t.equal((await figuresOf(g.port)).droppedBlockedTooLong, 1, 'counted by its cause');
  const three = await post(g.port, 's', `${'y'.repeat(5000)}\n`.repeat(3), ndjson);
  isError(t, three, 'BACKLOG_FULL', 'three records');
  t.equal((await figuresOf(g.port)).droppedBlockedTooLong, 4, 'by record');
  const waits = post(g.port, 'longer', record(10), bytes);
  await untilFigures(g.port, (f) => f.queuedBytes > 64 * KIB, 'one waits');
  g.commit();
  const offsets = (await Promise.all(answers)).map((a) => isStored(t, a, 'in the lane').firstOffset);
  t.same(
    offsets.sort((a, b) => a - b),
    Array.from({ length: count }, (_, i) => i),
  );
  isError(t, await waits, 'CLOSED', 'what still waits when the log is closed');
  t.match(await figuresOf(g.port), { ingressBytes: 0, records: count }, 'nothing is held');
  t.same(g.errors, []);
});

t.test('policy drop-newest: refused at once', async (t) => {
  const g = await ByHand.start(t, {
    shedAgeMs: 0,
    maxBlockMs: 60_000,
    streams: { drops: { overflow: 'drop-newest' } },
  });
  const { answers } = await fillLane(g, 'blocks');
  isError(t, await post(g.port, 'drops', record(9), bytes), 'DROPPED', 'one record');
  isError(t, await post(g.port, 'drops', 'x\n'.repeat(10) + record(9).toString(), ndjson), 'DROPPED', 'eleven');
  t.equal((await figuresOf(g.port)).droppedNewest, 12, 'counted by record');
  isStored(t, await (g.commit(), answers[0]), 'the others');
  await Promise.all(answers);
  t.equal((await figuresOf(g.port)).ingressBytes, 0);
});

t.test('policy drop-oldest: the oldest that waits has to go, and hears of it', async (t) => {
  const g = await ByHand.start(
    t,
    { overflow: 'drop-oldest', shedAgeMs: 0, maxBlockMs: 60_000, streams: { block: { overflow: 'block' } } },
    20 * KIB,
  );
  // Read before the lane is full: later it would not be.
  const begun = await Raw.connect(g.port);
  begun.write(head('block', 8 * KIB) + 'x');
  await untilFigures(g.port, (f) => f.ingressBytes >= 8 * KIB, 'it is being read');
  const { answers } = await fillLane(g, 's');
  const order: number[] = [];
  const waiting = [0, 1].map(async (i) => {
    const answer = await post(g.port, 's', record(i), bytes);
    order.push(i);
    return answer;
  });
  await untilFigures(g.port, (f) => f.queuedBytes > (64 + 6) * KIB, 'two wait');
  // The one that came first, whichever that was on its own connection.
  const third = post(g.port, 's', record(2), bytes);
  const first = await Promise.race(waiting);
  isError(t, first, 'DROPPED', 'the oldest');
  t.equal(order.length, 1, 'and nobody else');
  t.equal((await figuresOf(g.port)).droppedOldest, 1);
  begun.write('x'.repeat(8 * KIB - 1));
  isError(t, await begun.answer(), 'BACKLOG_FULL', 'who may only wait, where too many do');
  begun.destroy();
  t.equal((await figuresOf(g.port)).droppedBacklog, 1);
  g.commit();
  await Promise.all([...answers, ...waiting, third]);
  t.equal((await figuresOf(g.port)).ingressBytes, 0);
});

t.test('shedding: refused while the oldest is too old', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 60 });
  const old = post(g.port, 's', 'old', bytes);
  await untilFigures(g.port, (f) => f.oldestAgeMs > 60, 'it is old');
  isError(t, await post(g.port, 's', 'new', bytes), 'SHED', 'a new one');
  isError(t, await post(g.port, 'other', 'new', bytes), 'SHED', 'in any stream');
  t.equal(g.count('shed'), 2, 'each request is counted once');
  const expecting = await Raw.connect(g.port);
  expecting.write(head('s', 3, 'Expect: 100-continue\r\n'));
  isError(t, await expecting.answer(), 'SHED', 'before the body is asked for');
  t.equal(g.count('shed'), 3);
  expecting.destroy();
  t.equal((await ask(g.port, { path: recordsOf('s') })).status, 200, 'reading goes on');
  t.equal((await ask(g.port, { path: '/readyz' })).status, 200, 'ready: it is a matter of moments');
  g.commit();
  isStored(t, await old, 'the old one');
});

t.test('above the high-water mark sockets are not read, for as long as their stream may block', async (t) => {
  const g = await ByHand.start(t, {
    shedAgeMs: 0,
    maxBlockMs: 60_000,
    highWater: 0.5,
    lowWater: 0.2,
    streams: { soon: { maxBlockMs: 80 } },
  });
  const { answers } = await fillLane(g, 's', 4);
  t.equal((await figuresOf(g.port)).paused, 1);
  const held = (await figuresOf(g.port)).ingressBytes;
  const later = await Raw.connect(g.port);
  later.write(head('s', 3, 'Expect: 100-continue\r\n'));
  const startedMs = performance.now();
  const soon = await Raw.connect(g.port);
  soon.write(head('soon', 3, 'Expect: 100-continue\r\n'));
  isError(t, await soon.answer(), 'BACKLOG_FULL', 'a stream that may wait for 80 ms');
  t.ok(performance.now() - startedMs < 10_000, 'not for as long as others');
  t.equal(later.rest, '', 'the other is neither asked for its body nor refused');
  t.equal((await figuresOf(g.port)).ingressBytes, held, 'and takes no memory');
  g.commit();
  await Promise.all(answers);
  const asked = await later.answer();
  t.equal(asked.status, 100, 'read again below the low mark');
  later.destroy();
  soon.destroy();
});

t.test('who drops does not wait at the high-water mark', async (t) => {
  const g = await ByHand.start(t, {
    shedAgeMs: 0,
    maxBlockMs: 60_000,
    highWater: 0.3,
    lowWater: 0.2,
    overflow: 'drop-newest',
  });
  const { answers } = await fillLane(g, 's');
  t.equal((await figuresOf(g.port)).paused, 1);
  isError(t, await within(post(g.port, 's', record(9), bytes), 'an answer'), 'DROPPED', 'refused at once');
  g.commit();
  await Promise.all(answers);
});

t.test('a failed log: nothing is taken, what waits is told, reading goes on', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const waits = post(g.port, 's', 'x', bytes);
  await untilFigures(g.port, (f) => f.queuedBytes > 0, 'one is under way');
  g.fail({ code: 'POISONED', message: 'fdatasync: EIO', details: {} });
  const told = isError(t, await waits, 'POISONED', 'who waited');
  t.match(told['message'], /EIO/, 'why');
  isError(t, await post(g.port, 's', 'x', bytes), 'POISONED', 'a new one');
  const ready = await ask(g.port, { path: '/readyz' });
  t.same([ready.status, JSON.parse(ready.text)], [503, { ready: false, state: 'poisoned' }]);
  const healthy = await ask(g.port, { path: '/healthz' });
  t.same([healthy.status, JSON.parse(healthy.text)], [200, { ok: true }], 'the process itself is well');
  t.equal((await ask(g.port, { path: recordsOf('s') })).status, 200, 'reading');
  t.match((await ask(g.port, { path: '/metrics' })).text, /^spillway_log_state\{state="poisoned"\} 1$/m);
  t.equal((await figuresOf(g.port)).ingressBytes, 0);
});

t.test('draining: what was accepted is answered, the rest hears 503, idle connections close', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const idle = await Raw.connect(g.port);
  idle.write('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n');
  t.same(JSON.parse((await idle.answer()).text), { ready: true, state: 'open' });
  const fresh = await Raw.connect(g.port);
  const slow = await Raw.connect(g.port);
  slow.write(head('s', 4) + 'sl');
  const waits = await Raw.connect(g.port);
  waits.write(head('s', 5) + 'waits');
  // One that has begun its second request on a connection: it is not idle.
  const second = await Raw.connect(g.port);
  second.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  await second.answer();
  second.write('GET /readyz HTTP/1.1\r\n');
  await untilFigures(g.port, (f) => f.queuedBytes > 0 && f.ingressBytes >= 4, 'both are under way');
  await until(() => g.count('connections') === 5, 'all are there');
  const drained = g.drain(20_000);
  t.match(await idle.ended(), /end|closed/, 'idle');
  t.match(await fresh.ended(), /end|closed/, 'one that never asked');
  second.write('Host: x\r\n\r\n');
  const not = await second.answer();
  t.same([not.status, JSON.parse(not.text)], [503, { ready: false, state: 'draining' }]);
  t.equal(not.headers['connection'], 'close');
  await t.rejects(ask(g.port, { path: '/healthz' }), { code: 'ECONNREFUSED' }, 'nobody new');
  slow.write('ow');
  await until(() => g.count('queuedBytes') > 60, 'the slow one is whole');
  g.commit();
  for (const raw of [waits, slow]) {
    const answer = await raw.answer();
    isStored(t, answer, 'accepted before');
    t.equal(answer.headers['connection'], 'close');
    await raw.ended();
  }
  t.same(await within(drained, 'the drain'), { requests: 0, connections: 0 });
});

t.test('draining: a request on a connection that is still open is refused, and its body let pass', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const raw = await Raw.connect(g.port);
  raw.write(`POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\n`);
  await until(() => g.count('connections') === 1, 'it is there');
  // Half of a head, seen: the connection is not idle.
  t.equal((await ask(g.port, { path: '/healthz' })).status, 200);
  const drained = g.drain(20_000);
  raw.write('Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nlater');
  const answer = await raw.answer();
  isError(t, answer, 'DRAINING', 'too late');
  t.equal(answer.headers['connection'], 'close');
  t.same(await within(drained, 'the drain'), { requests: 0, connections: 0 });
});

t.test('draining within a time: what is left is counted', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const endless = await Raw.connect(g.port);
  endless.write(head('s', 100) + 'no more');
  const waits = await Raw.connect(g.port);
  waits.write(head('s', 5) + 'waits');
  await untilFigures(g.port, (f) => f.queuedBytes > 0 && f.ingressBytes >= 100, 'both are under way');
  t.same(await g.drain(100), { requests: 2, connections: 2 });
  endless.destroy();
  waits.destroy();
});

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

t.test('rate limits: per token, or per address; Retry-After is enough', async (t) => {
  const tokens = join(root, 'tokens');
  writeFileSync(tokens, ['a', 'b', 'c'].map((name) => `${tokenDigest(name).toString('hex')} ${name}\n`).join(''));
  const g = await Inside.start(t, { rateRecords: 20, rateBytes: 10_000, tokens });
  const send = (who: string, body: string): Promise<Answer> =>
    post(g.port, 's', body, { ...ndjson, authorization: `Bearer ${who}` });
  isStored(t, await send('a', 'x\n'.repeat(20)), 'the burst');
  const refused = await send('a', 'x\n'.repeat(20));
  const { message } = isError(t, refused, 'RATE_LIMITED', 'at once again');
  t.match(message, /'a'/, 'who');
  t.equal(refused.headers['retry-after'], '1', 'when');
  isStored(t, await send('b', 'x\n'.repeat(20)), 'somebody else has a bucket of his own');
  t.equal(g.count('rateLimited'), 1);
  const saidMs = performance.now();
  let again = await send('a', 'x\n'.repeat(20));
  for (let i = 0; again.status === 429 && i < 10_000; i++) again = await send('a', 'x\n'.repeat(20));
  isStored(t, again, 'later');
  t.ok(performance.now() - saidMs < 1500, `after ${performance.now() - saidMs} ms`);

  isStored(t, await send('b', 'y'.repeat(9_900)), 'bytes');
  const tooMany = await Raw.connect(g.port);
  tooMany.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer b\r\nContent-Type: text/plain\r\nContent-Length: 9000\r\n\r\n`,
  );
  isError(t, await tooMany.answer(), 'RATE_LIMITED', 'by what it announces, before it is read');
  tooMany.destroy();
  await g.isAtRest(t, 'after rate limits', { authorization: 'Bearer c' });
  await g.end(t);

  const anonymous = await Inside.start(t, { rateRecords: 1 });
  isStored(t, await post(anonymous.port, 's', 'x'), 'the first');
  t.match(isError(t, await post(anonymous.port, 's', 'x'), 'RATE_LIMITED', 'the second')['message'], /127\.0\.0\.1/);
  await anonymous.end(t);
});

t.test('more than maxConnections are turned away', async (t) => {
  const g = await Inside.start(t, { maxConnections: 2 });
  const [a, b] = [await Raw.connect(g.port), await Raw.connect(g.port)];
  await until(() => g.count('connections') === 2, 'two are there');
  const c = await Raw.connect(g.port);
  await c.ended();
  t.equal(g.count('connectionsRefused'), 1);
  a.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  t.equal((await a.answer()).status, 200, 'those that are there go on');
  b.destroy();
  await until(() => g.count('connections') === 1, 'one has left');
  t.equal((await ask(g.port, { path: '/healthz' })).status, 200, 'its place is free');
  a.destroy();
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

/** Posts until the disk is full. @returns what is still without an answer then */
async function fillDisk(g: Inside): Promise<Promise<Answer>[]> {
  const waiting = new Set<Promise<Answer>>();
  const isFull = (): boolean => g.gateway.log.stats().state === 'full';
  for (let i = 0; i < 2000 && !isFull(); i++) {
    const answer = post(g.port, 's', Buffer.alloc(32 * KIB, `${i}:`), bytes);
    waiting.add(answer);
    void Promise.allSettled([answer]).then(() => waiting.delete(answer));
    await until(() => waiting.size < 8 || isFull(), 'an answer, or a full disk');
  }
  return [...waiting];
}

t.test(
  'a full disk: 503, not ready, and it goes on when there is space',
  { skip: process.getuid?.() === 0 ? false : 'mounting a small disk needs root' },
  async (t) => {
    const disk = SmallDisk.make('tmpfs', 12 * KIB * KIB);
    t.teardown(() => disk.unmount());
    disk.leave(4 * KIB * KIB);
    const g = await Inside.start(t, { shedAgeMs: 0, maxBlockMs: 60_000 }, { dir: join(disk.dir, 'log') });
    const waiting = await fillDisk(g);
    const ready = await ask(g.port, { path: '/readyz' });
    t.same([ready.status, JSON.parse(ready.text)], [503, { ready: false, state: 'full' }]);
    t.equal((await ask(g.port, { path: '/healthz' })).status, 200, 'and well');
    t.match((await ask(g.port, { path: '/metrics' })).text, /^spillway_log_state\{state="full"\} 1$/m);
    t.equal((await ask(g.port, { path: `${recordsOf('s')}?max=1` })).status, 200, 'reading goes on');
    const refusal = await post(g.port, 's', 'x', bytes);
    isError(t, refusal, 'DISK_FULL', 'a new one');
    t.ok(waiting.length > 0, `${waiting.length} were under way`);
    const lines = ['the disk is full: nothing is stored until there is space', 'there is space again: the log is open'];
    const logged = (line: string): number => g.lines.filter(({ msg }) => msg === line).length;
    await until(() => logged(lines[0]) > 0, 'it is logged');
    disk.release();
    for (const answer of await within(Promise.all(waiting), 'what was held back', 20_000)) {
      t.ok(answer.status === 200 || answer.status === 503, `held back: ${answer.status} ${answer.text}`);
    }
    await until(() => g.gateway.log.stats().state === 'open', 'the log is open again');
    t.equal((await ask(g.port, { path: '/readyz' })).status, 200, 'ready');
    isStored(t, await post(g.port, 's', 'x', bytes), 'it goes on by itself');
    await g.isAtRest(t, 'after a full disk');
    const { gateway, log } = g.gateway.stats();
    t.equal(gateway.records, log.durableOffset, 'what was answered is what is there');
    await until(() => logged(lines[1]) > 0, 'that it goes on is logged');
    t.same(lines.map(logged), [1, 1], 'each once');
    await g.end(t, [lines[0]]);
  },
);

t.test(
  'a drain on a full disk says what is left before the log is closed',
  { skip: process.getuid?.() === 0 ? false : 'mounting a small disk needs root' },
  async (t) => {
    const disk = SmallDisk.make('tmpfs', 12 * KIB * KIB);
    t.teardown(() => disk.unmount());
    disk.leave(4 * KIB * KIB);
    const options = { shedAgeMs: 0, maxBlockMs: 60_000, drainMs: 200 };
    const g = await Inside.start(t, options, { dir: join(disk.dir, 'log') });
    const waiting = await fillDisk(g);
    t.ok(waiting.length > 0, `${waiting.length} are held`);
    void Promise.allSettled(waiting);
    await t.rejects(g.gateway.end(), { code: 'DISK_FULL' });
    const left = g.lines.filter((line) => /drainMs/.test(line.msg)) as {
      level: number;
      msg: string;
      requests?: number;
    }[];
    t.match(left, [{ level: 50, requests: Number }]);
    t.ok(left[0].requests! > 0 && left[0].requests! <= waiting.length, `${left[0].requests} are left`);
  },
);

t.test('a drain that cuts peers who owe nothing leaves no request', async (t) => {
  const g = await Inside.start(t, { drainMs: 200 });
  const half = await Raw.connect(g.port);
  half.write('GET /healthz HTTP/1.1\r\nHo');
  await ask(g.port, { path: '/healthz' });
  t.same(await g.end(t), { requests: 0, connections: 1 });
  t.match(
    g.lines.filter((line) => /drainMs/.test(line.msg)),
    [{ level: 40, requests: 0, connections: 1 }],
  );
});
