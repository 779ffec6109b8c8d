// HTTP as clients speak it: whole requests through node:http, and bytes of one's own choice over a plain socket.

import http from 'node:http';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { CounterName } from '../../src/ingress/counters.ts';
import { within } from './log-support.ts';

export interface Asked {
  readonly method?: string;
  readonly path: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly body?: Uint8Array | string;
  /** Without one: a connection of its own. */
  readonly agent?: http.Agent;
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

/** Rejects where no whole answer came, or none in time. */
export function ask(port: number, asked: Asked): Promise<Answer> {
  const answer = new Promise<Answer>((resolve, reject) => {
    const { method = asked.body === undefined ? 'GET' : 'POST', path, headers = {}, body, agent = false } = asked;
    const req = http.request({ host: '127.0.0.1', port, method, path, headers, agent }, (res) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        resolve({ status: res.statusCode!, headers: res.headers, text });
      });
    });
    req.on('error', reject);
    req.end(body);
  });
  const inTime = within(answer, `an answer to ${asked.method ?? ''} ${asked.path}`, 15_000);
  // A test that fails before it looks at this one must not end the process.
  inTime.catch(() => undefined);
  return inTime;
}

export const ndjson = { 'content-type': 'application/x-ndjson' };
export const json = { 'content-type': 'application/json' };
export const bytes = { 'content-type': 'application/octet-stream' };

export const recordsOf = (stream: string): string => `/v1/streams/${stream}/records`;

export function post(
  port: number,
  stream: string,
  body: Uint8Array | string,
  headers: http.OutgoingHttpHeaders = ndjson,
  agent?: http.Agent,
): Promise<Answer> {
  const path = stream.startsWith('/') ? stream : recordsOf(stream);
  return ask(port, { path, body, headers, ...(agent === undefined ? {} : { agent }) });
}

export type Figures = Record<CounterName, number>;

/** What the gateway counts, as it is now: being asked brings its gauges up to date. */
export async function figuresOf(port: number, headers: http.OutgoingHttpHeaders = {}): Promise<Figures> {
  const { text } = await ask(port, { path: '/v1/stats', headers });
  return (JSON.parse(text) as { gateway: Figures }).gateway;
}

/** Waits for figures by asking again and again. @returns those that fit */
export async function untilFigures(
  port: number,
  condition: (figures: Figures) => boolean,
  what: string,
  timeoutMs = 10_000,
): Promise<Figures> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const figures = await figuresOf(port);
    if (condition(figures)) return figures;
    if (performance.now() > deadline)
      throw new Error(`not within ${timeoutMs} ms: ${what}; ${JSON.stringify(figures)}`);
  }
}

/** A socket that is written to and read from by hand. */
export class Raw {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  /** `end`, or the code of the error. */
  #ended: string | undefined;
  #wake = (): void => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    socket.on('end', () => this.#end('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#end(error.code ?? error.message));
    socket.on('close', () => this.#end('closed'));
  }

  /** @param to a port, or the path of a Unix socket */
  static async connect(to: number | string): Promise<Raw> {
    const socket = connect(typeof to === 'string' ? { path: to } : { host: '127.0.0.1', port: to, noDelay: true });
    await once(socket, 'connect');
    return new Raw(socket);
  }

  write(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** How the other side closed. */
  ended(timeoutMs = 5000): Promise<string> {
    return this.until(() => this.#ended, 'the connection is closed', timeoutMs);
  }

  /** Waits for something of what comes: looks at every piece, and at the end. */
  until<T>(look: () => T | undefined, what: string, timeoutMs = 5000): Promise<T> {
    return within(this.#until(look), what, timeoutMs);
  }

  /** The next whole answer. @param bodiless to HEAD */
  answer(timeoutMs = 5000, bodiless = false): Promise<Answer> {
    const next = this.#until(() => this.#take(bodiless) ?? (this.#ended === undefined ? undefined : 'ended'));
    return within(
      next.then((answer) => {
        if (answer === 'ended')
          throw new Error(`no answer: ${this.#ended}, got '${this.#received.toString('latin1')}'`);
        return answer as Answer;
      }),
      'an answer',
      timeoutMs,
    );
  }

  /** The same as bytes: frames, for one. */
  get received(): Uint8Array {
    return this.#received;
  }

  get isEnded(): boolean {
    return this.#ended !== undefined;
  }

  /** What came and belongs to no answer that was taken. */
  get rest(): string {
    return this.#received.toString('latin1');
  }

  destroy(): void {
    this.socket.destroy();
  }

  async #until<T>(look: () => T | undefined): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #end(how: string): void {
    this.#ended ??= how;
    this.#wake();
  }

  #take(bodiless: boolean): Answer | undefined {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const [first, ...lines] = this.#received.toString('latin1', 0, end).split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const status = Number(first.split(' ')[1]);
    const length = bodiless || status < 200 ? 0 : Number(headers['content-length'] ?? 0);
    if (this.#received.length < end + 4 + length) return undefined;
    const text = this.#received.toString('utf8', end + 4, end + 4 + length);
    this.#received = this.#received.subarray(end + 4 + length);
    return { status, headers, text };
  }
}

/** A record as it is read over HTTP. */
interface Line {
  readonly offset: number;
  readonly timestampMs: number;
  readonly payload?: string;
  readonly payloadBase64?: string;
}

export function linesOf(answer: Answer): Line[] {
  return answer.text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

/** All records of a stream, as text. */
export async function payloads(port: number, stream: string): Promise<string[]> {
  const answer = await ask(port, { path: `${recordsOf(stream)}?max=10000` });
  return linesOf(answer).map((l) => l.payload ?? `base64:${l.payloadBase64}`);
}

/** The head of a POST of text of this length; `more` are further lines. */
export function head(stream: string, length: number, more = ''): string {
  return `POST ${recordsOf(stream)} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${length}\r\n${more}\r\n`;
}
