// The bombs of lab:bomb, one by one: what is sent, what has to come back, and what the gateway's counters say it decoded.

import { request } from 'node:http';
import type { GatewayOptions } from '../../src/base/gateway-options.ts';
import { statsOf } from '../lib/children.ts';
import { gzipMembers, gzipNested, gzipZeros, zstdZeros } from './bomb-bodies.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const STREAM = '/v1/streams/bomb/records';
/** Longest that one answer may take. */
const TIMEOUT_MS = 30_000;

interface BombCase {
  readonly name: string;
  readonly encoding: string;
  readonly body: Buffer;
  /** All that would come out of it. */
  readonly decodedBytes: number;
  /** Status and code of the answer. */
  readonly expected: string;
}

export interface Sent extends Omit<BombCase, 'body'> {
  readonly wireBytes: number;
  readonly answers: readonly string[];
  readonly ms: readonly number[];
  /** Of one of them, by the gateway's counter. */
  readonly refusedBytes: number;
}

const TOO_LARGE = '413 BODY_TOO_LARGE';

function lying(body: Buffer, statedBytes: number): Buffer {
  const copy = Buffer.from(body);
  copy.writeUInt32LE(statedBytes, copy.length - 4);
  return copy;
}

function wrongSum(body: Buffer): Buffer {
  const copy = Buffer.from(body);
  copy[copy.length - 8] ^= 1;
  return copy;
}

const gzip = (name: string, body: Buffer, decodedBytes: number, expected = TOO_LARGE): BombCase => ({
  name: `gzip, ${name}`,
  encoding: 'gzip',
  body,
  decodedBytes,
  expected,
});

export function bombCases({ wireBodyBytes }: GatewayOptions, zstd: boolean): BombCase[] {
  const ofZstd = (name: string, decodedBytes: number, expected = TOO_LARGE): BombCase => {
    const refused = zstd ? expected : '415 UNSUPPORTED_ENCODING';
    return { name: `zstd, ${name}`, encoding: 'zstd', body: zstdZeros(decodedBytes), decodedBytes, expected: refused };
  };
  const inner = 100 * MIB;
  const nested = gzipNested(inner);
  const cases = [
    gzip('1 MiB, which is allowed', gzipZeros(MIB), MIB, '200'),
    gzip('10 MiB', gzipZeros(10 * MIB), 10 * MIB),
    gzip('100 MiB', gzipZeros(100 * MIB), 100 * MIB),
    gzip('1 GiB', gzipZeros(GIB), GIB),
    gzip('3 GiB', gzipZeros(3 * GIB), 3 * GIB),
    gzip('48 members of 64 MiB', gzipMembers(48, 64 * MIB), 3 * GIB),
    gzip('1 GiB that says 1,000 bytes', lying(gzipZeros(GIB), 1000), GIB, '400 BAD_ENCODING'),
    gzip('3 GiB, cut off', gzipZeros(3 * GIB).subarray(0, -1000), 3 * GIB, '400 BAD_ENCODING'),
    gzip('1 MiB, with a wrong checksum', wrongSum(gzipZeros(MIB)), MIB, '400 BAD_ENCODING'),
    gzip('10 GiB, above wireBodyBytes', gzipZeros(10 * GIB), 10 * GIB),
    { ...gzip('in gzip, both stated', nested, inner, '415 UNSUPPORTED_ENCODING'), encoding: 'gzip, gzip' },
    gzip('in gzip, one stated: stored as it is', nested, inner, '200'),
    ofZstd('1 MiB, which is allowed', MIB, '200'),
    ofZstd('10 MiB', 10 * MIB),
    ofZstd('1 GiB', GIB),
    ofZstd('10 GiB', 10 * GIB),
  ];
  const above = cases.filter((c) => c.body.length > wireBodyBytes).map((c) => c.name);
  if (above.length !== 1)
    throw new Error(`one body is meant to be above wireBodyBytes, but these are: ${above.join('; ')}`);
  return cases;
}

/** Status and code of the answer to one body. */
function post(http: string, encoding: string, body: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/octet-stream',
      'content-encoding': encoding,
      'content-length': body.length,
    };
    let answered = false;
    const req = request(`${http}${STREAM}`, { method: 'POST', headers, agent: false, timeout: TIMEOUT_MS }, (res) => {
      answered = true;
      let text = '';
      res.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      res.on('error', reject).on('end', () => {
        const { error } = JSON.parse(text) as { error?: string };
        resolve(error === undefined ? String(res.statusCode) : `${res.statusCode} ${error}`);
      });
    });
    // Behind an answer that came before all of the body was sent.
    req.on('error', (error) => {
      if (!answered) reject(error);
    });
    req.on('timeout', () => req.destroy(new Error('no answer')));
    req.end(body);
  });
}

export async function sendAll(http: string, cases: readonly BombCase[], repeats: number): Promise<Sent[]> {
  const all: Sent[] = [];
  for (const { body, ...c } of cases) {
    const before = (await statsOf(http)).gateway;
    const answers: string[] = [];
    const ms: number[] = [];
    for (let i = 0; i < repeats; i++) {
      const startMs = performance.now();
      answers.push(await post(http, c.encoding, body));
      ms.push(performance.now() - startMs);
    }
    const after = (await statsOf(http)).gateway;
    const refusedBytes = (after.refusedDecodedBytes - before.refusedDecodedBytes) / repeats;
    all.push({ ...c, wireBytes: body.length, answers, ms, refusedBytes });
  }
  return all;
}
