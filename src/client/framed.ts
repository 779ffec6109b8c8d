// The client of the framed protocol: one producer, one connection at a time, everything that is not settled sent again after a
// loss. What waits and what is sent: outbox.ts; one connection: connection.ts.
//
//               ┌────────── lost ──────────┐
//               ▼                          │
//     start ─▶ connecting ──WELCOME──▶ open┘        and from either: close ─▶ draining ─▶ closed
//               │      ▲
//               └ lost ┘ (backoff; giveUpMs with appends waiting: these are rejected, and a new producer begins)
//
// Promises: appends of one turn of the event loop go out together; a record is stored once, as long as the gateway remembers the
// producer; where it does not, what may be there already is rejected with DISCONNECTED and not sent again; records reach the log in
// the order of the calls; the process is kept alive by what is not settled, and by nothing else.

import { randomBytes } from 'node:crypto';
import { systemClock, systemRandom32 } from '../base/clock.ts';
import { SpillwayError } from '../base/errors.ts';
import { checkStreamName } from '../base/names.ts';
import {
  PRODUCER_ID_BYTES,
  protocolError,
  RUN_DUPLICATE,
  WELCOME_REMEMBERS,
  type Ack,
  type ErrorFrame,
  type Welcome,
} from '../codec/frames.ts';
import type { Appended, AppendedMany, AppendOptions, Payload } from '../pipeline/job.ts';
import { FLAG_UNTERMINATED } from '../platform/lane-memory.ts';
import { Alarm } from './alarm.ts';
import { Backoff } from './backoff.ts';
import { Barrier } from './barrier.ts';
import type { Reject, ResolveMany, ResolveOne } from './calls.ts';
import { checkAppendOptions, checkPayloads, gatewayError, keyOf } from './check.ts';
import { latencyStats } from '../platform/histogram.ts';
import type { Client, ClientState, ClientStats } from './client.ts';
import { Connection } from './connection.ts';
import type { ClientOptions } from './options.ts';
import { Outbox } from './outbox.ts';
import { Patience } from './patience.ts';

/** Longest pause that a gateway can ask for. */
const MAX_PAUSE_MS = 60_000;
const noOptions: AppendOptions = {};
const carried = ['key', 'unterminated'];

