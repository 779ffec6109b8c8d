// The generator in a time of its own: every latency counts from the intended time, and the report blames the right one.

import * as fc from 'fast-check';
import t from 'tap';
import { seededRandom } from '../../src/base/clock.ts';
import { constantArrivals, poissonArrivals, upTo, type Arrivals } from '../../src/load/arrivals.ts';
import { offer, type Tally } from '../../src/load/generator.ts';
import { reportOf, type LoadReport } from '../../src/load/report.ts';
import { VirtualTarget, VirtualTimer } from '../support/load-virtual.ts';

const GRACE_MS = 5000;

interface Setting {
  readonly arrivals: Arrivals;
  readonly endMs: number;
  readonly maxUnderWay: number;
  readonly answer: (n: number) => number | Error | undefined;
  readonly blocked?: { readonly fromMs: number; readonly toMs: number };
  readonly busyShare?: number;
  readonly signal?: AbortSignal;
}

async function run(
  s: Setting,
): Promise<{ tally: Tally; report: LoadReport; target: VirtualTarget; timer: VirtualTimer }> {
  const timer = new VirtualTimer();
  timer.blocked = s.blocked;
  timer.busyShare = s.busyShare ?? 0.2;
  const target = new VirtualTarget(timer, s.maxUnderWay, s.answer);
  const plan = { arrivals: upTo(s.arrivals, s.endMs, 1_000_000), endMs: s.endMs, graceMs: GRACE_MS };
  const tally = await timer.run(offer(target, plan, timer, s.signal));
  return { tally, report: reportOf(tally, { perRequest: 1, recordBytes: 100 }, {}), target, timer };
}

const near = (value: number, expected: number): boolean => Math.abs(value - expected) <= expected * 0.02 + 0.001;

function coded(code: string): Error {
  return Object.assign(new Error(code), { code });
}

t.test('a target that keeps up: each goes out when it is due, and nobody was the limit', async (t) => {
  const { tally, report, target } = await run({
    arrivals: constantArrivals(100),
    endMs: 2000,
    maxUnderWay: 4,
    answer: () => 7,
  });
  t.strictSame(
    target.sentAtMs,
    Array.from({ length: 200 }, (_, i) => i * 10),
  );
  t.match(tally, { sent: 200, accepted: 200, acceptedRecords: 200, unsent: 0, unanswered: 0, offeredMs: 2000 });
  t.ok(near(report.latencyMs.p50, 7) && near(report.latencyMs.max, 7), 'latency is the service time');
  t.equal(report.lateMs.max, 0);
  t.match(report, { limit: 'none', offered: { requests: 200, recordsPerSecond: 100 }, seconds: 2 });
  t.ok(near(report.accepted.recordsPerSecond, 100));
  t.ok(near(report.accepted.bytesPerSecond, 10_000));
  t.match(report.verdict, /every request went out when it was due/);
});

t.test('one stall is charged to all who were due meanwhile (no coordinated omission)', async (t) => {
  // One connection, 1 ms each, and one answer that takes a second: a closed loop would see one slow request of 300.
  const { report, tally } = await run({
    arrivals: constantArrivals(100),
    endMs: 3000,
    maxUnderWay: 1,
    answer: (n) => (n === 100 ? 1000 : 1),
  });
  t.equal(tally.accepted, 300);
  t.ok(near(report.latencyMs.max, 1000), `max ${report.latencyMs.max}`);
  // 100 were due during the stall, and waited 500 ms on average: a third of all, so the median of the slow third is at 5/6.
  t.ok(report.latencyMs.p99 > 900, `p99 ${report.latencyMs.p99}`);
  const middle = tally.latencyUs.quantile(5 / 6) / 1000;
  t.ok(middle > 350 && middle < 650, `5/6 quantile ${middle}`);
  t.equal(report.limit, 'target');
  t.equal(report.ownLagMs.max, 0, 'none of it was the generator');
  t.match(report.verdict, /target, or the number of connections, was the limit: 1 % waited more than/);
});

t.test('a generator that is held up says so, whatever the target does', async (t) => {
  const { report, tally } = await run({
    arrivals: constantArrivals(100),
    endMs: 2000,
    maxUnderWay: 1000,
    answer: () => 1,
    blocked: { fromMs: 500, toMs: 900 },
  });
  t.equal(tally.accepted, 200, 'all go out in the end');
  t.ok(near(report.ownLagMs.max, 400), `own lag ${report.ownLagMs.max}`);
  t.ok(report.latencyMs.max >= 400, 'and the latency counts it');
  t.equal(report.limit, 'generator');
  t.match(
    report.verdict,
    /this generator was the limit: 1 % of its requests went out more than .* \(threshold 10 ms\)/,
  );
  const busy = await run({
    arrivals: constantArrivals(100),
    endMs: 1000,
    maxUnderWay: 10,
    answer: () => 1,
    busyShare: 0.91,
  });
  t.equal(busy.report.limit, 'generator');
  t.match(busy.report.verdict, /event loop was busy 91 % of the time \(threshold 90 %\)/);
});

t.test('overload: what never got its turn is counted, and not left out of the latencies', async (t) => {
  const { report, tally, target } = await run({
    arrivals: constantArrivals(100),
    endMs: 4000,
    maxUnderWay: 2,
    answer: () => 40,
  });
  t.equal(target.mostUnderWay, 2, 'never more under way');
  t.equal(tally.sent + tally.unsent, 400);
  t.ok(Math.abs(tally.accepted - 200) <= 2, `${tally.accepted} of 400: the capacity is 50/s`);
  t.equal(report.limit, 'target');
  t.equal(report.offered.recordsPerSecond, 100, 'offered is what was asked for');
  t.equal(report.sent.requests, tally.sent, 'sent is what reached it');
  t.ok(Math.abs(report.heldMs.p50 - 40) <= 1, `each held for 40 ms, however late it was sent: ${report.heldMs.p50}`);
  t.ok(report.accepted.recordsPerSecond < 51);
  t.ok(near(report.latencyMs.max, 2000), `the last accepted had waited for half of the time: ${report.latencyMs.max}`);
  t.equal(tally.offeredLatencyUs.count, 400);
  t.match(report.verdict, /requests never got a free connection/);
});

