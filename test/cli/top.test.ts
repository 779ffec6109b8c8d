// spillway top: what it shows of two looks, and as a person runs it against a real gateway: piped, on a terminal, with wrong input.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { topLines, type Look } from '../../src/cli/top-view.ts';
import { Histogram } from '../../src/platform/histogram.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { Inside } from '../support/gateway-inside.ts';
import { ask, bytes, post } from '../support/gateway-talk.ts';
import { directory, until, within } from '../support/log-support.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const { NODE_OPTIONS: _, ...env } = process.env;
const hasScript = spawnSync('script', ['--version']).status === 0;

const ESCAPE = '\x1b';
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Beside a gateway in this process: so it must not block. */
async function top(...args: string[]): Promise<Run> {
  const child = spawn(process.execPath, [main, 'top', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (d: Buffer) => (stdout += d.toString()));
  child.stderr.on('data', (d: Buffer) => (stderr += d.toString()));
  const [status] = (await within(once(child, 'close'), 'top ends', 20_000)) as [number | null];
  return { status, stdout, stderr };
}

async function lookAt(g: Inside): Promise<Look> {
  return JSON.parse((await ask(g.port, { path: '/v1/stats?histograms=1' })).text) as Look;
}

/** Posts records one after the other until told to stop. */
function load(g: Inside): { stop(): Promise<void> } {
  let going = true;
  const posting = (async (): Promise<void> => {
    while (going) await post(g.port, 's', 'x'.repeat(100), bytes);
  })();
  return {
    stop: () => {
      going = false;
      return posting;
    },
  };
}

const lineOf = (lines: readonly string[], name: string): string =>
  lines.find((line) => line.trim().startsWith(`${name} `)) ?? `no line ${name}`;

t.test('of two looks 2 s apart: what came between them, whatever was before', async (t) => {
  const g = await Inside.start(t);
  for (let i = 0; i < 20; i++) await post(g.port, 's', 'x', bytes);
  const before = await lookAt(g);
  const latency = new Histogram();
  latency.record(3000, 90);
  latency.record(30_000, 10);
  const write = new Histogram();
  write.record(2000, 100);
  const plus = (image: Look['histograms']['latency'], more: Histogram): Look['histograms']['latency'] => {
    const all = Histogram.between({ sum: 0, max: 0, buckets: [] }, image);
    all.merge(more);
    return all.image;
  };
  const now: Look = {
    ...before,
    log: {
      ...before.log,
      uptimeMs: before.log.uptimeMs + 2000,
      records: before.log.records + 100,
      recordBytes: before.log.recordBytes + 5000,
      batches: before.log.batches + 4,
      closeReasons: {
        ...before.log.closeReasons,
        linger: before.log.closeReasons.linger + 3,
        bytes: before.log.closeReasons.bytes + 1,
      },
      queue: { records: 7, bytes: 1234, oldestAgeMs: 8 },
      drops: { ...before.log.drops, oldest: before.log.drops.oldest + 6 },
      state: 'full',
    },
    gateway: { ...before.gateway, shed: before.gateway.shed + 3, paused: 1 },
    histograms: {
      ...before.histograms,
      latency: plus(before.histograms.latency, latency),
      write: plus(before.histograms.write, write),
    },
  };
  const lines = topLines('http://here:1', 20, before, now);
  t.match(lines[0], /^spillway top {3}http:\/\/here:1 {3}log FULL, .* figures of the last 2 s$/);
  t.match(lineOf(lines, 'records'), /50\/s {3}2\.5 kB\/s {3}2 durable writes\/s {3}25 records per durable write$/);
  t.match(lineOf(lines, 'queue'), /7 records {3}1\.23 kB {3}oldest 8 ms {3}PAUSED/);
  t.match(lineOf(lines, 'drops'), /drop-oldest 3\/s {3}\(6 since start\)$/);
  t.match(lineOf(lines, 'refusals'), /shed 1\.5\/s$/);
  t.match(lineOf(lines, 'end'), /end to end +3(\.\d+)? ms +3(\.\d+)? ms +30(\.\d+)? ms .*SLO p99 20 ms: BROKEN$/);
  t.match(lineOf(lines, 'write'), /write +2(\.\d+)? ms .* 100 %$/, 'alone in this interval');
  t.match(lineOf(lines, 'lane'), /lane +– .* 0 %$/, 'none in this interval');
  t.match(lineOf(lines, 'closed'), /records 0 % {3}bytes 25 % {3}linger 75 % {3}flush 0 % {3}idle 0 %$/);
  t.match(lineOf(topLines('http://here:1', 40, before, now), 'end'), /SLO p99 40 ms: held$/);
  t.match(
    lineOf(topLines('http://here:1', 0, before, { ...now, sloP99Ms: 37 }), 'end'),
    /SLO p99 37 ms: held$/,
    'its own',
  );
  t.match(lineOf(lines, 'linger'), /linger +2 ms, as set$/);
  const window = {
    ...now.log.window,
    lingerMs: 12.5,
    sloP99Ms: 20,
    p99Ms: 17.2,
    reason: 'hold',
    decisions: 40,
    breaches: 2,
  };
  const windowLine = (more: object): string =>
    lineOf(
      topLines('http://here:1', 0, before, { ...now, log: { ...now.log, window: { ...window, ...more } } } as Look),
      'linger',
    );
  t.match(windowLine({}), /linger +12\.5 ms \(hold\) {3}last interval p99 17\.2 of 20 ms {3}2 of 40 intervals above$/);
  t.match(
    windowLine({ lingerMs: 0, p99Ms: null, unreachable: true }),
    /linger +0 ms \(hold\) {3}2 of 40 .*OUT OF REACH$/,
  );

  for (const [what, earlier] of [
    ['without an earlier look', undefined],
    ['with one of an opening before', { ...now, log: { ...now.log, uptimeMs: now.log.uptimeMs + 1 } }],
  ] as const) {
    const since = topLines('http://here:1', 20, earlier, now);
    t.match(since[0], /figures SINCE START, /, what);
    t.match(lineOf(since, 'end'), /SLO p99 20 ms: (held|BROKEN)$/, what);
    t.equal(since.length, lines.length, 'as many lines');
  }
  const nothing = topLines('http://here:1', 20, before, {
    ...before,
    log: { ...before.log, uptimeMs: before.log.uptimeMs + 1000 },
  });
  t.match(lineOf(nothing, 'records'), /^ *records +0\/s/, 'an interval without a record');
  t.match(lineOf(nothing, 'end'), /– .*SLO p99 20 ms$/, 'is not judged');
  t.notMatch(nothing.join('\n'), /NaN|Infinity|undefined/);
});

t.test('--once, and a pipe: one plain snapshot of a gateway under load', async (t) => {
  const g = await Inside.start(t);
  const loading = load(g);
  for (const flags of [['--once'], []]) {
    const run = await top(`http://127.0.0.1:${g.port}`, '--interval-ms', '300', ...flags);
    t.equal(run.status, 0, run.stderr);
    t.equal(run.stderr, '');
    t.notOk(run.stdout.includes(ESCAPE), 'no escape codes');
    const lines = run.stdout.trimEnd().split('\n');
    t.match(lines[0], new RegExp(`^spillway top   http://127.0.0.1:${g.port}   log open, .* figures of the last `));
    t.match(lineOf(lines, 'records'), /[1-9][\d.,]*\/s .* [1-9][\d.,]* durable writes\/s/);
    for (const stage of ['lane', 'window', 'write', 'back']) t.match(lineOf(lines, stage), /ms .* %$/, stage);
    t.match(lineOf(lines, 'closed'), /linger 100 %/, 'one at a time: none is closed by its size');
    t.match(lineOf(lines, 'drops'), /none since start/);
  }
  await loading.stop();
});

t.test('a token: without it exit 2 and one line, with it a snapshot', async (t) => {
  const dir = directory(t);
  const tokens = join(dir, 'tokens');
  writeFileSync(tokens, `${tokenDigest('secret').toString('hex')} somebody\n`);
  const g = await Inside.start(t, { tokens });
  const url = `http://127.0.0.1:${g.port}`;
  for (const flags of [[], ['--token', 'wrong']]) {
    const run = await top(url, '--once', ...flags);
    t.equal(run.status, 2, flags.join(' '));
    t.match(run.stderr, /^spillway: http:\S+: expected a known token.*\[UNAUTHORIZED\]\n$/);
    t.equal(run.stdout, '');
  }
  const run = await top(url, '--once', '--interval-ms', '100', '--token', 'secret');
  t.equal(run.status, 0, run.stderr);
});

t.test('nothing there, or no gateway: one line, exit 1; a wrong URL or flag: exit 2', async (t) => {
  const http = createServer((_req, res) => {
    const [status, body] = { '404': [404, '<html>'], json: [200, '{"log":{}}'], html: [200, '<html>'] }[answer] as [
      number,
      string,
    ];
    res.writeHead(status).end(body);
  });
  let answer = '404';
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  for (answer of ['404', 'json', 'html']) {
    const run = await top(url, '--once');
    t.equal(run.status, 1, answer);
    t.match(
      run.stderr,
      /^spillway: .*does not answer as a gateway of this version: HTTP \d+ \[PROTOCOL_ERROR\]\n$/,
      answer,
    );
  }
  http.closeAllConnections();
  await new Promise((resolve) => http.close(resolve));
  const gone = await top(url);
  t.equal(gone.status, 1);
  t.match(gone.stderr, /^spillway: cannot reach http:\S+: .*ECONNREFUSED.* \[DISCONNECTED\]\n$/);
  for (const args of [
    ['ftp://x'],
    ['http://h/path'],
    ['nonsense'],
    ['--interval-ms', '1'],
    ['--slo-p99-ms', 'fast'],
    ['a', 'b'],
  ]) {
    const run = await top(...args);
    t.equal(run.status, 2, args.join(' '));
    t.equal(run.stderr.trimEnd().split('\n').length, 1, run.stderr);
  }
});

/** On a terminal of its own. */
function onTerminal(...args: string[]): { readonly child: ChildProcess; shown(): string } {
  const command = `stty cols 150 rows 40; exec '${process.execPath}' '${main}' top ${args.join(' ')}`;
  const child = spawn('script', ['-qefc', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'], env });
  let shown = '';
  child.stdout.on('data', (d: Buffer) => (shown += d.toString()));
  return { child, shown: () => shown };
}

t.test(
  'on a terminal: live and in place, past a gateway that goes away, until Ctrl-C',
  { skip: !hasScript },
  async (t) => {
    const g = await Inside.start(t);
    const loading = load(g);
    const { child, shown } = onTerminal(`http://127.0.0.1:${g.port}`, '--interval-ms', '100');
    t.teardown(() => child.kill('SIGKILL'));
    await until(() => shown().split('figures of the last').length > 3, 'three intervals');
    t.ok(shown().startsWith(ENTER), 'another screen, no cursor');
    t.match(shown(), /figures SINCE START/, 'at once, before there is an interval');
    t.equal(shown().split(ENTER).length, 2, 'entered once');
    t.notOk(shown().includes(LEAVE), 'and not left');
    await loading.stop();
    await g.end(t);
    await until(() => shown().includes('NO ANSWER'), 'it says that the gateway is gone');
    t.equal(child.exitCode, null, 'and goes on');
    child.stdin!.write('\x03');
    const [status] = (await within(once(child, 'close'), 'ended')) as [number];
    t.equal(status, 0);
    const left = shown().split(LEAVE);
    t.equal(left.length, 2, 'the terminal is as it was');
    t.match(left[1], /^spillway top .*closed by/s, 'what was seen last stays');
    t.notOk(left[1].includes(ESCAPE));
  },
);