export class FramedClient implements Client {
  readonly #options: ClientOptions;
  readonly #outbox: Outbox;
  readonly #barrier: Barrier;
  readonly #backoff = new Backoff(systemRandom32);
  readonly #patience: Patience;
  #state: ClientState = 'connecting';
  #producerId: Uint8Array = randomBytes(PRODUCER_ID_BYTES);
  #connection: Connection | undefined;
  readonly #retryAlarm = new Alarm(() => this.#connect());
  /** Set while the gateway wants to be left alone. */
  readonly #pauseAlarm = new Alarm(() => this.#soon());
  /** What a new attempt would not mend; the next append makes one all the same. */
  #parked = false;
  #starting: { readonly resolve: () => void; readonly reject: Reject } | undefined;
  #lastReason: SpillwayError | undefined;
  #closing: Promise<void> | undefined;
  #onGone = (): void => undefined;
  /** Something is to be sent when this turn of the event loop is over; when its first append came, 0 for none yet. */
  #turn = false;
  #turnMs = 0;
  #lastStream = '';
  #held = true;
  #past = { sentBytes: 0, frames: 0 };
  #connections = 0;
  /** What the executor of the promise at hand was given: one function for all promises. */
  #resolve!: ResolveOne | ResolveMany;
  #reject!: Reject;
  readonly #executor = (resolve: ResolveOne | ResolveMany, reject: Reject): void => {
    this.#resolve = resolve;
    this.#reject = reject;
  };
  readonly #onTurn = (): void => {
    this.#turn = false;
    this.#turnMs = 0;
    this.#pump(false);
    this.#settled();
  };

  private constructor(options: ClientOptions) {
    this.#options = options;
    this.#outbox = new Outbox(options.maxWaitingBytes);
    this.#barrier = new Barrier(this.#outbox.calls);
    this.#patience = new Patience(options.giveUpMs, systemClock, () => this.#giveUp());
  }

  /** Rejects with DISCONNECTED where no gateway is reached within connectTimeoutMs, UNAUTHORIZED, PROTOCOL_ERROR. */
  static async connect(options: ClientOptions): Promise<FramedClient> {
    const client = new FramedClient(options);
    const { connectTimeoutMs, url } = options;
    const timer = setTimeout(() => {
      const why = client.#lastReason?.message ?? `${url}: no answer`;
      client.#abandon(new SpillwayError('DISCONNECTED', `${why} (tried for ${connectTimeoutMs} ms)`));
    }, connectTimeoutMs);
    try {
      await new Promise<void>((resolve, reject) => {
        client.#starting = { resolve, reject };
        client.#connect();
      });
    } finally {
      clearTimeout(timer);
    }
    client.#hold();
    return client;
  }

  append(stream: string, payload: Payload, options: AppendOptions = noOptions): Promise<Appended> {
    const promise = new Promise<Appended>(this.#executor);
    const resolve = this.#resolve as ResolveOne;
    const reject = this.#reject;
    try {
      const key = this.#check(stream, options);
      const flags = options.unterminated === true ? FLAG_UNTERMINATED : 0;
      this.#outbox.addOne(stream, key, payload, flags, this.#nowMs(), resolve, reject);
      this.#added();
    } catch (error) {
      reject(error as SpillwayError);
    }
    return promise;
  }

  appendMany(stream: string, payloads: readonly Payload[], options: AppendOptions = noOptions): Promise<AppendedMany> {
    const promise = new Promise<AppendedMany>(this.#executor);
    const resolve = this.#resolve as ResolveMany;
    const reject = this.#reject;
    try {
      const key = this.#check(stream, options);
      const flags = options.unterminated === true ? FLAG_UNTERMINATED : 0;
      checkPayloads(payloads);
      this.#outbox.addMany(stream, key, payloads, flags, this.#nowMs(), resolve, reject);
      this.#added();
    } catch (error) {
      reject(error as SpillwayError);
    }
    return promise;
  }

  flush(): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(new SpillwayError('CLOSED', 'flush: the client is closed'));
    return this.#barrier.wait();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  stats(): ClientStats {
    const { calls, records, duplicateRecords, resentRecords, durableOffset } = this.#outbox;
    return {
      state: this.#state,
      records,
      duplicateRecords,
      rejectedRecords: calls.rejectedRecords,
      resentRecords,
      durableOffset,
      waitingRecords: calls.waitingRecords,
      waitingBytes: calls.waitingBytes,
      creditBytes: this.#connection?.creditBytes ?? 0,
      sentBytes: this.#past.sentBytes + (this.#connection?.sentBytes ?? 0),
      sends: this.#past.frames + (this.#connection?.frames ?? 0),
      connections: this.#connections,
      latency: latencyStats(calls.latency),
    };
  }

  // Hot: per call.
  /** @returns the key. @throws CLOSED, INVALID_STREAM, INVALID_OPTION, INVALID_RECORD */
  #check(stream: string, options: AppendOptions): Uint8Array | null {
    if (this.#closing !== undefined) {
      throw new SpillwayError('CLOSED', 'the client is closed: the record was not appended');
    }
    if (stream !== this.#lastStream) this.#lastStream = checkStreamName(stream);
    if (options === noOptions) return null;
    checkAppendOptions(options, carried, 'this connection');
    return keyOf(options);
  }

  /** When the appends of this turn began. */
  #nowMs(): number {
    if (this.#turnMs === 0) this.#turnMs = systemClock.monotonicMs();
    return this.#turnMs;
  }

  // Hot: per call.
  #added(): void {
    if (!this.#held) this.#awake();
    if (!this.#turn) this.#soon();
    else if (this.#outbox.fullFrameWaits) this.#pump(true);
  }

  /** Something waits again. */
  #awake(): void {
    this.#hold();
    if (this.#connection?.isOpen !== true) this.#patience.start();
    if (!this.#parked && !this.#retryAlarm.isSet) return;
    // Whatever was tried in vain before says little about now.
    this.#parked = false;
    this.#retryAlarm.clear();
    this.#backoff.reset();
    this.#retry();
  }

  #soon(): void {
    if (this.#turn) return;
    this.#turn = true;
    setImmediate(this.#onTurn);
  }

  /** Sends what credit allows. @param full nothing that may still grow */
  #pump(full: boolean): void {
    const connection = this.#connection;
    if (connection?.isOpen !== true || connection.draining || this.#pauseAlarm.isSet) return;
    let part = this.#outbox.take(connection.creditBytes, full);
    if (part === undefined) return;
    connection.cork();
    for (; part !== undefined; part = this.#outbox.take(connection.creditBytes, full)) connection.send(part);
    connection.uncork();
  }

  #connect(): void {
    this.#connection = new Connection(
      this.#options,
      this.#producerId,
      this.#outbox.front,
      {
        onHeld: () => this.#patience.connected(),
        onWelcome: (welcome) => this.#onWelcome(welcome),
        onAck: (ack) => this.#onAck(ack),
        onRefused: (error) => this.#onRefused(error),
        onCredit: () => this.#soon(),
        onDrain: () => this.#leaveIfDone(),
        onWritten: (chunk) => this.#outbox.written(chunk),
        onClosed: (reason) => this.#onClosed(reason),
      },
      () => this.#outbox.underWay > 0,
    );
    this.#connection.hold(this.#held);
  }

  #onWelcome(welcome: Welcome): void {
    const outbox = this.#outbox;
    outbox.limits = welcome;
    this.#connections++;
    this.#patience.connected();
    if (this.#state === 'connecting') this.#state = 'open';
    // 1. Records were sent, and the connection was lost before they were settled: the gateway may have them.
    // 2. If it remembers the producer, they are sent again, and it tells those it has from those it has not.
    // 3. If not, because it remembers none, or has forgotten what it had acknowledged, sending again might store them twice.
    const remembers = (welcome.flags & WELCOME_REMEMBERS) !== 0 && welcome.durableSequence >= outbox.acknowledgedTo;
    if (outbox.inDoubt > 0 && !remembers) {
      const message = `${this.#options.url}: the gateway does not remember this producer: the records may or may not be in the log`;
      outbox.refuseDoubtful(new SpillwayError('DISCONNECTED', message));
      this.#settled();
    }
    this.#starting?.resolve();
    this.#starting = undefined;
    this.#soon();
  }

  #onAck({ sequence, runs }: Ack): void {
    const nowMs = systemClock.monotonicMs();
    for (const { firstSequence, firstOffset, records, flags } of runs) {
      this.#outbox.acknowledge(firstSequence, firstOffset, records, (flags & RUN_DUPLICATE) !== 0, nowMs);
    }
    if (sequence > this.#outbox.answeredTo)
      throw protocolError(`ACK: settles sequences up to ${sequence} and says not how`);
    this.#progress();
  }

  #onRefused({ firstSequence, records, code, message, retryable, retryAfterMs }: ErrorFrame): void {
    const error = gatewayError(code, message, retryable);
    const again = this.#outbox.answerError(firstSequence, records, error);
    if (again) {
      this.#lastReason = error;
      this.#patience.start();
    } else this.#progress();
    if (again || retryAfterMs > 0) this.#pauseAlarm.set(Math.min(retryAfterMs || this.#backoff.nextMs(), MAX_PAUSE_MS));
    this.#leaveIfDone();
  }

  #progress(): void {
    this.#backoff.reset();
    this.#patience.progress();
    this.#settled();
    this.#leaveIfDone();
    this.#soon();
  }

  /** Calls may have been settled. */
  #settled(): void {
    this.#barrier.look();
    this.#hold();
  }

  /** The gateway drains, or has refused something that a new connection is to send again: all is answered, so this one is left. */
  #leaveIfDone(): void {
    const connection = this.#connection;
    const { defers, underWay } = this.#outbox;
    if (underWay === 0 && (connection?.draining === true || defers)) connection?.leave();
  }

  #onClosed(reason: SpillwayError): void {
    const { sentBytes, frames, leaving } = this.#connection!;
    this.#past = { sentBytes: this.#past.sentBytes + sentBytes, frames: this.#past.frames + frames };
    this.#connection = undefined;
    if (!leaving) this.#lastReason = reason;
    this.#outbox.rewind();
    if (this.#state === 'open') this.#state = 'connecting';
    this.#onGone();
    if (this.#state === 'closed') return;
    if (!reason.retryable) {
      // A new attempt would end the same way.
      if (this.#starting !== undefined) return this.#abandon(reason);
      this.#parked = true;
      return this.#refuseAll(reason);
    }
    this.#patience.lost(this.#outbox.calls.length > 0);
    this.#retry();
  }

  #retry(): void {
    if (this.#connection === undefined) this.#retryAlarm.set(this.#backoff.nextMs());
  }

  #giveUp(): void {
    const { url, giveUpMs } = this.#options;
    const { code, message } = this.#lastReason ?? { code: 'DISCONNECTED', message: `${url}: no answer` };
    // A refusal tells that records are not in the log, where nothing else is in doubt.
    const known = this.#outbox.inDoubt === 0 ? code : 'DISCONNECTED';
    this.#refuseAll(new SpillwayError(known, `${message} (given up after ${giveUpMs} ms)`, { subject: url }));
    // Whatever connection or attempt there is belongs to the producer that is given up.
    this.#connection?.destroy();
  }

  /** Nobody waits any more, and what was sent counts for nothing: the next record is the first of another producer. */
  #refuseAll(error: SpillwayError): void {
    this.#outbox.refuseAll(error);
    this.#producerId = randomBytes(PRODUCER_ID_BYTES);
    this.#patience.stop();
    this.#barrier.fail(error);
    this.#hold();
  }

  /** `connect` failed. */
  #abandon(error: SpillwayError): void {
    const starting = this.#starting;
    this.#starting = undefined;
    this.#end();
    starting?.reject(error);
  }

  /** Keeps the process alive exactly while something waits. */
  #hold(): void {
    const held = this.#outbox.calls.length > 0 || this.#starting !== undefined || this.#state === 'draining';
    if (held === this.#held) return;
    this.#held = held;
    if (!held) this.#patience.stop();
    this.#connection?.hold(held);
    this.#retryAlarm.hold(held);
    this.#pauseAlarm.hold(held);
  }

  async #close(): Promise<void> {
    this.#state = 'draining';
    this.#hold();
    try {
      await this.#barrier.wait();
      const connection = this.#connection;
      if (connection?.isOpen === true || connection?.draining === true) {
        const gone = new Promise<void>((resolve) => (this.#onGone = resolve));
        connection.leave();
        await gone;
      }
    } finally {
      this.#end();
    }
  }

  #end(): void {
    this.#state = 'closed';
    this.#patience.stop();
    this.#retryAlarm.clear();
    this.#pauseAlarm.clear();
    this.#connection?.destroy();
  }
}
