// HTTP answers. Every error is one JSON body with a code from the closed list (docs/errors.md); 429 and 503 say when to come back.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { errorKinds, SpillwayError, reasonOf } from '../base/errors.ts';
import { MAX_DISCARDED_BYTES } from '../base/limits.ts';
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
  /** Where the next request would begin is uncertain, or nobody should be asked for more: the connection ends here. */
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

/** @param closes the connection ends behind the answer; else what has not come of the body is read, and thrown away */
export function answer(
  host: Host,
  res: ServerResponse,
  status: number,
  body: string | Uint8Array,
  headers: readonly string[],
  closes = false,
): void {
  const { counters } = host.parts;
  if (res.destroyed) return counters.add('aborted');
  counters.add('requests');
  counters.add(status < 300 ? 'answers2xx' : status < 500 ? 'answers4xx' : 'answers5xx');
  const all = [...headers, 'content-length', String(typeof body === 'string' ? Buffer.byteLength(body) : body.length)];
  if (host.draining || closes) res.shouldKeepAlive = false;
  res.writeHead(status, all);
  if (closes) {
    res.write(body);
    return discard(res.req, () => res.end());
  }
  res.end(body);
  if (!res.req.complete) res.req.resume();
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
    return answer(host, res, 500, body, jsonHeaders, endsWithin(req));
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
  answer(host, res, status, body, headers, refusal?.close === true || endsWithin(req));
}

/**
 * Whether the connection ends with this request, as too much of its body is to come. A little is taken instead: a new connection costs
 * both sides more, and while many are refused the kernel's queue of new ones would be full.
 */
function endsWithin(req: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': coding, expect } = req.headers;
  if (req.complete) return false;
  // Who waits to be asked for its body may send it all the same, or not: RFC 9110, 10.1.1.
  return coding !== undefined || Number(length) > (expect === undefined ? MAX_DISCARDED_BYTES : 0);
}
