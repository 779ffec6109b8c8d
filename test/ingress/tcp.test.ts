import t from 'tap';
import fc from 'fast-check';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { SpillwayError, type ErrorCode } from '../../src/base/errors.ts';
import type { Identity } from '../../src/base/types.ts';
import { encodeAppend, payloadsOf } from '../../src/codec/append-frame.ts';
import { FrameParser } from '../../src/codec/frame-parser.ts';
import {
  APPEND_SKIPS,
  decodeAck,
  decodeCredit,
  decodeError,
  decodeWelcome,
  encodeBye,
  encodeHello,
  encodeStream,
  FRAME_HEADER_BYTES,
  frameType,
  MAX_ACK_RUNS,
  MAX_SERVER_FRAME_BYTES,
  RUN_DUPLICATE,
  type AckRun,
  type ErrorFrame,
  type Frame,
  type Welcome,
} from '../../src/codec/frames.ts';
import { DedupeTable, MAX_RUNS, type Dedupe, type Remembered } from '../../src/flow/dedupe.ts';
import { Pulse } from '../../src/ingress/pulse.ts';
import { TcpConnection } from '../../src/ingress/tcp.ts';
import { native } from '../../src/platform/native.ts';
import {
  tcpLimits,
  type ConnectionCredits,
  type TcpCounter,
  type TcpHost,
  type TcpLimits,
} from '../../src/ingress/tcp-host.ts';
import type { AppendedMany } from '../../src/pipeline/job.ts';
import { temporaryDirectory } from '../support/modes.ts';

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const producer = (n = 7): Uint8Array => new Uint8Array(16).fill(n);
const MAX_TURNS = 20_000;

/** Bounded, and never a sleep: what is awaited happens in a turn of the event loop. */
async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < MAX_TURNS; i++) {
    if (condition()) return;
    await turn();
  }
  throw new Error(`did not happen in ${MAX_TURNS} turns: ${what}`);
}

async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/** One append as the lane would get it. */
class Call {
  readonly stream: string;
  readonly frames: Uint8Array;
  readonly records: number;
  readonly payloads: string[];
  readonly identity: Identity | undefined;
  readonly who: string;
  readonly promise: Promise<AppendedMany>;
  resolve!: (appended: AppendedMany) => void;
  reject!: (error: unknown) => void;

  constructor(stream: string, frames: Uint8Array, records: number, identity: Identity | undefined, who: string) {
    this.stream = stream;
    this.frames = frames;
    this.records = records;
    this.payloads = payloadsOf(frames).map((p) => Buffer.from(p).toString());
    this.identity = identity;
    this.who = who;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  durableAt(firstOffset: number): void {
    this.resolve({ firstOffset, lastOffset: firstOffset + this.records - 1 });
  }
}

class TestCredits implements ConnectionCredits {
  /** Given by the next `grant`. */
  next: number;
  held = 0;
  closed = false;
  room: Promise<void> | undefined;
  readonly onRoom: () => void;

  constructor(first: number, onRoom: () => void) {
    this.next = first;
    this.onRoom = onRoom;
  }

  grant(): number {
    const bytes = this.next;
    this.next = 0;
    return bytes;
  }

  spent(count: number): Promise<void> | undefined {
    this.held += count;
    return this.room;
  }

  returned(count: number): void {
    this.held -= count;
  }

  close(): void {
    this.closed = true;
  }
}

class TestHost implements TcpHost {
  readonly limits: TcpLimits;
  readonly calls: Call[] = [];
  /** Offset that the next append gets at once; undefined: the test resolves them. */
  autoOffset: number | undefined;
  token: string | undefined;
  firstCredit = 1 << 20;
  readonly given: TestCredits[] = [];
  dedupe: Dedupe | undefined = new DedupeTable({ maxKeys: 100, maxAgeMs: 1e9 }, () => 0);
  readonly counts: Partial<Record<TcpCounter, number>> = {};
  readonly errors: object[] = [];

  constructor(limits: Partial<TcpLimits> = {}) {
    const own = { maxFrameBytes: 65_536, maxRecordBytes: 1000, maxRequestRecords: 50 };
    this.limits = { ...tcpLimits, ...own, ...limits };
  }

  authenticate(token: Uint8Array | undefined): { name: string } | undefined {
    if (this.token === undefined) return { name: 'somebody' };
    return token !== undefined && Buffer.from(token).toString() === this.token ? { name: 'holder' } : undefined;
  }

