// What decides who may come in and what is meant: token file, Authorization header, stream names, parameters and headers of a request.
//
//     kind u8: 0 token file, 1 Authorization, 2 stream name, 3 parameters, 4 Content-Type, 5 Content-Encoding · …

import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkStreamName } from '../../../src/base/names.ts';
import { parseContentEncoding } from '../../../src/codec/decode.ts';
import { shapeOf } from '../../../src/codec/split.ts';
import { bearer, MAX_TOKEN_BYTES, Tokens } from '../../../src/ingress/auth.ts';
import { wantedOf } from '../../../src/ingress/records-get.ts';
import { bytesOf, must, mustBeALine, outcomeOf, Taker, type Target } from '../target.ts';

const dir = mkdtempSync(join(tmpdir(), 'spillway-fuzz-'));
const path = join(dir, 'tokens');
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** By hand: no regular expression. */
function isName(name: string): boolean {
  return (
    name !== '' &&
    name.length <= 200 &&
    LETTERS.includes(name[0]) &&
    [...name].every((c) => `${LETTERS}._-`.includes(c))
  );
}

function isVisible(text: string): boolean {
  return text !== '' && [...text].every((c) => c > ' ' && c <= '~');
}

const digestOf = (token: string): string => createHash('sha256').update(token).digest('hex');
const known = ['secret', 'ward'];

/** @param text lines; `@` stands for the digest of a known token, `%` for that of another */
function tryTokens(text: string): void {
  const whole = text.replaceAll('@', digestOf(known[0])).replaceAll('%', digestOf(known[1]));
  writeFileSync(path, whole);
  const outcome = outcomeOf(['INVALID_OPTION'], () => new Tokens(path));
  if ('refused' in outcome) {
    mustBeALine(outcome.refused.message);
    return must(outcome.refused.details.subject === 'tokens', 'a refusal names the option');
  }
  const tokens = outcome.value;
  must(tokens.size > 0 && tokens.size <= whole.split('\n').length, 'an entry for a line, at least one');
  for (const token of [...known, '', 'x'.repeat(MAX_TOKEN_BYTES + 1), 'unknown']) {
    const name = tokens.nameOf(token);
    must(name === undefined || isName(name), 'an entry has a name that is allowed', () => JSON.stringify(name));
    const listed = whole.toLowerCase().includes(digestOf(token));
    must(name === undefined || (listed && known.includes(token)), 'only who is listed comes in', () => token);
    if (name !== undefined) continue;
    const line = whole.split('\n').find((l) => l.split('#')[0].trim().toLowerCase().startsWith(digestOf(token)));
    must(line === undefined || !known.includes(token), 'who is listed comes in', () => JSON.stringify(line));
  }
}

function tryHeader(header: string): void {
  const token = bearer(header);
  // A header comes without the blanks around it.
  const [scheme, ...rest] = header.split(/[ \t]+/);
  const words = rest.at(-1) === '' ? rest.slice(0, -1) : rest;
  if (token === undefined) {
    const isPlain = scheme.toLowerCase() === 'bearer' && words.length === 1 && isVisible(words[0]);
    return must(!isPlain || header.length > MAX_TOKEN_BYTES, 'a plain token is seen', () => JSON.stringify(header));
  }
  must(isVisible(token) && token.length < header.length, 'a token is visible ASCII', () => JSON.stringify(token));
  must(words.length === 1, 'a header holds one token', () => JSON.stringify(header));
  if (scheme.toLowerCase() === 'bearer') return must(words[0] === token, 'a token is what stands there');
  must(scheme.toLowerCase() === 'basic', 'only two schemes are known', () => scheme);
  const pair = Buffer.from(words[0], 'base64').toString('latin1');
  must(pair.slice(pair.indexOf(':') + 1) === token, 'a password is what stands there');
}

