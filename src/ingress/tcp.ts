// The server's side of one connection of the framed protocol (docs/protocol.md), over TCP, TLS or a Unix socket.
//
// Promises: an ACK is written only after the append of its records has resolved, and answers leave in order of sequence; they
// are collected and written once per turn of the event loop; memory per connection is bounded by maxFrameBytes (one frame under
// way), its credit (records under way), maxUnsettledFrames entries and 2 × maxUnreadBytes of answers (beside those of one APPEND);
// a producer is given back only when all that its connection had under way has settled.
//
//     hello ──HELLO──▶ claiming ──claim──▶ open ──BYE──▶ leaving ──all settled──▶ closing ──▶ closed
//       └────────────────┴───────────────────┴──────────────┴──────── error ─────────▲
//
// leaving: nothing more may come, answers still go out. closing: the last bytes are out, what comes is thrown away. From every
// state the socket may close; appends under way then settle unseen.

import type { Socket } from 'node:net';
import { SpillwayError, toErrorMessage, fromErrorMessage } from '../base/errors.ts';
import { CLOSE_GRACE_MS } from '../base/limits.ts';
import { expandAppend, WELCOME_CODECS } from '../codec/append-codec.ts';
import { decodeAppend, framesOf, type Append } from '../codec/append-frame.ts';
import { FrameParser } from '../codec/frame-parser.ts';
import {
  appendCredit,
  APPEND_SKIPS,
  decodeHello,
  encodeCredit,
  encodeDrain,
  encodeError,
  encodeWelcome,
  frameType,
  PROTOCOL_VERSION,
  protocolError,
  WELCOME_REMEMBERS,
  type Frame,
  type FrameHeader,
} from '../codec/frames.ts';
import type { AppendedMany } from '../pipeline/job.ts';
import { giveBack } from '../platform/give-back.ts';
import { Allowance } from './allowance.ts';
import { secretsOf, withoutSecrets } from './credentials.ts';
import { Deadlines } from './deadlines.ts';
import { Producer, type Part } from './producer.ts';
import { Settlements, type Settlement } from './settlements.ts';
import { StreamNames } from './stream-names.ts';
import { checkSequence, countEnd, timedOut, tooMuch, type TcpHost, type Who } from './tcp-host.ts';

type Phase = 'hello' | 'claiming' | 'open' | 'leaving' | 'closing' | 'closed';

export class TcpConnection {
  /** Resolves once the socket is closed, all appends have settled, and the producer is given back. */
  readonly ended: Promise<void>;
  /** Since its HELLO. */
  who: Who = { name: '' };
  readonly #socket: Socket;
  readonly #host: TcpHost;
  readonly #parser: FrameParser;
  readonly #settlements: Settlements;
  readonly #allowance: Allowance;
  #end = (): void => undefined;
  #phase: Phase = 'hello';
  #draining = false;
  /** Of its token, for as long as messages may have to be told without it. */
  #secrets: readonly string[] = [];
  /** Why it has to go, once everything is answered. */
  #refusal: SpillwayError | undefined;
  #producer: Producer | undefined;
  readonly #streams = new StreamNames();
  #nextSequence = 0;
  /** A frame larger than the credit waits for room; nothing is read until then. */
  #roomless = false;
  /** Appends and claims that have not settled. */
  #underWay = 0;
  #flushing = false;
  #paused = false;
  readonly #deadlines = new Deadlines();
  #framesDone = 0;