  credits(onRoom: () => void): ConnectionCredits {
    const credits = new TestCredits(this.firstCredit, onRoom);
    this.given.push(credits);
    return credits;
  }

  append(stream: string, frames: Uint8Array, records: number, identity: Identity | undefined, who: string) {
    const call = new Call(stream, frames, records, identity, who);
    this.calls.push(call);
    if (this.autoOffset !== undefined) {
      call.durableAt(this.autoOffset);
      this.autoOffset += records;
    }
    return call.promise;
  }

  retryAfterMs(error: SpillwayError): number {
    return error.retryable ? 2500 : 0;
  }

  readonly counters = {
    add: (name: TcpCounter, amount = 1): void => void (this.counts[name] = (this.counts[name] ?? 0) + amount),
  };

  readonly log = {
    debug: (): void => undefined,
    warn: (): void => undefined,
    error: (fields: object): void => void this.errors.push(fields),
  };
}

/** The server's socket, with chunks cut where the test says, and writes that end when it says. */
class Pipe extends Duplex {
  writes = 0;
  bytesWritten = 0;
  /** Writes wait while set, as for a peer that does not read. */
  #held: (() => void)[] | undefined;
  readonly #onBytes: (chunk: Uint8Array) => void;

  constructor(onBytes: (chunk: Uint8Array) => void) {
    super({ allowHalfOpen: true });
    this.#onBytes = onBytes;
  }

  setNoDelay(): this {
    return this;
  }

  hold(): void {
    this.#held = [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const go of held) go();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const go = (): void => {
      this.writes++;
      this.bytesWritten += chunk.length;
      this.#onBytes(chunk);
      done();
    };
    if (this.#held === undefined) go();
    else this.#held.push(go);
  }

  /** The peer closes too once the server has. */
  override _final(done: () => void): void {
    done();
    this.push(null);
  }
}

/** The client's view of a connection. */
class Client {
  readonly frames: Frame[] = [];
  readonly errors: ErrorFrame[] = [];
  readonly runs: AckRun[] = [];
  acked = 0;
  credit = 0;
  welcome: Welcome | undefined;
  readonly parser = new FrameParser('client', MAX_SERVER_FRAME_BYTES, {
    onHeader: () => undefined,
    onFrame: (frame) => this.#onFrame({ ...frame, payload: new Uint8Array(frame.payload) }),
  });

  count(type: number): number {
    return this.frames.filter((f) => f.type === type).length;
  }

  #onFrame(frame: Frame): void {
    this.frames.push(frame);
    if (frame.type === frameType.welcome) this.credit += (this.welcome = decodeWelcome(frame)).credit;
    else if (frame.type === frameType.ack) {
      const ack = decodeAck(frame);
      this.runs.push(...ack.runs);
      this.acked = ack.sequence;
    } else if (frame.type === frameType.error) this.errors.push(decodeError(frame));
    else if (frame.type === frameType.credit) this.credit += decodeCredit(frame);
  }
}

class PipeClient extends Client {
  readonly pipe: Pipe;
  readonly connection: TcpConnection;
  ended = false;

  constructor(host: TcpHost) {
    super();
    this.pipe = new Pipe((chunk) => this.parser.push(chunk));
    this.connection = new TcpConnection(this.pipe as unknown as Socket, host);
    void this.connection.ended.then(() => (this.ended = true));
  }

  send(...frames: readonly Uint8Array[]): void {
    this.pipe.push(Buffer.concat(frames));
  }

  /** The network is gone. */
  cut(): void {
    this.pipe.destroy();
  }
}

const hello = (firstSequence = 0, id: Uint8Array | null = producer(), token?: string): Uint8Array =>
  encodeHello({
    version: 1,
    producerId: id ?? undefined,
    firstSequence,
    token: token === undefined ? undefined : bytes(token),
  });

/** An APPEND of small records 'r<sequence>'. */
function append(firstSequence: number, records = 1, { streamId = 1, flags = 0, identity = true } = {}): Uint8Array {
  const list = Array.from({ length: records }, (_, i) => ({
    key: null,
    payload: bytes(`r${firstSequence + i}`),
    unterminated: false,
  }));
  return encodeAppend({ streamId, firstSequence, flags }, list, identity);
}

const names = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => `r${from + i}`);

async function open(host: TestHost, firstSequence = 0, id = producer()): Promise<PipeClient> {
  const client = new PipeClient(host);
  client.send(hello(firstSequence, id), encodeStream(1, 'orders'));
  await until('WELCOME', () => client.welcome !== undefined);
  return client;
}

