import t from 'tap';
import * as fc from 'fast-check';
import { ByteBudget } from '../../src/flow/budget.ts';
import { Credits, type CreditBounds } from '../../src/flow/credits.ts';

/** Server and producer of one connection, with what is under way between them. */
class Connection {
  readonly credits: Credits;
  /** CREDIT frames on their way to the producer. */
  readonly down: number[] = [];
  /** Frames on their way to the server. */
  readonly up: number[] = [];
  /** Frames that have come and are not durable yet. */
  readonly held: number[] = [];
  /** What the producer knows it may send. */
  credit = 0;
  sentBytes = 0;

  constructor(bounds: CreditBounds) {
    this.credits = new Credits(bounds);
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

class Space {
  readonly budget: ByteBudget;
  readonly bounds: CreditBounds;
  /** Set where room is kept for connections that are not there yet. */
  readonly maxConnections: number;
  readonly open: Connection[] = [];
  readonly grants: number[] = [];

  constructor(bytes: number, bounds: CreditBounds, maxConnections = 0) {
    this.budget = new ByteBudget(bytes);
    this.bounds = bounds;
    this.maxConnections = maxConnections;
  }

  connect(): Connection {
    const connection = new Connection(this.bounds);
    this.open.push(connection);
    return connection;
  }

  grant(c: Connection): number {
    const { freeBytes } = this.budget;
    const bytes = c.credits.grant(freeBytes, Math.max(this.open.length, this.maxConnections));
    if (bytes === 0) return 0;
    if (bytes > freeBytes || !this.budget.tryAcquire(bytes)) throw new Error(`granted ${bytes} of ${freeBytes}`);
    this.grants.push(bytes);
    c.down.push(bytes);
    return bytes;
  }

  grantAll(): number {
    return sum(this.open.map((c) => this.grant(c)));
  }

  send(c: Connection, bytes: number): void {
    if (bytes === 0 || bytes > c.credit) return;
    c.credit -= bytes;
    c.sentBytes += bytes;
    c.up.push(bytes);
  }

  hear(c: Connection): void {
    c.credit += c.down.shift() ?? 0;
  }

  /** @returns bytes that no credit covered */
  receive(c: Connection): number {
    const bytes = c.up.shift();
    if (bytes === undefined) return 0;
    c.held.push(bytes);
    return c.credits.spent(bytes);
  }

  settle(c: Connection): void {
    const bytes = c.held.shift();
    if (bytes === undefined) return;
    c.credits.returned(bytes);
    this.budget.release(bytes);
  }

  close(c: Connection): void {
    this.open.splice(this.open.indexOf(c), 1);
    this.budget.release(c.credits.close());
    // What has come is stored all the same; what is still on its way never comes.
    while (c.held.length > 0) this.settle(c);
  }

  /** All that is on its way arrives, and becomes durable. */
  quiet(): void {
    for (const c of this.open) {
      while (c.down.length > 0) this.hear(c);
      while (c.up.length > 0) this.receive(c);
      while (c.held.length > 0) this.settle(c);
    }
  }

  /** What must hold at any time; undefined, or what is wrong. */
  fault(): string | undefined {
    let used = 0;
    for (const { credits, credit, down, up, held } of this.open) {
      const { outstandingBytes, heldBytes } = credits;
      used += outstandingBytes + heldBytes;
      if (outstandingBytes !== credit + sum(down) + sum(up)) return `the two sides differ: ${outstandingBytes}`;
      if (heldBytes !== sum(held)) return `${heldBytes} held`;
      if (outstandingBytes + heldBytes > this.bounds.maxBytes) return 'more than maxBytes';
    }
    if (used !== this.budget.usedBytes) return `${this.budget.usedBytes} set aside for ${used}`;
    const small = this.grants.find((bytes) => bytes < this.bounds.minBytes / 4);
    return small === undefined ? undefined : `a CREDIT frame of ${small}`;
  }
}

t.test('begins with minBytes, and everybody has them', async (t) => {
  const space = new Space(100_000, { minBytes: 1000, maxBytes: 50_000 });
  for (let i = 0; i < 100; i++) space.connect();
  t.equal(space.grantAll(), 100_000);
  t.ok(space.grants.every((bytes) => bytes === 1000));
  t.equal(space.grantAll(), 0);
  t.equal(space.fault(), undefined);
});

t.test('a busy one doubles with each grant, up to as much as stays free or maxBytes', async (t) => {
  for (const [maxBytes, limit] of [
    [1_000_000, 50_000],
    [20_000, 20_000],
  ]) {
    const space = new Space(100_000, { minBytes: 1000, maxBytes });
    const c = space.connect();
    const had: number[] = [];
    for (let i = 0; i < 12; i++) {
      space.grant(c);
      space.hear(c);
      space.send(c, c.credit);
      space.receive(c);
      had.push(c.credits.heldBytes);
      if (had.at(-1) === had.at(-2)) break;
    }
    t.same(had.slice(0, 4), [1000, 2000, 4000, 8000]);
    t.ok(c.credits.heldBytes > limit * 0.7 && c.credits.heldBytes <= limit, `${c.credits.heldBytes} of ${limit}`);
    t.equal(space.fault(), undefined);
  }
});

t.test('k busy ones share all but one part of k + 1, and a newcomer finds room', async (t) => {
  const space = new Space(1_000_000, { minBytes: 1000, maxBytes: 1_000_000 });
  const busy = [1, 2, 3, 4].map(() => space.connect());
  for (let i = 0; i < 400; i++) {
    const c = busy[i % 4];
    space.grant(c);
    while (c.down.length > 0) space.hear(c);
    space.send(c, c.credit);
    space.receive(c);
    // Now and then a frame becomes durable, so that what one took too early comes back.
    if (i % 8 < 4) space.settle(c);
  }
  for (const { credits } of busy) {
    const own = credits.outstandingBytes + credits.heldBytes;
    t.ok(own > 100_000 && own < 300_000, `${own} of 1,000,000`);
  }
  t.equal(space.grant(space.connect()), 1000);
  t.equal(space.fault(), undefined);
});

t.test('small requests get no CREDIT frame each', async (t) => {
  const space = new Space(1_000_000, { minBytes: 8192, maxBytes: 100_000 });
  const c = space.connect();
  space.grant(c);
  space.hear(c);
  for (let i = 0; i < 1000; i++) {
    space.send(c, 100);
    t.equal(space.receive(c), 0);
    space.settle(c);
    space.grant(c);
    space.hear(c);
  }
  t.equal(c.sentBytes, 100_000, 'it never had to wait');
  t.ok(space.grants.length <= 100_000 / 2048 + 1, `${space.grants.length} CREDIT frames`);
  t.ok(c.credits.outstandingBytes <= 8192, 'and who sends little at a time is given little');
});

t.test('one that falls silent does not fill up again', async (t) => {
  const space = new Space(4_000_000, { minBytes: 10_000, maxBytes: 1_000_000 });
  const c = space.connect();
  for (let i = 0; i < 10; i++) {
    space.grant(c);
    space.hear(c);
    while (c.credit > 0) space.send(c, Math.min(c.credit, 10_000));
    while (c.up.length > 0) space.receive(c);
  }
  t.ok(c.credits.heldBytes > 900_000, `${c.credits.heldBytes} under way`);
  while (c.held.length > 0) {
    space.settle(c);
    space.grant(c);
    space.hear(c);
  }
  t.ok(
    c.credits.outstandingBytes >= 5000 && c.credits.outstandingBytes <= 20_000,
    `${c.credits.outstandingBytes} left`,
  );
});

t.test('idle connections keep no busy one from sending, nor a newcomer', async (t) => {
  const space = new Space(1_000_000, { minBytes: 4000, maxBytes: 500_000 }, 100);
  for (let i = 0; i < 60; i++) space.connect();
  space.grantAll();
  // One after the other has a burst, as large as it can be, and stays.
  for (const c of space.open) {
    for (let i = 0; i < 10; i++) {
      while (c.down.length > 0) space.hear(c);
      space.send(c, c.credit);
      space.receive(c);
      space.grant(c);
    }
    space.quiet();
  }
  for (let i = 60; i < 100; i++) t.ok(space.grant(space.connect()) >= 1000);
  space.quiet();
  space.grantAll();
  for (const c of space.open) t.ok(c.credits.outstandingBytes >= 2000, `${c.credits.outstandingBytes}`);
  t.equal(space.fault(), undefined);
});

t.test('what no credit covers is named, and comes back like the rest', async (t) => {
  const space = new Space(10_000, { minBytes: 1000, maxBytes: 5000 });
  const c = space.connect();
  space.grant(c);
  t.equal(c.credits.spent(3000), 2000);
  t.equal(c.credits.outstandingBytes, 0);
  t.equal(c.credits.heldBytes, 3000);
  t.throws(() => c.credits.returned(3001), /while 3000 are held/);
  t.throws(() => c.credits.returned(NaN), /returned/);
  c.credits.returned(3000);
  t.equal(c.credits.heldBytes, 0);
});

t.test('a connection below minBytes is filled up from whatever is left', async (t) => {
  const space = new Space(2000, { minBytes: 1000, maxBytes: 5000 });
  const [a, b] = [space.connect(), space.connect()];
  space.grantAll();
  space.quiet();
  space.send(a, 1000);
  space.receive(a);
  space.send(b, 600);
  space.receive(b);
  space.settle(b);
  t.equal(space.budget.freeBytes, 600);
  t.equal(space.grant(b), 600);
  t.equal(space.grant(a), 0, 'its own bytes have to come back first');
  space.settle(a);
  t.equal(space.grant(a), 1000);
  t.equal(space.fault(), undefined);
});

t.test('a closed connection gives its credit back, and gets none', async (t) => {
  const space = new Space(10_000, { minBytes: 1000, maxBytes: 5000 });
  const c = space.connect();
  space.grant(c);
  c.credits.spent(300);
  t.equal(c.credits.close(), 700);
  t.equal(c.credits.close(), 0);
  t.equal(c.credits.heldBytes, 300, 'what has come is returned as usual');
  t.equal(c.credits.grant(9000, 1), 0);
  c.credits.returned(300);
  t.equal(c.credits.grant(9000, 1), 0);
});

t.test('no credit while there shall be none', async (t) => {
  const c = new Credits({ minBytes: 1000, maxBytes: 5000 });
  t.equal(c.grant(0, 1), 0);
  t.equal(c.grant(249, 1), 0, 'nor for a few bytes');
  t.equal(c.grant(250, 1), 250);
});

const step = fc.record({
  op: fc.constantFrom('send', 'send', 'hear', 'receive', 'receive', 'settle', 'grant', 'grant', 'connect', 'close'),
  which: fc.nat(20),
  bytes: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 3000 })),
});

