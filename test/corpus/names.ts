// Names of streams outside the allow-list [A-Za-z0-9][A-Za-z0-9._-]{0,199}: in a path over HTTP, and in frames. None becomes a path
// of the file system, and nothing is stored under it.

import { encodeAppend } from '../../src/codec/append-frame.ts';
import { encodeBye, encodeHello, encodeStream } from '../../src/codec/frames.ts';
import { KIB, post, TEXT, type Area, type Case, type Said } from './case.ts';
import { welcomed } from './frames.ts';

/** In words, as it stands in a path, and what it gets there; `frame` where a frame is to carry other bytes. */
const bad: readonly (readonly [name: string, inPath: string, code: Said, frame?: string])[] = [
  ['.', '.', 'INVALID_STREAM'],
  ['..', '..', 'INVALID_STREAM'],
  ['/', '/', 'NOT_FOUND'],
  ['a/b', 'a/b', 'NOT_FOUND'],
  ['../../etc/passwd', '../../etc/passwd', 'NOT_FOUND'],
  ['%2e%2e', '%2e%2e', 'INVALID_STREAM'],
  ['..%2f..%2fetc', '..%2f..%2fetc', 'INVALID_STREAM'],
  ['%00', '%00', 'INVALID_STREAM'],
  ['%0d%0a', '%0d%0aSet-Cookie:a=b', 'INVALID_STREAM'],
  ['NUL', 'a\0b', 'BAD_REQUEST'],
  ['CR LF', 'a\r\nX-Header: b', 'BAD_REQUEST'],
  ['LF', 'a\nb', 'BAD_REQUEST'],
  ['a space', 'a b', 'BAD_REQUEST'],
  ['a backslash', String.raw`..\a`, 'INVALID_STREAM'],
  ['4 KiB', 'n'.repeat(4 * KIB), 'INVALID_STREAM'],
  ['201 characters', 'n'.repeat(201), 'INVALID_STREAM'],
  ['a leading dot', '.hidden', 'INVALID_STREAM'],
  ['a leading dash', '-rf', 'INVALID_STREAM'],
  ['a leading underscore', '_a', 'INVALID_STREAM'],
  ['*', '*', 'INVALID_STREAM'],
  ['>', 'a.>', 'INVALID_STREAM'],
  ['~', '~root', 'INVALID_STREAM'],
  ['$(id)', '$(id)', 'INVALID_STREAM'],
  ['quotes and a semicolon', "a';--", 'INVALID_STREAM'],
  ['letters beyond ASCII, in UTF-8', Buffer.from('größe').toString('latin1'), 'BAD_REQUEST'],
  ['bytes that are no UTF-8', 'a\xff\xfe', 'BAD_REQUEST'],
];

const good: readonly (readonly [name: string, stream: string])[] = [
  ['200 characters', 'n'.repeat(200)],
  ['dots and dashes behind a letter', 'a..-_.b'],
];

const overHttp = (name: string, inPath: string, code: Said): Case => ({
  name: `the name ${name}`,
  send: () => [post(inPath, TEXT, 'x')],
  gets: code === 'BAD_REQUEST' ? [code, 'closed'] : [code],
});

const inFrames = (name: string, bytes: string): Case => ({
  name: `in a frame: the name ${name}`,
  send: () => [
    encodeHello({ version: 1, producerId: undefined, firstSequence: 0, token: undefined }),
    welcomed,
    rawStream(bytes),
    encodeAppend(
      { streamId: 1, firstSequence: 0, flags: 0 },
      [{ key: null, payload: Buffer.from('x'), unterminated: false }],
      false,
    ),
    encodeBye(),
  ],
  gets: ['WELCOME', '1 × INVALID_STREAM', 'closed'],
});

/** STREAM 1 with these bytes for a name. */
function rawStream(bytes: string): Uint8Array {
  const frame = Buffer.from(encodeStream(1, 'n'.repeat(bytes.length)));
  frame.write(bytes, 8, 'latin1');
  return frame;
}

const taken = good.map(([name, stream]): Case => ({
  name: `the name ${name}`,
  send: () => [post(stream, TEXT, 'x')],
  gets: [200],
  stores: () => ['x'],
  stream,
}));

export const httpNames: Area = {
  name: 'names',
  about:
    'Names of streams in a path, outside of `[A-Za-z0-9][A-Za-z0-9._-]{0,199}`. They are not decoded: `%2e` is no dot.',
  to: 'http',
  gateway: 'plain',
  cases: [
    overHttp('(none)', '', 'INVALID_STREAM'),
    ...bad.map(([name, inPath, code]) => overHttp(name, inPath, code)),
    ...taken,
  ],
};

export const frameNames: Area = {
  name: 'frame names',
  about: 'The same names in STREAM frames: each refuses the records that are sent for it, and the connection goes on.',
  to: 'tcp',
  gateway: 'plain',
  cases: bad.map(([name, inPath]) => inFrames(name, inPath)),
};
