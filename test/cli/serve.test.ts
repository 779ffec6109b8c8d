// `spillway serve` whose surroundings fail it: nobody reads its stdout, its log lines cannot be written, there is nothing to reload.

import { execFileSync, spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { certificate, skipTls } from '../support/certificates.ts';
import { Inside } from '../support/gateway-inside.ts';
import { directory, until, within } from '../support/log-support.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const token = `${'ab'.repeat(32)} somebody\n`;
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SPILLWAY_')));

interface Serving {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  /** Waits until it listens on its socket. */
  readonly listens: () => Promise<void>;
}

function serve(
  t: { teardown(action: () => unknown): unknown },
  dir: string,
  flags: readonly string[],
  stdio: StdioOptions,
): Serving {
  const unix = join(dir, 's');
  const args = ['serve', '--dir', join(dir, 'log'), '--http', 'off', '--tcp', 'off', '--unix', unix, ...flags];
  const child = spawn(process.execPath, [main, ...args], { env, stdio });
  t.teardown(() => child.kill('SIGKILL'));
  const exit = once(child, 'close').then(([code]) => code as number | null);
  return { child, exit, listens: () => until(() => existsSync(unix), 'it listens') };
}

async function takesConnections(dir: string): Promise<void> {
  const socket = connect(join(dir, 's'));
  await within(once(socket, 'connect'), 'connected');
  socket.destroy();
}

/** What a signal brings about cannot be seen from outside where nothing is written: long enough for it. */
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1000));

t.test('log lines that cannot be written do not end it', { skip: !existsSync('/dev/full') }, async (t) => {
  const dir = directory(t);
  const tokens = join(dir, 'tokens');
  writeFileSync(tokens, token);
  const full = openSync('/dev/full', 'w');
  const { child, exit, listens } = serve(
    t,
    dir,
    ['--tokens', tokens, '--log-level', 'error'],
    ['ignore', 'pipe', full],
  );
  closeSync(full);
  child.stdout!.resume();
  await listens();
  writeFileSync(tokens, 'broken\n');
  for (let i = 0; i < 2; i++) {
    child.kill('SIGHUP');
    await pause();
  }
  t.equal(child.exitCode, null, 'it goes on');
  await takesConnections(dir);
  child.kill('SIGTERM');
  t.equal(await within(exit, 'ended'), 0, 'and drains');
});

t.test('a reader of stdout that has gone does not end it', async (t) => {
  const dir = directory(t);
  const { child, exit, listens } = serve(t, dir, [], ['ignore', 'pipe', 'pipe']);
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stdout!.destroy();
  await listens();
  await pause();
  t.equal(child.exitCode, null, 'it goes on');
  await takesConnections(dir);
  child.kill('SIGTERM');
  t.equal(await within(exit, 'ended'), 0);
  t.match(said, /everything that was accepted is answered/, 'and drains');
});

t.test('SIGHUP says what it did', async (t) => {
  for (const given of [true, false]) {
    const dir = directory(t);
    const tokens = join(dir, 'tokens');
    writeFileSync(tokens, token);
    const { child, exit, listens } = serve(t, dir, given ? ['--tokens', tokens] : [], ['ignore', 'ignore', 'pipe']);
    let said = '';
    child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await listens();
    // The socket is there a moment before the gateway has started.
    const heard = (): boolean => said.includes('token file') || !child.kill('SIGHUP');
    await until(heard, 'it was heard');
    t.equal(said.includes('the token file was read again'), given, `with${given ? '' : 'out'} tokens`);
    t.equal(said.includes('there is no token file to read'), !given);
    child.kill('SIGTERM');
    t.equal(await within(exit, 'ended'), 0);
  }
});

t.test('config explain refuses the files that a start refuses', async (t) => {
  const dir = directory(t);
  const [tokens, broken, missing, fifo] = ['tokens', 'broken', 'missing', 'fifo'].map((name) => join(dir, name));
  // Nobody ever writes to it: whoever opens it as a file waits.
  execFileSync('mkfifo', [fifo]);
  writeFileSync(tokens, token);
  writeFileSync(broken, 'broken');
  const config = join(dir, 'config.yaml');
  const files: Record<string, readonly [text: string, said: RegExp | undefined]> = {
    'good tokens': [`tokens: ${tokens}`, undefined],
    'broken tokens': [`tokens: ${broken}`, /broken:1: option 'tokens'/],
    'missing tokens': [`tokens: ${missing}`, /option 'tokens'/],
    'missing certificate': [`tlsCert: ${missing}\ntlsKey: ${missing}`, /option 'tlsCert': cannot read/],
    'broken certificate': [`tlsCert: ${broken}\ntlsKey: ${broken}`, /options 'tlsCert' and 'tlsKey'/],
    'broken schema': [`streams:\n  orders:\n    schema: ${broken}`, /schema .*broken/],
    'a FIFO as tokens': [`tokens: ${fifo}`, /option 'tokens': .*no regular file/],
    'a FIFO as certificate': [`tlsCert: ${fifo}\ntlsKey: ${fifo}`, /option 'tlsCert': cannot read .*no regular file/],
    'a FIFO as schema': [`streams:\n  orders:\n    schema: ${fifo}`, /schema .*no regular file/],
    'a FIFO as configuration': ['', /option 'config': .*no regular file/],
  };
  for (const [name, [text, said]] of Object.entries(files)) {
    writeFileSync(config, `${text}\ndir: ${join(dir, 'log')}\nhttp: 127.0.0.1:0\ntcp: off\n`);
    for (const command of [['config', 'explain'], ['serve']]) {
      if (said === undefined && command[0] === 'serve') continue;
      const from = name === 'a FIFO as configuration' ? fifo : config;
      const ends = { env, encoding: 'utf8', timeout: 20_000, killSignal: 'SIGKILL' } as const;
      const run = spawnSync(process.execPath, [main, ...command, '--config', from], ends);
      t.equal(run.status, said === undefined ? 0 : 2, `${name}: ${command.join(' ')}`);
      if (said !== undefined) t.match(run.stderr, said, `${name}: ${command.join(' ')}`);
    }
  }
});

t.test('load over https', { skip: skipTls }, async (t) => {
  const { certFile: tlsCert, keyFile: tlsKey } = certificate(directory(t), 'load');
  const inside = await Inside.start(t, { tlsCert, tlsKey });
  const target = `https://127.0.0.1:${inside.port}`;
  const args = ['load', '--target', target, '--rate', '50', '--seconds', '1', '--json'];
  const child = spawn(process.execPath, [main, ...args], { env: { ...env, NODE_EXTRA_CA_CERTS: tlsCert } });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await within(once(child, 'close'), 'ended', 20_000)) as [number];
  t.equal(code, 0, said);
  t.ok(inside.durableOffset >= 40, `${inside.durableOffset} records`);
});
