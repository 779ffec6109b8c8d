// A gateway over HTTP as a script: stores what comes, remembers Idempotency-Keys, and does with each request what it is told.

import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TlsOptions } from 'node:tls';
import * as zlib from 'node:zlib';

export interface Came {
  /** Number of the request among those for records, from 0. */
  readonly number: number;
  readonly stream: string;
  readonly contentType: string;
  readonly key: string;
  readonly records: readonly string[];
  /** Content-Encoding, and the body as it came. */
  readonly encoding: string;
  readonly wireBytes: number;
}

/** undefined: store and answer. Else what to do instead. */
export type Plan =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: unknown;
      readonly headers?: Record<string, string>;
    }
  /** Before anything is stored. */
  | { readonly kind: 'cut' }
  /** Stored, and so many bytes of the answer written. */
  | { readonly kind: 'cut-answer'; readonly bytes: number }
  /** Answer only when `release` is called. */
  | { readonly kind: 'hold' };

export class FakeHttp {
  readonly log: { stream: string; payload: string }[] = [];
  readonly came: Came[] = [];
  readonly violations: string[] = [];
  readonly sockets = new Set<unknown>();
  plan: (came: Came) => Plan | undefined;
  token: string | undefined;
  underWay = 0;
  mostUnderWay = 0;
  /** Held requests, oldest first. */
  readonly held: (() => void)[] = [];
  readonly #keys = new Map<
    string,
    { body: string; answer: { accepted: number; firstOffset: number; lastOffset: number } }
  >();
  readonly #server: http.Server;

  private constructor(plan: (came: Came) => Plan | undefined, tls: TlsOptions | undefined) {
    this.plan = plan;
    const onRequest = (req: IncomingMessage, res: ServerResponse): void => void this.#onRequest(req, res);
    this.#server = tls === undefined ? http.createServer(onRequest) : https.createServer(tls, onRequest);
    this.#server.on('connection', (socket) => this.sockets.add(socket));
  }

  static async start(
    t: { teardown(action: () => unknown): unknown },
    plan: (came: Came) => Plan | undefined = () => undefined,
    tls?: TlsOptions,
  ): Promise<FakeHttp> {
    const gateway = new FakeHttp(plan, tls);
    await gateway.listen(0);
    t.teardown(() => gateway.stop());
    return gateway;
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  payloads(): string[] {
    return this.log.map((r) => r.payload);
  }

  async #onRequest(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk as Buffer);
    const send = (status: number, body: unknown, headers: Record<string, string> = {}): void => {
      const text = JSON.stringify(body);
      res.writeHead(status, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
        ...headers,
      });
      res.end(text);
    };
    if (this.token !== undefined && req.headers.authorization !== `Bearer ${this.token}`) {
      return send(401, { error: 'UNAUTHORIZED', message: 'no', retryable: false });
    }
    const stream = /^\/v1\/streams\/([^/]+)\/records$/.exec(req.url ?? '')?.[1];
    if (stream === undefined) return send(req.url === '/v1/stats' ? 200 : 404, {});
    this.underWay++;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    const encoding = req.headers['content-encoding'] ?? 'identity';
    const wire = Buffer.concat(chunks);
    const body = decoded(wire, encoding).toString('latin1');
    const contentType = req.headers['content-type'] ?? '';
    const key = String(req.headers['idempotency-key'] ?? '');
    if (!/^[\x21-\x7e]{1,255}$/.test(key)) this.violations.push(`Idempotency-Key ${key}`);
    const records = contentType === 'application/x-ndjson' ? linesOf(body) : [body];
    const came: Came = {
      number: this.came.length,
      stream,
      contentType,
      key,
      records,
      encoding,
      wireBytes: wire.length,
    };
    this.came.push(came);
    const plan = this.plan(came);
    if (plan?.kind === 'hold') await new Promise<void>((resolve) => this.held.push(resolve));
    this.underWay--;
    if (plan?.kind === 'cut') return void req.socket.destroy();
    if (plan?.kind === 'answer') return send(plan.status, plan.body ?? {}, plan.headers);
    const answer = this.#store(came, body);
    if (plan?.kind !== 'cut-answer') return send(200, answer);
    const text = JSON.stringify(answer);
    const raw = `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
    req.socket.write(raw.slice(0, plan.bytes), () => req.socket.destroy());
  }

  #store({ stream, key, records }: Came, body: string): object {
    const known = this.#keys.get(key);
    if (known !== undefined) {
      if (known.body !== body) this.violations.push(`key ${key} used for another body`);
      return { ...known.answer, durable: true, duplicate: true };
    }
    const firstOffset = this.log.length;
    for (const payload of records) this.log.push({ stream, payload });
    const answer = { accepted: records.length, firstOffset, lastOffset: this.log.length - 1 };
    this.#keys.set(key, { body, answer });
    return { ...answer, durable: true };
  }
}

function decoded(wire: Buffer, encoding: string): Buffer {
  const { zstdDecompressSync } = zlib as unknown as { zstdDecompressSync: typeof zlib.gunzipSync };
  if (encoding === 'identity') return wire;
  return encoding === 'gzip' ? zlib.gunzipSync(wire) : zstdDecompressSync(wire);
}

/** As src/codec/split.ts has it. */
function linesOf(body: string): string[] {
  const lines = body.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines.map((line) => line.replace(/\r$/, '')).filter((line) => !/^[ \t\r]*$/.test(line));
}
