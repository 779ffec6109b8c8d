// Checks that bytes are one JSON text (RFC 8259, strictly) and finds the records in it, in one pass and without building values.
//
// Promises:
//   - accepts exactly what JSON.parse accepts of the same bytes, whether they are read as Latin-1 or as UTF-8;
//   - nesting costs one bit a level: an eighth of the body at most, and no recursion;
//   - the bytes inside of strings are not looked at beyond quotes, escapes and control characters: invalid UTF-8, numbers that
//     no double holds, lone surrogates and repeated keys stay what they are.

import { SpillwayError } from '../base/errors.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const LOWER_E = 0x65;
const LOWER_F = 0x66;
const LOWER_N = 0x6e;
const LOWER_T = 0x74;
const LOWER_U = 0x75;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const TRUE = Buffer.from('true');
const FALSE = Buffer.from('false');
const NULL = Buffer.from('null');
/** In a string: bytes that stand for themselves, as 1. */
const isPlain = new Uint8Array(256).fill(1);
isPlain.fill(0, 0, SPACE);
isPlain[QUOTE] = 0;
isPlain[BACKSLASH] = 0;
/** What may follow a backslash, beside u. */
const isEscape = new Uint8Array(256);
for (const c of Buffer.from('"\\/bfnrt')) isEscape[c] = 1;

/** Levels of nesting that the first allocation of the stack has bits for. */
const FIRST_LEVELS = 512;

/** Byte range of one record: of an element of the array that the text is, or of the text itself. */
export type OnRecord = (from: number, to: number) => void;

