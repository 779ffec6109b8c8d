// Options of the gateway beside those of its log: the second part of the one table. Values come from flags, environment
// and a file (cli/config.ts); each is checked here against its row.

import { isLoopback, parseAddress, type Address } from './address.ts';
import { SpillwayError } from './errors.ts';
import { checkStreamName } from './names.ts';
import { checkKeys, checkOption, show, type OptionSpec } from './options.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** What happens to records that find their lane full. */
export const overflowPolicies = ['block', 'drop-newest', 'drop-oldest'] as const;
export type OverflowPolicy = (typeof overflowPolicies)[number];

export type { Address };

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
    sentence: 'Target for the 99th percentile of the time from a record to its acknowledgement.',
  },
  {
    name: 'shedAgeMs',
    flag: '--shed-age-ms',
    type: 'number',
    default: 2000,
    min: 0,
    max: 600_000,
    sentence: 'New records are refused while the oldest that waits is older than this; 0 never.',
  },
  {
    name: 'rateRecords',
    flag: '--rate-records',
    type: 'number',
    default: 0,
    min: 0,
    max: 1e9,
    sentence: 'Records per second of one token, or of one address where there are no tokens; 0 without limit.',
  },
  {
    name: 'rateBytes',
    flag: '--rate-bytes',
    type: 'bytes',
    default: 0,
    min: 0,
    max: 64 * GIB,
    sentence: 'Body bytes per second of one token or address; 0 without limit.',
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
    sentence: 'How long a SIGTERM waits for requests under way before it reports what is left and ends with 1.',
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

export type GatewayOptionName = (typeof gatewayOptionTable)[number]['name'];

/** What one stream has of its own: in the file only, under `streams`. */
export interface StreamOptions {
  readonly overflow?: OverflowPolicy;
  readonly maxBlockMs?: number;
  /** Path of a JSON Schema that every record of the stream must match. */
  readonly schema?: string;
}

/** Checked and complete: structured-cloneable, so that an accept thread gets exactly this. */
export interface GatewayOptions {
  readonly http: Address | undefined;
  readonly tcp: Address | undefined;
  readonly unix: string | undefined;
  readonly acceptThreads: number;
  readonly decodeThreads: number;
  readonly maxConnections: number;
  readonly receiveBufferBytes: number;
  readonly wireBodyBytes: number;
  readonly decodedBodyBytes: number;
  readonly maxRequestRecords: number;
  readonly ingressBytes: number;
  readonly overflow: OverflowPolicy;
  readonly maxBlockMs: number;
  readonly highWater: number;
  readonly lowWater: number;
  readonly sloP99Ms: number;
  readonly shedAgeMs: number;
  readonly rateRecords: number;
  readonly rateBytes: number;
  readonly dedupeMs: number;
  readonly dedupeKeys: number;
  readonly dedupeBytes: number;
  readonly tokens: string | undefined;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsClientCa: string | undefined;
  readonly memoryLimit: number;
  readonly drainMs: number;
  readonly logLevel: string;
  readonly streams: Readonly<Record<string, StreamOptions>>;
}

function refuse(name: string, expected: string, came: unknown): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': expected ${expected}, got ${show(came)}`, {
    subject: name,
  });
}

function checkStreams(given: unknown): Record<string, StreamOptions> {
  if (given === undefined) return {};
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    refuse('streams', 'a table of stream names', given);
  }
  const streams: Record<string, StreamOptions> = {};
  for (const [name, value] of Object.entries(given)) {
    checkStreamName(name);
    const where = `option 'streams.${name}'`;
    checkKeys(value, ['overflow', 'maxBlockMs', 'schema'], where);
    const stream: { -readonly [K in keyof StreamOptions]: StreamOptions[K] } = {};
    for (const key of ['overflow', 'maxBlockMs'] as const) {
      const raw = (value as Record<string, unknown>)[key];
      if (raw === undefined) continue;
      const row: OptionSpec = gatewayOptionTable.find((s) => s.name === key)!;
      const checked = checkOption({ ...row, name: `streams.${name}.${key}` }, raw);
      if (key === 'overflow') stream.overflow = checked as OverflowPolicy;
      else stream.maxBlockMs = checked as number;
    }
    const { schema } = value as { schema?: unknown };
    if (schema !== undefined) {
      if (typeof schema !== 'string' || schema === '') refuse(`streams.${name}.schema`, 'the path of a file', schema);
      stream.schema = schema;
    }
    streams[name] = stream;
  }
  return streams;
}

/**
 * Checks values by name (those of the table, and `streams`) and fills in the defaults.
 * @throws INVALID_OPTION naming the option, what was expected and what came
 */
export function resolveGatewayOptions(given: Readonly<Record<string, unknown>>): GatewayOptions {
  checkKeys(given, [...gatewayOptionTable.map((s) => s.name), 'streams'], 'gateway options');
  const values: Record<string, unknown> = { streams: checkStreams(given['streams']) };
  for (const spec of gatewayOptionTable as readonly OptionSpec[]) {
    const raw = given[spec.name];
    const value = raw === undefined ? spec.default : checkOption(spec, raw);
    values[spec.name] = spec.type === 'string' && value === 'off' ? undefined : value;
  }
  for (const name of ['http', 'tcp'] as const) {
    const text = values[name];
    if (text !== undefined) values[name] = parseAddress(name, text as string);
  }
  const options = values as unknown as GatewayOptions;
  checkTogether(options);
  return options;
}

/** Bounds that tie options to each other. */
function checkTogether(o: GatewayOptions): void {
  if (o.lowWater >= o.highWater) refuse('lowWater', `less than highWater (${o.highWater})`, o.lowWater);
  if (o.http === undefined && o.tcp === undefined && o.unix === undefined) {
    refuse('http', "an address for at least one of 'http', 'tcp' and 'unix'", 'off');
  }
  if ((o.tlsCert === undefined) !== (o.tlsKey === undefined)) {
    refuse(o.tlsKey === undefined ? 'tlsKey' : 'tlsCert', 'both tlsCert and tlsKey, or neither', 'off');
  }
  if (o.tlsClientCa !== undefined && o.tlsCert === undefined)
    refuse('tlsCert', 'a certificate, as tlsClientCa is set', 'off');
  if (o.ingressBytes < o.wireBodyBytes) {
    refuse('ingressBytes', `at least wireBodyBytes (${o.wireBodyBytes})`, o.ingressBytes);
  }
  for (const name of ['http', 'tcp'] as const) {
    const address = o[name];
    if (address === undefined || isLoopback(address.host)) continue;
    if (o.tokens === undefined && o.tlsClientCa === undefined) {
      refuse(name, "a loopback address, or 'tokens' or 'tlsClientCa' beside it", `${address.host}:${address.port}`);
    }
  }
}
