// The scanner against JSON.parse: it accepts the same texts and finds the same elements; where they differ is said below.

import t, { type Test } from 'tap';
import * as fc from 'fast-check';
import { SpillwayError } from '../../src/base/errors.ts';
import { scanJson } from '../../src/codec/json-scan.ts';

/** The records' texts, or why there are none. Latin-1 keeps every byte. */
function scan(bytes: Uint8Array): string[] | SpillwayError {
  const texts: string[] = [];
  try {
    scanJson(bytes, (from, to) => texts.push(Buffer.from(bytes.subarray(from, to)).toString('latin1')));
    return texts;
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return error;
  }
}

function parse(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

/** One law for every sequence of bytes. @returns whether it was accepted */
function agrees(t: Test, bytes: Buffer): boolean {
  const what = `${bytes.toString('hex').slice(0, 400)} ${JSON.stringify(bytes.toString('latin1').slice(0, 200))}`;
  const latin1 = parse(bytes.toString('latin1'));
  const utf8 = parse(bytes.toString('utf8'));
  const came = scan(bytes);
  const accepted = Array.isArray(came);
  if (accepted !== (latin1 !== undefined)) t.fail(`${what}: scanner ${accepted}, JSON.parse of Latin-1 ${!accepted}`);
  if (accepted !== (utf8 !== undefined)) t.fail(`${what}: scanner ${accepted}, JSON.parse of UTF-8 ${!accepted}`);
  if (!accepted) {
    if (came.code !== 'INVALID_JSON' || !/ at byte \d+, got /.test(came.message)) t.fail(`${what}: ${came.message}`);
    return false;
  }
  const wanted = Array.isArray(latin1!.value) ? (latin1!.value as unknown[]) : [latin1!.value];
  const values = came.map((text) => JSON.parse(text) as unknown);
  if (JSON.stringify(values) !== JSON.stringify(wanted)) t.fail(`${what}: elements ${came.join(' | ')}`);
  if (came.some((text) => text !== text.trim())) t.fail(`${what}: white space around an element`);
  return true;
}

const seeds = [3, 14, 15];

const space = fc.constantFrom('', '', '', ' ', '\n', '\t', '\r\n', '   ');
const number = fc.constantFrom('0', '-0', '12', '1.5', '-1.25e+10', '1E5', '9007199254740993', '1e999', '0.1e-7');
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }).map((s) => JSON.stringify(s)),
  fc.constantFrom(
    '""',
    '"\\u0000"',
    '"\\ud800"',
    '"\\/\\b\\f\\n\\r\\t\\"\\\\"',
    '"é\u{1f600}"',
    '"\\u00eF"',
    '"]"',
    '"},{"',
  ),
);
const scalar = fc.oneof(number, text, fc.constantFrom('true', 'false', 'null'));

/** A text with white space wherever it may be, and now and then repeated keys. */
const json = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: 'small', withCrossShrink: true },
    scalar,
    fc
      .array(fc.tuple(space, tie('value'), space), { maxLength: 5 })
      .chain((parts) => space.map((s) => `[${parts.length === 0 ? s : parts.map((p) => p.join('')).join(',')}]`)),
    fc
      .array(fc.tuple(space, text, space, fc.constant(':'), space, tie('value'), space), { maxLength: 5 })
      .chain((parts) => space.map((s) => `{${parts.length === 0 ? s : parts.map((p) => p.join('')).join(',')}}`)),
  ),
})).value;
const document = fc.tuple(space, json, space).map((parts) => Buffer.from(parts.join('')));

/** Bytes that matter to the grammar, and any. */
const byte = fc.oneof(
  fc.constantFrom(...Buffer.from('[]{},:"\\ \n\t\r0123456789.eE+-truefalsnu/b')),
  fc.integer({ min: 0, max: 255 }),
);
const mutation = fc.record({ kind: fc.constantFrom('set', 'insert', 'delete', 'cut', 'twice'), place: fc.nat(), byte });

