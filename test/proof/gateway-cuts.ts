// Proof `gateway-cuts`: the connection is cut between the commit and its answer, and everything is sent again: by plain HTTP clients
// under their Idempotency-Key, by the client of this package over HTTP and over the framed protocol. Nothing is lost, nothing is
// there twice, and every answer names where it is. A proxy of our own (gateway-cutter.ts) stands between: it lets the gateway
// answer, and then cuts before the answer, in the midst of it, or, as other cases, in the midst of the request or right behind it.
//
// Now and then the gateway is killed at the moment of a cut and started again, so that what is sent again is recognised by what the
// log remembers, not the process.
//
// That a cut was between commit and answer is not guessed: the proxy has seen a 200 (an ACK), and under a key the client has to be
// told "duplicate" afterwards.
//
// It failed, as it should, with each of these planted: keys or producers that are not remembered, a restart that does not read the
// identities back, identities that do not count the records of a request, a claim that does not wait for the one before.

import http from 'node:http';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/base/clock.ts';
import type { Client } from '../../src/client/client.ts';
import { connect } from '../../src/client/connect.ts';
import { Requests, runHttpClient, runProducer, Whereabouts } from '../support/gateway-clients.ts';
import { Cutter, type Cut, type Done, type Protocol } from '../support/gateway-cutter.ts';
import { GatewayProcess } from '../support/gateway-process.ts';
import { GatewayWitness } from '../support/gateway-witness.ts';
import { until, within } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';
import { repeatCommand, type Claim, type ProofContext } from './proof.ts';

/** Cuts between commit and answer per protocol, other cuts, restarts per protocol. */
const QUICK = { http: 24, framed: 16, others: 6, restarts: 1 };
const FULL = { http: 500, framed: 500, others: 150, restarts: 20 };
const HTTP_CLIENTS = 12;
const FRAMED_CLIENTS = 8;
const FIRST_PRODUCER = 1000;
const LIMIT_MS = { quick: 60_000, full: 540_000 };
const SETTLES_WITHIN_MS = 30_000;
/** On a busy machine a durable write may take seconds: that is no reason to refuse anybody here. */
const PATIENT = ['--shed-age-ms', '0', '--max-block-ms', '60000'];

/** Half of the exchanges go through, and one after this many that did not: clients wait longer each time that they make no progress. */
const MAX_IN_A_ROW = 3;

function planner(random: () => number): () => Cut | undefined {
  let inARow = 0;
  return () => {
    const choice = random();
    if (choice >= 0.5 || ++inARow > MAX_IN_A_ROW) {
      inARow = 0;
      return undefined;
    }
    if (choice < 0.3) return { where: 'answer', part: 0 };
    if (choice < 0.4) return { where: 'answer', part: random() };
    if (choice < 0.45) return { where: 'request', part: random() };
    return { where: 'sent', part: 1 };
  };
}

