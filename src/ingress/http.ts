// The HTTP listener of one accept thread: limits, routes, who may come in. What the routes do: records-post.ts, records-get.ts.

import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import { SpillwayError } from '../base/errors.ts';
import {
  CONNECTIONS_CHECK_MS,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_TIMEOUT_MS,
  MAX_HEADER_BYTES,
  MAX_HEADERS,
  REQUEST_TIMEOUT_MS,
  SOCKET_IDLE_MS,
} from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import { bearer } from './auth.ts';
import type { Host } from './host.ts';
import { getRecords } from './records-get.ts';
import { postRecords } from './records-post.ts';
import { answer, answerError, answerJson, nextRequestId, Refusal } from './reply.ts';
import { Turns } from './turns.ts';

type Route =
  | { readonly kind: 'records'; readonly stream: string }
  | { readonly kind: 'stats' | 'metrics' | 'healthz' | 'readyz' };

const recordsPath = /^\/v1\/streams\/([^/]*)\/records$/;
const fixed = new Map<string, Route>([
  ['/v1/stats', { kind: 'stats' }],
  ['/metrics', { kind: 'metrics' }],
  ['/healthz', { kind: 'healthz' }],
  ['/readyz', { kind: 'readyz' }],
]);

/** @throws INVALID_STREAM, NOT_FOUND */
function routeOf(path: string): Route {
  const route = fixed.get(path);
  if (route !== undefined) return route;
  const match = recordsPath.exec(path);
  // A name holds no character that needs an escape: `%2e` is refused like any other.
  if (match !== null) return { kind: 'records', stream: checkStreamName(match[1]) };
  throw new SpillwayError('NOT_FOUND', 'there is nothing at this path');
}

/** node:http keeps the first of several, and tells nobody. */
function countHosts(rawHeaders: readonly string[]): number {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i].length === 4 && rawHeaders[i].toLowerCase() === 'host') hosts++;
  }
  return hosts;
}

/** @throws BAD_REQUEST, HEADERS_TOO_LARGE; what node:http would answer by itself, it answers without our body */
function checkRequest(req: IncomingMessage): { path: string; query: URLSearchParams | undefined } {
  // Node drops what is beyond its own limit without a word: it is set above ours.
  if (req.rawHeaders.length > 2 * MAX_HEADERS) {
    const message = `expected at most ${MAX_HEADERS} headers, got ${req.rawHeaders.length / 2}`;
    throw new Refusal(new SpillwayError('HEADERS_TOO_LARGE', message), { close: true });
  }
  const encoding = req.headers['transfer-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked') {
    const message = 'header Transfer-Encoding: expected chunked, or none';
    throw new Refusal(new SpillwayError('BAD_REQUEST', message), { close: true });
  }
  const { httpVersion } = req;
  // node:http also takes 2.0 in a request line, and none: HTTP/0.9, with headers behind it.
  if (httpVersion !== '1.1' && httpVersion !== '1.0') {
    const message = `expected HTTP/1.1 or HTTP/1.0, got ${httpVersion}`;
    throw new Refusal(new SpillwayError('BAD_REQUEST', message), { close: true });
  }
  // RFC 9112, 6.1: its framing is faulty. Who stands in front may have seen no body, and what follows as the next request.
  if (encoding !== undefined && httpVersion === '1.0') {
    const message = 'header Transfer-Encoding: expected none in HTTP/1.0';
    throw new Refusal(new SpillwayError('BAD_REQUEST', message), { close: true });
  }
  const { expect } = req.headers;
  const hosts = countHosts(req.rawHeaders);
  if (hosts > 1 || (hosts === 0 && httpVersion === '1.1')) {
    const message = `header Host: expected one, got ${hosts === 0 ? 'none' : hosts}`;
    throw new Refusal(new SpillwayError('BAD_REQUEST', message), { close: true });
  }
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') {
    throw new Refusal(new SpillwayError('BAD_REQUEST', 'header Expect: expected 100-continue, or none'), {
      close: true,
    });
  }
  const url = req.url ?? '';
  if (!url.startsWith('/')) {
    throw new Refusal(new SpillwayError('BAD_REQUEST', 'expected a path that begins with /'), { close: true });
  }
  const mark = url.indexOf('?');
  if (mark < 0) return { path: url, query: undefined };
  return { path: url.slice(0, mark), query: new URLSearchParams(url.slice(mark + 1)) };
}

function notAllowed(allow: string): Refusal {
  const error = new SpillwayError('METHOD_NOT_ALLOWED', `expected ${allow}`);
  return new Refusal(error, { headers: ['allow', allow] });
}

