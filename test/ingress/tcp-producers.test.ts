// Identities over the framed protocol: a producer is one connection's at a time, what it sends again is recognised, and each of
// its sequences is stored once.

import t from 'tap';
import fc from 'fast-check';
import { SpillwayError } from '../../src/base/errors.ts';
import { WELCOME_CODECS } from '../../src/codec/append-codec.ts';
import { encodeBye, encodeStream, frameType, RUN_DUPLICATE, WELCOME_REMEMBERS } from '../../src/codec/frames.ts';
import { MAX_RUNS, type Dedupe, type Remembered } from '../../src/flow/dedupe.ts';
import {
  append,
  ended,
  hello,
  names,
  open,
  PipeClient,
  producer,
  TestHost,
  turns,
  until,
} from '../support/tcp-pipe.ts';

t.test('resend after a cut: what is durable is a duplicate with its offsets, the rest is appended', async (t) => {
  const host = new TestHost();
  const first = await open(host);
  first.send(append(0, 5), append(5, 5), append(10, 5));
  await until('the appends', () => host.calls.length === 3);
  host.calls[0].durableAt(100);
  await until('ACK', () => first.acked === 5);
  first.cut();
  const second = new PipeClient(host);
  second.send(hello(5), encodeStream(9, 'orders'));
  await turns();
  t.equal(second.welcome, undefined, 'no WELCOME while something of the old connection is under way');
  t.equal(first.ended, false);
  host.calls[1].durableAt(205);
  host.calls[2].reject(new SpillwayError('DROPPED', 'full'));
  await until('WELCOME', () => second.welcome !== undefined);
  t.match(second.welcome, { durableSequence: 10, flags: WELCOME_REMEMBERS | WELCOME_CODECS });
  t.equal(first.ended, true);
  // Cut differently, and with one more record.
  second.send(append(5, 2, { streamId: 9 }), append(7, 9, { streamId: 9 }));
  await until('the rest', () => host.calls.length === 4);
  t.strictSame(host.calls[3].payloads, names(10, 16), 'only what is not there');
  t.match(host.calls[3].identity, { low: 10, high: 0 });
  await until('duplicates', () => second.acked === 10);
  t.strictSame(second.runs, [{ firstSequence: 5, firstOffset: 205, records: 5, flags: RUN_DUPLICATE }]);
  host.calls[3].durableAt(300);
  await until('ACK', () => second.acked === 16);
  t.strictSame(second.runs.slice(1), [{ firstSequence: 10, firstOffset: 300, records: 6, flags: 0 }]);
  t.equal(host.counts.duplicates, 5);
  second.send(encodeBye());
  await ended(second);

  // The ERROR of 10 … 14 was lost, so they were new; now all is known.
  const third = await open(host, 0);
  t.equal(third.welcome!.durableSequence, 16);
  third.send(append(0, 16), encodeBye());
  await ended(third);
  t.equal(host.calls.length, 4);
  t.strictSame(third.runs, [
    { firstSequence: 0, firstOffset: 100, records: 5, flags: RUN_DUPLICATE },
    { firstSequence: 5, firstOffset: 205, records: 5, flags: RUN_DUPLICATE },
    { firstSequence: 10, firstOffset: 300, records: 6, flags: RUN_DUPLICATE },
  ]);
});

t.test('a fence cuts the old connection; whoever came last gets the producer', async (t) => {
  const host = new TestHost();
  const first = await open(host);
  first.send(append(0, 2));
  await until('the append', () => host.calls.length === 1);
  const second = new PipeClient(host);
  second.send(hello());
  await until('the old connection to be cut', () => first.pipe.destroyed);
  const third = new PipeClient(host);
  third.send(hello());
  const other = await open(host, 0, producer(8));
  t.ok(other.welcome, 'another producer does not wait');
  await turns();
  t.strictSame([second.welcome, third.welcome], [undefined, undefined]);
  host.calls[0].durableAt(40);
  await until('WELCOME', () => third.welcome !== undefined);
  t.equal(third.welcome!.durableSequence, 2);
  await ended(first);
  await ended(second);
  t.equal(first.count(frameType.ack), 0, 'the old connection is told nothing any more');
  t.strictSame([first.errors, second.errors], [[], []]);
  t.equal(host.counts.fenced, 2);
  third.cut();
  await ended(third);
  const fourth = await open(host);
  t.equal(fourth.welcome!.durableSequence, 2, 'and it can be taken again');
});

