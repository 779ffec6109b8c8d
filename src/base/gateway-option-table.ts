// Options of the gateway beside those of its log: the second part of the one table. Validation, --help, docs/options.md and the
// defaults come from it; how values are checked: gateway-options.ts.

import { logOptionTable, type OptionSpec } from './options.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** What happens to records that find their lane full. */
export const overflowPolicies = ['block', 'drop-newest', 'drop-oldest'] as const;
export type OverflowPolicy = (typeof overflowPolicies)[number];

export const gatewayOptionTable = [
  {
    name: 'http',
    flag: '--http',
    type: 'string',
    default: '127.0.0.1:8080',
    sentence: 'Address and port of the HTTP listener, or off.',
  },
  {
    name: 'tcp',
    flag: '--tcp',
    type: 'string',
    default: '127.0.0.1:8081',
    sentence: 'Address and port of the listener for the framed protocol, or off.',
  },
  {
    name: 'unix',
    flag: '--unix',
    type: 'string',
    default: 'off',
    sentence: 'Path of a Unix socket for the framed protocol, or off.',
  },
  {
    name: 'acceptThreads',
    flag: '--accept-threads',
    type: 'integer',
    default: 1,
    min: 1,
    max: 16,
    sentence: 'Threads that listen, each with a lane of its own; more than one needs Node 22.12.',
  },
  {
    name: 'decodeThreads',
    flag: '--decode-threads',
    type: 'integer',
    default: 1,
    min: 1,
    max: 16,
    sentence: 'Threads per accept thread that decompress, split and check large bodies.',
  },
  {
    name: 'maxConnections',
    flag: '--max-connections',
    type: 'integer',
    default: 1024,
    min: 1,
    max: 65_536,
    sentence: 'Connections at the same time, of all listeners of an accept thread together.',
  },
  {
    name: 'receiveBufferBytes',
    flag: '--receive-buffer-bytes',
    type: 'bytes',
    default: 32 * KIB,
    min: 4 * KIB,
    max: 16 * MIB,
    sentence:
      'Receive buffer of a TCP connection (SO_RCVBUF), of which the kernel takes twice; over a long way more is faster.',
  },
  {
    name: 'wireBodyBytes',
    flag: '--wire-body-bytes',
    type: 'bytes',
    default: 4 * MIB,
    min: KIB,
    max: 256 * MIB,
    sentence: 'Largest request body as it comes over the wire.',
  },
  {
    name: 'decodedBodyBytes',
    flag: '--decoded-body-bytes',
    type: 'bytes',
    default: 16 * MIB,
    min: KIB,
    max: GIB,
    sentence: 'Decode budget: largest request body once decompressed.',
  },
  {
    name: 'maxRequestRecords',
    flag: '--max-request-records',
    type: 'integer',
    default: 10_000,
    min: 1,
    max: 1_000_000,
    sentence: 'Most records of one request or frame.',
  },
  {
    name: 'ingressBytes',
    flag: '--ingress-bytes',
    type: 'bytes',
    default: 32 * MIB,
    min: 64 * KIB,
    max: 16 * GIB,
    sentence:
      'Body bytes that requests and frames under way may hold per accept thread; what does not fit is not read yet.',
  },
  {
    name: 'overflow',
    flag: '--overflow',
    type: 'choice',
    default: 'block',
    choices: overflowPolicies,
    sentence:
      'What becomes of records that find the lane full: they wait, are refused, or take the place of the oldest.',
  },
  {
    name: 'maxBlockMs',
    flag: '--max-block-ms',
    type: 'number',
    default: 5000,
    min: 0,
    max: 600_000,
    sentence: 'How long policy block holds an answer back before it is 429.',
  },
  {
    name: 'highWater',
    flag: '--high-water',
    type: 'number',
    default: 0.8,
    min: 0.01,
    max: 1,
    sentence:
      'Fill of lane and ingressBytes, as a fraction, from which on sockets are not read and no credit is given.',
  },
  {
    name: 'lowWater',
    flag: '--low-water',
    type: 'number',
    default: 0.5,
    min: 0,
    max: 1,
    sentence: 'Fill below which reading goes on.',
  },
  {
    name: 'sloP99Ms',
    flag: '--slo-p99-ms',
    type: 'number',
    default: 20,
    min: 0.1,
    max: 600_000,
    sentence:
      'Target for the 99th percentile of the time from a record to its acknowledgement: the window follows it (window.sloP99Ms) unless window.lingerMs is set, and it sets the default of shedAgeMs.',
  },
  {
    name: 'shedAgeMs',
    flag: '--shed-age-ms',
    type: 'number',
    default: 2000,
    min: 0,
    max: 600_000,
    sentence:
      'New records are refused while the oldest that waits is older than this; 0 never. Where it is not set, 100 times sloP99Ms.',
  },
  {
    name: 'rateRecords',
    flag: '--rate-records',
    type: 'number',
    default: 0,
    min: 0,
    max: 1e9,
    sentence:
      'Records per second of one token, or of one address where there are no tokens; 0 without limit. Each accept thread counts for itself: with N of them it is up to N times as much.',
  },
  {
    name: 'rateBytes',
    flag: '--rate-bytes',
    type: 'bytes',
    default: 0,
    min: 0,
    max: 64 * GIB,
    sentence: 'Body bytes per second of one token or address, counted as rateRecords is; 0 without limit.',
  },
  {
    name: 'dedupeMs',
    flag: '--dedupe-ms',
    type: 'number',
    default: 600_000,
    min: 0,
    max: 86_400_000,
    sentence: 'How long an Idempotency-Key or a producer is remembered; 0 not at all.',
  },
  {
    name: 'dedupeKeys',
    flag: '--dedupe-keys',
    type: 'integer',
    default: 100_000,
    min: 1,
    max: 10_000_000,
    sentence: 'Keys and producers remembered at the same time; the oldest go first.',
  },
  {
    name: 'dedupeBytes',
    flag: '--dedupe-bytes',
    type: 'bytes',
    default: 256 * MIB,
    min: 0,
    max: 64 * GIB,
    sentence: 'How much of the log a start reads back to remember them; older ones are forgotten by a restart.',
  },
  {
    name: 'tokens',
    flag: '--tokens',
    type: 'string',
    default: 'off',
    sentence: 'File of tokens, a SHA-256 hex digest and a name per line: every request then needs one. Or off.',
  },
  {
    name: 'tlsCert',
    flag: '--tls-cert',
    type: 'string',
    default: 'off',
    sentence: 'Certificate chain (PEM) of the listeners, or off for plain text.',
  },
  {
    name: 'tlsKey',
    flag: '--tls-key',
    type: 'string',
    default: 'off',
    sentence: 'Private key (PEM) of the certificate.',
  },
  {
    name: 'tlsClientCa',
    flag: '--tls-client-ca',
    type: 'string',
    default: 'off',
    sentence: 'Authority (PEM) that client certificates must come from: mutual TLS. Or off.',
  },
  {
    name: 'memoryLimit',
    flag: '--memory-limit',
    type: 'bytes',
    default: 0,
    min: 0,
    max: 1024 * GIB,
    sentence:
      'A start whose memory sum exceeds this is refused; 0 takes the limit of the container, where there is one.',
  },
  {
    name: 'drainMs',
    flag: '--drain-ms',
    type: 'number',
    default: 10_000,
    min: 100,
    max: 600_000,
    sentence:
      'How long a SIGTERM waits for requests and connections before it reports what is left and cuts it; it ends with 1 if requests were left.',
  },
  {
    name: 'recordArrivals',
    flag: '--record-arrivals',
    type: 'string',
    default: 'off',
    sentence: 'New file (CSV) for times and sizes of what arrives, at most 64 MiB, without contents or names. Or off.',
  },
  {
    name: 'logLevel',
    flag: '--log-level',
    type: 'choice',
    default: 'info',
    choices: ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
    sentence: 'Least severe log line that is written to stderr.',
  },
] as const satisfies readonly OptionSpec[];

const SHED_AGE_SLOS = 100;

/** Default of shedAgeMs: an age that a burst does not reach while the SLO is kept. */
export function shedAgeMsOf(sloP99Ms: number): number {
  const { max } = gatewayOptionTable.find((spec) => spec.name === 'shedAgeMs')!;
  return Math.min(max, SHED_AGE_SLOS * sloP99Ms);
}

/** Default of window.sloP99Ms, where window.lingerMs is not set: as far as a window may be told to linger. */
export function windowSloOf(sloP99Ms: number): number {
  return Math.min(logOptionTable.find((spec) => spec.name === 'window.sloP99Ms')!.max, sloP99Ms);
}
