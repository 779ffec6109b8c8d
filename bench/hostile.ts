// bench:hostile — clients that mean no good beside others that do: 1,000 idle connections, 200 that send a byte a second, 200 that never
// read their answers, and a flood of new connections. A healthy client with a constant rate, in turns alone and among them; at last
// among all of them for longer than any deadline that is there for them. Judged: all of the hostile were there; the healthy p99 among
// them is at most twice that alone, and every healthy request is answered; those who dribble and those who do not read are cut; the
// memory of the gateway stays within the sum that it prints at its start.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { resolveLoadOptions } from '../src/load/options.ts';
import type { LoadReport } from '../src/load/report.ts';
import { runLoad } from '../src/load/run.ts';
import { resolveGatewayOptions } from '../src/base/gateway-options.ts';
import { CONNECTIONS_CHECK_MS, HEADERS_TIMEOUT_MS, READ_STALL_MS, REQUEST_TIMEOUT_MS } from '../src/base/limits.ts';
import { resolveLogOptions } from '../src/base/options.ts';
import { memorySum } from '../src/ingress/memory.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { startGateway, statsOf } from './lib/children.ts';
import { BenchError } from './lib/experiment.ts';
import type { Told } from './lib/hostile-clients.ts';
import type { Cell, Report } from './lib/report.ts';
import { median } from './lib/stats.ts';
import { judgeable } from './lib/verdict.ts';

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
type Group = { readonly kind: string; readonly count: number };

const gatewayOptions = resolveGatewayOptions({ maxConnections: MAX_CONNECTIONS });
/** Longest that any of them is borne: the gateway does not read for maxBlockMs, and looks each CONNECTIONS_CHECK_MS. */
const DEADLINES_MS =
  Math.max(HEADERS_TIMEOUT_MS, REQUEST_TIMEOUT_MS, READ_STALL_MS) + gatewayOptions.maxBlockMs + CONNECTIONS_CHECK_MS;
const LONG_SECONDS = Math.ceil(DEADLINES_MS / 1000) + 10;
/**
 * Who does not read stalls once the kernel has taken what it takes of its answers, some MiB. Two hundred at once hardly get there: there is
 * room for six pages, and who waits too long for it is refused, and ends. In the long phase some come before the others.
 */