t.test('a connection that is cut while it waits for its producer gives it back', async (t) => {
  const host = new TestHost();
  const first = await open(host);
  first.send(append(0));
  await until('the append', () => host.calls.length === 1);
  const second = new PipeClient(host);
  second.send(hello());
  await turns();
  second.cut();
  host.calls[0].durableAt(3);
  await ended(second);
  const third = await open(host);
  t.equal(third.welcome!.durableSequence, 1);
});

t.test('a dedupe table that fails ends the connection', async (t) => {
  const host = new TestHost();
  host.dedupe = {
    claim: () => Promise.reject(new SpillwayError('CLOSED', 'the thread is gone')),
    release: () => t.fail('nothing was claimed'),
  };
  const client = new PipeClient(host);
  client.send(hello());
  await ended(client);
  t.match(client.errors, [{ code: 'CLOSED', records: 0 }]);
});

t.test('without a producer id, or without a table, nothing is recognised', async (t) => {
  for (const identity of [true, false]) {
    const host = new TestHost();
    host.dedupe = undefined;
    host.autoOffset = 0;
    for (let i = 0; i < 2; i++) {
      const client = new PipeClient(host);
      client.send(hello(3, identity ? producer() : null), encodeStream(1, 'orders'));
      await until('WELCOME', () => client.welcome !== undefined);
      t.match(client.welcome, { flags: WELCOME_CODECS, durableSequence: 0 });
      client.send(append(3, 2, { identity }), encodeBye());
      await ended(client);
      t.strictSame(client.runs, [{ firstSequence: 3, firstOffset: i * 2, records: 2, flags: 0 }]);
    }
    t.equal(host.calls.length, 2);
    t.strictSame(host.calls[1].identity, identity ? { id: producer(), low: 3, high: 0 } : undefined);
  }
});

t.test('sequences beyond 2^32 are carried in both words of the identity', async (t) => {
  const host = new TestHost();
  const client = await open(host, 2 ** 40 + 5);
  client.send(append(2 ** 40 + 5));
  await until('the append', () => host.calls.length === 1);
  t.match(host.calls[0].identity, { low: 5, high: 256 });
});

t.test('the first bit of a producer id is cleared, in the log as in the table', async (t) => {
  const host = new TestHost();
  host.autoOffset = 0;
  const claimed: string[] = [];
  const table = host.dedupe!;
  host.dedupe = {
    claim: (id, onFence) => {
      claimed.push(Buffer.from(id, 'latin1').toString('hex'));
      return table.claim(id, onFence);
    },
    release: (id, remembered) => table.release(id, remembered),
  };
  const client = await open(host, 0, producer(0xf7));
  client.send(append(0), encodeBye());
  await ended(client);
  const stored = Buffer.from(host.calls[0].identity!.id).toString('hex');
  t.equal(stored, `77${'f7'.repeat(15)}`);
  t.strictSame(claimed, [stored]);
});

/** A table that remembers what the test says, and hands out what is given back. */
function remembering(remembered: Remembered): Dedupe & { given?: Remembered | undefined } {
  const table: Dedupe & { given?: Remembered | undefined } = {
    claim: () => Promise.resolve(remembered),
    release: (_id, after) => void (table.given = after),
  };
  return table;
}

