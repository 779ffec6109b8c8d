// A turn of the event loop takes ACCEPTS_PER_TURN new connections, whatever is on top of the listener.

import { once } from 'node:events';
import http from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import t from 'tap';
import { ACCEPTS_PER_TURN } from '../../src/base/limits.ts';
import { acceptMore } from '../../src/ingress/more-accepts.ts';
import { native } from '../../src/platform/native.ts';
import { until } from '../support/log-support.ts';

const CLIENTS = 10 * ACCEPTS_PER_TURN;

/** Turns of the event loop that it took to accept clients that had all come before. */
async function turnsFor(server: ReturnType<typeof createServer> | http.Server): Promise<number> {
  let turns = 0;
  let first: number | undefined;
  let last = 0;
  let accepted = 0;
  const sockets: Socket[] = [];
  server.on('connection', (socket: Socket) => {
    first ??= turns;
    last = turns;
    accepted++;
    sockets.push(socket);
  });
  const { port } = server.address() as AddressInfo;
  // The kernel answers for a listener: all are in its queue when this turn ends.
  const clients = Array.from({ length: CLIENTS }, () => connect(port, '127.0.0.1').on('error', () => undefined));
  let isOver = false;
  const count = (): void => void (turns++, isOver || setImmediate(count));
  count();
  await until(() => accepted === CLIENTS, 'all are accepted');
  isOver = true;
  for (const socket of [...clients, ...sockets]) socket.destroy();
  return last - first!;
}

t.test('with helpers and without', { skip: native === undefined ? 'no addon' : false }, async (t) => {
  for (const make of [() => createServer(), () => http.createServer()]) {
    for (const isHelped of [false, true]) {
      const server = make().listen({ port: 0, host: '127.0.0.1', backlog: 2 * CLIENTS });
      await once(server, 'listening');
      const helpers = isHelped ? await acceptMore(server, 2 * CLIENTS) : [];
      t.equal(helpers.length, isHelped ? ACCEPTS_PER_TURN - 1 : 0);
      const turns = await turnsFor(server);
      if (isHelped) t.ok(turns <= CLIENTS / ACCEPTS_PER_TURN + 2, `${turns} turns for ${CLIENTS} clients`);
      else t.ok(turns >= CLIENTS - 1, `${turns} turns without helpers: else they are not needed any more`);
      const closed = [server, ...helpers].map((s) => new Promise((resolve) => s.close(resolve)));
      await Promise.all(closed);
    }
  }
});

t.test('what a helper took is served like any other, and the port is free once all are closed', async (t) => {
  const server = http.createServer((_req, res) => res.end('x')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const helpers = await acceptMore(server, 511);
  const { port } = server.address() as AddressInfo;
  const ask = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const req = http.get({ port, host: '127.0.0.1', agent: false }, (res) => {
        let text = '';
        res.setEncoding('utf8').on('data', (part: string) => (text += part));
        res.on('end', () => resolve(text));
      });
      req.on('error', reject);
    });
  const texts = await Promise.all(Array.from({ length: 64 }, ask));
  t.same(new Set(texts), new Set(['x']));
  await Promise.all([server, ...helpers].map((s) => new Promise((resolve) => s.close(resolve))));
  await t.rejects(ask(), { code: 'ECONNREFUSED' });
});
