// Tokens stay secret: whatever is said to the gateway, and wherever a token stands in it, no log line, answer or metric shows one, in any
// coding. They change without a restart, and without one nobody learns which streams there are.

import { createHash } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { connect } from '../../src/client/connect.ts';
import { encodeStream } from '../../src/codec/frames.ts';
import { GatewayProcess } from '../support/gateway-process.ts';
import { ask, recordsOf, type Answer, type Asked } from '../support/gateway-talk.ts';
import { directory } from '../support/log-support.ts';
import { RawFrames } from '../support/raw-frames.ts';
import { append, hello } from '../support/tcp-pipe.ts';

/** As `spillway token` prints them, as `openssl rand -hex 32` does, and one whose letters JSON and URLs escape. */
const first = 'zxqo3uppeBPLcJMGDaJqZAEjJO-Y-U2M9-t8lWHnS8w';
const second = '9f2C41d07ab35e6688c1f04d2b97a3e05d8e61bb7c40f9123a6db85e74c0d91F';
const third = 'Quo"tEd\\and/"sLash"ed\\+100%\\of"lEtTers"here';
const wrong = 'wrong-Secret.5555555555';

const digest = (token: string): string => createHash('sha256').update(token).digest('hex');
const PIECE_LETTERS = 8;
/** Ways in which a text may show a token: base64 without its last letters, as it would have others there in a coding of more than it. */
function shownAs(token: string): string[] {
  const basic = [0, 1, 2].map((before) =>
    Buffer.from(`${'x'.repeat(before)}${token}`)
      .toString('base64')
      .slice(4, -4),
  );
  const json = JSON.stringify(token).slice(1, -1);
  return [token, json, encodeURIComponent(token), Buffer.from(token).toString('hex'), digest(token), ...basic];
}
/** Every piece of them, in small letters: a text may show a part alone, and in other case. */
const pieces = new Set<string>();
for (const text of [first, second, third, wrong].flatMap(shownAs)) {
  for (let i = 0; i + PIECE_LETTERS <= text.length; i++) pieces.add(text.slice(i, i + PIECE_LETTERS).toLowerCase());
}
/** The first piece of a token that it shows. */
function shownIn(said: string): string | undefined {
  const lower = said.toLowerCase();
  for (let i = 0; i < lower.length; i++) {
    if (pieces.has(lower.slice(i, i + PIECE_LETTERS))) return said.slice(i, i + PIECE_LETTERS);
  }
  return undefined;
}

const userOf = (token: string): string => Buffer.from(`user:${token}`).toString('base64');
const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });
const basic = (token: string): Record<string, string> => ({
  authorization: `Basic ${userOf(token)}`,
});
const inJson = (token: string): string => JSON.stringify(token).slice(1, -1);
const text = { 'content-type': 'text/plain' };
const path = recordsOf('known');

/** Wherever a client may put its token, by mistake as well. */
function requests(token: string): Asked[] {
  const good = { path, body: 'x', headers: { ...text, ...bearer(token) } };
  const checked = { path: recordsOf('checked'), headers: { 'content-type': 'application/x-ndjson', ...bearer(token) } };
  return [
    good,
    { path, body: 'x', headers: { ...text, ...basic(token) } },
    { ...good, headers: { ...good.headers, 'content-type': token } },
    { ...good, headers: { ...good.headers, 'content-encoding': token } },
    { ...good, headers: { ...good.headers, 'idempotency-key': `${token} with blanks` } },
    { ...good, headers: { ...good.headers, expect: token } },
    { ...good, path: `${path}?token=${encodeURIComponent(token)}` },
    { ...good, path: `${path}?as=${encodeURIComponent(token)}` },
    { path: `${path}?access_token=${encodeURIComponent(token)}`, body: 'x', headers: text },
    { path: `${path}?from=${encodeURIComponent(token)}`, headers: bearer(token) },
    { path: `/${encodeURIComponent(token)}`, headers: bearer(token) },
    { path: recordsOf(`${token}!`), body: 'x', headers: { ...text, ...bearer(token) } },
    { path: '/v1/stats', headers: bearer(token) },
    { path: '/metrics', headers: bearer(token) },
    { path, headers: { authorization: token } },
    { path, headers: { authorization: `Token ${token}` } },
    { path: `${path}?${encodeURIComponent(token)}=1`, headers: bearer(token) },
    { path: `${path}?from=${encodeURIComponent(token)}`, headers: basic(token) },
    { path: `${path}?from=${userOf(token).slice(0, 40)}`, headers: basic(token) },
    { path: `${path}?from=user:${encodeURIComponent(token)}`, headers: { authorization: `Digest ${token}` } },
    { ...good, headers: { ...good.headers, 'content-encoding': `X${token}` } },
    { ...good, headers: { ...good.headers, 'content-type': `text/${token.toUpperCase()}` } },
    { ...good, path: recordsOf(`-${encodeURIComponent(token)}`) },
    { ...checked, body: `{"${inJson(token)}":"x"}` },
    { ...checked, path: `${checked.path}?partial=1`, body: `{"n":1}\n{"${inJson(token)}":"x"}` },
    { ...checked, body: `"${inJson(token)}` },
    { path, headers: { cookie: `token=${token}`, 'x-api-key': token, ...bearer(token) } },
  ];
}