t.test('what was stored out of order is found; what has been forgotten is said to be', async (t) => {
  const host = new TestHost();
  const table = remembering({
    nextSequence: 9,
    tag: 0,
    runs: [
      { firstSequence: 5, firstOffset: 50, records: 4 },
      { firstSequence: 1, firstOffset: 70, records: 2 },
    ],
  });
  host.dedupe = table;
  host.autoOffset = 90;
  const client = await open(host);
  client.send(append(0, 10), encodeBye());
  await ended(client);
  t.strictSame(client.runs, [
    { firstSequence: 0, firstOffset: 90, records: 1, flags: 0 },
    { firstSequence: 1, firstOffset: 70, records: 2, flags: RUN_DUPLICATE },
    { firstSequence: 3, firstOffset: 91, records: 2, flags: 0 },
    { firstSequence: 5, firstOffset: 50, records: 4, flags: RUN_DUPLICATE },
    { firstSequence: 9, firstOffset: 93, records: 1, flags: 0 },
  ]);
  t.strictSame(
    host.calls.map((c) => c.payloads),
    [['r0'], ['r3', 'r4'], ['r9']],
  );
  t.equal(table.given!.nextSequence, 10);
  t.strictSame(
    table.given!.runs.map((r) => r.firstSequence),
    [0, 1, 3, 5, 9],
  );

  // Side by side in the log with what was there before, but not a duplicate.
  const joined = new TestHost();
  joined.dedupe = remembering({ nextSequence: 2, tag: 0, runs: [{ firstSequence: 0, firstOffset: 100, records: 2 }] });
  joined.autoOffset = 102;
  const again = await open(joined);
  again.send(append(0, 4), encodeBye());
  await ended(again);
  t.strictSame(again.runs, [
    { firstSequence: 0, firstOffset: 100, records: 2, flags: RUN_DUPLICATE },
    { firstSequence: 2, firstOffset: 102, records: 2, flags: 0 },
  ]);

  const full = new TestHost();
  const runs = Array.from({ length: MAX_RUNS }, (_, i) => ({
    firstSequence: 10 + i * 2,
    firstOffset: i * 7,
    records: 1,
  }));
  full.dedupe = remembering({ nextSequence: 10 + MAX_RUNS * 2, tag: 0, runs });
  full.autoOffset = 10_000;
  const late = await open(full, 8);
  late.send(append(8, 4), encodeBye());
  await ended(late);
  t.match(late.errors, [{ code: 'DISCONNECTED', firstSequence: 8, records: 2 }]);
  t.strictSame(late.runs, [
    { firstSequence: 10, firstOffset: 0, records: 1, flags: RUN_DUPLICATE },
    { firstSequence: 11, firstOffset: 10_000, records: 1, flags: 0 },
  ]);
});

t.test('any resend, cut anywhere, of any producer: each sequence is stored once', async (t) => {
  const step = fc.record({
    records: fc.integer({ min: 1, max: 6 }),
    outcome: fc.constantFrom('durable', 'refused', 'gap', 'pieces'),
    cut: fc.boolean(),
    back: fc.nat({ max: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const host = new TestHost();
      /** Sequence to offset, of what the log has. */
      const stored = new Map<number, number>();
      let offset = 0;
      let taken = 0;
      let next = 0;
      let client = await open(host);
      for (const { records, outcome, cut, back } of steps) {
        client.send(append(next, records));
        next += records;
        await turns(3);
        for (; taken < host.calls.length; taken++) {
          const call = host.calls[taken];
          const sequence = call.identity!.low;
          if (outcome === 'refused') {
            call.reject(new SpillwayError('DROPPED', 'full'));
            continue;
          }
          if (outcome === 'gap') offset += 5;
          const runs: { records: number; firstOffset: number }[] = [];
          for (let i = 0; i < call.records; i++) {
            if (outcome === 'pieces') offset++;
            t.notOk(stored.has(sequence + i), 'not stored twice');
            stored.set(sequence + i, offset);
            runs.push({ records: 1, firstOffset: offset++ });
          }
          call.resolve({ firstOffset: runs[0].firstOffset, lastOffset: offset - 1, runs });
        }
        await until('the answer', () => client.acked + client.errors.length > 0);
        for (const run of client.runs) {
          for (let i = 0; i < run.records; i++) t.equal(stored.get(run.firstSequence + i), run.firstOffset + i);
        }
        if (!cut) continue;
        client.cut();
        next = Math.max(0, next - back);
        client = await open(host, next);
      }
      client.send(encodeBye());
      await ended(client);
    }),
    { numRuns: 60 },
  );
});
