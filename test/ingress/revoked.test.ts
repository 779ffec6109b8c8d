// A token that was taken back: who came in with it over the framed protocol is out, at once and not only when it comes again; what it had
// sent before is answered. HTTP asks with each request: secrets.test.ts.

import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { connect } from '../../src/client/connect.ts';
import { encodeBye, frameType } from '../../src/codec/frames.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { GatewayProcess } from '../support/gateway-process.ts';
import { ask, recordsOf } from '../support/gateway-talk.ts';
import { codeOf, directory, until as eventually } from '../support/log-support.ts';
import { RawFrames } from '../support/raw-frames.ts';
import { append, ended, hello, open, PipeClient, TestHost, turns, until } from '../support/tcp-pipe.ts';

const old = 'first-Secret.0123456789';
const kept = 'second-Secret.9876543210';
const line = (token: string): string => `${tokenDigest(token).toString('hex')} app-${token.slice(0, 5)}\n`;

/** A gateway whose file of tokens can be changed, as docs/operate.md says: a new file is renamed over the old. */
async function started(t: Test, first: string) {
  const dir = directory(t);
  const file = join(dir, 'tokens');
  const put = (text: string): void => {
    writeFileSync(`${file}.new`, text);
    rmSync(file, { force: true, recursive: true });
    renameSync(`${file}.new`, file);
  };
  put(first);
  const gateway = new GatewayProcess({ dir: join(dir, 'log'), unix: 'off', flags: ['--tokens', file] });
  return { gateway, file, put, ...(await gateway.listens()) };
}

t.test('a framed connection whose token is gone ends with UNAUTHORIZED; others go on', async (t) => {
  const { gateway, http, tcp, put } = await started(t, line(old) + line(kept));
  const heard = await RawFrames.connect(tcp);
  heard.send(hello(0, null, old));
  await heard.hears(() => heard.welcome !== undefined, 'WELCOME');
  const url = `tcp://127.0.0.1:${tcp}`;
  const [out, stays] = await Promise.all([connect(url, { token: old }), connect(url, { token: kept })]);
  await out.append('s', 'a');
  await stays.append('s', 'b');

  put(line(kept));
  gateway.kill('SIGHUP');
  await heard.hears(() => heard.errors.length > 0, 'ERROR');
  t.match(heard.errors, [{ code: 'UNAUTHORIZED', records: 0, retryable: false }]);
  t.equal(await heard.raw.ended(), 'end', 'and closed');
  t.equal(await codeOf(out.append('s', 'c')), 'UNAUTHORIZED', 'a client that had come in with it');
  t.equal(typeof (await stays.append('s', 'd')).offset, 'number', 'another goes on');

  put(`${line(kept)}nonsense\n`);
  gateway.kill('SIGHUP');
  await eventually(() => gateway.complaints(50).length > 0, 'it is logged');
  t.equal(typeof (await stays.append('s', 'e')).offset, 'number', 'a wrong file ends nobody');
  const path = `${recordsOf('s')}?from=0`;
  const { text } = await ask(http, { path, headers: { authorization: `Bearer ${kept}` } });
  t.equal(
    text.match(/"payload"/g)?.length ?? 0,
    4,
    `what was sent with the old token afterwards is not there: ${text}`,
  );
  await out.close().catch(() => undefined);
  await stays.close();
  gateway.kill('SIGTERM');
  const { code, lines } = await gateway.ended;
  t.equal(code, 0);
  t.match(
    lines.filter(({ msg }) => msg.startsWith('framed connections ended')),
    [{ connections: 2 }],
    'it is logged, once',
  );
});

t.test('what was taken before is answered, what comes after is not taken', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  client.send(append(0, 2), append(2));
  await until('both are under way', () => host.calls.length === 2);
  client.connection.refuse(new SpillwayError('UNAUTHORIZED', 'the token is not known any more'));
  client.send(append(3), encodeBye());
  await turns();
  t.equal(client.errors.length, 0, 'not before they are answered');
  host.calls[0].durableAt(10);
  host.calls[1].durableAt(12);
  await ended(client);
  t.equal(host.calls.length, 2, 'nothing after it was appended');
  t.equal(client.acked, 3);
  t.strictSame(
    client.frames.slice(-2).map(({ type }) => type),
    [frameType.ack, frameType.error],
  );
  t.match(client.errors, [{ code: 'UNAUTHORIZED', records: 0 }]);
  t.equal(host.counts.unauthorized, 1);
});

t.test('in every state of a connection', async (t) => {
  const gone = (): SpillwayError => new SpillwayError('UNAUTHORIZED', 'gone');
  const codes = (client: PipeClient): string[] => client.errors.map(({ code }) => code);

  const idle = await open(new TestHost());
  idle.connection.refuse(gone());
  idle.connection.refuse(gone());
  await ended(idle);
  t.strictSame(codes(idle), ['UNAUTHORIZED'], 'idle; once');

  const half = await open(new TestHost());
  half.send(append(0).subarray(0, 20));
  await turns();
  half.connection.refuse(gone());
  await ended(half);
  t.strictSame(codes(half), ['UNAUTHORIZED'], 'in the midst of a frame');

  const claiming = new TestHost();
  let claimed = (): void => undefined;
  const { claim } = claiming.dedupe!;
  claiming.dedupe!.claim = async (...args) => {
    await new Promise<void>((resolve) => (claimed = resolve));
    return claim.apply(claiming.dedupe, args);
  };
  const early = new PipeClient(claiming);
  early.send(hello());
  await turns();
  early.connection.refuse(gone());
  claimed();
  await ended(early);
  t.strictSame([codes(early), early.welcome], [['UNAUTHORIZED'], undefined], 'before WELCOME');

  const leaving = new TestHost();
  const bye = await open(leaving);
  bye.send(append(0), encodeBye());
  await until('it is under way', () => leaving.calls.length === 1);
  bye.connection.refuse(gone());
  leaving.calls[0].durableAt(0);
  await ended(bye);
  t.strictSame([codes(bye), bye.acked], [[], 1], 'after BYE there is nothing to refuse');
});

t.test('a file of tokens that is no file does not stop the gateway', async (t) => {
  const { gateway, file, http } = await started(t, line(kept));
  const bearer = { authorization: `Bearer ${kept}` };
  const makes: Record<string, () => void> = {
    FIFO: () => execFileSync('mkfifo', [file]),
    directory: () => mkdirSync(file),
  };
  for (const [what, make] of Object.entries(makes)) {
    rmSync(file, { force: true, recursive: true });
    make();
    const complaints = gateway.complaints(50).length;
    gateway.kill('SIGHUP');
    await eventually(() => gateway.complaints(50).length > complaints, `${what}: it is logged`);
    t.equal((await ask(http, { path: '/v1/stats', headers: bearer })).status, 200, what);
    const [said] = gateway.complaints(50).slice(complaints);
    t.match(said, /option 'tokens': expected a readable file, got: it is no regular file/, what);
  }
  gateway.kill('SIGTERM');
  t.equal((await gateway.ended).code, 0);
});