/** Everything that an earlier event causes has been written once this DRAIN is there. */
async function barrier(client: PipeClient): Promise<void> {
  await turns();
  client.connection.drain();
  await until('DRAIN', () => client.count(frameType.drain) === 1);
}

async function ended(client: PipeClient): Promise<void> {
  await until('the end of the connection', () => client.ended);
}

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
      flags: 1,
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

/** A frame by hand. */
function raw(type: number, payloadBytes: number, payload = new Uint8Array(0), streamId = 0): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payloadBytes, 0);
  frame[4] = type;
  frame.writeUInt16LE(streamId, 6);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

function changed(frame: Uint8Array, change: (v: DataView) => void): Uint8Array {
  const copy = new Uint8Array(frame);
  change(new DataView(copy.buffer));
  return copy;
}

t.test('bad input: ERROR, closed, nothing appended, nothing acknowledged, a counter moved', async (t) => {
  const early: Record<string, Uint8Array> = {
    'STREAM before HELLO': encodeStream(1, 'orders'),
    'APPEND before HELLO': append(0),
    'BYE before HELLO': encodeBye(),
    'wrong magic': changed(hello(), (v) => v.setUint8(8, 0)),
    'version 2': changed(hello(), (v) => v.setUint16(12, 2, true)),
    'unknown type': raw(99, 0),
    HTTP: Buffer.from('POST /v1/streams/a/records HTTP/1.1\r\n\r\n'),
    'HELLO of 0 bytes': raw(frameType.hello, 0),
    'HELLO of 2^31': raw(frameType.hello, 2 ** 31),
    'a token of a megabyte': raw(frameType.hello, 32 + 2 ** 20),
    'APPEND before WELCOME': Buffer.concat([hello(), encodeStream(1, 'orders'), append(0)]),
  };
  const late: Record<string, Uint8Array> = {
    'a second HELLO': hello(),
    'STREAM of 0 bytes': raw(frameType.stream, 0, undefined, 1),
    'STREAM 257': encodeStream(257, 'orders'),
    'STREAM 0': encodeStream(0, 'orders'),
    'APPEND of 0 bytes': raw(frameType.append, 0, undefined, 1),
    'APPEND without records': changed(append(0), (v) => v.setUint32(16, 0, true)),
    'APPEND of maxFrameBytes + 1': raw(frameType.append, 65_536 - FRAME_HEADER_BYTES + 1, undefined, 1),
    'APPEND of 2^31': raw(frameType.append, 2 ** 31, undefined, 1),
    'APPEND of 2^32 - 1': raw(frameType.append, 2 ** 32 - 1, undefined, 1),
    'a stream that was not declared': append(0, 1, { streamId: 2 }),
    'a gap': append(1),
    'no room for the identity': append(0, 1, { identity: false }),
    'a record that leads out': changed(append(0), (v) => v.setUint32(24, 100, true)),
    'a sequence of 2^53': changed(append(0), (v) => v.setUint32(12, 2 ** 21, true)),
    'after BYE': Buffer.concat([encodeBye(), append(0)]),
    'a frame of the server': raw(frameType.drain, 0),
  };
  const run = async (name: string, client: PipeClient, host: TestHost, frame: Uint8Array): Promise<void> => {
    // And what follows is not looked at.
    client.send(frame, append(0), encodeBye());
    await ended(client);
    t.strictSame(
      client.errors.map((e) => [e.code, e.records]),
      [['PROTOCOL_ERROR', 0]],
      `${name}: ERROR`,
    );
    t.strictSame([client.count(frameType.ack), host.calls.length], [0, 0], `${name}: nothing appended`);
    t.equal(host.counts.protocolErrors, 1, `${name}: counted`);
    t.strictSame(host.errors, [], `${name}: no bug`);
    t.equal(host.given[0].closed, true, `${name}: credit given back`);
    const again = await open(host);
    t.equal(again.errors.length, 0, `${name}: the producer is free again`);
    again.cut();
  };
  for (const [name, frame] of Object.entries(early)) {
    const host = new TestHost();
    await run(name, new PipeClient(host), host, frame);
  }
  for (const [name, frame] of Object.entries(late)) {
    const host = new TestHost();
    await run(name, await open(host), host, frame);
  }
});

