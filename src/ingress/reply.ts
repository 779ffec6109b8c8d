// HTTP answers. Every error is one JSON body with a code from the closed list (docs/errors.md); 429 and 503 say when to come back.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { errorKinds, SpillwayError, reasonOf } from '../base/errors.ts';
import type { BadRecord } from '../codec/split.ts';
import { secretsOfHeader, withoutSecrets } from './credentials.ts';
import type { Host } from './host.ts';

/** How long a client may go on sending a body that was refused: most look for the answer only when they have sent all. */
const REFUSED_BODY_MS = 5000;

/** An error with what only an HTTP answer carries. */
export class Refusal extends SpillwayError {
  /** Seconds, where they are known better than from the queue. */
  readonly retryAfter: number | undefined;
  /** Body that is sent beside the error: bad records, for one. */
  readonly also: Readonly<Record<string, unknown>>;
  readonly headers: readonly string[];
  /** The rest of the request is not read. */
  readonly close: boolean;

  constructor(
    error: SpillwayError,
    extra: {
      readonly retryAfter?: number;
      readonly also?: Readonly<Record<string, unknown>>;
      readonly headers?: readonly string[];
      readonly close?: boolean;
    } = {},
  ) {
    super(error.code, error.message, error.details);
    this.retryAfter = extra.retryAfter;
    this.also = extra.also ?? {};
    this.headers = extra.headers ?? [];
    this.close = extra.close ?? false;
  }
}

export function describeBad(
  req: IncomingMessage,
  bad: readonly BadRecord[],
  count: number,
): Readonly<Record<string, unknown>> {
  return { badRecords: count, records: bad.map((record) => ({ ...record, message: tellable(req, record.message) })) };
}

/** Credentials of the request are told in no message, wherever else they stood in it. */
function tellable(req: IncomingMessage, message: string): string {
  return withoutSecrets(message, (req.headersDistinct['authorization'] ?? []).flatMap(secretsOfHeader));
}

let requests = 0;
const processTag = Math.trunc(Date.now() % 2 ** 32).toString(36);

export function nextRequestId(): string {
  return `${processTag}-${(++requests).toString(36)}`;
}

/** @param unread the request, where its body was not read to its end: the connection is closed behind the answer */
export function answer(
  host: Host,
  res: ServerResponse,
  status: number,
  body: string | Uint8Array,
  headers: readonly string[],
  unread?: IncomingMessage,
): void {
  const { counters } = host.parts;
  if (res.destroyed) return counters.add('aborted');
  counters.add('requests');
  counters.add(status < 300 ? 'answers2xx' : status < 500 ? 'answers4xx' : 'answers5xx');
  const all = [...headers, 'content-length', String(typeof body === 'string' ? Buffer.byteLength(body) : body.length)];
  if (host.draining || unread !== undefined) res.shouldKeepAlive = false;
  res.writeHead(status, all);
  if (unread === undefined) return void res.end(body);
  res.write(body);
  discard(unread, () => res.end());
}

/** Reads on and throws away: closing over unread bytes would reset the connection, and the answer would be lost with it. */
function discard(req: IncomingMessage, done: () => void): void {
  if (req.readableEnded || req.destroyed) return done();
  const timer = setTimeout(done, REFUSED_BODY_MS).unref();
  const over = (): void => {
    clearTimeout(timer);
    done();
  };
  req.once('end', over).once('close', over).resume();
}

const jsonHeaders = ['content-type', 'application/json'];

export function answerJson(host: Host, res: ServerResponse, status: number, body: string): void {
  answer(host, res, status, body, jsonHeaders);
}

/** Answers with an error; one that is not ours is a bug, and says nothing but that. */
export function answerError(host: Host, req: IncomingMessage, res: ServerResponse, thrown: unknown): void {
  const requestId = nextRequestId();
  if (!(thrown instanceof SpillwayError)) {
    const stack = thrown instanceof Error ? tellable(req, thrown.stack ?? '') : undefined;
    host.parts.log.error({ requestId, stack }, `bug: ${tellable(req, reasonOf(thrown))}`);
    const body = JSON.stringify({ error: 'INTERNAL', message: 'this is a bug', requestId, retryable: true });
    return answer(host, res, 500, body, jsonHeaders, unreadOf(req));
  }
  const { code, retryable } = thrown;
  const message = tellable(req, thrown.message);
  const { status } = errorKinds[code];
  const refusal = thrown instanceof Refusal ? thrown : undefined;
  const headers = [...jsonHeaders, ...(refusal?.headers ?? [])];
  if (status === 429 || (status === 503 && retryable)) {
    headers.push('retry-after', String(refusal?.retryAfter ?? host.retryAfter()));
  }
  host.parts.log.debug({ requestId, code, status }, message);
  const body = JSON.stringify({ error: code, message, requestId, retryable, ...refusal?.also });
  answer(host, res, status, body, headers, refusal?.close === true ? req : unreadOf(req));
}

/**
 * The request, where it has a body that was not read: its connection ends. To read a small one to its end and go on was tried: a refusal
 * costs about what a request does, who is refused comes again at once instead of connecting first, and of a flood half was accepted.
 */
function unreadOf(req: IncomingMessage): IncomingMessage | undefined {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = req.headers;
  return req.complete || (coding === undefined && Number(length) === 0) ? undefined : req;
}
