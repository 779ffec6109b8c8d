// What a connection of the framed protocol may hold: credit, counted by both sides alike; answers that a client does not read;
// frames without an answer; the memory of what came.

import t from 'tap';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { SpillwayError } from '../../src/base/errors.ts';
import { encodeBye, encodeStream, frameType } from '../../src/codec/frames.ts';
import { TcpConnection } from '../../src/ingress/tcp.ts';
import { native } from '../../src/platform/native.ts';
import { append, Client, ended, hello, names, open, PipeClient, TestHost, turns, until } from '../support/tcp-pipe.ts';

t.test(
  'what came is given back as soon as the lane has it',
  { skip: native === undefined ? 'there is no addon' : false },
  async (t) => {
    const host = new TestHost({ maxRequestRecords: 400 });
    host.autoOffset = 0;
    const client = await open(host);
    const [first, second] = [Buffer.from(append(0, 400)), Buffer.from(append(400, 400))];
    const chunks = [first, Buffer.from(second.subarray(0, 9000)), Buffer.from(second.subarray(9000))];
    const lengths = chunks.map(({ length }) => length);
    for (const chunk of chunks) client.pipe.push(chunk);
    await until('ACK', () => client.acked === 800);
    t.strictSame([host.calls[0].payloads, host.calls[1].payloads], [names(0, 400), names(400, 800)]);
    t.ok(Math.min(...lengths) > 4096, `${lengths.join(' + ')} bytes`);
    t.strictSame(
      chunks.map(({ length }) => length),
      [0, 0, 0],
    );
    t.equal(host.calls[0].frames.length + host.calls[1].frames.length, 0);
  },
);

t.test('credit: to the byte, never beyond while something is under way', async (t) => {
  const host = new TestHost();
  host.firstCredit = append(0).length + append(1, 3).length;
  const client = await open(host);
  client.send(append(0), append(1, 3));
  await until('both appends', () => host.calls.length === 2);
  t.equal(client.errors.length, 0, 'all of it may be used');
  host.given[0].next = append(4).length - 1;
  host.given[0].onRoom();
  await until('CREDIT', () => client.credit === host.firstCredit + append(4).length - 1);
  client.send(append(4));
  await ended(new EndOf(client, host).begin());
  t.match(client.errors, [{ code: 'PROTOCOL_ERROR', records: 0 }]);
  t.equal(host.calls.length, 2);
});

/** Resolves what is under way once the connection is over, as `ended` waits for it. */
class EndOf {
  readonly #client: PipeClient;
  readonly #host: TestHost;

  constructor(client: PipeClient, host: TestHost) {
    this.#client = client;
    this.#host = host;
  }

  begin(): PipeClient {
    this.#client.pipe.once('close', () => this.#host.calls.forEach((call) => call.durableAt(0)));
    return this.#client;
  }
}

t.test('credit: a frame larger than it, while nothing is under way, waits for room and is balanced', async (t) => {
  const host = new TestHost();
  host.firstCredit = 10;
  const client = await open(host);
  const [credits] = host.given;
  let found = (): void => undefined;
  credits.room = new Promise<void>((resolve) => (found = resolve));
  const first = append(0, 40);
  client.send(first);
  await until('reading to stop', () => client.pipe.isPaused());
  t.equal(client.count(frameType.credit), 0);
  credits.room = undefined;
  found();
  await until('CREDIT', () => client.count(frameType.credit) === 1);
  t.equal(client.credit, first.length, 'what was missing, so that both count the same');
  t.equal(client.pipe.isPaused(), false);
  host.calls[0].durableAt(0);
  await until('ACK', () => client.acked === 40);
  credits.next = append(40).length * 2;
  credits.onRoom();
  await until('CREDIT', () => client.count(frameType.credit) === 2);
  client.send(append(40), append(41));
  await until('the next two, within their credit', () => host.calls.length === 3);
  t.strictSame(client.errors, []);
  client.send(append(42));
  await ended(new EndOf(client, host).begin());
  t.match(client.errors, [{ code: 'PROTOCOL_ERROR' }], 'and not a byte more than it');
});