t.test('sequences that go back, or repeat, end the connection; SKIPS jumps, and never back', async (t) => {
  const attempt = async (...frames: Uint8Array[]): Promise<[string[][], string[]]> => {
    const host = new TestHost();
    host.autoOffset = 0;
    const client = await open(host, 5);
    client.send(...frames, encodeBye());
    await ended(client);
    return [host.calls.map((c) => c.payloads), client.errors.map((e) => e.code)];
  };
  const flags = APPEND_SKIPS;
  t.strictSame(await attempt(append(5, 2), append(7)), [[['r5', 'r6'], ['r7']], []]);
  t.strictSame(await attempt(append(5, 2), append(6)), [[['r5', 'r6']], ['PROTOCOL_ERROR']]);
  t.strictSame(await attempt(append(5, 2), append(5, 2)), [[['r5', 'r6']], ['PROTOCOL_ERROR']]);
  t.strictSame(await attempt(append(4)), [[], ['PROTOCOL_ERROR']], 'below firstSequence of HELLO');
  t.strictSame(await attempt(append(9, 1, { flags }), append(10)), [[['r9'], ['r10']], []]);
  t.strictSame(await attempt(append(5, 2), append(6, 1, { flags })), [[['r5', 'r6']], ['PROTOCOL_ERROR']]);
  t.strictSame(await attempt(append(5), encodeBye(), encodeStream(2, 'late')), [[['r5']], ['PROTOCOL_ERROR']]);
});

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

t.test('who has no valid token is not let in', async (t) => {
  for (const token of [undefined, 'wrong', 'secret2', 'x'.repeat(4096)]) {
    const host = new TestHost();
    host.token = 'secret';
    const client = new PipeClient(host);
    client.send(hello(0, producer(), token), encodeStream(1, 'orders'));
    await ended(client);
    t.strictSame(
      client.errors.map((e) => [e.code, e.records]),
      [['UNAUTHORIZED', 0]],
    );
    t.match(host.counts, { unauthorized: 1 });
    t.equal((await host.dedupe!.claim('x')) ?? 'nothing', 'nothing', 'and no producer was claimed');
  }
  const host = new TestHost();
  host.token = 'secret';
  host.autoOffset = 0;
  const client = new PipeClient(host);
  client.send(hello(0, producer(), 'secret'), encodeStream(1, 'orders'));
  await until('WELCOME', () => client.welcome !== undefined);
  client.send(append(0), encodeBye());
  await ended(client);
  t.equal(host.calls[0].who, 'holder');
});

t.test('a range that is refused: its sequences are used up, in order, and the connection goes on', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  const large = { key: bytes('k'), payload: new Uint8Array(1000), unterminated: false };
  const largest = { key: bytes('k'), payload: new Uint8Array(999), unterminated: false };
  client.send(
    encodeStream(2, '../etc/passwd'),
    append(0, 2),
    encodeAppend({ streamId: 1, firstSequence: 2, flags: 0 }, [largest, large], true),
    append(4, 51),
    append(55, 3, { streamId: 2 }),
    append(58, 2),
    append(60, 1),
    encodeAppend({ streamId: 1, firstSequence: 61, flags: 0 }, [largest], true),
    append(62, 50),
    encodeStream(2, 'good'),
    append(112, 1, { streamId: 2 }),
  );
  await until('the appends', () => host.calls.length === 6);
  await turns();
  t.equal(client.errors.length, 0, 'refusals wait for what is before them');
  host.calls[0].durableAt(100);
  await until('the first three', () => client.errors.length === 3);
  t.equal(client.acked, 2);
  host.calls[1].reject(new SpillwayError('DROPPED', 'the lane is full'));
  host.calls[2].reject(new TypeError('a bug'));
  host.calls.slice(3).forEach((call, i) => call.durableAt(200 + i * 100));
  await until('the rest', () => client.acked === 113);
  t.match(client.errors, [
    { code: 'RECORD_TOO_LARGE', firstSequence: 2, records: 2, retryable: false, retryAfterMs: 0 },
    { code: 'TOO_MANY_RECORDS', firstSequence: 4, records: 51 },
    { code: 'INVALID_STREAM', firstSequence: 55, records: 3 },
    {
      code: 'DROPPED',
      firstSequence: 58,
      records: 2,
      retryable: true,
      retryAfterMs: 2500,
      message: 'the lane is full',
    },
    { code: 'IO_ERROR', firstSequence: 60, records: 1, message: 'a bug' },
  ]);
  t.strictSame(client.runs, [
    { firstSequence: 0, firstOffset: 100, records: 2, flags: 0 },
    { firstSequence: 61, firstOffset: 200, records: 1, flags: 0 },
    { firstSequence: 62, firstOffset: 300, records: 50, flags: 0 },
    { firstSequence: 112, firstOffset: 400, records: 1, flags: 0 },
  ]);
  t.equal(host.errors.length, 1, 'a bug is logged');
  t.equal(host.given[0].held, 0, 'credit of what was refused comes back too');
});

