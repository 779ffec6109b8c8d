// Clients that nobody here wrote, as a person runs them: a real gateway process, a real curl, autocannon, Python. What they sent is
// read back from the log, byte for byte. The ones that have to be installed first: scripts/try-clients.sh.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import autocannon from 'autocannon';
import t from 'tap';
import { read } from '../../src/index.ts';
import { within } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = temporaryDirectory('spillway-clients-');
const dir = join(root, 'log');
const CLIENT_MS = 20_000;
const EXPECT_BYTES = 1024 * 1024;

/** The environment without our options: what the shell of a developer sets is not tried here. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SPILLWAY_')));

interface Run {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

function run(command: string, args: readonly string[], input?: Buffer): Run {
  const options = { env, timeout: CLIENT_MS, ...(input === undefined ? {} : { input }) };
  const { status, stdout, stderr } = spawnSync(command, args, options);
  return { status, stdout: stdout ?? Buffer.alloc(0), stderr: stderr?.toString() ?? '' };
}

const isThere = (command: string, ...args: string[]): boolean => run(command, args).status === 0;

async function startGateway(): Promise<{ gateway: ChildProcess; base: string }> {
  const args = [main, 'serve', '--dir', dir, '--http', '127.0.0.1:0', '--tcp', 'off', '--log-level', 'warn'];
  const gateway = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  for await (const chunk of gateway.stdout.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    said += chunk.toString();
    const match = /listening on (http:\/\/\S+)\n/.exec(said);
    if (match !== null) return { gateway, base: match[1] };
  }
  throw new Error(`the gateway ended before it listened: ${said}`);
}

const { gateway, base } = await within(startGateway(), 'the gateway listens');
t.teardown(() => {
  gateway.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});
const urlOf = (stream: string): string => `${base}/v1/streams/${stream}/records`;

async function payloadsOf(stream: string): Promise<Buffer[]> {
  const payloads: Buffer[] = [];
  for await (const { payload } of read({ dir, stream })) payloads.push(Buffer.from(payload));
  return payloads;
}

/** Lines of every kind. Above EXPECT_BYTES: curl then asks before it sends. */
const many = Array.from({ length: 6000 }, (_, i) =>
  Buffer.from(`{"i":${i}, "who":"Zoë", "pad":"${'p'.repeat(i % 400)}"}`),
);
const odd = [
  Buffer.from('{"n":12345678901234567890,"x":1.0}'),
  Buffer.from([0xff, 0xfe, 0x20, 0x00]),
  Buffer.from('end'),
];
const lines = [...many, ...odd];
const newline = Buffer.from('\n');
const body = Buffer.concat([
  ...many.flatMap((line) => [line, newline]),
  Buffer.from('\n \t\r\n'),
  odd[0],
  Buffer.from('\r\n'),
  odd[1],
  newline,
  odd[2],
]);

interface Sending {
  readonly name: string;
  readonly args: readonly string[];
  readonly input: Buffer;
  readonly expected: readonly Buffer[];
  /** Must stand in what curl -v says. */
  readonly shows: RegExp;
}

const type = ['-H', 'content-type: application/x-ndjson'];
const file = join(root, 'body.ndjson');
writeFileSync(file, body);
const pretty = Buffer.from(' {"a" : [1, 2.50]} ');
const sendings: Sending[] = [
  {
    name: 'file',
    args: [...type, '--data-binary', `@${file}`],
    input: Buffer.alloc(0),
    expected: lines,
    shows: /^> expect: 100-continue\r?$[\s\S]*^< HTTP\/1.1 100 Continue/im,
  },
  {
    name: 'gzip',
    args: [...type, '-H', 'content-encoding: gzip', '--data-binary', '@-'],
    input: gzipSync(body),
    expected: lines,
    shows: /^> content-encoding: gzip/im,
  },
  {
    name: 'chunked',
    args: [...type, '-X', 'POST', '-T', '-'],
    input: body,
    expected: lines,
    shows: /^> transfer-encoding: chunked/im,
  },
  {
    name: 'http10',
    args: ['-0', ...type, '--data-binary', '@-'],
    input: body,
    expected: lines,
    shows: /^> POST .* HTTP\/1.0/m,
  },
  {
    name: 'json',
    args: ['-H', 'content-type: application/json; charset=UTF-8', '--data-binary', '@-'],
    input: pretty,
    expected: [Buffer.from('{"a" : [1, 2.50]}')],
    shows: /charset=UTF-8/,
  },
  {
    name: 'text',
    args: ['-H', 'content-type: text/plain', '--data-binary', '@-'],
    input: pretty,
    expected: [pretty],
    shows: /^> content-type: text\/plain/im,
  },
];

