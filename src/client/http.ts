// The client over HTTP: a request per append, one or few per appendMany, each with an Idempotency-Key, so that one whose answer was
// lost is sent again without being stored twice. What a request carries: http-body.ts.
//
//     queue ─▶ one call at a time ─▶ 200: the next request of the call, or the call is settled
//       ▲      (`concurrency` > 1: so many, in no order)  429, 503, connection lost: wait, the same request again
//       └─ maxWaitingBytes            other 4xx: the call is rejected; what it had sent before stays
//
// Promises: with concurrency 1 the order of calls is the order in the log; nothing is sent under another key that may be stored
// already; whoever is refused for giveUpMs without anything getting through is told so.

import { randomBytes } from 'node:crypto';
import { systemClock, systemRandom32 } from '../base/clock.ts';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import type { Appended, AppendedMany, AppendOptions, Payload } from '../pipeline/job.ts';
import { Histogram, latencyStats } from '../platform/histogram.ts';
import { Backoff } from './backoff.ts';
import { Barrier } from './barrier.ts';
import { checkAppendOptions, checkPayloads, gatewayError, passesByItself } from './check.ts';
import type { Client, ClientState, ClientStats } from './client.ts';
import { socketReason } from './connection.ts';
import { pieceOf, piecesOf, type Piece } from './http-body.ts';
import { encodeBody } from './http-encode.ts';
import { endOfMany, Exchanger, type Answer, type Request } from './http-exchange.ts';
import type { ClientOptions } from './options.ts';
import { Patience } from './patience.ts';

/** Longest wait that a gateway can ask for. */
const MAX_WAIT_MS = 60_000;
const FORGET_CALLS = 256;

interface Call {
  readonly index: number;
  readonly stream: string;
  readonly pieces: readonly Piece[];
  readonly records: number;
  readonly bytes: number;
  readonly startedMs: number;
  readonly done: { records: number; firstOffset: number; lastOffset: number }[];
  readonly resolve: (result: AppendedMany) => void;
  readonly reject: (error: SpillwayError) => void;
}

/** Attempts at one request. */
interface Attempts {
  readonly request: Request;
  readonly records: number;
  /** An attempt ended without an answer: it may have been stored. */
  doubtful: boolean;
}

const noOptions: AppendOptions = {};

