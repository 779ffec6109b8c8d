// The client of the framed protocol against a gateway that refuses: for good, for the time being, by limits, by its token; and
// against one that breaks the protocol.

import t from 'tap';
import { connect } from '../../src/client/connect.ts';
import { codeOf, until } from '../support/log-support.ts';
import { FakeGateway, type Arrived, type FakeConnection } from '../support/client-gateway.ts';
import { numbered, patient, scripted } from '../support/client-scripted.ts';

scripted('an ERROR for a range rejects exactly these records, and the connection goes on', async (t, start) => {
  const held: Arrived[] = [];
  const { gateway, client } = await start({ onAppend: (_, append) => void held.push(append) });
  const single = numbered(0, 3).map((p) => client.append('a', p));
  const many = client.appendMany('a', numbered(3, 8));
  await until(() => held.length === 1, 'arrived');
  const { last } = gateway;
  last.ack([{ firstSequence: 0, firstOffset: 0, records: 1, flags: 0 }]);
  last.refuse(1, 3, 'DROPPED');
  last.ack([{ firstSequence: 4, firstOffset: 1, records: 4, flags: 0 }]);
  t.same(await single[0], { offset: 0 });
  t.equal(await codeOf(single[1]), 'DROPPED');
  t.equal(await codeOf(single[2]), 'DROPPED');
  await t.rejects(many, {
    code: 'DROPPED',
    retryable: true,
    message: /4 of the 5 records of this call are in the log/,
  });
  const next = client.append('a', 'next');
  await until(() => held.length === 2, 'goes on');
  last.refuse(8, 1, 'A_CODE_OF_TOMORROW', 0, true);
  await t.rejects(next, { code: 'DROPPED', message: /A_CODE_OF_TOMORROW/ });
  t.match(client.stats(), { records: 5, rejectedRecords: 4, connections: 1, waitingRecords: 0, waitingBytes: 0 });
});

scripted('refused for the time being: sent again in order, after the time that was named', async (t, start) => {
  let arrivedMs = 0;
  const { gateway, client } = await start({
    creditBytes: 400,
    onAppend: (connection, append) => {
      if (connection.number > 1) {
        arrivedMs ||= performance.now();
        return connection.store(append);
      }
      const { firstSequence, records } = append;
      // A part first: what is behind it is to be waited for, and nothing new sent.
      connection.refuse(firstSequence, 1, 'SHED', connection.number === 0 ? 1 : 300);
      connection.credit(10_000);
      setTimeout(() => connection.refuse(firstSequence + 1, records - 1, 'DISK_FULL'), 60);
    },
  });
  const startedMs = performance.now();
  const appends = numbered(0, 12).map((p) => client.append('s', p));
  t.same(
    await Promise.all(appends),
    numbered(0, 12).map((_, i) => ({ offset: i })),
  );
  t.same(gateway.payloads(), numbered(0, 12));
  t.same(
    gateway.connections.map((c) => [c.hello!.firstSequence, c.saidBye]),
    [
      [0, true],
      [0, true],
      [0, false],
    ],
  );
  t.equal(gateway.connections[0].appends.length, 1, 'nothing new behind what was refused');
  t.ok(arrivedMs - startedMs > 280, `${arrivedMs - startedMs} ms`);
  t.match(client.stats(), { records: 12, rejectedRecords: 0, duplicateRecords: 0 });
  t.ok(client.stats().resentRecords > 0);
});

scripted(
  'refused for the time being, but what is behind it was stored: rejected, as it would come out of order',
  async (t, start) => {
    const held: Arrived[] = [];
    const { gateway, client } = await start({ onAppend: (_, append) => void held.push(append) });
    const appends = numbered(0, 3).map((p) => client.append('s', p));
    await until(() => held.length === 1, 'arrived');
    gateway.last.refuse(0, 1, 'RATE_LIMITED');
    gateway.last.ack([{ firstSequence: 1, firstOffset: 0, records: 1, flags: 0 }]);
    t.equal(await codeOf(appends[0]), 'RATE_LIMITED');
    t.same(await appends[1], { offset: 0 });
    gateway.script = {};
    gateway.last.refuse(2, 1, 'SHED');
    t.same(await appends[2], { offset: 0 }, 'the last of them is sent again');
    t.equal(gateway.last.hello!.firstSequence, 2);
  },
);

scripted('refused for the time being, all the time: given up with the code of the refusal', async (t, start) => {
  const { gateway, client } = await start(
    {
      onAppend: (connection, { firstSequence, records }) => connection.refuse(firstSequence, records, 'DISK_FULL', 50),
    },
    { connectTimeoutMs: 1_000, giveUpMs: 400 },
  );
  const appends = [client.append('s', 'a'), client.appendMany('s', ['b', 'c'])];
  await Promise.all(
    appends.map((a: Promise<unknown>) => t.rejects(a, { code: 'DISK_FULL', message: /given up after 400 ms/ })),
  );
  t.ok(gateway.connections.length > 2);
  gateway.script = {};
  t.same(await client.append('s', 'd'), { offset: 0 });
  t.equal(gateway.last.appends[0].firstSequence, 0, 'by another producer');
});

