// The client of the framed protocol against a scripted gateway: cut connections, lost acknowledgements, credit, refusals.

import t, { type Test } from 'tap';
import { join } from 'node:path';
import { connect } from '../../src/client/connect.ts';
import type { Client } from '../../src/client/client.ts';
import { FramedClient } from '../../src/client/framed.ts';
import { resolveClientOptions, type ClientOptionsInput } from '../../src/client/options.ts';
import { codeOf, directory, until, within } from '../support/log-support.ts';
import { FakeGateway, type Arrived, type FakeConnection, type Script } from '../support/client-gateway.ts';

const patient = { connectTimeoutMs: 5_000, giveUpMs: 20_000 };

type Start = (script?: Script, options?: ClientOptionsInput) => Promise<{ gateway: FakeGateway; client: Client }>;

/** A test whose gateways have seen nothing against the protocol. */
function scripted(name: string, body: (t: Test, start: Start) => Promise<void>): void {
  t.test(name, async (t) => {
    const gateways: FakeGateway[] = [];
    await body(t, async (script = {}, options = patient) => {
      const gateway = await FakeGateway.start(t, script);
      gateways.push(gateway);
      const client = await within(connect(gateway.url, options), 'connected');
      // What still waits by then is given up with the gateway.
      t.teardown(() => void client.close().catch(() => undefined));
      return { gateway, client };
    });
    for (const { violations } of gateways) t.same(violations, [], 'nothing against the protocol');
  });
}

const numbered = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => `r${from + i}`);

scripted('the same verbs, arguments and results as the embedded log', async (t, start) => {
  const { gateway, client } = await start();
  t.same(await client.append('orders', 'one'), { offset: 0 });
  t.same(await client.append('orders', Buffer.from('two'), { key: 'k' }), { offset: 1 });
  t.same(await client.appendMany('other', ['three', Buffer.from('four')], { key: Buffer.from('kk') }), {
    firstOffset: 2,
    lastOffset: 3,
  });
  t.same(await client.append('orders', '', { unterminated: true }), { offset: 4 });
  t.same(await client.appendMany('orders', ['ü€𝄞'], {}), { firstOffset: 5, lastOffset: 5 });
  await client.flush();
  t.match(gateway.log, [
    { stream: 'orders', payload: 'one', key: '', unterminated: false, sequence: 0 },
    { stream: 'orders', payload: 'two', key: 'k' },
    { stream: 'other', payload: 'three', key: 'kk' },
    { stream: 'other', payload: 'four', key: 'kk' },
    { stream: 'orders', payload: '', key: '', unterminated: true },
    { payload: Buffer.from('ü€𝄞').toString('latin1') },
  ]);
  t.match(client.stats(), {
    state: 'open',
    records: 6,
    duplicateRecords: 0,
    rejectedRecords: 0,
    resentRecords: 0,
    durableOffset: 6,
    waitingRecords: 0,
    waitingBytes: 0,
    connections: 1,
    latency: { count: 6 },
  });
  await client.close();
  await client.close();
  t.ok(gateway.last.saidBye, 'leaves with BYE');
  t.equal(client.stats().state, 'closed');
  t.equal(await codeOf(client.append('orders', 'late')), 'CLOSED');
  t.equal(await codeOf(client.appendMany('orders', ['late'])), 'CLOSED');
  t.equal(await codeOf(client.flush()), 'CLOSED');
});

t.test('a Unix socket, and await using', async (t) => {
  const gateway = await FakeGateway.start(t, {}, join(directory(t), 's'));
  const client = await connect(gateway.url);
  t.same(await client.append('s', 'x'), { offset: 0 });
  await client[Symbol.asyncDispose]();
  t.equal(client.stats().state, 'closed');
  t.ok(gateway.last.saidBye);
});

