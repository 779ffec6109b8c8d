import t from 'tap';
import * as fc from 'fast-check';
import { ByteBudget, type After } from '../../src/flow/budget.ts';

/** Timers that go off when the test says so. */
class Timers {
  nowMs = 0;
  readonly pending = new Set<{ readonly atMs: number; readonly callback: () => void }>();

  readonly after: After = (ms, callback) => {
    const timer = { atMs: this.nowMs + ms, callback };
    this.pending.add(timer);
    return () => void this.pending.delete(timer);
  };

  advance(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (;;) {
      const due = [...this.pending].filter((timer) => timer.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.pending.delete(due);
      this.nowMs = due.atMs;
      due.callback();
    }
    this.nowMs = untilMs;
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('takes what is there, and refuses what is not', async (t) => {
  const budget = new ByteBudget(10);
  t.equal(budget.tryAcquire(4), true);
  t.equal(budget.tryAcquire(7), false);
  t.equal(budget.tryAcquire(6), true);
  t.equal(budget.usedBytes, 10);
  t.equal(budget.freeBytes, 0);
  budget.release(3);
  budget.release(7);
  t.equal(budget.usedBytes, 0);
  t.equal(budget.freeBytes, 10);
});

t.test('a large one is not overtaken, by acquire or tryAcquire', async (t) => {
  const budget = new ByteBudget(10);
  budget.tryAcquire(6);
  const order: string[] = [];
  const large = budget.acquire(8, { timeoutMs: Infinity }).then((got) => order.push(`large ${got}`));
  const small = budget.acquire(1, { timeoutMs: Infinity }).then((got) => order.push(`small ${got}`));
  t.equal(budget.tryAcquire(1), false, 'although 4 are unused');
  t.equal(budget.freeBytes, 0);
  t.equal(budget.waitingBytes, 9);
  await settled();
  t.same(order, []);
  budget.release(6);
  await Promise.all([large, small]);
  t.same(order, ['large true', 'small true']);
  t.equal(budget.usedBytes, 9);
  t.equal(budget.waitingBytes, 0);
});

t.test('waiting ends by a timeout or a signal, and those behind move up', async (t) => {
  const timers = new Timers();
  const budget = new ByteBudget(10, timers.after);
  budget.tryAcquire(6);
  const abort = new AbortController();
  const first = budget.acquire(9, { timeoutMs: 50 });
  const second = budget.acquire(8, { timeoutMs: 500, signal: abort.signal });
  const third = budget.acquire(4, { timeoutMs: 500 });
  timers.advance(49);
  t.equal(budget.waitingBytes, 21);
  timers.advance(1);
  t.equal(await first, false);
  t.equal(budget.waitingBytes, 12);
  abort.abort();
  t.equal(await second, false);
  t.equal(await third, true, 'nothing stands before it any more');
  t.equal(budget.usedBytes, 10);
  t.equal(timers.pending.size, 0, 'no timer is left over');
  timers.advance(1000);
  t.equal(budget.usedBytes, 10);
});

t.test('what never can or shall not wait gets its answer at once', async (t) => {
  const timers = new Timers();
  const budget = new ByteBudget(10, timers.after);
  t.equal(await budget.acquire(11, { timeoutMs: Infinity }), false, 'more than there is');
  t.equal(await budget.acquire(1, { timeoutMs: 0, signal: AbortSignal.abort() }), false, 'aborted before');
  t.equal(await budget.acquire(10, { timeoutMs: 0 }), true, 'without waiting');
  t.equal(await budget.acquire(1, { timeoutMs: 0 }), false);
  t.equal(timers.pending.size, 0);
  t.equal(budget.waitingBytes, 0);
});

t.test('the real timer: a short one goes off, an endless one does not', async (t) => {
  const budget = new ByteBudget(10);
  budget.tryAcquire(10);
  const endless = budget.acquire(1, { timeoutMs: Infinity });
  const long = budget.acquire(2, { timeoutMs: 1e12 });
  const keepAlive = setTimeout(() => undefined, 10_000);
  t.equal(await budget.acquire(1, { timeoutMs: 5 }), false);
  clearTimeout(keepAlive);
  t.equal(budget.waitingBytes, 3, 'the others wait on');
  budget.release(10);
  t.equal(await endless, true);
  t.equal(await long, true);
});

t.test('a signal is let go of when the waiting is over', async (t) => {
  const budget = new ByteBudget(10);
  budget.tryAcquire(10);
  const abort = new AbortController();
  let listeners = 0;
  const { signal } = abort;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>): void => (listeners++, add(...args));
  signal.removeEventListener = (...args: Parameters<typeof remove>): void => (listeners--, remove(...args));
  const waiting = budget.acquire(1, { timeoutMs: Infinity, signal });
  t.equal(listeners, 1);
  budget.release(1);
  t.equal(await waiting, true);
  t.equal(listeners, 0);
  abort.abort();
  t.equal(budget.usedBytes, 10, 'what was granted stays granted');
});

t.test('a mistake of the caller is said, and changes nothing', async (t) => {
  const budget = new ByteBudget(10);
  budget.tryAcquire(4);
  t.throws(() => budget.release(5), /released 5 bytes, while 4 are taken/);
  t.throws(() => budget.release(-1), /released/);
  t.throws(() => budget.release(NaN), /released/);
  t.throws(() => budget.tryAcquire(-1), /acquired/);
  t.throws(() => budget.tryAcquire(NaN), /acquired/);
  t.equal(budget.usedBytes, 4);
});

// The model: a list of those that wait, and nobody passes the first.

interface Claim {
  readonly bytes: number;
  readonly untilMs: number;
  state: 'waits' | 'has' | 'gave up';
}

class Model {
  readonly capacity: number;
  readonly claims: Claim[] = [];
  nowMs = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  sum(state: Claim['state']): number {
    return this.claims.filter((c) => c.state === state).reduce((sum, c) => sum + c.bytes, 0);
  }

  settle(): void {
    for (const claim of this.claims.filter((c) => c.state === 'waits')) {
      if (this.sum('has') + claim.bytes > this.capacity) return;
      claim.state = 'has';
    }
  }

  acquire(bytes: number, timeoutMs: number): void {
    const claim: Claim = { bytes, untilMs: this.nowMs + timeoutMs, state: 'waits' };
    this.claims.push(claim);
    this.settle();
    if (claim.state === 'waits' && (bytes > this.capacity || timeoutMs === 0)) claim.state = 'gave up';
  }

  tick(): void {
    this.nowMs++;
    for (const claim of this.claims) {
      if (claim.state !== 'waits' || claim.untilMs > this.nowMs) continue;
      claim.state = 'gave up';
      this.settle();
    }
  }
}

const step = fc.oneof(
  fc.record({ op: fc.constant('acquire' as const), bytes: fc.nat(14), timeoutMs: fc.nat(6) }),
  fc.record({ op: fc.constant('tryAcquire' as const), bytes: fc.nat(12) }),
  fc.record({ op: fc.constant('release' as const), which: fc.nat(30) }),
  fc.record({ op: fc.constant('abort' as const), which: fc.nat(30) }),
  fc.record({ op: fc.constant('tick' as const) }),
);

t.test('a budget is its model: never over-granted, first come first served, released exactly', async (t) => {
  let waited = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 50, size: 'max' }), async (steps) => {
      const timers = new Timers();
      const budget = new ByteBudget(12, timers.after);
      const model = new Model(12);
      const results: Claim['state'][] = [];
      const aborts: AbortController[] = [];
      for (const s of steps) {
        if (s.op === 'acquire') {
          const i = results.length;
          results.push('waits');
          aborts.push(new AbortController());
          model.acquire(s.bytes, s.timeoutMs);
          const { signal } = aborts[i];
          void budget.acquire(s.bytes, { timeoutMs: s.timeoutMs, signal }).then((got) => {
            results[i] = got ? 'has' : 'gave up';
          });
        } else if (s.op === 'tryAcquire') {
          model.acquire(s.bytes, 0);
          aborts.push(new AbortController());
          results.push(budget.tryAcquire(s.bytes) ? 'has' : 'gave up');
        } else if (s.op === 'release') {
          const i = model.claims.findIndex((c, at) => c.state === 'has' && c.bytes > 0 && at >= s.which % 8);
          if (i < 0) continue;
          const { bytes } = model.claims[i];
          model.claims.splice(i, 1, { bytes: 0, untilMs: 0, state: 'has' });
          model.settle();
          // In two portions: the first may be enough for some, but for nobody who would not come first.
          budget.release(Math.floor(bytes / 2));
          budget.release(bytes - Math.floor(bytes / 2));
        } else if (s.op === 'abort') {
          if (aborts.length === 0) continue;
          const i = s.which % aborts.length;
          aborts[i].abort();
          if (model.claims[i].state === 'waits') model.claims[i].state = 'gave up';
          model.settle();
        } else {
          timers.advance(1);
          model.tick();
        }
        await settled();
        waited += model.sum('waits') > 0 ? 1 : 0;
        if (budget.usedBytes !== model.sum('has') || budget.usedBytes > 12) return false;
        if (budget.waitingBytes !== model.sum('waits')) return false;
        if (model.claims.some((claim, i) => claim.state !== results[i])) return false;
      }
      budget.release(budget.usedBytes);
      timers.advance(100);
      await settled();
      return budget.waitingBytes === 0 && timers.pending.size === 0 && !results.includes('waits');
    }),
    { seed: 5, numRuns: 400 },
  );
  t.ok(waited > 500, `somebody waited in ${waited} states`);
});
