// The client over HTTP against a scripted gateway: lost requests and answers, refusals for the time being, order.

import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { connect } from '../../src/client/connect.ts';
import type { Client } from '../../src/client/client.ts';
import { fitsLine, piecesOf } from '../../src/client/http-body.ts';
import { HttpClient } from '../../src/client/http.ts';
import { resolveClientOptions, type ClientOptionsInput } from '../../src/client/options.ts';
import { needs } from '../support/codecs.ts';
import { codeOf, until, within } from '../support/log-support.ts';
import { FakeHttp, type Came, type Plan } from '../support/client-http.ts';

const patient = { connectTimeoutMs: 5_000, giveUpMs: 20_000 };

async function start(
  t: Test,
  plan?: (came: Came) => Plan | undefined,
  options: ClientOptionsInput = patient,
): Promise<{ gateway: FakeHttp; client: Client }> {
  const gateway = await FakeHttp.start(t, plan);
  const client = await within(connect(gateway.url, options), 'connected');
  t.teardown(() => void client.close().catch(() => undefined));
  return { gateway, client };
}

const numbered = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => `r${from + i}`);
const ndjson = 'application/x-ndjson';
const octets = 'application/octet-stream';

t.test('the same verbs, arguments and results as the embedded log', async (t) => {
  const { gateway, client } = await start(t);
  t.same(await client.append('orders', 'one\n'), { offset: 0 });
  t.same(await client.append('orders', Buffer.from(' \r')), { offset: 1 });
  t.same(await client.appendMany('other', ['three', Buffer.from('four'), 'ü']), { firstOffset: 2, lastOffset: 4 });
  await client.flush();
  t.same(gateway.log, [
    { stream: 'orders', payload: 'one\n' },
    { stream: 'orders', payload: ' \r' },
    { stream: 'other', payload: 'three' },
    { stream: 'other', payload: 'four' },
    { stream: 'other', payload: Buffer.from('ü').toString('latin1') },
  ]);
  t.same(
    gateway.came.map((c) => c.contentType),
    [octets, octets, ndjson],
  );
  t.equal(new Set(gateway.came.map((c) => c.key)).size, 3, 'a key per request');
  t.equal(gateway.sockets.size, 1, 'one connection, kept');
  t.match(client.stats(), {
    state: 'open',
    records: 5,
    durableOffset: 5,
    waitingRecords: 0,
    waitingBytes: 0,
    latency: { count: 5 },
  });
  await client.close();
  await client.close();
  t.equal(client.stats().state, 'closed');
  t.equal(await codeOf(client.append('orders', 'late')), 'CLOSED');
  t.equal(await codeOf(client.flush()), 'CLOSED');
});

t.test('what NDJSON cannot carry goes alone; the rest of a call shares requests', async (t) => {
  const { gateway, client } = await start(t);
  const payloads = ['a', 'b', 'c\nd', 'e', 'f\r', ' \t', '\r', 'g', 'h\r\ni', 'j'];
  t.same(await client.appendMany('s', payloads), { firstOffset: 0, lastOffset: 9 });
  t.same(gateway.payloads(), payloads);
  t.same(
    gateway.came.map((c) => [c.contentType === ndjson, c.records.length]),
    [
      [true, 2],
      [false, 1],
      [true, 1],
      [false, 1],
      [false, 1],
      [false, 1],
      [true, 1],
      [false, 1],
      [true, 1],
    ],
  );
  for (const payload of ['', ' ', '\t\r ', 'x\n', 'x\r', '\r']) {
    t.equal(fitsLine(payload), false, encodeURIComponent(payload));
    t.equal(fitsLine(Buffer.from(payload)), false, encodeURIComponent(payload));
  }
  for (const payload of ['x', ' x', '\rx', '\v', '\0', '\u2028']) {
    t.equal(fitsLine(payload), true, encodeURIComponent(payload));
    t.equal(fitsLine(Buffer.from(payload)), true, encodeURIComponent(payload));
  }
});

t.test('a large call takes several requests of bounded size', async (t) => {
  const pieces = piecesOf(Array.from({ length: 25_000 }, (_, i) => `${i}`.padEnd(100)));
  t.equal(
    pieces.reduce((sum, p) => sum + p.records, 0),
    25_000,
  );
  t.ok(
    pieces.every((p) => p.records <= 10_000 && p.body.length <= 1024 * 1024),
    `${pieces.length} requests`,
  );
  t.same(
    piecesOf(['x'.repeat(3 * 1024 * 1024), 'y']).map((p) => p.records),
    [1, 1],
    'one record may be larger',
  );
  t.same(
    piecesOf(Array.from({ length: 10_001 }, () => 'z')).map((p) => p.records),
    [10_000, 1],
  );
});

