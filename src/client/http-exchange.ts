// One HTTP request and its answer, as numbers: over node:http, with connections that are kept.

import { setMaxListeners } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import type { ClientOptions } from './options.ts';

/** Longest answer that is read. */
const MAX_ANSWER_BYTES = 65_536;

export interface Request {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
}

export interface Answer {
  readonly status: number;
  /** From Retry-After, where there is one. */
  readonly retryAfterMs: number | undefined;
  /** Of the JSON body; empty where there is none. */
  readonly fields: Readonly<Record<string, unknown>>;
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Seconds, or a date. */
function retryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** Every request under way listens to it: with much concurrency Node would take that for a leak. */
export function endOfMany(): AbortController {
  const made = new AbortController();
  setMaxListeners(0, made.signal);
  return made;
}

export class Exchanger {
  readonly #agent: http.Agent;
  readonly #request: typeof http.request;
  readonly #base: http.RequestOptions;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #connectTimeoutMs: number;
  readonly #silenceMs: number;

  constructor(options: ClientOptions) {
    const { target, token, concurrency, connectTimeoutMs, silenceMs } = options;
    if (target.kind !== 'http') throw new Error('not an HTTP target');
    const { host, port, tls } = target;
    const keep = { keepAlive: true, maxSockets: concurrency, maxFreeSockets: concurrency, noDelay: true };
    const servername = net.isIP(host) === 0 ? { servername: host } : {};
    this.#agent = tls === undefined ? new http.Agent(keep) : new https.Agent({ ...keep, ...servername, ...tls });
    this.#request = tls === undefined ? http.request : https.request;
    this.#base = { host, port, agent: this.#agent };
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.#connectTimeoutMs = connectTimeoutMs;
    this.#silenceMs = silenceMs;
  }

  /** Rejects where the connection was lost, silent, or `signal` aborted: then nobody knows what became of the request. */
  exchange(request: Request, signal: AbortSignal): Promise<Answer> {
    const { method, path, body } = request;
    const length = body === undefined ? {} : { 'content-length': String(body.length) };
    const headers = { ...this.#headers, ...request.headers, ...length };
    return new Promise((resolve, reject) => {
      const req = this.#request({ ...this.#base, method, path, headers, signal });
      req.setTimeout(this.#silenceMs, () => req.destroy(new Error(`silent for ${this.#silenceMs} ms`)));
      req.once('socket', (socket: net.Socket) => this.#limitConnecting(req, socket));
      req.on('error', reject);
      req.once('response', (res) => {
        let text = '';
        res.setEncoding('utf8');
        res.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > MAX_ANSWER_BYTES) req.destroy(new Error('an answer that is too long'));
        });
        res.once('error', reject);
        res.once('close', () => reject(new Error('the connection was closed within an answer')));
        res.once('end', () => {
          const after = retryAfterMs(res.headers['retry-after']);
          resolve({ status: res.statusCode ?? 0, retryAfterMs: after, fields: fieldsOf(text) });
        });
      });
      req.end(body);
    });
  }

  #limitConnecting(req: http.ClientRequest, socket: net.Socket): void {
    if (!socket.connecting) return;
    const ms = this.#connectTimeoutMs;
    const timer = setTimeout(() => req.destroy(new Error(`no connection within ${ms} ms`)), ms);
    socket.once('connect', () => clearTimeout(timer));
    socket.once('close', () => clearTimeout(timer));
  }

  close(): void {
    this.#agent.destroy();
  }
}
