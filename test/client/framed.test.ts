// The client of the framed protocol against a scripted gateway: the verbs, frames and their order, credit and what may wait, flush
// and close. What is refused: framed-refusals.test.ts; lost connections: framed-cuts.test.ts.

import t from 'tap';
import { join } from 'node:path';
import { connect } from '../../src/client/connect.ts';
import { codeOf, directory, until, within } from '../support/log-support.ts';
import { FakeGateway, type Arrived } from '../support/client-gateway.ts';
import { numbered, patient, scripted } from '../support/client-scripted.ts';

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

scripted('codec: a gateway that does not say that it takes compressed frames gets none', async (t, start) => {
  const { gateway, client } = await start({}, { ...patient, codec: 'gzip' });
  const payloads = Array.from({ length: 600 }, (_, i) => `request ${i} took ${i % 7} ms and was answered`);
  await client.appendMany('s', payloads);
  t.same(
    gateway.log.map((r) => r?.payload),
    payloads,
  );
  const plainBytes = payloads.reduce((sum, p) => sum + p.length + 40, 0);
  t.ok(client.stats().sentBytes > plainBytes, `${client.stats().sentBytes} bytes, ${plainBytes} plain`);
});
