// The client of the framed protocol and connections that come late, are cut, drain or fall silent: nothing is lost, doubled or out
// of order, and what is in doubt is told.

import t from 'tap';
import { join } from 'node:path';
import { connect } from '../../src/client/connect.ts';
import { FramedClient } from '../../src/client/framed.ts';
import { resolveClientOptions } from '../../src/client/options.ts';
import { codeOf, directory, until, within } from '../support/log-support.ts';
import { FakeGateway, type Arrived } from '../support/client-gateway.ts';
import { numbered, patient, scripted } from '../support/client-scripted.ts';

for (const [direction, points] of [
  ['in', 700],
  ['out', 420],
] as const) {
  t.test(`cut at every byte ${direction}: nothing is lost, doubled or out of order`, async (t) => {
    const cases = Array.from({ length: points }, (_, at) => at);
    let cuts = 0;
    const one = async (at: number): Promise<void> => {
      // The second connection is cut too, later: what is sent again may be cut again.
      const cut = (n: number): number => (n === 0 ? at : n === 1 ? at + 97 : Infinity);
      const script = direction === 'in' ? { cutIn: cut } : { cutOut: cut };
      const gateway = await FakeGateway.start(t, script);
      const client = await connect(gateway.url, patient);
      const appends = [client.append('a', 'r0'), client.append('a', 'r1'), client.append('b', 'r2')];
      await Promise.race(appends);
      appends.push(client.append('b', 'r3'));
      const many = client.appendMany('a', ['r4', 'r5', 'r6']);
      const results = await within(Promise.all(appends), `cut after ${at} bytes ${direction}`, 15_000);
      const { firstOffset, lastOffset } = await many;
      const last = client.append('a', 'r7');
      results.push({ offset: firstOffset }, { offset: firstOffset + 1 }, { offset: lastOffset }, await last);
      cuts += gateway.connections.length - 1;
      const expected = numbered(0, 8);
      const asAcknowledged = results.map(({ offset }) => gateway.log[offset]?.payload);
      await client.close();
      await gateway.stop();
      const fine =
        gateway.payloads().join() === expected.join() &&
        asAcknowledged.join() === expected.join() &&
        gateway.violations.length === 0;
      if (!fine) t.same([gateway.payloads(), asAcknowledged, gateway.violations], [expected, expected, []], `at ${at}`);
    };
    while (cases.length > 0) await Promise.all(cases.splice(0, 70).map(one));
    t.ok(cuts > points, `${cuts} connections were cut`);
  });
}

scripted('acknowledgements lost: what is there already is acknowledged where it is', async (t, start) => {
  const { gateway, client } = await start({
    othersBefore: 3,
    onAppend: (connection, append) => {
      if (connection.number > 1) return connection.store(append);
      gateway.store(connection.producer, append);
      connection.cut();
    },
  });
  const appends = numbered(0, 10).map((p) => client.append('s', p));
  t.same(
    await Promise.all(appends),
    numbered(0, 10).map((_, i) => ({ offset: 3 + i })),
  );
  t.same(gateway.payloads(), numbered(0, 10));
  t.match(client.stats(), { records: 10, duplicateRecords: 10, connections: 3, resentRecords: 20 });
});

scripted('settled in part when it is cut: only the rest is sent again', async (t, start) => {
  const { gateway, client } = await start({
    onAppend: (connection, append) => {
      if (connection.number > 0) return connection.store(append);
      const [run] = gateway.store(connection.producer, append);
      connection.ack([{ ...run, records: 4 }]);
      connection.refuse(4, 2, 'DROPPED');
      connection.socket.end();
    },
  });
  const appends = numbered(0, 10).map((p) => client.append('s', p));
  const codes = await Promise.all(appends.map((a) => codeOf(a)));
  t.same(codes, [...Array<string>(4).fill('resolved'), 'DROPPED', 'DROPPED', ...Array<string>(4).fill('resolved')]);
  t.equal(gateway.last.hello!.firstSequence, 6);
  t.same(
    gateway.last.appends.map((a) => [a.firstSequence, a.records]),
    [[6, 4]],
  );
});