t.test('resend after a cut: what is durable is a duplicate with its offsets, the rest is appended', async (t) => {
  const host = new TestHost();
  const first = await open(host);
  first.send(append(0, 5), append(5, 5), append(10, 5));
  await until('the appends', () => host.calls.length === 3);
  host.calls[0].durableAt(100);
  await until('ACK', () => first.acked === 5);
  first.cut();
  const second = new PipeClient(host);
  second.send(hello(5), encodeStream(9, 'orders'));
  await turns();
  t.equal(second.welcome, undefined, 'no WELCOME while something of the old connection is under way');
  t.equal(first.ended, false);
  host.calls[1].durableAt(205);
  host.calls[2].reject(new SpillwayError('DROPPED', 'full'));
  await until('WELCOME', () => second.welcome !== undefined);
  t.match(second.welcome, { durableSequence: 10, flags: 1 });
  t.equal(first.ended, true);
  // Cut differently, and with one more record.
  second.send(append(5, 2, { streamId: 9 }), append(7, 9, { streamId: 9 }));
  await until('the rest', () => host.calls.length === 4);
  t.strictSame(host.calls[3].payloads, names(10, 16), 'only what is not there');
  t.match(host.calls[3].identity, { low: 10, high: 0 });
  await until('duplicates', () => second.acked === 10);
  t.strictSame(second.runs, [{ firstSequence: 5, firstOffset: 205, records: 5, flags: RUN_DUPLICATE }]);
  host.calls[3].durableAt(300);
  await until('ACK', () => second.acked === 16);
  t.strictSame(second.runs.slice(1), [{ firstSequence: 10, firstOffset: 300, records: 6, flags: 0 }]);
  t.equal(host.counts.duplicates, 5);
  second.send(encodeBye());
  await ended(second);

  // The ERROR of 10 … 14 was lost, so they were new; now all is known.
  const third = await open(host, 0);
  t.equal(third.welcome!.durableSequence, 16);
  third.send(append(0, 16), encodeBye());
  await ended(third);
  t.equal(host.calls.length, 4);
  t.strictSame(third.runs, [
    { firstSequence: 0, firstOffset: 100, records: 5, flags: RUN_DUPLICATE },
    { firstSequence: 5, firstOffset: 205, records: 5, flags: RUN_DUPLICATE },
    { firstSequence: 10, firstOffset: 300, records: 6, flags: RUN_DUPLICATE },
  ]);
});

t.test('a fence cuts the old connection; whoever came last gets the producer', async (t) => {
  const host = new TestHost();
  const first = await open(host);
  first.send(append(0, 2));
  await until('the append', () => host.calls.length === 1);
  const second = new PipeClient(host);
  second.send(hello());
  await until('the old connection to be cut', () => first.pipe.destroyed);
  const third = new PipeClient(host);
  third.send(hello());
  const other = await open(host, 0, producer(8));
  t.ok(other.welcome, 'another producer does not wait');
  await turns();
  t.strictSame([second.welcome, third.welcome], [undefined, undefined]);
  host.calls[0].durableAt(40);
  await until('WELCOME', () => third.welcome !== undefined);
  t.equal(third.welcome!.durableSequence, 2);
  await ended(first);
  await ended(second);
  t.equal(first.count(frameType.ack), 0, 'the old connection is told nothing any more');
  t.strictSame([first.errors, second.errors], [[], []]);
  t.equal(host.counts.fenced, 2);
  third.cut();
  await ended(third);
  const fourth = await open(host);
  t.equal(fourth.welcome!.durableSequence, 2, 'and it can be taken again');
});

t.test('a connection that is cut while it waits for its producer gives it back', async (t) => {
  const host = new TestHost();
  const first = await open(host);
  first.send(append(0));
  await until('the append', () => host.calls.length === 1);
  const second = new PipeClient(host);
  second.send(hello());
  await turns();
  second.cut();
  host.calls[0].durableAt(3);
  await ended(second);
  const third = await open(host);
  t.equal(third.welcome!.durableSequence, 1);
});

