// Configuration of serve: what wins, where it came from, and how it is explained. What is wrong: config-refusals.test.ts.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { gatewayOptionTable, resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { logOptionTable, resolveLogOptions, type OptionSpec } from '../../src/base/options.ts';
import { variableOf, type ServeConfig } from '../../src/cli/config.ts';
import { file, resolve, withFile } from '../support/cli-config.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

t.test('the age from which on is shed follows the SLO, unless it is set', async (t) => {
  const shedOf = (config: ServeConfig): number => resolveGatewayOptions(config.gateway).shedAgeMs;
  t.equal(shedOf(resolve([])), 2000, 'the default of both');
  t.equal(shedOf(resolve(['--slo-p99-ms', '5'])), 500);
  t.equal(shedOf(resolve(['--slo-p99-ms', '600000'])), 600_000, 'at most what may be set');
  t.equal(shedOf(resolve(['--slo-p99-ms', '5', '--shed-age-ms', '70'])), 70);
  t.equal(shedOf(resolve(['--slo-p99-ms', '5', '--shed-age-ms', '0'])), 0);
  t.equal(shedOf(resolve(['--slo-p99-ms', '5'], { SPILLWAY_SHED_AGE_MS: '2000' })), 2000);
  t.equal(resolveGatewayOptions({ sloP99Ms: 7 }).shedAgeMs, 700, 'without a configuration');
});

t.test('the window follows the SLO, unless a linger is stated, wherever that is', async (t) => {
  const windowOf = (config: ServeConfig): object => resolveLogOptions(config.log).window;
  const adaptive = (sloP99Ms: number) => ({ lingerMs: 0, sloP99Ms, law: 'headroom' });
  const fixed = (lingerMs: number) => ({ lingerMs, sloP99Ms: 0 });
  t.match(windowOf(resolve([])), adaptive(20), 'the default');
  t.match(windowOf(resolve(['--slo-p99-ms', '5'])), adaptive(5));
  t.match(windowOf(resolve([], { SPILLWAY_SLO_P99_MS: '7' })), adaptive(7));
  t.match(windowOf(resolve(['--slo-p99-ms', '600000'])), adaptive(60_000), 'at most what a window may be told');
  t.match(windowOf(resolve(['--linger-ms', '0'])), fixed(0), 'a flag');
  t.match(windowOf(resolve(['--linger-ms', '3', '--slo-p99-ms', '5'])), fixed(3), 'then the SLO is for shedding alone');
  t.match(windowOf(resolve([], { SPILLWAY_WINDOW_LINGER_MS: '4' })), fixed(4), 'a variable');
  t.match(windowOf(withFile('window: { lingerMs: 2 }')), fixed(2), 'a file');
  t.match(windowOf(withFile('window: { sloP99Ms: 30 }')), adaptive(30), 'the window may have an SLO of its own');
  t.match(windowOf(withFile('window: { sloP99Ms: 0 }')), { ...fixed(0) }, 'and be told not to follow any');
  t.match(windowOf(resolve(['--window-law', 'aimd'])), { ...adaptive(20), law: 'aimd' });
  t.throws(() => resolve(['--linger-ms', '3'], { SPILLWAY_WINDOW_SLO_P99_MS: '5' }), {
    code: 'INVALID_OPTION',
    message:
      "SPILLWAY_WINDOW_SLO_P99_MS: option 'window.sloP99Ms': expected it without 'window.lingerMs', which is what it moves, got both",
  });
});

const table: readonly OptionSpec[] = [...logOptionTable, ...gatewayOptionTable];

function valueOf(config: ServeConfig, name: string): unknown {
  const all = { ...config.gateway, ...config.log } as Record<string, unknown>;
  return name.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], all);
}