scripted('what a caller does wrong is refused by itself, with the codes of the embedded log', async (t, start) => {
  const { gateway, client } = await start({ maxRecordBytes: 100 });
  const gone = new Uint8Array(8);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  const bad = (value: unknown): never => value as never;
  for (const [what, promise, code] of [
    ['name', client.append('../x', 'a'), 'INVALID_STREAM'],
    ['no name', client.append(bad(undefined), 'a'), 'INVALID_STREAM'],
    ['number', client.append('s', bad(5)), 'INVALID_RECORD'],
    ['null', client.appendMany('s', ['a', bad(null)]), 'INVALID_RECORD'],
    ['detached', client.append('s', gone), 'INVALID_RECORD'],
    ['none', client.appendMany('s', []), 'INVALID_RECORD'],
    ['no array', client.appendMany('s', bad('abc')), 'INVALID_RECORD'],
    ['large', client.append('s', 'x'.repeat(101)), 'RECORD_TOO_LARGE'],
    ['large in bytes', client.append('s', '€'.repeat(34)), 'RECORD_TOO_LARGE'],
    ['large with its key', client.append('s', 'x'.repeat(98), { key: 'key' }), 'RECORD_TOO_LARGE'],
    ['large in the middle', client.appendMany('s', ['a', 'x'.repeat(101), 'b']), 'RECORD_TOO_LARGE'],
    ['key', client.append('s', 'a', { key: 'k'.repeat(65_512) }), 'INVALID_RECORD'],
    ['key type', client.append('s', 'a', { key: bad(3) }), 'INVALID_RECORD'],
    ['unknown option', client.append('s', 'a', bad({ kee: 'x' })), 'INVALID_OPTION'],
    ['options', client.append('s', 'a', bad('key')), 'INVALID_OPTION'],
    ['option of the gateway', client.append('s', 'a', { overflow: 'block' }), 'INVALID_OPTION'],
  ] as const) {
    t.equal(await codeOf(promise), code, what);
  }
  t.same(await client.append('s', 'x'.repeat(100)), { offset: 0 }, 'the bound itself');
  t.equal(gateway.log.length, 1, 'of what was refused nothing was sent');
});

scripted('the append buffer may be used again at once', async (t, start) => {
  const { gateway, client } = await start();
  const payload = Buffer.from('aaaa');
  const key = Buffer.from('k1');
  const first = client.append('s', payload, { key });
  payload.fill('b');
  key.fill('x');
  await first;
  t.match(gateway.log, [{ payload: 'aaaa', key: 'k1' }]);
});

scripted('appends of one turn and one stream share a frame; streams keep the order of the calls', async (t, start) => {
  const { gateway, client } = await start();
  await Promise.all(numbered(0, 300).map((p) => client.append('a', p)));
  t.equal(gateway.last.appends.length, 1);
  t.equal(gateway.last.appends[0].records, 300);
  await Promise.all([client.append('a', 'x'), client.append('b', 'y'), client.append('a', 'z')]);
  t.same(
    gateway.last.appends.slice(1).map((a) => [a.stream, a.firstSequence, a.payloads]),
    [
      ['a', 300, ['x']],
      ['b', 301, ['y']],
      ['a', 302, ['z']],
    ],
  );
  t.equal(gateway.last.declarations, 2, 'a stream is declared once');
});

scripted('a large load goes out in frames of 64 KiB, before the turn is over', async (t, start) => {
  const { gateway, client } = await start({ creditBytes: 16 << 20 });
  const payload = 'p'.repeat(200);
  const appends = Array.from({ length: 5_000 }, () => client.append('s', payload));
  t.ok(client.stats().sends > 10, 'within the turn');
  await within(Promise.all(appends), 'acknowledged');
  const sizes = gateway.last.appends.map((a) => a.bytes);
  t.ok(Math.max(...sizes) <= 65_536, `largest frame ${Math.max(...sizes)}`);
  t.ok(
    sizes.slice(0, -1).every((s) => s > 65_000),
    `all but the last are full: ${sizes.join()}`,
  );
  t.same(await appends[4_999], { offset: 4_999 });
});

scripted('a call of appendMany that fits a frame goes into one, also behind others', async (t, start) => {
  const { gateway, client } = await start({ creditBytes: 16 << 20 });
  const payload = 'p'.repeat(60);
  const before = client.append('s', 'x'.repeat(60_000));
  const small = client.appendMany(
    's',
    Array.from({ length: 200 }, () => payload),
  );
  const large = client.appendMany(
    's',
    Array.from({ length: 2_000 }, () => payload),
  );
  t.same(await before, { offset: 0 });
  t.same(await small, { firstOffset: 1, lastOffset: 200 });
  t.same(await large, { firstOffset: 201, lastOffset: 2_200 });
  t.same(
    gateway.last.appends.map((a) => a.records),
    [1, 200, 2_000],
  );
  const huge = client.appendMany(
    's',
    Array.from({ length: 10_000 }, () => payload),
  );
  t.same(await huge, { firstOffset: 2_201, lastOffset: 12_200 }, 'larger than any frame');
  t.ok(gateway.last.appends.slice(3).every((a) => a.bytes <= 65_536));
});

