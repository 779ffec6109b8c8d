// A conversation over the framed protocol: what is appended, and how it is acknowledged; draining, BYE and the ends of a
// connection. What is refused: tcp-refusals.test.ts; what is bounded: tcp-limits.test.ts, in time: tcp-deadlines.test.ts; who
// sends, and sends again: tcp-producers.test.ts.

import t from 'tap';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { encodeAppend } from '../../src/codec/append-frame.ts';
import { WELCOME_CODECS } from '../../src/codec/append-codec.ts';
import { encodeBye, encodeStream, frameType, MAX_ACK_RUNS, WELCOME_REMEMBERS } from '../../src/codec/frames.ts';
import { TcpConnection } from '../../src/ingress/tcp.ts';
import { temporaryDirectory } from '../support/modes.ts';
import {
  append,
  barrier,
  bytes,
  Client,
  ended,
  hello,
  names,
  open,
  PipeClient,
  producer,
  TestHost,
  turns,
  until,
} from '../support/tcp-pipe.ts';

t.test('a conversation over TCP, and over a Unix socket', async (t) => {
  const dir = temporaryDirectory();
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  for (const path of [undefined, join(dir, 'gateway.sock')]) {
    const host = new TestHost();
    host.autoOffset = 1000;
    const connections: TcpConnection[] = [];
    const server = createServer((socket) => connections.push(new TcpConnection(socket, host)));
    if (path === undefined) server.listen(0, '127.0.0.1');
    else server.listen(path);
    await once(server, 'listening');
    const socket = path === undefined ? connect((server.address() as AddressInfo).port, '127.0.0.1') : connect(path);
    const client = new Client();
    socket.on('data', (chunk) => client.parser.push(chunk));
    const closed = once(socket, 'close');
    socket.write(Buffer.concat([hello(), encodeStream(1, 'orders'), encodeStream(2, 'visits')]));
    await until('WELCOME', () => client.welcome !== undefined);
    t.same(client.welcome, {
      version: 1,
      flags: WELCOME_REMEMBERS | WELCOME_CODECS,
      maxFrameBytes: 65_536,
      maxRecordBytes: 1000,
      credit: 1 << 20,
      durableSequence: 0,
    });
    const key = { key: bytes('k'), payload: bytes('with key'), unterminated: true };
    socket.write(Buffer.concat([append(0, 3), append(3, 1, { streamId: 2 })]));
    socket.write(encodeAppend({ streamId: 1, firstSequence: 4, flags: 0 }, [key], true));
    socket.write(encodeBye());
    await closed;
    await connections[0].ended;
    t.strictSame(
      host.calls.map((c) => c.stream),
      ['orders', 'visits', 'orders'],
    );
    t.strictSame(
      host.calls.map((c) => c.payloads),
      [names(0, 3), names(3, 4), ['with key']],
    );
    t.strictSame(
      host.calls.map((c) => c.identity),
      [0, 3, 4].map((low) => ({ id: producer(), low, high: 0 })),
    );
    t.strictSame(host.calls[0].who, 'somebody');
    t.equal(client.acked, 5);
    t.strictSame([client.runs[0].firstOffset, client.runs.reduce((sum, r) => sum + r.records, 0)], [1000, 5]);
    t.match(host.counts, { frames: 3 });
    t.equal(host.given[0].held, 0, 'all credit came back');
    t.equal(host.given[0].closed, true);
    server.close();
    await once(server, 'close');
  }
});

t.test('acknowledged only after the append has resolved, in order', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  client.send(append(0, 2), append(2, 3));
  await until('both appends', () => host.calls.length === 2);
  host.calls[1].durableAt(50);
  await barrier(client);
  t.equal(client.count(frameType.ack), 0, 'the later one waits for the earlier');
  t.equal(host.given[0].held, append(0, 2).length + append(2, 3).length, 'and so does its credit');
  host.calls[0].durableAt(10);
  await until('ACK', () => client.acked === 5);
  t.equal(client.count(frameType.ack), 1);
  t.strictSame(client.runs, [
    { firstSequence: 0, firstOffset: 10, records: 2, flags: 0 },
    { firstSequence: 2, firstOffset: 50, records: 3, flags: 0 },
  ]);
  t.equal(host.given[0].held, 0);
});

t.test('what becomes durable in one turn shares one write', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  client.send(...Array.from({ length: 100 }, (_, i) => append(i)));
  await until('the appends', () => host.calls.length === 100);
  const before = client.pipe.writes;
  host.given[0].next = 77;
  host.calls.forEach((call, i) => call.durableAt(i));
  await until('ACK', () => client.acked === 100);
  t.equal(client.pipe.writes - before, 1);
  t.equal(client.count(frameType.ack), 1);
  t.equal(client.credit, (1 << 20) + 77, 'CREDIT in the same write');
  t.strictSame(client.runs, [{ firstSequence: 0, firstOffset: 0, records: 100, flags: 0 }]);
});

