// Proof `gateway-drain`: SIGTERM under load. 64 HTTP clients on kept connections, some of them in the midst of a slow chunked body
// that the gateway had asked for (100 Continue), and producers over TCP and a Unix socket. What the gateway accepted is answered:
// 200 and in the log, or 503 DRAINING and not in the log; what got no answer at all, as the connection was closed before it was
// read, is not in the log either. Exit 0, long before the deadline, and it says so.
//
// And with bodies that never end and a deadline that is short: exit 1, at the deadline, and it says how many requests are left.
//
// It failed, as it should, with each of these planted: requests cut at the signal, a deadline that is not kept, idle connections
// that are waited for, answers that keep their connection, an exit of 0 whatever is left.

import http from 'node:http';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/base/clock.ts';
import type { Client } from '../../src/client/client.ts';
import { connect } from '../../src/client/connect.ts';
import { Requests, runHttpClient, runProducer, Whereabouts } from '../support/gateway-clients.ts';
import { GatewayProcess, type Addresses, type Ended } from '../support/gateway-process.ts';
import { Raw, recordsOf } from '../support/gateway-talk.ts';
import { GatewayWitness, payloadOf, streamOf } from '../support/gateway-witness.ts';
import { until, within } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';
import { repeatCommand, type Claim, type ProofContext } from './proof.ts';

const QUICK = { drains: 2, late: 1 };
const FULL = { drains: 25, late: 5 };
const HTTP_CLIENTS = 64;
const SLOW_CLIENTS = 6;
const FIRST_SLOW = 500;
const FIRST_PRODUCER = 1000;
const DRAIN_MS = 20_000;
/** A drain that takes longer waited for something that nobody would have answered. */
const PROMPT_MS = 8000;
const SHORT_DRAIN_MS = 400;
/** From the deadline to the exit: closing log and threads, on a busy machine. */
const CLOSES_WITHIN_MS = 8000;
const LIMIT_MS = 40_000;

/** A body in pieces that go one by one, each once the one before is with the kernel; asked for before the first. */
class SlowBody {
  readonly client: number;
  readonly #raw: Raw;
  readonly #witness: GatewayWitness;
  readonly #n: number;
  readonly #records: number;

  private constructor(client: number, raw: Raw, witness: GatewayWitness, n: number, records: number) {
    this.client = client;
    this.#raw = raw;
    this.#witness = witness;
    this.#n = n;
    this.#records = records;
  }