const EARLY = { count: 10, ms: 5000 };

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

  /** Resolves once each of its first connections is there or has failed. */
  static async start(root: string, port: string, { kind, count }: Group): Promise<Hostile> {
    const script = join(root, 'dist', 'bench', 'lib', 'hostile-clients.js');
    const args = [script, port, '/v1/streams/load/records', kind, String(count)];
    const hostile = new Hostile(spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
    const ended = once(hostile.#child, 'exit').then(() => {
      throw new BenchError(`the process of hostile clients (${kind}) has ended by itself`);
    });
    ended.catch(() => undefined);
    while (!hostile.#said.includes('\n')) await Promise.race([once(hostile.#child.stdout!, 'data'), ended]);
    return hostile;
  }

  /** What became of its connections. */
  async end(): Promise<Told> {
    const ended = once(this.#child, 'close');
    this.#child.stdin!.end();
    await ended;
    return JSON.parse(this.#said.trim().split('\n').at(-1)!) as Told;
  }
}

const nameOf = (c: readonly Group[]): string => (c.length > 1 ? 'all of them' : c[0].kind);
const sumOf = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0);

/** Of all phases in which they were. */
function judgeThere(report: Report, name: string, told: readonly Told[]): void {
  const asked = told.reduce((sum, t) => sum + t.asked, 0);
  const connected = told.reduce((sum, t) => sum + t.connected, 0);
  const failed = [...new Set(told.flatMap((t) => Object.keys(t.failed)))].join(', ');
  const figure = failed === '' ? connected : `${connected}, others ${failed}`;
  report.exact(`${name}: connected, of those that came`, connected === asked, figure, `${asked}, all of them`);
}

interface Long {
  readonly among: LoadReport;
  readonly told: readonly Told[];
  /** By the gateway's counters. */
  readonly timedOut: number;
  readonly stalled: number;
}

function judgeLong(report: Report, { told, timedOut, stalled }: Long): void {
  const cut = (what: string): number => told.reduce((sum, t) => sum + (t.cut[what] ?? 0), 0);
  for (const what of ['head', 'body'] as const) {
    const name = `longer than the deadlines: cut with half a ${what}, a byte a second`;
    report.measured(name, cut(what) > 0, cut(what), '> 0');
  }
  report.measured('longer than the deadlines: timed_out_total', timedOut > 0, timedOut, '> 0');
  report.measured('longer than the deadlines: stalled_total, readers that do not read', stalled > 0, stalled, '> 0');
}

await runBench(
  'hostile',
  () => parseArguments('npm run bench:hostile [-- --smoke] [--dir D] [--rounds N] [--seconds N]', ['seconds']),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 5);
    const seconds = a.numbers.seconds ?? (a.smoke ? 1 : 5);
    const longSeconds = a.smoke ? 1 : LONG_SECONDS;
    const kinds: readonly Group[] = a.smoke ? all.map(({ kind, count }) => ({ kind, count: count / 10 })) : all;
    return {
      parameters: { rounds, seconds, longSeconds, healthy: HEALTHY, hostile: kinds, maxConnections: MAX_CONNECTIONS },
      targets: [
        'every hostile client is there before the healthy are measured',
        `p99 of the healthy among each kind, and among all of them: ≤ ${P99_TIMES} × alone, medians of the rounds' ratios`,
        'every healthy request is answered, none is refused',
        `among all of them for ${longSeconds} s, longer than any deadline: the same, and who dribbles or does not read is cut`,
        'peak RSS of the gateway ≤ the sum that it prints',
      ],
      async body({ report, root, dataDir }) {
        const flags = ['--max-connections', String(MAX_CONNECTIONS), '--retention-bytes', '1GiB'];
        const sumBytes = memorySum(resolveLogOptions({ dir: dataDir }), gatewayOptions).totalBytes;
        const gateway = await startGateway(root, join(dataDir, 'log'), flags);
        const { port } = new URL(gateway.http);
        const options = resolveLoadOptions(
          new Map<string, unknown>(Object.entries({ ...HEALTHY, seconds, target: gateway.http })),
        );
        const start = (groups: readonly Group[]): Promise<Hostile[]> =>
          Promise.all(groups.map((group) => Hostile.start(root, port, group)));
        const among = async (hostile: readonly Hostile[], seconds: number): Promise<[LoadReport, Told[]]> => {
          const healthy = await runLoad({ ...options, seconds });
          return [healthy, await Promise.all(hostile.map((h) => h.end()))];
        };
        const results: Record<string, Round[]> = {};
        const cases = [...kinds.map((k) => [k]), kinds];
        const told: Record<string, Told[]> = {};
        try {
          // Records for the deaf to ask for, and warm code.
          await runLoad({ ...options, perRequest: 100, rate: 20_000, seconds: a.smoke ? 0.5 : 3 });
          for (let r = 0; r < rounds; r++) {
            for (const c of cases) {
              const name = nameOf(c);
              report.progress(`${name}, round ${r + 1} of ${rounds}`);
              const alone = await runLoad(options);
              const [beside, said] = await among(await start(c), seconds);
              (told[name] ??= []).push(...said);
              (results[name] ??= []).push({ alone, among: beside });
            }
          }
          report.progress(`all of them, ${longSeconds} s`);
          const before = (await statsOf(gateway.http)).gateway;
          const early = await start([{ kind: 'deaf', count: EARLY.count }]);
          await delay(a.smoke ? 0 : EARLY.ms);
          const others = kinds.map((k) => (k.kind === 'deaf' ? { ...k, count: k.count - EARLY.count } : k));
          const [healthy, said] = await among([...early, ...(await start(others))], longSeconds);
          const { log, gateway: after } = await statsOf(gateway.http);
          const long: Long = {
            among: healthy,
            told: said,
            timedOut: after.timedOut - before.timedOut,
            stalled: after.stalled - before.stalled,
          };
          report.io = log.io;
          report.results = { rounds: results, told, long };
          const rows: Cell[][] = [];
          const judge = (name: string, c: readonly Group[], of: readonly Round[], told: readonly Told[]): void => {
            judgeThere(report, name, told);
            const { rounds: fit, note } = judgeable(of, (x) => [x.alone, x.among]);
            const ratio = median(fit.map((x) => x.among.latencyMs.p99 / x.alone.latencyMs.p99));
            const lost = of.reduce((n, { among: x }) => n + x.unanswered + sumOf(x.refused), 0);
            const unsent = fit.reduce((n, x) => n + x.among.unsent, 0);
            const p99 = (pick: (x: Round) => LoadReport): number => median(fit.map((x) => pick(x).latencyMs.p99));
            const cut = told.reduce((n, t) => n + sumOf(t.cut), 0);
            const count = c.map((k) => k.count).join(' + ');
            rows.push([name, count, p99((x) => x.alone), p99((x) => x.among), ratio, lost, unsent, cut]);
            report.measured(`${name}: p99 over p99 alone`, ratio <= P99_TIMES, ratio, `≤ ${P99_TIMES}`, note);
            report.exact(`${name}: healthy requests refused or without an answer`, lost === 0, lost, '0');
            report.measured(`${name}: healthy requests never sent`, unsent === 0, unsent, '0', note);
          };
          for (const c of cases) judge(nameOf(c), c, results[nameOf(c)], told[nameOf(c)]);
          const longName = `longer than the deadlines, ${longSeconds} s`;
          const longRounds = results['all of them'].map(({ alone }) => ({ alone, among: healthy }));
          judge(longName, kinds, longRounds, said);
          judgeLong(report, long);
          report.table(
            [
              'beside',
              'connections',
              'p99 alone, ms',
              'p99 among them',
              'ratio',
              'refused or lost',
              'never sent',
              'cut',
            ],
            rows,
          );
          const rss = gateway.peakRssBytes;
          const share = `${(rss / MIB).toFixed(0)}, ${((100 * rss) / sumBytes).toFixed(0)} % of it`;
          report.exact('peak RSS, MiB', rss <= sumBytes, share, `≤ ${Math.ceil(sumBytes / MIB)}, the printed sum`);
        } finally {
          await gateway.end();
        }
      },
    };
  },
);