t.test('records of others between them: a run for each piece, and more ACKs where there are many', async (t) => {
  const many = MAX_ACK_RUNS * 2 + 5;
  const host = new TestHost({ maxRequestRecords: many, maxFrameBytes: 1 << 19 });
  const client = await open(host);
  client.send(append(0, 5), append(5, many));
  await until('both appends', () => host.calls.length === 2);
  const pieces = [
    { firstOffset: 10, records: 2 },
    { firstOffset: 20, records: 3 },
  ];
  host.calls[0].resolve({ firstOffset: 10, lastOffset: 22, runs: pieces });
  await until('ACK', () => client.acked === 5);
  t.strictSame(client.runs, [
    { firstSequence: 0, firstOffset: 10, records: 2, flags: 0 },
    { firstSequence: 2, firstOffset: 20, records: 3, flags: 0 },
  ]);
  const runs = Array.from({ length: many }, (_, i) => ({ firstOffset: 100 + i * 2, records: 1 }));
  host.calls[1].resolve({ firstOffset: 100, lastOffset: 98 + many * 2, runs });
  await until('ACKs', () => client.acked === 5 + many);
  t.equal(client.count(frameType.ack), 1 + 3);
  t.strictSame(
    client.runs.slice(2),
    runs.map(({ firstOffset }, i) => ({ firstSequence: 5 + i, firstOffset, records: 1, flags: 0 })),
  );
});

t.test('the same frames, cut at every byte', async (t) => {
  const streams = [encodeStream(1, 'orders'), encodeStream(2, 'visits')];
  const rest = Buffer.concat([...streams, append(0, 2), append(2, 1, { streamId: 2 }), encodeBye()]);
  const greeting = Buffer.from(hello());
  const run = async (cuts: readonly Uint8Array[], helloCuts: readonly Uint8Array[], name: string): Promise<void> => {
    const host = new TestHost();
    host.autoOffset = 0;
    const client = new PipeClient(host);
    for (const piece of helloCuts) {
      client.send(piece);
      await turn();
    }
    await until('WELCOME', () => client.welcome !== undefined);
    for (const piece of cuts) {
      client.send(piece);
      await turn();
    }
    await ended(client);
    t.strictSame(
      [client.acked, host.calls.map((c) => [c.stream, ...c.payloads]), client.errors],
      [
        3,
        [
          ['orders', 'r0', 'r1'],
          ['visits', 'r2'],
        ],
        [],
      ],
      name,
    );
  };
  for (let i = 1; i < greeting.length; i++) {
    await run([rest], [greeting.subarray(0, i), greeting.subarray(i)], `HELLO at ${i}`);
  }
  for (let i = 1; i < rest.length; i++) {
    await run([rest.subarray(0, i), rest.subarray(i)], [greeting], `the rest at ${i}`);
  }
  const single = (b: Buffer): Uint8Array[] => [...b].map((byte) => Uint8Array.of(byte));
  await run(single(rest), single(greeting), 'byte by byte');
});

t.test('after DRAIN there is no more credit, what is under way is acknowledged, BYE ends it', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  client.send(append(0));
  await until('the append', () => host.calls.length === 1);
  await barrier(client);
  const { credit } = client;
  host.given[0].next = 500;
  host.calls[0].durableAt(9);
  await until('ACK', () => client.acked === 1);
  client.connection.drain();
  client.send(encodeBye());
  await ended(client);
  t.equal(client.credit, credit);
  t.equal(client.count(frameType.drain), 1);
  t.strictSame(client.errors, []);

  const late = new PipeClient(host);
  late.connection.drain();
  await ended(late);
  t.match(late.errors, [{ code: 'DRAINING', records: 0, retryable: true }]);
});

t.test("DRAIN while the producer is still another connection's comes after WELCOME, without credit", async (t) => {
  const host = new TestHost();
  const old = await open(host);
  old.send(append(0));
  await until('the append', () => host.calls.length === 1);
  const client = new PipeClient(host);
  client.send(hello());
  await turns();
  client.connection.drain();
  host.calls[0].durableAt(0);
  await until('DRAIN', () => client.count(frameType.drain) === 1);
  t.strictSame(
    client.frames.map((f) => f.type),
    [frameType.welcome, frameType.drain],
  );
  t.equal(client.credit, 0);
});

t.test('a client that closes its side without BYE gets what is under way, where the socket allows it', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  client.send(append(0, 3));
  await until('the append', () => host.calls.length === 1);
  client.pipe.push(null);
  await turns();
  t.equal(client.ended, false);
  host.calls[0].durableAt(12);
  await ended(client);
  t.equal(client.acked, 3);

  const silent = new PipeClient(host);
  silent.pipe.push(null);
  await ended(silent);
  t.strictSame(silent.frames, []);
});