t.test(
  'whatever happens: credit is backed by free space, obeyed without refusal, and never small change',
  async (t) => {
    let grants = 0;
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 150, size: 'max' }),
        fc.record({ minBytes: fc.integer({ min: 8, max: 500 }), times: fc.integer({ min: 1, max: 50 }) }),
        fc.integer({ min: 100, max: 20_000 }),
        (steps, { minBytes, times }, bytes) => {
          const space = new Space(bytes, { minBytes, maxBytes: minBytes * times });
          for (const s of steps) {
            if (s.op === 'connect' || space.open.length === 0) {
              if (space.open.length < 10) space.grant(space.connect());
              continue;
            }
            const c = space.open[s.which % space.open.length];
            if (s.op === 'send') space.send(c, Math.min(s.bytes, c.credit));
            else if (s.op === 'hear') space.hear(c);
            else if (s.op === 'receive' && space.receive(c) !== 0) return false;
            else if (s.op === 'settle') space.settle(c);
            else if (s.op === 'grant') space.grant(c);
            else if (s.op === 'close') space.close(c);
            const fault = space.fault();
            if (fault !== undefined) throw new Error(fault);
          }
          grants += space.grants.length;
          for (const c of space.open.slice()) space.close(c);
          return space.budget.usedBytes === 0;
        },
      ),
      { seed: 8, numRuns: 400 },
    );
    t.ok(grants > 3000, `${grants} grants`);
  },
);

