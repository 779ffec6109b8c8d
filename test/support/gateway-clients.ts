// Clients of a gateway that may go away at any moment: plain HTTP clients that send requests of every kind one after the other,
// and the client of this package over each of its protocols. All of them tell a witness.

import http from 'node:http';
import { gzipSync } from 'node:zlib';
import { seededRandom } from '../../src/base/clock.ts';
import type { Client } from '../../src/client/client.ts';
import { payloadOf, streamOf, type GatewayWitness } from './gateway-witness.ts';
import { recordsOf } from './gateway-talk.ts';
import { within } from './log-support.ts';

const ANSWER_WITHIN_MS = 20_000;

/** Where the gateway is now: clients wait while it is nowhere. */
export class Whereabouts {
  #port: number | undefined;
  #over = false;
  #waiting: (() => void)[] = [];

  /** Undefined once no new requests are wanted. @param again for one that was cut: it is still to be answered */
  async http(again: boolean): Promise<number | undefined> {
    for (;;) {
      if (this.#over && !again) return undefined;
      if (this.#port !== undefined) return this.#port;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  is(port: number | undefined): void {
    this.#port = port;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** New requests are not wanted any more. */
  end(): void {
    this.#over = true;
    this.is(this.#port);
  }
}

export interface Request {
  readonly client: number;
  readonly n: number;
  readonly records: number;
  /** Sent again under it until it is answered; without one it is sent once. */
  readonly key: string | undefined;
  readonly headers: http.OutgoingHttpHeaders;
  readonly body: Buffer;
  readonly chunked: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly closes: boolean;
}

/** One request and its whole answer. Rejects where that does not come. */
export function send(port: number, agent: http.Agent, request: Request): Promise<HttpAnswer> {
  const answer = new Promise<HttpAnswer>((resolve, reject) => {
    const { client, headers, body, chunked } = request;
    const options = { host: '127.0.0.1', port, agent, method: 'POST', path: recordsOf(streamOf(client)), headers };
    const req = http.request(options, (res) => {
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (chunk: string) => (text += chunk));
      res.on('error', reject);
      res.on('close', () => reject(new Error('the answer broke off')));
      res.on('end', () => {
        if (!res.complete) return reject(new Error('the answer broke off'));
        try {
          const fields = JSON.parse(text) as Record<string, unknown>;
          return resolve({ status: res.statusCode!, body: fields, closes: res.headers.connection === 'close' });
        } catch (error) {
          return reject(error as Error);
        }
      });
    });
    req.on('error', reject);
    if (!chunked) return void req.end(body);
    const third = Math.ceil(body.length / 3);
    for (let at = 0; at < body.length; at += third) req.write(body.subarray(at, at + third));
    return void req.end();
  });
  return within(answer, 'an answer', ANSWER_WITHIN_MS);
}

/** Makes the requests of one client, of every kind in turn. */
export class Requests {
  readonly #client: number;
  readonly #witness: GatewayWitness;
  readonly #random: () => number;
  readonly #keyed: boolean;
  #count = 0;

  /** @param keyed whether they carry an Idempotency-Key */
  constructor(client: number, witness: GatewayWitness, seed: number, keyed: boolean) {
    this.#client = client;
    this.#witness = witness;
    this.#random = seededRandom(seed + client);
    this.#keyed = keyed;
  }

  next(): Request {
    const client = this.#client;
    const kind = this.#count++ % 5;
    const records = kind === 0 ? 1 : 1 + Math.floor(this.#random() * 30);
    const n = this.#witness.take(client, records);
    const payloads = Array.from({ length: records }, (_, i) => payloadOf(client, n + i));
    const key = this.#keyed ? `${client}/${this.#count}` : undefined;
    const headers: http.OutgoingHttpHeaders = key === undefined ? {} : { 'idempotency-key': key };
    let body = Buffer.from(`${payloads.join('\n')}\n`);
    headers['content-type'] = 'application/x-ndjson';
    if (kind === 0) {
      headers['content-type'] = 'application/octet-stream';
      body = Buffer.from(payloads[0]);
    } else if (kind === 1) {
      headers['content-type'] = 'application/json';
      body = Buffer.from(`[${payloads.join(' ,\n')}]`);
    } else if (kind === 2) {
      headers['content-encoding'] = 'gzip';
      body = gzipSync(body, { level: 1 });
    }
    return { client, n, records, key, headers, body, chunked: kind === 3 };
  }
}

/** Told of every answer, before the next request. */
export type OnAnswer = (request: Request, answer: HttpAnswer) => void;

/**
 * Sends one request after the other until the gateway is nowhere any more. One that was cut is sent again under its key, or given
 * up where it has none. @param onCut where it is given, the first that is cut or refused is the last
 */
export async function runHttpClient(
  requests: Requests,
  where: Whereabouts,
  agent: http.Agent,
  witness: GatewayWitness,
  onAnswer: OnAnswer,
  onCut?: (request: Request) => void,
): Promise<void> {
  let cut: Request | undefined;
  for (;;) {
    const port = await where.http(cut !== undefined);
    if (port === undefined) return;
    const request: Request = cut ?? requests.next();
    let answer: HttpAnswer;
    try {
      answer = await send(port, agent, request);
    } catch (error) {
      if ((error as Error).message.startsWith('not within'))
        witness.violations.push(`client ${request.client}: ${(error as Error).message}`);
      if (onCut !== undefined) return onCut(request);
      cut = request.key === undefined ? undefined : request;
      continue;
    }
    cut = undefined;
    const { status, body } = answer;
    if (status === 200) {
      if (body['accepted'] !== request.records || body['durable'] !== true)
        witness.violations.push(
          `client ${request.client}: answered ${JSON.stringify(body)} to ${request.records} records`,
        );
      witness.answered(
        request.client,
        request.n,
        request.records,
        Number(body['firstOffset']),
        Number(body['lastOffset']),
      );
    }
    onAnswer(request, answer);
    if (status !== 200 && onCut !== undefined) return;
  }
}

/**
 * Appends through the client of this package until told to stop, a few calls at a time; each is sent again by the client itself.
 * @returns once all are settled
 */
export async function runProducer(
  connection: Client,
  client: number,
  witness: GatewayWitness,
  stopped: () => boolean,
  onAnswer: () => void,
  onRejected: (n: number, records: number, error: { code?: string; message: string }) => void,
): Promise<void> {
  const one = async (lane: number): Promise<void> => {
    for (let i = 0; !stopped(); i++) {
      const records = 1 + ((i * 7 + lane) % 40);
      const n = witness.take(client, records);
      const payloads = Array.from({ length: records }, (_, k) => payloadOf(client, n + k));
      try {
        const { firstOffset, lastOffset } = await connection.appendMany(streamOf(client), payloads);
        witness.answered(client, n, records, firstOffset, lastOffset);
        onAnswer();
      } catch (error) {
        onRejected(n, records, error as { code?: string; message: string });
        return;
      }
    }
  };
  await Promise.all([0, 1, 2].map(one));
}