function found(bytes: Uint8Array, at: number): string {
  if (at >= bytes.length) return 'the end';
  const byte = bytes[at];
  if (at === 0 && byte === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return 'a byte order mark';
  return byte > SPACE && byte < 0x7f
    ? `'${String.fromCharCode(byte)}'`
    : `byte 0x${byte.toString(16).padStart(2, '0')}`;
}

function fail(bytes: Uint8Array, at: number, expected: string): never {
  throw new SpillwayError('INVALID_JSON', `JSON: expected ${expected} at byte ${at}, got ${found(bytes, at)}`);
}

// Hot: the four below run per byte or per token. No allocation, no closure.

/** First place from `at` on that is not white space. */
export function skipSpace(bytes: Uint8Array, at: number): number {
  for (; at < bytes.length; at++) {
    const c = bytes[at];
    if (c > SPACE || (c !== SPACE && c !== NEWLINE && c !== RETURN && c !== TAB)) break;
  }
  return at;
}

/** @param at behind the opening quote @returns the place behind the closing one */
function skipString(bytes: Uint8Array, at: number): number {
  const end = bytes.length;
  const lastFour = end - 4;
  for (;;) {
    // Four at a time, without a branch between them: 2.5 times as fast as one by one.
    while (
      at <= lastFour &&
      (isPlain[bytes[at]] & isPlain[bytes[at + 1]] & isPlain[bytes[at + 2]] & isPlain[bytes[at + 3]]) === 1
    ) {
      at += 4;
    }
    while (at < end && isPlain[bytes[at]] === 1) at++;
    if (at >= end) fail(bytes, at, 'the end of a string');
    if (bytes[at] === QUOTE) return at + 1;
    if (bytes[at] !== BACKSLASH) fail(bytes, at, 'no control character in a string');
    at = skipEscape(bytes, at + 1) + 1;
  }
}

/** @param at behind the backslash @returns the last place of the escape */
function skipEscape(bytes: Uint8Array, at: number): number {
  if (at < bytes.length && isEscape[bytes[at]] === 1) return at;
  if (at >= bytes.length || bytes[at] !== LOWER_U) fail(bytes, at, 'one of "\\/bfnrtu behind a backslash');
  for (const last = at + 4; at < last;) {
    at++;
    const c = at < bytes.length ? bytes[at] | SPACE : 0;
    if (!((c >= ZERO && c <= NINE && bytes[at] >= ZERO) || (c > 0x60 && c <= LOWER_F))) fail(bytes, at, 'a hex digit');
  }
  return at;
}

function skipDigits(bytes: Uint8Array, at: number): number {
  const from = at;
  while (at < bytes.length && bytes[at] >= ZERO && bytes[at] <= NINE) at++;
  return at === from ? fail(bytes, at, 'a digit') : at;
}

function skipNumber(bytes: Uint8Array, at: number): number {
  if (bytes[at] === MINUS) at++;
  if (at < bytes.length && bytes[at] === ZERO) at++;
  else at = skipDigits(bytes, at);
  if (at < bytes.length && bytes[at] === DOT) at = skipDigits(bytes, at + 1);
  if (at < bytes.length && (bytes[at] | SPACE) === LOWER_E) {
    at++;
    if (at < bytes.length && (bytes[at] === PLUS || bytes[at] === MINUS)) at++;
    at = skipDigits(bytes, at);
  }
  return at;
}

function skipWord(bytes: Uint8Array, at: number, word: Uint8Array): number {
  for (const c of word) {
    if (at >= bytes.length || bytes[at] !== c) fail(bytes, at, `'${String.fromCharCode(c)}'`);
    at++;
  }
  return at;
}

/** A string, number or word. */
function skipScalar(bytes: Uint8Array, at: number): number {
  const c = at < bytes.length ? bytes[at] : 0;
  if (c === QUOTE) return skipString(bytes, at + 1);
  if (c === MINUS || (c >= ZERO && c <= NINE)) return skipNumber(bytes, at);
  if (c === LOWER_T) return skipWord(bytes, at, TRUE);
  if (c === LOWER_F) return skipWord(bytes, at, FALSE);
  if (c === LOWER_N) return skipWord(bytes, at, NULL);
  return fail(bytes, at, 'a value');
}

/** Behind `{` or a comma: the key and its colon. @returns where the value begins */
function skipKey(bytes: Uint8Array, at: number): number {
  if (at >= bytes.length || bytes[at] !== QUOTE) fail(bytes, at, 'a key in quotes');
  at = skipSpace(bytes, skipString(bytes, at + 1));
  if (at >= bytes.length || bytes[at] !== COLON) fail(bytes, at, "':'");
  return skipSpace(bytes, at + 1);
}

/**
 * Checks the text and gives its records in order: an array's elements, each without the white space around it, or else the one
 * value that it is. What was given before an error is void.
 * @throws INVALID_JSON with the byte position; whatever `onRecord` throws
 */
export function scanJson(bytes: Uint8Array, onRecord: OnRecord): void {
  let at = skipSpace(bytes, 0);
  const inArray = at < bytes.length && bytes[at] === OPEN_ARRAY;
  const recordDepth = inArray ? 1 : 0;
  /** One bit a level: 1 in an object, 0 in an array. */
  let stack = new Uint8Array(FIRST_LEVELS / 8);
  let depth = 0;
  let isObject = false;
  let from = at;

  for (;;) {
    // A value begins at `at`.
    if (depth === recordDepth) from = at;
    const c = at < bytes.length ? bytes[at] : 0;
    if (c === OPEN_ARRAY || c === OPEN_OBJECT) {
      const level = depth++;
      if (level >> 3 === stack.length) stack = grown(stack);
      isObject = c === OPEN_OBJECT;
      if (isObject) stack[level >> 3] |= 1 << (level & 7);
      else stack[level >> 3] &= ~(1 << (level & 7));
      at = skipSpace(bytes, at + 1);
      const isEmpty = at < bytes.length && bytes[at] === (isObject ? CLOSE_OBJECT : CLOSE_ARRAY);
      if (!isEmpty) {
        if (isObject) at = skipKey(bytes, at);
        continue;
      }
    } else {
      at = skipScalar(bytes, at);
      if (depth === recordDepth) onRecord(from, at);
    }

    // A value ends, or an empty array or object is about to be closed: close all that ends here.
    for (;;) {
      if (depth === 0) {
        at = skipSpace(bytes, at);
        if (at < bytes.length) fail(bytes, at, 'nothing behind the value');
        return;
      }
      at = skipSpace(bytes, at);
      const c = at < bytes.length ? bytes[at] : 0;
      if (c === COMMA) break;
      if (c !== (isObject ? CLOSE_OBJECT : CLOSE_ARRAY)) fail(bytes, at, isObject ? "',' or '}'" : "',' or ']'");
      at++;
      depth--;
      if (depth > 0) isObject = ((stack[(depth - 1) >> 3] >> ((depth - 1) & 7)) & 1) === 1;
      if (depth === recordDepth) onRecord(from, at);
    }
    at = skipSpace(bytes, at + 1);
    if (isObject) at = skipKey(bytes, at);
  }
}

function grown(stack: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(stack.length * 2);
  larger.set(stack);
  return larger;
}
