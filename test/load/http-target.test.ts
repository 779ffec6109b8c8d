// The generator against real servers over HTTP, and against a log in this process.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { httpTarget } from '../../src/load/http-target.ts';
import { resolveLoadOptions, type LoadOptions } from '../../src/load/options.ts';
import { planOf, runLoad } from '../../src/load/run.ts';
import { read } from '../../src/pipeline/read.ts';
import { temporaryDirectory } from '../support/modes.ts';

interface Seen {
  readonly url: string;
  readonly method: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

type Answer = (res: ServerResponse, seen: Seen, n: number) => void;

async function serve(t: Test, answer: Answer): Promise<{ url: string; seen: Seen[]; sockets: () => number }> {
  const seen: Seen[] = [];
  let sockets = 0;
  const server: Server = createServer((req, res) => {
    const parts: Buffer[] = [];
    req.on('data', (part: Buffer) => parts.push(part));
    req.on('end', () => {
      const one = { url: req.url!, method: req.method!, headers: req.headers, body: Buffer.concat(parts) };
      seen.push(one);
      answer(res, one, seen.length - 1);
    });
  });
  // The generator first looks whether anybody is there.
  server.on('request', (req: IncomingMessage) => {
    const { socket } = req as { socket: { counted?: boolean } };
    if (socket.counted !== true) sockets++;
    socket.counted = true;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, seen, sockets: () => sockets };
}

function options(values: Record<string, unknown>): LoadOptions {
  return resolveLoadOptions(new Map(Object.entries(values)));
}

const accepted: Answer = (res, { body }) => {
  const records = body
    .toString()
    .split('\n')
    .filter((l) => l !== '').length;
  res.end(JSON.stringify({ accepted: records, firstOffset: 0, lastOffset: records - 1, durable: true }));
};

t.test('requests are what the gateway takes: path, type, token, bytes', async (t) => {
  const { url, seen } = await serve(t, accepted);
  const one = await runLoad(
    options({ target: url, rate: 200, seconds: 0.1, recordBytes: 32, stream: 'a.b', token: 'secret' }),
  );
  t.equal(one.accepted.requests, 20, JSON.stringify(one.refused));
  t.equal(one.accepted.records, 20);
  t.equal(seen.length, 20);
  for (const { url: path, method, headers, body } of seen) {
    t.match({ path, method }, { path: '/v1/streams/a.b/records', method: 'POST' });
    t.match(headers, {
      'content-type': 'application/octet-stream',
      'content-length': '32',
      authorization: 'Bearer secret',
      connection: 'keep-alive',
    });
    t.match(body.toString(), /^[A-Za-z0-9_-]{32}$/);
  }
  t.notMatch(JSON.stringify(one), /secret/, 'the report does not tell the token');
  t.ok(new Set(seen.map((s) => s.body.toString())).size > 10, 'bodies differ');
  seen.length = 0;
  const many = await runLoad(options({ target: url, rate: 2000, perRequest: 50, seconds: 0.2, recordBytes: 9 }));
  t.match(many.accepted, { requests: 8, records: 400 });
  t.equal(many.offered.records, 400);
  for (const { headers, body } of seen) {
    t.match(headers, { 'content-type': 'application/x-ndjson', 'content-length': '500' });
    t.notOk('authorization' in headers);
    t.match(body.toString(), /^([A-Za-z0-9_-]{9}\n){50}$/);
  }
  const again = await serve(t, accepted);
  await runLoad(options({ target: again.url, rate: 2000, perRequest: 50, seconds: 0.2, recordBytes: 9 }));
  t.same(
    again.seen.map((s) => s.body.toString()).sort(),
    seen.map((s) => s.body.toString()).sort(),
    'the same seed sends the same',
  );
});

t.test('never more connections than allowed; a slow server is the limit, and is said to be', async (t) => {
  const { url, sockets } = await serve(t, (res, seen, n) => setTimeout(() => accepted(res, seen, n), 50));
  const report = await runLoad(options({ target: url, rate: 200, seconds: 1, connections: 3 }));
  t.equal(sockets(), 3);
  // On a busy machine this process, which is server and generator, may be the limit itself.
  t.not(report.limit, 'none', report.verdict);
  t.ok(report.unsent > 0 && report.accepted.requests <= 70, `${report.accepted.requests} of 200`);
  t.ok(report.latencyMs.max > 400, `they waited for their turn: ${report.latencyMs.max} ms`);
});

t.test('a generator that is kept busy blames itself', async (t) => {
  const { url } = await serve(t, (res, seen, n) => {
    // The server lives in this thread: what it burns, the generator lacks.
    const untilMs = performance.now() + 30;
    while (performance.now() < untilMs);
    accepted(res, seen, n);
  });
  const report = await runLoad(options({ target: url, rate: 100, seconds: 0.5, connections: 64 }));
  t.equal(report.limit, 'generator', report.verdict);
});

t.test('refusals and failures by code', async (t) => {
  const answers: Answer[] = [
    (res) => res.writeHead(429).end(JSON.stringify({ error: 'BACKLOG_FULL', message: 'm', retryable: true })),
    (res) => res.writeHead(503).end('busy'),
    (res) => res.writeHead(500).end(JSON.stringify({ error: 'no such <code>' })),
    (res) => res.writeHead(302, { location: '/' }).end(),
    (res) => res.end(JSON.stringify({ accepted: 0 })),
    (res) => res.end(JSON.stringify({ accepted: 2 })),
    (res) => void res.socket!.destroy(),
    (res) => {
      res.writeHead(200, { 'content-length': 100 });
      res.write('{', () => res.socket!.destroy());
    },
    (res) => res.end('a server that says nothing of records'),
    (res) => res.end(),
    (res) => res.writeHead(401).end('x'.repeat(100_000)),
  ];
  const { url } = await serve(t, (res, seen, n) => answers[n](res, seen, n));
  const report = await runLoad(options({ target: url, rate: 50, seconds: 0.22, connections: 1 }));
  t.same(report.refused, {
    BACKLOG_FULL: 1,
    HTTP_503: 1,
    HTTP_500: 1,
    HTTP_302: 1,
    WRONG_ANSWER: 2,
    ECONNRESET: 2,
    HTTP_401: 1,
  });
  t.equal(report.accepted.requests, 2, 'a bare server is taken at its status');
});

t.test('nobody there, or no such address', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  await t.rejects(runLoad(options({ target: `http://127.0.0.1:${port}` })), {
    code: 'DISCONNECTED',
    message: /cannot reach http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/,
  });
  await t.rejects(runLoad(options({ target: `tcp://127.0.0.1:${port}`, connections: 2 })), { code: 'DISCONNECTED' });
  const size = { perRequest: 1, recordBytes: 1, connections: 1, stream: 's', token: undefined, seed: 1 };
  for (const target of ['http://', 'http://a/b', 'http://a?x', 'http://u:p@a', 'http://a:99999']) {
    await t.rejects(httpTarget(target, size), { code: 'INVALID_OPTION', message: /option 'target'/ }, target);
  }
  await t.rejects(runLoad(options({ target: 'ftp://a' })), { code: 'INVALID_OPTION', message: /or embedded, got/ });
});

t.test('an interrupt ends a run', async (t) => {
  const abort = new AbortController();
  const { url } = await serve(t, (res, seen, n) => {
    if (n === 5) abort.abort();
    accepted(res, seen, n);
  });
  const report = await runLoad(options({ target: url, rate: 100, seconds: 3600 }), abort.signal);
  t.equal(report.interrupted, true);
  t.ok(report.seconds < 60);
});

t.test('embedded: what is reported accepted is in the log', async (t) => {
  const root = temporaryDirectory('spillway-load-');
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const dir = join(root, 'log');
  const report = await runLoad(
    options({ target: 'embedded', dir, rate: 2000, perRequest: 10, seconds: 0.5, pattern: 'poisson', stream: 'x' }),
  );
  t.ok(report.accepted.requests > 50, `${report.accepted.requests} requests`);
  t.equal(report.accepted.records, report.accepted.requests * 10);
  t.strictSame(report.refused, {});
  let records = 0;
  for await (const { payload } of read({ dir, stream: 'x' })) {
    if (!/^[A-Za-z0-9_-]{256}$/.test(Buffer.from(payload).toString())) t.fail('a record differs');
    records++;
  }
  t.equal(records, report.accepted.records);
  await t.rejects(runLoad(options({ target: 'embedded', dir: '/dev/null' })), { code: 'DIR_UNUSABLE' });
});

t.test('options: bounded, and refused by name', async (t) => {
  const target = 'embedded';
  const cases: [Record<string, unknown>, RegExp][] = [
    [{}, /^option 'target': expected a non-empty text, got undefined/],
    [{ target: 'off' }, /^option 'target'/],
    [{ target, rate: 0 }, /^option 'rate'/],
    [
      { target, rate: 1_000_000, seconds: 1000 },
      /^option 'seconds': expected at most 100000000 requests in all, got 1000000000$/,
    ],
    [{ target, seconds: 1e9 }, /^option 'seconds'/],
    [{ target, perRequest: 1_000_000 }, /^option 'perRequest': expected requests of at most/],
    [{ target, pattern: 'trace' }, /^option 'trace': expected a file, as the pattern is trace, got 'off'$/],
    [{ target, trace: 'a.csv' }, /^option 'pattern': expected 'trace', as there is a trace, got 'constant'$/],
    [{ target, pattern: 'sine' }, /^option 'pattern': expected one of constant, poisson, onoff, trace/],
    [{ target, stream: '../x' }, /^stream name/],
    [{ target, connections: 0 }, /^option 'connections'/],
  ];
  for (const [values, message] of cases) {
    try {
      options(values);
      t.fail(JSON.stringify(values));
    } catch (error) {
      t.ok(error instanceof SpillwayError);
      t.match((error as Error).message, message);
    }
  }
  const { arrivals, endMs } = planOf(options({ target, rate: 1000, perRequest: 10, seconds: 2 }));
  let n = 0;
  while (arrivals() !== undefined) n++;
  t.strictSame([n, endMs], [200, 2000], 'the rate is of records');
});
