import t from 'tap';
import * as fc from 'fast-check';
import { DrainRate, retryAfterSeconds } from '../../src/flow/drain-rate.ts';

const near = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));

t.test('a steady flow is seen as it is, early and late', async (t) => {
  const rate = new DrainRate({ halfLifeMs: 1000 });
  t.equal(rate.bytesPerSecond(0), 0);
  for (let ms = 10; ms <= 100; ms += 10) rate.add(1000, ms);
  const early = rate.bytesPerSecond(100);
  t.ok(early > 98_000 && early < 105_000, `${early}`);
  for (let ms = 110; ms <= 10_000; ms += 10) rate.add(1000, ms);
  const late = rate.bytesPerSecond(10_000);
  t.ok(late > 99_000 && late < 101_000, `${late}`);
});

t.test('it halves with each half-life in which nothing leaves', async (t) => {
  const rate = new DrainRate({ halfLifeMs: 500 });
  for (let ms = 0; ms <= 20_000; ms += 10) rate.add(1000, ms);
  const before = rate.bytesPerSecond(20_000);
  const after = rate.bytesPerSecond(20_500);
  t.ok(Math.abs(after / before - 0.5) < 1e-6, `${before}, then ${after}`);
});

t.test('one early write is no endless rate', async (t) => {
  const rate = new DrainRate({ halfLifeMs: 1600 });
  rate.add(1000, 5);
  t.equal(rate.bytesPerSecond(5), 10_000, 'as if it had taken a sixteenth of the half-life');
});

t.test('time without a queue is left out', async (t) => {
  const rate = new DrainRate({ halfLifeMs: 1000 });
  for (let ms = 0; ms <= 5000; ms += 10) rate.add(1000, ms);
  const before = rate.bytesPerSecond(5000);
  rate.idle(1e6);
  t.equal(rate.bytesPerSecond(1e6), before);
});

t.test('the rate is weighted bytes by weighted time', async (t) => {
  const step = fc.record({
    op: fc.constantFrom('add', 'idle', 'ask'),
    bytes: fc.nat(1e6),
    ms: fc.integer({ min: -20, max: 400 }),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 40, size: 'max' }),
      fc.integer({ min: 10, max: 2000 }),
      (steps, halfLifeMs) => {
        const rate = new DrainRate({ halfLifeMs });
        // In time that counts: what was added when, and how long it has been.
        const added: { readonly bytes: number; readonly atMs: number }[] = [];
        let countedMs = 0;
        let nowMs = 0;
        let latestMs: number | undefined;
        for (const { op, bytes, ms } of steps) {
          nowMs += ms;
          if (op !== 'idle') countedMs += Math.max(0, nowMs - (latestMs ?? nowMs));
          latestMs = Math.max(nowMs, latestMs ?? nowMs);
          if (op === 'idle') rate.idle(nowMs);
          else if (op === 'add') {
            rate.add(bytes, nowMs);
            added.push({ bytes, atMs: countedMs });
          }
          if (op !== 'ask') continue;
          const weighted = added.reduce((sum, a) => sum + a.bytes * 0.5 ** ((countedMs - a.atMs) / halfLifeMs), 0);
          const overMs = (halfLifeMs / Math.LN2) * (1 - 0.5 ** (countedMs / halfLifeMs));
          if (!near(rate.bytesPerSecond(nowMs), (weighted / Math.max(overMs, halfLifeMs / 16)) * 1000)) return false;
        }
        return true;
      },
    ),
    { seed: 6, numRuns: 300 },
  );
  t.pass('300 runs');
});

t.test('Retry-After is whole seconds from 1 to 60', async (t) => {
  const cases = [
    [0, 0, 1],
    [-5, 100, 1],
    [1, 1e9, 1],
    [1000, 1000, 1],
    [1001, 1000, 2],
    [59_001, 1000, 60],
    [1e12, 1000, 60],
    [1, 0, 60],
    [1, 1e-300, 60],
    [Infinity, 1000, 60],
  ];
  for (const [queued, rate, expected] of cases)
    t.equal(retryAfterSeconds(queued, rate), expected, `${queued} at ${rate}`);
});
