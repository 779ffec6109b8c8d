// Idempotency-Key, reading, long poll and figures over HTTP, from a gateway in this process over a real log.

import http from 'node:http';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import t, { type Test } from 'tap';
import { counterNames } from '../../src/ingress/counters.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import { ask, bytes, linesOf, ndjson, payloads, post, Raw, recordsOf, type Answer } from '../support/gateway-talk.ts';
import { until } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;

const root = temporaryDirectory('spillway-http-test-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));

t.test('Idempotency-Key', async (t) => {
  const dir = join(root, 'keys');
  const first = await Inside.start(t, {}, { dir });
  const send = (
    g: Inside,
    stream: string,
    body: string | Buffer,
    key: string,
    more: http.OutgoingHttpHeaders = {},
  ): Promise<Answer> => post(g.port, stream, body, { ...ndjson, 'idempotency-key': key, ...more });
  const again = async (g: Inside, what: string): Promise<void> => {
    const answer = await send(g, 's', 'a\nb\nc\n', 'k1');
    t.same(JSON.parse(answer.text), { ...original, duplicate: true }, what);
  };
  const original = isStored(t, await send(first, 's', 'a\nb\nc\n', 'k1'), 'the first');
  t.same(original, {
    accepted: 3,
    firstOffset: original.firstOffset,
    lastOffset: original.firstOffset + 2,
    durable: true,
  });
  await again(first, 'the same again');
  const before = first.count('duplicates');
  await again(first, 'and again');
  t.equal(first.count('duplicates') - before, 3, 'counted by record');
  const zipped = await send(first, 's', zlib.gzipSync('a\nb\nc\n'), 'k1', { 'content-encoding': 'gzip' });
  t.same(JSON.parse(zipped.text), { ...original, duplicate: true }, 'the same records, coded differently');

  for (const other of ['a\nb\nd\n', 'a\nb\n', 'a\nb\nc\nd\n', 'a'])
    isError(t, await send(first, 's', other, 'k1'), 'IDEMPOTENCY_MISMATCH', JSON.stringify(other));
  t.notMatch(isStored(t, await send(first, 'other', 'a\nb\nc\n', 'k1'), 'the key in another stream'), {
    duplicate: true,
  });

  for (const key of ['', ' ', 'a b', 'x'.repeat(256), 'ä'])
    isError(t, await send(first, 's', 'x', key), 'BAD_REQUEST', `key '${key.slice(0, 10)}'`);
  isStored(t, await send(first, 's', 'x', '!~'.repeat(127)), 'a long key');
  const twice = await Raw.connect(first.port);
  twice.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\nx`,
  );
  isError(t, await twice.answer(), 'BAD_REQUEST', 'two keys');
  twice.destroy();

  isError(t, await send(first, 's', 'x'.repeat(70 * KIB), 'k2'), 'RECORD_TOO_LARGE', 'refused under a key');
  t.notMatch(isStored(t, await send(first, 's', 'ok', 'k2'), 'the key is still free'), { duplicate: true });

  const crowd = await Promise.all(Array.from({ length: 20 }, () => send(first, 'crowd', 'one\ntwo\n', 'k3')));
  const results = crowd.map((a) => JSON.parse(a.text) as Record<string, unknown>);
  t.equal(results.filter((r) => r['duplicate'] === undefined).length, 1, 'twenty at once: one is the first');
  t.equal(new Set(results.map((r) => r['firstOffset'])).size, 1, 'all hear the same');
  t.same(await payloads(first.port, 'crowd'), ['one', 'two'], 'stored once');
  const rivals = await Promise.all(Array.from({ length: 10 }, (_, i) => send(first, 'rivals', `r${i}`, 'k4')));
  t.same(
    rivals.map((a) => a.status).sort((a, b) => a - b),
    [200, ...Array.from({ length: 9 }, () => 422)],
    'ten different ones at once: one wins',
  );
  const partly = await post(first.port, `${recordsOf('partly')}?partial=1`, `a\n${'x'.repeat(70 * KIB)}\nb`, {
    ...ndjson,
    'idempotency-key': 'k5',
  });
  t.match(isStored(t, partly, 'partial, under a key'), { accepted: 2 });
  const partlyAgain = await post(first.port, `${recordsOf('partly')}?partial=1`, `a\n${'x'.repeat(70 * KIB)}\nb`, {
    ...ndjson,
    'idempotency-key': 'k5',
  });
  t.match(JSON.parse(partlyAgain.text), { accepted: 2, duplicate: true, badRecords: 1 });
  t.same(await payloads(first.port, 'partly'), ['a', 'b']);
  await first.isAtRest(t, 'after keys');
  await first.end(t);

  const second = await Inside.start(t, {}, { dir });
  await again(second, 'after a restart');
  isError(t, await send(second, 's', 'a\nb\nd\n', 'k1'), 'IDEMPOTENCY_MISMATCH', 'after a restart');
  t.match(JSON.parse((await send(second, 'crowd', 'one\ntwo\n', 'k3')).text), { duplicate: true });
  t.same(await payloads(second.port, 's'), ['a', 'b', 'c', 'x', 'ok'], 'each once');
  await second.end(t);

  const forgetful = await Inside.start(t, { dedupeMs: 0 }, { dir });
  t.notMatch(isStored(t, await send(forgetful, 's', 'a\nb\nc\n', 'k1'), 'dedupeMs 0'), { duplicate: true });
  await forgetful.end(t);
});

t.test('reading: pages, offsets, bytes that are no text, and what is asked wrongly', async (t) => {
  const g = await Inside.start(t);
  const { port } = g;
  const get = (query: string, stream = 'a'): Promise<Answer> => ask(port, { path: `${recordsOf(stream)}${query}` });
  const offsets: number[] = [];
  const startedMs = Date.now();
  for (let i = 0; i < 10; i++) {
    offsets.push(isStored(t, await post(port, 'a', `a${i}`, bytes), 'a').firstOffset);
    await post(port, 'b', `b${i}`, bytes);
  }
  const all = await get('');
  t.equal(all.status, 200);
  t.equal(all.headers['content-type'], 'application/x-ndjson');
  t.same(
    linesOf(all).map((l) => [l.offset, l.payload]),
    offsets.map((o, i) => [o, `a${i}`]),
  );
  t.ok(
    linesOf(all).every((l) => l.timestampMs >= startedMs - 1 && l.timestampMs <= Date.now()),
    'times',
  );
  t.equal(Number(all.headers['x-next-offset']), g.durableOffset, 'next: the end');

  // A page after the other finds everything once.
  const seen: string[] = [];
  let from: string | undefined = '0';
  for (let pages = 0; pages < 20 && from !== undefined; pages++) {
    const page: Answer = await get(`?from=${from}&max=3`);
    const lines = linesOf(page);
    t.ok(lines.length <= 3, `${lines.length} records in a page`);
    seen.push(...lines.map((l) => l.payload!));
    const next = String(page.headers['x-next-offset']);
    t.ok(Number(next) >= Number(from), 'goes forward');
    from = lines.length === 0 ? undefined : next;
  }
  t.same(
    seen,
    offsets.map((_, i) => `a${i}`),
  );
  t.same(
    linesOf(await get(`?from=${offsets[4]}&max=1`)).map((l) => l.payload),
    ['a4'],
    'from: inclusive',
  );
  t.same(
    linesOf(await get(`?from=${offsets[4] + 1}&max=1`)).map((l) => l.payload),
    ['a5'],
    "between: the stream's next",
  );
  t.equal((await get(`?from=${g.durableOffset}`)).text, '', 'at the end: nothing');
  isError(t, await get(`?from=${g.durableOffset + 1}`), 'OFFSET_OUT_OF_RANGE', 'beyond the end');
  isError(t, await get(`?from=${Number.MAX_SAFE_INTEGER}`), 'OFFSET_OUT_OF_RANGE', 'far beyond the end');
  t.equal((await get('', 'nobody')).text, '', 'a stream without records');
  for (const query of [
    '?from=-1',
    '?from=x',
    '?from=',
    '?from=1.5',
    '?from=99999999999999999',
    '?from=9007199254740992',
    '?max=10001',
    '?max=-1',
    '?max=1e3',
    '?waitMs=60001',
    '?waitMs=soon',
    '?from=%31%00',
  ])
    isError(t, await get(query), 'BAD_REQUEST', query);

  const odd = [
    Buffer.from([0xff]),
    Buffer.from([0xc3]),
    Buffer.from('\ud7ff\u0000"\\\u2028é😀'),
    Buffer.from([0xed, 0xa0, 0x80]),
    Buffer.alloc(3),
  ];
  for (const payload of odd) isStored(t, await post(port, 'odd', payload, bytes), payload.toString('hex'));
  const back = linesOf(await get('', 'odd')).map((l) =>
    l.payload === undefined ? Buffer.from(l.payloadBase64!, 'base64') : Buffer.from(l.payload),
  );
  t.same(back, odd, 'the same bytes, as text or base64');
  t.same(
    linesOf(await get('', 'odd')).map((l) => 'payload' in l),
    [false, false, true, false, true],
    'text where it is text',
  );

  // More than fits a page in bytes.
  const big = 'z'.repeat(60 * KIB);
  for (let i = 0; i < 40; i++) isStored(t, await post(port, 'big', `${i}:${big}`, bytes), `big ${i}`);
  const page = await get('', 'big');
  t.ok(
    page.text.length < 1.2 * 1024 * KIB && linesOf(page).length >= 10,
    `a page of ${linesOf(page).length} large records`,
  );
  const rest = await get(`?from=${page.headers['x-next-offset']}`, 'big');
  t.equal(linesOf(rest)[0].payload!.split(':')[0], String(linesOf(page).length), 'the next page goes on');
  await g.isAtRest(t, 'after reading');
  await g.gateway.log.truncateBefore(5);
  isError(t, await get('?from=4'), 'OFFSET_OUT_OF_RANGE', 'truncated away');
  await g.end(t);
});

t.test('long poll: answered by the record it waits for, by the time, and not by other streams', async (t) => {
  const g = await Inside.start(t);
  const get = (query: string): Promise<Answer> => ask(g.port, { path: `${recordsOf('polled')}${query}` });
  await post(g.port, 'polled', 'old', bytes);
  t.same(
    linesOf(await get('?from=0&waitMs=60000')).map((l) => l.payload),
    ['old'],
    'at once where there is one',
  );
  const from = g.durableOffset;
  let answered = 0;
  const waiting = Array.from({ length: 5 }, () => get(`?from=${from}&waitMs=30000`).then((a) => (answered++, a)));
  for (let i = 0; i < 5; i++) await post(g.port, 'others', 'x', bytes);
  t.equal(answered, 0, 'records of other streams answer nobody');
  await post(g.port, 'polled', 'new', bytes);
  for (const answer of await Promise.all(waiting))
    t.same(
      linesOf(answer).map((l) => l.payload),
      ['new'],
    );

  const started = performance.now();
  const empty = await get(`?from=${g.durableOffset}&waitMs=120`);
  t.same(
    [empty.status, empty.text, Number(empty.headers['x-next-offset'])],
    [200, '', g.durableOffset],
    'nothing came',
  );
  t.ok(performance.now() - started >= 115, 'after the time');

  const gone = await Raw.connect(g.port);
  gone.write(`GET ${recordsOf('polled')}?from=${g.durableOffset}&waitMs=60000 HTTP/1.1\r\nHost: x\r\n\r\n`);
  const open = g.count('connections');
  gone.destroy();
  await until(() => g.count('connections') < open, 'the connection is gone');
  const ended = performance.now();
  const waits = await Raw.connect(g.port);
  waits.write(`GET ${recordsOf('polled')}?from=${g.durableOffset}&waitMs=60000 HTTP/1.1\r\nHost: x\r\n\r\n`);
  await until(() => g.count('connections') === open, 'the poll has come');
  t.equal((await ask(g.port, { path: '/healthz' })).status, 200, 'and was read before this');
  // The end of the gateway ends it, and nobody is left.
  const left = await g.end(t);
  t.equal(left.connections, 0);
  t.equal((await waits.answer()).status, 200);
  t.ok(performance.now() - ended < 5000, 'long before its time');
});

/** What Prometheus' text format 0.0.4 allows, and nothing else. @returns samples by name with labels */
function parseMetrics(t: Test, text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  const closed = new Set<string>();
  let current = '';
  t.ok(text.endsWith('\n'), 'ends with a newline');
  for (const line of text.slice(0, -1).split('\n')) {
    const meta = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (meta !== null) {
      const [, kind, name, value] = meta;
      if (name !== current) {
        if (closed.has(name)) t.fail(`${name}: its lines do not stand together`);
        closed.add(current);
        current = name;
      }
      if (kind === 'TYPE') {
        if (types.has(name)) t.fail(`${name}: two types`);
        if (!['counter', 'gauge', 'summary'].includes(value)) t.fail(`${name}: type ${value}`);
        types.set(name, value);
      }
      continue;
    }
    const sample =
      /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_]\w*="[^"\\\n]*"(?:,[a-zA-Z_]\w*="[^"\\\n]*")*\})? (-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?))$/.exec(
        line,
      );
    if (sample === null) {
      t.fail(`no line of this format: '${line}'`);
      continue;
    }
    const [, name, labels = '', value] = sample;
    const family = types.get(current) === 'summary' ? name.replace(/_(sum|count)$/, '') : name;
    if (family !== current || !types.has(family)) t.fail(`${name}: a sample without its type above it`);
    if (samples.has(name + labels)) t.fail(`${name}${labels} twice`);
    if (types.get(name) === 'counter' && (!name.endsWith('_total') || Number(value) < 0)) t.fail(`${line}: no counter`);
    samples.set(name + labels, Number(value));
  }
  return samples;
}

t.test('stats and metrics: the same figures, and they move', async (t) => {
  const g = await Inside.start(t);
  const { port } = g;
  const look = async (): Promise<{
    samples: Map<string, number>;
    stats: { log: Record<string, number | string>; gateway: Record<string, number> };
  }> => {
    const metrics = await ask(port, { path: '/metrics' });
    t.equal(metrics.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    const stats = await ask(port, { path: '/v1/stats' });
    t.equal(stats.headers['content-type'], 'application/json');
    return { samples: parseMetrics(t, metrics.text), stats: JSON.parse(stats.text) };
  };
  const before = await look();
  isStored(t, await post(port, 's', 'a\nb\nc'), 'three records');
  isError(t, await post(port, 's', ''), 'EMPTY_REQUEST', 'a refusal');
  isError(t, await ask(port, { path: '/nothing' }), 'NOT_FOUND', 'another');
  const after = await look();
  const moved = (name: string): number =>
    after.samples.get(`spillway_${name}`)! - before.samples.get(`spillway_${name}`)!;
  t.equal(moved('records_total'), 3);
  t.equal(moved('record_bytes_total'), 3);
  t.equal(moved('body_bytes_total'), 5);
  t.equal(moved('answers_4xx_total'), 2);
  t.equal(moved('answers_5xx_total'), 0);
  // Two looks lie between, of which one was answered when the first figures were taken.
  t.equal(
    moved('requests_total'),
    moved('answers_2xx_total') + moved('answers_4xx_total') + moved('answers_5xx_total'),
    'each is answered once',
  );
  t.equal(moved('requests_total'), 5);
  t.equal(moved('log_durable_offset'), 3);
  t.equal(moved('log_records_total'), 3);
  for (const name of counterNames) t.ok(name in after.stats.gateway, `stats: ${name}`);
  t.equal(after.stats.gateway['records'], after.samples.get('spillway_records_total'));
  t.equal(after.stats.log['durableOffset'], after.samples.get('spillway_log_durable_offset'));
  const states = [...after.samples].filter(([name]) => name.startsWith('spillway_log_state'));
  t.same(
    states.filter(([, value]) => value === 1).map(([name]) => name),
    ['spillway_log_state{state="open"}'],
  );
  t.equal(states.length, 6, 'every state has its line');
  t.equal(
    [...after.samples.keys()].filter((k) => /^spillway_(log_)?[a-z0-9_]+(\{|$)/.test(k)).length,
    after.samples.size,
    'names',
  );
  await g.end(t);
});
