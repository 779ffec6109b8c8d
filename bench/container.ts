// bench:container — the gateway within 256 MiB: floods of several kinds of bodies, many connections and framed producers, in a
// memory cgroup (version 1 or 2; needs root) with the settings of the image, read from the Dockerfile, and with those for many
// connections. From outside, each 100 ms: resident memory of the process, and what the group is charged. Nothing is killed, and
// what was answered is in the log.

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import { resolveGatewayOptions } from '../src/base/gateway-options.ts';
import { resolveLogOptions } from '../src/base/options.ts';
import { resolveServeConfig } from '../src/cli/config.ts';
import { memorySum } from '../src/ingress/memory.ts';
import { parseArguments, runBench, type Bench } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import type { Gateway } from './lib/children.ts';
import { ofImage, startInGroup } from './lib/image.ts';
import { MemoryGroup } from './lib/memory-group.ts';
import type { Cell } from './lib/report.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const LIMIT_MIB = 256;
const RSS_SHARE = 0.85;
const SAMPLE_MS = 100;
const IDLE_CONNECTIONS = 1000;

/** Of docs/operate.md: 1,100 connections in the same container. */
const manyConnections: Readonly<Record<string, string>> = {
  SPILLWAY_LANE_BYTES: '4MiB',
  SPILLWAY_MAX_WAITING_BYTES: '2MiB',
  SPILLWAY_INGRESS_BYTES: '4MiB',
  SPILLWAY_DECODED_BODY_BYTES: '3MiB',
  SPILLWAY_DEDUPE_KEYS: '10000',
  SPILLWAY_MAX_CONNECTIONS: '1100',
  SPILLWAY_RECEIVE_BUFFER_BYTES: '4KiB',
};

interface Load {
  readonly name: string;
  readonly kind: 'http' | 'frames';
  readonly connections: number;
  readonly idle: number;
  readonly body?: Uint8Array;
  readonly type?: string;
  readonly encoding?: string;
}

const line = (): string => `{"event":"${randomBytes(120).toString('hex')}"}\n`;

function lines(bytes: number): Buffer {
  return Buffer.from(Array.from({ length: Math.floor(bytes / 253) }, line).join(''));
}

const ndjson = 'application/x-ndjson';

/** @param decodedMiB what a body may be once decoded */
function loads(decodedMiB: number, idle: number): Load[] {
  const plain = lines(2.4 * MIB);
  // Each a hundred times as large as it comes.
  const long = `{"event":"${'x'.repeat(4000)}"}\n`;
  const packed = Buffer.from(long.repeat(Math.floor((decodedMiB * MIB) / long.length)));
  const http = { kind: 'http', idle, encoding: 'identity', type: ndjson } as const;
  return [
    { ...http, name: '256 bytes', connections: 64, body: lines(256) },
    { ...http, name: '64 KiB', connections: 64, body: lines(65_536) },
    { ...http, name: '2.4 MiB', connections: 32, body: plain },
    { ...http, name: 'gzip', connections: 64, body: gzipSync(packed), encoding: 'gzip' },
    { ...http, name: 'gzip of random lines', connections: 64, body: gzipSync(plain), encoding: 'gzip' },
    { name: 'frames of one record of 16 bytes', kind: 'frames', connections: 8, idle },
  ];
}

interface Peak {
  rssMiB: number;
  anonymousMiB: number;
  usageMiB: number;
  groupAnonymousMiB: number;
}

function sample(gateway: Gateway, group: MemoryGroup, peak: Peak): void {
  const status = readFileSync(`/proc/${gateway.child.pid}/status`, 'latin1');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024;
  const { usageBytes, anonymousBytes } = group.events();
  peak.rssMiB = Math.max(peak.rssMiB, of('VmRSS'));
  peak.anonymousMiB = Math.max(peak.anonymousMiB, of('RssAnon') + of('RssShmem'));
  peak.usageMiB = Math.max(peak.usageMiB, usageBytes / MIB);
  peak.groupAnonymousMiB = Math.max(peak.groupAnonymousMiB, anonymousBytes / MIB);
}

interface Flooded {
  readonly answers: Record<string, number>;
  readonly cut: number;
}

async function flood(bench: Bench, gateway: Gateway, load: Load, seconds: number): Promise<Flooded> {
  const lib = join(bench.root, 'dist', 'bench', 'lib');
  if (load.kind === 'frames') {
    const args = [join(lib, 'append-rate.js'), gateway.tcp, String(seconds), '16', '1'];
    const all = await Promise.all(Array.from({ length: load.connections }, () => run(process.execPath, args)));
    const records = all.reduce((sum, { stdout }) => sum + (JSON.parse(stdout) as { records: number }).records, 0);
    return { answers: { ACK: records }, cut: 0 };
  }
  const file = join(bench.dataDir, 'body');
  writeFileSync(file, load.body!);
  const args = [`${gateway.http}/v1/streams/bench/records`, file, load.type!, load.encoding!];
  const { stdout } = await run(process.execPath, [
    join(lib, 'flood.js'),
    ...args,
    String(load.connections),
    String(seconds),
  ]);
  return JSON.parse(stdout) as Flooded;
}

