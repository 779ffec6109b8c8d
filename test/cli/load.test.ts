// spillway load as a person runs it: flags in, a report out, the documented exit status.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { temporaryDirectory } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = temporaryDirectory('spillway-load-cli-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));

/** Beside a server in this process: so it must not block. */
async function load(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [main, 'load', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (d: Buffer) => (stdout += d.toString()));
  child.stderr.on('data', (d: Buffer) => (stderr += d.toString()));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}

/** `path` without a query is accepted, all else is full. */
async function server(t: { teardown(fn: () => void): void }, status: number): Promise<string> {
  const http = createServer((req, res) => {
    req.resume();
    const body = status === 200 ? { accepted: 1 } : { error: 'BACKLOG_FULL' };
    req.on('end', () => res.writeHead(status).end(JSON.stringify(body)));
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.teardown(() => {
    http.closeAllConnections();
    http.close();
  });
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
}

t.test('a run over HTTP: text and JSON', async (t) => {
  const url = await server(t, 200);
  const text = await load('--target', url, '--rate', '100', '--seconds', '0.5');
  t.equal(text.status, 0, text.stderr);
  t.match(text.stdout, new RegExp(`^${url}: `));
  t.match(text.stdout, /\n {2}offered +100 records\/s, 50 requests\n/);
  t.match(text.stdout, /\n {2}latency from the intended time +p50 .* ms, p99 .* ms, p99\.9 .* ms, max .* ms\n/);
  t.match(text.stdout, /\n {2}refused +none\n/);
  const json = await load('--target', url, '--rate', '100', '--seconds', '0.5', '--pattern', 'poisson', '--json');
  const report = JSON.parse(json.stdout) as object;
  t.match(report, {
    setting: { target: url, pattern: 'poisson', rate: 100 },
    latencyMs: { p50: Number, p99: Number, p999: Number, max: Number },
    offered: { requests: Number },
    limit: /none|target|generator/,
    verdict: String,
  });
});

t.test('nothing accepted: exit 1, and the code says why', async (t) => {
  const url = await server(t, 429);
  const run = await load('--target', url, '--rate', '100', '--seconds', '0.2');
  t.equal(run.status, 1);
  t.match(run.stdout, /refused +BACKLOG_FULL 20\n/);
});

t.test('embedded, with a trace', async (t) => {
  const trace = join(root, 'trace.csv');
  writeFileSync(trace, 'time,x\n10,1\n10.5,1\n12,1\n');
  const dir = join(root, 'log');
  const run = await load(
    '--target',
    'embedded',
    '--dir',
    dir,
    '--pattern',
    'trace',
    '--trace',
    trace,
    '--time-scale',
    '10',
  );
  t.equal(run.status, 0, run.stderr);
  t.match(run.stdout, /offered .* 3 requests\n/);
  const read = spawnSync(process.execPath, [main, 'read', '--dir', dir, '--stream', 'load'], { encoding: 'utf8' });
  t.equal(read.stdout.trim().split('\n').length, 3);
});

t.test('a time scale beyond what the generator can offer: it says that it was the limit itself', async (t) => {
  const trace = join(root, 'fast.csv');
  const ROWS = 3000;
  writeFileSync(trace, `time\n${Array.from({ length: ROWS }, (_, i) => 1000 + i).join('\n')}\n`);
  // 3,000 requests within 3 ms.
  const args = ['--pattern', 'trace', '--trace', trace, '--time-scale', '1000000', '--json'];
  for (const target of [['embedded', '--dir', join(root, 'fast')], [await server(t, 200)]]) {
    const run = await load('--target', ...target, ...args);
    t.equal(run.status, 0, run.stderr);
    const report = JSON.parse(run.stdout) as { limit: string; verdict: string; offered: { requests: number } };
    t.equal(report.offered.requests, ROWS);
    t.equal(report.limit, 'generator', `${target[0]}: ${report.verdict}`);
    t.match(report.verdict, /^this generator was the limit: /);
  }
});

t.test('wrong input is one line and exit 2', async (t) => {
  const traceOf = (name: string, text: string): string[] => {
    writeFileSync(join(root, name), text);
    return ['--target', 'embedded', '--pattern', 'trace', '--trace', join(root, name)];
  };
  for (const [args, message] of [
    [['--target', 'embedded', '--rate', '0'], /option '--rate': expected a number from 0\.001 .*, got 0\n/],
    [['--target', 'embedded', '--rate=-5'], /option '--rate': expected a number from 0\.001 .*, got -5\n/],
    [['--target', 'embedded', '--time-scale', '0'], /option '--time-scale': expected a number from 0\.001 .*, got 0\n/],
    [['--target', 'embedded', '--seconds=-1'], /option '--seconds': expected a number from 0\.001 .*, got -1\n/],
    [traceOf('empty.csv', ''), /empty\.csv: option 'trace': expected at least one row, got an empty file \[/],
    [traceOf('header.csv', 'time,x\n'), /header\.csv: option 'trace': expected at least one row \[/],
    [traceOf('unsorted.csv', 'time\n2\n1\n'), /unsorted\.csv:3: option 'trace': expected times in order, got '1'/],
    [
      traceOf('column.csv', 'id,x\n1,1\n'),
      /column\.csv:1: option 'trace': expected a column timestamp, time, ts or at/,
    ],
    [traceOf('value.csv', 'time\nsoon\n'), /value\.csv:2: option 'trace': expected a time, got 'soon'/],
    [[], /option 'target'.*\[INVALID_OPTION\]/],
    [['--target', 'ftp://x'], /option 'target': expected http.*\[INVALID_OPTION\]/],
    [['--target', 'embedded', '--rate', 'fast'], /--rate.*got 'fast'/],
    [['--target', 'embedded', '--stream', '../x'], /\[INVALID_STREAM\]/],
    [
      ['--target', 'embedded', '--pattern', 'trace', '--trace', join(root, 'gone')],
      /gone: option 'trace'.*\[INVALID_OPTION\]/,
    ],
    [['--target', 'embedded', '--per-requests', '1'], /--per-request/],
  ] as const) {
    const run = await load(...args);
    t.equal(run.status, 2, `${args.join(' ')}: ${run.stderr}`);
    t.match(run.stderr, message);
    t.match(run.stderr, /^(?:spillway|error): [^\n]*\n(?:\(Did you mean .*\)\n)?$/, 'one line');
  }
});
