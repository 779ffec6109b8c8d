// Who may send: tokens of a file, one `sha256-hex name` a line; `#` begins a comment. The file holds digests only, so that
// reading it gives nobody a token. Make lines with `spillway token`; replace the file by renaming a new one over it.
//
// Promises: a token is looked for by its digest, compared with every entry in constant time, no early exit; a token of more
// than MAX_TOKEN_BYTES is refused at the cost of a short one; missing, malformed, too long and unknown get the same answer.
// Limits: MAX_TOKENS entries, as every request is compared with all of them; TOKEN_FILE_BYTES read at most.

import { createHash, timingSafeEqual } from 'node:crypto';
import { SpillwayError, reasonOf } from '../base/errors.ts';
import { checkStreamName } from '../base/names.ts';
import { readBounded } from '../platform/bounded-file.ts';

export const MAX_TOKEN_BYTES = 1024;
export const MAX_TOKENS = 1000;
const TOKEN_FILE_BYTES = 1024 * 1024;
/** Before the token in a header: the scheme and blanks. */
const MAX_SCHEME_BYTES = 64;

/** SHA-256 of a token's bytes: what stands in the file, in hex. */
export function tokenDigest(token: Uint8Array | string): Buffer {
  return createHash('sha256').update(token).digest();
}

/**
 * The token of an `Authorization` header; undefined where there is none. Visible ASCII only, as RFC 6750 wants it: so it
 * means the same bytes whatever charset a header is read in.
 */
export function bearer(header: string | undefined): string | undefined {
  if (header === undefined || header.length > (MAX_TOKEN_BYTES * 4) / 3 + MAX_SCHEME_BYTES) return undefined;
  const token = /^bearer[ \t]+([\x21-\x7e]+)[ \t]*$/i.exec(header)?.[1];
  if (token !== undefined) return token;
  // Shippers that know Basic only (rsyslog, syslog-ng, pino-http-send) send the token as the password of any user.
  const basic = /^basic[ \t]+([A-Za-z0-9+/]+={0,2})[ \t]*$/i.exec(header)?.[1];
  if (basic === undefined) return undefined;
  return /^[^:]*:([\x21-\x7e]+)$/.exec(Buffer.from(basic, 'base64').toString('latin1'))?.[1];
}

interface Entry {
  readonly digest: Buffer;
  readonly name: string;
}

function refuse(path: string, line: number | undefined, expected: string): never {
  const where = line === undefined ? path : `${path}:${line}`;
  throw new SpillwayError('INVALID_OPTION', `${where}: option 'tokens': ${expected}`, { subject: 'tokens' });
}

function readText(path: string): string {
  let bytes: Buffer | undefined;
  try {
    bytes = readBounded(path, TOKEN_FILE_BYTES);
  } catch (error) {
    return refuse(path, undefined, `expected a readable file, got: ${reasonOf(error)}`);
  }
  return bytes?.toString('utf8') ?? refuse(path, undefined, `expected at most ${TOKEN_FILE_BYTES} bytes`);
}

function parseLine(path: string, number: number, line: string): Entry {
  const match = /^([0-9a-fA-F]{64})[ \t]+(\S+)$/.exec(line);
  // What stands there is not shown, as name neither: it may be a token that somebody forgot to hash, or put into the other column.
  if (match === null) refuse(path, number, "expected '<SHA-256 in hex> <name>'");
  try {
    checkStreamName(match[2]);
  } catch {
    refuse(path, number, 'expected a name of 1 to 200 of A-Z a-z 0-9 . _ - and a letter or digit first');
  }
  return { digest: Buffer.from(match[1], 'hex'), name: match[2] };
}

function parse(path: string): readonly Entry[] {
  const entries: Entry[] = [];
  const lineOf = new Map<string, number>();
  for (const [i, whole] of readText(path).split('\n').entries()) {
    const line = whole.split('#', 1)[0].trim();
    if (line === '') continue;
    const entry = parseLine(path, i + 1, line);
    const hex = entry.digest.toString('hex');
    const before = lineOf.get(hex);
    if (before !== undefined) refuse(path, i + 1, `the same token is in line ${before} already`);
    lineOf.set(hex, i + 1);
    entries.push(entry);
    if (entries.length > MAX_TOKENS) refuse(path, i + 1, `expected at most ${MAX_TOKENS} tokens`);
  }
  // A file that holds none is a slip: nobody could come in.
  if (entries.length === 0) refuse(path, undefined, 'expected at least one token');
  return entries;
}

export class Tokens {
  readonly #path: string;
  #entries: readonly Entry[];

  /** @throws INVALID_OPTION with file and line */
  constructor(path: string) {
    this.#path = path;
    this.#entries = parse(path);
  }

  get size(): number {
    return this.#entries.length;
  }

  /**
   * Reads the file again, for SIGHUP. Where it cannot be read or holds an error, those there were stay.
   * @returns tokens known now @throws INVALID_OPTION
   */
  reload(): number {
    this.#entries = parse(this.#path);
    return this.#entries.length;
  }

  /** Digests of all, in hex: who came in before a reload may have to go. */
  get digests(): ReadonlySet<string> {
    return new Set(this.#entries.map(({ digest }) => digest.toString('hex')));
  }

  /** The name of a token; undefined where it is none of these. */
  nameOf(token: Uint8Array | string | undefined): string | undefined {
    const fits = token !== undefined && token.length > 0 && token.length <= MAX_TOKEN_BYTES;
    const digest = tokenDigest(fits ? token : '');
    let found: string | undefined;
    for (const entry of this.#entries) {
      if (timingSafeEqual(entry.digest, digest)) found = entry.name;
    }
    return fits ? found : undefined;
  }

  /** The name of a token. @throws UNAUTHORIZED, always with the same words */
  require(token: Uint8Array | string | undefined): string {
    const name = this.nameOf(token);
    if (name === undefined) throw new SpillwayError('UNAUTHORIZED', 'a known token is needed: Authorization: Bearer …');
    return name;
  }
}