/** Of each option three values that fit the other defaults: for the file, a variable, a flag. */
const samples: Record<string, readonly [unknown, string, string, unknown, unknown]> = {
  // name: file, variable, flag, and what the last two are once read
  dir: ['/f', '/e', '/g', '/e', '/g'],
  'window.maxRecords': [11, '12', '13', 12, 13],
  'window.maxBytes': ['64KiB', '128KiB', '196608', 131_072, 196_608],
  'window.lingerMs': [0.5, '1.5', '2.5', 1.5, 2.5],
  'window.sloP99Ms': [1, '2', '3', 2, 3],
  'window.law': ['aimd', 'headroom', 'aimd', 'headroom', 'aimd'],
  io: ['js', 'portable', 'buffered', 'portable', 'buffered'],
  codec: ['gzip', 'lz4', 'gzip', 'lz4', 'gzip'],
  segmentBytes: ['8MiB', '16MiB', '32MiB', 2 ** 24, 2 ** 25],
  laneBytes: ['8MiB', '32MiB', '64MiB', 2 ** 25, 2 ** 26],
  maxLanes: [21, '22', '23', 22, 23],
  maxRecordBytes: [1000, '2000', '3KiB', 2000, 3072],
  maxWaitingBytes: [0, '1', '2', 1, 2],
  retentionBytes: ['1GB', '2GB', '3GB', 2e9, 3e9],
  retentionMs: [1, '2', '3', 2, 3],
  http: ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3', '127.0.0.1:2', '127.0.0.1:3'],
  tcp: ['off', 'localhost:5', '[::1]:6', 'localhost:5', '[::1]:6'],
  unix: ['/tmp/a', '/tmp/b', '/tmp/c', '/tmp/b', '/tmp/c'],
  acceptThreads: [2, '3', '4', 3, 4],
  decodeThreads: [2, '3', '4', 3, 4],
  maxConnections: [1, '2', '3', 2, 3],
  wireBodyBytes: ['1MiB', '2MiB', '3MiB', 2 ** 21, 3 * 2 ** 20],
  decodedBodyBytes: ['1MiB', '2MiB', '3MiB', 2 ** 21, 3 * 2 ** 20],
  maxRequestRecords: [1, '2', '3', 2, 3],
  receiveBufferBytes: ['8KiB', '9KiB', '10KiB', 9 * 2 ** 10, 10 * 2 ** 10],
  ingressBytes: ['64MiB', '65MiB', '66MiB', 65 * 2 ** 20, 66 * 2 ** 20],
  overflow: ['drop-newest', 'drop-oldest', 'block', 'drop-oldest', 'block'],
  maxBlockMs: [1, '2', '3', 2, 3],
  highWater: [0.9, '0.95', '1', 0.95, 1],
  lowWater: [0.1, '0.2', '0.3', 0.2, 0.3],
  sloP99Ms: [1, '2', '3', 2, 3],
  shedAgeMs: [1, '2', '0', 2, 0],
  rateRecords: [1, '2', '3', 2, 3],
  rateBytes: ['1KB', '2KB', '3KB', 2000, 3000],
  dedupeMs: [1, '2', '3', 2, 3],
  dedupeKeys: [1, '2', '3', 2, 3],
  dedupeBytes: [1, '2', '3', 2, 3],
  tokens: ['a', 'b', 'c', 'b', 'c'],
  tlsCert: ['a', 'b', 'c', 'b', 'c'],
  tlsKey: ['a', 'b', 'c', 'b', 'c'],
  tlsClientCa: ['a', 'b', 'c', 'b', 'c'],
  memoryLimit: ['1GiB', '2GiB', '3GiB', 2 ** 31, 3 * 2 ** 30],
  drainMs: [101, '102', '103', 102, 103],
  recordArrivals: ['a', 'b', 'c', 'b', 'c'],
  logLevel: ['warn', 'error', 'fatal', 'error', 'fatal'],
};
/** What must be there beside an option for it to be allowed. */
const beside: Record<string, string> = {
  tlsCert: 'tlsKey: k\n',
  tlsKey: 'tlsCert: c\n',
  tlsClientCa: 'tlsCert: c\ntlsKey: k\n',
};

t.test(
  'nothing given: the defaults of the tables, ./data, a window that follows the SLO, and 16 MiB that wait',
  async (t) => {
    const config = resolve([]);
    const expected = resolveLogOptions({ dir: './data', window: { sloP99Ms: 20 }, maxWaitingBytes: '16MiB' });
    t.strictSame(resolveLogOptions(config.log), expected);
    t.strictSame(resolveGatewayOptions(config.gateway), resolveGatewayOptions({}));
    for (const { name } of table) t.strictSame(config.origins.get(name), { kind: 'default', where: 'default' }, name);
  },
);

t.test('every option: flag over environment over file over default, each with its origin', async (t) => {
  t.strictSame(Object.keys(samples).sort(), table.map((s) => s.name).sort(), 'there is a sample of every option');
  for (const { name, flag } of table) {
    const [inFile, inVariable, inFlag, variableValue, flagValue] = samples[name];
    const path = file(`# first line\n${name}: ${JSON.stringify(inFile)}\n${beside[name] ?? ''}`);
    const variable = { [variableOf(name)]: inVariable };
    const one = resolve(['--config', path]);
    t.strictSame(one.origins.get(name), { kind: 'file', where: `${path}:2` }, `${name}: line`);
    const three = resolve(['--config', path, flag, inFlag], variable);
    t.strictSame(valueOf(three, name), flagValue, `${name}: the flag wins`);
    t.strictSame(three.origins.get(name), { kind: 'flag', where: flag });
    const two = resolve(['--config', path], variable);
    t.strictSame(valueOf(two, name), variableValue, `${name}: then the variable`);
    t.strictSame(two.origins.get(name), { kind: 'environment', where: variableOf(name) });
    const default_ = valueOf(resolve([]), name);
    t.not(valueOf(one, name), default_, `${name}: then the file`);
    t.not(valueOf(one, name), variableValue);
  }
});

t.test('variables are the names in upper snake case', async (t) => {
  t.equal(variableOf('window.maxRecords'), 'SPILLWAY_WINDOW_MAX_RECORDS');
  t.equal(variableOf('sloP99Ms'), 'SPILLWAY_SLO_P99_MS');
  t.equal(variableOf('tlsClientCa'), 'SPILLWAY_TLS_CLIENT_CA');
  t.equal(variableOf('io'), 'SPILLWAY_IO');
});

