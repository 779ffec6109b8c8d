// One connection to a gateway that speaks the framed protocol (docs/protocol.md), from HELLO to the end of its socket.
//
// Promises: sends no more than its credit; says `onClosed` exactly once, whatever happens; a connection on which nothing moved for
// silenceMs while records were under way is taken for dead, as a peer that lost its power closes nothing.

import net from 'node:net';
import tls from 'node:tls';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { appendFlagOf, compressPayload, type WireCodec } from '../codec/append-codec.ts';
import { FrameParser } from '../codec/frame-parser.ts';
import {
  APPEND_HEADER_BYTES,
  APPEND_SKIPS,
  COMPRESSED_APPEND_BYTES,
  decodeAck,
  decodeCredit,
  decodeError,
  decodeWelcome,
  encodeBye,
  encodeHello,
  encodeStream,
  FRAME_HEADER_BYTES,
  frameType,
  MAX_CONNECTION_STREAMS,
  MAX_SERVER_FRAME_BYTES,
  PROTOCOL_VERSION,
  protocolError,
  type Ack,
  type ErrorFrame,
  type Frame,
  type Welcome,
} from '../codec/frames.ts';
import { gatewayError } from './check.ts';
import type { Chunk } from './chunk.ts';
import type { ClientOptions, Target } from './options.ts';
import type { Part } from './runs.ts';

/** Shorter frames are sent as they are: a compressed one takes COMPRESSED_APPEND_BYTES of the credit, whatever it was. */
const LEAST_COMPRESSED_BYTES = 16_384;
/** How long the gateway may take to close after BYE. */
const LEAVE_MS = 1000;

export interface ConnectionEvents {
  /** Before WELCOME: the gateway lives, and waits for what an older connection of the producer had sent. */
  onHeld(): void;
  onWelcome(welcome: Welcome): void;
  onAck(ack: Ack): void;
  /** A range was refused. */
  onRefused(error: ErrorFrame): void;
  onCredit(): void;
  /** The gateway is about to leave. */
  onDrain(): void;
  onWritten(chunk: Chunk): void;
  /** Over. @param reason DISCONNECTED, or what the gateway said */
  onClosed(reason: SpillwayError): void;
}

function connectSocket(target: Target): net.Socket {
  if (target.kind === 'unix') return net.connect({ path: target.path });
  const { host, port } = target;
  if (target.tls === undefined) return net.connect({ host, port, noDelay: true });
  // A name for SNI; an address is none.
  const servername = net.isIP(host) === 0 ? { servername: host } : {};
  return tls.connect({ host, port, ...servername, ...target.tls }).setNoDelay(true);
}

/** Where a name has several addresses, node puts what each of them said into one error without a message. */
export function socketReason(error: Error): string {
  const all = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
  return [...new Set(all.map(reasonOf))].join(', ');
}

export class Connection {
  readonly #socket: net.Socket;
  readonly #url: string;
  readonly #events: ConnectionEvents;
  readonly #timer: NodeJS.Timeout;
  #reason: SpillwayError | undefined;
  #closed = false;
  #welcomed = false;
  /** BYE was said. */
  leaving = false;
  #leaveTimer: NodeJS.Timeout | undefined;
  /** Sequence that the next APPEND is expected to begin with. */
  #expected: number;
  readonly #codec: WireCodec;
  /** Flag of a compressed APPEND; 0 before WELCOME, and where there is no codec on both sides. */
  #codecFlag = 0;
  /** Bytes of frames that may be sent now. */
  creditBytes = 0;
  sentBytes = 0;
  frames = 0;
  /** The gateway takes nothing new on this connection. */
  draining = false;
  /** Ids of streams declared on this connection, and whose an id is: they take turns where there are more streams than ids. */
  readonly #streamIds = new Map<string, number>();
  readonly #streamOf: string[] = [];
  #lastId = 0;
  /** Chunks whose write the socket has not finished, in order. */
  readonly #writing: Chunk[] = [];
  readonly #onWritten = (): void => this.#events.onWritten(this.#writing.shift()!);

