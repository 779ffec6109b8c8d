// HTTP when it gets too much: a full lane under each policy, an old queue, the high-water mark, rate limits, connections. Memory
// that was held is free again after each.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { ByHand } from '../support/gateway-by-hand.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import {
  ask,
  bytes,
  figuresOf,
  head,
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
