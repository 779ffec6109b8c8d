// Who has no token that is known: the same answer for every reason, before anything else is said or read.

import { encodeAppend } from '../../src/codec/append-frame.ts';
import { encodeBye, encodeHello, encodeStream } from '../../src/codec/frames.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { MIB, post, TEXT, type Area, type Case, type Place, type Said } from './case.ts';
import { welcomed } from './frames.ts';
import { TOKEN } from './subject.ts';

/** One sentence, whatever is wrong. */
const SAME = /^expected a known token: Authorization: Bearer …$/;

const with_ = (name: string, authorization: string, gets: readonly Said[] = ['UNAUTHORIZED', 'closed']): Case => ({
  name: `token: ${name}`,
  send: ({ stream }) => [post(stream, `${TEXT}${authorization}`, 'x')],
  gets,
  ...(gets[0] === 'UNAUTHORIZED' ? { says: SAME } : {}),
  ...(gets[0] === 200 ? { stores: () => ['x'] } : {}),
});
const header = (value: string): string => `Authorization: ${value}\r\n`;
const basic = (text: string): string => header(`Basic ${Buffer.from(text).toString('base64')}`);
const bearer = (token: string): string => header(`Bearer ${token}`);

const query = (name: string): Case => ({
  name: `token: in the query as ${name}`,
  send: ({ stream, token }) => [post(stream, TEXT, 'x', `?${name}=${token}`)],
  gets: ['UNAUTHORIZED', 'closed'],
  says: SAME,
});
const get = (path: string, gets: readonly Said[]): Case => ({
  name: `no token: GET ${path}`,
  send: () => [`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`],
  gets,
  ...(gets[0] === 200 ? { moves: 'answers2xx' as const } : { says: SAME }),
});

export const auth: Area = {
  name: 'auth',
  about:
    'A gateway with tokens, and clients without a good one. Nothing tells an unknown token from a wrong one, or a path that is there from one that is not.',
  to: 'http',
  gateway: 'tokens',
  cases: [
    with_('the right one', bearer(TOKEN), [200]),
    with_('as the password of Basic', basic(`any:${TOKEN}`), [200]),
    with_('the scheme in lower case', header(`bearer ${TOKEN}`), [200]),
    with_('none', ''),
    with_('a wrong one', bearer('wrong')),
    with_('an empty header', header('')),
    with_('the scheme alone', header('Bearer')),
    with_('the scheme and blanks', header('Bearer    ')),
    with_('the right one without a scheme', header(TOKEN)),
    with_('the right one and one character more', bearer(`${TOKEN}x`)),
    with_('the right one without its last character', bearer(TOKEN.slice(0, -1))),
    with_('the right one in capitals', bearer(TOKEN.toUpperCase())),
    with_('two in one header', bearer(`${TOKEN} ${TOKEN}`)),
    with_('a wrong one, and the right one in a second header', bearer('wrong') + bearer(TOKEN)),
    with_('its digest', bearer(tokenDigest(TOKEN).toString('hex'))),
    with_('its name', bearer('corpus')),
    with_('another scheme', header(`Digest ${TOKEN}`)),
    with_('Basic with a wrong password', basic('corpus:wrong')),
    with_('Basic without a colon', basic(TOKEN)),
    with_('Basic that is no base64', header('Basic !!!')),
    with_('letters beyond ASCII', header('Bearer t\xf6ken')),
    with_('2,000 characters', bearer('t'.repeat(2000))),
    with_('1 MB', bearer('t'.repeat(1_000_000)), ['HEADERS_TOO_LARGE', 'closed']),
    with_('NUL', bearer('\0'), ['BAD_REQUEST', 'closed']),
    ...['token', 'access_token', 'authorization'].map(query),
    {
      name: 'no token: a body of 4 MiB + 1',
      send: ({ stream }) => [post(stream, TEXT, 'x'.repeat(4 * MIB + 1))],
      gets: ['UNAUTHORIZED', 'closed'],
      says: SAME,
    },
    {
      name: 'no token: a name that is none',
      send: () => [post('..', TEXT, 'x')],
      gets: ['UNAUTHORIZED', 'closed'],
      says: SAME,
    },
    get('/metrics', ['UNAUTHORIZED', 'closed']),
    get('/v1/stats', ['UNAUTHORIZED', 'closed']),
    get('/nowhere', ['UNAUTHORIZED', 'closed']),
    get('/healthz', [200]),
    get('/readyz', [200]),
  ],
};

const NO = ['UNAUTHORIZED', 'closed'] as const;

function frame(
  name: string,
  token: (at: Place) => string,
  gets: readonly Said[] = NO,
  patch?: (hello: Buffer) => void,
): Case {
  return {
    name: `HELLO with ${name}`,
    send: (at) => {
      const text = token(at);
      const bytes = text === '' ? undefined : Buffer.from(text, 'latin1');
      const hello = Buffer.from(encodeHello({ version: 1, producerId: undefined, firstSequence: 0, token: bytes }));
      patch?.(hello);
      if (gets[0] !== 'WELCOME') return [hello, encodeStream(1, at.stream)];
      const record = { key: null, payload: Buffer.from('x'), unterminated: false };
      const append = encodeAppend({ streamId: 1, firstSequence: 0, flags: 0 }, [record], false);
      return [hello, welcomed, encodeStream(1, at.stream), append, encodeBye()];
    },
    gets,
    ...(gets[0] === 'WELCOME' ? { stores: () => ['x'] } : {}),
  };
}

export const frameAuth: Area = {
  name: 'frame auth',
  about: 'The same gateway, by frames: the token stands in HELLO.',
  to: 'tcp',
  gateway: 'tokens',
  cases: [
    frame('the right token', ({ token }) => token, ['WELCOME', 'ACK 1', 'closed']),
    frame('no token', () => ''),
    frame('a wrong token', () => 'wrong'),
    frame('the right token and NUL', ({ token }) => `${token}\0`),
    frame('half the token', ({ token }) => token.slice(0, 8)),
    frame('a token of 4,096 bytes', () => 't'.repeat(4096)),
    frame('a token of 4,097 bytes', () => 't'.repeat(4097), ['PROTOCOL_ERROR', 'closed']),
    frame(
      'a token and the wrong magic',
      ({ token }) => token,
      ['PROTOCOL_ERROR', 'closed'],
      (hello) => hello.fill(0, 8, 12),
    ),
  ],
};
