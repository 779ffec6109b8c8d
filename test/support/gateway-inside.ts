// A gateway in the process of the test: what it counts and logs can be looked at, and its end says what was left.

import { rmSync } from 'node:fs';
import pino from 'pino';
import type { Test } from 'tap';
import { errorKinds, type ErrorCode } from '../../src/base/errors.ts';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import type { LogOptionsInput } from '../../src/base/options.ts';
import type { Left } from '../../src/ingress/accept.ts';
import type { CounterName } from '../../src/ingress/counters.ts';
import { Gateway } from '../../src/ingress/gateway.ts';
import { temporaryDirectory } from './modes.ts';
import { ask, figuresOf, type Answer } from './gateway-talk.ts';

export interface LogLine {
  readonly level: number;
  readonly msg: string;
}

export const smallLog = {
  segmentBytes: '1MiB',
  laneBytes: '256KiB',
  maxRecordBytes: '64KiB',
  maxWaitingBytes: '1MiB',
  window: { maxBytes: '64KiB' },
};

export class Inside {
  readonly gateway: Gateway;
  readonly lines: LogLine[];
  readonly dir: string;

  private constructor(gateway: Gateway, lines: LogLine[], dir: string) {
    this.gateway = gateway;
    this.lines = lines;
    this.dir = dir;
  }

  /** HTTP alone, on a free port; a log with small limits, in a directory that goes when the test ends. */
  static async start(
    t: { teardown(action: () => unknown): unknown },
    options: Readonly<Record<string, unknown>> = {},
    log: Partial<LogOptionsInput> = {},
  ): Promise<Inside> {
    const lines: LogLine[] = [];
    const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) });
    const dir = log.dir ?? temporaryDirectory('spillway-http-');
    const checked = resolveGatewayOptions({ http: '127.0.0.1:0', tcp: 'off', ...options });
    const gateway = await Gateway.start({ ...smallLog, ...log, dir }, checked, logger);
    const inside = new Inside(gateway, lines, dir);
    t.teardown(async () => {
      await gateway.end().catch(() => undefined);
      if (log.dir === undefined) rmSync(dir, { recursive: true, force: true });
    });
    return inside;
  }

  get port(): number {
    return this.gateway.listening.http!.port;
  }

  count(name: CounterName): number {
    return this.gateway.stats().gateway[name];
  }

  get durableOffset(): number {
    return this.gateway.stats().log.durableOffset;
  }

  /** Nothing is held for anybody. */
  async isAtRest(t: Test, when: string, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    const path = '/v1/streams/at-rest/records';
    const answer = await ask(this.port, { path, body: 'x', headers: { 'content-type': 'text/plain', ...headers } });
    t.equal(answer.status, 200, `${when}: a plain record is taken; ${answer.text}`);
    const { ingressBytes, answerBytes, queuedBytes, paused } = await figuresOf(this.port, headers);
    const held = { ingressBytes, answerBytes, queuedBytes, paused };
    t.same(held, { ingressBytes: 0, answerBytes: 0, queuedBytes: 0, paused: 0 }, `${when}: at rest`);
  }

  /** Ends it: nobody may be left without an answer, and nothing may have been called a bug. @param errors what was to be logged */
  async end(t: Test, errors: readonly string[] = []): Promise<Left> {
    const left = await this.gateway.end();
    t.equal(left.requests, 0, 'every request was answered');
    t.same(
      this.lines.filter((l) => l.level >= 50).map((l) => l.msg),
      errors,
      'nothing else was logged as an error',
    );
    return left;
  }
}

const seenIds = new Set<string>();

/** An error answer is what docs/errors.md and the design promise, whatever its code. @returns its body */
export function isError(t: Test, answer: Answer, code: ErrorCode, what: string): Record<string, unknown> {
  const { status, retryable } = errorKinds[code];
  t.equal(answer.status, status, `${what}: status of ${code}; ${answer.text}`);
  t.equal(answer.headers['content-type'], 'application/json', `${what}: one JSON body`);
  t.equal(Number(answer.headers['content-length']), Buffer.byteLength(answer.text), `${what}: its length is right`);
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(answer.text) as Record<string, unknown>;
  } catch {
    t.ok(false, `${what}: its body is no JSON: ${answer.text}`);
  }
  const { error, message, requestId, retryable: said } = body;
  t.same({ error, said }, { error: code, said: retryable }, `${what}: code, and whether to try again`);
  t.ok(typeof message === 'string' && message.length > 0, `${what}: a message`);
  t.ok(typeof requestId === 'string' && !seenIds.has(requestId), `${what}: a request id of its own`);
  seenIds.add(String(requestId));
  const after = answer.headers['retry-after'];
  const comesBack = status === 429 || (status === 503 && retryable);
  if (comesBack) t.match(after, /^([1-9]|[1-5]\d|60)$/, `${what}: Retry-After of 1 to 60 s`);
  else t.equal(after, undefined, `${what}: no Retry-After`);
  return body;
}

/** The body of an answer that stored something. */
export function isStored(
  t: Test,
  answer: Answer,
  what: string,
): { accepted: number; firstOffset: number; lastOffset: number } {
  t.equal(answer.status, 200, `${what}: ${answer.text}`);
  t.equal(answer.headers['content-type'], 'application/json', `${what}: JSON`);
  let body: Record<string, number> = {};
  try {
    body = JSON.parse(answer.text) as Record<string, number>;
  } catch {
    t.ok(false, `${what}: ${answer.text}`);
  }
  t.match(body, { durable: true }, `${what}: durable`);
  return body as { accepted: number; firstOffset: number; lastOffset: number };
}
