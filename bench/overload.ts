// bench:overload — overload that ends: ten times what the gateway accepts is offered for half a minute, then only what is normal. A client
// with a normal rate goes on all the time, in slices of half a second, and one more process brings the flood: bodies of 64 KiB over so
// many connections that more bytes are under way than there is room for. What is offered waits for a free connection, and most of
// it is never sent; whether the gateway was overloaded is judged by what reached it. Policies that drop: it was asked for at least
// twice what it accepted. Block: answers are held back, which keeps connections busy; so requests were held up to maxBlockMs, or
// refused. For each: once no more is offered, refusals stop and the p99 of the normal client is below the SLO within two seconds;
// no request of anybody is left without an answer.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { resolveLoadOptions } from '../src/load/options.ts';
import type { LoadReport } from '../src/load/report.ts';
import { runLoad } from '../src/load/run.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { startGateway, statsOf } from './lib/children.ts';
import type { Cell, Report } from './lib/report.ts';
import { judgeable, ownLimit, type Loaded } from './lib/verdict.ts';

const run = promisify(execFile);
const OVERLOAD = 10;
/** What reaches the gateway, of what it accepts, where it drops. */
const ASKED = 2;
/** Longest that the gateway holds a request, or a body waits for room, whatever the policy. */
const MAX_BLOCK_MS = 100;
const RECOVERY_MS = 2000;
const SLO_P99_MS = 20;
/** Bodies of 64 KiB. */
const FLOOD = { perRequest: 255, recordBytes: 256, connections: 900 };
const NORMAL = { rate: 200, connections: 16, seconds: 0.5 };
/** More than it accepts. */
const FLOOD_RATE = 10_000_000;

/** Of the gateway: small enough that the flood fills it. */
const room = [
  '--ingress-bytes',
  '8MiB',
  '--lane-bytes',
  '4MiB',
  '--max-block-ms',
  String(MAX_BLOCK_MS),
  '--retention-bytes',
  '1GiB',
];
const policies = [
  { name: 'block', flags: ['--overflow', 'block'] },
  { name: 'drop-newest', flags: ['--overflow', 'drop-newest'] },
  { name: 'drop-oldest', flags: ['--overflow', 'drop-oldest'] },
] as const;

interface Slice {
  /** Since the flood has ended; negative before. */
  readonly untilMs: number;
  readonly p99Ms: number;
  readonly refused: number;
  readonly unanswered: number;
  readonly limit: Loaded['limit'];
  readonly verdict: string;
}

const sum = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0);

/** The flood, as a process of its own. */
async function flood(root: string, target: string, rate: number, seconds: number): Promise<LoadReport> {
  const main = join(root, 'dist', 'src', 'cli', 'main.js');
  const { perRequest, recordBytes, connections } = FLOOD;
  const what = ['--per-request', String(perRequest), '--record-bytes', String(recordBytes)];
  const how = ['--connections', String(connections), '--rate', String(rate), '--seconds', String(seconds), '--json'];
  const { stdout } = await run(process.execPath, [main, 'load', '--target', target, ...what, ...how]);
  return JSON.parse(stdout) as LoadReport;
}

/** That the gateway was overloaded by what reached it. Counts need no quiet generator; where they do not show it, its word counts. */
function judgeOverload(report: Report, name: string, flooded: LoadReport): void {
  const refused = sum(flooded.refused);
  if (name === 'block') {
    const held = flooded.heldMs.p99;
    const pass = refused > 0 || held >= MAX_BLOCK_MS;
    const figure = `${Math.round(held)} ms, ${refused}`;
    const target = `≥ ${MAX_BLOCK_MS}, or > 0`;
    report.measured(
      `${name}: requests held, p99; refused`,
      pass,
      figure,
      target,
      refused > 0 ? undefined : ownLimit(flooded),
    );
    return;
  }
  const asked = flooded.sent.requests / flooded.accepted.requests;
  const pass = asked >= ASKED;
  report.exact(`${name}: requests refused under overload`, refused > 0, refused, '> 0');
  report.measured(
    `${name}: asked, of what was accepted`,
    pass,
    asked,
    `≥ ${ASKED}`,
    pass ? undefined : ownLimit(flooded),
  );
}