function idle(gateway: Gateway, connections: number): Socket[] {
  const { hostname, port } = new URL(gateway.http);
  return Array.from({ length: connections }, () => connect(Number(port), hostname).on('error', () => undefined));
}

async function measure(bench: Bench, name: string, settings: Record<string, string>, seconds: number, few: boolean) {
  const { report } = bench;
  const config = resolveServeConfig({}, settings);
  const log = resolveLogOptions(config.log);
  const options = resolveGatewayOptions(config.gateway);
  const sumMiB = memorySum(log, options).totalBytes / MIB;
  const group = MemoryGroup.make(`spillway-bench-${process.pid}`, LIMIT_MIB * MIB);
  const dir = join(bench.dataDir, 'log');
  const rows: Cell[][] = [];
  let gateway: Gateway | undefined;
  try {
    const more = ['--retention-bytes', '256MiB', '--memory-limit', `${LIMIT_MIB}MiB`];
    gateway = await startInGroup(bench.root, dir, group, settings, more);
    const held = options.maxConnections > IDLE_CONNECTIONS ? IDLE_CONNECTIONS : 0;
    const all = loads(options.decodedBodyBytes / MIB, held);
    let answered = 0;
    for (const load of few ? all.slice(0, 2) : all) {
      report.progress(`${name}: ${load.name}, ${seconds} s`);
      const peak: Peak = { rssMiB: 0, anonymousMiB: 0, usageMiB: 0, groupAnonymousMiB: 0 };
      const sockets = idle(gateway, load.idle);
      const timer = setInterval(() => sample(gateway!, group, peak), SAMPLE_MS);
      try {
        const { answers, cut } = await flood(bench, gateway, load, seconds);
        const records = load.body === undefined ? 1 : decodedLines(load);
        answered += ((answers['200'] ?? 0) + (answers['ACK'] ?? 0)) * records;
        const told = Object.entries(answers).map(([status, n]) => `${status}: ${n}`);
        rows.push([
          name,
          load.name,
          load.connections,
          load.idle,
          peak.rssMiB,
          peak.anonymousMiB,
          peak.groupAnonymousMiB,
          peak.usageMiB,
          `${told.join(', ')}${cut > 0 ? `, cut: ${cut}` : ''}`,
        ]);
        const most = RSS_SHARE * LIMIT_MIB;
        report.measured(`${name}, ${load.name}: RSS, MiB`, peak.rssMiB <= most, peak.rssMiB, `≤ ${most}`);
      } finally {
        clearInterval(timer);
        for (const socket of sockets) socket.destroy();
      }
    }
    const { log: figures } = (await (await fetch(`${gateway.http}/v1/stats`)).json()) as {
      log: { records: number; io: string };
    };
    report.io = figures.io;
    const { oomKills } = group.events();
    report.exact(`${name}: killed by the kernel`, oomKills === 0, oomKills, '0');
    report.exact(`${name}: records in the log`, figures.records >= answered, figures.records, `≥ ${answered} answered`);
    report.exact(`${name}: memory sum, MiB`, sumMiB <= LIMIT_MIB, Math.ceil(sumMiB), `≤ ${LIMIT_MIB}`);
  } finally {
    await gateway?.end();
    group.remove();
    rmSync(dir, { recursive: true, force: true });
  }
  return rows;
}

const linesOf = new WeakMap<Load, number>();

function decodedLines(load: Load): number {
  let count = linesOf.get(load);
  if (count === undefined) {
    // What a body holds is known to the gateway's answers as well; here it is counted from what was packed.
    const decoded = load.encoding === 'gzip' ? gunzipSync(load.body!) : Buffer.from(load.body!);
    count = 0;
    for (let at = decoded.indexOf(10); at >= 0; at = decoded.indexOf(10, at + 1)) count++;
    linesOf.set(load, count);
  }
  return count;
}

await runBench(
  'container',
  () => parseArguments('npm run bench:container [-- --smoke] [--dir D] [--seconds N]', ['seconds']),
  (a) => {
    const seconds = a.numbers.seconds ?? (a.smoke ? 1 : 10);
    return {
      parameters: { seconds, limitMiB: LIMIT_MIB, sampleMs: SAMPLE_MS, idle: IDLE_CONNECTIONS, manyConnections },
      targets: [
        `in a cgroup of ${LIMIT_MIB} MiB: nothing is killed, and the memory sum is below it`,
        `RSS ≤ ${RSS_SHARE} of the limit under every load`,
        'every record that was answered is in the log',
      ],
      async body(bench) {
        if (process.platform !== 'linux' || process.getuid?.() !== 0)
          throw new BenchError('cgroups need Linux and root');
        const image = await measure(bench, 'image', ofImage(bench.root, 'SPILLWAY_'), seconds, a.smoke);
        const many = await measure(bench, 'many connections', { ...manyConnections }, seconds, a.smoke);
        bench.report.results = [...image, ...many];
        bench.report.table(
          ['settings', 'load', 'active', 'idle', 'RSS MiB', 'anonymous', 'group: anonymous', 'group: usage', 'answers'],
          [...image, ...many],
        );
      },
    };
  },
);
