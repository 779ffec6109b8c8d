// A gateway of the framed protocol as a script: strict about what a client may send, and told what to do with it. Its log is an
// array; it remembers producers as the real one does. Whatever a client does against the protocol is noted in `violations`.

import net, { type AddressInfo, type Socket } from 'node:net';
import tls, { type TlsOptions } from 'node:tls';
import { decodeAppend, payloadsOf } from '../../src/codec/append-frame.ts';
import {
  APPEND_SKIPS,
  decodeHello,
  decodeStream,
  encodeAck,
  encodeCredit,
  encodeDrain,
  encodeError,
  encodeWelcome,
  FRAME_HEADER_BYTES,
  frameType,
  RUN_DUPLICATE,
  WELCOME_REMEMBERS,
  type AckRun,
  type Frame,
  type Hello,
} from '../../src/codec/frames.ts';
import { FrameParser } from '../../src/codec/frame-parser.ts';

export interface Stored {
  readonly stream: string;
  readonly payload: string;
  readonly key: string;
  readonly unterminated: boolean;
  readonly producer: string;
  readonly sequence: number;
  /** Offset: its place. */
}

/** An APPEND as it came. */
export interface Arrived {
  readonly stream: string;
  readonly firstSequence: number;
  readonly records: number;
  readonly bytes: number;
  readonly payloads: readonly string[];
  readonly keys: readonly string[];
  readonly flags: readonly number[];
}

export interface Script {
  readonly creditBytes?: number;
  readonly maxFrameBytes?: number;
  readonly maxRecordBytes?: number;
  readonly remembers?: boolean;
  readonly token?: string;
  readonly tls?: TlsOptions;
  /** Offsets that others take before each APPEND is stored. */
  readonly othersBefore?: number;
  /** Bytes read from, or written to, connection `n` (from 0), after which it is cut. */
  readonly cutIn?: (n: number) => number;
  readonly cutOut?: (n: number) => number;
  /** What to do with an APPEND; without it: store, acknowledge, give the credit back. */
  readonly onAppend?: (connection: FakeConnection, append: Arrived) => void;
  readonly onHello?: (connection: FakeConnection, hello: Hello) => void;
}

const defaults = { creditBytes: 1 << 20, maxFrameBytes: 256 * 1024, maxRecordBytes: 64 * 1024 };

export class FakeConnection {
  readonly gateway: FakeGateway;
  readonly number: number;
  readonly socket: Socket;
  readonly appends: Arrived[] = [];
  readonly #streams = new Map<number, string>();
  hello: Hello | undefined;
  producer = '';
  saidBye = false;
  #nextSequence = 0;
  creditBytes = 0;
  /** Sequence after the last that this connection was told about. */
  settledTo = 0;
  /** Payload bytes of STREAM frames, for tests that count. */
  declarations = 0;
  #readBytes = 0;
  #writtenBytes = 0;
  readonly #cutIn: number;
  readonly #cutOut: number;

