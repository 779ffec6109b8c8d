// HTTP that is not well-formed, or that two readers could read in two ways. Node alone takes some of these; here they get 4xx or are
// cut, and what stands behind them is never carried out as a request of its own.

import type { Raw } from '../support/gateway-talk.ts';
import {
  byteByByte,
  chunk,
  chunked,
  finish,
  join,
  KIB,
  line,
  MIB,
  post,
  TEXT,
  untilAnswered,
  untilStalled,
  type Area,
  type Case,
  type Place,
  type Said,
  type Step,
  type Talk,
} from './case.ts';

const x = (): readonly string[] => ['x'];
/** A request that must not be carried out: it would be stored. */
const hidden = (stream: string): Uint8Array => post(stream, TEXT, 'hidden');

/** Refused, and the rest of the connection is not read. */
function refused(name: string, send: (stream: string) => Uint8Array | string, code: Said = 'BAD_REQUEST'): Case {
  return { name, send: ({ stream }) => [send(stream)], gets: [code, 'closed'] };
}
/** Refused, with a request behind it that must not be carried out. */
function smuggled(name: string, send: (stream: string) => Uint8Array | string, code: Said = 'BAD_REQUEST'): Case {
  return { name, send: ({ stream }) => [join(send(stream), hidden(stream))], gets: [code, 'closed'] };
}
function taken(name: string, send: (stream: string) => Uint8Array | string): Case {
  return { name, send: ({ stream }) => [send(stream)], gets: [200], stores: x };
}

const head = (stream: string, more: string): string => `${line(stream)}${TEXT}${more}\r\n`;
const one = (stream: string, more: string): string => `${head(stream, `${more}Content-Length: 1\r\n`)}x`;
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const X_CHUNK = '1\r\nx\r\n0\r\n\r\n';

/** Writes on, whatever comes, until it is cut. */
const goesOn =
  (bytes: string): Step =>
  async ({ wire }) => {
    while (wire.socket.writable) await new Promise((resolve) => wire.socket.write(bytes, resolve));
  };

