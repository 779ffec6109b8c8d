import t from 'tap';
import * as fc from 'fast-check';
import { overflowPolicies, type OverflowPolicy } from '../../src/base/gateway-options.ts';
import { WaitingQueue } from '../../src/flow/overflow.ts';

interface Append {
  readonly name: string;
  readonly bytes: number;
  readonly records: number;
  put: number;
  readonly admission: { readonly overflow?: OverflowPolicy };
}

function append(name: string, bytes: number, overflow?: OverflowPolicy, put = 0): Append {
  return { name, bytes, records: bytes + 1, put, admission: overflow === undefined ? {} : { overflow } };
}

function queueOf(maxBytes: number, ...appends: Append[]): WaitingQueue<Append> {
  const queue = new WaitingQueue<Append>(maxBytes);
  for (const a of appends) queue.push(a);
  return queue;
}

t.test('first come first served', async (t) => {
  const queue = queueOf(100, append('a', 10), append('b', 20), append('c', 30));
  t.equal(queue.bytes, 60);
  t.equal(queue.first?.name, 'a');
  t.equal(queue.shift()?.name, 'a');
  t.equal(queue.bytes, 50);
  t.same(
    queue.takeAll().map((a) => a.name),
    ['b', 'c'],
  );
  t.equal(queue.length, 0);
  t.equal(queue.bytes, 0);
  t.equal(queue.first, undefined);
  t.equal(queue.shift(), undefined);
});

t.test('block waits within the bound, and beyond it alone', async (t) => {
  const queue = new WaitingQueue<Append>(100);
  t.equal(queue.decide('block', 1000), 'wait', 'nobody waits: else it could never be appended');
  queue.push(append('large', 1000));
  t.equal(queue.decide('block', 1), 'refuse');
  queue.shift();
  queue.push(append('a', 60));
  t.equal(queue.decide('block', 40), 'wait');
  t.equal(queue.decide('block', 41), 'refuse');
  t.throws(() => queue.push(append('b', 41)), /without room/);
  t.equal(queue.bytes, 60);
});

t.test('drop-newest never waits', async (t) => {
  t.equal(new WaitingQueue<Append>(100).decide('drop-newest', 1), 'refuse');
});

t.test('drop-oldest takes the place of the oldest that was appended so', async (t) => {
  const queue = queueOf(100, append('a', 40, 'block'), append('b', 30, 'drop-oldest'), append('c', 30, 'drop-oldest'));
  t.equal(queue.decide('drop-oldest', 31), 'evict');
  t.equal(queue.evictOldest().name, 'b', 'the older one of them; a was told to wait');
  t.equal(queue.decide('drop-oldest', 31), 'evict');
  t.equal(queue.evictOldest().name, 'c');
  t.equal(queue.decide('drop-oldest', 31), 'wait');
  t.equal(queue.decide('drop-oldest', 61), 'refuse', 'only a is left');
  t.throws(() => queue.evictOldest(), /nothing to evict/);
});

t.test('nobody is evicted in vain', async (t) => {
  const queue = queueOf(100, append('a', 40, 'block'), append('b', 30, 'drop-oldest'));
  t.equal(queue.decide('drop-oldest', 60), 'evict');
  t.equal(queue.decide('drop-oldest', 61), 'refuse', 'without b it would not fit either');
  const alone = queueOf(100, append('b', 30, 'drop-oldest'));
  t.equal(alone.decide('drop-oldest', 500), 'evict', 'alone a larger one may wait');
});

t.test('what is in the lane in part is neither evicted nor removed', async (t) => {
  const first = append('a', 60, 'drop-oldest', 3);
  const second = append('b', 30, 'drop-oldest');
  const queue = queueOf(100, first, second);
  t.equal(queue.decide('drop-oldest', 50), 'refuse', 'b alone would not make room');
  t.equal(queue.decide('drop-oldest', 40), 'evict');
  t.equal(queue.evictOldest().name, 'b');
  t.equal(queue.remove(first), false);
  t.equal(queue.decide('drop-oldest', 500), 'refuse', 'it would not be alone');
  t.throws(() => queue.evictOldest(), /nothing to evict/);
  t.equal(queue.shift(), first);
  t.equal(queue.bytes, 0);
});

t.test('remove takes one out of the middle, once', async (t) => {
  const b = append('b', 20, 'drop-oldest');
  const queue = queueOf(100, append('a', 10), b, append('c', 30));
  t.equal(queue.remove(b), true);
  t.equal(queue.remove(b), false);
  t.equal(queue.bytes, 40);
  t.same(
    queue.takeAll().map((a) => a.name),
    ['a', 'c'],
  );
});

/** What the policy says, by trying. */
function decideByTrying(waiting: readonly Append[], maxBytes: number, policy: OverflowPolicy, bytes: number): string {
  const fits = (all: readonly Append[]): boolean =>
    all.length === 0 || all.reduce((sum, a) => sum + a.bytes, 0) + bytes <= maxBytes;
  if (policy === 'drop-newest') return 'refuse';
  if (fits(waiting)) return 'wait';
  const left =
    policy === 'block' ? waiting : waiting.filter((a) => a.admission.overflow !== 'drop-oldest' || a.put > 0);
  return left.length < waiting.length && fits(left) ? 'evict' : 'refuse';
}

t.test('a queue is its model, whatever happens in whichever order', async (t) => {
  const step = fc.record({
    op: fc.constantFrom('append', 'append', 'append', 'put', 'shift', 'remove'),
    policy: fc.constantFrom(...overflowPolicies),
    bytes: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 150 })),
    which: fc.nat(10),
  });
  const seen = { wait: 0, refuse: 0, evict: 0, pinned: 0 };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const queue = new WaitingQueue<Append>(100);
      let model: Append[] = [];
      for (const [i, { op, policy, bytes, which }] of steps.entries()) {
        if (op === 'append') {
          const newcomer = append(String(i), bytes, policy);
          for (;;) {
            const decision = queue.decide(policy, bytes);
            if (decision !== decideByTrying(model, 100, policy, bytes)) return false;
            seen[decision]++;
            if (decision === 'refuse') break;
            if (decision === 'wait') {
              queue.push(newcomer);
              model.push(newcomer);
              break;
            }
            const evicted = queue.evictOldest();
            if (evicted !== model.find((a) => a.admission.overflow === 'drop-oldest' && a.put === 0)) return false;
            model = model.filter((a) => a !== evicted);
          }
        } else if (op === 'put') {
          if (model.length > 0) {
            model[0].put++;
            seen.pinned++;
          }
        } else if (op === 'shift') {
          if (queue.shift() !== model.shift()) return false;
        } else if (model.length > 0) {
          const one = model[which % model.length];
          if (queue.remove(one) !== (one.put === 0)) return false;
          if (one.put === 0) model = model.filter((a) => a !== one);
        }
        const sum = model.reduce((total, a) => total + a.bytes, 0);
        if (queue.bytes !== sum || queue.length !== model.length || queue.first !== model[0]) return false;
        if (sum > 100 && model.length > 1) return false;
      }
      const rest = queue.takeAll();
      return rest.length === model.length && rest.every((a, i) => a === model[i]) && queue.bytes === 0;
    }),
    { seed: 7, numRuns: 500 },
  );
  for (const [what, count] of Object.entries(seen)) t.ok(count > 100, `${what}: ${count}`);
});
