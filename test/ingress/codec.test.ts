// A gateway whose log compresses, under a client that does: what comes back over HTTP, and what the gateway says of it.

import { join } from 'node:path';
import t from 'tap';
import { seededRandom } from '../../src/base/clock.ts';
import { connect } from '../../src/client/connect.ts';
import type { GatewayStats } from '../../src/ingress/metrics.ts';
import { needs } from '../support/codecs.ts';
import { Inside } from '../support/gateway-inside.ts';
import { ask } from '../support/gateway-talk.ts';
import { CuttingProxy } from '../support/client-proxy.ts';
import { directory } from '../support/log-support.ts';
import { recordsOf, text } from '../support/pipeline-logs.ts';

const RECORDS = 600;
const lines = Array.from(
  { length: RECORDS },
  (_, i) => `{"level":"info","request":${i},"path":"/v1/orders","ms":${i % 9}}`,
);

for (const codec of ['gzip', 'zstd'] as const) {
  t.test(
    `${codec} in frames: over TCP and a Unix socket, connections cut at random: nothing lost or doubled`,
    needs(codec),
    async (t) => {
      for (const kind of ['tcp', 'unix'] as const) {
        const path = join(directory(t), 's');
        const g = await Inside.start(t, { tcp: '127.0.0.1:0', unix: path });
        const random = seededRandom(5);
        const tcp = g.gateway.listening.tcp!;
        const cutAt = (): number => (proxy.cuts < 4 ? Math.floor(300 + random() * 12_000) : Infinity);
        const proxy = await CuttingProxy.start(t, () => tcp.port, cutAt);
        const url = kind === 'tcp' ? `tcp://127.0.0.1:${proxy.port}` : `unix:${path}`;
        const client = await connect(url, { codec, connectTimeoutMs: 10_000, giveUpMs: 30_000 });
        const calls = 8;
        for (let call = 0; call < calls; call++) await client.appendMany('s', lines);
        const { sentBytes, records, resentRecords } = client.stats();
        const plainBytes = lines.reduce((sum, line) => sum + line.length + 40, 0) * calls;
        if (kind === 'unix') t.ok(sentBytes * 3 < plainBytes, `${sentBytes} of ${plainBytes} bytes went over the wire`);
        else t.ok(proxy.cuts > 2 && resentRecords > 0, `${proxy.cuts} cuts, ${resentRecords} records sent again`);
        t.equal(records, calls * RECORDS);
        await client.close();
        const there = (await recordsOf(g.gateway.log)).map(text);
        t.same(there, Array.from({ length: calls }, () => lines).flat());
        await g.end(t);
      }
    },
  );

  t.test(`${codec} on the wire and on disk`, needs(codec), async (t) => {
    const g = await Inside.start(t, {}, { codec, window: { maxBytes: '64KiB', lingerMs: 0 } });
    const client = await connect(`http://127.0.0.1:${g.port}`, { codec });
    t.same(await client.appendMany('s', lines), { firstOffset: 0, lastOffset: RECORDS - 1 });
    const plainBytes = lines.reduce((sum, line) => sum + line.length + 1, 0);
    const { sentBytes } = client.stats();
    t.ok(sentBytes * 4 < plainBytes, `${sentBytes} of ${plainBytes} bytes went over the wire`);
    await client.close();
    const stats = JSON.parse((await ask(g.port, { path: '/v1/stats' })).text) as GatewayStats;
    const { compression, recordBytes } = stats.log;
    t.ok(compression.batches > 0 && compression.storedBytes * 2 < compression.rawBytes, JSON.stringify(compression));
    t.ok(compression.rawBytes <= recordBytes && compression.us > 0);
    const metrics = (await ask(g.port, { path: '/metrics' })).text;
    for (const [name, value] of Object.entries({
      log_compressed_batches_total: compression.batches,
      log_compressed_raw_bytes_total: compression.rawBytes,
      log_compressed_stored_bytes_total: compression.storedBytes,
      log_compress_us_total: compression.us,
    })) {
      t.match(metrics, `\nspillway_${name} ${value}\n`, name);
    }
    const seen: string[] = [];
    for (let from = 0; seen.length < RECORDS;) {
      const { status, text } = await ask(g.port, { path: `/v1/streams/s/records?from=${from}` });
      t.equal(status, 200);
      const page = text
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as { offset: number; payload: string });
      if (page.length === 0) break;
      seen.push(...page.map(({ payload }) => payload));
      from = page.at(-1)!.offset + 1;
    }
    t.same(seen, lines);
    await g.end(t);
  });
}
