// Arrivals: the mean rate is the one asked for, the crowding is the pattern's, and the same seed gives the same.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { seededRandom } from '../../src/base/clock.ts';
import {
  constantArrivals,
  onOffArrivals,
  poissonArrivals,
  traceArrivals,
  upTo,
  type Arrivals,
} from '../../src/load/arrivals.ts';
import { parseTrace, readTrace } from '../../src/load/trace.ts';

const azure = fileURLToPath(new URL('../../../../shared/data/traces/azure_llm_code_2023.csv', import.meta.url));
const MAX = 1_000_000;

function all(arrivals: Arrivals, endMs: number, maxCount = MAX): number[] {
  const times: number[] = [];
  const bounded = upTo(arrivals, endMs, maxCount);
  for (let at = bounded(); at !== undefined; at = bounded()) times.push(at);
  return times;
}

/** Variance of the counts per window over their mean: 1 for independent arrivals, 0 for even ones. */
function dispersion(times: readonly number[], endMs: number, windowMs: number): number {
  const counts = Array.from({ length: Math.floor(endMs / windowMs) }, () => 0);
  for (const at of times) if (at < counts.length * windowMs) counts[Math.floor(at / windowMs)]++;
  const mean = times.length / counts.length;
  return counts.reduce((sum, n) => sum + (n - mean) ** 2, 0) / counts.length / mean;
}

const HOUR_MS = 3_600_000;
const patterns: [string, (seed: number) => Arrivals, number, number][] = [
  // name, arrivals at 20/s, least and most dispersion in windows of 100 ms
  ['constant', () => constantArrivals(20), 0, 0.01],
  ['poisson', (seed) => poissonArrivals(20, seededRandom(seed)), 0.9, 1.1],
  ['onoff', (seed) => onOffArrivals(20, seededRandom(seed)), 4, 20],
];

for (const [name, make, least, most] of patterns) {
  t.test(`${name}: rate, order, crowding, seed`, async (t) => {
    const times = all(make(1), HOUR_MS);
    const expected = (20 * HOUR_MS) / 1000;
    t.ok(Math.abs(times.length / expected - 1) < 0.05, `${times.length} of ${expected} in an hour`);
    t.ok(
      times.every((at, i) => at >= (times[i - 1] ?? 0)),
      'never back',
    );
    const crowding = dispersion(times, HOUR_MS, 100);
    t.ok(crowding >= least && crowding <= most, `dispersion ${crowding}`);
    t.strictSame(
      all(make(1), 60_000),
      times.filter((at) => at < 60_000),
      'the same seed',
    );
    if (name !== 'constant') t.notSame(all(make(2), 60_000), all(make(1), 60_000), 'another seed');
  });
}

t.test('constant is exact: no drift', async (t) => {
  const arrivals = constantArrivals(3);
  t.equal(arrivals(), 0);
  let last: number | undefined;
  for (let i = 1; i <= 3_000_000; i++) last = arrivals();
  t.equal(last, 1_000_000_000);
});

t.test('bounded in time and in count', async (t) => {
  t.equal(all(constantArrivals(1000), 50).length, 50, 'the end itself is not in');
  t.equal(all(constantArrivals(1000), Infinity, 7).length, 7);
  const once = upTo(constantArrivals(1000), 2, 10);
  t.strictSame([once(), once(), once(), once()], [0, 1, undefined, undefined], 'stays ended');
  t.strictSame(all(traceArrivals(Float64Array.of(0, 10, 30), 10), Infinity), [0, 1, 3], 'ten times as fast');
});

