// A gateway over HTTP, by node:http alone, so that what is measured is the server and not our client: one request at a time
// per connection, connections kept. An answer counts as accepted when its status is 2xx and, where its body says how many
// records were, it says all of them.

import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { connect } from 'node:net';
import { SpillwayError, reasonOf } from '../base/errors.ts';
import { show } from '../base/options.ts';
import type { Target } from './generator.ts';
import { recordPool, type RecordSize } from './records.ts';

export interface HttpTargetOptions extends RecordSize {
  readonly connections: number;
  readonly stream: string;
  readonly token: string | undefined;
  readonly seed: number;
}

/** A server that says nothing for so long gets no longer. */
const REQUEST_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 5000;
/** What is kept of an answer. */
const MAX_ANSWER_BYTES = 8192;
/** Answer that says something else than that all was accepted. */
const WRONG_ANSWER = 'WRONG_ANSWER';

class Refused extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** The whole body, cut. */
function readAnswer(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    response.on('data', (part: Buffer) => {
      if (bytes < MAX_ANSWER_BYTES) parts.push(part.subarray(0, MAX_ANSWER_BYTES - bytes));
      bytes += part.length;
    });
    response.on('end', () => resolve(Buffer.concat(parts).toString('utf8')));
    // One that breaks off ends in an error too.
    response.on('error', reject);
  });
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** @returns records accepted @throws Refused */
function judge(status: number, text: string, perRequest: number): number {
  const answer = parsed(text);
  if (status >= 200 && status < 300) {
    const { accepted = perRequest } = answer;
    if (accepted !== perRequest) throw new Refused(WRONG_ANSWER);
    return perRequest;
  }
  const code = answer['error'];
  throw new Refused(typeof code === 'string' && /^[A-Za-z_]{1,40}$/.test(code) ? code : `HTTP_${status}`);
}

function portOf({ port, protocol }: URL): number {
  return Number(port || (protocol === 'https:' ? 443 : 80));
}

/** Fails at once where nobody listens, instead of once per request. */
function probe(url: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: portOf(url) });
    const fail = (reason: string): void => {
      socket.destroy();
      reject(new SpillwayError('DISCONNECTED', `cannot reach ${url.origin}: ${reason}`, { subject: 'target' }));
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail('no answer'));
    socket.on('error', (error) => fail(reasonOf(error)));
    socket.on('connect', () => {
      socket.destroy();
      resolve();
    });
  });
}

/** @throws INVALID_OPTION, DISCONNECTED */
export async function httpTarget(text: string, options: HttpTargetOptions): Promise<Target> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.hostname === '' || url.pathname !== '/' || url.search !== '' || url.username !== '') {
    throw new SpillwayError(
      'INVALID_OPTION',
      `option 'target': expected http://HOST:PORT or https://HOST:PORT, got ${show(text)}`,
      {
        subject: 'target',
      },
    );
  }
  await probe(url);
  const { perRequest, connections, stream, token } = options;
  const { Agent, request } = url.protocol === 'https:' ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: connections, maxTotalSockets: connections });
  const next = recordPool(options, options.seed);
  const bodies = new Map<readonly Uint8Array[], Buffer>();
  const newline = Buffer.from('\n');
  const bodyOf = (records: readonly Uint8Array[]): Buffer => {
    let body = bodies.get(records);
    if (body === undefined) {
      body = perRequest === 1 ? Buffer.from(records[0]) : Buffer.concat(records.flatMap((r) => [r, newline]));
      bodies.set(records, body);
    }
    return body;
  };
  const headers: Record<string, string | number> = {
    'content-type': perRequest === 1 ? 'application/octet-stream' : 'application/x-ndjson',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  const fixed = {
    agent,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: portOf(url),
    method: 'POST',
    path: `/v1/streams/${stream}/records`,
  };
  return {
    maxUnderWay: connections,
    send: async () => {
      const body = bodyOf(next());
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const sent = request({ ...fixed, headers: { ...headers, 'content-length': body.length } }, resolve);
        sent.on('error', reject);
        sent.setTimeout(REQUEST_TIMEOUT_MS, () => sent.destroy(new Refused('TIMEOUT')));
        sent.end(body);
      });
      return judge(response.statusCode ?? 0, await readAnswer(response), perRequest);
    },
    close: async () => agent.destroy(),
  };
}
