// bench:clients — one group commit for all clients: durable writes per record while connections grow, each with one request of
// one 256-byte record at a time; and the memory of the gateway beside the sum that it prints when it starts.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArguments, runBench } from './lib/bench.ts';
import { autocannon, startGateway } from './lib/children.ts';
import { median } from './lib/stats.ts';

const CONNECTIONS = [1, 16, 256, 1000];
const RECORD_BYTES = 256;
/** From one connection to the most, durable writes per record fall at least by this factor. */
const FALL = 10;

interface Round {
  readonly connections: number;
  readonly records: number;
  readonly requestsPerSecond: number;
  readonly p99Ms: number;
  readonly writesPerRecord: number;
  readonly failed: number;
}

interface Stats {
  readonly log: { readonly io: string; readonly records: number; readonly systemCalls: Record<string, number> };
}

await runBench(
  'clients',
  () => parseArguments('npm run bench:clients [-- --smoke] [--dir D] [--rounds N]'),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 5);
    const seconds = a.smoke ? 1 : 5;
    const counts = a.smoke ? [1, 16] : CONNECTIONS;
    return {
      parameters: { rounds, seconds, connections: counts, recordBytes: RECORD_BYTES, lingerMs: 0 },
      targets: [
        `durable writes per record fall with every step, and by ${FALL} × from the first to the last, medians`,
        'peak RSS of the gateway ≤ the memory sum that it prints',
        'every request was answered 2xx',
      ],
      async body({ report, root, dataDir }) {
        const body = join(dataDir, 'record');
        writeFileSync(body, 'x'.repeat(RECORD_BYTES));
        const flags = ['--linger-ms', '0', '--retention-bytes', '512MiB'];
        const gateway = await startGateway(root, join(dataDir, 'log'), flags);
        const explain = execFileSync(
          process.execPath,
          [join(root, 'dist', 'src', 'cli', 'main.js'), 'config', 'explain', '--json', ...flags],
          { encoding: 'utf8' },
        );
        const sumBytes = (JSON.parse(explain) as { memory: { totalBytes: number } }).memory.totalBytes;
        const stats = async (): Promise<Stats> => (await (await fetch(`${gateway.http}/v1/stats`)).json()) as Stats;
        const results: Round[] = [];
        try {
          for (let r = 0; r < rounds; r++) {
            for (const connections of counts) {
              report.progress(`${connections} connections, round ${r + 1} of ${rounds}`);
              const before = (await stats()).log;
              const url = `${gateway.http}/v1/streams/bench/records`;
              const load = await autocannon(root, url, body, 'application/octet-stream', connections, seconds);
              const { log } = await stats();
              report.io = log.io;
              const records = log.records - before.records;
              results.push({
                connections,
                records,
                requestsPerSecond: load.requestsPerSecond,
                p99Ms: load.p99Ms,
                writesPerRecord: (log.systemCalls.commitWrites - before.systemCalls.commitWrites) / records,
                failed: load.failed,
              });
            }
          }
          const { peakRssBytes } = gateway;
          report.results = { rounds: results, peakRssBytes, sumBytes };
          const of = (connections: number, pick: (x: Round) => number): number =>
            median(results.filter((x) => x.connections === connections).map(pick));
          report.table(
            ['connections', 'records/s', 'p99 ms', 'durable writes per record', 'records per write'],
            counts.map((n) => [
              n,
              of(n, (x) => x.requestsPerSecond),
              of(n, (x) => x.p99Ms),
              of(n, (x) => x.writesPerRecord),
              of(n, (x) => 1 / x.writesPerRecord),
            ]),
          );
          const writes = counts.map((n) => of(n, (x) => x.writesPerRecord));
          const falling = writes.every((w, i) => i === 0 || w < writes[i - 1]);
          report.measured(
            'durable writes per record fall',
            falling,
            writes.map((w) => w.toFixed(4)).join(' → '),
            'each less',
          );
          const fall = writes[0] / writes.at(-1)!;
          report.measured('first over last', fall >= FALL, fall, `≥ ${FALL}`);
          report.exact(
            'peak RSS MiB',
            peakRssBytes <= sumBytes,
            peakRssBytes / 2 ** 20,
            `≤ ${sumBytes / 2 ** 20}, the printed sum`,
          );
          const failed = results.reduce((sum, x) => sum + x.failed, 0);
          report.exact('failed requests', failed === 0, failed, '0');
        } finally {
          await gateway.end();
        }
      },
    };
  },
);
