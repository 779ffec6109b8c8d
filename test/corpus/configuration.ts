// Configuration that is wrong: `spillway serve` does not start, says why in one line that names the key, and ends with 2. It leaves
// nothing behind: no log, no socket.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { within } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';
import type { AreaOutcome, Outcome } from './run.ts';
import { env } from './subject.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const ENDS_WITHIN_MS = 20_000;

/** What a case has around it. */
interface Around {
  /** A directory of its own. */
  readonly top: string;
  /** A port that somebody listens on. */
  readonly taken: number;
}

interface Made {
  readonly args?: readonly string[];
  /** Text of the file of `--config`. */
  readonly file?: string;
  readonly variables?: Readonly<Record<string, string>>;
}

export interface ConfigCase {
  readonly name: string;
  readonly made: (around: Around) => Made;
  /** Of the one line. */
  readonly says: RegExp;
  /** Default `serve`. */
  readonly command?: readonly string[];
  /** What of it is there all the same: a log is opened before the listeners are. */
  readonly leaves?: readonly string[];
}

const file = (name: string, text: string, says: RegExp): ConfigCase => ({ name, made: () => ({ file: text }), says });
const flag = (name: string, args: readonly string[], says: RegExp): ConfigCase => ({
  name,
  made: () => ({ args }),
  says,
});
const variable = (name: string, variables: Readonly<Record<string, string>>, says: RegExp): ConfigCase => ({
  name,
  made: () => ({ variables }),
  says,
});

export const configCases: readonly ConfigCase[] = [
  file(
    'file: an unknown key',
    'wireBodyByte: 1MiB\n',
    /:1: unknown option 'wireBodyByte': did you mean 'wireBodyBytes'\?/,
  ),
  file(
    'file: an unknown key of a stream',
    'streams:\n  a:\n    overflw: block\n',
    /:3: .*'streams.a.overflw': did you mean 'streams.a.overflow'\?/,
  ),
  file('file: __proto__ as a key', '__proto__: 1\n', /:1: unknown option '__proto__'/),
  file(
    'file: a stream with a name that is none',
    'streams:\n  ../a:\n    overflow: block\n',
    /:\d: stream name '..\/a'/,
  ),
  file('file: text for a number', 'acceptThreads: many\n', /:1: option 'acceptThreads': expected/),
  file('file: a list for a number', 'acceptThreads: [1]\n', /:1: option 'acceptThreads': expected/),
  file('file: a key given twice', 'drainMs: 1000\ndrainMs: 2000\n', /:2: .*(drainMs|unique)/),
  file('file: no YAML', 'a: [1\n', /config\.yaml:\d: /),
  file('file: a list at the top', '- a\n', /:1: expected a table of options/),
  file('file: 65 KiB', `# ${'x'.repeat(65 * 1024)}\n`, /option 'config': expected at most 65536 bytes/),
  file('file: no UTF-8', Buffer.from('http: \xff\n', 'latin1').toString('latin1'), /option '(config|http)'/),
  flag('a file that is not there', ['--config', '/nowhere/config.yaml'], /option 'config': expected a readable file/),
  flag('a unit for milliseconds: 2s', ['--drain-ms', '2s'], /'--drain-ms': expected .*in milliseconds that is 2000/),
  flag('a unit that is none: 4M', ['--wire-body-bytes', '4M'], /'--wire-body-bytes': expected .*did you mean '4MiB'\?/),
  flag('percent for a fraction: 80%', ['--high-water', '80%'], /'--high-water': expected .*as a fraction that is 0.8/),
  flag('a number below its bounds', ['--max-connections', '0'], /'--max-connections': expected/),
  flag('NaN', ['--max-block-ms', 'NaN'], /'--max-block-ms': expected/),
  flag('an unknown flag', ['--http-port', '80'], /unknown option '--http-port'/),
  flag('bounds that contradict each other', ['--low-water', '0.9'], /option 'lowWater': expected less than highWater/),
  flag('a port of 65,536', ['--http', '127.0.0.1:65536'], /option 'http': expected/),
  flag(
    'an address beyond loopback without tokens',
    ['--http', '0.0.0.0:0'],
    /option 'http': expected a loopback address/,
  ),
  flag('nothing to listen on', ['--http', 'off', '--tcp', 'off'], /option 'http': expected an address/),
  flag('a certificate without its key', ['--tls-cert', '/nowhere'], /option 'tlsKey'/),
  flag('tokens that are not there', ['--tokens', '/nowhere'], /option 'tokens': expected a readable file/),
  variable(
    'an unknown variable',
    { SPILLWAY_HTPP: 'off' },
    /unknown variable 'SPILLWAY_HTPP': did you mean 'SPILLWAY_HTTP'\?/,
  ),
  variable(
    'a variable of the wrong type',
    { SPILLWAY_DRAIN_MS: 'soon' },
    /SPILLWAY_DRAIN_MS: option 'drainMs': expected/,
  ),
  {
    name: 'a port that is taken',
    made: ({ taken }) => ({ args: ['--http', `127.0.0.1:${taken}`] }),
    says: /option 'http': cannot listen on 127\.0\.0\.1:\d+: it is taken/,
    leaves: ['log'],
  },
  {
    name: 'a directory that is a file',
    made: ({ top }) => {
      writeFileSync(join(top, 'file'), '');
      return { args: ['--dir', join(top, 'file')] };
    },
    says: /option 'dir'/,
  },
  {
    // Root may write everywhere else.
    name: 'a directory that cannot be written',
    made: () => ({ args: ['--dir', '/proc/spillway'] }),
    says: /option 'dir'/,
  },
  {
    name: 'a directory of somebody else',
    made: ({ top }) => {
      mkdirSync(join(top, 'others'));
      writeFileSync(join(top, 'others', 'file'), '');
      return { args: ['--dir', join(top, 'others')] };
    },
    says: /option 'dir'/,
  },
  flag('a memory sum above the limit', ['--memory-limit', '64MiB'], /memory: .*memoryLimit/),
  { ...flag('config explain: an unknown flag', ['--drain', '1'], /'--drain'/), command: ['config', 'explain'] },
  {
    ...file('config explain: an unknown key', 'drain: 1\n', /:1: unknown option 'drain': did you mean 'drainMs'\?/),
    command: ['config', 'explain'],
  },
];