function mutate(bytes: Buffer, m: { kind: string; place: number; byte: number }): Buffer {
  const at = bytes.length === 0 ? 0 : m.place % bytes.length;
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
  switch (m.kind) {
    case 'set':
      return Buffer.concat([head, Buffer.from([m.byte]), tail.subarray(1)]);
    case 'insert':
      return Buffer.concat([head, Buffer.from([m.byte]), tail]);
    case 'delete':
      return Buffer.concat([head, tail.subarray(1)]);
    case 'cut':
      return Buffer.from(head);
    default:
      return Buffer.concat([head, tail, tail]);
  }
}

for (const seed of seeds) {
  t.test(`random texts, seed ${seed}`, async (t) => {
    let arrays = 0;
    fc.assert(
      fc.property(document, (bytes) => {
        arrays += bytes.toString('latin1').trim().startsWith('[') ? 1 : 0;
        return agrees(t, bytes);
      }),
      { seed, numRuns: 1000 },
    );
    t.ok(arrays > 100, `${arrays} of them were arrays`);
  });

  t.test(`random mutations, seed ${seed}`, async (t) => {
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(document, fc.array(mutation, { minLength: 1, maxLength: 3 }), (bytes, mutations) => {
        if (agrees(t, mutations.reduce(mutate, bytes))) accepted++;
        else refused++;
      }),
      { seed, numRuns: 4000 },
    );
    t.ok(accepted > 200 && refused > 1000, `${accepted} accepted, ${refused} refused`);
  });
}

t.test('every byte at every place of a text that has all tokens', async (t) => {
  const whole = Buffer.from('[{"a\\u00eb":-0.5e+1,"b":[]} ,true,[false,null,{}],"\\n"]');
  t.ok(agrees(t, whole));
  let accepted = 0;
  for (let at = 0; at < whole.length; at++) {
    agrees(t, whole.subarray(0, at));
    agrees(t, mutate(whole, { kind: 'delete', place: at, byte: 0 }));
    for (let b = 0; b < 256; b++) {
      if (agrees(t, mutate(whole, { kind: 'set', place: at, byte: b }))) accepted++;
      agrees(t, mutate(whole, { kind: 'insert', place: at, byte: b }));
    }
  }
  t.ok(accepted > whole.length, `${accepted} of them were still texts`);
});

/** What is refused, and what the message says. */
const refusals: [what: string, text: string | Buffer, message: string][] = [
  ['nothing', '', 'expected a value at byte 0, got the end'],
  ['white space only', ' \n', 'expected a value at byte 2, got the end'],
  ['a byte order mark', '\ufeff[1]', 'expected a value at byte 0, got a byte order mark'],
  ['UTF-16', Buffer.from('[1]', 'utf16le'), 'expected a value at byte 1, got byte 0x00'],
  ['a comma at the end of an array', '[1,]', "expected a value at byte 3, got ']'"],
  ['a comma at the end of an object', '{"a":1,}', "expected a key in quotes at byte 7, got '}'"],
  ['no comma', '[1 2]', "expected ',' or ']' at byte 3, got '2'"],
  ['the wrong bracket', '[1}', "expected ',' or ']' at byte 2, got '}'"],
  ['the wrong brace', '{"a":[]]', "expected ',' or '}' at byte 7, got ']'"],
  ['two values', '{} {}', "expected nothing behind the value at byte 3, got '{'"],
  ['a leading zero', '[01]', "expected ',' or ']' at byte 2, got '1'"],
  ['a plus sign', '[+1]', "expected a value at byte 1, got '+'"],
  ['no digit behind the point', '[1.]', "expected a digit at byte 3, got ']'"],
  ['no digit before the point', '[.5]', "expected a value at byte 1, got '.'"],
  ['no exponent', '1e', 'expected a digit at byte 2, got the end'],
  ['a lone minus', '-', 'expected a digit at byte 1, got the end'],
  ['NaN', '[NaN]', "expected a value at byte 1, got 'N'"],
  ['half a word', '[nul]', "expected 'l' at byte 4, got ']'"],
  ['single quotes', "['a']", "expected a value at byte 1, got '''"],
  ['a key without quotes', '{a:1}', "expected a key in quotes at byte 1, got 'a'"],
  ['no colon', '{"a" 1}', "expected ':' at byte 5, got '1'"],
  ['a newline in a string', '["a\nb"]', 'expected no control character in a string at byte 3, got byte 0x0a'],
  ['a NUL in a string', '"\0"', 'expected no control character in a string at byte 1, got byte 0x00'],
  ['an unknown escape', '["\\x41"]', "expected one of \"\\/bfnrtu behind a backslash at byte 3, got 'x'"],
  ['a short \\u', '["\\u12"]', "expected a hex digit at byte 6, got '\"'"],
  ['no end of a string', '["abcdefgh', 'expected the end of a string at byte 10, got the end'],
  ['a backslash at the end', '"\\', 'expected one of "\\/bfnrtu behind a backslash at byte 2, got the end'],
  ['a comment', '[1] // x', "expected nothing behind the value at byte 4, got '/'"],
  ['a no-break space', Buffer.from('[\xa01]', 'latin1'), 'expected a value at byte 1, got byte 0xa0'],
];