t.test('a trace is read from its column of times', async (t) => {
  const cases: [string, string, number[]][] = [
    ['100 ns', 'TIMESTAMP,Tokens\n2023-11-16 18:17:03.9799600,4808\n2023-11-16 18:17:04.0319601,3\n', [0, 52.0001]],
    ['over midnight and a leap day', 'ts\n2024-02-28 23:59:59\n2024-03-01T00:00:00Z', [0, 86_401_000]],
    ['zones', '2024-01-01T00:00:00Z\n2024-01-01T02:00:01+02:00\n2023-12-31T23:00:02-0100', [0, 1000, 2000]],
    ['another column, quoted, CRLF', 'id,"time"\r\n"a,b",5\r\n"c""d","7.5"\r\n', [0, 2500]],
    ['no header', '1.5,x\n2,y\n\n', [0, 500]],
    ['seconds since 1970', '1700000000.25\n1700000001', [0, 750]],
    ['milliseconds', '1700000000000\n1700000000007', [0, 7]],
    ['microseconds', '1700000000000000\n1700000000000500', [0, 0.5]],
    ['two at the same time', 'time\n9\n9\n10', [0, 0, 1000]],
    ['byte order mark', '\uFEFFtime,x\n3,1\n4,1', [0, 1000]],
    ['one row', '5', [0]],
  ];
  for (const [name, text, expected] of cases) {
    const times = [...parseTrace(text, 'x.csv')];
    t.equal(times.length, expected.length, name);
    for (const [i, at] of times.entries()) t.ok(Math.abs(at - expected[i]) < 1e-6, `${name}: ${at} is ${expected[i]}`);
  }
  const wrong: [string, RegExp][] = [
    ['time\n1\nsoon', /^x\.csv:3: option 'trace': expected a time, got 'soon'$/],
    ['id,time\n1', /^x\.csv:2: .*got ''$/],
    ['time\n2023-11-16 18:17', /got '2023-11-16 18:17'$/],
    ['time\n-5', /got '-5'$/],
    ['time\n1e999', /got '1e999'$/],
    ['time\n9\n7\n8', /^x\.csv:3: option 'trace': expected times in order, got '7', which is before the row above it$/],
    ['2023-11-16 18:17:03.9799601\n2023-11-16 18:17:03.9799600', /^x\.csv:2: .*in order/],
    ['id,tokens\n3,1', /^x\.csv:1: option 'trace': expected a column timestamp, time, ts or at, got 'id', 'tokens'$/],
    ['when\n3', /^x\.csv:1: .*expected a column/],
    ['\n\n', /^x\.csv: .*at least one row, got an empty file$/],
    ['time\n', /^x\.csv: .*at least one row$/],
    ['', /at least one row, got an empty file$/],
  ];
  for (const [text, message] of wrong) t.throws(() => parseTrace(text, 'x.csv'), { code: 'INVALID_OPTION', message });
  const dir = mkdtempSync(join(tmpdir(), 'spillway-trace-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'a.csv'), '1\n2\n');
  t.strictSame([...readTrace(join(dir, 'a.csv'))], [0, 1000]);
  t.throws(() => readTrace(join(dir, 'gone')), { code: 'INVALID_OPTION', message: /gone: option 'trace'.*ENOENT/ });
  t.throws(() => readTrace(dir), { code: 'INVALID_OPTION', message: /it is no regular file$/ });
  t.throws(() => readTrace('/dev/zero'), { code: 'INVALID_OPTION', message: /it is no regular file$/ });
});

t.test('the Azure trace', { skip: existsSync(azure) ? false : 'no ../shared/data here' }, async (t) => {
  const times = readTrace(azure);
  t.equal(times.length, 8819);
  t.ok(Math.abs(times[1] - 52) < 1e-6, 'the first two are 52 ms apart');
  const seconds = times[times.length - 1] / 1000;
  t.ok(seconds > 3000 && seconds < 3700, `${seconds} s`);
  const crowding = dispersion([...times], seconds * 1000, 1000);
  t.ok(crowding > 2, `bursts: dispersion ${crowding}`);
  t.equal(all(traceArrivals(times, 3600), Infinity).at(-1), times[8818] / 3600, 'an hour in a second');
});