export class HttpClient implements Client {
  readonly #options: ClientOptions;
  readonly #exchanger: Exchanger;
  readonly #backoff = new Backoff(systemRandom32);
  readonly #patience: Patience;
  readonly #barrier: Barrier;
  readonly #latency = new Histogram();
  readonly #keyPrefix = randomBytes(16).toString('hex');
  #nextKey = 0;
  #state: ClientState = 'connecting';
  /** Calls that wait; `#head` counts those taken at the front. */
  #queue: Call[] = [];
  #head = 0;
  #active = 0;
  /** Aborted when those under way are given up. */
  #giveUpSignal = endOfMany();
  /** Why the last attempt failed. */
  #trouble: SpillwayError | undefined;
  #closing: Promise<void> | undefined;
  /** Calls settled with all before them, and those behind these; and calls settled out of turn. */
  readonly #counts = { settledCalls: 0, length: 0 };
  readonly #ahead = new Set<number>();
  #waitingBytes = 0;
  #waitingRecords = 0;
  #figures = {
    records: 0,
    duplicateRecords: 0,
    rejectedRecords: 0,
    resentRecords: 0,
    durableOffset: 0,
    sentBytes: 0,
    sends: 0,
  };
  #connections = 0;

  private constructor(options: ClientOptions) {
    this.#options = options;
    this.#exchanger = new Exchanger(options);
    this.#barrier = new Barrier(this.#counts);
    this.#patience = new Patience(options.giveUpMs, systemClock, () => this.#giveUp());
  }

  /** Rejects with DISCONNECTED where no gateway answers within connectTimeoutMs, UNAUTHORIZED, or what else it says. */
  static async connect(options: ClientOptions): Promise<HttpClient> {
    const client = new HttpClient(options);
    const { connectTimeoutMs, url } = options;
    const timer = setTimeout(() => {
      const why = client.#trouble?.message ?? `${url}: no answer`;
      client.#giveUpSignal.abort(new SpillwayError('DISCONNECTED', `${why} (tried for ${connectTimeoutMs} ms)`));
    }, connectTimeoutMs);
    try {
      // Needs the token, where there are any: so what is wrong with it shows now.
      const request = { method: 'GET', path: '/v1/stats', headers: {}, body: undefined } as const;
      await client.#persist({ request, records: 0, doubtful: false });
      client.#state = 'open';
    } catch (error) {
      client.#end();
      throw error;
    } finally {
      clearTimeout(timer);
      client.#patience.stop();
    }
    return client;
  }

  append(stream: string, payload: Payload, options: AppendOptions = noOptions): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.#check(stream, options);
      const done = (result: AppendedMany): void => resolve({ offset: result.firstOffset });
      this.#add(stream, [pieceOf(payload)], 1, done, reject);
    });
  }

  appendMany(stream: string, payloads: readonly Payload[], options: AppendOptions = noOptions): Promise<AppendedMany> {
    return new Promise((resolve, reject) => {
      this.#check(stream, options);
      checkPayloads(payloads);
      this.#add(stream, piecesOf(payloads), payloads.length, resolve, reject);
    });
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
    const reaching = this.#state === 'open' && this.#trouble !== undefined;
    return {
      ...this.#figures,
      state: reaching ? 'connecting' : this.#state,
      waitingRecords: this.#waitingRecords,
      waitingBytes: this.#waitingBytes,
      creditBytes: 0,
      connections: this.#connections,
      latency: latencyStats(this.#latency),
    };
  }

  async #close(): Promise<void> {
    this.#state = 'draining';
    try {
      await this.#barrier.wait();
    } finally {
      this.#end();
    }
  }

  #end(): void {
    this.#state = 'closed';
    this.#patience.stop();
    this.#exchanger.close();
  }

  /** @throws CLOSED, INVALID_STREAM, INVALID_OPTION */
  #check(stream: string, options: AppendOptions): void {
    if (this.#closing !== undefined) {
      throw new SpillwayError('CLOSED', 'the client is closed: the record was not appended');
    }
    checkStreamName(stream);
    if (options !== noOptions) checkAppendOptions(options, [], 'HTTP');
  }

  /** @throws BACKLOG_FULL */
  #add(stream: string, pieces: Piece[], records: number, resolve: Call['resolve'], reject: Call['reject']): void {
    const bytes = pieces.reduce((sum, p) => sum + p.body.length, WAITER_OVERHEAD_BYTES);
    const { maxWaitingBytes } = this.#options;
    // A single call larger than the bound may wait alone: else it could never be appended.
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > maxWaitingBytes) {
      throw new SpillwayError(
        'BACKLOG_FULL',
        `appends of ${this.#waitingBytes} bytes wait for the gateway already (maxWaitingBytes ${maxWaitingBytes}): await the ` +
          'promises, or slow down',
      );
    }
    this.#waitingBytes += bytes;
    this.#waitingRecords += records;
    const { settledCalls, length } = this.#counts;
    const index = settledCalls + length;
    this.#counts.length++;
    this.#queue.push({
      index,
      stream,
      pieces,
      records,
      bytes,
      startedMs: systemClock.monotonicMs(),
      done: [],
      resolve,
      reject,
    });
    this.#dispatch();
  }

  #dispatch(): void {
    while (this.#active < this.#options.concurrency && this.#head < this.#queue.length) {
      const call = this.#queue[this.#head++];
      this.#active++;
      void this.#run(call);
    }
    if (this.#head === this.#queue.length) this.#queue.length = 0;
    else if (this.#head > FORGET_CALLS && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
    } else return;
    this.#head = 0;
  }

  async #run(call: Call): Promise<void> {
    try {
      for (const piece of call.pieces) await this.#send(call, piece);
      this.#settle(call);
      this.#latency.record((systemClock.monotonicMs() - call.startedMs) * 1000, call.records);
      call.resolve(resultOf(call));
    } catch (error) {
      this.#settle(call);
      this.#reject(call, error as SpillwayError);
    }
    this.#active--;
    this.#dispatch();
    this.#barrier.look();
  }

  #settle(call: Call): void {
    this.#waitingBytes -= call.bytes;
    this.#waitingRecords -= call.records;
    const counts = this.#counts;
    this.#ahead.add(call.index);
    for (; this.#ahead.delete(counts.settledCalls); counts.length--) counts.settledCalls++;
  }

  #reject(call: Call, error: SpillwayError): void {
    const there = call.done.reduce((sum, d) => sum + d.records, 0);
    this.#figures.rejectedRecords += call.records - there;
    const part = `${error.message} (${there} of the ${call.records} records of this call are in the log)`;
    call.reject(there === 0 ? error : new SpillwayError(error.code, part, error.details));
  }

  async #send(call: Call, piece: Piece): Promise<void> {
    const key = `${this.#keyPrefix}-${this.#nextKey++}`;
    const { body, headers: coding } = await encodeBody(piece.body, this.#options.codec);
    const headers = { 'content-type': piece.contentType, 'idempotency-key': key, ...coding };
    const path = `/v1/streams/${call.stream}/records`;
    const request = { method: 'POST', path, headers, body } as const;
    const { fields } = await this.#persist({ request, records: piece.records, doubtful: false });
    const { firstOffset, lastOffset, duplicate } = fields as {
      firstOffset: number;
      lastOffset: number;
      duplicate?: boolean;
    };
    if (!Number.isSafeInteger(firstOffset) || !Number.isSafeInteger(lastOffset)) {
      throw new SpillwayError(
        'PROTOCOL_ERROR',
        `${this.#options.url}: answered 200 without offsets: this is no gateway`,
      );
    }
    call.done.push({ records: piece.records, firstOffset, lastOffset });
    this.#figures.records += piece.records;
    if (duplicate === true) this.#figures.duplicateRecords += piece.records;
    this.#figures.durableOffset = Math.max(this.#figures.durableOffset, lastOffset + 1);
  }

  /** Sends a request until it is answered for good. @throws what refuses it, DISCONNECTED */
  async #persist(attempts: Attempts): Promise<Answer> {
    const { request } = attempts;
    const { signal } = this.#giveUpSignal;
    for (let first = true; ; first = false) {
      if (signal.aborted) throw this.#givenUp(attempts, signal);
      this.#figures.sends++;
      this.#figures.sentBytes += request.body?.length ?? 0;
      if (!first) this.#figures.resentRecords += attempts.records;
      let waitMs: number | undefined;
      try {
        const answer = await this.#exchanger.exchange(request, signal);
        if (answer.status === 200) {
          this.#reached();
          return answer;
        }
        const refused = this.#refusal(answer);
        if (!mayPass(answer, refused)) {
          this.#reached();
          throw attempts.doubtful ? unsure(refused) : refused;
        }
        this.#trouble = refused;
        waitMs = answer.retryAfterMs;
      } catch (error) {
        if (error instanceof SpillwayError) throw error;
        attempts.doubtful = true;
        if (signal.aborted) throw this.#givenUp(attempts, signal);
        const why = error instanceof Error ? socketReason(error) : reasonOf(error);
        this.#trouble = new SpillwayError('DISCONNECTED', `${this.#options.url}: ${why}`, { cause: error });
      }
      this.#patience.start();
      const least = this.#backoff.nextMs();
      // Not all that were told the same second come back in the same instant.
      await pause(waitMs === undefined ? least : Math.min(waitMs, MAX_WAIT_MS) + Math.min(least, waitMs / 10), signal);
    }
  }

  #reached(): void {
    if (this.#trouble !== undefined || this.#connections === 0) this.#connections++;
    this.#trouble = undefined;
    this.#backoff.reset();
    this.#patience.stop();
  }

  #refusal({ status, fields }: Answer): SpillwayError {
    const { error, message, retryable } = fields;
    const { url } = this.#options;
    if (typeof error !== 'string')
      return gatewayError(`HTTP ${status}`, `${url}: no answer of a gateway`, status >= 500);
    return gatewayError(error, `${url}: ${typeof message === 'string' ? message : ''}`, retryable === true);
  }

  /** What a request is told that was given up. */
  #givenUp(attempts: Attempts, signal: AbortSignal): SpillwayError {
    const reason = signal.reason as SpillwayError;
    return attempts.doubtful ? unsure(reason) : reason;
  }

  /** Nothing got through for giveUpMs. */
  #giveUp(): void {
    const { giveUpMs, url } = this.#options;
    const trouble = this.#trouble ?? new SpillwayError('DISCONNECTED', `${url}: no answer`);
    const error = new SpillwayError(trouble.code, `${trouble.message} (given up after ${giveUpMs} ms)`, {
      subject: url,
    });
    const waiting = this.#queue.slice(this.#head);
    this.#queue = [];
    this.#head = 0;
    for (const call of waiting) {
      this.#settle(call);
      this.#reject(call, error);
    }
    const given = this.#giveUpSignal;
    this.#giveUpSignal = endOfMany();
    given.abort(error);
    this.#barrier.fail(error);
  }
}