scripted('the gateway drains: what was sent is settled, then another connection takes over', async (t, start) => {
  const held: Arrived[] = [];
  const { gateway, client } = await start({
    onAppend: (connection, append) => {
      if (connection.number > 0) return connection.store(append);
      held.push(append);
      connection.drain();
    },
  });
  const first = client.append('s', 'a');
  await until(() => held.length === 1, 'arrived');
  const second = client.append('s', 'b');
  t.equal(await codeOf(second, 100), 'late', 'nothing new is sent to a gateway that drains');
  t.notOk(gateway.last.saidBye, 'stays while something is under way');
  gateway.last.store(held[0]);
  t.same(await first, { offset: 0 });
  t.same(await second, { offset: 1 });
  t.ok(gateway.connections[0].saidBye);
  t.equal(gateway.connections[0].appends.length, 1);
  t.equal(client.stats().resentRecords, 0);
});

scripted(
  'a gateway that does not remember the producer: what is in doubt is rejected and not sent again',
  async (t, start) => {
    for (const forgets of ['says so', 'lost its memory']) {
      const { gateway, client } = await start({
        remembers: forgets !== 'says so',
        onAppend: (connection, append) => {
          if (append.payloads.includes('doubtful')) connection.cut();
          else connection.store(append);
        },
      });
      await client.append('s', 'sure');
      if (forgets !== 'says so') gateway.durable.clear();
      gateway.script = { ...gateway.script, creditBytes: 100 };
      const doubtful = t.rejects(client.append('s', 'doubtful'), {
        code: 'DISCONNECTED',
        message: /does not remember/,
      });
      await until(() => gateway.connections[0].appends.length === 2, 'sent');
      await until(() => client.stats().state === 'connecting', 'cut');
      // Never sent: in no doubt.
      const unsent = client.append('s', 'unsent');
      await doubtful;
      t.same(await unsent, { offset: 1 });
      t.same(gateway.payloads(), ['sure', 'unsent'], forgets);
    }
  },
);

t.test('given up: what waits is rejected with DISCONNECTED, and a new producer begins', async (t) => {
  const gateway = await FakeGateway.start(t, { onAppend: () => undefined });
  const client = await connect(gateway.url, { connectTimeoutMs: 1_000, giveUpMs: 2_000 });
  const { port } = gateway;
  const sent = client.append('s', 'sent');
  await until(() => gateway.connections[0].appends.length === 1, 'sent');
  await gateway.stop();
  const queued = client.append('s', 'queued');
  const flushed = client.flush();
  const startedMs = performance.now();
  await Promise.all(
    [sent, queued, flushed].map((promise: Promise<unknown>) =>
      t.rejects(promise, { code: 'DISCONNECTED', retryable: true, message: /given up after 2000 ms/ }),
    ),
  );
  t.ok(performance.now() - startedMs >= 1_900);
  t.match(client.stats(), { waitingRecords: 0, waitingBytes: 0, rejectedRecords: 2 });
  const again = client.append('s', 'again');
  await gateway.listen(port);
  gateway.script = {};
  t.same(await again, { offset: 0 });
  t.not(gateway.last.producer, gateway.connections[0].producer);
  t.equal(gateway.last.appends[0].firstSequence, 0);
  t.same(gateway.payloads(), ['again']);
  t.same(gateway.violations, []);
  await client.close();
});

t.test('a gateway that has fallen silent is taken for dead', async (t) => {
  const gateway = await FakeGateway.start(t, {
    onAppend: (connection, append) => {
      if (connection.number > 0) connection.store(append);
    },
  });
  const client = await FramedClient.connect({ ...resolveClientOptions(gateway.url, patient), silenceMs: 200 });
  const append = client.append('s', 'x');
  await until(() => gateway.connections[0].appends.length === 1, 'sent');
  t.same(await within(append, 'sent again'), { offset: 0 });
  t.equal(gateway.connections.length, 2);
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.equal(gateway.connections.length, 2, 'with nothing under way silence means nothing');
  await client.close();
});