scripted('records of others in between: the runs are told, as by the embedded log', async (t, start) => {
  const waiting: Arrived[] = [];
  const { gateway, client } = await start({ onAppend: (_, append) => void waiting.push(append) });
  const many = client.appendMany('s', ['a', 'b', 'c', 'd', 'e']);
  await until(() => waiting.length === 1, 'arrived');
  gateway.last.ack([{ firstSequence: 0, firstOffset: 10, records: 2, flags: 0 }]);
  gateway.last.ack([
    { firstSequence: 2, firstOffset: 20, records: 1, flags: 0 },
    { firstSequence: 3, firstOffset: 21, records: 1, flags: 0 },
    { firstSequence: 4, firstOffset: 30, records: 1, flags: 0 },
  ]);
  t.same(await many, {
    firstOffset: 10,
    lastOffset: 30,
    runs: [
      { records: 2, firstOffset: 10 },
      { records: 2, firstOffset: 20 },
      { records: 1, firstOffset: 30 },
    ],
  });
});

scripted('more streams than a connection has ids take turns', async (t, start) => {
  const { gateway, client } = await start();
  const names = Array.from({ length: 600 }, (_, i) => `stream-${i}`);
  for (let round = 0; round < 2; round++)
    await Promise.all(names.map((name) => client.append(name, `${round} of ${name}`)));
  t.equal(gateway.log.length, 1_200);
  t.ok(gateway.log.every((r) => r!.payload.endsWith(` of ${r!.stream}`)));
});

scripted(
  'credit: never more than granted, and a single record without any when nothing is under way',
  async (t, start) => {
    const held: Arrived[] = [];
    const { gateway, client } = await start({ creditBytes: 1_000, onAppend: (_, append) => void held.push(append) });
    // 104 bytes each: 16 header + 24 identity + 64 payload; 9 fit beside the 24 of the frame.
    const appends = numbered(0, 20).map((p) => client.append('s', p.padEnd(64)));
    await until(() => held.length === 1, 'as many as the credit covers');
    t.equal(held[0].records, 9);
    t.equal(client.stats().creditBytes, 1_000 - 24 - 9 * 104);
    gateway.last.credit(200);
    t.equal(await codeOf(appends[9], 100), 'late', 'the rest waits for credit for all of it, as some is under way');
    gateway.last.credit(24 + 11 * 104);
    await until(() => held.length === 2, 'enough credit');
    t.equal(held[1].records, 11);
    const large = client.append('s', 'x'.repeat(5_000));
    t.equal(await codeOf(large, 100), 'late');
    t.equal(held.length, 2, 'larger than the credit: not while something is under way');
    for (const append of held.slice()) gateway.last.ack(gateway.store(gateway.last.producer, append));
    await until(() => held.length === 3, 'alone');
    t.ok(client.stats().creditBytes < 0);
    gateway.last.store(held[2]);
    t.same(await large, { offset: 20 });
  },
);

scripted('BACKLOG_FULL beyond maxWaitingBytes; a single larger call may wait alone', async (t, start) => {
  const held: Arrived[] = [];
  const { gateway, client } = await start(
    { onAppend: (_, append) => void held.push(append) },
    { ...patient, maxWaitingBytes: 2_000 },
  );
  const large = client.append('s', 'x'.repeat(5_000));
  t.equal(await codeOf(client.append('s', 'y')), 'BACKLOG_FULL');
  t.equal(await codeOf(client.appendMany('s', ['y'])), 'BACKLOG_FULL');
  await until(() => held.length === 1, 'sent');
  gateway.last.store(held[0]);
  await large;
  const some = numbered(0, 6).map((p) => client.append('s', p));
  t.equal(client.stats().waitingBytes, 6 * (256 + 48));
  t.equal(await codeOf(client.append('s', 'y')), 'BACKLOG_FULL');
  await until(() => held.length === 2, 'sent');
  gateway.last.store(held[1]);
  await Promise.all(some);
  t.equal(client.stats().waitingBytes, 0);
  t.equal(gateway.log.length, 7);
});

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

scripted('flush covers what was appended before it', async (t, start) => {
  const held: Arrived[] = [];
  const { gateway, client } = await start({ onAppend: (_, append) => void held.push(append) });
  await client.flush();
  const before = [client.append('s', 'a'), client.append('t', 'b')];
  const flushed = client.flush();
  await until(() => held.length === 2, 'sent');
  const after = client.append('s', 'c');
  await until(() => held.length === 3, 'sent');
  gateway.last.store(held[0]);
  await before[0];
  t.equal(await codeOf(flushed, 50), 'late');
  gateway.last.store(held[1]);
  await before[1];
  await within(flushed, 'flushed');
  gateway.last.store(held[2]);
  await after;
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

t.test('a gateway that gives credit before WELCOME is refused', async (t) => {
  const gateway = await FakeGateway.start(t, { onHello: (connection) => connection.credit(1) });
  t.equal(await codeOf(connect(gateway.url, { connectTimeoutMs: 1000 })), 'PROTOCOL_ERROR');
});