scripted('a gateway that takes fewer records in a frame: smaller frames, in order', async (t, start) => {
  const { gateway, client } = await start({
    onAppend: (connection, append) => {
      if (append.records <= 60) connection.store(append);
      else connection.refuse(append.firstSequence, append.records, 'TOO_MANY_RECORDS', 0, false);
    },
  });
  const many = client.appendMany('s', numbered(0, 200));
  const one = client.append('s', 'r200');
  t.same(await many, { firstOffset: 0, lastOffset: 199 });
  t.same(await one, { offset: 200 });
  t.same(gateway.payloads(), numbered(0, 201));
  const { length } = gateway.connections;
  t.ok(length <= 3, `learned with ${length} connections`);
  await client.appendMany('s', numbered(0, 500));
  t.equal(gateway.connections.length, length, 'and kept');
});

scripted('dropped on purpose: rejected, and nothing new is sent before the time that was named', async (t, start) => {
  let arrivedMs = 0;
  const { gateway, client } = await start({
    onAppend: (connection, append) => {
      if (append.firstSequence === 0) return connection.refuse(0, 1, 'DROPPED', 300);
      arrivedMs = performance.now();
      connection.store(append);
    },
  });
  t.equal(await codeOf(client.append('s', 'a')), 'DROPPED');
  const refusedMs = performance.now();
  t.same(await client.append('s', 'b'), { offset: 0 });
  t.ok(arrivedMs - refusedMs > 250, `sent ${arrivedMs - refusedMs} ms later`);
  t.equal(gateway.connections.length, 1);
});

scripted('what a new attempt would not mend rejects at once; the next append tries again', async (t, start) => {
  const { gateway, client } = await start({ token: 'secret' }, { ...patient, token: 'secret' });
  await client.append('s', 'a');
  gateway.script = { token: 'another' };
  gateway.last.cut();
  t.equal(await codeOf(client.append('s', 'b')), 'UNAUTHORIZED');
  const { length } = gateway.connections;
  gateway.script = { token: 'secret' };
  t.same(await client.append('s', 'c'), { offset: 1 });
  t.equal(gateway.connections.length, length + 1, 'no attempt in between');
  await client.close();
});

scripted('a gateway that breaks the protocol', async (t, start) => {
  for (const [what, answer] of [
    [
      'settles what was not sent',
      (c: FakeConnection) => c.ack([{ firstSequence: 0, firstOffset: 0, records: 3, flags: 0 }]),
    ],
    ['leaves a gap', (c: FakeConnection) => c.ack([{ firstSequence: 1, firstOffset: 0, records: 1, flags: 0 }])],
    ['refuses behind a gap', (c: FakeConnection) => c.refuse(1, 1, 'SHED')],
    ['says not how', (c: FakeConnection) => c.ack([], 1)],
    ['refuses what was not sent', (c: FakeConnection) => c.refuse(0, 5, 'DROPPED')],
    ['says so', (c: FakeConnection) => c.refuse(0, 0, 'PROTOCOL_ERROR', 0, false)],
    ['a second WELCOME', (c: FakeConnection) => c.welcome()],
    ['garbage', (c: FakeConnection) => c.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))],
  ] as const) {
    const { gateway, client } = await start({ onAppend: (connection) => answer(connection) });
    const both = await Promise.all(['x', 'y'].map((p) => codeOf(client.append('s', p))));
    t.same(both, ['PROTOCOL_ERROR', 'PROTOCOL_ERROR'], what);
    gateway.script = {};
    t.same(await client.append('s', 'y'), { offset: 0 }, 'and goes on');
  }
});

scripted('smaller limits after a reconnect: what no longer fits is refused, the rest goes', async (t, start) => {
  const { gateway, client } = await start({ onAppend: (connection) => connection.cut() });
  const small = numbered(0, 40).map((p) => client.append('s', p.padEnd(64)));
  const large = client.append('s', 'x'.repeat(3_000));
  const last = client.append('s', 'last');
  gateway.script = { maxFrameBytes: 2_000, maxRecordBytes: 1_000, creditBytes: 1 << 20 };
  gateway.last.cut();
  await Promise.all(small);
  t.equal(await codeOf(large), 'RECORD_TOO_LARGE');
  t.same(await last, { offset: 40 });
  t.ok(gateway.last.appends.every((a) => a.bytes <= 2_000));
});

scripted('a record that fits no frame of the gateway is refused with its call', async (t, start) => {
  const { gateway, client } = await start({ maxFrameBytes: 2_000 });
  t.equal(await codeOf(client.appendMany('s', ['a', 'x'.repeat(3_000)])), 'RECORD_TOO_LARGE');
  t.same(await client.append('s', 'x'.repeat(1_936)), { offset: 0 }, 'header, identity and frame take 64');
  t.equal(await codeOf(client.append('s', 'x'.repeat(1_937))), 'RECORD_TOO_LARGE');
  t.equal(gateway.log.length, 1);
});

t.test('a gateway that gives credit before WELCOME is refused', async (t) => {
  const gateway = await FakeGateway.start(t, { onHello: (connection) => connection.credit(1) });
  t.equal(await codeOf(connect(gateway.url, { connectTimeoutMs: 1000 })), 'PROTOCOL_ERROR');
});