t.test('whoever has nothing under way is never stuck while there is room', async (t) => {
  let largest = 0;
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 200, size: 'max' }),
      fc.integer({ min: 8, max: 500 }),
      fc.nat(5000),
      (steps, minBytes, more) => {
        const space = new Space(10 * minBytes + more, { minBytes, maxBytes: minBytes * 50 }, 10);
        for (const s of steps) {
          if ((s.op === 'connect' && space.open.length < 10) || space.open.length === 0) {
            if (space.grant(space.connect()) < minBytes / 2) throw new Error('a newcomer found no room');
            continue;
          }
          const c = space.open[s.which % space.open.length];
          if (s.op === 'send') space.send(c, Math.min(s.bytes, c.credit));
          else if (s.op === 'hear') space.hear(c);
          else if (s.op === 'receive') space.receive(c);
          else if (s.op === 'settle') space.settle(c);
          else if (s.op === 'grant') space.grant(c);
          else if (s.op === 'close') space.close(c);
          largest = Math.max(largest, ...space.open.map(({ credits }) => credits.outstandingBytes / minBytes));
          // Nothing of its own is under way: whatever the others hold, it can send.
          for (const one of space.open) {
            if (one.held.length > 0) continue;
            space.grant(one);
            if (one.credits.outstandingBytes < minBytes / 2)
              throw new Error(`stuck at ${one.credits.outstandingBytes}`);
          }
        }
        return space.fault() === undefined;
      },
    ),
    { seed: 9, numRuns: 300 },
  );
  t.ok(largest > 4, `some had ${largest} × minBytes`);
});
