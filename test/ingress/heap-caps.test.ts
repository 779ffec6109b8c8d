// The heap caps hold what may legitimately come: as many streams as there may be, with the longest names, in as many batches as an
// index takes; bodies with the most records, and the deepest. A cap that is hit ends a thread, and with it the gateway.

import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { MAX_INDEX_ENTRIES, MAX_STREAM_IDS } from '../../src/base/limits.ts';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { resolveLogOptions } from '../../src/base/options.ts';
import { resolveServeConfig } from '../../src/cli/config.ts';
import { open } from '../../src/index.ts';
import { DecodePool } from '../../src/ingress/decode-pool.ts';
import { heapCaps } from '../../src/ingress/memory.ts';
import { capWorkers } from '../../src/platform/threads.ts';
import { GatewayProcess } from '../support/gateway-process.ts';

const MIB = 2 ** 20;
const STREAMS = MAX_STREAM_IDS;
const BATCH_RECORDS = 1000;

t.test('the commit thread: the most streams, with the longest names, until an index is full', async (t) => {
  const options = { dir: t.testdir(), retentionBytes: '128MiB', window: { lingerMs: 0, maxRecords: BATCH_RECORDS } };
  capWorkers('commit', heapCaps(resolveLogOptions(options), resolveGatewayOptions({})).commit);
  const log = await open(options);
  const names = Array.from({ length: STREAMS }, (_, i) => `s${String(i).padStart(199, '0')}`);
  // Each round adds an entry per stream; names are long, so a segment is full of them before its index is.
  for (let round = 0; round < 4; round++) {
    let waiting: Promise<unknown>[] = [];
    for (const name of names) {
      waiting.push(log.append(name, ''));
      if (waiting.length < 2 * BATCH_RECORDS) continue;
      await Promise.all(waiting);
      waiting = [];
    }
    await Promise.all(waiting);
  }
  await t.rejects(log.append('one.more', ''), { code: 'TOO_MANY_STREAMS' });
  t.equal(log.stats().durableOffset, 4 * STREAMS);
  await log.close();
});

t.test('the commit thread: an index with the most entries seals its segment before that is full', async (t) => {
  const options = { dir: t.testdir(), retentionBytes: '128MiB', window: { lingerMs: 0, maxRecords: BATCH_RECORDS } };
  const log = await open(options);
  const names = Array.from({ length: BATCH_RECORDS }, (_, i) => `${i}`);
  const rounds = Math.ceil(MAX_INDEX_ENTRIES / BATCH_RECORDS) + 20;
  for (let round = 0; round < rounds; round++) await Promise.all(names.map((name) => log.append(name, '')));
  const { rolls, durableOffset } = log.stats();
  t.equal(durableOffset, rounds * BATCH_RECORDS);
  t.equal(rolls, 1, 'at a small part of segmentBytes');
  await log.close();
  const again = await open(options);
  t.equal(again.stats().durableOffset, durableOffset, 'and it opens');
  await again.close();
});

t.test('a decode thread without a schema: the most records, the largest and the deepest', async (t) => {
  const log = resolveLogOptions({ dir: 'd' });
  const gateway = resolveGatewayOptions({});
  const limits = { maxRecords: 1_000_000, maxRecordBytes: log.maxRecordBytes, maxBytes: gateway.decodedBodyBytes };
  const pool = new DecodePool({ threads: 1, resourceLimits: heapCaps(log, gateway).decode });
  const bodies = [
    ['ndjson', '1\n'.repeat(999_000), 999_000],
    ['json', `[${'"\\u0041",'.repeat(999_000)}1]`, 999_001],
    ['json', `[${'['.repeat(400_000)}${']'.repeat(400_000)}]`, 1],
    ['ndjson', `${'y'.repeat(MIB)}\n`.repeat(15), 15],
    ['ndjson', `${'y'.repeat(MIB + 1)}\n`.repeat(15), 0],
  ] as const;
  for (const round of [1, 2]) {
    for (const [shape, text, count] of bodies) {
      const body = new Uint8Array(gzipSync(text, { level: 1 }));
      const came = await pool.decode({ body, encoding: 'gzip', shape, limits });
      t.equal(came.count, count, `round ${round}: ${shape}, ${text.length} bytes`);
    }
  }
  await pool.close();
});

t.test(
  'the main thread with the options of the image: the most streams, and all keys of the dedupe table',
  async (t) => {
    const config = resolveServeConfig({}, { SPILLWAY_MAX_WAITING_BYTES: '4MiB', SPILLWAY_DEDUPE_KEYS: '25000' });
    const gateway = resolveGatewayOptions({ ...config.gateway, maxConnections: 128 });
    const { flags } = heapCaps(resolveLogOptions({ ...config.log, dir: 'd' }), gateway).main;
    const same = ['--max-waiting-bytes', '4MiB', '--dedupe-keys', '25000', '--max-connections', '128'];
    const child = new GatewayProcess({
      dir: join(t.testdir(), 'log'),
      unix: 'off',
      nodeFlags: flags,
      flags: [...same, '--log-level', 'warn'],
    });
    const url = `http://127.0.0.1:${(await child.listens()).http}`;
    const agent = new Agent({ keepAlive: true, maxSockets: 64 });
    const post = (stream: string, key: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const headers = { 'content-type': 'text/plain', 'idempotency-key': key };
        const req = request(`${url}/v1/streams/${stream}/records`, { agent, method: 'POST', headers }, (res) => {
          res.resume().once('end', () => resolve(res.statusCode!));
        });
        req.once('error', reject).end('x');
      });
    let next = 0;
    const answers = new Map<number, number>();
    const client = async (): Promise<void> => {
      while (next < 27_000) {
        const i = next++;
        const status = await post(`s${String(i % STREAMS).padStart(199, '0')}`, `${'k'.repeat(200)}${i}`);
        answers.set(status, (answers.get(status) ?? 0) + 1);
      }
    };
    const asked = await Promise.allSettled(Array.from({ length: 64 }, client));
    const oneMore = await post('one.more', 'k');
    const counted = /too_many_streams_total(?:\{[^}]*\})? (\d+)/.exec(
      await (await fetch(`${url}/metrics`)).text(),
    )?.[1];
    t.strictSame([oneMore, counted], [409, '1'], 'a stream too many is refused, and counted');
    agent.destroy();
    child.kill('SIGTERM');
    const { code, signal, lines } = await child.ended;
    t.strictSame({ code, signal, lines }, { code: 0, signal: null, lines: [] }, 'it lives');
    for (const one of asked) if (one.status === 'rejected') t.fail(String(one.reason));
    t.strictSame([...answers], [[200, 27_000]], 'it answers each');
  },
);
