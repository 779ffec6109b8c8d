// What `connect` takes: the gateway's address, and options checked in the manner of the one table (base/options.ts).

import { SpillwayError } from '../base/errors.ts';
import { MAX_SOCKET_PATH_BYTES } from '../base/limits.ts';
import { checkKeys, checkOption, show, type OptionSpec } from '../base/options.ts';
import type { WireCodec } from '../codec/append-codec.ts';
import { codecLacks } from '../codec/batch-codec.ts';
import { MAX_TOKEN_BYTES } from '../codec/frames.ts';

const MIB = 1024 * 1024;
/**
 * A connection on which nothing moves for this long, while something is under way, is taken for dead: longer than a gateway holds an
 * answer back by default (maxBlockMs). Where it was alive, its records are sent again and recognised.
 */
const SILENCE_MS = 30_000;

const clientOptionTable = [
  {
    name: 'token',
    flag: '--token',
    type: 'string',
    default: undefined,
    sentence: 'Shown to the gateway: in HELLO, or as Authorization: Bearer.',
  },
  {
    name: 'maxWaitingBytes',
    flag: '--max-waiting-bytes',
    type: 'bytes',
    default: 64 * MIB,
    min: 0,
    max: 4096 * MIB,
    sentence:
      'Appends that may wait for their acknowledgement, in bytes; beyond it an append is refused (BACKLOG_FULL).',
  },
  {
    name: 'connectTimeoutMs',
    flag: '--connect-timeout-ms',
    type: 'number',
    default: 10_000,
    min: 1,
    max: 600_000,
    sentence: 'How long `connect` tries to reach the gateway, and how long one later attempt may take.',
  },
  {
    name: 'giveUpMs',
    flag: '--give-up-ms',
    type: 'number',
    default: 60_000,
    min: 1,
    max: 86_400_000,
    sentence:
      'How long appends wait for a gateway that cannot be reached, or refuses them for the time being, before they are rejected; one that holds what it was sent, as on a full disk, is waited for as long as it lives. Less than its dedupeMs, or a record sent again is stored again.',
  },
  {
    name: 'concurrency',
    flag: '--concurrency',
    type: 'integer',
    default: 1,
    min: 1,
    max: 256,
    sentence:
      'HTTP only: calls under way at the same time; with more than 1 the order of calls is not the order in the log.',
  },
  {
    name: 'codec',
    flag: '--codec',
    type: 'choice',
    default: 'none',
    choices: ['none', 'gzip', 'zstd'],
    sentence:
      'How records are compressed on their way: bodies of 4 KiB and frames of 16 KiB and more, where they become a tenth shorter. zstd needs Node 22.15 on both sides.',
  },
] as const satisfies readonly OptionSpec[];

/** PEM: the text itself, not the path of a file. */
export type Pem = string | Uint8Array;

export interface ClientTlsInput {
  /** Authorities that the gateway's certificate may come from, instead of those that Node brings. */
  ca?: Pem | readonly Pem[];
  /** Client certificate and its key, for a gateway with tlsClientCa. */
  cert?: Pem;
  key?: Pem;
  /** false: any certificate will do. The connection is then encrypted, and may be with anybody. */
  rejectUnauthorized?: boolean;
}

/** What a caller may write: sizes as a number of bytes or as text such as `'1MiB'`. */
export interface ClientOptionsInput {
  token?: string;
  maxWaitingBytes?: number | string;
  connectTimeoutMs?: number;
  giveUpMs?: number;
  concurrency?: number;
  codec?: WireCodec;
  tls?: ClientTlsInput;
}

export interface ClientTls {
  readonly ca?: (string | Buffer)[];
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly rejectUnauthorized: boolean;
}

/** Where the gateway listens. */
export type Target =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls: ClientTls | undefined }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'http'; readonly host: string; readonly port: number; readonly tls: ClientTls | undefined };

/** Checked and complete. */
export interface ClientOptions {
  readonly target: Target;
  /** The address as it was given, for messages. */
  readonly url: string;
  readonly token: string | undefined;
  readonly maxWaitingBytes: number;
  readonly connectTimeoutMs: number;
  readonly giveUpMs: number;
  readonly concurrency: number;
  readonly codec: WireCodec;
  readonly silenceMs: number;
}

function refuse(name: string, expected: string, came: unknown): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': expected ${expected}, got ${show(came)}`, {
    subject: name,
  });
}

function checkPem(name: string, value: unknown): string | Buffer {
  if (value instanceof Uint8Array && value.length > 0) return Buffer.from(value);
  if (typeof value === 'string' && value.includes('-----BEGIN ')) return value;
  return refuse(name, 'PEM text (the content of the file, not its path)', value);
}

