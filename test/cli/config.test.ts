// Configuration of serve: what wins, where it came from, and that nothing wrong gets through unnamed.

import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import * as fc from 'fast-check';
import t, { type Test } from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { gatewayOptionTable, resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { logOptionTable, resolveLogOptions, type OptionSpec } from '../../src/base/options.ts';
import { addServeFlags, resolveServeConfig, variableOf, type ServeConfig } from '../../src/cli/config.ts';
import { temporaryDirectory } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = temporaryDirectory('spillway-config-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let files = 0;

function file(text: string | Uint8Array): string {
  const path = join(root, `config-${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}

function resolve(args: readonly string[], variables: Record<string, string> = {}): ServeConfig {
  const command = addServeFlags(new Command('serve').exitOverride().configureOutput({ writeErr: () => undefined }));
  command.parse(args, { from: 'user' });
  return resolveServeConfig(command.opts(), variables);
}

function withFile(text: string | Uint8Array, variables: Record<string, string> = {}): ServeConfig {
  return resolve(['--config', file(text)], variables);
}

function refusal(t: Test, body: () => unknown, name: string): string {
  try {
    body();
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    t.equal(error.code, 'INVALID_OPTION', `${name}: code`);
    t.notMatch(error.message, /[\r\n]/, `${name}: one line`);
    return error.message;
  }
  return t.fail(`${name}: nothing was thrown`) as never;
}

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
  io: ['js', 'portable', 'buffered', 'portable', 'buffered'],
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
  logLevel: ['warn', 'error', 'fatal', 'error', 'fatal'],
};
/** What must be there beside an option for it to be allowed. */
const beside: Record<string, string> = {
  tlsCert: 'tlsKey: k\n',
  tlsKey: 'tlsCert: c\n',
  tlsClientCa: 'tlsCert: c\ntlsKey: k\n',
};

t.test('nothing given: the defaults of the tables, ./data, no linger, and 16 MiB that wait', async (t) => {
  const config = resolve([]);
  const expected = resolveLogOptions({ dir: './data', window: { lingerMs: 0 }, maxWaitingBytes: '16MiB' });
  t.strictSame(config.log, expected as unknown as typeof config.log);
  t.strictSame(resolveGatewayOptions(config.gateway), resolveGatewayOptions({}));
  for (const { name } of table) t.strictSame(config.origins.get(name), { kind: 'default', where: 'default' }, name);
});

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
  t.strictSame(config.log.window, { maxRecords: 7, maxBytes: 4096, lingerMs: 9 });
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

t.test('a wrong file is refused with its line, the option, and the nearest known', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['misspelt', 'io: js\nlanebytes: 1', /:2: unknown option 'lanebytes': did you mean 'laneBytes'\?$/],
    [
      'misspelt in a table',
      'window:\n  maxRecord: 1',
      /:2: unknown option 'window.maxRecord': did you mean 'window.maxRecords'/,
    ],
    [
      'dotted and misspelt',
      'windw.maxRecords: 1',
      /:1: unknown option 'windw.maxRecords': did you mean 'window.maxRecords'/,
    ],
    ['last part alone', '\nlingerMs: 1', /:2: unknown option 'lingerMs': did you mean 'window.lingerMs'/],
    ['spelt as the flag', 'linger-ms: 1', /:1: unknown option 'linger-ms': did you mean 'window.lingerMs'/],
    ['spelt as the variable', 'MAX_CONNECTIONS: 1', /did you mean 'maxConnections'/],
    ['nothing like it', 'colour: red', /:1: unknown option 'colour': 'spillway config explain' lists all$/],
    ['merge key', 'a: &a {io: js}\n<<: *a', /:1: unknown option 'a'/],
    [
      'text for a number',
      'maxLanes: many',
      /:1: option 'maxLanes': expected a whole number from 1 to 256, got 'many'$/,
    ],
    ['quoted number', 'maxLanes: "3"', /:1: option 'maxLanes': expected a whole number.*got '3'$/],
    ['fraction', 'maxLanes: 2.5', /:1: option 'maxLanes'.*got 2.5$/],
    ['above', 'maxLanes: 257', /:1: option 'maxLanes': expected.*1 to 256, got 257$/],
    ['not a number', 'maxBlockMs: .nan', /:1: option 'maxBlockMs'.*got NaN$/],
    ['endless', 'maxBlockMs: .inf', /got Infinity$/],
    ['number for a text', 'http: 8080', /:1: option 'http': expected a non-empty text, got 8080$/],
    ['a yes', 'tokens: true', /:1: option 'tokens': expected.*got true$/],
    ['nothing', '\n\nhttp:', /:3: option 'http': expected.*got null$/],
    ['a table', 'http: {host: x}', /:1: option 'http': expected.*got an object$/],
    ['a list', 'http: [x]', /:1: option 'http': expected.*got an array$/],
    ['no table', 'window: 5', /:1: option 'window': expected a table, got 5$/],
    ['a list as a table', 'io: js\nstreams: [a]', /:2: option 'streams': expected a table, got an array$/],
    [
      'choice',
      'overflow: spill',
      /:1: option 'overflow': expected one of block, drop-newest, drop-oldest, got 'spill'$/,
    ],
    ['seconds', 'window:\n  lingerMs: 2s', /:2: option 'window.lingerMs'.*got '2s': in milliseconds that is 2000$/],
    ['minutes', 'dedupeMs: 10min', /in milliseconds that is 600000$/],
    ['percent', 'highWater: 80%', /:1: option 'highWater'.*got '80%': as a fraction that is 0.8$/],
    ['half a size', 'ingressBytes: 64M', /got '64M': did you mean '64MiB'\?$/],
    ['no size', 'ingressBytes: 64 parsecs', /expected a size from 64KiB to 16GiB.*got '64 parsecs'$/],
    ['part of a byte', 'ingressBytes: 100000.5', /:1: option 'ingressBytes'/],
    ['no address', '# x\nhttp: 127.0.0.1', /:2: option 'http': expected an address and port such as/],
    ['not loopback', 'io: js\ntcp: 0.0.0.0:1', /:2: option 'tcp': expected a loopback address.*got '0.0.0.0:1'$/],
    ['together: the one given', 'lowWater: 0.9', /:1: option 'lowWater': expected less than highWater/],
    [
      'together: the other',
      'highWater: 0.4',
      /^option 'lowWater': expected less than highWater \(0.4\), got 0.5, its default$/,
    ],
    ['together: in the log', '\nlaneBytes: 3MiB', /:2: option 'laneBytes': expected a power of two/],
    [
      'together: across',
      'acceptThreads: 16',
      /^option 'maxLanes': expected at least acceptThreads \+ 1 \(17\), got 16/,
    ],
    ['stream name', 'streams:\n  ../x: {overflow: block}', /:2: stream name '..\/x': expected/],
    ['stream prototype', 'streams:\n  __proto__: {overflow: block}', /:2: stream name '__proto__': expected/],
    [
      'stream option',
      'streams:\n  a:\n    overflw: block',
      /:3: unknown option 'streams.a.overflw': did you mean 'streams.a.overflow'/,
    ],
    ['stream value', 'streams:\n  a:\n    overflow: spill', /:3: option 'streams.a.overflow': expected one of/],
    [
      'stream value of a table',
      'streams:\n  a:\n    maxBlockMs: {}',
      /:3: option 'streams.a.maxBlockMs'.*got an object$/,
    ],
    [
      'stream schema',
      'streams:\n  a: {schema: 5}',
      /:2: option 'streams.a.schema': expected the path of a file, got 5$/,
    ],
    ['stream by name only', 'streams.a: block', /:1: option 'streams.a': expected a table, got 'block'$/],
    ['twice', 'io: js\nio: auto', /:2: Map keys must be unique$/],
    [
      'twice in two ways',
      'window: {lingerMs: 1}\nwindow.lingerMs: 2',
      /:2: option 'window.lingerMs': expected once, it is in line 1 too$/,
    ],
    ['prototype', '__proto__: {io: js}', /:1: unknown option '__proto__'/],
    ['syntax', 'io: js\nhttp: "open', /:2: Missing closing "quote/],
    ['indent', 'io: js\n  tcp: off', /:1: Nested mappings/],
    ['tab', 'window:\n\tlingerMs: 1', /:2: Tabs/],
    ['alias of nothing', 'io: *x', /:1: option 'io': unresolved alias$/],
    ['tag', 'io: !!binary js', /:1: /],
    ['tag nobody knows', 'io: js\nhttp: !env HOST', /:2: Unresolved tag: !env$/],
    ['two documents', 'io: js\n---\nio: auto', /:2: Source contains multiple documents/],
    ['a list at the top', '- io: js', /:1: expected a table of options at the top$/],
    ['a word at the top', 'hello', /:1: expected a table of options at the top$/],
    ['a key that is no text', '? [a]\n: 1', /:1: expected the name of an option$/],
    ['a number as a key', '5: 1', /:1: expected the name of an option$/],
  ];
  for (const [name, text, message] of cases) {
    const path = file(text);
    const line = refusal(t, () => resolve(['--config', path]), name);
    t.match(line, message, `${name}: ${line}`);
    if (!message.source.startsWith('^')) t.ok(line.startsWith(`${path}:`), `${name}: ${line} begins with the file`);
  }
});

t.test('what cannot be read, or is hostile, is one line too', async (t) => {
  const gone = join(root, 'gone.yaml');
  t.match(
    refusal(t, () => resolve(['--config', gone]), 'missing'),
    /gone\.yaml: option 'config': expected a readable file, got: ENOENT/,
  );
  const directory = join(root, 'directory');
  mkdirSync(directory);
  t.match(
    refusal(t, () => resolve(['--config', directory]), 'directory'),
    /expected a readable file, got: EISDIR/,
  );
  t.match(
    refusal(t, () => withFile(Buffer.from([0x69, 0x6f, 0x3a, 0xff])), 'bytes'),
    /expected UTF-8$/,
  );
  t.match(
    refusal(t, () => withFile(`#${'x'.repeat(65_536)}`), 'large'),
    /expected at most 65536 bytes$/,
  );
  t.match(
    refusal(t, () => resolve(['--config', '/dev/zero']), 'endless'),
    /expected at most 65536 bytes$/,
  );
  t.equal(withFile(`#${'x'.repeat(65_535)}`).log.io, 'auto', 'the largest that is read');
  const deep = (open: string): string => `io: ${open.repeat(Math.floor(65_000 / open.length))}`;
  for (const open of ['[', '{a: ', '- ', '? ', '!!seq [']) refusal(t, () => withFile(deep(open)), `nest of ${open}`);
  const laughs = [
    'a: &a [x,x,x,x,x,x,x,x,x]',
    ...'bcdefgh'.split('').map((c, i) => `${c}: &${c} [${`*${'abcdefgh'[i]},`.repeat(9)}]`),
  ];
  t.match(
    refusal(t, () => withFile(laughs.join('\n')), 'a billion laughs'),
    /unknown option 'a'/,
  );
  // The file is given through the environment as well.
  t.match(
    refusal(t, () => resolve([], { SPILLWAY_CONFIG: gone }), 'by variable'),
    /gone\.yaml: option 'config'/,
  );
  t.equal(resolve(['--config', file('maxLanes: 3')], { SPILLWAY_CONFIG: gone }).log.maxLanes, 3, 'the flag wins');
});

t.test('any text is a configuration or a line', async (t) => {
  const words = fc.constantFrom(
    'window',
    'streams',
    'io',
    'a',
    ':',
    ' ',
    '\n',
    '  ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '&a',
    '*a',
    '!x',
    '|',
    '>',
    '5',
    'js',
    '#',
    '.',
    ',',
    '?',
    '\t',
    '%',
  );
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(words, { maxLength: 40 }).map((list) => list.join('')),
  );
  const path = file('');
  fc.assert(
    fc.property(texts, (text) => {
      writeFileSync(path, text);
      try {
        resolve(['--config', path]);
      } catch (error) {
        if (!(error instanceof SpillwayError) || error.code !== 'INVALID_OPTION') throw error;
        if (/[\r\n]/.test(error.message) || !error.message.startsWith(path)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
  t.pass('1,000 texts');
});

t.test('a wrong variable is refused by name; those of others are left alone', async (t) => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ SPILLWAY_HTP: 'x' }, /^environment: unknown variable 'SPILLWAY_HTP': did you mean 'SPILLWAY_HTTP'\?$/],
    [{ SPILLWAY_LINGER_MS: '1' }, /did you mean 'SPILLWAY_WINDOW_LINGER_MS'/],
    [{ SPILLWAY_window_lingerMs: '1' }, /did you mean 'SPILLWAY_WINDOW_LINGER_MS'/],
    [{ SPILLWAY_CONFG: 'x' }, /did you mean 'SPILLWAY_CONFIG'/],
    [{ SPILLWAY_: 'x' }, /unknown variable 'SPILLWAY_'/],
    [{ SPILLWAY_COLOUR_OF_HOUSE: 'x' }, /lists all$/],
    [{ SPILLWAY_PORT: '8080' }, /unknown variable 'SPILLWAY_PORT'/],
    [{ SPILLWAY_STREAMS: 'x' }, /unknown variable 'SPILLWAY_STREAMS'/],
    [{ SPILLWAY_MAX_LANES: '' }, /^SPILLWAY_MAX_LANES: option 'maxLanes': expected a whole number.*got ''$/],
    [{ SPILLWAY_MAX_LANES: '3x' }, /^SPILLWAY_MAX_LANES: option 'maxLanes'.*got '3x'$/],
    [{ SPILLWAY_MAX_LANES: 'Infinity' }, /got 'Infinity'$/],
    [{ SPILLWAY_HTTP: '' }, /^SPILLWAY_HTTP: option 'http': expected a non-empty text, got ''$/],
    [{ SPILLWAY_DRAIN_MS: '10s' }, /^SPILLWAY_DRAIN_MS: option 'drainMs'.*in milliseconds that is 10000$/],
    [{ SPILLWAY_LANE_BYTES: '3MiB' }, /^SPILLWAY_LANE_BYTES: option 'laneBytes': expected a power of two/],
    [{ SPILLWAY_HTTP: 'example.org' }, /^SPILLWAY_HTTP: option 'http': expected an address/],
  ];
  for (const [variables, message] of cases) {
    const line = refusal(t, () => resolve([], variables), JSON.stringify(variables));
    t.match(line, message, line);
  }
  const others = {
    SPILLWAY_PREBUILD: '/x',
    SPILLWAY_TEST_KILL_AT: '1',
    SPILLWAY_SERVICE_HOST: '10.0.0.1',
    SPILLWAY_SERVICE_PORT: '8080',
    SPILLWAY_SERVICE_PORT_HTTP: '8080',
    SPILLWAY_PORT: 'tcp://10.0.0.1:8080',
    SPILLWAY_PORT_8080_TCP: 'tcp://10.0.0.1:8080',
    SPILLWAY_PORT_8080_TCP_ADDR: '10.0.0.1',
    SPILLWAY_PROD_SERVICE_HOST: '10.0.0.1',
  };
  t.strictSame(resolve([], others), resolve([]));
});

t.test('what is written is checked, even where something stronger wins', async (t) => {
  const path = file('maxLanes: 0');
  t.match(
    refusal(t, () => resolve(['--config', path, '--max-lanes', '3']), 'file'),
    /:1: option 'maxLanes'/,
  );
  t.match(
    refusal(t, () => resolve(['--max-lanes', '3'], { SPILLWAY_MAX_LANES: '0' }), 'variable'),
    /^SPILLWAY_MAX_LANES/,
  );
  t.match(
    refusal(t, () => resolve(['--lane-bytes', '3MiB']), 'flag'),
    /^--lane-bytes: option 'laneBytes': expected a power/,
  );
  t.throws(() => resolve(['--max-lanes', '0']), { message: /--max-lanes.*1 to 256, got 0/ });
  t.throws(() => resolve(['--drain-ms', '10s']), { message: /got '10s': in milliseconds that is 10000/ });
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