t.test('what a caller does wrong is refused by itself', async (t) => {
  const { gateway, client } = await start(t);
  const bad = (value: unknown): never => value as never;
  for (const [what, promise, code, message] of [
    ['key', client.append('s', 'a', { key: 'k' }), 'INVALID_OPTION', /append option 'key': HTTP does not carry it/],
    ['unterminated', client.append('s', 'a', { unterminated: true }), 'INVALID_OPTION', /'unterminated'/],
    ['of the gateway', client.appendMany('s', ['a'], { maxBlockMs: 1 }), 'INVALID_OPTION', /'maxBlockMs'/],
    ['unknown', client.append('s', 'a', bad({ kee: 1 })), 'INVALID_OPTION', /kee/],
    ['name', client.append('a/b', 'a'), 'INVALID_STREAM', /./],
    ['empty', client.appendMany('s', ['a', '']), 'INVALID_RECORD', /payload 1: it is empty/],
    ['number', client.append('s', bad(1)), 'INVALID_RECORD', /./],
    ['none', client.appendMany('s', []), 'INVALID_RECORD', /./],
  ] as const) {
    await t.rejects(promise as Promise<unknown>, { code, message }, what);
  }
  t.equal(gateway.came.length, 0);
});

t.test('the append buffer may be used again at once', async (t) => {
  const { gateway, client } = await start(t);
  const payload = Buffer.from('aaaa');
  const appends = [client.append('s', payload), client.append('s', payload), client.appendMany('s', [payload, 'b'])];
  payload.fill('x');
  await Promise.all<unknown>(appends);
  t.same(gateway.payloads(), ['aaaa', 'aaaa', 'aaaa', 'b']);
});

t.test('one request at a time: the order of the calls is the order in the log', async (t) => {
  // Every third request is cut: before it is stored, or after.
  const { gateway, client } = await start(t, ({ number }) => {
    if (number % 3 === 1) return { kind: 'cut' };
    return number % 7 === 2 ? { kind: 'cut-answer', bytes: 20 } : undefined;
  });
  const appends = numbered(0, 40).map((p) => client.append('s', p));
  const offsets = await Promise.all(appends);
  t.same(gateway.payloads(), numbered(0, 40));
  t.same(
    offsets.map(({ offset }) => offset),
    numbered(0, 40).map((_, i) => i),
  );
  t.equal(gateway.mostUnderWay, 1);
  t.same(gateway.violations, []);
  t.ok(client.stats().duplicateRecords > 2);
});

t.test('an answer cut at every byte: nothing is lost or doubled', async (t) => {
  const cases = Array.from({ length: 140 }, (_, bytes) => bytes);
  const one = async (bytes: number): Promise<void> => {
    const gateway = await FakeHttp.start(t, ({ number }) => (number === 0 ? { kind: 'cut-answer', bytes } : undefined));
    const client = await connect(gateway.url, patient);
    const results = await Promise.all([client.appendMany('s', ['a', 'b']), client.append('s', 'c')]);
    await client.close();
    await gateway.stop();
    const fine = gateway.payloads().join() === 'a,b,c' && gateway.violations.length === 0;
    if (!fine || results[0].firstOffset !== 0 || results[1].offset !== 2) {
      t.same([gateway.payloads(), results, gateway.violations], 'three records', `cut after ${bytes}`);
    }
  };
  while (cases.length > 0) await Promise.all(cases.splice(0, 70).map(one));
  t.pass('all of them');
});

t.test('refused for the time being: waits as long as it was told, sends the same request again', async (t) => {
  const times: number[] = [];
  const { gateway, client } = await start(t, ({ number }) => {
    times.push(performance.now());
    const body = { error: number === 0 ? 'RATE_LIMITED' : 'DISK_FULL', message: 'later', retryable: true };
    if (number === 0) return { kind: 'answer', status: 429, body, headers: { 'retry-after': '1' } };
    return number < 3 ? { kind: 'answer', status: 503, body } : undefined;
  });
  t.same(await Promise.all([client.append('s', 'a'), client.append('s', 'b')]), [{ offset: 0 }, { offset: 1 }]);
  t.ok(times[1] - times[0] > 950, `${times[1] - times[0]} ms`);
  t.equal(new Set(gateway.came.slice(0, 4).map((c) => c.key)).size, 1);
  t.equal(client.stats().resentRecords, 3);
});