function tryParameters(text: string): void {
  const query = new URLSearchParams(text);
  const outcome = outcomeOf(['BAD_REQUEST'], () => wantedOf(query));
  const as = outcomeOf(['BAD_REQUEST', 'UNSUPPORTED_MEDIA_TYPE'], () => shapeOf(undefined, query.get('as')));
  if ('refused' in as) mustBeALine(as.refused.message);
  if ('refused' in outcome) return mustBeALine(outcome.refused.message);
  const { from, max, waitMs } = outcome.value;
  must(from === undefined || (Number.isSafeInteger(from) && from >= 0), 'an offset is one', () => `${from}`);
  must(Number.isInteger(max) && max >= 1 && max <= 10_000, 'max lies within its bounds', () => `${max}`);
  must(Number.isInteger(waitMs) && waitMs >= 0 && waitMs <= 60_000, 'waitMs lies within its bounds', () => `${waitMs}`);
  must(
    [...query.keys()].every((k) => ['from', 'max', 'waitMs'].includes(k)),
    'only known parameters are taken',
  );
  const said = query.get('from');
  must(said === null ? from === undefined : from === Number(said), 'an offset is the one that was said');
}

function run(input: Uint8Array): void {
  const t = new Taker(input);
  const kind = t.u8() % 6;
  const rest = Buffer.from(t.rest());
  // node:http gives headers as Latin-1.
  const latin1 = rest.toString('latin1');
  if (kind === 0) return tryTokens(rest.toString('utf8'));
  if (kind === 1) return tryHeader(latin1);
  if (kind === 3) return tryParameters(latin1);
  if (kind === 2) {
    const name = rest.toString('utf8');
    const outcome = outcomeOf(['INVALID_STREAM'], () => checkStreamName(name));
    must('value' in outcome === isName(name), 'a name is taken as the allow-list says', () => JSON.stringify(name));
    if ('refused' in outcome) mustBeALine(outcome.refused.message);
    return;
  }
  const outcome =
    kind === 4
      ? outcomeOf(['UNSUPPORTED_MEDIA_TYPE'], () => shapeOf(latin1))
      : outcomeOf(['UNSUPPORTED_ENCODING'], () => parseContentEncoding(latin1));
  if ('refused' in outcome) mustBeALine(outcome.refused.message);
  else must(['ndjson', 'json', 'bytes', 'identity', 'gzip', 'zstd'].includes(outcome.value), 'known kinds only');
}

const of = (kind: number, body: string): Buffer => Buffer.concat([Buffer.of(kind), Buffer.from(body)]);
const name = fc.oneof(fc.constantFrom('orders', 'a.b-c_d', '.', '..', '%2e', 'A'.repeat(201)), fc.string());
const line = fc.oneof(
  fc.tuple(fc.constantFrom('@', '%'), name).map(([d, n]) => `${d} ${n}`),
  fc.constantFrom('# x', '', '@ a # x'),
  fc.string(),
);
const parameter = fc.tuple(
  fc.constantFrom('from', 'max', 'waitMs', 'as', 'x'),
  fc.oneof(
    fc.nat().map(String),
    fc.maxSafeNat().map(String),
    fc.constantFrom('json', '-1', '1e3', '9007199254740992'),
    fc.string(),
  ),
);

export const access: Target = {
  name: 'access',
  promise: 'tokens, names and parameters mean what is documented, by hand and by us alike, or are refused in one line',
  maxBytes: 2048,
  quick: 40_000,
  leastCovered: 85,
  dictionary: bytesOf(
    'Bearer ',
    'Basic ',
    'bEaReR\t',
    'c2VjcmV0OnNlY3JldA==',
    'from=',
    '&max=',
    '&waitMs=',
    'as=',
    '%00',
    '@ a\n',
    '% b\n',
    'application/json',
    ';charset=',
    'utf-8',
    '+json',
    'gzip',
    'x-gzip',
    'zstd',
    ',',
    '\0',
    '\r\n',
    '\u00a0',
    '9007199254740991',
  ),
  structured: fc.oneof(
    fc.array(line, { maxLength: 4 }).map((lines) => of(0, lines.join('\n'))),
    fc
      .tuple(fc.constantFrom('Bearer', 'basic', 'Digest'), fc.oneof(fc.base64String(), fc.string()))
      .map(([s, v]) => of(1, `${s} ${v}`)),
    name.map((n) => of(2, n)),
    fc.array(parameter, { maxLength: 4 }).map((p) => of(3, new URLSearchParams(p).toString())),
    fc
      .constantFrom('application/json; charset=utf-8', 'application/x+json', 'text/plain', 'a/b;charset="x"')
      .map((c) => of(4, c)),
    fc.constantFrom('gzip', 'GZIP ', 'identity', 'gzip, gzip', 'br', 'zstd').map((c) => of(5, c)),
  ),
  run,
};