  /** @param waiting whether records are under way, so that silence is a sign of death */
  constructor(
    options: ClientOptions,
    producerId: Uint8Array,
    firstSequence: number,
    events: ConnectionEvents,
    waiting: () => boolean,
  ) {
    const { target, token, connectTimeoutMs, silenceMs } = options;
    this.#url = options.url;
    this.#codec = options.codec;
    this.#events = events;
    this.#expected = firstSequence;
    const parser = new FrameParser('client', MAX_SERVER_FRAME_BYTES, {
      onHeader: () => undefined,
      onFrame: (frame) => this.#onFrame(frame),
    });
    this.#timer = setTimeout(() => {
      this.#fail(
        new SpillwayError('DISCONNECTED', `${this.#url}: no WELCOME and no sign of life within ${connectTimeoutMs} ms`),
      );
    }, connectTimeoutMs);
    const socket = connectSocket(target);
    this.#socket = socket;
    socket.once(target.kind === 'tcp' && target.tls !== undefined ? 'secureConnect' : 'connect', () => {
      const bytes = token === undefined ? undefined : Buffer.from(token, 'latin1');
      socket.write(encodeHello({ version: PROTOCOL_VERSION, producerId, firstSequence, token: bytes }));
    });
    socket.on('data', (chunk: Buffer) => {
      try {
        parser.push(chunk);
      } catch (error) {
        this.#fail(error instanceof SpillwayError ? error : protocolError(reasonOf(error)));
      }
    });
    socket.setTimeout(silenceMs);
    socket.on('timeout', () => {
      if (waiting()) this.#fail(new SpillwayError('DISCONNECTED', `${this.#url}: silent for ${silenceMs} ms`));
    });
    socket.on('error', (error) => this.#fail(this.#lost(socketReason(error), error)));
    socket.on('close', () => this.#onClose());
  }

  /** Whether the process stays alive for it. */
  hold(alive: boolean): void {
    if (alive) {
      this.#socket.ref();
      this.#timer.ref();
    } else {
      this.#socket.unref();
      this.#timer.unref();
    }
  }

  /** WELCOME has come, and the connection is not over. */
  get isOpen(): boolean {
    return this.#welcomed && !this.leaving && this.#reason === undefined && !this.#closed;
  }

  /** Writes until `uncork` go out together. */
  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }

  /** Sends records as one APPEND; the caller has looked at the credit. Their chunk is not changed until `onWritten`. */
  send(part: Part): void {
    const streamId = this.#streamIds.get(part.stream) ?? this.#declare(part.stream);
    const { firstSequence, records } = part;
    const bytes = APPEND_HEADER_BYTES + part.end - part.from;
    const header = Buffer.allocUnsafe(APPEND_HEADER_BYTES);
    header.writeUInt32LE(bytes - FRAME_HEADER_BYTES, 0);
    header[4] = frameType.append;
    header[5] = firstSequence === this.#expected ? 0 : APPEND_SKIPS;
    header.writeUInt16LE(streamId, 6);
    header.writeUInt32LE(firstSequence % 2 ** 32, 8);
    header.writeUInt32LE(Math.floor(firstSequence / 2 ** 32), 12);
    header.writeUInt32LE(records, 16);
    header.writeUInt32LE(0, 20);
    this.#expected = firstSequence + records;
    const plain = part.chunk.bytes.subarray(part.from, part.end);
    const body = this.#compress(header, plain) ?? plain;
    this.creditBytes -= body === plain ? bytes : COMPRESSED_APPEND_BYTES;
    this.frames++;
    this.#writing.push(part.chunk);
    const head = body === plain ? header : header.subarray(0, FRAME_HEADER_BYTES);
    this.sentBytes += head.length + body.length;
    this.#socket.write(head);
    this.#socket.write(body, this.#onWritten);
  }

  /** What follows the frame's header, which then says so; undefined where it is sent as it is. */
  #compress(header: Buffer, records: Uint8Array): Uint8Array | undefined {
    const bytes = header.length + records.length;
    const room = this.creditBytes >= COMPRESSED_APPEND_BYTES && bytes <= COMPRESSED_APPEND_BYTES;
    if (this.#codecFlag === 0 || !room || bytes < LEAST_COMPRESSED_BYTES) return undefined;
    const payload = Buffer.concat([header.subarray(FRAME_HEADER_BYTES), records]);
    const compressed = compressPayload(payload, this.#codecFlag);
    if (compressed === undefined) return undefined;
    header.writeUInt32LE(compressed.length, 0);
    header[5] |= this.#codecFlag;
    return compressed;
  }

  /** Says BYE: everything sent is settled, or will be before the gateway closes. */
  leave(): void {
    if (this.leaving) return;
    this.leaving = true;
    this.#socket.end(encodeBye());
    this.#leaveTimer = setTimeout(() => this.#socket.destroy(), LEAVE_MS);
  }

  destroy(): void {
    this.#fail(this.#lost('given up'));
  }

  #declare(stream: string): number {
    const id = (this.#lastId % MAX_CONNECTION_STREAMS) + 1;
    this.#lastId = id;
    this.#streamIds.delete(this.#streamOf[id]);
    this.#streamOf[id] = stream;
    this.#streamIds.set(stream, id);
    this.#socket.write(encodeStream(id, stream));
    return id;
  }

  #onFrame(frame: Frame): void {
    const events = this.#events;
    // What came with the frame that ended it is of no use any more.
    if (this.#reason !== undefined) return;
    if (frame.type === frameType.error) {
      const error = decodeError(frame);
      if (error.records > 0 && this.#welcomed) events.onRefused(error);
      else this.#fail(gatewayError(error.code, `${this.#url}: ${error.message}`, error.retryable));
    } else if (!this.#welcomed && frame.type === frameType.credit && decodeCredit(frame) === 0) {
      this.#timer.refresh();
      events.onHeld();
    } else if (!this.#welcomed) {
      this.#onWelcome(frame);
    } else if (frame.type === frameType.ack) {
      events.onAck(decodeAck(frame));
    } else if (frame.type === frameType.credit) {
      this.creditBytes += decodeCredit(frame);
      events.onCredit();
    } else if (frame.type === frameType.drain) {
      this.draining = true;
      events.onDrain();
    } else {
      throw protocolError('a second WELCOME');
    }
  }

  #onWelcome(frame: Frame): void {
    if (frame.type !== frameType.welcome) throw protocolError('the first frame is not WELCOME');
    const welcome = decodeWelcome(frame);
    if (welcome.version !== PROTOCOL_VERSION) {
      throw protocolError(`WELCOME: expected version ${PROTOCOL_VERSION}, got ${welcome.version}`);
    }
    clearTimeout(this.#timer);
    this.#welcomed = true;
    this.creditBytes = welcome.credit;
    this.#codecFlag = appendFlagOf(this.#codec, welcome.flags);
    this.#events.onWelcome(welcome);
  }

  #lost(why: string, cause?: unknown): SpillwayError {
    return new SpillwayError('DISCONNECTED', `${this.#url}: ${why}`, cause === undefined ? {} : { cause });
  }

  #fail(reason: SpillwayError): void {
    this.#reason ??= reason;
    this.#socket.destroy();
  }

  #onClose(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#leaveTimer);
    this.#events.onClosed(this.#reason ?? this.#lost('the connection was closed'));
  }
}
