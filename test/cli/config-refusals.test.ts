// Configuration of serve: nothing wrong gets through unnamed. Each refusal is one line, with the place and the nearest that is known.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import t, { type Test } from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { file, resolve, root, withFile } from '../support/cli-config.ts';

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
    /expected a readable file, got: it is no regular file$/,
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
    /expected a readable file, got: it is no regular file$/,
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
