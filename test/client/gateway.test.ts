// The client against the real gateway: what it gives back is what lies in the log, whatever happens to the connections.

import t from 'tap';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/base/clock.ts';
import { connect } from '../../src/client/connect.ts';
import type { LogRecord } from '../../src/base/types.ts';
import { codeOf, directory, within } from '../support/log-support.ts';
import { CuttingProxy } from '../support/client-proxy.ts';
import { Inside } from '../support/gateway-inside.ts';
import { recordsOf } from '../support/pipeline-logs.ts';

const patient = { connectTimeoutMs: 10_000, giveUpMs: 30_000 };
const textOf = (record: LogRecord | undefined): string | undefined =>
  record && Buffer.from(record.payload).toString('utf8');

for (const kind of ['tcp', 'unix', 'http'] as const) {
  t.test(`${kind}: the same lines as with the embedded log`, async (t) => {
    const path = join(directory(t), 's');
    const inside = await Inside.start(t, { tcp: '127.0.0.1:0', unix: path });
    const { http, tcp } = inside.gateway.listening;
    const url = { tcp: `tcp://127.0.0.1:${tcp!.port}`, unix: `unix:${path}`, http: `http://127.0.0.1:${http!.port}` }[
      kind
    ];
    const embedded = inside.gateway.log;
    const framed = kind !== 'http';
    const key = framed ? { key: 'k' } : {};
    for (const log of [embedded, await connect(url)]) {
      const { offset } = await log.append('orders', 'one', key);
      t.same(await log.appendMany('orders', ['two', Buffer.from('three')]), {
        firstOffset: offset + 1,
        lastOffset: offset + 2,
      });
      await log.flush();
      t.equal(await codeOf(log.append('../orders', 'x')), 'INVALID_STREAM');
      t.equal(await codeOf(log.append('orders', 5 as never)), 'INVALID_RECORD');
      t.equal(await codeOf(log.append('orders', 'x'.repeat(64 * 1024 + 1))), 'RECORD_TOO_LARGE');
      t.same(await log.append('orders', 'x'.repeat(60_000)), { offset: offset + 3 }, 'a large record');
      if (framed) t.same(await log.append('orders', '', { unterminated: true }), { offset: offset + 4 });
      if (log !== embedded) await log.close();
    }
    const records = await recordsOf(embedded, { follow: false });
    const half = records.length / 2;
    t.equal(half, framed ? 5 : 4);
    const seen = records.map((r) => [r.stream, textOf(r), r.key && Buffer.from(r.key).toString(), r.unterminated]);
    t.same(seen.slice(half), seen.slice(0, half));
    await inside.end(t);
  });

  if (kind === 'unix') continue;
  t.test(`${kind}: connections cut at random, 40 times: nothing lost, doubled or out of order`, async (t) => {
    const inside = await Inside.start(t, { tcp: '127.0.0.1:0' });
    const { http, tcp } = inside.gateway.listening;
    const random = seededRandom(kind === 'tcp' ? 11 : 12);
    const proxy = await CuttingProxy.start(
      t,
      () => (kind === 'tcp' ? tcp : http)!.port,
      () => (proxy.cuts < 40 ? Math.floor(300 + random() * 6_000) : Infinity),
    );
    const client = await connect(`${kind}://127.0.0.1:${proxy.port}`, patient);
    const results: Promise<number[]>[] = [];
    let made = 0;
    // Some under way at any time, until there were 40 cuts; bounded, whatever happens.
    for (let round = 0; round < 3_000 && proxy.cuts < 40; round++) {
      const stream = random() < 0.5 ? 'a' : 'b';
      const filler = 'x'.repeat(random() * 200);
      if (random() < 0.7) results.push(client.append(stream, `${made++} ${filler}`).then(({ offset }) => [offset]));
      else {
        const payloads = Array.from({ length: 1 + Math.floor(random() * 8) }, () => `${made++} ${filler}`);
        results.push(client.appendMany(stream, payloads).then((r) => [r.firstOffset, r.lastOffset]));
      }
      if (results.length > 8) await results.at(-8);
    }
    const offsets = (await within(Promise.all(results), 'all acknowledged', 30_000)).flat();
    t.ok(proxy.cuts >= 40, `${proxy.cuts} cuts, ${made} records`);
    const records = await recordsOf(inside.gateway.log, { follow: false });
    t.same(
      records.map((r) => Number(textOf(r)!.split(' ')[0])),
      Array.from({ length: made }, (_, i) => i),
    );
    t.same(
      offsets,
      [...offsets].sort((x, y) => x - y),
    );
    t.match(client.stats(), { records: made, rejectedRecords: 0, waitingRecords: 0 });
    await client.close();
    await inside.gateway.end();
  });

  t.test(`${kind}: the gateway is restarted under load`, async (t) => {
    const dir = directory(t);
    let port = 0;
    const startOne = async (): Promise<Inside> => {
      const started = await Inside.start(t, { tcp: '127.0.0.1:0' }, { dir });
      const { http, tcp } = started.gateway.listening;
      port = (kind === 'tcp' ? tcp : http)!.port;
      return started;
    };
    let inside = await startOne();
    const proxy = await CuttingProxy.start(
      t,
      () => port,
      () => Infinity,
    );
    const client = await connect(`${kind}://127.0.0.1:${proxy.port}`, patient);
    const results: Promise<unknown>[] = [];
    let restarts = 0;
    let done = false;
    const load = async (): Promise<void> => {
      for (let i = 0; !done && i < 100_000; i++) {
        results.push(client.append('s', String(i)));
        if (results.length > 50) await results.at(-50);
      }
    };
    const loading = load();
    for (; restarts < 3; restarts++) {
      const target = client.stats().records + 60;
      for (let i = 0; i < 1_000 && client.stats().records < target; i++) await results.at(-1);
      await inside.gateway.end();
      inside = await startOne();
    }
    const target = client.stats().records + 60;
    for (let i = 0; i < 1_000 && client.stats().records < target; i++) await results.at(-1);
    done = true;
    await loading;
    await within(Promise.all(results), 'all acknowledged', 30_000);
    const records = await recordsOf(inside.gateway.log, { follow: false });
    t.same(
      records.map((r) => Number(textOf(r))),
      results.map((_, i) => i),
      `${results.length} records over ${restarts} restarts`,
    );
    await client.close();
    await inside.end(t);
  });
}