  constructor(gateway: FakeGateway, number: number, socket: Socket) {
    const { script } = gateway;
    this.gateway = gateway;
    this.number = number;
    this.socket = socket;
    this.#cutIn = script.cutIn?.(number) ?? Infinity;
    this.#cutOut = script.cutOut?.(number) ?? Infinity;
    const { maxFrameBytes = defaults.maxFrameBytes } = script;
    const parser = new FrameParser('server', maxFrameBytes, {
      onHeader: (header) => {
        if (header.type === frameType.append) this.#spend(FRAME_HEADER_BYTES + header.payloadBytes);
      },
      onFrame: (frame) => this.#onFrame(frame),
    });
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      if (socket.destroyed) return;
      const left = this.#cutIn - this.#readBytes;
      this.#readBytes += chunk.length;
      try {
        parser.push(chunk.subarray(0, left));
      } catch (error) {
        gateway.violations.push(String(error));
        socket.destroy();
      }
      if (chunk.length >= left) socket.destroy();
    });
    socket.on('end', () => socket.end());
    if (this.#cutIn === 0 || this.#cutOut === 0) socket.destroy();
  }

  write(bytes: Uint8Array): void {
    const left = this.#cutOut - this.#writtenBytes;
    this.#writtenBytes += bytes.length;
    if (this.socket.destroyed || left <= 0) return;
    if (bytes.length < left) this.socket.write(bytes);
    else this.socket.write(bytes.subarray(0, left), () => this.socket.destroy());
  }

  /** An ACK of runs, and what it says is settled. */
  ack(runs: readonly AckRun[], sequence = this.settledTo): void {
    for (const run of runs) this.settledTo = Math.max(this.settledTo, run.firstSequence + run.records);
    this.write(encodeAck({ sequence: Math.max(sequence, this.settledTo), runs }));
  }

  refuse(firstSequence: number, records: number, code: string, retryAfterMs = 0, retryable = true): void {
    if (records > 0) this.settledTo = firstSequence + records;
    this.write(encodeError({ firstSequence, records, code, retryable, retryAfterMs, message: `scripted ${code}` }));
  }

  credit(bytes: number): void {
    this.creditBytes += bytes;
    this.write(encodeCredit(bytes));
  }

  drain(): void {
    this.write(encodeDrain());
  }

  cut(): void {
    this.socket.destroy();
  }

  welcome(): void {
    const { script, durable } = this.gateway;
    const { creditBytes, maxFrameBytes, maxRecordBytes } = { ...defaults, ...script };
    this.creditBytes = creditBytes;
    const durableSequence = Math.max(0, ...[...(durable.get(this.producer)?.keys() ?? [])].map((s) => s + 1));
    const flags = script.remembers === false ? 0 : WELCOME_REMEMBERS;
    this.write(
      encodeWelcome({ version: 1, flags, maxFrameBytes, maxRecordBytes, credit: creditBytes, durableSequence }),
    );
  }

  #spend(bytes: number): void {
    const alone = this.settledTo === this.#nextSequence;
    if (bytes > this.creditBytes && !alone) {
      this.gateway.violations.push(`${bytes} bytes sent with a credit of ${this.creditBytes}`);
    }
    this.creditBytes -= bytes;
  }

  #onFrame(frame: Frame): void {
    const { script, violations } = this.gateway;
    if (this.saidBye) violations.push('a frame after BYE');
    if (frame.type === frameType.hello) {
      const hello = decodeHello(frame);
      this.hello = hello;
      this.producer = Buffer.from(hello.producerId ?? []).toString('hex');
      this.#nextSequence = this.settledTo = hello.firstSequence;
      if (script.token !== undefined && Buffer.from(hello.token ?? []).toString() !== script.token) {
        this.refuse(0, 0, 'UNAUTHORIZED', 0, false);
        this.socket.end();
      } else if (script.onHello === undefined) this.welcome();
      else script.onHello(this, hello);
    } else if (frame.type === frameType.stream) {
      this.declarations++;
      this.#streams.set(frame.streamId, decodeStream(frame));
    } else if (frame.type === frameType.bye) {
      this.saidBye = true;
      this.socket.end();
    } else this.#onAppend(frame);
  }

  #onAppend(frame: Frame): void {
    const { violations, script } = this.gateway;
    const { firstSequence, records, frames } = decodeAppend(frame, true);
    const skips = (frame.flags & APPEND_SKIPS) !== 0;
    if (skips ? firstSequence < this.#nextSequence : firstSequence !== this.#nextSequence) {
      violations.push(`sequence ${firstSequence} where ${this.#nextSequence} is next`);
    }
    // What is skipped was settled on an earlier connection.
    if (skips && this.settledTo === this.#nextSequence) this.settledTo = firstSequence;
    this.#nextSequence = firstSequence + records;
    const stream = this.#streams.get(frame.streamId);
    if (stream === undefined) violations.push(`stream id ${frame.streamId} was not declared`);
    const append: Arrived = {
      stream: stream ?? '',
      firstSequence,
      records,
      bytes: FRAME_HEADER_BYTES + frame.payloadBytes,
      payloads: payloadsOf(frames).map((p) => Buffer.from(p).toString('latin1')),
      ...headsOf(frames, violations),
    };
    this.appends.push(append);
    if (script.onAppend === undefined) this.store(append);
    else script.onAppend(this, append);
  }

  /** Stores what is new, acknowledges all of it, gives the credit back. */
  store(append: Arrived): void {
    this.ack(this.gateway.store(this.producer, append));
    this.credit(append.bytes);
  }
}