t.test('curl: every way of sending stores the bytes as they came', async (t) => {
  if (!isThere('curl', '--version')) return void t.pass('curl', { skip: 'there is no curl' });
  t.ok(body.length > EXPECT_BYTES, `${body.length} bytes`);
  for (const { name, args, input, expected, shows } of sendings) {
    const { status, stdout, stderr } = run('curl', ['-sS', '-v', ...args, urlOf(`curl-${name}`)], input);
    t.equal(status, 0, `${name}: curl ends well`);
    t.match(stderr, shows, `${name}: was sent the way it means`);
    const answer = JSON.parse(stdout.toString()) as Record<string, unknown>;
    t.match(answer, { accepted: expected.length, durable: true }, name);
    const stored = await payloadsOf(`curl-${name}`);
    t.equal(stored.length, expected.length, `${name}: ${expected.length} records`);
    t.equal(Buffer.compare(Buffer.concat(stored), Buffer.concat(expected)), 0, `${name}: byte for byte`);
    t.ok(
      stored.every((payload, i) => payload.length === expected[i].length),
      `${name}: cut where the lines end`,
    );
  }
});

t.test('curl: what it says of its own accord is refused with what to add', async (t) => {
  if (!isThere('curl', '--version')) return void t.pass('curl', { skip: 'there is no curl' });
  const { stdout } = run('curl', ['-sS', '-d', '{"a":1}', urlOf('curl-form')]);
  t.match(JSON.parse(stdout.toString()), {
    error: 'UNSUPPORTED_MEDIA_TYPE',
    message: /curl sends it unless told otherwise by -H/,
  });
  t.strictSame(await payloadsOf('curl-form'), []);
});

t.test('curl: a body that will be refused is not asked for', async (t) => {
  if (!isThere('curl', '--version')) return void t.pass('curl', { skip: 'there is no curl' });
  const args = ['-sS', '-v', '-H', 'content-type: image/png', '--data-binary', `@${file}`, urlOf('curl-image')];
  const { stderr } = run('curl', args);
  t.match(stderr, /^> expect: 100-continue/im, 'curl asks');
  t.match(stderr, /^< HTTP\/1.1 415/m);
  t.notMatch(stderr, /^< HTTP\/1.1 100/m, 'and is told no');
});

t.test('autocannon: as many different records are stored as requests were answered 200', async (t) => {
  const records = 2000;
  const result = await autocannon({
    url: urlOf('autocannon'),
    connections: 64,
    amount: records,
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"id":"[<id>]"}',
    idReplacement: true,
  });
  t.match(result, { '2xx': records, non2xx: 0, errors: 0, timeouts: 0 });
  const stored = (await payloadsOf('autocannon')).map((payload) => payload.toString());
  t.equal(new Set(stored).size, records);
  t.equal(stored.length, records);
  t.ok(
    stored.every((text) => /^\{"id":"[^"[<]+"\}$/.test(text)),
    'each with the id of its request',
  );
});

const python = `
import json, sys
client, url = sys.argv[1:]
body = sys.stdin.buffer.read()
headers = {'Content-Type': 'application/x-ndjson'}
if client == 'urllib':
    from urllib.request import Request, urlopen
    answer = json.load(urlopen(Request(url, data=body, headers=headers)))
elif client == 'requests':
    import requests
    answer = requests.post(url, data=iter(body.splitlines(True)), headers=headers).json()
elif client == 'httpx':
    import httpx
    answer = httpx.post(url, content=body, headers=headers).json()
print(json.dumps(answer))
`;

for (const client of ['urllib', 'requests', 'httpx']) {
  t.test(`Python ${client}`, async (t) => {
    if (!isThere('python3', '-c', `import ${client}`)) {
      return void t.pass(client, { skip: `there is no python3 with ${client}` });
    }
    const { status, stdout, stderr } = run('python3', ['-c', python, client, urlOf(client)], body);
    t.equal(status, 0, stderr);
    t.match(JSON.parse(stdout.toString()), { accepted: lines.length, durable: true });
    const stored = await payloadsOf(client);
    t.equal(Buffer.compare(Buffer.concat(stored), Buffer.concat(lines)), 0, 'byte for byte');
    t.equal(stored.length, lines.length);
  });
}

t.test('SIGTERM after all of them: everything is answered, exit 0', async (t) => {
  const ended = once(gateway, 'exit');
  gateway.kill('SIGTERM');
  t.strictSame(await within(ended, 'the gateway ends', CLIENT_MS), [0, null]);
});