t.test('a client that does not read is not read from; it goes on when it does', async (t) => {
  const maxUnreadBytes = 4096;
  const host = new TestHost({ maxUnreadBytes });
  host.autoOffset = 0;
  const client = await open(host);
  client.send(encodeStream(2, `-${'x'.repeat(100)}`));
  client.pipe.hold();
  let sent = 0;
  let most = 0;
  for (let i = 0; i < 4000 && !client.pipe.isPaused(); i++) {
    client.send(append(sent++, 1, { streamId: 2 }));
    await turn();
    most = Math.max(most, client.pipe.writableLength);
  }
  t.ok(client.pipe.isPaused(), 'it was stopped');
  t.ok(most > maxUnreadBytes && most < maxUnreadBytes * 2, `${most} bytes were unread`);
  // What was on its way, and what the host still answers, does not add to it.
  const stoppedAt = sent;
  host.given[0].next = 1000;
  host.given[0].onRoom();
  for (let i = 0; i < 500; i++) client.send(append(sent++, 1, { streamId: 2 }));
  await turns();
  t.equal(host.counts.frames, stoppedAt, 'nothing more was read');
  t.equal(client.pipe.writableLength, most, 'and no CREDIT was given');
  client.pipe.release();
  await until('all answers', () => client.errors.length === sent);
  t.equal(client.credit, (1 << 20) + 1000, 'CREDIT came when it read again');
  t.equal(client.pipe.isPaused(), false);
  client.send(append(sent), encodeBye());
  await ended(client);
  t.equal(client.acked, sent + 1);
});

t.test('credit that there is while a client does not read comes when it does', async (t) => {
  const host = new TestHost({ maxUnreadBytes: 50 });
  const client = await open(host);
  client.pipe.hold();
  client.send(append(0, 1, { streamId: 1 }), encodeStream(2, '..'), append(1, 1, { streamId: 2 }));
  await until('the append', () => host.calls.length === 1);
  host.calls[0].durableAt(0);
  await until('reading to stop', () => client.pipe.isPaused());
  host.given[0].next = 500;
  host.given[0].onRoom();
  await turns();
  client.pipe.release();
  await until('CREDIT', () => client.credit === (1 << 20) + 500);
  t.equal(client.errors.length, 1);
});

t.test('answers that become due while a client does not read wait, and are not lost', async (t) => {
  const host = new TestHost({ maxUnreadBytes: 1024 });
  const client = await open(host);
  const message = 'm'.repeat(500);
  client.send(...Array.from({ length: 200 }, (_, i) => append(i)));
  await until('the appends', () => host.calls.length === 200);
  client.pipe.hold();
  for (const call of host.calls) call.reject(new SpillwayError('SHED', message));
  await turns();
  t.ok(client.pipe.writableLength < 3 * 1024, `${client.pipe.writableLength} bytes of 100,000`);
  client.pipe.release();
  await until('all', () => client.errors.length === 200);
  t.strictSame(
    client.errors.map((e) => e.firstSequence),
    Array.from({ length: 200 }, (_, i) => i),
  );
});

t.test('over a real socket: a client that never reads is held, then cut', async (t) => {
  const host = new TestHost({ maxUnreadBytes: 16_384, stallMs: 500 });
  host.firstCredit = 2 ** 31;
  const sockets: Socket[] = [];
  const connections: TcpConnection[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    connections.push(new TcpConnection(socket, host));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  const client = new Client();
  socket.on('data', (chunk) => client.parser.push(chunk));
  socket.write(Buffer.concat([hello(), encodeStream(1, `-${'x'.repeat(60)}`)]));
  await until('WELCOME', () => client.welcome !== undefined);
  socket.pause();
  // Some 150 bytes of ERROR for each: far more than the kernel keeps.
  const FRAMES = 200_000;
  let sent = 0;
  let most = 0;
  let still = 0;
  for (let seen = 0; sent < FRAMES && still < 50; seen = host.counts.frames ?? 0) {
    socket.write(Buffer.concat(Array.from({ length: 500 }, () => append(sent++))));
    await turn();
    const { writableLength } = sockets[0];
    most = Math.max(most, writableLength);
    const held = writableLength > 16_384 || sockets[0].destroyed;
    still = held && host.counts.frames === seen ? still + 1 : 0;
  }
  t.ok(sent < FRAMES, `reading stopped after ${host.counts.frames} of ${sent} frames`);
  t.ok(most < 3 * 16_384, `${most} bytes were unread at most`);
  await connections[0].ended;
  t.equal(host.counts.stalled, 1);
  socket.destroy();
});

t.test('frames without an answer are bounded: no more are read until some have one', async (t) => {
  const host = new TestHost({ maxUnsettledFrames: 10 });
  const client = await open(host);
  for (let i = 0; i < 100; i++) {
    client.send(append(i));
    await turn();
  }
  t.equal(host.calls.length, 11);
  t.ok(client.pipe.isPaused());
  host.calls.forEach((call, i) => call.durableAt(i));
  await until('more', () => host.calls.length > 11);
  for (let done = 11; done < 100; done = host.calls.length) {
    host.calls.slice(done - 11).forEach((call) => call.durableAt(call.identity!.low));
    if (host.calls.length === 100) break;
    await until('more', () => host.calls.length > done);
  }
  host.calls.forEach((call) => call.durableAt(call.identity!.low));
  await until('all', () => client.acked === 100);
  t.strictSame(
    client.runs.reduce((sum, r) => sum + r.records, 0),
    100,
  );
});