  constructor(socket: Socket, host: TcpHost) {
    this.#socket = socket;
    this.#host = host;
    const retryAfterMs = (error: SpillwayError): number => host.retryAfterMs(error);
    this.#settlements = new Settlements(retryAfterMs, (message) => withoutSecrets(message, this.#secrets));
    this.#allowance = new Allowance(host.credits(() => this.#flushSoon()));
    this.#parser = new FrameParser('server', host.limits.maxFrameBytes, {
      onHeader: (header) => this.#onHeader(header),
      onFrame: (frame) => this.#onFrame(frame),
    });
    this.ended = new Promise((resolve) => (this.#end = resolve));
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('end', () => this.#onEnd());
    socket.on('close', () => this.#onClose());
    // 'close' follows; that a client goes away is nothing to report.
    socket.on('error', (error) => host.log.debug({ error: error.message }, 'connection lost'));
    const { helloMs } = host.limits;
    this.#deadlines.set(helloMs, () => this.#fail(timedOut(`no HELLO within ${helloMs} ms`)));
  }

  /** Asks the client to finish and leave; it gets no more credit. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    if (this.#phase === 'open') this.#socket.write(encodeDrain());
    if (this.#phase === 'hello') this.#fail(new SpillwayError('DRAINING', 'the gateway is shutting down'));
  }

  /** Takes nothing more: what was taken is answered, then the client hears why, and the connection ends. */
  refuse(error: SpillwayError): void {
    if (this.#phase !== 'claiming' && this.#phase !== 'open') return;
    this.#refusal = error;
    this.#parser.stop();
    this.#deadlines.stop();
    this.#leave();
  }

  /** Whether the client waits for something: it must hear that the gateway lives (pulse.ts). */
  get owes(): boolean {
    return this.#phase === 'claiming' || this.#roomless || this.#settlements.length > 0;
  }

  /** Cuts the connection. What is under way settles: see `ended`. */
  destroy(): void {
    this.#socket.destroy();
  }

  #onData(chunk: Buffer): void {
    if (this.#phase === 'closing' || this.#phase === 'closed') return;
    const parser = this.#parser;
    const done = this.#framesDone;
    const wasMidFrame = parser.midFrame;
    try {
      parser.push(chunk);
    } catch (error) {
      return this.#fail(this.#ownError(error));
    }
    giveBack(chunk);
    if (parser.midFrame && (!wasMidFrame || this.#framesDone > done)) this.#startFrame();
    this.#look();
  }

  #onHeader({ type, flags, payloadBytes }: FrameHeader): void {
    if (this.#phase === 'leaving') throw protocolError('a frame after BYE');
    if ((type === frameType.hello) !== (this.#phase === 'hello')) {
      throw protocolError(this.#phase === 'hello' ? 'the first frame is not HELLO' : 'a second HELLO');
    }
    if (type !== frameType.append) return;
    if (this.#phase !== 'open') throw protocolError('APPEND before WELCOME');
    const room = this.#allowance.spend(appendCredit({ flags, payloadBytes }), this.#settlements.length === 0);
    if (room !== undefined) void this.#waitForRoom(room);
  }

  async #waitForRoom(room: Promise<number>): Promise<void> {
    this.#roomless = true;
    const bytes = await room;
    this.#roomless = false;
    if (this.#phase !== 'open' && this.#phase !== 'leaving') return;
    this.#socket.write(encodeCredit(bytes));
    this.#look();
  }

  #onFrame(frame: Frame): void {
    this.#framesDone++;
    const { maxFrameBytes } = this.#host.limits;
    if (frame.type === frameType.append) expandAppend(frame, maxFrameBytes, (plain) => this.#onAppend(plain));
    else if (frame.type === frameType.stream) this.#streams.declare(frame);
    else if (frame.type === frameType.hello) this.#onHello(frame);
    else this.#leave();
  }

  #onHello(frame: Frame): void {
    const hello = decodeHello(frame);
    const who = this.#host.authenticate(hello.token, this.#socket);
    if (who === undefined) throw new SpillwayError('UNAUTHORIZED', 'the token is missing or not known');
    this.#deadlines.clear();
    this.who = who;
    this.#secrets = secretsOf(Buffer.from(hello.token ?? '').toString('latin1'));
    this.#nextSequence = hello.firstSequence;
    this.#phase = 'claiming';
    if (hello.producerId === undefined) this.#welcome();
    else void this.#claim(hello.producerId);
  }

  async #claim(producerId: Uint8Array): Promise<void> {
    this.#underWay++;
    try {
      this.#producer = await Producer.claim(this.#host.dedupe, producerId, () => this.#fence());
    } catch (error) {
      this.#fail(this.#ownError(error));
    }
    this.#underWay--;
    if (this.#phase === 'claiming') this.#welcome();
    else this.#settled();
  }

  /** A newer connection of the producer is there. */
  #fence(): void {
    if (this.#socket.destroyed) return;
    this.#host.counters.add('fenced');
    this.#host.log.debug({ name: this.who.name }, 'connection cut by a newer one of its producer');
    this.#socket.destroy();
  }

  #welcome(): void {
    this.#phase = 'open';
    const { maxFrameBytes, maxRecordBytes } = this.#host.limits;
    const welcome = encodeWelcome({
      version: PROTOCOL_VERSION,
      flags: WELCOME_CODECS | (this.#producer?.isRemembered === true ? WELCOME_REMEMBERS : 0),
      maxFrameBytes,
      maxRecordBytes,
      credit: this.#draining ? 0 : this.#allowance.grant(),
      durableSequence: this.#producer?.durableSequence ?? 0,
    });
    this.#socket.write(welcome);
    if (this.#draining) this.#socket.write(encodeDrain());
  }

  #onAppend(frame: Frame): void {
    this.#host.counters.add('frames');
    const append = decodeAppend(frame, this.#producer !== undefined);
    const { firstSequence, records } = append;
    checkSequence(append, (frame.flags & APPEND_SKIPS) !== 0, this.#nextSequence);
    const stream = this.#streams.of(frame.streamId);
    this.#nextSequence = firstSequence + records;
    const creditBytes = appendCredit(frame);
    const parts = this.#producer?.parts(firstSequence, records) ?? [{ firstSequence, records, there: undefined }];
    for (const part of parts) {
      const last = part.firstSequence + part.records === this.#nextSequence;
      const entry = this.#settlements.add(part.firstSequence, part.records, last ? creditBytes : 0);
      this.#settle(entry, part, append, stream);
    }
    if (this.#settlements.answered) this.#flushSoon();
  }

  /** Knows the answer at once, or starts the append that will tell. */
  #settle(entry: Settlement, part: Part, append: Append, stream: string | SpillwayError): void {
    const { there } = part;
    if (typeof there === 'number') {
      this.#host.counters.add('duplicates', part.records);
      entry.outcome = [{ records: part.records, firstOffset: there }];
      entry.duplicate = true;
      return;
    }
    entry.outcome = there ?? (typeof stream === 'string' ? tooMuch(append, this.#host.limits) : stream);
    if (entry.outcome === undefined) this.#append(entry, append, stream as string);
  }

  /** The seam to the lane. Until the append resolves, only its entry is kept: the bytes are the lane's by then. */
  #append(entry: Settlement, append: Append, stream: string): void {
    const { firstSequence, records } = entry;
    const identity = this.#producer?.identity(firstSequence);
    const frames = framesOf(append, firstSequence, records);
    const appending = this.#host.append(stream, frames, records, identity, this.who.name);
    this.#underWay++;
    appending.then(
      (appended) => this.#onDurable(entry, appended),
      (error: unknown) => this.#answered(entry, this.#ownError(error)),
    );
  }

  #onDurable(entry: Settlement, { firstOffset, runs }: AppendedMany): void {
    const outcome = runs ?? [{ records: entry.records, firstOffset }];
    this.#producer?.add(entry.firstSequence, outcome);
    this.#answered(entry, outcome);
  }

  #answered(entry: Settlement, outcome: Settlement['outcome']): void {
    entry.outcome = outcome;
    this.#underWay--;
    this.#settled();
  }

  #settled(): void {
    if (this.#phase !== 'closed') this.#flushSoon();
    else if (this.#underWay === 0) this.#giveBack();
  }

  /** Many answers of one turn share one write. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#phase !== 'open' && this.#phase !== 'leaving') return;
    const frames: Uint8Array[] = [];
    const { maxUnreadBytes, stallMs } = this.#host.limits;
    if (this.#socket.writableLength <= maxUnreadBytes) {
      const answers = this.#settlements.take(maxUnreadBytes);
      frames.push(...answers.frames);
      this.#allowance.returned(answers.creditBytes);
      const bytes = this.#phase === 'open' && !this.#draining ? this.#allowance.grant() : 0;
      if (bytes > 0) frames.push(encodeCredit(bytes));
    }
    if (frames.length > 0) {
      const written = (): void => this.#onWritten();
      this.#socket.write(frames.length === 1 ? frames[0] : Buffer.concat(frames), written);
    }
    if (this.#phase === 'leaving' && this.#settlements.length === 0 && this.#underWay === 0) {
      if (this.#refusal === undefined) this.#close(stallMs);
      else this.#fail(this.#refusal);
    } else this.#look();
  }

  #onWritten(): void {
    // What did not fit behind the bytes that were unread.
    if (this.#settlements.answered) this.#flushSoon();
    this.#look();
  }

  /** Reads from the client only while it reads what it gets, and there is room for what it sends and for answers. */
  #look(): void {
    const { maxUnreadBytes, maxUnsettledFrames, stallMs } = this.#host.limits;
    if (this.#phase !== 'open' && this.#phase !== 'leaving') return;
    const unread = this.#socket.writableLength > maxUnreadBytes;
    const stop = unread || this.#roomless || this.#settlements.length > maxUnsettledFrames;
    if (stop !== this.#paused) {
      this.#paused = stop;
      if (stop) this.#socket.pause();
      else {
        this.#socket.resume();
        this.#flushSoon();
      }
      // The client was not to blame for the time that was not read.
      this.#deadlines.refreshFrame();
    }
    if (!unread) this.#deadlines.clear();
    else if (!this.#deadlines.running) this.#deadlines.set(stallMs, () => this.#onStall());
  }

  #onStall(): void {
    this.#host.counters.add('stalled');
    this.#host.log.warn({ name: this.who.name }, 'connection cut: the client does not read its answers');
    this.#socket.destroy();
  }

  /** A frame has begun to arrive: the rest has to be there in time. */
  #startFrame(): void {
    const { frameMs } = this.#host.limits;
    this.#deadlines.startFrame(frameMs, () => {
      if (this.#paused) this.#deadlines.refreshFrame();
      else if (this.#parser.midFrame) this.#fail(timedOut(`a frame was not complete ${frameMs} ms after it began`));
    });
  }

  /** Nothing more comes from the client; what is under way is answered, then the connection ends. */
  #leave(): void {
    this.#phase = 'leaving';
    this.#flushSoon();
  }

  /** The client has closed its side, with BYE or without. */
  #onEnd(): void {
    if (this.#phase === 'hello' || this.#phase === 'closing' || !this.#socket.writable) this.#socket.destroy();
    else if (this.#phase !== 'leaving') this.#leave();
  }

  /** Says why, and closes. */
  #fail(error: SpillwayError): void {
    if (this.#phase === 'closing' || this.#phase === 'closed') return;
    const { code, retryable } = error;
    const message = withoutSecrets(error.message, this.#secrets);
    countEnd(this.#host.counters, code);
    this.#host.log.debug({ name: this.who.name, code, error: message }, 'connection refused');
    const { frames } = this.#settlements.take(this.#host.limits.maxUnreadBytes);
    const last = encodeError({ firstSequence: 0, records: 0, code, retryable, retryAfterMs: 0, message });
    this.#close(CLOSE_GRACE_MS, Buffer.concat([...frames, last]));
  }

  #close(graceMs: number, last?: Uint8Array): void {
    this.#phase = 'closing';
    this.#parser.stop();
    if (last !== undefined) this.#socket.write(last);
    this.#socket.end();
    // What is on its way is thrown away: closing over unread bytes would reset the connection, and the last answers with it.
    this.#socket.resume();
    this.#deadlines.set(graceMs, () => this.#socket.destroy());
  }

  #onClose(): void {
    this.#phase = 'closed';
    this.#parser.stop();
    this.#deadlines.stop();
    if (this.#underWay === 0) this.#giveBack();
  }

  #giveBack(): void {
    this.#allowance.close();
    this.#producer?.release();
    this.#end();
  }

  /** Whatever was thrown, as one of ours. What is not is a bug, here or behind the host. */
  #ownError(error: unknown): SpillwayError {
    if (error instanceof SpillwayError) return error;
    this.#host.log.error({ name: this.who.name, error }, 'unexpected error on a connection');
    return fromErrorMessage(toErrorMessage(error));
  }
}
