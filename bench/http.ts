// bench:http — what durability costs a client over HTTP: the gateway against a bare node:http server that reads the body and
// answers without storing, in turns. autocannon in a process of its own, 64 connections.

import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArguments, runBench } from './lib/bench.ts';
import { autocannon, Server, startGateway, type Loaded } from './lib/children.ts';
import { median } from './lib/stats.ts';

const CONNECTIONS = 64;
const RECORD_BYTES = 256;
const BULK_BYTES = 65_536;
const SINGLE_TARGET = 0.8;
const BULK_TARGET = 0.7;
const P99_MS = 20;
const P99_TIMES = 1.5;

interface Round {
  readonly ours: Loaded;
  readonly bare: Loaded;
}

function line(bytes: number): string {
  return `{"event":"${randomBytes(bytes)
    .toString('hex')
    .slice(0, bytes - 12)}"}`;
}

await runBench(
  'http',
  () => parseArguments('npm run bench:http [-- --smoke] [--dir D] [--rounds N] [--linger-us N]', ['linger-us']),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 7);
    const seconds = a.smoke ? 1 : 5;
    const lingerMs = (a.numbers['linger-us'] ?? 0) / 1000;
    return {
      parameters: {
        rounds,
        seconds,
        connections: CONNECTIONS,
        recordBytes: RECORD_BYTES,
        bulkBytes: BULK_BYTES,
        lingerMs,
      },
      targets: [
        `single: requests/s ≥ ${SINGLE_TARGET} × bare, median of the rounds' ratios`,
        `bulk: MB/s ≥ ${BULK_TARGET} × bare, median of the rounds' ratios`,
        `p99 of both ≤ ${P99_MS} ms or ≤ ${P99_TIMES} × bare p99, whichever is larger, medians`,
        'every request was answered 2xx, and its records are in the log',
      ],
      async body({ report, root, dataDir }) {
        const single = join(dataDir, 'single');
        const bulk = join(dataDir, 'bulk');
        writeFileSync(single, line(RECORD_BYTES));
        const lines = Math.floor(BULK_BYTES / (RECORD_BYTES + 1));
        writeFileSync(bulk, Array.from({ length: lines }, () => `${line(RECORD_BYTES)}\n`).join(''));
        const bare = await Server.start([join(root, 'dist', 'bench', 'lib', 'bare-http.js')], /listening on .*\n/);
        const gateway = await startGateway(root, join(dataDir, 'log'), [
          '--retention-bytes',
          '512MiB',
          '--linger-ms',
          String(lingerMs),
        ]);
        const bareUrl = /http:\S+/.exec(bare.text)![0];
        const kinds = [
          { name: 'single', file: single, type: 'application/octet-stream', records: 1, target: SINGLE_TARGET },
          { name: 'bulk', file: bulk, type: 'application/x-ndjson', records: lines, target: BULK_TARGET },
        ];
        const results: Record<string, Round[]> = { single: [], bulk: [] };
        let sent = 0;
        try {
          for (let r = 0; r < rounds; r++) {
            for (const { name, file, type, records } of kinds) {
              report.progress(`${name}, round ${r + 1} of ${rounds}`);
              const load = (url: string): Promise<Loaded> => autocannon(root, url, file, type, CONNECTIONS, seconds);
              const plain = await load(`${bareUrl}/`);
              const ours = await load(`${gateway.http}/v1/streams/bench/records`);
              results[name].push({ ours, bare: plain });
              sent += ours.requests * records;
            }
          }
          const stats = (await (await fetch(`${gateway.http}/v1/stats`)).json()) as {
            log: { records: number; io: string; batches: number };
          };
          report.io = stats.log.io;
          const failed = Object.values(results).flat();
          const failures = failed.reduce((sum, x) => sum + x.ours.failed + x.bare.failed, 0);
          report.results = { rounds: results, records: stats.log.records, batches: stats.log.batches, answered: sent };
          const of = (name: string, pick: (x: Round) => number): number => median(results[name].map(pick));
          const header = [
            'load',
            'bare requests/s',
            'gateway requests/s',
            'ratio',
            'MB/s',
            'bare p50',
            'p50',
            'bare p99',
            'p99 ms',
          ];
          report.table(
            header,
            kinds.map(({ name, records }) => [
              name,
              of(name, (x) => x.bare.requestsPerSecond),
              of(name, (x) => x.ours.requestsPerSecond),
              of(name, (x) => x.ours.requestsPerSecond / x.bare.requestsPerSecond),
              (of(name, (x) => x.ours.requestsPerSecond) * records * RECORD_BYTES) / 1e6,
              of(name, (x) => x.bare.p50Ms),
              of(name, (x) => x.ours.p50Ms),
              of(name, (x) => x.bare.p99Ms),
              of(name, (x) => x.ours.p99Ms),
            ]),
          );
          for (const { name, target } of kinds) {
            const ratio = of(name, (x) => x.ours.requestsPerSecond / x.bare.requestsPerSecond);
            report.measured(`${name}: requests/s against bare`, ratio >= target, ratio, `≥ ${target}`);
            const p99 = of(name, (x) => x.ours.p99Ms);
            const bound = Math.max(P99_MS, P99_TIMES * of(name, (x) => x.bare.p99Ms));
            report.measured(`${name}: p99 ms`, p99 <= bound, p99, `≤ ${bound}`);
          }
          report.exact('failed requests', failures === 0, failures, '0');
          report.exact('records in the log', stats.log.records >= sent, stats.log.records, `≥ ${sent} answered`);
        } finally {
          await Promise.all([bare.end(), gateway.end()]);
        }
      },
    };
  },
);