/** Whether a refusal ends by itself. Without a code it is one of something between here and the gateway. */
function mayPass({ status, fields }: Answer, refused: SpillwayError): boolean {
  if (typeof fields['error'] === 'string')
    return passesByItself(refused) || (status === 500 && fields['retryable'] === true);
  return status === 429 || status === 408 || (status >= 500 && status !== 501);
}

/** An earlier attempt may have been stored: `refused` says nothing about that one. */
function unsure(refused: SpillwayError): SpillwayError {
  if (refused.code === 'DISCONNECTED') return refused;
  const message = `${refused.message} (${refused.code}; an earlier attempt was cut: the records may or may not be in the log)`;
  return new SpillwayError('DISCONNECTED', message, { cause: refused });
}

function resultOf({ done, records }: Call): AppendedMany {
  const { firstOffset } = done[0];
  const { lastOffset } = done.at(-1)!;
  const sideBySide = lastOffset - firstOffset + 1 === records;
  // An answer has no more than the ends: where others stand in between, nobody said.
  const known = done.every((d) => d.lastOffset - d.firstOffset + 1 === d.records);
  if (sideBySide || !known) return { firstOffset, lastOffset };
  return { firstOffset, lastOffset, runs: done.map((d) => ({ records: d.records, firstOffset: d.firstOffset })) };
}

/** Ends early where `signal` aborts. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