t.test('a dedupe table that fails ends the connection', async (t) => {
  const host = new TestHost();
  host.dedupe = {
    claim: () => Promise.reject(new SpillwayError('CLOSED', 'the thread is gone')),
    release: () => t.fail('nothing was claimed'),
  };
  const client = new PipeClient(host);
  client.send(hello());
  await ended(client);
  t.match(client.errors, [{ code: 'CLOSED', records: 0 }]);
});

t.test('without a producer id, or without a table, nothing is recognised', async (t) => {
  for (const identity of [true, false]) {
    const host = new TestHost();
    host.dedupe = undefined;
    host.autoOffset = 0;
    for (let i = 0; i < 2; i++) {
      const client = new PipeClient(host);
      client.send(hello(3, identity ? producer() : null), encodeStream(1, 'orders'));
      await until('WELCOME', () => client.welcome !== undefined);
      t.match(client.welcome, { flags: 0, durableSequence: 0 });
      client.send(append(3, 2, { identity }), encodeBye());
      await ended(client);
      t.strictSame(client.runs, [{ firstSequence: 3, firstOffset: i * 2, records: 2, flags: 0 }]);
    }
    t.equal(host.calls.length, 2);
    t.strictSame(host.calls[1].identity, identity ? { id: producer(), low: 3, high: 0 } : undefined);
  }
});

t.test('sequences beyond 2^32 are carried in both words of the identity', async (t) => {
  const host = new TestHost();
  const client = await open(host, 2 ** 40 + 5);
  client.send(append(2 ** 40 + 5));
  await until('the append', () => host.calls.length === 1);
  t.match(host.calls[0].identity, { low: 5, high: 256 });
});

t.test('the first bit of a producer id is cleared, in the log as in the table', async (t) => {
  const host = new TestHost();
  host.autoOffset = 0;
  const claimed: string[] = [];
  const table = host.dedupe!;
  host.dedupe = {
    claim: (id, onFence) => {
      claimed.push(Buffer.from(id, 'latin1').toString('hex'));
      return table.claim(id, onFence);
    },
    release: (id, remembered) => table.release(id, remembered),
  };
  const client = await open(host, 0, producer(0xf7));
  client.send(append(0), encodeBye());
  await ended(client);
  const stored = Buffer.from(host.calls[0].identity!.id).toString('hex');
  t.equal(stored, `77${'f7'.repeat(15)}`);
  t.strictSame(claimed, [stored]);
});

/** A table that remembers what the test says, and hands out what is given back. */
function remembering(remembered: Remembered): Dedupe & { given?: Remembered | undefined } {
  const table: Dedupe & { given?: Remembered | undefined } = {
    claim: () => Promise.resolve(remembered),
    release: (_id, after) => void (table.given = after),
  };
  return table;
}

t.test('what was stored out of order is found; what has been forgotten is said to be', async (t) => {
  const host = new TestHost();
  const table = remembering({
    nextSequence: 9,
    tag: 0,
    runs: [
      { firstSequence: 5, firstOffset: 50, records: 4 },
      { firstSequence: 1, firstOffset: 70, records: 2 },
    ],
  });
  host.dedupe = table;
  host.autoOffset = 90;
  const client = await open(host);
  client.send(append(0, 10), encodeBye());
  await ended(client);
  t.strictSame(client.runs, [
    { firstSequence: 0, firstOffset: 90, records: 1, flags: 0 },
    { firstSequence: 1, firstOffset: 70, records: 2, flags: RUN_DUPLICATE },
    { firstSequence: 3, firstOffset: 91, records: 2, flags: 0 },
    { firstSequence: 5, firstOffset: 50, records: 4, flags: RUN_DUPLICATE },
    { firstSequence: 9, firstOffset: 93, records: 1, flags: 0 },
  ]);
  t.strictSame(
    host.calls.map((c) => c.payloads),
    [['r0'], ['r3', 'r4'], ['r9']],
  );
  t.equal(table.given!.nextSequence, 10);
  t.strictSame(
    table.given!.runs.map((r) => r.firstSequence),
    [0, 1, 3, 5, 9],
  );

  // Side by side in the log with what was there before, but not a duplicate.
  const joined = new TestHost();
  joined.dedupe = remembering({ nextSequence: 2, tag: 0, runs: [{ firstSequence: 0, firstOffset: 100, records: 2 }] });
  joined.autoOffset = 102;
  const again = await open(joined);
  again.send(append(0, 4), encodeBye());
  await ended(again);
  t.strictSame(again.runs, [
    { firstSequence: 0, firstOffset: 100, records: 2, flags: RUN_DUPLICATE },
    { firstSequence: 2, firstOffset: 102, records: 2, flags: 0 },
  ]);

  const full = new TestHost();
  const runs = Array.from({ length: MAX_RUNS }, (_, i) => ({
    firstSequence: 10 + i * 2,
    firstOffset: i * 7,
    records: 1,
  }));
  full.dedupe = remembering({ nextSequence: 10 + MAX_RUNS * 2, tag: 0, runs });
  full.autoOffset = 10_000;
  const late = await open(full, 8);
  late.send(append(8, 4), encodeBye());
  await ended(late);
  t.match(late.errors, [{ code: 'DISCONNECTED', firstSequence: 8, records: 2 }]);
  t.strictSame(late.runs, [
    { firstSequence: 10, firstOffset: 0, records: 1, flags: RUN_DUPLICATE },
    { firstSequence: 11, firstOffset: 10_000, records: 1, flags: 0 },
  ]);
});

