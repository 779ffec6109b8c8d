// The edges of the listeners: who holds a place without a word, what a socket file may be taken for, what an address may be.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { HANDSHAKE_TIMEOUT_MS, MAX_SOCKET_PATH_BYTES } from '../../src/base/limits.ts';
import { removeStaleSocket } from '../../src/ingress/accept.ts';
import { LogStateLines } from '../../src/ingress/log-state.ts';
import type { LogState } from '../../src/base/types.ts';
import { certificate, skipTls } from '../support/certificates.ts';
import { Inside } from '../support/gateway-inside.ts';
import { directory, until, within } from '../support/log-support.ts';

t.test('TLS: a connection that says nothing gives its place back', { skip: skipTls }, async (t) => {
  const { certFile: tlsCert, keyFile: tlsKey } = certificate(directory(t), 'edge');
  const inside = await Inside.start(t, { tcp: '127.0.0.1:0', tlsCert, tlsKey });
  const { http, tcp } = inside.gateway.listening;
  const ms = await Promise.all(
    [http!.port, tcp!.port].map(async (port) => {
      const socket = connect(port, '127.0.0.1').resume();
      socket.on('error', () => undefined);
      const from = performance.now();
      await within(once(socket, 'close'), 'closed', HANDSHAKE_TIMEOUT_MS + 5000);
      return performance.now() - from;
    }),
  );
  for (const each of ms) t.ok(each > HANDSHAKE_TIMEOUT_MS - 500, `after ${Math.round(each)} ms`);
  await until(() => inside.count('connections') === 0, 'their places are free');
});

/** Listens on a path, says so, and then takes nobody in. */
const busy = `
  const server = require('node:net').createServer();
  server.listen({ path: process.argv[1], backlog: 1 }, () => {
    require('node:fs').writeSync(1, 'x');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
  });`;

t.test('a socket file is removed only where nobody listens', async (t) => {
  const dir = directory(t);
  const left = join(dir, 'left');
  const dying = spawn(process.execPath, ['-e', busy, left], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(dying.stdout, 'data');
  dying.kill('SIGKILL');
  await once(dying, 'close');
  t.ok(existsSync(left), 'a process that was killed left it');
  await removeStaleSocket(left);
  t.notOk(existsSync(left), 'and it is removed');
  await removeStaleSocket(left);

  const path = join(dir, 'busy');
  const child = spawn(process.execPath, ['-e', busy, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const sockets: Socket[] = [];
  t.teardown(() => {
    child.kill('SIGKILL');
    for (const socket of sockets) socket.destroy();
  });
  await once(child.stdout, 'data');
  let refused: NodeJS.ErrnoException | undefined;
  for (let i = 0; i < 8 && refused === undefined; i++) {
    const socket = connect(path);
    sockets.push(socket);
    await new Promise<void>((resolve) => {
      socket.once('connect', () => resolve());
      socket.once('error', (error) => {
        refused = error;
        resolve();
      });
    });
  }
  t.equal(refused?.code, 'EAGAIN', 'its queue is full');
  await removeStaleSocket(path);
  t.ok(existsSync(path), 'the socket of a process that lives stays');

  const file = join(dir, 'file');
  writeFileSync(file, '');
  await removeStaleSocket(file);
  t.ok(existsSync(file), 'what is no socket stays');
  rmSync(file);
});

t.test('a path that the kernel would cut is refused', async (t) => {
  const longest = `/${'p'.repeat(MAX_SOCKET_PATH_BYTES - 1)}`;
  t.equal(resolveGatewayOptions({ unix: longest }).unix, longest);
  for (const unix of [`${longest}p`, `/${'ö'.repeat(MAX_SOCKET_PATH_BYTES / 2)}p`]) {
    t.throws(() => resolveGatewayOptions({ unix }), {
      code: 'INVALID_OPTION',
      message: /option 'unix': expected a path of at most 107 bytes/,
    });
  }
});

t.test('only addresses are loopback, no names that look like one', async (t) => {
  for (const host of ['127.0.0.1', '127.9.8.7', 'localhost', '[::1]']) {
    t.ok(resolveGatewayOptions({ http: `${host}:0` }).http, host);
  }
  for (const host of ['127.evil.test', '127.0.0.1.evil.test', '127.1', '128.0.0.1', '[::2]']) {
    t.throws(() => resolveGatewayOptions({ http: `${host}:0` }), { code: 'INVALID_OPTION', message: /loopback/ }, host);
  }
});

t.test('what the log has become is told once at each change', async (t) => {
  const said: string[] = [];
  const say = (level: string) => (line: unknown) => void said.push(`${level} ${String(line)}`);
  const view: { state: LogState; failure: Error | undefined } = { state: 'open', failure: undefined };
  const lines = new LogStateLines(view, { info: say('info'), error: say('error') } as never);
  const failed = Object.assign(view, { failure: new Error('fdatasync: EIO') });
  for (const state of ['open', 'full', 'full', 'open', 'full', 'draining', 'closed', 'poisoned'] as const) {
    failed.state = state;
    lines.look();
    lines.look();
  }
  t.strictSame(
    said.map((line) => line.replace(/:.*:/, ':')),
    [
      'error the disk is full: nothing is stored until there is space',
      'info there is space again: the log is open',
      'error the disk is full: nothing is stored until there is space',
      'error nothing is acknowledged any more, restart to recover: EIO',
    ],
  );
});
