// Tokens stay secret: whatever is said to the gateway, and wherever a token stands in it, no log line, answer or metric shows one, in any
// coding. They change without a restart, and without one nobody learns which streams there are.

import { createHash } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { connect } from '../../src/client/connect.ts';
import { GatewayProcess } from '../support/gateway-process.ts';
import { ask, recordsOf, type Answer, type Asked } from '../support/gateway-talk.ts';
import { directory } from '../support/log-support.ts';

const first = 'first-Secret.0123456789';
const second = 'second-Secret.9876543210';
const wrong = 'wrong-Secret.5555555555';

const digest = (token: string): string => createHash('sha256').update(token).digest('hex');
/** Ways in which a text may show a token: each without its last letters, as a coding of more than it would have others there. */
function shownAs(token: string): string[] {
  const basic = [0, 1, 2].map((before) =>
    Buffer.from(`${'x'.repeat(before)}${token}`)
      .toString('base64')
      .slice(4, -4),
  );
  return [token, encodeURIComponent(token), Buffer.from(token).toString('hex'), digest(token), ...basic];
}
const secrets = [first, second, wrong].flatMap(shownAs);

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });
const basic = (token: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`user:${token}`).toString('base64')}`,
});
const text = { 'content-type': 'text/plain' };
const path = recordsOf('known');

/** Wherever a client may put its token, by mistake as well. */
function requests(token: string): Asked[] {
  const good = { path, body: 'x', headers: { ...text, ...bearer(token) } };
  return [
    good,
    { path, body: 'x', headers: { ...text, ...basic(token) } },
    { ...good, headers: { ...good.headers, 'content-type': token } },
    { ...good, headers: { ...good.headers, 'content-encoding': token } },
    { ...good, headers: { ...good.headers, 'idempotency-key': `${token} with blanks` } },
    { ...good, headers: { ...good.headers, expect: token } },
    { ...good, path: `${path}?token=${token}` },
    { ...good, path: `${path}?as=${token}` },
    { path: `${path}?access_token=${token}`, body: 'x', headers: text },
    { path: `${path}?from=${token}`, headers: bearer(token) },
    { path: `/${token}`, headers: bearer(token) },
    { path: recordsOf(`${token}!`), body: 'x', headers: { ...text, ...bearer(token) } },
    { path: '/v1/stats', headers: bearer(token) },
    { path: '/metrics', headers: bearer(token) },
    { path, headers: { authorization: token } },
    { path, headers: { authorization: `Token ${token}` } },
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
  const flags = ['--tokens', file, '--log-level', 'debug'];
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
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const [good] = requests(first);
  t.equal(await statusOf({ ...good, agent }), 200);
  for (const token of [first, wrong]) for (const asked of requests(token)) await statusOf(asked);
  t.strictSame([await framed(first), await framed(wrong)], ['taken', 'UNAUTHORIZED']);

  allow(second);
  gateway.kill('SIGHUP');
  await gateway.logs('the token file was read again');
  t.equal(await statusOf({ ...good, agent }), 401, 'the old one is out, on a connection that is open as well');
  t.equal(await statusOf(requests(second)[0]), 200, 'the new one is in');
  for (const asked of requests(second)) await statusOf(asked);
  t.strictSame([await framed(first), await framed(second)], ['UNAUTHORIZED', 'taken']);

  writeFileSync(file, `${second} not-a-digest\n`);
  gateway.kill('SIGHUP');
  await gateway.logs('option');
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
      const found = secrets.filter((secret) => said.includes(secret));
      if (found.length > 0) t.fail(`${where}: ${said}`);
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