t.test('no token is shown, in debug lines neither; tokens change by SIGHUP', async (t) => {
  const dir = directory(t);
  const file = join(dir, 'tokens');
  /** As docs/operate.md says: a new file is renamed over the old. */
  const allow = (...tokens: readonly string[]): void => {
    writeFileSync(`${file}.new`, tokens.map((token, i) => `${digest(token)} app${i}\n`).join(''));
    renameSync(`${file}.new`, file);
  };
  allow(first);
  const [schema, config] = ['schema.json', 'config.yaml'].map((name) => join(dir, name));
  writeFileSync(schema, '{"type":"object","additionalProperties":{"type":"integer"}}');
  writeFileSync(config, `streams:\n  checked:\n    schema: ${schema}\n`);
  const flags = ['--tokens', file, '--config', config, '--log-level', 'debug'];
  const gateway = new GatewayProcess({ dir: join(dir, 'log'), unix: 'off', flags });
  const { http, tcp } = await gateway.listens();
  const shown: string[] = [];
  const statusOf = async (asked: Asked): Promise<number> => {
    const answer = await ask(http, asked);
    // What it sends back is all that another may see; the request is its sender's own.
    shown.push(JSON.stringify(answer));
    return answer.status;
  };
  const framed = async (token: string): Promise<string> => {
    try {
      const client = await connect(`tcp://127.0.0.1:${tcp}`, { token, connectTimeoutMs: 3000 });
      await client.append('known', 'x');
      await client.close();
      return 'taken';
    } catch (error) {
      shown.push(String(error), JSON.stringify(error));
      return (error as { code: string }).code;
    }
  };
  /** Stream names that are none: an ERROR for the range, and one that ends the connection. */
  const misnamed = async (token: string): Promise<void> => {
    const frames = await RawFrames.connect(tcp);
    frames.send(hello(0, null, token), encodeStream(1, `${token}!`), encodeStream(2, `-${token.toUpperCase()}`));
    await frames.hears(() => frames.welcome !== undefined, 'WELCOME');
    const plain = { identity: false };
    frames.send(append(0, 1, plain), append(1, 1, { ...plain, streamId: 2 }), append(7, 1, plain));
    await frames.hears(() => frames.errors.length === 3, 'ERRORs');
    t.strictSame(
      frames.errors.map(({ code }) => code),
      ['INVALID_STREAM', 'INVALID_STREAM', 'PROTOCOL_ERROR'],
    );
    shown.push(...frames.errors.map(({ message }) => message));
  };
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const [good] = requests(first);
  t.equal(await statusOf({ ...good, agent }), 200);
  for (const token of [first, wrong]) for (const asked of requests(token)) await statusOf(asked);
  t.strictSame([await framed(first), await framed(wrong)], ['taken', 'UNAUTHORIZED']);
  await misnamed(first);

  allow(second, third);
  gateway.kill('SIGHUP');
  await gateway.logs('the token file was read again');
  t.equal(await statusOf({ ...good, agent }), 401, 'the old one is out, on a connection that is open as well');
  t.equal(await statusOf(requests(second)[0]), 200, 'the new one is in');
  for (const token of [second, third]) {
    for (const asked of requests(token)) await statusOf(asked);
    await misnamed(token);
  }
  t.strictSame([await framed(first), await framed(second)], ['UNAUTHORIZED', 'taken']);

  // As digest, and as name: neither is told.
  writeFileSync(file, `${third} not-a-digest\n`);
  gateway.kill('SIGHUP');
  await gateway.logs("expected '<SHA-256 in hex> <name>'");
  writeFileSync(file, `${digest(third)} ${third}\n`);
  gateway.kill('SIGHUP');
  await gateway.logs('expected a name');
  t.equal(await statusOf(requests(second)[0]), 200, 'a wrong file changes nothing');
  agent.destroy();
  gateway.kill('SIGTERM');
  const { code, lines } = await gateway.ended;
  t.equal(code, 0);
  t.ok(lines.length > 40, `${lines.length} log lines`);
  for (const [where, all] of Object.entries({
    answers: shown,
    'log lines': lines.map((line) => JSON.stringify(line)),
  })) {
    for (const said of all) {
      const found = shownIn(said);
      if (found !== undefined) t.fail(`${where}: '${found}' in ${said}`);
    }
    t.ok(all.length > 0, `${all.length} ${where}`);
  }
});

t.test('without a token every question gets the same answer', async (t) => {
  const dir = directory(t);
  const file = join(dir, 'tokens');
  writeFileSync(file, `${digest(first)} app\n`);
  const gateway = new GatewayProcess({ dir: join(dir, 'log'), unix: 'off', flags: ['--tokens', file] });
  const { http } = await gateway.listens();
  t.equal((await ask(http, requests(first)[0])).status, 200, 'there is a stream');
  const strangers: Asked[] = [
    path,
    recordsOf('unknown'),
    recordsOf('-!'),
    '/v1/stats',
    '/metrics',
    '/nothing',
    '/v1/streams',
  ].flatMap((where) => [
    { path: where },
    { path: where, headers: bearer(wrong) },
    { path: where, method: 'DELETE' },
    { path: where, body: 'x', headers: text },
    { path: where, body: '', headers: { 'content-type': 'application/nonsense' } },
  ]);
  const same = ({ status, headers, text: body }: Answer): string => {
    const { date: _date, connection: _connection, ...rest } = headers;
    return JSON.stringify({ status, rest, body: body.replace(/"requestId":"[^"]*"/, '') });
  };
  const answers = new Set<string>();
  for (const asked of strangers) answers.add(same(await ask(http, asked)));
  t.equal(answers.size, 1, [...answers].join('\n'));
  t.match([...answers][0], /"status":401.*UNAUTHORIZED/);
  t.equal((await ask(http, { path: '/healthz' })).status, 200, 'but that it lives');
  gateway.kill('SIGTERM');
  t.equal((await gateway.ended).code, 0);
});