/** The one place where time is what a case is about. */
const aBytePerSecond =
  (text: string): Step =>
  async ({ wire }) => {
    for (const byte of text) {
      if (wire.isEnded || wire.received.length > 0 || !wire.socket.writable) return;
      wire.write(byte);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  };

/** The request has begun: its head was parsed. */
const untilItIsThere: Step = ({ until }) => until(({ ingressBytes }) => ingressBytes > 0, 'the request has begun');

const untilItIsAnswered = ({ wire }: Talk): Promise<true> =>
  wire.until(() => (wire.received.length > 0 ? true : undefined), 'the answer');

const headers: readonly Case[] = [
  refused('3,000 headers', (s) => one(s, 'a: b\r\n'.repeat(3000)), 'HEADERS_TOO_LARGE'),
  refused('300 headers of 3 bytes', (s) => one(s, 'a:b\r\n'.repeat(300)), 'HEADERS_TOO_LARGE'),
  refused('65 headers', (s) => one(s, 'a: b\r\n'.repeat(62)), 'HEADERS_TOO_LARGE'),
  taken('64 headers', (s) => one(s, 'a: b\r\n'.repeat(61))),
  refused('a header of 9 KiB', (s) => one(s, `A: ${'b'.repeat(9 * KIB)}\r\n`), 'HEADERS_TOO_LARGE'),
  refused('a header name of 9 KiB', (s) => one(s, `${'a'.repeat(9 * KIB)}: b\r\n`), 'HEADERS_TOO_LARGE'),
  refused('a header of 1 MiB', (s) => one(s, `A: ${'b'.repeat(MIB)}\r\n`), 'HEADERS_TOO_LARGE'),
  refused('a path of 9 KiB', () => `GET /${'a'.repeat(9 * KIB)} HTTP/1.1\r\nHost: x\r\n\r\n`, 'HEADERS_TOO_LARGE'),
  smuggled('a header without a colon', (s) => one(s, 'nonsense\r\n')),
  smuggled('a header without a name', (s) => one(s, ': x\r\n')),
  smuggled('a space before the colon', (s) => one(s, 'A : x\r\n')),
  smuggled('a header name that is no token', (s) => one(s, 'A(b): x\r\n')),
  smuggled('NUL in a header', (s) => one(s, 'A: b\0c\r\n')),
  smuggled('CR in a header', (s) => one(s, 'A: b\rc\r\n')),
  smuggled('a folded header (obs-fold)', (s) => one(s, 'A: b\r\n c\r\n')),
  smuggled(
    'a folded Transfer-Encoding',
    (s) => `${head(s, 'Transfer-Encoding:\r\n chunked\r\nContent-Length: 1\r\n')}x`,
  ),
  smuggled('bare LF instead of CR LF', (s) => one(s, '').replaceAll('\r\n', '\n')),
  smuggled('one header that ends with a bare LF', (s) => one(s, 'A: b\n')),
  refused('no Host', (s) => one(s, '').replace('Host: x\r\n', '')),
  smuggled('two Hosts', (s) => one(s, 'Host: y\r\n')),
  refused('an expectation that nobody knows', (s) => one(s, 'Expect: the-unexpected\r\n')),
];

const lengths: readonly Case[] = [
  smuggled(
    'Content-Length and chunks',
    (s) => `${head(s, 'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n')}${X_CHUNK}`,
  ),
  smuggled(
    'chunks and Content-Length',
    (s) => `${head(s, 'Transfer-Encoding: chunked\r\nContent-Length: 1\r\n')}${X_CHUNK}`,
  ),
  smuggled('two lengths that differ', (s) => `${head(s, 'Content-Length: 1\r\nContent-Length: 2\r\n')}x`),
  smuggled('the same length twice', (s) => `${head(s, 'Content-Length: 1\r\nContent-Length: 1\r\n')}x`),
  ...['1, 1', '-1', '+1', '0x1', '1e0', '1.0', '1 1', '', '١', '18446744073709551617'].map((length) =>
    smuggled(
      `Content-Length '${length}'`,
      (s) => `${Buffer.from(head(s, `Content-Length: ${length}\r\n`)).toString('latin1')}x`,
    ),
  ),
  {
    name: 'a length of 2^53',
    send: ({ stream }) => [head(stream, 'Content-Length: 9007199254740992\r\n')],
    gets: ['BODY_TOO_LARGE'],
  },
  {
    name: 'a body longer than its length',
    send: ({ stream }) => [join(post(stream, TEXT, 'x'), 'yz\r\n\r\n')],
    gets: [200, 'closed'],
    stores: x,
  },
  {
    name: 'a body shorter than its length, and no more comes',
    send: ({ stream }) => [`${head(stream, 'Content-Length: 5\r\n')}x`, finish],
    gets: ['BAD_REQUEST', 'closed'],
  },
  {
    name: 'a client that goes away in the midst of a body',
    send: ({ stream }) => [`${head(stream, 'Content-Length: 5\r\n')}x`, untilItIsThere],
    gets: [],
  },
  {
    name: 'a POST without any length',
    send: ({ stream }) => [`${head(stream, 'Connection: close\r\n')}x`],
    gets: ['EMPTY_REQUEST', 'closed'],
  },
  {
    name: 'a GET with a request for a body',
    send: ({ stream }) => [
      join(
        `GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${hidden(stream).length}\r\n\r\n`,
        hidden(stream),
      ),
    ],
    gets: [200, 'closed'],
    moves: 'answers2xx',
  },
  {
    name: 'a GET with chunks that, behind its answer, turn out to be none',
    send: () => [`GET /healthz HTTP/1.1\r\nHost: x\r\n${CHUNKED}\r\n`, untilItIsAnswered, 'zz\r\n'],
    gets: [200, 'closed'],
    moves: 'answers2xx',
  },
];

const codings: readonly Case[] = [
  ...['gzip, chunked', 'chunked, gzip', 'gzip', 'chunked, chunked', 'xchunked', 'identity, chunked', '"chunked"'].map(
    (coding) =>
      smuggled(`Transfer-Encoding: ${coding}`, (s) => `${head(s, `Transfer-Encoding: ${coding}\r\n`)}${X_CHUNK}`),
  ),
  smuggled('Transfer-Encoding twice', (s) => `${head(s, 'Transfer-Encoding: chunked\r\n'.repeat(2))}${X_CHUNK}`),
  smuggled(
    'Transfer-Encoding behind a vertical tab',
    (s) => `${head(s, 'Transfer-Encoding: \x0bchunked\r\n')}${X_CHUNK}`,
  ),
  smuggled(
    'Transfer-Encoding with a space before its colon',
    (s) => `${head(s, 'Transfer-Encoding : chunked\r\n')}${X_CHUNK}`,
  ),
  smuggled('chunks in HTTP/1.0', (s) => `${line(s, '1.0')}${TEXT}Transfer-Encoding: chunked\r\n\r\n${X_CHUNK}`),
];

const chunks: readonly Case[] = [
  taken('a chunk with a small extension, and a trailer', (s) => chunked(s, '1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n')),
  smuggled('a trailer that says a length', (s) => chunked(s, '1\r\nx\r\n0\r\nContent-Length: 999\r\n\r\n')),
  smuggled('a chunk of size -1', (s) => chunked(s, '-1\r\nx\r\n0\r\n\r\n')),
  smuggled('a chunk of size 0x1', (s) => chunked(s, '0x1\r\nx\r\n0\r\n\r\n')),
  smuggled('a chunk without a size', (s) => chunked(s, '\r\nx\r\n0\r\n\r\n')),
  smuggled('a chunk whose size is no number', (s) => chunked(s, 'zz\r\nx\r\n0\r\n\r\n')),
  smuggled('a chunk of 2^64 bytes', (s) => chunked(s, '10000000000000000\r\nx\r\n0\r\n\r\n')),
  smuggled('a chunk longer than its size', (s) => chunked(s, '1\r\nxyz\r\n0\r\n\r\n')),
  smuggled('chunks with bare LF', (s) => chunked(s, '1\nx\n0\n\n')),
  {
    name: 'a chunk of 2^31 bytes that comes',
    send: ({ stream }) => [chunked(stream, '80000000\r\n'), untilAnswered(Buffer.alloc(64 * KIB, 'x'))],
    gets: ['BODY_TOO_LARGE'],
  },
  {
    name: 'a chunk extension of 1 MB',
    send: ({ stream }) => [chunked(stream, `1;${'a'.repeat(1_000_000)}\r\nx\r\n0\r\n\r\n`)],
    gets: ['BAD_REQUEST', 'closed'],
  },
  {
    name: 'a trailer of 1 MB',
    send: ({ stream }) => [chunked(stream, `1\r\nx\r\n0\r\nA: ${'a'.repeat(1_000_000)}\r\n\r\n`)],
    gets: ['HEADERS_TOO_LARGE', 'closed'],
  },
  {
    name: 'chunks that never end',
    send: ({ stream }) => [chunked(stream, ''), untilAnswered(chunk('x'.repeat(16 * KIB)))],
    gets: ['BODY_TOO_LARGE'],
  },
  {
    name: 'chunks of one byte that never end, and a client that listens to nothing',
    send: ({ stream }) => [chunked(stream, ''), goesOn(chunk('x').toString().repeat(4096))],
    gets: ['BODY_TOO_LARGE', 'closed'],
    full: true,
  },
];

const get = (target: string, method = 'GET'): string => `${method} ${target} HTTP/1.1\r\nHost: x\r\n\r\n`;
/** Refused by its path: the connection may go on. */
const path = (name: string, target: (at: Place) => string, code: Said): Case => ({
  name,
  send: (at) => [get(target(at))],
  gets: [code],
});

const targets: readonly Case[] = [
  smuggled('an absolute URL', (s) => one(s, '').replace('POST ', 'POST http://other')),
  refused('the target *', () => get('*', 'OPTIONS')),
  {
    name: 'CONNECT behind a request',
    send: ({ stream }) => [join(post(stream, TEXT, 'x'), get('other:80', 'CONNECT'))],
    gets: [200, 'closed'],
    stores: x,
  },
  { name: 'CONNECT', send: () => [get('other:80', 'CONNECT')], gets: ['BAD_REQUEST', 'closed'] },
  path('.. in a path', ({ stream }) => `/v1/streams/../streams/${stream}/records`, 'NOT_FOUND'),
  path('/../etc/passwd', () => '/../etc/passwd', 'NOT_FOUND'),
  path('.. behind a path', ({ stream }) => `/v1/streams/${stream}/records/..`, 'NOT_FOUND'),
  path('a path that begins with //', ({ stream }) => `//v1/streams/${stream}/records`, 'NOT_FOUND'),
  path('a path that nobody knows', () => '/v2', 'NOT_FOUND'),
  refused('a space in the target', () => get('/v1/a b')),
  refused('NUL in the target', () => get('/v1/a\0b')),
  path('a fragment in the target', ({ stream }) => `/v1/streams/${stream}/records#here`, 'NOT_FOUND'),
  {
    name: 'a method that the path does not know',
    send: ({ stream }) => [get(`/v1/streams/${stream}/records`, 'DELETE')],
    gets: ['METHOD_NOT_ALLOWED'],
  },
  refused('a method that nobody knows', () => get('/healthz', 'BREW')),
  refused('a method in lower case', () => get('/healthz', 'get')),
  refused('HTTP/2.0 in a request line', () => get('/healthz').replace('1.1', '2.0')),
  refused('HTTP/3.0', () => get('/healthz').replace('1.1', '3.0')),
  refused('HTTP/0.9', () => 'GET /healthz\r\n\r\n'),
  smuggled('HTTP/0.9 with headers', (s) => one(s, '').replace(' HTTP/1.1', '')),
  refused('the preface of HTTP/2', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  refused('TLS, where there is none', () => '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'),
  refused('64 KiB of 0xff', () => '\xff'.repeat(64 * KIB)),
  refused('no HTTP', () => 'hello\r\n\r\n'),
  {
    name: 'an upgrade that nobody offers',
    send: () => [get('/v2').replace('\r\n\r\n', '\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')],
    gets: ['NOT_FOUND'],
  },
];

const poll = (stream: string): string => get(`/v1/streams/${stream}/records?waitMs=60000`);

async function storedLarge(wire: Raw, stream: string): Promise<{ firstOffset: number }> {
  wire.write(post(stream, TEXT, 'r'.repeat(MIB)));
  return JSON.parse((await wire.answer()).text) as { firstOffset: number };
}

/** Stores a record of 1 MiB, and asks for it again and again without reading an answer. */
const deaf =
  (stream: string): Step =>
  async ({ wire }) => {
    const { firstOffset } = await storedLarge(wire, stream);
    wire.socket.pause();
    wire.write(get(`/v1/streams/${stream}/records?from=${firstOffset}`).repeat(17));
  };

/** Asks for a page of 1 MiB with a body that turns out to be none once the page has begun to come. */
const rubbishBehindAPage =
  (stream: string): Step =>
  async (talk) => {
    const { wire } = talk;
    const { firstOffset } = await storedLarge(wire, stream);
    wire.write(`GET /v1/streams/${stream}/records?from=${firstOffset} HTTP/1.1\r\nHost: x\r\n${CHUNKED}\r\n`);
    await untilItIsAnswered(talk);
    wire.socket.pause();
    wire.write('zz\r\n');
    await talk.figures();
    wire.socket.resume();
  };

const time: readonly Case[] = [
  {
    name: 'a request that comes byte by byte',
    send: ({ stream }) => [byteByByte(post(stream, TEXT, 'x'))],
    gets: [200],
    stores: x,
  },
  { name: '18 requests at once on one connection', send: ({ stream }) => [poll(stream).repeat(18)], gets: ['closed'] },
  {
    name: '10,000 requests at once on one connection',
    send: ({ stream }) => [poll(stream).repeat(10_000)],
    gets: ['closed'],
  },
  {
    name: 'a client that never reads: it goes away, and what was held for it goes too',
    send: ({ stream }) => [
      deaf(stream),
      ({ until }) => until(({ answerBytes }) => answerBytes > 0, 'an answer is held'),
    ],
    gets: [],
    moves: 'answers2xx',
    stores: () => ['r'.repeat(MIB)],
  },
  {
    name: 'a GET with chunks that, while its page is sent, turn out to be none',
    send: ({ stream }) => [rubbishBehindAPage(stream)],
    gets: [200, 'closed'],
    moves: 'answers2xx',
    stores: () => ['r'.repeat(MIB)],
  },
  {
    name: 'rubbish without end behind a refused Transfer-Encoding',
    send: ({ stream }) => [head(stream, 'Transfer-Encoding: gzip\r\n'), goesOn('\xff'.repeat(4096))],
    gets: ['BAD_REQUEST', 'closed'],
    full: true,
  },
  {
    name: 'headers of which a byte comes each second: 10 s',
    send: ({ stream }) => [aBytePerSecond(one(stream, ''))],
    gets: ['REQUEST_TIMEOUT', 'closed'],
    full: true,
  },
  {
    name: 'a body of which a byte comes each second: 35 s',
    send: ({ stream }) => [head(stream, 'Content-Length: 1000\r\n'), aBytePerSecond('x'.repeat(1000))],
    gets: ['REQUEST_TIMEOUT', 'closed'],
    full: true,
  },
  {
    name: 'a GET that is answered, and whose body does not come: 35 s',
    send: () => ['GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n'],
    gets: [200, 'closed'],
    moves: 'answers2xx',
    full: true,
  },
  {
    name: 'a connection that says nothing: 10 s',
    send: () => [],
    gets: ['REQUEST_TIMEOUT', 'closed'],
    full: true,
  },
  {
    name: 'a client that never reads: cut after 30 s',
    send: ({ stream }) => [deaf(stream), untilStalled],
    gets: [],
    moves: 'stalled',
    stores: () => ['r'.repeat(MIB)],
    full: true,
  },
];

export const framing: Area = {
  name: 'framing',
  about: 'HTTP that is not well-formed, or that two readers could read in two ways.',
  to: 'http',
  gateway: 'plain',
  cases: [...headers, ...lengths, ...codings, ...chunks, ...targets, ...time],
};