t.test('refused for good: the code of the body; calls behind it go on', async (t) => {
  const answers = [
    [422, { error: 'RECORD_TOO_LARGE', message: 'record 0', retryable: false }, 'RECORD_TOO_LARGE'],
    [503, { error: 'POISONED', message: 'gone', retryable: false }, 'POISONED'],
    [413, { error: 'BODY_TOO_LARGE', message: 'large', retryable: false }, 'BODY_TOO_LARGE'],
    [418, 'a teapot', 'BAD_REQUEST'],
    [200, { accepted: 1 }, 'PROTOCOL_ERROR'],
  ] as const;
  const { gateway, client } = await start(t, ({ number }) => {
    const [status, body] = answers[number] ?? [];
    return status === undefined ? undefined : { kind: 'answer', status, body };
  });
  const appends = [...answers.map(() => client.append('s', 'x')), client.append('s', 'last')];
  const codes = await Promise.all(appends.map((a) => codeOf(a)));
  t.same(codes, [...answers.map(([, , code]) => code), 'resolved']);
  t.equal(gateway.came.length, 6, 'none was sent twice');
  t.equal(client.stats().rejectedRecords, 5);
});

t.test('a call that is refused in part says so, and sends nothing more', async (t) => {
  const { gateway, client } = await start(t, ({ number }) => {
    const body = { error: 'SCHEMA_MISMATCH', message: 'no', retryable: false };
    return number === 1 ? { kind: 'answer', status: 422, body } : undefined;
  });
  const many = client.appendMany('s', ['a', 'b', 'c\n', 'd']);
  const next = client.append('s', 'next');
  await t.rejects(many, { code: 'SCHEMA_MISMATCH', message: /2 of the 4 records of this call are in the log/ });
  await next;
  t.same(gateway.payloads(), ['a', 'b', 'next']);
});

t.test('a refusal after an attempt that was cut says nothing about that attempt', async (t) => {
  const { client } = await start(t, ({ number }) => {
    if (number === 0) return { kind: 'cut-answer', bytes: 5 };
    return { kind: 'answer', status: 401, body: { error: 'UNAUTHORIZED', message: 'no', retryable: false } };
  });
  await t.rejects(client.append('s', 'x'), { code: 'DISCONNECTED', message: /UNAUTHORIZED.*may or may not/ });
});

t.test('a request without an answer is sent again under its key', async (t) => {
  const gateway = await FakeHttp.start(t, ({ number }) => (number === 0 ? { kind: 'hold' } : undefined));
  const client = await HttpClient.connect({ ...resolveClientOptions(gateway.url, patient), silenceMs: 200 });
  t.same(await within(client.append('s', 'x'), 'sent again'), { offset: 0 });
  t.equal(gateway.came.length, 2);
  t.equal(gateway.came[0].key, gateway.came[1].key);
  gateway.held[0]();
  await client.close();
});

t.test('something in between that is no gateway: 502 is tried again, dropped records are not', async (t) => {
  const { gateway, client } = await start(t, ({ number }) => {
    if (number === 0) return { kind: 'answer', status: 502, body: 'bad gateway' };
    if (number === 1)
      return { kind: 'answer', status: 500, body: { error: 'INTERNAL', message: 'bug', retryable: true } };
    const body = { error: 'DROPPED', message: 'dropped', retryable: true };
    return number === 3 ? { kind: 'answer', status: 429, body, headers: { 'retry-after': '1' } } : undefined;
  });
  t.same(await client.append('s', 'a'), { offset: 0 });
  t.equal(await codeOf(client.append('s', 'b')), 'DROPPED');
  t.equal(gateway.came.length, 4);
});

t.test('given up: unreachable is DISCONNECTED, refused all the time is what it was refused with', async (t) => {
  // Long enough that each append is answered at least once, also on a busy machine: what never was is DISCONNECTED.
  const { gateway, client } = await start(t, undefined, { giveUpMs: 1500 });
  const { port } = gateway;
  await gateway.stop();
  const first = [client.append('s', 'a'), client.append('s', 'b'), client.flush()];
  t.same(await Promise.all(first.map((p) => codeOf(p))), Array(3).fill('DISCONNECTED'));
  t.match(client.stats(), { waitingRecords: 0, waitingBytes: 0, rejectedRecords: 2, state: 'connecting' });
  await gateway.listen(port);
  t.same(await client.append('s', 'c'), { offset: 0 });
  t.equal(client.stats().state, 'open');
  gateway.plan = () => ({
    kind: 'answer',
    status: 503,
    body: { error: 'DISK_FULL', message: 'full', retryable: true },
  });
  const second = [client.append('s', 'd'), client.append('s', 'e')];
  await Promise.all(second.map((p) => t.rejects(p, { code: 'DISK_FULL', message: /given up after 1500 ms/ })));
  gateway.plan = () => undefined;
  t.same(await client.append('s', 'f'), { offset: 1 });
});

