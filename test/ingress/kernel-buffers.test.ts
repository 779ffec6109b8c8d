// What the kernel holds of a connection that nobody reads, and of a client that does not read, is bounded by what its listener was told.

import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import t from 'tap';
import { LARGE_RECEIVE_BYTES, LARGE_RECEIVE_CONNECTIONS, UNSENT_BYTES } from '../../src/base/limits.ts';
import { acknowledgedBytes, LargeReceiveBuffers, limitKernel } from '../../src/ingress/kernel-buffers.ts';
import { native } from '../../src/platform/native.ts';
import { until } from '../support/log-support.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const table = '/proc/net/tcp';

/** Bytes that have come for a connection and were not read: local and remote port in hex, then tx:rx. */
function unread(localPort: number, remotePort: number): number {
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0');
  const row = new RegExp(`:${hex(localPort)} [0-9A-F]{8}:${hex(remotePort)} \\S+ [0-9A-F]{8}:([0-9A-F]{8})`);
  return parseInt(row.exec(readFileSync(table, 'utf8'))?.[1] ?? '', 16);
}

/** @param bytes undefined for no limit @returns what the kernel has taken of 4 MiB that nobody reads */
async function held(bytes: number | undefined): Promise<number> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  if (bytes !== undefined) limitKernel(server, bytes, pino({ level: 'silent' }));
  const { port } = server.address() as AddressInfo;
  const client = connect(port, '127.0.0.1');
  const [accepted] = await Promise.all([once(server, 'connection'), once(client, 'connect')]);
  client.write(Buffer.alloc(4 * KIB * KIB));
  await delay(500);
  const came = unread(port, client.localPort!);
  client.destroy();
  (accepted[0] as typeof client).destroy();
  server.close();
  return came;
}

t.test('a limit holds, and without one it is more', { skip: !existsSync(table) || native === undefined }, async (t) => {
  const free = await held(undefined);
  for (const bytes of [16 * KIB, 32 * KIB]) {
    const came = await held(bytes);
    t.ok(came > 0 && came <= 2 * bytes && came < free, `${bytes}: ${came} bytes, without a limit ${free}`);
  }
});

t.test('what a client does not take: bounded, and known', { skip: native === undefined }, async (t) => {
  for (const limited of [true, false]) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    if (limited) limitKernel(server, 32 * KIB, pino({ level: 'silent' }));
    const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' }).pause();
    const [[socket]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as [
      [Socket],
      unknown,
    ];
    // Until no more goes: what the kernels of both sides take, in pieces as answers come.
    let isTaken = true;
    for (let i = 0; i < 1000 && isTaken; i++) {
      const taken = new Promise<boolean>((resolve) => socket.write(Buffer.alloc(64 * KIB), () => resolve(true)));
      isTaken = await Promise.race([taken, delay(300, false)]);
    }
    t.notOk(isTaken, 'it is full');
    const unsent = native!.unsentBytes((socket as unknown as { _handle: { fd: number } })._handle.fd);
    const acknowledged = acknowledgedBytes(socket);
    t.ok(acknowledged > 0 && acknowledged <= socket.bytesWritten - unsent, `${acknowledged} of ${socket.bytesWritten}`);
    if (limited) t.ok(unsent <= 2 * UNSENT_BYTES + 64 * KIB, `${unsent} bytes unsent`);
    else t.ok(unsent > 4 * UNSENT_BYTES, `${unsent} bytes unsent without a limit`);
    client.resume();
    await until(() => acknowledgedBytes(socket) === socket.bytesWritten, 'all is taken');
    client.destroy();
    socket.destroy();
    t.equal(acknowledgedBytes(socket), Infinity, 'nobody can tell of a socket that is closed');
    server.close();
  }
});

t.test(
  'the first that speak the framed protocol have a larger one, until they close',
  { skip: native === undefined },
  async (t) => {
    const given: number[] = [];
    t.intercept(native!, 'limitReceiveBuffer', { value: (_fd: number, bytes: number) => void given.push(bytes) });
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const accepted = async (): Promise<Socket> => {
      connect(port, '127.0.0.1').unref();
      const [socket] = (await once(server, 'connection')) as [Socket];
      return socket;
    };
    const buffers = new LargeReceiveBuffers(32 * KIB);
    const sockets: Socket[] = [];
    for (let i = 0; i <= LARGE_RECEIVE_CONNECTIONS; i++) sockets.push(await accepted());
    for (const socket of sockets) buffers.give(socket);
    t.strictSame(given, Array(LARGE_RECEIVE_CONNECTIONS).fill(LARGE_RECEIVE_BYTES), 'one gets none');
    buffers.give(sockets.at(-1)!);
    t.equal(given.length, LARGE_RECEIVE_CONNECTIONS, 'nor later');
    const closed = once(sockets[0].destroy(), 'close');
    await closed;
    buffers.give(sockets.at(-1)!);
    t.equal(given.length, LARGE_RECEIVE_CONNECTIONS + 1, 'but once another has closed');
    new LargeReceiveBuffers(MIB).give(sockets[1]);
    t.equal(given.length, LARGE_RECEIVE_CONNECTIONS + 1, 'none is made smaller');
    sockets.forEach((socket) => socket.destroy());
    server.close();
  },
);

t.test('a descriptor that is none is named by its error', { skip: native === undefined }, async (t) => {
  t.throws(() => native!.limitReceiveBuffer(2 ** 30, KIB), { code: 'EBADF', syscall: 'setsockopt' });
  t.throws(() => native!.limitReceiveBuffer(-1, KIB), { code: 'ERR_INVALID_ARG' });
  const lines: string[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line: string) => void lines.push(line) });
  limitKernel(createServer(), KIB, log);
  t.match(lines.join(''), /receiveBufferBytes has no effect/, 'a server that does not listen');
});