  /** Resolves once the gateway has asked for the body. */
  static async begin(port: number, client: number, witness: GatewayWitness, records: number): Promise<SlowBody> {
    const raw = await Raw.connect(port);
    const n = witness.take(client, records);
    raw.write(
      `POST ${recordsOf(streamOf(client))} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const { status } = await raw.answer(LIMIT_MS);
    if (status !== 100) throw new Error(`asked ${status} for a slow body`);
    const body = new SlowBody(client, raw, witness, n, records);
    body.#line(0);
    return body;
  }

  /** The rest, and the answer. @returns what was wrong */
  async finish(turn: () => Promise<unknown>): Promise<string | undefined> {
    for (let i = 1; i < this.#records; i++) {
      await turn();
      this.#line(i);
    }
    this.#raw.write('0\r\n\r\n');
    try {
      const { status, text, headers } = await this.#raw.answer(LIMIT_MS);
      if (status !== 200) return `a slow body that was asked for: ${status} ${text}`;
      const { firstOffset, lastOffset } = JSON.parse(text) as { firstOffset: number; lastOffset: number };
      this.#witness.answered(this.client, this.#n, this.#records, firstOffset, lastOffset);
      return headers['connection'] === 'close' ? undefined : 'a slow body: its connection is kept while draining';
    } catch (error) {
      return `a slow body that was asked for: ${(error as Error).message}`;
    } finally {
      this.#raw.destroy();
    }
  }

  /** It never ends, and nothing of it may be stored. */
  abandon(): void {
    this.#witness.refused(this.client, this.#n, this.#records, 'its body never ended');
  }

  destroy(): void {
    this.#raw.destroy();
  }

  #line(i: number): void {
    const line = `${payloadOf(this.client, this.#n + i)}\n`;
    this.#raw.write(`${line.length.toString(16)}\r\n${line}\r\n`);
  }
}

interface Sums {
  stored: number;
  refused: number;
  unanswered: number;
  slow: number;
  longestMs: number;
}

/** One gateway from start to exit, under load. */
class Drain {
  readonly violations: string[] = [];
  readonly #witness = new GatewayWitness();
  readonly #where = new Whereabouts();
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: HTTP_CLIENTS });
  readonly #sums: Sums;
  readonly #seed: number;
  readonly #mostAnswers: number;
  readonly #top = temporaryDirectory('spillway-gateway-drain-');
  readonly #clients: Promise<unknown>[] = [];
  readonly #connections: Client[] = [];
  #gateway: GatewayProcess | undefined;
  #answers = 0;
  #unanswered = 0;
  #stopped = false;
  #isLate = false;

  /** @param mostAnswers before the signal, about */
  constructor(seed: number, sums: Sums, mostAnswers: number) {
    this.#mostAnswers = mostAnswers;
    this.#seed = seed;
    this.#sums = sums;
  }

  /** @param endless bodies that never end; with some of them the deadline is short, and is not met */
  async run(endless: number): Promise<void> {
    try {
      await this.#run(endless);
    } catch (error) {
      this.violations.push((error as Error).message);
    } finally {
      this.#where.end();
      this.#agent.destroy();
      for (const c of this.#connections) void c.close().catch(() => undefined);
      this.#gateway?.kill('SIGKILL');
      rmSync(this.#top, { recursive: true, force: true });
    }
  }

  async #run(endless: number): Promise<void> {
    const random = seededRandom(this.#seed);
    const dir = join(this.#top, 'log');
    const unix = join(this.#top, 'socket');
    this.#isLate = endless > 0;
    const drainMs = endless > 0 ? SHORT_DRAIN_MS : DRAIN_MS;
    const gateway = new GatewayProcess({
      dir,
      unix,
      flags: ['--segment-bytes', '4MiB', '--drain-ms', String(drainMs)],
    });
    this.#gateway = gateway;
    const at = await gateway.listens();
    this.#where.is(at.http);
    this.#load();
    await this.#produce(at, unix);
    // Connections that ask for nothing, before and after a first request: nobody may wait for them.
    const idle = [await Raw.connect(at.http), await Raw.connect(at.http), await Raw.connect(at.tcp)];
    idle[1].write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await idle[1].answer();
    const slow: SlowBody[] = [];
    for (let i = 0; i < SLOW_CLIENTS; i++)
      slow.push(await SlowBody.begin(at.http, FIRST_SLOW + i, this.#witness, 5 + i));
    const never: SlowBody[] = [];
    for (let i = 0; i < endless; i++) never.push(await SlowBody.begin(at.http, FIRST_SLOW + 100 + i, this.#witness, 3));
    await until(() => this.#answers > 100 + random() * this.#mostAnswers, 'some load', LIMIT_MS);

    const startedMs = performance.now();
    this.#stopped = true;
    gateway.kill('SIGTERM');
    await within(gateway.logs('draining: nothing new is taken'), 'it drains', LIMIT_MS);
    // While it drains: each line goes when the gateway has had a turn, as a connection attempt shows.
    const turn = (): Promise<unknown> =>
      Raw.connect(at.http).then(
        (raw) => raw.destroy(),
        () => undefined,
      );
    const finished = endless > 0 ? [] : slow.map((body) => body.finish(turn));
    for (const body of endless > 0 ? [...slow, ...never] : never) body.abandon();
    for (const wrong of await Promise.all(finished)) if (wrong !== undefined) this.violations.push(wrong);
    const ended = await within(gateway.ended, 'the gateway ends', LIMIT_MS);
    this.#sums.slow += finished.length;
    for (const raw of idle) raw.destroy();
    for (const body of [...slow, ...never]) body.destroy();

    this.#where.end();
    this.#agent.destroy();
    await within(Promise.all(this.#clients), 'the clients are done', LIMIT_MS);
    this.#sums.unanswered += this.#unanswered;
    this.#judge(ended, ended.atMs - startedMs, endless === 0 ? 0 : endless + slow.length);
    await this.#witness.check(dir, 'after the drain');
    this.violations.push(...this.#witness.violations);
    this.#sums.stored += this.#witness.answeredRecords;
    // Also what was neither answered nor refused is not there, unless its client was told that it may be.
    if (endless === 0 && this.#witness.found !== this.#witness.answeredRecords)
      this.violations.push(
        `${this.#witness.found} records are in the log, of which ${this.#witness.answeredRecords} were answered`,
      );
  }

  #load(): void {
    for (let c = 0; c < HTTP_CLIENTS; c++) {
      const requests = new Requests(c, this.#witness, this.#seed, c % 4 === 0);
      const client = runHttpClient(
        requests,
        this.#where,
        this.#agent,
        this.#witness,
        ({ n, records }, { status, body, closes }) => {
          this.#answers++;
          if (status === 200) return;
          if (status !== 503 || body['error'] !== 'DRAINING')
            this.violations.push(`client ${c}: ${status} ${JSON.stringify(body)}`);
          if (!closes) this.violations.push(`client ${c}: refused, and its connection is kept`);
          this.#witness.refused(c, n, records, 'was refused');
          this.#sums.refused++;
        },
        () => this.#unanswered++,
      );
      this.#clients.push(client);
    }
  }

  async #produce(at: Addresses, unix: string): Promise<void> {
    for (const [i, url] of [`tcp://127.0.0.1:${at.tcp}`, `unix:${unix}`, `tcp://127.0.0.1:${at.tcp}`].entries()) {
      const connection = await connect(url, { giveUpMs: 1000 });
      this.#connections.push(connection);
      const client = FIRST_PRODUCER + i;
      const onRejected = (n: number, records: number, error: { code?: string; message: string }): void => {
        if (error.code !== 'DISCONNECTED' && error.code !== 'CLOSED')
          this.violations.push(`producer ${i}: ${records} records from ${n} on were rejected: ${error.message}`);
        // It may not know, but a gateway that had its time has to: what it took it acknowledged before it closed the connection.
        if (!this.#isLate) this.#witness.refused(client, n, records, `was rejected with ${error.code}`);
      };
      this.#clients.push(
        runProducer(
          connection,
          client,
          this.#witness,
          () => this.#stopped,
          () => this.#answers++,
          onRejected,
        ),
      );
    }
  }

  /** @param left requests that cannot be answered */
  #judge({ code, signal, lines }: Ended, tookMs: number, left: number): void {
    this.#sums.longestMs = Math.max(this.#sums.longestMs, Math.round(tookMs));
    const said = lines.at(-1);
    const exit = left === 0 ? 0 : 1;
    if (code !== exit)
      this.violations.push(
        `exit ${code ?? signal} after ${tookMs.toFixed(0)} ms, expected ${exit}; it said ${JSON.stringify(lines.slice(-3))}`,
      );
    // On a busy machine a short deadline may come before others are answered too; they know.
    const most = left === 0 ? 0 : left + this.#unanswered;
    const told = said?.requests ?? -1;
    if (told < left || told > most)
      this.violations.push(`it says ${JSON.stringify(said)}, expected ${left} to ${most} requests left`);
    if (left === 0 && !/everything that was accepted is answered/.test(said?.msg ?? ''))
      this.violations.push(`it says '${said?.msg}'`);
    if (left > 0 && !/drainMs 400 with requests that were not answered/.test(said?.msg ?? ''))
      this.violations.push(`it says '${said?.msg}'`);
    const [soonest, latest] = left === 0 ? [0, PROMPT_MS] : [SHORT_DRAIN_MS, SHORT_DRAIN_MS + CLOSES_WITHIN_MS];
    if (tookMs < soonest || tookMs > latest)
      this.violations.push(`it took ${tookMs.toFixed(0)} ms, expected ${soonest} to ${latest}`);
  }
}

export async function prove({ full, seed }: ProofContext): Promise<readonly Claim[]> {
  const plan = full ? FULL : QUICK;
  const tryAll = async (times: number, endless: number): Promise<{ violations: string[]; sums: Sums }> => {
    const sums: Sums = { stored: 0, refused: 0, unanswered: 0, slow: 0, longestMs: 0 };
    const violations: string[] = [];
    for (let i = 0; i < times && violations.length === 0; i++) {
      const drain = new Drain(seed + i, sums, full ? 2000 : 200);
      await drain.run(endless === 0 ? 0 : 1 + (i % endless));
      violations.push(...drain.violations.map((v) => `drain ${i}: ${v}; ${repeatCommand('gateway-drain', seed)}`));
    }
    return { violations, sums };
  };
  const inTime = await tryAll(plan.drains, 0);
  const late = await tryAll(plan.late, 3);
  return [
    {
      claim: `SIGTERM under ${HTTP_CLIENTS} HTTP clients, slow bodies and producers: every accepted request is answered, exit 0 within the deadline`,
      tried: plan.drains,
      unit: 'drains',
      atLeast: plan.drains,
      violations: inTime.violations,
      figures: {
        'records answered': inTime.sums.stored,
        'requests refused with 503': inTime.sums.refused,
        'requests that found nobody any more': inTime.sums.unanswered,
        'slow bodies finished while draining': inTime.sums.slow,
        'longest, ms': inTime.sums.longestMs,
      },
    },
    {
      claim: 'with bodies that never end it exits with 1 at the deadline, and says how many requests are left',
      tried: plan.late,
      unit: 'drains',
      atLeast: plan.late,
      violations: late.violations,
      figures: { 'longest, ms': late.sums.longestMs, 'records answered': late.sums.stored },
    },
  ];
}