t.test('what is refused says where and what', async (t) => {
  for (const [what, text, message] of refusals) {
    const bytes = Buffer.from(text as string);
    agrees(t, bytes);
    const came = scan(bytes);
    t.equal(came instanceof Error ? came.message : came.join('|'), `JSON: ${message}`, what);
  }
});

t.test('bytes of strings are not looked at', async (t) => {
  for (const bytes of [[0x80], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf5, 0xff], [0xef, 0xbb, 0xbf], [0x7f]]) {
    const text = Buffer.concat([Buffer.from('["'), Buffer.from(bytes), Buffer.from('"]')]);
    t.ok(agrees(t, text), text.toString('hex'));
    t.strictSame(scan(text), [`"${Buffer.from(bytes).toString('latin1')}"`]);
  }
});

/** Brackets of a nesting: which levels are objects is any pattern that does not repeat every 8. */
function nested(depth: number): { open: string; close: string } {
  const isObject = Array.from({ length: depth }, (_, i) => (i * i + (i >> 3)) % 3 === 0);
  return {
    open: isObject.map((o) => (o ? '{"":' : '[')).join(''),
    close: isObject
      .map((o) => (o ? '}' : ']'))
      .toReversed()
      .join(''),
  };
}

t.test('any depth, without recursion', async (t) => {
  for (const depth of [1, 7, 8, 9, 511, 512, 513, 1024, 4096, 4097, 200_000]) {
    const { open, close } = nested(depth);
    const bytes = Buffer.from(`[${open}1${close}]`);
    t.strictSame(
      (scan(bytes) as string[]).map((r) => r.length),
      [bytes.length - 2],
      `${depth} levels`,
    );
    t.match(scan(Buffer.from(open)), { code: 'INVALID_JSON' }, `${depth} levels, cut`);
    t.match(scan(Buffer.from(`[${open}1${close}`)), { message: /got the end/ }, `${depth} levels, one not closed`);
    // The closing bracket of one level, in the middle, is of the other kind.
    const at = open.length + 1 + (depth >> 1);
    const wrong = Buffer.from(`${open}1${close}`);
    wrong[at] = wrong[at] === 0x5d ? 0x7d : 0x5d;
    t.match(scan(wrong), { message: new RegExp(` at byte ${at}, got `) }, `${depth} levels, a wrong one`);
  }
  t.equal((scan(Buffer.from(`${'['.repeat(200_000)}${']'.repeat(200_000)}`)) as string[]).length, 1, 'arrays only');
});
