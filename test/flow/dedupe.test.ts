import t from 'tap';
import { DedupeTable, MAX_RUNS, offsetOf, addRun, type Remembered, type SequenceRun } from '../../src/flow/dedupe.ts';

function table(maxKeys = 3, maxAgeMs = 1000): { table: DedupeTable; clock: { ms: number } } {
  const clock = { ms: 0 };
  return { table: new DedupeTable({ maxKeys, maxAgeMs }, () => clock.ms), clock };
}

const done = (nextSequence: number): Remembered => ({ nextSequence, tag: 7, runs: [] });

t.test('an entry is new, then known', async (t) => {
  const { table: d } = table();
  t.equal(await d.claim('a'), undefined);
  d.release('a', done(3));
  t.same(await d.claim('a'), done(3));
  d.release('a', undefined);
  t.same(await d.claim('a'), done(3), 'a release without a result leaves what was known');
});

t.test('a claim that failed leaves nothing behind', async (t) => {
  const { table: d } = table();
  await d.claim('a');
  d.release('a', undefined);
  t.equal(d.size, 0);
});

t.test('a retry that overtakes its original waits for it, and the holder is told; in order of arrival', async (t) => {
  const { table: d } = table();
  const told: string[] = [];
  const order: string[] = [];
  await d.claim('a', () => void told.push('first'));
  const second = d.claim('a', () => void told.push('second')).then((r) => (order.push('second'), r));
  const third = d.claim('a').then((r) => (order.push('third'), r));
  t.same(told, ['first', 'first']);
  d.release('a', done(1));
  t.same(await second, done(1));
  t.same(told, ['first', 'first', 'second'], 'as the third waits behind it');
  d.release('a', done(2));
  t.same(await third, done(2));
  t.same(order, ['second', 'third']);
  d.release('a', undefined);
  t.throws(() => d.release('a', undefined), /without a claim/);
});

t.test('bounded in keys: the least lately used goes, one that is held never', async (t) => {
  const { table: d } = table(2);
  for (const id of ['a', 'b']) {
    await d.claim(id);
    d.release(id, done(1));
  }
  t.same(await d.claim('a'), done(1), 'held from here on, and used last');
  await d.claim('c');
  d.release('c', done(1));
  t.equal(d.size, 2);
  d.release('a', undefined);
  t.equal(await d.claim('b'), undefined, 'b has gone');
});

t.test('bounded in time, also for those restored', async (t) => {
  const { table: d, clock } = table(10, 1000);
  d.restore('a', 0, 5, 100, 0);
  d.restore('a', 1, 5, 101, 0);
  d.restore('a', 2, 5, 200, 0);
  d.restore('b', 0, 0, 300, 900);
  clock.ms = 1000;
  const known = await d.claim('a');
  t.equal(known?.nextSequence, 3);
  t.equal(known?.tag, 5);
  t.same(known?.runs, [
    { firstSequence: 0, firstOffset: 100, records: 2 },
    { firstSequence: 2, firstOffset: 200, records: 1 },
  ]);
  d.release('a', undefined);
  clock.ms = 2001;
  t.equal(await d.claim('a'), undefined);
  t.equal(d.size, 1, 'and b was swept away when the table was used');
});

t.test('runs: joined where they go on, bounded, and asked for an offset', async (t) => {
  const runs: SequenceRun[] = [];
  for (let i = 0; i < 10; i++) addRun(runs, i * 2, i * 2 + (i > 4 ? 7 : 0), 2);
  t.same(runs, [
    { firstSequence: 0, firstOffset: 0, records: 10 },
    { firstSequence: 10, firstOffset: 17, records: 10 },
  ]);
  t.equal(offsetOf(runs, 9), 9);
  t.equal(offsetOf(runs, 10), 17);
  t.equal(offsetOf(runs, 19), 26);
  t.equal(offsetOf(runs, 20), undefined);
  for (let i = 0; i < MAX_RUNS * 3; i++) addRun(runs, 20 + i, 100 + 2 * i, 1);
  t.ok(runs.length >= MAX_RUNS && runs.length < 2 * MAX_RUNS, `${runs.length} runs`);
  t.equal(offsetOf(runs, 0), undefined, 'forgotten');
});

t.test('bounded in memory: producers with many runs count for more', async (t) => {
  const { table: d } = table(100, 1e9);
  for (let p = 0; p < 100; p++) d.restore(`p${p}`, 0, 0, p, 0);
  t.equal(d.size, 100);
  for (let i = 0; i < 50; i++) d.restore('many', i, 0, 1000 + 2 * i, 1);
  // 49 runs more at 64 bytes each are what about 10 entries take.
  t.ok(d.size > 85 && d.size <= 91, `${d.size} entries`);
  const known = await d.claim('many');
  t.equal(known?.runs.length, 50);
  d.release('many', { nextSequence: 50, tag: 0, runs: [{ firstSequence: 0, firstOffset: 1, records: 50 }] });
  const before = d.size;
  for (let p = 0; p < 9; p++) d.restore(`q${p}`, 0, 0, p, 2);
  t.equal(d.size, before + 9, 'room again');
});

t.test('restored: a key that was forgotten and used again for a shorter request', async (t) => {
  const { table: d } = table();
  for (let i = 0; i < 5; i++) d.restore('k', i, 11, i, 0);
  d.restore('k', 0, 22, 100, 1);
  t.same(await d.claim('k'), { nextSequence: 1, tag: 22, runs: [{ firstSequence: 0, firstOffset: 100, records: 1 }] });
});