/** Keys and flags; checks that what the server fills in is zero. */
function headsOf(frames: Uint8Array, violations: string[]): { keys: string[]; flags: number[] } {
  const v = new DataView(frames.buffer, frames.byteOffset, frames.length);
  const keys: string[] = [];
  const flags: number[] = [];
  for (let at = 0; at < frames.length;) {
    const payloadBytes = v.getUint32(at, true);
    const keyBytes = v.getUint16(at + 14, true);
    const reserved = frames.subarray(at + 16, at + 40);
    const header = [
      v.getUint16(at + 4, true),
      v.getUint8(at + 7),
      v.getUint32(at + 8, true),
      v.getUint16(at + 12, true),
    ];
    if ([...reserved, ...header].some((b) => b !== 0)) violations.push('what the server fills in is not zero');
    flags.push(v.getUint8(at + 6));
    keys.push(Buffer.from(frames.subarray(at + 40, at + 16 + keyBytes)).toString('latin1'));
    const end = at + 16 + keyBytes + payloadBytes;
    at = Math.ceil(end / 8) * 8;
    if (frames.subarray(end, at).some((b) => b !== 0)) violations.push('padding is not zero');
  }
  return { keys, flags };
}

export class FakeGateway {
  script: Script;
  readonly connections: FakeConnection[] = [];
  readonly violations: string[] = [];
  readonly log: (Stored | undefined)[] = [];
  /** producer → sequence → offset */
  readonly durable = new Map<string, Map<number, number>>();
  readonly #server: net.Server;
  #path: string | undefined;

  private constructor(script: Script) {
    this.script = script;
    const onSocket = (socket: Socket): void => {
      this.connections.push(new FakeConnection(this, this.connections.length, socket));
    };
    this.#server = script.tls === undefined ? net.createServer(onSocket) : tls.createServer(script.tls, onSocket);
  }

  static async start(
    t: { teardown(action: () => unknown): unknown },
    script: Script = {},
    path?: string,
  ): Promise<FakeGateway> {
    const gateway = new FakeGateway(script);
    await gateway.listen(path);
    t.teardown(() => gateway.stop());
    return gateway;
  }

  async listen(pathOrPort?: string | number): Promise<void> {
    if (typeof pathOrPort === 'string') this.#path = pathOrPort;
    await new Promise<void>((resolve) => {
      if (typeof pathOrPort === 'string') this.#server.listen(pathOrPort, resolve);
      else this.#server.listen(pathOrPort ?? 0, '127.0.0.1', resolve);
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    if (this.#path !== undefined) return `unix:${this.#path}`;
    return `${this.script.tls === undefined ? 'tcp' : 'tcps'}://127.0.0.1:${this.port}`;
  }

  get last(): FakeConnection {
    return this.connections.at(-1)!;
  }

  /** Payloads of the log in order; those of others left out. */
  payloads(): string[] {
    return this.log.filter((r) => r !== undefined).map((r) => r.payload);
  }

  /** Cuts all connections and takes no more. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.connections) connection.cut();
    await closed;
  }

  /** Puts what is new into the log. @returns runs for an ACK */
  store(producer: string, append: Arrived): AckRun[] {
    const known =
      this.script.remembers === false ? new Map<number, number>() : (this.durable.get(producer) ?? new Map());
    this.durable.set(producer, known);
    for (let i = 0; i < (this.script.othersBefore ?? 0); i++) this.log.push(undefined);
    const runs: { firstSequence: number; firstOffset: number; records: number; flags: number }[] = [];
    append.payloads.forEach((payload, i) => {
      const sequence = append.firstSequence + i;
      const there = known.get(sequence);
      const offset = there ?? this.log.length;
      if (there === undefined) {
        known.set(sequence, offset);
        const unterminated = append.flags[i] === 1;
        this.log.push({ stream: append.stream, payload, key: append.keys[i], unterminated, producer, sequence });
      }
      const flags = there === undefined ? 0 : RUN_DUPLICATE;
      const last = runs.at(-1);
      if (last !== undefined && last.flags === flags && last.firstOffset + last.records === offset) last.records++;
      else runs.push({ firstSequence: sequence, firstOffset: offset, records: 1, flags });
    });
    return runs;
  }
}
