// Servers and load generators as processes of their own, as they run for users: started, waited for, ended by their id.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BenchError } from './experiment.ts';

const run = promisify(execFile);

type Inside = (command: string, args: readonly string[]) => [string, string[]];

export class Server {
  readonly child: ChildProcess;
  /** What it printed when it was ready. */
  readonly text: string;

  private constructor(child: ChildProcess, text: string) {
    this.child = child;
    this.text = text;
  }

  /**
   * Starts a script of node and waits until its stdout matches.
   * @param inside makes of a command line one that runs it somewhere else
   */
  static async start(args: readonly string[], ready: RegExp, inside: Inside = (c, a) => [c, [...a]]): Promise<Server> {
    const child = spawn(...inside(process.execPath, args), { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors = (errors + chunk).slice(-4000)));
    await new Promise<void>((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (ready.test(text)) resolve();
      });
      child.once('exit', (code, signal) =>
        reject(new BenchError(`${args[0]} ended with ${signal ?? code}: ${errors.trim()}`)),
      );
    });
    return new Server(child, text);
  }

  /** Largest resident set so far, in bytes. */
  get peakRssBytes(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN) * 1024;
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    await ended;
  }
}

export interface Gateway extends Server {
  readonly http: string;
  readonly tcp: string;
}

/** Heap caps of `npm start`. */
function heapFlags(root: string): string[] {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } };
  return scripts.start.split(' ').filter((word) => word.startsWith('--max-'));
}

/** The real gateway, as `npm start` runs it. */
export async function startGateway(
  root: string,
  dir: string,
  flags: readonly string[] = [],
  heap: readonly string[] = heapFlags(root),
  inside?: Inside,
): Promise<Gateway> {
  const main = join(root, 'dist', 'src', 'cli', 'main.js');
  const listen = ['--http', '127.0.0.1:0', '--tcp', '127.0.0.1:0', '--log-level', 'error'];
  const server = await Server.start(
    [...heap, main, 'serve', '--dir', dir, ...listen, ...flags],
    /listening on .*\n/,
    inside,
  );
  const http = /http:\/\/[0-9.:]+/.exec(server.text)?.[0] ?? '';
  const tcp = /tcp:\/\/[0-9.:]+/.exec(server.text)?.[0] ?? '';
  return Object.assign(server, { http, tcp });
}

export interface GatewayStats {
  readonly log: { readonly io: string; readonly records: number };
  readonly gateway: Readonly<Record<string, number>>;
}

/** What a gateway says of itself. */
export async function statsOf(http: string): Promise<GatewayStats> {
  return (await (await fetch(`${http}/v1/stats`)).json()) as GatewayStats;
}

export interface Loaded {
  readonly requestsPerSecond: number;
  readonly requests: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly failed: number;
}

/** autocannon in a process of its own: closed loop, so many connections, each with one request at a time. */
export async function autocannon(
  root: string,
  url: string,
  bodyFile: string,
  contentType: string,
  connections: number,
  seconds: number,
): Promise<Loaded> {
  const script = join(root, 'node_modules', 'autocannon', 'autocannon.js');
  const flags = [
    '-c',
    String(connections),
    '-d',
    String(seconds),
    '-m',
    'POST',
    '-j',
    '-H',
    `content-type: ${contentType}`,
  ];
  const { stdout } = await run(process.execPath, [script, ...flags, '-i', bodyFile, url], {
    maxBuffer: 64 * 1024 * 1024,
  });
  const r = JSON.parse(stdout) as {
    requests: { average: number; total: number };
    latency: { p50: number; p99: number };
    non2xx: number;
    errors: number;
    timeouts: number;
  };
  return {
    requestsPerSecond: r.requests.average,
    requests: r.requests.total,
    p50Ms: r.latency.p50,
    p99Ms: r.latency.p99,
    failed: r.non2xx + r.errors + r.timeouts,
  };
}