t.test('hardly any credit: a load of records larger than it goes through', async (t) => {
  const inside = await Inside.start(t, { tcp: '127.0.0.1:0', ingressBytes: '64KiB', wireBodyBytes: '64KiB' });
  const url = `tcp://127.0.0.1:${inside.gateway.listening.tcp!.port}`;
  const clients = await Promise.all(Array.from({ length: 4 }, () => connect(url, patient)));
  const appends = clients.flatMap((client, c) =>
    Array.from({ length: 20 }, (_, i) => client.append('s', `${c}:${i}`.padEnd(i % 4 === 0 ? 40_000 : 500))),
  );
  await within(Promise.all(appends), 'all acknowledged', 30_000);
  t.equal((await recordsOf(inside.gateway.log, { follow: false })).length, 80);
  await Promise.all(clients.map((c) => c.close()));
  await inside.end(t);
});

t.test(
  'a stream with a schema takes records over HTTP alone: what frames bring is refused, not stored unchecked',
  async (t) => {
    const schema = join(directory(t), 'schema.json');
    writeFileSync(schema, '{"type":"integer"}');
    const inside = await Inside.start(t, { tcp: '127.0.0.1:0', streams: { checked: { schema } } });
    const { http, tcp } = inside.gateway.listening;
    const framed = await connect(`tcp://127.0.0.1:${tcp!.port}`, patient);
    t.equal(await codeOf(framed.append('checked', '1')), 'SCHEMA_MISMATCH', 'even where it would match');
    t.same(await framed.append('other', '1'), { offset: 0 }, 'the connection goes on');
    const overHttp = await connect(`http://127.0.0.1:${http!.port}`, patient);
    t.same(await overHttp.append('checked', '2'), { offset: 1 });
    t.equal(await codeOf(overHttp.append('checked', '"x"')), 'SCHEMA_MISMATCH');
    const stored = (await recordsOf(inside.gateway.log, { follow: false })).map((r) => [r.stream, textOf(r)]);
    t.same(stored, [
      ['other', '1'],
      ['checked', '2'],
    ]);
    await framed.close();
    await overHttp.close();
    await inside.end(t);
  },
);
