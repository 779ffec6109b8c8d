// Tokens: who comes in, and that whoever does not learns nothing from how long it took or what it was told.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { bearer, MAX_TOKEN_BYTES, MAX_TOKENS, Tokens } from '../../src/ingress/auth.ts';
import { temporaryDirectory } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = temporaryDirectory('spillway-auth-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let files = 0;

const hex = (token: string): string => createHash('sha256').update(token).digest('hex');
const line = (token: string, name: string): string => `${hex(token)} ${name}`;

function file(...lines: string[]): string {
  const path = join(root, `tokens-${files++}`);
  writeFileSync(path, lines.join('\n'));
  return path;
}

t.test('a token of the file is known by its name, nothing else is', async (t) => {
  const first = 'first-token';
  const upper = line('upper', 'UPPER.1').replace(hex('upper'), hex('upper').toUpperCase());
  const path = file('# who may come', '', `  ${line(first, 'first')}  # of the shop\r`, upper, line('last', 'first'));
  const tokens = new Tokens(path);
  t.equal(tokens.size, 3);
  t.equal(tokens.nameOf('first-token'), 'first');
  t.equal(tokens.nameOf(Buffer.from('first-token')), 'first', 'as bytes');
  t.equal(tokens.nameOf('upper'), 'UPPER.1', 'hex in capitals');
  t.equal(tokens.nameOf('last'), 'first', 'two tokens of one name: that is how one is changed');
  const strangers = [undefined, '', 'First-token', 'first-token ', 'first-toke', 'first', hex('last'), '\0', 'ü'];
  for (const stranger of strangers) t.equal(tokens.nameOf(stranger), undefined, JSON.stringify(stranger));
  t.equal(tokens.require('last'), 'first');
});

t.test('missing, empty, wrong and too long get the same answer', async (t) => {
  const tokens = new Tokens(file(line('right', 'a'), line('', 'empty'), line('x'.repeat(MAX_TOKEN_BYTES + 1), 'long')));
  const answers = [undefined, '', 'wrong', 'x'.repeat(MAX_TOKEN_BYTES + 1), 'x'.repeat(1_000_000)].map((token) => {
    try {
      return tokens.require(token);
    } catch (error) {
      const { code, message, retryable } = error as SpillwayError;
      return JSON.stringify({ code, message, retryable });
    }
  });
  t.match(answers[0], /UNAUTHORIZED/);
  t.equal(new Set(answers).size, 1, answers.join('\n'));
  const longest = 'x'.repeat(MAX_TOKEN_BYTES);
  t.equal(new Tokens(file(line(longest, 'longest'))).nameOf(longest), 'longest', 'the longest that is taken');
});

t.test('a token of 1 MB costs what a short one does', async (t) => {
  const tokens = new Tokens(file(line('right', 'a')));
  const huge = Buffer.alloc(1_000_000, 'x');
  const time = (token: Uint8Array): number => {
    const startMs = performance.now();
    for (let i = 0; i < 2000; i++) tokens.nameOf(token);
    return performance.now() - startMs;
  };
  const short = Buffer.from('wrong');
  time(short);
  // Hashing 1 MB takes 500 times as long as refusing it, so the bound need not be sharp.
  const [shortMs, hugeMs] = [time(short), time(huge)];
  t.ok(hugeMs < 20 * shortMs + 100, `2,000 short ones ${shortMs} ms, as many of 1 MB ${hugeMs} ms`);
});

t.test('every entry is compared, wherever the right one stands', async (t) => {
  const source = readFileSync(fileURLToPath(new URL('../../../src/ingress/auth.ts', import.meta.url)), 'utf8');
  const body = /nameOf\([\s\S]*?\n {2}\}\n/.exec(source)![0];
  t.match(body, /timingSafeEqual\(/);
  t.notMatch(
    body,
    /\b(break|continue|every|some|find|indexOf|includes|Map)\b|return[^;]*entry|\.equals\(|===\s*digest/,
  );
  t.equal(body.match(/\breturn\b/g)?.length, 1, 'one way out');
});

t.test('a wrong file is refused with its line, and shows no token', async (t) => {
  const good = line('good', 'a');
  const cases: [string, string, RegExp][] = [
    ['no name', file(good, hex('x')), /:2: option 'tokens': expected '<SHA-256 in hex> <name>'$/],
    ['not hashed', file('my-secret-token shop'), /:1: option 'tokens': expected/],
    ['short', file(`${hex('x').slice(1)} shop`), /:1: .*expected/],
    ['not hex', file(`${hex('x').slice(1)}g shop`), /:1: .*expected/],
    ['two names', file(`${good} b`), /:1: .*expected/],
    [
      'name',
      file('', good.replace(/a$/, '../a')),
      /:2: .*expected a name of 1 to 200 of A-Z a-z 0-9 \. _ - and a letter or digit first$/,
    ],
    ['name with a control character', file(`${hex('x')} a\u0000b`), /:1: .*expected a name.*first$/],
    ['a token as name', file(`${hex('x')} my-secret-token!`), /:1: .*expected a name.*first$/],
    ['the same twice', file(good, '#', line('good', 'b')), /:3: .*the same token is in line 1 already$/],
    ['nothing', file(''), /expected at least one token$/],
    ['comments only', file(`# ${good}`), /expected at least one token$/],
    [
      'too many',
      file(...Array.from({ length: MAX_TOKENS + 1 }, (_, i) => line(String(i), 'a'))),
      /:1001: .*at most 1000/,
    ],
    ['missing', join(root, 'gone'), /gone: option 'tokens': expected a readable file, got: ENOENT/],
    ['directory', root, /expected a readable file, got: it is no regular file$/],
    ['endless', '/dev/zero', /expected a readable file, got: it is no regular file$/],
    ['large', file('#'.repeat(1024 * 1024 + 1)), /expected at most 1048576 bytes$/],
  ];
  for (const [name, path, message] of cases) {
    try {
      t.notOk(new Tokens(path), name);
    } catch (error) {
      const e = error as SpillwayError;
      t.equal(e.code, 'INVALID_OPTION', name);
      t.match(e.message, message, name);
      t.ok(e.message.startsWith(path) && !e.message.includes('\n'), `${name}: ${e.message}`);
      t.notMatch(e.message, /secret/, name);
    }
  }
  t.equal(new Tokens(file(...Array.from({ length: MAX_TOKENS }, (_, i) => line(String(i), 'a')))).size, MAX_TOKENS);
});

t.test('reload: a new token comes in, an old one is out; a wrong file changes nothing', async (t) => {
  const path = file(line('old', 'a'), line('both', 'b'));
  const tokens = new Tokens(path);
  writeFileSync(path, [line('both', 'b'), line('new', 'c')].join('\n'));
  t.equal(tokens.nameOf('new'), undefined, 'not before');
  t.equal(tokens.reload(), 2);
  t.strictSame(
    ['old', 'both', 'new'].map((token) => tokens.nameOf(token)),
    [undefined, 'b', 'c'],
  );
  for (const text of ['', 'nonsense', `${line('evil', 'e')}\nnonsense`]) {
    writeFileSync(path, text);
    t.throws(() => tokens.reload(), { code: 'INVALID_OPTION' });
    t.strictSame(
      ['evil', 'both', 'new'].map((token) => tokens.nameOf(token)),
      [undefined, 'b', 'c'],
      'as before',
    );
  }
  rmSync(path);
  t.throws(() => tokens.reload(), { code: 'INVALID_OPTION' });
  t.equal(tokens.nameOf('both'), 'b');
});

t.test('bearer', async (t) => {
  const cases: [string | undefined, string | undefined][] = [
    ['Bearer abc', 'abc'],
    ['bearer  \t a-b._~+/=1 ', 'a-b._~+/=1'],
    ['BEARER x', 'x'],
    [undefined, undefined],
    ['', undefined],
    ['Bearer', undefined],
    ['Bearer ', undefined],
    ['Bearerabc', undefined],
    [' Bearer abc', undefined],
    ['Basic abc', undefined],
    ['abc', undefined],
    ['Bearer a b', undefined],
    ['Bearer a, Bearer b', undefined],
    ['Bearer a\nb', undefined],
    ['Bearer \u00e4', undefined],
    ['Bearer a\0', undefined],
    [`Bearer ${'x'.repeat(MAX_TOKEN_BYTES)}`, 'x'.repeat(MAX_TOKEN_BYTES)],
    [`Bearer ${'x'.repeat(1_000_000)}`, undefined],
    [`Bearer ${' '.repeat(1_000_000)}x`, undefined],
    ['Bearer '.repeat(150_000), undefined],
  ];
  const startMs = performance.now();
  for (const [header, token] of cases) t.equal(bearer(header), token, String(header?.slice(0, 40)));
  t.ok(performance.now() - startMs < 5000, 'in bounded time');
});

t.test('spillway token: another one each time, its line lets it in', async (t) => {
  const run = (...args: string[]) => spawnSync(process.execPath, [main, 'token', ...args], { encoding: 'utf8' });
  const seen = new Set<string>();
  for (const name of ['token', 'shop.1', 'shop.1']) {
    const made = run(...(name === 'token' ? [] : ['--name', name]), '--json');
    t.equal(made.status, 0, made.stderr);
    const { token, line: text } = JSON.parse(made.stdout) as { token: string; line: string };
    t.match(token, /^[A-Za-z0-9_-]{43}$/, '256 bits');
    seen.add(token);
    t.equal(new Tokens(file(text)).nameOf(bearer(`Bearer ${token}`)), name);
  }
  t.equal(seen.size, 3);
  const [, token, text] = /^ {2}token {2}(\S+)\n {2}line {3}(.+)\n$/.exec(run('--name', 'a').stdout)!;
  t.equal(new Tokens(file(text)).nameOf(token), 'a');
  const refused = run('--name', '../x');
  t.equal(refused.status, 2);
  t.match(refused.stderr, /--name '\.\.\/x': expected.*\[INVALID_OPTION\]\n$/);
});