async function handle(host: Host, req: IncomingMessage, res: ServerResponse): Promise<void> {
  host.begin();
  try {
    const { path, query } = checkRequest(req);
    // Before anything else is said: without a token nobody learns which streams or paths there are.
    const open = path === '/healthz' || path === '/readyz';
    const who = open ? 'probe' : identify(host, req);
    const route = routeOf(path);
    if (route.kind === 'records') {
      if (req.method === 'POST') return await postRecords(host, req, res, route.stream, query, who);
      if (req.method === 'GET') return await getRecords(host, res, route.stream, query);
      throw notAllowed('GET, POST');
    }
    // Load balancers probe with HEAD; node:http leaves the body away.
    if (req.method !== 'GET' && req.method !== 'HEAD') throw notAllowed('GET, HEAD');
    const { report } = host.parts;
    if (route.kind === 'stats' || route.kind === 'metrics') host.sample();
    if (route.kind === 'stats') {
      const stats = report.stats(query?.get('histograms') === '1');
      return answerJson(host, res, 200, `${JSON.stringify(stats)}\n`);
    }
    if (route.kind === 'metrics') {
      return answer(host, res, 200, report.metrics(), ['content-type', 'text/plain; version=0.0.4; charset=utf-8']);
    }
    if (route.kind === 'healthz') return answerJson(host, res, 200, '{"ok":true}\n');
    const state = host.draining ? 'draining' : host.parts.view.state;
    answerJson(host, res, host.ready ? 200 : 503, `{"ready":${host.ready},"state":"${state}"}\n`);
  } catch (error) {
    answerError(host, req, res, error);
  } finally {
    host.done();
  }
}

/** Name of the token, or the address where there are no tokens. @throws UNAUTHORIZED, the same for every reason */
function identify(host: Host, req: IncomingMessage): string {
  const { tokens, counters } = host.parts;
  if (tokens === undefined) return req.socket.remoteAddress ?? 'unknown';
  const known = tokens.nameOf(bearer(req.headers.authorization));
  if (known !== undefined) return known;
  counters.add('unauthorized');
  const error = new SpillwayError('UNAUTHORIZED', 'expected a known token: Authorization: Bearer …');
  throw new Refusal(error, { headers: ['www-authenticate', 'Bearer'], close: true });
}

const parserErrors: Readonly<Record<string, readonly [status: number, reason: string, code: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'HEADERS_TOO_LARGE'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'REQUEST_TIMEOUT'],
};

/** What node:http could not even parse, or did not get in time. */
function refuseUnparsed(host: Host, turns: Turns, error: NodeJS.ErrnoException, socket: Socket): void {
  // The answer under way is to the request before: what is said now would be taken for it.
  if (turns.endAfter(socket)) return;
  // The rest of a request that was answered: a second answer would be taken for that to the next.
  if (turns.hasAnswered(socket)) return void socket.end();
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const [status, reason, code] = parserErrors[error.code ?? ''] ?? [400, 'Bad Request', 'BAD_REQUEST'];
  const message = code === 'BAD_REQUEST' ? 'the request is not well-formed HTTP' : reason;
  const body = JSON.stringify({
    error: code,
    message,
    requestId: nextRequestId(),
    retryable: code === 'REQUEST_TIMEOUT',
  });
  host.parts.counters.add('requests');
  host.parts.counters.add('answers4xx');
  if (code === 'REQUEST_TIMEOUT') host.parts.counters.add('timedOut');
  const head = `HTTP/1.1 ${status} ${reason}\r\nconnection: close\r\ncontent-type: application/json\r\n`;
  socket.end(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

/** Makes the server; the caller listens. */
export function createHttpServer(host: Host, tls: TlsOptions | undefined): http.Server {
  const { maxBlockMs } = host.parts.options;
  const options = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    // Time in which the gateway itself does not read a body, as there is no room, is no fault of the client.
    requestTimeout: REQUEST_TIMEOUT_MS + maxBlockMs,
    connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    noDelay: true,
    requireHostHeader: false,
  };
  const turns = new Turns((req, res) => handle(host, req, res));
  const onRequest = (req: IncomingMessage, res: ServerResponse): void => turns.take(req, res);
  const server =
    tls === undefined ? http.createServer(options, onRequest) : https.createServer({ ...options, ...tls }, onRequest);
  server.maxHeadersCount = 4 * MAX_HEADERS;
  // A client that has sent its request and closed its side still gets its answer. Not in the types, as not in Node's documents.
  Object.assign(server, { httpAllowHalfOpen: true });
  server.timeout = Math.max(SOCKET_IDLE_MS, host.parts.options.maxBlockMs + KEEP_ALIVE_TIMEOUT_MS);
  server.on('clientError', (error: NodeJS.ErrnoException, socket) =>
    refuseUnparsed(host, turns, error, socket as Socket),
  );
  // node:http would cut it without a word.
  server.on('connect', (_req, socket) => refuseUnparsed(host, turns, new Error('CONNECT'), socket as Socket));
  // The body is asked for only once it will be read (body.ts); any other expectation is refused above.
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  return server;
}