t.test('any resend, cut anywhere, of any producer: each sequence is stored once', async (t) => {
  const step = fc.record({
    records: fc.integer({ min: 1, max: 6 }),
    outcome: fc.constantFrom('durable', 'refused', 'gap', 'pieces'),
    cut: fc.boolean(),
    back: fc.nat({ max: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const host = new TestHost();
      /** Sequence to offset, of what the log has. */
      const stored = new Map<number, number>();
      let offset = 0;
      let taken = 0;
      let next = 0;
      let client = await open(host);
      for (const { records, outcome, cut, back } of steps) {
        client.send(append(next, records));
        next += records;
        await turns(3);
        for (; taken < host.calls.length; taken++) {
          const call = host.calls[taken];
          const sequence = call.identity!.low;
          if (outcome === 'refused') {
            call.reject(new SpillwayError('DROPPED', 'full'));
            continue;
          }
          if (outcome === 'gap') offset += 5;
          const runs: { records: number; firstOffset: number }[] = [];
          for (let i = 0; i < call.records; i++) {
            if (outcome === 'pieces') offset++;
            t.notOk(stored.has(sequence + i), 'not stored twice');
            stored.set(sequence + i, offset);
            runs.push({ records: 1, firstOffset: offset++ });
          }
          call.resolve({ firstOffset: runs[0].firstOffset, lastOffset: offset - 1, runs });
        }
        await until('the answer', () => client.acked + client.errors.length > 0);
        for (const run of client.runs) {
          for (let i = 0; i < run.records; i++) t.equal(stored.get(run.firstSequence + i), run.firstOffset + i);
        }
        if (!cut) continue;
        client.cut();
        next = Math.max(0, next - back);
        client = await open(host, next);
      }
      client.send(encodeBye());
      await ended(client);
    }),
    { numRuns: 60 },
  );
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

t.test('whoever waits hears something at every beat, and nobody else', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  const pulse = new Pulse(client.pipe as unknown as Socket, () => client.connection.owes);
  const heard = async (which: PipeClient, beating: Pulse): Promise<number> => {
    const before = which.count(frameType.credit);
    beating.beat();
    await turns();
    return which.count(frameType.credit) - before;
  };
  t.equal(await heard(client, pulse), 0, 'WELCOME has just been written');
  t.equal(await heard(client, pulse), 0, 'it waits for nothing');
  client.send(append(0));
  await until('the append', () => host.calls.length === 1);
  const { credit } = client;
  for (let i = 0; i < 3; i++) t.equal(await heard(client, pulse), 1, 'its record is held');
  t.equal(client.credit, credit, 'of nothing');

  const newer = new PipeClient(host);
  const newerPulse = new Pulse(newer.pipe as unknown as Socket, () => newer.connection.owes);
  t.equal(await heard(newer, newerPulse), 0, 'before HELLO');
  newer.send(hello(0));
  await turns();
  t.equal(newer.welcome, undefined);
  t.equal(await heard(newer, newerPulse), 1, 'its producer is held by an older connection');
  t.equal(await heard(client, pulse), 0, 'which was cut');
  host.calls[0].durableAt(0);
  await until('WELCOME', () => newer.welcome !== undefined);
  newer.send(encodeStream(1, 'orders'), append(0));
  await until('an ACK', () => newer.acked === 1);
  await heard(newer, newerPulse);
  t.equal(await heard(newer, newerPulse), 0, 'all is answered');
});

t.test('no HELLO, half a HELLO, half a frame: cut after their time', async (t) => {
  // Deadlines keep no process alive, and there is no socket here.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(alive));
  const cases: Record<string, { limits: Partial<TcpLimits>; before: Uint8Array; code: ErrorCode }> = {
    nothing: { limits: { helloMs: 20 }, before: new Uint8Array(0), code: 'REQUEST_TIMEOUT' },
    'half a HELLO': { limits: { helloMs: 20 }, before: hello().subarray(0, 20), code: 'REQUEST_TIMEOUT' },
  };
  for (const [name, { limits, before, code }] of Object.entries(cases)) {
    const host = new TestHost(limits);
    const client = new PipeClient(host);
    if (before.length > 0) client.send(before);
    await client.connection.ended;
    t.match(client.errors, [{ code, records: 0, retryable: true }], name);
  }
  for (const part of [4, 30]) {
    const host = new TestHost({ frameMs: 30 });
    host.autoOffset = 0;
    const client = await open(host);
    client.send(append(0), append(1).subarray(0, part));
    await client.connection.ended;
    t.match(client.errors, [{ code: 'REQUEST_TIMEOUT', records: 0 }], `${part} bytes of a frame`);
    t.equal(client.acked, 1);
  }
});

/** setTimeout under the control of the test. */
class FakeTimers {
  #nowMs = 0;
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  readonly #due = new Map<object, { atMs: number; run: () => void }>();

  install(): void {
    const start = (run: () => void, ms: number): object => {
      const timer = {
        unref: () => timer,
        refresh: () => (this.#due.set(timer, { atMs: this.#nowMs + ms, run }), timer),
      };
      return timer.refresh();
    };
    globalThis.setTimeout = start as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((timer: object) => this.#due.delete(timer)) as typeof clearTimeout;
  }

  uninstall(): void {
    Object.assign(globalThis, this.#real);
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const [timer, { atMs, run }] of this.#due) {
      if (atMs > this.#nowMs) continue;
      this.#due.delete(timer);
      run();
    }
  }
}

t.test('the time of a frame begins with it: not with the one before, and not while nothing is read', async (t) => {
  const timers = new FakeTimers();
  timers.install();
  t.teardown(() => timers.uninstall());
  const host = new TestHost({ frameMs: 1000, maxUnsettledFrames: 1 });
  const client = await open(host);
  const [a, b, c] = [append(0), append(1), append(2)];
  const step = async (ms: number, ...parts: Uint8Array[]): Promise<number> => {
    timers.advance(ms);
    for (const part of parts) client.send(part);
    await turns();
    return client.errors.length;
  };
  t.equal(await step(5000, a.subarray(0, 10)), 0, 'an idle connection has no deadline');
  t.equal(await step(900, a.subarray(10)), 0);
  t.equal(await step(5000, b.subarray(0, 10)), 0, 'nor has one between two frames');
  t.equal(await step(900, Buffer.concat([b.subarray(10), c.subarray(0, 10)])), 0);
  t.equal(client.pipe.isPaused(), true, 'two frames have no answer');
  t.equal(await step(5000), 0, 'not read from for 5 s');
  t.equal(await step(700), 0, 'and some more');
  host.calls.forEach((call) => call.durableAt(0));
  t.equal(await step(0), 0);
  t.equal(client.pipe.isPaused(), false);
  t.equal(await step(999, c.subarray(10, 11)), 0);
  t.equal(await step(2, c.subarray(11, 12)), 1, '1,000 ms after reading went on, however it trickles');
  t.match(client.errors, [{ code: 'REQUEST_TIMEOUT' }]);

  const other = new TestHost({ frameMs: 1000 });
  const busy = await open(other);
  busy.send(a.subarray(0, 10));
  await turns();
  timers.advance(900);
  busy.send(Buffer.concat([a.subarray(10), b.subarray(0, 10)]));
  await turns();
  timers.advance(900);
  await turns();
  t.strictSame(busy.errors, [], 'one chunk ended a frame and began the next');
  timers.advance(200);
  await turns();
  t.match(busy.errors, [{ code: 'REQUEST_TIMEOUT' }]);
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

t.test('an append that throws instead of rejecting ends the connection and holds nothing', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  host.append = () => {
    throw new TypeError('a bug');
  };
  client.send(append(0));
  await ended(client);
  t.match(client.errors, [{ code: 'IO_ERROR', records: 0 }]);
  t.equal(host.errors.length, 1);
});
