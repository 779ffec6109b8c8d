// bench:hostile — clients that mean no good beside others that do: 1,000 idle connections, 200 that send a byte a second, 200 that never
// read their answers, and a flood of new connections. A healthy client with a constant rate, in turns alone and among them. Judged:
// its p99 among them is at most twice that alone, all of its requests are answered, and the memory of the gateway stays within the
// sum that it prints at its start.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { resolveLoadOptions } from '../src/load/options.ts';
import type { LoadReport } from '../src/load/report.ts';
import { runLoad } from '../src/load/run.ts';
import { resolveGatewayOptions } from '../src/base/gateway-options.ts';
import { resolveLogOptions } from '../src/base/options.ts';
import { memorySum } from '../src/ingress/memory.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { startGateway } from './lib/children.ts';
import type { Cell } from './lib/report.ts';
import { median } from './lib/stats.ts';

const MIB = 1024 * 1024;
const P99_TIMES = 2;
const HEALTHY = { rate: 500, connections: 32, recordBytes: 256 };
const MAX_CONNECTIONS = 2048;

const all = [
  { kind: 'idle', count: 1000 },
  { kind: 'dribble', count: 200 },
  { kind: 'deaf', count: 200 },
  { kind: 'flood', count: 500 },
] as const;

interface Round {
  readonly alone: LoadReport;
  readonly among: LoadReport;
}

class Hostile {
  readonly #child: ChildProcess;
  #said = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (this.#said += chunk));
  }

  static async start(root: string, port: string, kind: string, count: number): Promise<Hostile> {
    const script = join(root, 'dist', 'bench', 'lib', 'hostile-clients.js');
    const args = [script, port, '/v1/streams/load/records', kind, String(count)];
    const hostile = new Hostile(spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
    while (!hostile.#said.includes('ready')) await once(hostile.#child.stdout!, 'data');
    return hostile;
  }

  /** What became of its connections. */
  async end(): Promise<Record<string, number>> {
    const ended = once(this.#child, 'close');
    this.#child.stdin!.end();
    await ended;
    return JSON.parse(this.#said.trim().split('\n').at(-1)!) as Record<string, number>;
  }
}

await runBench(
  'hostile',
  () => parseArguments('npm run bench:hostile [-- --smoke] [--dir D] [--rounds N] [--seconds N]', ['seconds']),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 5);
    const seconds = a.numbers.seconds ?? (a.smoke ? 1 : 6);
    const kinds = a.smoke ? all.map(({ kind, count }) => ({ kind, count: count / 10 })) : all;
    return {
      parameters: { rounds, seconds, healthy: HEALTHY, hostile: kinds, maxConnections: MAX_CONNECTIONS },
      targets: [
        `p99 of the healthy among each kind, and among all of them: ≤ ${P99_TIMES} × alone, medians of the rounds' ratios`,
        'every healthy request is answered, none is refused',
        'peak RSS of the gateway ≤ the sum that it prints',
      ],
      async body({ report, root, dataDir }) {
        const flags = ['--max-connections', String(MAX_CONNECTIONS), '--retention-bytes', '1GiB'];
        const sumBytes = memorySum(
          resolveLogOptions({ dir: dataDir }),
          resolveGatewayOptions({ maxConnections: MAX_CONNECTIONS }),
        ).totalBytes;
        const gateway = await startGateway(root, join(dataDir, 'log'), flags);
        const { port } = new URL(gateway.http);
        const options = resolveLoadOptions(
          new Map<string, unknown>(Object.entries({ ...HEALTHY, seconds, target: gateway.http })),
        );
        const healthy = (): Promise<LoadReport> => runLoad(options);
        const results: Record<string, Round[]> = {};
        const cases = [...kinds.map((k) => [k]), kinds];
        const nameOf = (c: (typeof cases)[number]): string => (c.length > 1 ? 'all of them' : c[0].kind);
        const counts: Record<string, unknown> = {};
        try {
          // Records for the deaf to ask for, and warm code.
          await runLoad({ ...options, perRequest: 100, rate: 20_000, seconds: a.smoke ? 0.5 : 3 });
          for (let r = 0; r < rounds; r++) {
            for (const c of cases) {
              const name = nameOf(c);
              report.progress(`${name}, round ${r + 1} of ${rounds}`);
              const alone = await healthy();
              const hostile = await Promise.all(c.map(({ kind, count }) => Hostile.start(root, port, kind, count)));
              const among = await healthy();
              counts[name] = await Promise.all(hostile.map((h) => h.end()));
              (results[name] ??= []).push({ alone, among });
            }
          }
          report.io = ((await (await fetch(`${gateway.http}/v1/stats`)).json()) as { log: { io: string } }).log.io;
          report.results = { rounds: results, counts };
          const rows: Cell[][] = [];
          for (const c of cases) {
            const name = nameOf(c);
            const of = results[name];
            const ratio = median(of.map((x) => x.among.latencyMs.p99 / x.alone.latencyMs.p99));
            const lost = of.reduce(
              (n, x) => n + x.among.unanswered + Object.values(x.among.refused).reduce((s, v) => s + v, 0),
              0,
            );
            const count = c.map((k) => k.count).join(' + ');
            const p99 = (pick: (x: Round) => LoadReport): number => median(of.map((x) => pick(x).latencyMs.p99));
            rows.push([name, count, p99((x) => x.alone), p99((x) => x.among), ratio, lost]);
            report.measured(`${name}: p99 over p99 alone`, ratio <= P99_TIMES, ratio, `≤ ${P99_TIMES}`);
            report.exact(`${name}: healthy requests refused or without an answer`, lost === 0, lost, '0');
          }
          report.table(['beside', 'connections', 'p99 alone, ms', 'p99 among them', 'ratio', 'refused or lost'], rows);
          const rss = gateway.peakRssBytes;
          report.exact('peak RSS, MiB', rss <= sumBytes, rss / MIB, `≤ ${Math.ceil(sumBytes / MIB)}, the printed sum`);
        } finally {
          await gateway.end();
        }
      },
    };
  },
);