/** @returns what is wrong */
async function run(c: ConfigCase, around: Around, node: string): Promise<{ wrong: string[]; left: string[] }> {
  const { args = [], file: text, variables = {} } = c.made(around);
  const config = join(around.top, 'config.yaml');
  if (text !== undefined) writeFileSync(config, text, 'latin1');
  const before = [...readdirSync(around.top), ...(c.leaves ?? [])];
  const own = ['--dir', '--http', '--tcp'].filter(
    (name) => !args.includes(name) && !text?.includes(`${name.slice(2)}:`),
  );
  const values: Record<string, string> = {
    '--dir': join(around.top, 'log'),
    '--http': '127.0.0.1:0',
    '--tcp': '127.0.0.1:0',
  };
  const all = [
    ...(c.command ?? ['serve']),
    ...(text === undefined ? [] : ['--config', config]),
    ...own.flatMap((name) => [name, values[name]]),
    ...args,
  ];
  const child = spawn(node, [main, ...all], { env: { ...env, ...variables }, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const wrong: string[] = [];
  try {
    const [code, signal] = (await within(once(child, 'close'), 'it ends', ENDS_WITHIN_MS)) as [
      number | null,
      string | null,
    ];
    if (code !== 2) wrong.push(`expected exit 2, got ${signal ?? code}`);
  } catch (error) {
    wrong.push(`${(error as Error).message}: it runs`);
    child.kill('SIGKILL');
  }
  // Beside log lines.
  const said = err.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  if (said.length !== 1) wrong.push(`expected one line, got ${said.length}: ${said.join(' | ').slice(0, 400)}`);
  if (!c.says.test(said.join('\n')))
    wrong.push(`expected a line like ${c.says}, got '${said.join(' | ').slice(0, 400)}'`);
  if (out !== '') wrong.push(`it printed '${out.slice(0, 200)}'`);
  const left = readdirSync(around.top).filter((name) => !before.includes(name));
  return { wrong, left: left.map((name) => `${name} in the directory`) };
}

export async function runConfiguration(cases: readonly ConfigCase[], node: string): Promise<AreaOutcome> {
  const outcomes: Outcome[] = [];
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  for (const c of cases) {
    const top = temporaryDirectory(`spillway-corpus-config-${process.pid}-`);
    const from = performance.now();
    const { wrong, left } = await run(c, { top, taken: (server.address() as AddressInfo).port }, node);
    if (existsSync('/proc/spillway')) left.push('/proc/spillway');
    outcomes.push({ name: c.name, wrong, left, ms: performance.now() - from });
    rmSync(top, { recursive: true, force: true });
  }
  server.close();
  return { area: 'configuration', outcomes, left: [], descriptors: null, rssMiB: null };
}
