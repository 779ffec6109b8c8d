import t from 'tap';
import * as fc from 'fast-check';
import { SpillwayError } from '../../src/base/errors.ts';
import { checkStreamName } from '../../src/base/names.ts';

function refusal(name: unknown): SpillwayError | undefined {
  try {
    checkStreamName(name);
    return undefined;
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return error;
  }
}

t.test('allowed names come back as they are', async (t) => {
  const names = ['a', '0', 'Z', 'orders', 'orders.eu-1_x', 'a..b', 'a.', 'a-', 'a_', '9-9', 'CON', 'x'.repeat(200)];
  for (const name of names) t.equal(checkStreamName(name), name, name.slice(0, 20));
});

t.test('everything else is refused, with one short line', async (t) => {
  const names: unknown[] = [
    '',
    '.',
    '..',
    '/',
    'a/b',
    'a\\b',
    '\0',
    'a\0b',
    'a\r\nb',
    'a\n',
    '\na',
    'a\r',
    ' a',
    'a ',
    'a b',
    'x'.repeat(201),
    'x'.repeat(4096),
    '%2e',
    '%2e%2e',
    'a%2e',
    '-x',
    '.x',
    '_x',
    '*',
    'a*',
    'a?',
    'a#',
    'a:b',
    'a+b',
    'ä',
    'aä',
    'ａ', // a full-width letter
    'a\u0300',
    'a\ud800',
    '😀',
    undefined,
    null,
    5,
    true,
    ['orders'],
    { toString: () => 'orders' },
    Symbol('orders'),
  ];
  for (const name of names) {
    const shown = typeof name === 'string' ? JSON.stringify(name.slice(0, 20)) : String(name);
    const error = refusal(name);
    t.match(error, { code: 'INVALID_STREAM', details: { subject: 'stream' } }, `${typeof name} ${shown}`);
    t.match(
      error?.message,
      /^stream name .+: expected 1 to 200 of A-Z a-z 0-9 \. _ - and a letter or digit first$/,
      shown,
    );
    t.ok((error?.message.length ?? 0) < 200, `${shown}: short`);
  }
});

t.test('no character outside the list passes, at any place', async (t) => {
  const inside = /[A-Za-z0-9._-]/;
  for (let c = 0; c < 256; c++) {
    const char = String.fromCharCode(c);
    t.equal(refusal(`a${char}`) === undefined, inside.test(char), `second: ${c}`);
    t.equal(refusal(`a${char}b`) === undefined, inside.test(char), `in the middle: ${c}`);
    t.equal(refusal(char) === undefined, /[A-Za-z0-9]/.test(char), `first: ${c}`);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 8 }), (name) => {
      const fine =
        name.length > 0 && [...name].every((ch) => ch.length === 1 && inside.test(ch)) && /^[A-Za-z0-9]/.test(name);
      return (refusal(name) === undefined) === fine;
    }),
    { seed: 5, numRuns: 500 },
  );
});

t.test('a value that has no text is refused like any other', async (t) => {
  for (const name of [Object.create(null) as unknown, ['a\nb'], 'x'.split('').concat('y'.repeat(500))]) {
    const error = refusal(name);
    t.match(error, { code: 'INVALID_STREAM' });
    t.ok((error?.message.length ?? 0) < 200, 'short');
    t.notMatch(error?.message, /\n/, 'one line');
  }
});