export async function prove({ full, seed }: ProofContext): Promise<readonly Claim[]> {
  const plan = full ? FULL : QUICK;
  const random = seededRandom(seed);
  const top = temporaryDirectory('spillway-gateway-cuts-');
  const dir = join(top, 'log');
  const unix = join(top, 'socket');
  const witness = new GatewayWitness();
  const where = new Whereabouts();
  // A proxy for each producer: in each line of attempts some go through.
  const proxies: Cutter[] = [];
  for (let i = 0; i < FRAMED_CLIENTS; i++) proxies.push(await Cutter.listen('framed'));
  proxies.push(await Cutter.listen('http'));
  const shared = await Cutter.listen('http');
  proxies.push(shared);
  const agent = new http.Agent({ keepAlive: true, maxSockets: HTTP_CLIENTS });
  const violations: string[] = [];
  const say = (wrong: string): void => void violations.push(`${wrong}; ${repeatCommand('gateway-cuts', seed)}`);
  const counts = { http: 0, framed: 0, others: 0, duplicates: 0 };
  const restarts = { http: 0, framed: 0 };
  /** Keys whose first answer was lost: their next answer has to say so. */
  const committed = new Set<string>();
  let restart = (_protocol: Protocol): void => undefined;
  let stopped = false;

  const onCut = ({ where: place, protocol, committed: isCommitted, key }: Done): void => {
    if (place !== 'answer') counts.others++;
    else if (isCommitted) {
      counts[protocol]++;
      if (key !== undefined) committed.add(key);
      const due = Math.floor((counts[protocol] * (plan.restarts + 1)) / (plan[protocol] + 1));
      if (due > restarts[protocol] && restarts[protocol] < plan.restarts) restart(protocol);
      // These are far quicker than the others, and nobody learns anything from more of them.
      if (counts.http >= plan.http) {
        for (const proxy of proxies) if (proxy.protocol === 'http') proxy.plan = () => undefined;
        where.end();
      }
    }
  };

  let gateway: GatewayProcess | undefined;
  const start = async (): Promise<void> => {
    const flags = ['--segment-bytes', '4MiB', '--log-level', 'warn', ...PATIENT];
    gateway = new GatewayProcess({ dir, unix, flags });
    const at = await gateway.listens();
    for (const proxy of proxies) proxy.target = proxy.protocol === 'http' ? at.http : at.tcp;
    where.is(shared.port);
  };
  let restarting = Promise.resolve();
  restart = (protocol): void => {
    restarts[protocol]++;
    // One behind the other: both protocols may want one at the same time, and two would start two gateways.
    restarting = restarting
      .then(async () => {
        for (const proxy of proxies) proxy.target = 0;
        where.is(undefined);
        gateway!.kill('SIGKILL');
        await gateway!.ended;
        await start();
      })
      .catch((error: Error) => say(`restart ${JSON.stringify(restarts)}: ${error.message}`));
  };

  const clients: Promise<unknown>[] = [];
  const connections: Client[] = [];
  const populate = async (): Promise<void> => {
    for (let c = 0; c < HTTP_CLIENTS; c++) {
      const requests = new Requests(c, witness, seed, true);
      const client = runHttpClient(requests, where, agent, witness, (request, { status, body }) => {
        const name = `client ${c}, key ${request.key}`;
        if (status !== 200) say(`${name}: ${status} ${JSON.stringify(body)}`);
        const isDuplicate = body['duplicate'] === true;
        if (isDuplicate) counts.duplicates++;
        if (committed.delete(request.key!) && !isDuplicate)
          say(`${name}: was answered, cut, and is answered as new: ${JSON.stringify(body)}`);
      });
      clients.push(client);
    }
    const own = proxies.filter((proxy) => proxy !== shared);
    for (const [i, { protocol, port }] of own.entries()) {
      const url = `${protocol === 'http' ? 'http' : 'tcp'}://127.0.0.1:${port}`;
      // On a busy machine a connection may be cut again before its acknowledgement is out, for a minute and more.
      const connection = await connect(url, { connectTimeoutMs: SETTLES_WITHIN_MS, giveUpMs: LIMIT_MS.full });
      connections.push(connection);
      const onRejected = (n: number, records: number, error: { message: string }): void =>
        say(`producer ${i} (${url}): ${records} records from ${n} on were rejected: ${error.message}`);
      clients.push(
        runProducer(
          connection,
          FIRST_PRODUCER + i,
          witness,
          () => stopped,
          () => undefined,
          onRejected,
        ),
      );
    }
  };

  try {
    await start();
    await populate();
    for (const proxy of proxies) {
      proxy.plan = planner(random);
      proxy.onCut = onCut;
    }
    const enough = (): boolean =>
      violations.length > 0 ||
      (counts.http >= plan.http &&
        counts.framed >= plan.framed &&
        counts.others >= plan.others &&
        restarts.http + restarts.framed >= 2 * plan.restarts);
    await until(enough, 'as many cuts as stated', full ? LIMIT_MS.full : LIMIT_MS.quick).catch((error: Error) =>
      say(error.message),
    );
    // Nobody is cut any more: everything under way has to be answered.
    for (const proxy of proxies) proxy.plan = () => undefined;
    stopped = true;
    await within(restarting, 'the last restart', SETTLES_WITHIN_MS);
    const flushed = Promise.all(connections.map((c) => c.flush()));
    await within(flushed, 'the producers are settled', SETTLES_WITHIN_MS).catch((error: Error) => say(error.message));
    where.end();
    await within(Promise.all(clients), 'what was cut is answered', SETTLES_WITHIN_MS);
    const resent = connections.map((c) => c.stats().duplicateRecords);
    if (resent.slice(0, FRAMED_CLIENTS).every((n) => n === 0))
      say('no producer was told of duplicates: no cut came after a commit');
    counts.duplicates += resent.reduce((sum, n) => sum + n, 0);
    await Promise.all(connections.map((c) => within(c.close(), 'a producer closes', SETTLES_WITHIN_MS)));
    agent.destroy();
    gateway!.kill('SIGTERM');
    const { code, lines } = await within(gateway!.ended, 'the gateway ends', SETTLES_WITHIN_MS);
    if (code !== 0) say(`SIGTERM: exit ${code}, ${JSON.stringify(lines.slice(-2))}`);
    await witness.check(dir, 'the end');
    witness.violations.forEach(say);
    // Everybody has his answers: what is there beyond them was stored for nobody.
    if (witness.found !== witness.answeredRecords)
      say(`${witness.answeredRecords} records were answered, ${witness.found} are there`);
    if (witness.sent !== witness.found) say(`${witness.sent} records were sent, ${witness.found} are there`);
  } catch (error) {
    say((error as Error).message);
  } finally {
    where.end();
    for (const proxy of proxies) proxy.close();
    for (const connection of connections) void connection.close().catch(() => undefined);
    agent.destroy();
    gateway?.kill('SIGKILL');
    rmSync(top, { recursive: true, force: true });
  }
  const figures = {
    'restarts by SIGKILL in between': restarts.http + restarts.framed,
    'answered as duplicates': counts.duplicates,
    'answered records': witness.answeredRecords,
    'records in the log': witness.found,
  };
  const same = 'sent again: 0 lost, 0 there twice, every answer is right';
  return [
    {
      claim: `HTTP cut between commit and answer, ${same}`,
      tried: counts.http,
      unit: 'cuts',
      atLeast: plan.http,
      violations,
      figures,
    },
    {
      claim: `framed protocol cut between commit and acknowledgement, ${same}`,
      tried: counts.framed,
      unit: 'cuts',
      atLeast: plan.framed,
      violations: [],
    },
    {
      claim: `cut in the midst of a request or right behind it, ${same}`,
      tried: counts.others,
      unit: 'cuts',
      atLeast: plan.others,
      violations: [],
    },
  ];
}