t.test('BACKLOG_FULL beyond maxWaitingBytes; a single larger call may wait alone', async (t) => {
  const { gateway, client } = await start(t, () => ({ kind: 'hold' }), { ...patient, maxWaitingBytes: 1_000 });
  const large = client.append('s', 'x'.repeat(2_000));
  t.equal(await codeOf(client.append('s', 'y')), 'BACKLOG_FULL');
  await until(() => gateway.held.length === 1, 'held');
  gateway.held.shift()!();
  await large;
  const some = [client.append('s', 'a'), client.append('s', 'b'), client.append('s', 'c')];
  t.equal(await codeOf(client.append('s', 'd')), 'BACKLOG_FULL');
  await until(() => gateway.held.length === 1, 'held');
  gateway.plan = () => undefined;
  gateway.held.shift()!();
  await Promise.all(some);
  t.equal(client.stats().waitingBytes, 0);
});

t.test('concurrency: so many at a time, and flush still covers all that came before it', async (t) => {
  const { gateway, client } = await start(t, () => ({ kind: 'hold' }), { ...patient, concurrency: 4 });
  const appends = numbered(0, 5).map((p) => client.append('s', p));
  await until(() => gateway.held.length === 4, 'four under way');
  t.equal(gateway.mostUnderWay, 4);
  const flushed = client.flush();
  const after = numbered(5, 9).map((p) => client.append('s', p));
  // All but the first are answered, those that came after the flush too.
  const first = gateway.held.shift()!;
  for (let answered = 0; answered < 8; answered++) {
    await until(() => gateway.held.length > 0, 'the next');
    gateway.held.shift()!();
  }
  t.equal(await codeOf(flushed, 100), 'late');
  first();
  await within(Promise.all([flushed, ...appends, ...after]), 'flushed');
  t.same([...gateway.payloads()].sort(), numbered(0, 9));
});

t.test('connect: what keeps it from the gateway', async (t) => {
  const gateway = await FakeHttp.start(t);
  gateway.token = 'secret';
  await t.rejects(connect(gateway.url, { token: 'wrong' }), { code: 'UNAUTHORIZED' });
  const client = await connect(gateway.url, { token: 'secret' });
  t.same(await client.append('s', 'x'), { offset: 0 });
  await client.close();
  const { url } = gateway;
  await gateway.stop();
  const startedMs = performance.now();
  await t.rejects(connect(url, { connectTimeoutMs: 200 }), { code: 'DISCONNECTED', message: /ECONNREFUSED.*200 ms/ });
  t.ok(performance.now() - startedMs < 2_000);
});

t.test('close waits for what is under way', async (t) => {
  const { gateway, client } = await start(t, () => ({ kind: 'hold' }));
  const append = client.append('s', 'x');
  const closing = client.close();
  t.equal(client.stats().state, 'draining');
  await until(() => gateway.held.length === 1, 'held');
  t.equal(await codeOf(closing, 50), 'late');
  gateway.held[0]();
  t.same(await append, { offset: 0 });
  await within(closing, 'closed');
});

t.test('many calls under way are no leak', async (t) => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(`${warning.name}: ${warning.message}`);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  const gateway = await FakeHttp.start(t);
  const client = await connect(gateway.url, { concurrency: 64 });
  await Promise.all(Array.from({ length: 200 }, (_, i) => client.append('s', `${i}`)));
  await client.close();
  await new Promise((resolve) => setImmediate(resolve));
  t.same(warnings, []);
});

for (const codec of ['gzip', 'zstd'] as const) {
  t.test(
    `codec ${codec}: bodies that it pays for are compressed, once, and sent again as they are`,
    needs(codec),
    async (t) => {
      let cuts = 2;
      const cut = (): Plan | undefined => (cuts-- > 0 ? { kind: 'cut' } : undefined);
      const { gateway, client } = await start(t, cut, { ...patient, codec });
      const lines = Array.from({ length: 2000 }, (_, i) => `request ${i} took ${i % 7} ms and was answered with 200`);
      const bodyBytes = lines.reduce((sum, line) => sum + line.length + 1, 0);
      t.same(await client.appendMany('s', lines), { firstOffset: 0, lastOffset: 1999 });
      t.same(gateway.payloads(), lines);
      t.same(
        gateway.came.map((c) => c.encoding),
        [codec, codec, codec],
      );
      t.equal(new Set(gateway.came.map((c) => c.wireBytes)).size, 1, 'the same bytes each time');
      t.ok(gateway.came[0].wireBytes * 4 < bodyBytes, `${gateway.came[0].wireBytes} of ${bodyBytes}`);
      t.equal(client.stats().sentBytes, 3 * gateway.came[0].wireBytes, 'what is counted is what was sent');
      gateway.came.length = 0;
      await client.append('s', 'small'.repeat(600));
      const noise = randomBytes(20_000);
      await client.append('s', noise);
      t.same(
        gateway.came.map((c) => [c.encoding, c.wireBytes]),
        [
          ['identity', 3000],
          ['identity', 20_000],
        ],
        'what is small, or would not become shorter, goes as it is',
      );
      t.equal(gateway.payloads().at(-1), noise.toString('latin1'));
    },
  );
}