t.test('tables may be nested or dotted; streams have options of their own', async (t) => {
  const config = withFile(
    [
      'window:',
      '  maxRecords: 7',
      '  lingerMs: 9',
      'window.maxBytes: 4KiB',
      'streams:',
      '  orders: &same { overflow: drop-oldest, maxBlockMs: 5 }',
      '  constructor: *same',
      '  a.b:',
      '    schema: ./a.json',
      'streams.c.d.overflow: block',
      'streams.e: { schema: e.json }',
    ].join('\n'),
  );
  t.strictSame(config.log.window, { maxRecords: 7, maxBytes: 4096, lingerMs: 9, sloP99Ms: 0, law: 'headroom' });
  // As text: tap takes a stream called constructor for the class of the object.
  const expected = {
    orders: { overflow: 'drop-oldest', maxBlockMs: 5 },
    constructor: { overflow: 'drop-oldest', maxBlockMs: 5 },
    'a.b': { schema: './a.json' },
    'c.d': { overflow: 'block' },
    e: { schema: 'e.json' },
  };
  t.equal(JSON.stringify(config.gateway['streams']), JSON.stringify(expected));
  t.equal(JSON.stringify(resolveGatewayOptions(config.gateway).streams), JSON.stringify(expected));
  t.match(config.origins.get('window.lingerMs')?.where, /:3$/);
  t.match(config.origins.get('streams.a.b.schema')?.where, /:9$/);
  t.match(config.origins.get('streams.c.d.overflow')?.where, /:10$/);
});

t.test('what is empty sets nothing', async (t) => {
  for (const text of [
    '',
    '\n',
    '# only words\n',
    '---\n',
    '---\n...\n',
    'null',
    '\uFEFF',
    'window:\nstreams:\n  a:\n',
  ]) {
    t.strictSame(withFile(text).log, resolve([]).log, JSON.stringify(text));
  }
  t.equal(valueOf(withFile('\uFEFFmaxLanes: 3'), 'maxLanes'), 3, 'a byte order mark is no part of a name');
});

t.test('config explain: every option, as text and as JSON; a refusal is one line and exit 2', async (t) => {
  const path = file('window:\n  lingerMs: 9\nstreams:\n  orders: {overflow: drop-oldest}\n');
  const run = (args: readonly string[], env: Record<string, string> = {}) =>
    spawnSync(process.execPath, [main, 'config', 'explain', ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], ...env },
    });
  const given = ['--config', path, '--http', '127.0.0.1:9'];
  const text = run(given, { SPILLWAY_IO: 'js' });
  t.equal(text.status, 0, text.stderr);
  t.match(
    text.stdout,
    /^http = 127\.0\.0\.1:9 +from --http\n {4}Address and port.*default 127\.0\.0\.1:8080; --http; SPILLWAY_HTTP\)$/m,
  );
  t.match(text.stdout, new RegExp(`^window\\.lingerMs = 9 +from ${path}:2$`, 'm'));
  t.match(text.stdout, /^io = js +from SPILLWAY_IO$/m);
  t.match(text.stdout, /^laneBytes = 16MiB +default$/m);
  t.match(text.stdout, new RegExp(`^streams\\.orders\\.overflow = drop-oldest +from ${path}:4$`, 'm'));
  for (const { name, sentence } of table) {
    t.ok(text.stdout.includes(`${name} = `) && text.stdout.includes(sentence), `${name} is explained`);
  }
  const json = JSON.parse(run([...given, '--json'], { SPILLWAY_IO: 'js' }).stdout) as { options: { name: string }[] };
  const row = (name: string) => json.options.find((o) => o.name === name);
  t.equal(json.options.length, table.length + 1);
  t.match(row('io'), { value: 'js', origin: 'environment', where: 'SPILLWAY_IO', default: 'auto', choices: Array });
  t.match(row('laneBytes'), {
    value: 2 ** 24,
    origin: 'default',
    default: 2 ** 24,
    min: 4096,
    max: 2 ** 30,
    sentence: /Ring/,
  });
  t.match(row('dir'), { value: './data', origin: 'default', default: './data' });
  t.match(row('streams.orders.overflow'), { value: 'drop-oldest', origin: 'file', where: `${path}:4` });
  for (const [args, env, message] of [
    [['--config', file('io: fast')], {}, /:1: option 'io': expected one of .* \[INVALID_OPTION\]\n$/],
    [[], { SPILLWAY_HTP: 'x' }, /SPILLWAY_HTTP.*\[INVALID_OPTION\]\n$/],
    [['--htp', 'x'], {}, /--http/],
  ] as const) {
    const refused = run(args, env);
    t.equal(refused.status, 2);
    t.match(refused.stderr, message);
    t.notMatch(refused.stderr, /\n\s+at /);
  }
});