t.test('a gateway that dies of what it is sent is not tried for ever', async (t) => {
  const gateway = await FakeGateway.start(t, { onAppend: (connection) => connection.cut() });
  const client = await connect(gateway.url, { connectTimeoutMs: 1_000, giveUpMs: 400 });
  t.equal(await codeOf(client.append('s', 'poison'), 10_000), 'DISCONNECTED');
  t.ok(gateway.connections.length > 2, `${gateway.connections.length} attempts`);
  await client.close();
});

t.test('connect: what keeps it from the gateway', async (t) => {
  const unused = await FakeGateway.start(t);
  const { url } = unused;
  await unused.stop();
  await t.rejects(connect(url, { connectTimeoutMs: 200 }), { code: 'DISCONNECTED', message: /ECONNREFUSED/ });
  await t.rejects(connect(`unix:${join(directory(t), 'none')}`, { connectTimeoutMs: 200 }), { code: 'DISCONNECTED' });
  const strict = await FakeGateway.start(t, { token: 'secret' });
  await t.rejects(connect(strict.url, { token: 'wrong' }), { code: 'UNAUTHORIZED', retryable: false });
  await t.rejects(connect(strict.url), { code: 'UNAUTHORIZED' });
  t.equal(strict.connections.length, 2, 'a wrong token is not tried twice');
  const silent = await FakeGateway.start(t, { onHello: () => undefined });
  await t.rejects(connect(silent.url, { connectTimeoutMs: 200 }), { code: 'DISCONNECTED' });
  const late = await FakeGateway.start(t, {
    onHello: (connection) => {
      if (connection.number < 3) connection.cut();
      else connection.welcome();
    },
  });
  const client = await connect(late.url, patient);
  t.equal(late.connections.length, 4, 'tries again until it is there');
  await client.close();
});

scripted('close waits for what is under way, also through a cut', async (t, start) => {
  const held: Arrived[] = [];
  const { gateway, client } = await start({
    onAppend: (connection, append) => {
      if (connection.number > 0) connection.store(append);
      else held.push(append);
    },
  });
  const append = client.append('s', 'x');
  const closing = client.close();
  t.equal(await codeOf(client.append('s', 'late')), 'CLOSED');
  t.equal(client.stats().state, 'draining');
  await until(() => held.length === 1, 'arrived');
  t.equal(await codeOf(closing, 50), 'late');
  gateway.last.cut();
  t.same(await append, { offset: 0 });
  await within(closing, 'closed');
  t.ok(gateway.last.saidBye);
});

t.test('close of a client that lost its gateway', async (t) => {
  const gateway = await FakeGateway.start(t, { onAppend: () => undefined });
  const idle = await connect(gateway.url, { giveUpMs: 300 });
  const busy = await connect(gateway.url, { giveUpMs: 300 });
  const append = busy.append('s', 'x');
  await until(() => gateway.connections.some((c) => c.appends.length === 1), 'sent');
  await gateway.stop();
  const closing = busy.close();
  await within(idle.close(), 'with nothing under way there is nothing to wait for');
  t.equal(await codeOf(append), 'DISCONNECTED');
  t.equal(await codeOf(closing), 'DISCONNECTED');
  t.equal(busy.stats().state, 'closed');
});

t.test('a gateway that holds the claim of a producer, and says so, is waited for', async (t) => {
  const gateway = await FakeGateway.start(t, {
    onAppend: (connection) => connection.cut(),
    onHello: (connection) => {
      if (connection.number === 0) return connection.welcome();
      // Longer than an attempt may take, and than appends wait for a gateway that is not there.
      let beats = 0;
      const timer = setInterval(() => {
        if (++beats < 16) return connection.credit(0);
        clearInterval(timer);
        gateway.script = {};
        connection.welcome();
      }, 50);
    },
  });
  const client = await connect(gateway.url, { connectTimeoutMs: 200, giveUpMs: 400 });
  t.same(await within(client.append('s', 'x'), 'acknowledged'), { offset: 0 });
  t.match(client.stats(), { rejectedRecords: 0, connections: 2 });
  t.equal(gateway.connections.length, 2, 'at the first attempt');
  await client.close();
  t.same(gateway.violations, []);
});
