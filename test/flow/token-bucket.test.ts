import t from 'tap';
import * as fc from 'fast-check';
import { TokenBuckets } from '../../src/flow/token-bucket.ts';

t.test('full at first, filled steadily, never above burst', async (t) => {
  const buckets = new TokenBuckets({ perSecond: 1000, burst: 10, maxKeys: 10 });
  t.equal(buckets.take('a', 10, 0), 0);
  t.equal(buckets.take('a', 1, 0), 1);
  t.equal(buckets.take('a', 4, 2.5), 2, '1.5 ms, rounded up');
  t.equal(buckets.take('a', 4, 4), 0);
  t.equal(buckets.take('b', 10, 4), 0, 'each key has its own');
  t.equal(buckets.take('a', 10, 1e6), 0);
  t.equal(buckets.take('a', 1, 1e6), 1, 'a long silence gave no more than burst');
});

t.test('what is refused costs nothing', async (t) => {
  const buckets = new TokenBuckets({ perSecond: 1000, burst: 10, maxKeys: 10 });
  buckets.take('a', 10, 0);
  for (let i = 0; i < 100; i++) t.equal(buckets.take('a', 5, 1), 4);
  t.equal(buckets.take('a', 5, 5), 0);
});

t.test('more than burst takes a full bucket and leaves a debt', async (t) => {
  const buckets = new TokenBuckets({ perSecond: 1000, burst: 10, maxKeys: 10 });
  buckets.take('a', 1, 0);
  t.equal(buckets.take('a', 35, 0), 1, 'not before it is full');
  t.equal(buckets.take('a', 35, 1), 0);
  t.equal(buckets.take('a', 1, 1), 26, '25 of debt, and 1');
  t.equal(buckets.take('a', 35, 1), 35);
  t.equal(buckets.take('a', 1, 27), 0);
});

t.test('a clock that goes back gives nothing and takes nothing', async (t) => {
  const buckets = new TokenBuckets({ perSecond: 1000, burst: 10, maxKeys: 10 });
  buckets.take('a', 10, 100);
  t.equal(buckets.take('a', 5, 50), 5);
  t.equal(buckets.take('a', 5, 105), 0);
  t.equal(buckets.take('a', 5, 60), 5);
  t.equal(buckets.take('a', 5, 110), 0);
});

t.test('the least lately used key is forgotten', async (t) => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1, maxKeys: 2 });
  t.equal(buckets.take('a', 1, 0), 0);
  t.equal(buckets.take('b', 1, 0), 0);
  t.equal(buckets.take('a', 1, 0), 1000, 'refused, and still a use');
  t.equal(buckets.take('c', 1, 0), 0);
  t.equal(buckets.size, 2);
  t.equal(buckets.take('a', 1, 0), 1000, 'a is known');
  t.equal(buckets.take('b', 1, 0), 0, 'b was forgotten');
});

// The model reckons in whole numbers: an eighth of a millisecond of time, an 8000th of a unit in the bucket.
class Model {
  readonly perSecond: bigint;
  readonly burst: bigint;
  readonly maxKeys: number;
  buckets: { readonly key: string; level: bigint; at: bigint }[] = [];

  constructor(perSecond: number, burst: number, maxKeys: number) {
    this.perSecond = BigInt(perSecond);
    this.burst = BigInt(burst) * 8000n;
    this.maxKeys = maxKeys;
  }

  take(key: string, amount: number, eighths: number): number {
    const now = BigInt(eighths);
    const bucket = this.buckets.find((b) => b.key === key) ?? { key, level: this.burst, at: now };
    this.buckets = [...this.buckets.filter((b) => b !== bucket), bucket].slice(-this.maxKeys);
    const filled = bucket.level + (now - bucket.at) * this.perSecond;
    const level = filled < this.burst ? filled : this.burst;
    const wanted = BigInt(amount) * 8000n;
    const needed = wanted < this.burst ? wanted : this.burst;
    const perMs = this.perSecond * 8n;
    if (level < needed) return Number((needed - level + perMs - 1n) / perMs);
    bucket.level = level - wanted;
    bucket.at = now;
    return 0;
  }
}

t.test('buckets are their exact model, and bounded', async (t) => {
  const step = fc.record({
    key: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    amount: fc.nat(1500),
    eighths: fc.oneof(fc.nat(40), fc.nat(40_000)),
    obey: fc.boolean(),
  });
  const limit = fc.record({
    perSecond: fc.integer({ min: 1, max: 5000 }),
    burst: fc.integer({ min: 1, max: 1000 }),
    maxKeys: fc.integer({ min: 1, max: 5 }),
  });
  const seen = { taken: 0, refused: 0 };
  fc.assert(
    fc.property(limit, fc.array(step, { maxLength: 60, size: 'max' }), (l, steps) => {
      const buckets = new TokenBuckets(l);
      const model = new Model(l.perSecond, l.burst, l.maxKeys);
      let now = 0;
      for (const { key, amount, eighths, obey } of steps) {
        now += eighths;
        const waitMs = buckets.take(key, amount, now / 8);
        if (waitMs !== model.take(key, amount, now) || buckets.size > l.maxKeys) return false;
        if (waitMs === 0) seen.taken++;
        else seen.refused++;
        if (waitMs === 0 || !obey) continue;
        now += waitMs * 8;
        if (buckets.take(key, amount, now / 8) !== 0) return false;
        model.take(key, amount, now);
      }
      return true;
    }),
    { seed: 3, numRuns: 500 },
  );
  t.ok(seen.taken > 1000 && seen.refused > 1000, `${seen.taken} taken, ${seen.refused} refused`);
});

t.test('waiting as long as was said is enough, at any rate, size and time', async (t) => {
  const real = (min: number, max: number): fc.Arbitrary<number> => fc.double({ min, max, noNaN: true });
  fc.assert(
    fc.property(
      real(0.001, 64 * 2 ** 30),
      real(1, 64 * 2 ** 30),
      real(0, 1e10),
      fc.array(real(0, 1.5), { minLength: 1, maxLength: 20 }),
      (perSecond, burst, startMs, parts) => {
        const buckets = new TokenBuckets({ perSecond, burst, maxKeys: 1 });
        let nowMs = startMs;
        // Debt of up to half a burst, so that the time stays in the range in which a double tells 10 ns apart.
        for (const part of parts) {
          const waitMs = buckets.take('a', part * burst, nowMs);
          if (nowMs + waitMs > 1e10) return true;
          nowMs += waitMs;
          if (waitMs > 0 && buckets.take('a', part * burst, nowMs) !== 0) return false;
        }
        return true;
      },
    ),
    { seed: 4, numRuns: 1000 },
  );
  t.pass('1000 runs');
});
