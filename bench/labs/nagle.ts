// lab:nagle — why a request of two small writes takes 40 ms, and what takes that away.
//
// Question     A client sends a request as two small writes (a head, a body), then waits for the answer. What does it wait for?
// Method       A server that answers once it has the whole request, and a client, over TCP on loopback. One connection per variant, in
//              interleaved rounds: Nagle's algorithm on (what a plain socket of node has) and two writes; TCP_NODELAY and two
//              writes; Nagle's algorithm on and both parts in one write. Each request is timed from its first write to its answer.
// Expected     With Nagle on, the second write stays with the sender until the first is acknowledged; the receiver has nothing to send
//              yet and delays that acknowledgement (40 ms on Linux): p50 about 40 ms. The two others: well below a millisecond.
// Refuted by   no stall in the first, or a stall in one of the others.

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { median, quantile, spread } from '../lib/stats.ts';
import { parseLabArguments, runLab, type Lab } from './frame.ts';

const HEAD = Buffer.from('HEAD');
const BODY = Buffer.alloc(60, 'b');
const ANSWER = Buffer.from('OK');
const REQUEST_BYTES = HEAD.length + BODY.length;
const STALL_MS = 30;
const SHARE = 0.1;
/** A variant of a round ends here, whatever is left of it. */
const MAX_ROUND_MS = 5000;

const variants = [
  { name: 'Nagle, two writes', noDelay: false, joined: false },
  { name: 'TCP_NODELAY, two writes', noDelay: true, joined: false },
  { name: 'Nagle, one joined write', noDelay: false, joined: true },
] as const;
type Variant = (typeof variants)[number];

async function startServer(): Promise<Server> {
  const server = createServer((socket) => {
    let bytes = 0;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      for (bytes += chunk.length; bytes >= REQUEST_BYTES; bytes -= REQUEST_BYTES) socket.write(ANSWER);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

interface Answers {
  /** Bytes of answers so far. */
  bytes: number;
  came: () => void;
}

/** One request: two writes, or one, and the answer. */
async function ask(socket: Socket, joined: boolean, answers: Answers): Promise<number> {
  const wanted = answers.bytes + ANSWER.length;
  const startMs = performance.now();
  if (joined) socket.write(Buffer.concat([HEAD, BODY]));
  else {
    socket.write(HEAD);
    socket.write(BODY);
  }
  while (answers.bytes < wanted) await new Promise<void>((resolve) => (answers.came = resolve));
  return performance.now() - startMs;
}

async function round(port: number, { noDelay, joined }: Variant, requests: number): Promise<number[]> {
  const socket = connect({ port, host: '127.0.0.1', noDelay });
  const answers: Answers = { bytes: 0, came: () => undefined };
  socket.on('data', (chunk: Buffer) => {
    answers.bytes += chunk.length;
    answers.came();
  });
  await once(socket, 'connect');
  const ms: number[] = [];
  const untilMs = performance.now() + MAX_ROUND_MS;
  while (ms.length < requests && performance.now() < untilMs) ms.push(await ask(socket, joined, answers));
  socket.destroy();
  return ms;
}

interface Measured {
  readonly name: string;
  readonly asked: number;
  readonly answered: number;
  /** Each round's own. */
  readonly p50Ms: readonly number[];
  readonly p99Ms: readonly number[];
  readonly all: readonly number[];
}

async function measure({ report }: Lab, rounds: number, requests: number): Promise<Measured[]> {
  const server = await startServer();
  const { port } = server.address() as AddressInfo;
  const times = variants.map((): number[][] => []);
  try {
    for (let r = 0; r < rounds; r++) {
      report.progress(`round ${r + 1} of ${rounds}`);
      for (const [i, variant] of variants.entries()) times[i].push(await round(port, variant, requests));
    }
  } finally {
    server.close();
  }
  return variants.map(({ name }, i) => ({
    name,
    asked: rounds * requests,
    answered: times[i].reduce((sum, t) => sum + t.length, 0),
    p50Ms: times[i].map((t) => quantile(t, 0.5)),
    p99Ms: times[i].map((t) => quantile(t, 0.99)),
    all: times[i].flat(),
  }));
}

async function body(lab: Lab, rounds: number, requests: number): Promise<void> {
  const { report } = lab;
  const measured = await measure(lab, rounds, requests);
  report.table(
    ['variant', 'requests', 'p50 ms', 'p50 of rounds', 'p99 ms', 'max ms'],
    measured.map((m) => {
      const { min, max } = spread(m.p50Ms);
      const range = `${min.toFixed(3)} … ${max.toFixed(3)}`;
      return [m.name, m.answered, median(m.p50Ms), range, median(m.p99Ms), Math.max(...m.all)];
    }),
  );
  const percentiles = Array.from({ length: 101 }, (_, i) => i);
  lab.plot('latency', {
    title: 'lab:nagle: from the first write of a request to its answer',
    x: 'percent of requests that took at most so long',
    y: 'ms',
    series: measured.map((m) => ({
      name: m.name,
      points: percentiles.map((p) => [p, quantile(m.all, p / 100)] as const),
    })),
    levels: [{ name: 'the delayed acknowledgement of Linux, 40 ms', y: 40 }],
  });
  report.results = measured.map(({ all: _all, ...rest }) => rest);
  const [nagle, ...others] = measured;
  const floor = median(nagle.p50Ms);
  report.measured(`${nagle.name}: p50 ms`, floor >= STALL_MS, floor, `≥ ${STALL_MS}: the stall`);
  for (const m of others) {
    const p50 = median(m.p50Ms);
    report.measured(`${m.name}: p50 ms`, p50 < STALL_MS, p50, `< ${STALL_MS}: no stall`);
    report.measured(`${m.name}: of the first`, p50 / floor <= SHARE, p50 / floor, `≤ ${SHARE}`);
  }
  for (const m of measured) report.exact(`${m.name}: answered`, m.answered === m.asked, m.answered, `${m.asked} asked`);
}

await runLab(
  {
    name: 'nagle',
    question: 'A request is two small writes, then a wait for the answer. What does it wait for?',
    method:
      'Client and server over TCP on loopback: Nagle and two writes; TCP_NODELAY and two writes; Nagle and one joined write.',
    expected: "The first waits for the receiver's delayed acknowledgement, 40 ms on Linux; the others do not.",
    refutedBy: 'No stall in the first, or one in another.',
  },
  () => parseLabArguments('nagle', ['rounds', 'requests']),
  (a) => {
    const rounds = a.numbers.rounds ?? (a.smoke ? 1 : 5);
    const requests = a.numbers.requests ?? (a.smoke ? 10 : 50);
    return {
      parameters: { rounds, requests, headBytes: HEAD.length, bodyBytes: BODY.length },
      targets: [
        `Nagle and two writes: p50 ≥ ${STALL_MS} ms`,
        `the two others: p50 < ${STALL_MS} ms, and ≤ ${SHARE} of the first`,
        'every request is answered',
      ],
      body: (lab) => body(lab, rounds, requests),
    };
  },
);