function checkTls(given: ClientTlsInput | undefined): ClientTls {
  if (given === undefined) return { rejectUnauthorized: true };
  checkKeys(given, ['ca', 'cert', 'key', 'rejectUnauthorized'], "option 'tls'");
  const { ca, cert, key, rejectUnauthorized = true } = given;
  if (typeof rejectUnauthorized !== 'boolean') {
    refuse('tls.rejectUnauthorized', 'true or false', rejectUnauthorized);
  }
  if ((cert === undefined) !== (key === undefined)) {
    refuse(cert === undefined ? 'tls.cert' : 'tls.key', 'both cert and key, or neither', undefined);
  }
  const authorities = ca === undefined ? undefined : Array.isArray(ca) ? (ca as readonly Pem[]) : [ca as Pem];
  return {
    ...(authorities === undefined ? {} : { ca: authorities.map((pem) => checkPem('tls.ca', pem)) }),
    ...(cert === undefined ? {} : { cert: checkPem('tls.cert', cert), key: checkPem('tls.key', key) }),
    rejectUnauthorized,
  };
}

const expectedUrl = 'tcp://HOST:PORT, tcps://HOST:PORT, unix:/PATH, http://HOST:PORT or https://HOST:PORT';

function unixTarget(url: string): Target {
  const rest = url.slice('unix:'.length);
  const path = rest.startsWith('///') ? rest.slice(2) : rest;
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || path.startsWith('//') || path.includes('\0')) refuse('url', expectedUrl, url);
  if (bytes > MAX_SOCKET_PATH_BYTES) refuse('url', `a path of at most ${MAX_SOCKET_PATH_BYTES} bytes`, url);
  return { kind: 'unix', path };
}

function networkTarget(text: string, tls: ClientTlsInput | undefined): Target {
  const url = URL.canParse(text) ? new URL(text) : refuse('url', expectedUrl, text);
  const scheme = /^(tcp|http)(s?):$/.exec(url.protocol);
  if (scheme === null || url.hostname === '') return refuse('url', expectedUrl, text);
  const kind = scheme[1] as 'tcp' | 'http';
  const secure = scheme[2] === 's';
  if (url.username !== '' || url.password !== '')
    refuse('url', "no user and no password (there is option 'token')", text);
  if ((url.pathname !== '' && url.pathname !== '/') || url.search !== '' || url.hash !== '') {
    refuse('url', 'nothing behind the port', text);
  }
  if (url.port === '0' || (url.port === '' && kind === 'tcp'))
    refuse('url', `a port: ${url.protocol}//HOST:PORT`, text);
  if (!secure && tls !== undefined) refuse('tls', 'a url that begins with tcps: or https:', text);
  return {
    kind,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    tls: secure ? checkTls(tls) : undefined,
  };
}

/** @throws INVALID_OPTION naming the option, what was expected and what came */
export function resolveClientOptions(url: string, input: ClientOptionsInput): ClientOptions {
  if (typeof url !== 'string') refuse('url', expectedUrl, url);
  checkKeys(input, [...clientOptionTable.map((s) => s.name), 'tls'], 'connect options');
  const value = (name: (typeof clientOptionTable)[number]['name']): number | string | undefined => {
    const spec: OptionSpec = clientOptionTable.find((s) => s.name === name)!;
    const raw = input[name];
    return raw === undefined ? spec.default : checkOption(spec, raw);
  };
  const token = value('token') as string | undefined;
  if (token !== undefined && !(/^[\x21-\x7e]+$/.test(token) && token.length <= MAX_TOKEN_BYTES)) {
    // The token itself stays out of messages.
    refuse('token', `at most ${MAX_TOKEN_BYTES} printable ASCII characters without spaces`, `${token.length} others`);
  }
  const unix = url.startsWith('unix:');
  if (unix && input.tls !== undefined) refuse('tls', 'a url that begins with tcps: or https:', url);
  const target = unix ? unixTarget(url) : networkTarget(url, input.tls);
  const concurrency = value('concurrency') as number;
  if (concurrency > 1 && target.kind !== 'http') refuse('concurrency', '1, as the url is not http', concurrency);
  const codec = value('codec') as WireCodec;
  const lacks = codecLacks(codec);
  if (lacks !== undefined) {
    const message = `option 'codec': ${codec} needs ${lacks}; gzip works everywhere`;
    throw new SpillwayError('INVALID_OPTION', message, { subject: 'codec' });
  }
  return {
    target,
    url,
    token,
    maxWaitingBytes: value('maxWaitingBytes') as number,
    connectTimeoutMs: value('connectTimeoutMs') as number,
    giveUpMs: value('giveUpMs') as number,
    concurrency,
    codec,
    silenceMs: SILENCE_MS,
  };
}