t.test('a target that never answers: bounded by end and grace', async (t) => {
  const { report, tally, timer } = await run({
    arrivals: constantArrivals(100),
    endMs: 1000,
    maxUnderWay: 3,
    answer: () => undefined,
  });
  t.match(tally, { sent: 3, accepted: 0, unsent: 97, unanswered: 3 });
  t.equal(timer.elapsedMs, 1000 + GRACE_MS);
  t.ok(near(report.offeredLatencyMs.max, 1000 + GRACE_MS));
  t.match(report.verdict, /97 requests never got a free connection, 3 were not answered/);
  const late = await run({
    arrivals: constantArrivals(10),
    endMs: 1000,
    maxUnderWay: 100,
    answer: (n) => (n === 9 ? 4000 : n === 8 ? GRACE_MS + 500 : 1),
  });
  await late.timer.run(new Promise<void>((resolve) => void late.timer.after(60_000, resolve)));
  t.equal(late.target.underWay, 0, 'by now the last has answered');
  t.match(late.tally, { accepted: 9, unanswered: 1 }, 'within the grace it counts, behind it no more');
  t.equal(late.tally.latencyUs.count, 9);
  t.ok(near(late.report.seconds, 4.9), `the rate is over all the time it took: ${late.report.seconds} s`);
});

t.test('refusals by code, in bounded number; their latency is not that of accepted ones', async (t) => {
  const { tally, report } = await run({
    arrivals: constantArrivals(1000),
    endMs: 1000,
    maxUnderWay: 100,
    answer: (n) => (n % 2 === 0 ? 5 : n % 4 === 1 ? coded('BACKLOG_FULL') : coded(`CODE_${n}`)),
  });
  t.equal(tally.accepted, 500);
  t.equal(report.refused['BACKLOG_FULL'], 250);
  t.equal(Object.keys(report.refused).length, 65);
  t.equal(
    Object.values(report.refused).reduce((a, b) => a + b, 0),
    500,
  );
  t.equal(Object.keys(report.refused)[0], 'BACKLOG_FULL', 'the most frequent first');
  t.ok(near(report.latencyMs.p50, 5));
  const odd = await run({ arrivals: constantArrivals(10), endMs: 100, maxUnderWay: 1, answer: () => new Error('x') });
  t.strictSame(odd.report.refused, { ERROR: 1 });
});

t.test('an interrupt ends the offering, not what is under way', async (t) => {
  const abort = new AbortController();
  const { tally, report } = await run({
    arrivals: constantArrivals(100),
    endMs: 60_000,
    maxUnderWay: 10,
    answer: (n) => {
      if (n === 50) abort.abort();
      return 20;
    },
    signal: abort.signal,
  });
  t.equal(tally.interrupted, true);
  t.ok(tally.sent >= 51 && tally.sent <= 52, `${tally.sent} sent`);
  t.equal(tally.accepted, tally.sent);
  t.ok(near(report.offered.recordsPerSecond, 100) || report.offered.requests <= 52);
  t.ok(report.seconds < 1);
});

t.test('nothing due', async (t) => {
  const { report, timer } = await run({ arrivals: () => undefined, endMs: 50, maxUnderWay: 1, answer: () => 1 });
  t.match(report, { limit: 'none', verdict: 'nothing was due', latencyMs: { p50: 0, max: 0 } });
  t.equal(timer.elapsedMs, 50);
});

t.test('the books balance, whatever the target does', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        seed: fc.nat(1000),
        perSecond: fc.integer({ min: 1, max: 200 }),
        endMs: fc.integer({ min: 1, max: 1000 }),
        maxUnderWay: fc.integer({ min: 1, max: 20 }),
        slowMs: fc.integer({ min: 0, max: 400 }),
      }),
      async ({ seed, perSecond, endMs, maxUnderWay, slowMs }) => {
        const random = seededRandom(seed + 7);
        const { tally, target } = await run({
          arrivals: poissonArrivals(perSecond, seededRandom(seed)),
          endMs,
          maxUnderWay,
          answer: () => {
            const r = random();
            return r < 0.05 ? undefined : r < 0.2 ? coded('REFUSED') : random() * slowMs;
          },
        });
        let due = 0;
        const arrivals = upTo(poissonArrivals(perSecond, seededRandom(seed)), endMs, 1_000_000);
        while (arrivals() !== undefined) due++;
        const refused = [...tally.refused.values()].reduce((a, b) => a + b, 0);
        const balanced =
          tally.sent === tally.accepted + refused + tally.unanswered &&
          tally.sent + tally.unsent === due &&
          tally.sent === target.sent &&
          tally.latencyUs.count === tally.accepted &&
          tally.offeredLatencyUs.count === due - refused &&
          target.mostUnderWay <= maxUnderWay &&
          target.sentAtMs.every((at) => at <= endMs) &&
          tally.ownLagUs.max < 1;
        if (!balanced) throw new Error(JSON.stringify({ due, refused, tally: { ...tally, refused: undefined } }));
      },
    ),
    { numRuns: 200 },
  );
  t.pass('200 runs');
});
