// spillway tune as a person runs it: a recommendation, forecast and fact; the report; what is wrong is one line and the documented exit
// status; nothing is left behind, whatever ends it.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { escapeXml } from '../../bench/lib/svg.ts';
import { heatMap } from '../../src/cli/heat-map.ts';
import { linesOf, reasonsOf, sloMet } from '../../src/cli/tune.ts';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { resolveLogOptions } from '../../src/base/options.ts';
import type { Fact, Tuned } from '../../src/load/tune.ts';
import { temporaryDirectory } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = temporaryDirectory('spillway-tune-cli-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));
/** A second of SLO: whatever the machine does meanwhile, some window meets it. */
const PATIENT = ['--slo-p99-ms', '1000', '--seconds', '0.5'];

function tune(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'tune', ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

function traceFile(name: string, text: string): string {
  const path = join(root, name);
  writeFileSync(path, text);
  return path;
}

/** 300 arrivals, 20 ms apart: at 10 times the speed 2 ms. */
const rows = Array.from({ length: 300 }, (_, i) => `2024-01-01T00:00:${(i * 0.02).toFixed(3).padStart(6, '0')}Z,7`);

t.test(
  'a rate: curve, front, recommendation, why, forecast and fact, lines to paste; the directory is as it was',
  async (t) => {
    const dir = join(root, 'made', 'here');
    const { status, stdout, stderr } = tune('--rate', '400', '--pattern', 'poisson', '--dir', dir, ...PATIENT);
    t.match(stdout, /^one durable write in .*, mode (direct|buffered|portable|js):\n +size +p50 ms +p99 ms/);
    for (const size of ['4KiB', '16KiB', '64KiB', '256KiB', '1MiB', '4MiB'])
      t.match(stdout, new RegExp(`\\n +${size} `));
    t.match(stdout, /\narrivals: \d+ records, /);
    t.match(stdout, /\nPareto front, \d+ of \d+ windows that no other of 504 beats/);
    t.match(stdout, /→ /, 'the recommended one is marked');
    t.match(stdout, /\nrecommended: linger [\d.]+ ms, [\d,]+ records, \d+[KM]iB\n/);
    t.match(stdout, /80 % of the SLO of 1,000 ms/);
    t.match(stdout, / with linger .*: p99 .* ms/);
    t.match(stdout, /\n +forecast +\S+ .*\n +fact +\S+ /);
    t.match(stdout, /\n {2}SLO of 1,000 ms (met: p99|not judged)/);
    t.match(stdout, /\n {2}window:\n {4}maxRecords: \d+\n {4}maxBytes: \d+[KM]iB\n {4}lingerMs: [\d.]+\n/);
    t.match(stdout, /\n {2}--window-records \d+ --window-bytes \d+[KM]iB --linger-ms [\d.]+\n$/);
    t.equal(status, stdout.includes('not judged') ? 1 : 0, stderr);
    t.notOk(existsSync(join(root, 'made')), 'what was missing is missing again');
  },
);

t.test('a trace, as JSON, with a report: all windows, and a heat map', async (t) => {
  const trace = traceFile('trace.csv', `TIMESTAMP,Tokens\n${rows.join('\n')}\n`);
  const report = join(root, 'report');
  const dir = join(root, 'kept');
  mkdirSync(dir);
  writeFileSync(join(dir, 'mine'), '');
  const args = ['--trace', trace, '--time-scale', '10', '--dir', dir, '--report', report, '--json'];
  const { stdout, stderr } = tune(...args, ...PATIENT);
  const told = JSON.parse(stdout) as Record<string, never> & { chosen: object; front: object[]; curve: object[] };
  t.match(told, {
    setting: { sloP99Ms: 1000, pattern: 'trace', timeScale: 10, target: 'embedded' },
    sloShare: 0.8,
    arrivals: { records: 250, modelled: 250 },
    meets: true,
    binding: /linger|size|disk|producer/,
    windows: 504,
    io: String,
    why: [/fewest durable writes/],
    chosen: { window: { lingerMs: Number }, p99Ms: Number, writesPer1000: Number },
    fact: { p50Ms: Number, p99Ms: Number, writesPer1000: Number, load: { limit: String, accepted: { records: 250 } } },
    paste: { flags: /--linger-ms/ },
  });
  t.notMatch(stdout, 'token');
  t.strictSame(readdirSync(dir), ['mine'], 'what was there is there, and nothing else');
  t.match(stderr, /written: /);
  const written = JSON.parse(readFileSync(join(report, 'tune.json'), 'utf8')) as { candidates: object[] };
  t.equal(written.candidates.length, 504);
  const svg = readFileSync(join(report, 'tune-p99.svg'), 'utf8');
  t.match(svg, /^<svg /);
  t.match(svg, 'the SLO of 1,000 ms');
  t.notMatch(svg, /NaN|undefined|Infinity/);
});

t.test('an SLO below one durable write: refused with the figure that was measured', async (t) => {
  const dir = join(root, 'slow');
  const { status, stdout, stderr } = tune('--rate', '300', '--seconds', '1', '--slo-p99-ms', '0.001', '--dir', dir);
  t.equal(status, 2, stderr);
  t.equal(stdout, '');
  t.match(
    stderr,
    /\nspillway: option 'sloP99Ms': expected more than [\d.]+ ms, the p99 of one durable write of 4 KiB measured in .* \(mode \w+, p50 [\d.]+ ms\): no window is faster than that, got 0\.001 \[INVALID_OPTION\]\n$/,
  );
  t.notOk(existsSync(dir));
});

const bad: readonly [name: string, args: string[], says: RegExp][] = [
  ['no SLO', ['--rate', '10'], /option 'sloP99Ms': is required/],
  ['neither rate nor trace', ['--slo-p99-ms', '20'], /option 'rate': expected a rate, or a trace, got neither/],
  ['SLO of nothing', ['--slo-p99-ms', '0', '--rate', '10'], /'--slo-p99-ms': expected a number from 0.001/],
  ['SLO that is no number', ['--slo-p99-ms', 'fast', '--rate', '10'], /'--slo-p99-ms': expected a number/],
  ['SLO in another unit', ['--slo-p99-ms', '1s', '--rate', '10'], /in milliseconds that is 1000/],
  ['rate of zero', ['--slo-p99-ms', '20', '--rate', '0'], /'--rate': expected a number from 0.001/],
  ['negative rate', ['--slo-p99-ms', '20', '--rate=-5'], /'--rate': expected a number from 0.001/],
  ['time scale of zero', ['--slo-p99-ms', '20', '--trace', 'x', '--time-scale', '0'], /'--time-scale': expected/],
  [
    'a pattern beside a trace',
    ['--slo-p99-ms', '20', '--trace', 'x', '--pattern', 'poisson'],
    /option 'pattern': expected 'trace'/,
  ],
  [
    'pattern trace, and none',
    ['--slo-p99-ms', '20', '--rate', '9', '--pattern', 'trace'],
    /option 'trace': expected a file/,
  ],
  [
    'too few arrivals',
    ['--slo-p99-ms', '20', '--rate', '10', '--seconds', '1'],
    /option 'seconds': expected at least 100 arrivals, for a p99, got 10/,
  ],
  [
    'records that no log takes',
    ['--slo-p99-ms', '20', '--rate', '10', '--record-bytes', '2MiB'],
    /'--record-bytes': expected a size from 1 to 1MiB/,
  ],
  [
    'a trace that is not there',
    ['--slo-p99-ms', '20', '--trace', join(root, 'none.csv')],
    /option 'trace': expected a readable file/,
  ],
  [
    'an empty trace',
    ['--slo-p99-ms', '20', '--trace', traceFile('empty.csv', '')],
    /option 'trace': expected at least one row/,
  ],
  [
    'a header alone',
    ['--slo-p99-ms', '20', '--trace', traceFile('header.csv', 'timestamp,x\n')],
    /expected at least one row/,
  ],
  [
    'a wrong column',
    ['--slo-p99-ms', '20', '--trace', traceFile('column.csv', 'name,size\nanna,3\n')],
    /column.csv:1: option 'trace': expected a column timestamp, time, ts or at, got 'name', 'size'/,
  ],
  [
    'a trace out of order',
    ['--slo-p99-ms', '20', '--trace', traceFile('reversed.csv', rows.toReversed().join('\n'))],
    /reversed.csv:2: option 'trace': expected times in order, got '[^']+', which is before the row above it/,
  ],
  [
    'a short trace',
    ['--slo-p99-ms', '20', '--trace', traceFile('short.csv', rows.slice(0, 50).join('\n'))],
    /option 'trace': expected at least 100 arrivals, for a p99, got 50/,
  ],
  [
    'a directory that is a file',
    ['--slo-p99-ms', '20', '--rate', '300', '--dir', traceFile('file', 'x')],
    /option 'dir': .*file cannot be written/,
  ],
  [
    'a report where none can be',
    ['--slo-p99-ms', '20', '--rate', '300', '--report', join(root, 'file', 'x')],
    /option 'report': .* cannot be written/,
  ],
  ['a misspelt flag', ['--slo-p99', '20', '--rate', '300'], /unknown option '--slo-p99'/],
];
for (const [name, args, says] of bad) {
  t.test(`bad input: ${name}`, async (t) => {
    const { status, stdout, stderr } = tune(...args);
    t.equal(status, 2, stderr);
    t.match(stderr, says);
    t.equal(stdout, '');
    t.equal(
      stderr
        .trim()
        .split('\n')
        .filter((line) => !line.startsWith('(')).length,
      1,
      'one line',
    );
  });
}

t.test(
  'a time scale beyond what the generator can offer: it says so, and nothing is judged',
  { timeout: 120_000 },
  async (t) => {
    const many = Array.from({ length: 60_000 }, (_, i) => String(1_700_000_000 + i)).join('\n');
    const trace = traceFile('many.csv', many);
    const { status, stdout } = tune(
      '--trace',
      trace,
      '--time-scale',
      '1000000',
      '--slo-p99-ms',
      '100',
      '--dir',
      join(root, 'fast'),
      '--json',
    );
    const told = JSON.parse(stdout) as { fact: { load: { limit: string; verdict: string } }; sloMet: unknown };
    t.equal(told.fact.load.limit, 'generator');
    t.match(told.fact.load.verdict, /this generator was the limit/);
    t.equal(told.sloMet, null);
    t.equal(status, 1);
  },
);

t.test('SIGINT while it measures: exit 1, one line, and the directory is empty', async (t) => {
  const dir = join(root, 'interrupted');
  mkdirSync(dir);
  const child = spawn(process.execPath, [main, 'tune', '--rate', '300', '--slo-p99-ms', '20', '--dir', dir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  let during: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    if (!stderr.includes('measuring') || during.length > 0) return;
    during = readdirSync(dir);
    child.kill('SIGINT');
  });
  const [status] = (await once(child, 'close')) as [number | null];
  t.match(during, [/^spillway-tune-\d+$/], 'it was at work there');
  t.equal(status, 1);
  t.match(stderr, /spillway: interrupted: nothing is recommended/);
  t.strictSame(readdirSync(dir), []);
});

const candidate = (lingerMs: number, p99Ms: number, writesPer1000: number): Tuned['chosen'] => ({
  window: { maxRecords: 300, maxBytes: 1024 * 1024, lingerMs },
  capRecords: 300,
  p50Ms: 4,
  p99Ms,
  writesPer1000,
  memoryBytes: 1,
  diskBusy: 0.3,
  producerBusy: 0.1,
  closed: { records: 0.1, bytes: 0, linger: 0.9, flush: 0, idle: 0 },
});

t.test('why, in words: what binds, and what the neighbours do', async (t) => {
  const tuned = {
    sloP99Ms: 20,
    sloShare: 0.8,
    meets: true,
    binding: 'linger',
    chosen: candidate(10, 15, 20),
    neighbours: [
      { change: 'linger 9 ms', candidate: candidate(9, 14, 23) },
      { change: 'linger 11 ms', candidate: candidate(11, 16.5, 18) },
    ],
  } as unknown as Tuned;
  t.match(reasonsOf(tuned), [
    /at most 16 ms: 80 % of the SLO of 20 ms/,
    /the linger binds: 90 % of batches close by time/,
    /^with linger 9 ms: p99 14 ms, writes \+15 %$/,
    /^with linger 11 ms: p99 16.5 ms, above the margin, writes -10 %$/,
  ]);
  t.match(reasonsOf({ ...tuned, meets: false, binding: 'disk' }), [
    /no window stays within 16 ms/,
    /the disk binds: it writes 30 %/,
  ]);
  t.match(reasonsOf({ ...tuned, binding: 'size' })[1], /the size binds: 10 %/);
  t.match(reasonsOf({ ...tuned, binding: 'producer' })[1], /the producer binds: its thread is busy 10 %/);
});

t.test('what is to be pasted is what open and serve take', async (t) => {
  const window = { maxRecords: 300, maxBytes: 256 * 1024, lingerMs: 7.5 };
  const { file, flags } = linesOf(window);
  const { parse } = await import('yaml');
  const pasted = parse(file.join('\n')) as { window: { maxRecords: number; maxBytes: string; lingerMs: number } };
  t.strictSame(resolveLogOptions({ dir: 'x', ...pasted }).window, { ...window, sloP99Ms: 0, law: 'headroom' });
  t.ok(resolveGatewayOptions({}));
  const path = join(root, 'pasted.yaml');
  writeFileSync(path, file.join('\n'));
  const explain = (...args: string[]): string =>
    spawnSync(process.execPath, [main, 'config', 'explain', ...args], { encoding: 'utf8' }).stdout;
  for (const text of [explain('--config', path), explain(...flags.split(' '))]) {
    t.match(text, /window\.maxRecords = 300 /);
    t.match(text, /window\.maxBytes = 256KiB /);
    t.match(text, /window\.lingerMs = 7\.5 /);
  }
});

t.test('whether the SLO was met; nobody can tell where the generator was the limit', async (t) => {
  const fact = (p99Ms: number, limit: string): Fact => ({ p99Ms, load: { limit } }) as unknown as Fact;
  t.equal(sloMet({ sloP99Ms: 20 }, fact(20, 'none')), true);
  t.equal(sloMet({ sloP99Ms: 20 }, fact(20.1, 'target')), false);
  t.equal(sloMet({ sloP99Ms: 20 }, fact(1, 'generator')), undefined);
});

t.test('heat map: a cell per figure, the line between what is within the limit and what is not', async (t) => {
  const svg = heatMap({
    title: 'a < b',
    x: 'linger',
    y: 'records',
    columns: ['0', '5', '10'],
    rows: ['1', '10'],
    values: [
      [5, 30, 1234.5],
      [4, 12, 25],
    ],
    unit: 'ms',
    limit: { name: 'SLO', value: 20 },
    chosen: { name: 'recommended', column: 1, row: 1 },
  });
  for (const figure of ['5', '30', '1235', '4', '12', '25']) t.match(svg, new RegExp(`>${figure}</text>`));
  t.match(svg, escapeXml('a < b'));
  const [, edges] = /<path d="([^"]+)" fill="none"/.exec(svg)!;
  // Below, between 0 and 5; above, between 5 and 10; and in column 5 between the rows.
  t.equal(edges.match(/v/g)?.length, 2);
  t.equal(edges.match(/h/g)?.length, 1);
  const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)!.map(Number);
  for (const [, x, y] of svg.matchAll(/ x="([\d.-]+)" y="([\d.-]+)"/g)) {
    t.ok(Number(x) >= 0 && Number(x) <= width && Number(y) >= 0 && Number(y) <= height, `${x},${y} is within`);
  }
  t.equal(svg.match(/<text\b/g)!.length, svg.match(/<\/text>/g)!.length);
  t.notMatch(svg, /NaN|undefined/);
});
