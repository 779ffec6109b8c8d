// A TcpConnection with a pipe for its socket and a host made for tests: chunks are cut and writes end where the test says, and it
// settles each append by hand. The client's view decodes what came back; nothing of it checks.

import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { SpillwayError } from '../../src/base/errors.ts';
import type { Identity } from '../../src/base/types.ts';
import { encodeAppend, payloadsOf } from '../../src/codec/append-frame.ts';
import { FrameParser } from '../../src/codec/frame-parser.ts';
import {
  decodeAck,
  decodeCredit,
  decodeError,
  decodeWelcome,
  encodeHello,
  encodeStream,
  frameType,
  MAX_SERVER_FRAME_BYTES,
  type AckRun,
  type ErrorFrame,
  type Frame,
  type Welcome,
} from '../../src/codec/frames.ts';
import { DedupeTable, type Dedupe } from '../../src/flow/dedupe.ts';
import { TcpConnection } from '../../src/ingress/tcp.ts';
import {
  tcpLimits,
  type ConnectionCredits,
  type TcpCounter,
  type TcpHost,
  type TcpLimits,
} from '../../src/ingress/tcp-host.ts';
import type { AppendedMany } from '../../src/pipeline/job.ts';

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
export const producer = (n = 7): Uint8Array => new Uint8Array(16).fill(n);
const MAX_TURNS = 20_000;

/** Bounded, and never a sleep: what is awaited happens in a turn of the event loop. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < MAX_TURNS; i++) {
    if (condition()) return;
    await turn();
  }
  throw new Error(`did not happen in ${MAX_TURNS} turns: ${what}`);
}

export async function turns(count = 20): Promise<void> {
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

export class TestHost implements TcpHost {
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
export class Client {
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

export class PipeClient extends Client {
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

export const hello = (firstSequence = 0, id: Uint8Array | null = producer(), token?: string): Uint8Array =>
  encodeHello({
    version: 1,
    producerId: id ?? undefined,
    firstSequence,
    token: token === undefined ? undefined : bytes(token),
  });

/** An APPEND of small records 'r<sequence>'. */
export function append(
  firstSequence: number,
  records = 1,
  { streamId = 1, flags = 0, identity = true } = {},
): Uint8Array {
  const list = Array.from({ length: records }, (_, i) => ({
    key: null,
    payload: bytes(`r${firstSequence + i}`),
    unterminated: false,
  }));
  return encodeAppend({ streamId, firstSequence, flags }, list, identity);
}

export const names = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `r${from + i}`);

export async function open(host: TestHost, firstSequence = 0, id = producer()): Promise<PipeClient> {
  const client = new PipeClient(host);
  client.send(hello(firstSequence, id), encodeStream(1, 'orders'));
  await until('WELCOME', () => client.welcome !== undefined);
  return client;
}

/** Everything that an earlier event causes has been written once this DRAIN is there. */
export async function barrier(client: PipeClient): Promise<void> {
  await turns();
  client.connection.drain();
  await until('DRAIN', () => client.count(frameType.drain) === 1);
}

export async function ended(client: PipeClient): Promise<void> {
  await until('the end of the connection', () => client.ended);
}