await runBench(
  'overload',
  () => parseArguments('npm run bench:overload [-- --smoke] [--dir D] [--seconds N]', ['seconds']),
  (a) => {
    const seconds = a.numbers.seconds ?? (a.smoke ? 1 : 30);
    const chosen = a.smoke ? policies.slice(0, 1) : policies;
    return {
      parameters: {
        seconds,
        overload: OVERLOAD,
        flood: FLOOD,
        normal: NORMAL,
        sloP99Ms: SLO_P99_MS,
        room,
        policies: chosen,
      },
      targets: [
        `${OVERLOAD} × what it accepts is offered: dropping, it is asked for ≥ ${ASKED} × that; block, it holds requests ${MAX_BLOCK_MS} ms or refuses them`,
        `${RECOVERY_MS} ms after the last was offered: no refusal, and p99 of the normal client ≤ ${SLO_P99_MS} ms`,
        'no request is left without an answer',
      ],
      async body({ report, root, dataDir }) {
        const rows: Cell[][] = [];
        const results: Record<string, unknown> = {};
        for (const { name, flags } of chosen) {
          const gateway = await startGateway(root, join(dataDir, name.replaceAll(/\W+/g, '-')), [...room, ...flags]);
          const given = new Map<string, unknown>(Object.entries({ ...NORMAL, target: gateway.http }));
          const options = resolveLoadOptions(given);
          const all: { readonly atMs: number; readonly report: LoadReport }[] = [];
          const over = new AbortController();
          const normal = async (): Promise<void> => {
            while (!over.signal.aborted) all.push({ report: await runLoad(options), atMs: performance.now() });
          };
          try {
            report.progress(`${name}: what it accepts`);
            const free = await flood(root, gateway.http, FLOOD_RATE, a.smoke ? 1 : 5);
            const rate = Math.ceil(OVERLOAD * free.accepted.recordsPerSecond);
            report.progress(`${name}: ${rate} records/s, ${seconds} s`);
            const going = normal();
            const flooded = await flood(root, gateway.http, rate, seconds);
            const answeredMs = flooded.seconds * 1000 - seconds * 1000;
            const endedMs = performance.now() - Math.max(0, answeredMs);
            await new Promise((resolve) => setTimeout(resolve, a.smoke ? 1500 : 3 * RECOVERY_MS));
            over.abort();
            await going;
            const slices: Slice[] = all.map(({ atMs, report: r }) => ({
              untilMs: atMs - endedMs,
              p99Ms: r.latencyMs.p99,
              refused: sum(r.refused),
              unanswered: r.unanswered,
              limit: r.limit,
              verdict: r.verdict,
            }));
            const during = slices.filter((s) => s.untilMs < 0);
            const after = judgeable(
              slices.filter((s) => s.untilMs >= 0),
              (s) => [s],
            );
            const bad = after.rounds.filter((s) => s.refused > 0 || s.p99Ms > SLO_P99_MS);
            const recoveredMs = Math.max(0, ...bad.map((s) => s.untilMs));
            report.io = (await statsOf(gateway.http)).log.io;
            results[name] = { free, flooded, slices };
            const duringP99 = Math.max(0, ...during.map((s) => s.p99Ms));
            rows.push([
              name,
              flooded.offered.recordsPerSecond,
              flooded.sent.recordsPerSecond,
              flooded.accepted.recordsPerSecond,
              sum(flooded.refused) * FLOOD.perRequest,
              flooded.sent.requests / flooded.accepted.requests,
              flooded.heldMs.p99,
              duringP99,
              recoveredMs,
            ]);
            judgeOverload(report, name, flooded);
            const hanging = flooded.unanswered + slices.reduce((n, s) => n + s.unanswered, 0);
            report.exact(`${name}: requests without an answer`, hanging === 0, hanging, '0');
            report.measured(
              `${name}: ms until refusals stop and p99 is below ${SLO_P99_MS} ms`,
              recoveredMs <= RECOVERY_MS,
              recoveredMs,
              `≤ ${RECOVERY_MS}`,
              after.note,
            );
          } finally {
            over.abort();
            await gateway.end();
          }
        }
        report.results = results;
        report.table(
          [
            'refuses by',
            'offered/s',
            'sent/s',
            'accepted/s',
            'records refused',
            'asked, of accepted',
            'held, p99 ms',
            'normal p99 meanwhile',
            'recovered, ms',
          ],
          rows,
        );
      },
    };
  },
);
