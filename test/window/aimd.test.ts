// The laws of the adaptive window: what each reason does, bounds that hold whatever is seen, and where they settle on a simulated commit
// loop (support/window-plant.ts): fast and slow disks, steps in load, a disk that becomes slow and recovers, clients that wait.

import fc from 'fast-check';
import t from 'tap';
import {
  afterSilence,
  decide,
  goalMs,
  startState,
  windowLaws,
  windowReasons,
  type Observation,
  type WindowState,
} from '../../src/window/aimd.ts';
import { runPlant, type Regime, type Second } from '../support/window-plant.ts';

const SLO = 20;
const GOAL = goalMs(SLO);

/** A quiet disk, many records, half of the linger waited: all is well. */
const calm: Observation = {
  nowMs: 100_000,
  samples: 500,
  p99Ms: 6,
  restP99Ms: 1,
  writeP50Ms: 0.3,
  writeP99Ms: 0.5,
  recordsPerBatch: 50,
  bySize: 0,
  waited: 0.52,
  perLinger: 50,
};
const at = (lingerMs: number, more: Partial<WindowState> = {}): WindowState => ({
  ...startState(SLO),
  lingerMs,
  reason: 'hold',
  ...more,
});
const near = (a: number, b: number): boolean => Math.abs(a - b) < 1e-9;

t.test('law headroom, reason by reason', async (t) => {
  for (const [what, state, seen, lingerMs, reason] of [
    ['the first step', at(0), { perLinger: 0 }, SLO / 40, 'grow'],
    ['no step is more than what there was', at(2), {}, 4, 'grow'],
    ['nor more than half of what is left', at(14), {}, 14 + (GOAL - 1 - 14) / 2, 'grow'],
    ['within the band', at(GOAL - 1.2), { p99Ms: 18.5 }, GOAL - 1.2, 'hold'],
    ['the tail has become longer', at(15), { restP99Ms: 9 }, GOAL - 9, 'tail'],
    ['the durable write bounds it too', at(15), { restP99Ms: -10, writeP50Ms: 9 }, GOAL - 9, 'tail'],
    ['the tail is longer, and the SLO is broken', at(15), { restP99Ms: 9, p99Ms: 24 }, GOAL - 9, 'breach'],
    ['one breach that the tail does not show', at(15), { p99Ms: 24 }, 15, 'breach'],
    ['a second one', at(15, { inARow: 1 }), { p99Ms: 24 }, GOAL - 9, 'breach'],
    ['at most half is given up', at(15, { inARow: 1 }), { p99Ms: 90 }, 7.5, 'breach'],
    ['sizes close the batches', at(8), { bySize: 0.5 }, 8, 'size'],
    ['one client that waits', at(8), { recordsPerBatch: 1, waited: 1, perLinger: 0.9 }, 0, 'company'],
    ['many clients that wait', at(8), { waited: 0.97 }, 0, 'company'],
    ['too few to be told', at(8), { recordsPerBatch: 1, waited: 1, perLinger: 0.3 }, 8 + (GOAL - 1 - 8) / 2, 'grow'],
    [
      'a disk that stalls is what they wait for',
      at(8),
      { waited: 1.2, restP99Ms: 4.1 },
      8 + (GOAL - 4.1 - 8) / 2,
      'grow',
    ],
    ['too short to be told', at(1), { waited: 1 }, 2, 'grow'],
    ['not again so soon', at(0, { pausedUntilMs: 100_001 }), { perLinger: 0 }, 0, 'company'],
    ['nothing left: the floor', at(9), { restP99Ms: 25, p99Ms: 25 }, SLO / 20, 'breach'],
    ['nor is there growth to the floor', at(0), { restP99Ms: 25, p99Ms: 25, perLinger: 0 }, 0, 'breach'],
    ['a write alone takes too long', at(9), { writeP99Ms: 21, p99Ms: 24 }, 0, 'unreachable'],
  ] as const) {
    const next = decide('headroom', SLO, state, { ...calm, ...seen });
    t.ok(near(next.lingerMs, lingerMs), `${what}: ${next.lingerMs}, ${lingerMs} expected`);
    t.equal(next.reason, reason, what);
  }
});

t.test('law aimd: half, a step, or as it is', async (t) => {
  for (const [p99Ms, lingerMs, reason] of [
    [20.1, 4, 'breach'],
    [20, 8, 'hold'],
    [GOAL, 8, 'hold'],
    [GOAL - 0.1, 9, 'grow'],
  ] as const) {
    const next = decide('aimd', SLO, at(8), { ...calm, p99Ms });
    t.match(next, { lingerMs, reason }, `p99 ${p99Ms}`);
  }
  t.equal(decide('aimd', SLO, at(GOAL - 0.1), calm).lingerMs, GOAL, 'no further than to what would be left');
  t.equal(decide('aimd', SLO, at(0.3), { ...calm, p99Ms: 30 }).lingerMs, 0, 'half of next to nothing is none');
});

t.test('nobody came: the pause doubles up to a minute, and begins anew where the linger holds', async (t) => {
  let state = at(8);
  const pauses: number[] = [];
  for (let i = 0; i < 6; i++) {
    state = decide('headroom', SLO, { ...state, lingerMs: 8 }, { ...calm, waited: 1 });
    pauses.push(state.pausedUntilMs - calm.nowMs);
  }
  t.strictSame(pauses, [5000, 10_000, 20_000, 40_000, 60_000, 60_000]);
  state = decide('headroom', SLO, { ...state, lingerMs: GOAL - 1 }, calm);
  t.equal(decide('headroom', SLO, { ...state, lingerMs: 8 }, { ...calm, waited: 1 }).pausedUntilMs, calm.nowMs + 5000);
});

t.test('what is counted: decisions, breaches, the last good linger', async (t) => {
  const first = decide('headroom', SLO, at(3), calm);
  t.match(first, { decisions: 1, breaches: 0, inARow: 0, goodMs: 3, p99Ms: 6, unreachable: false });
  const second = decide('headroom', SLO, first, { ...calm, p99Ms: 25 });
  t.match(second, { decisions: 2, breaches: 1, inARow: 1, goodMs: 3 }, 'what broke the SLO is not good');
  t.match(afterSilence(second), { lingerMs: second.lingerMs / 2, reason: 'start', inARow: 0, goodMs: 3 });
  t.equal(startState(SLO, 7).lingerMs, 7, 'begins where it was good');
  t.equal(startState(SLO, 1e6).lingerMs, GOAL);
  t.equal(startState(SLO, -1).lingerMs, 0);
});

const anything = fc.record({
  nowMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
  samples: fc.integer({ min: 1, max: 1e6 }),
  p99Ms: fc.double({ min: 0, max: 200, noNaN: true }),
  restP99Ms: fc.double({ min: -20, max: 200, noNaN: true }),
  writeP50Ms: fc.double({ min: 0, max: 60, noNaN: true }),
  writeP99Ms: fc.double({ min: 0, max: 60, noNaN: true }),
  recordsPerBatch: fc.double({ min: 1, max: 1e4, noNaN: true }),
  bySize: fc.double({ min: 0, max: 1, noNaN: true }),
  waited: fc.double({ min: 0, max: 10, noNaN: true }),
  perLinger: fc.double({ min: 0, max: 1e5, noNaN: true }),
});

t.test(
  'whatever is seen: within its bounds, never more on a breach, never more than the room, unreachable is 0',
  async (t) => {
    let grew = 0;
    for (const law of windowLaws) {
      fc.assert(
        fc.property(fc.array(anything, { maxLength: 40 }), (all) => {
          let state = startState(SLO);
          for (const seen of all) {
            const next = decide(law, SLO, state, seen);
            const { lingerMs } = next;
            if (!(lingerMs >= 0 && lingerMs <= GOAL)) return false;
            if (!windowReasons.includes(next.reason)) return false;
            if (lingerMs > state.lingerMs) {
              grew++;
              if (seen.p99Ms > SLO || seen.writeP99Ms > SLO) return false;
              const mostMs = Math.max(SLO / 20, GOAL - Math.max(seen.restP99Ms, seen.writeP50Ms));
              if (law === 'headroom' && lingerMs > mostMs + 1e-9) return false;
            }
            if (next.unreachable !== seen.writeP99Ms > SLO || (next.unreachable && lingerMs !== 0)) return false;
            state = next;
          }
          return true;
        }),
        { seed: 7, numRuns: 2000 },
      );
    }
    t.ok(grew > 1000, `it grew ${grew} times: the case was met`);
  },
);

const fast = (random: () => number): number => 0.3 + 0.4 * random();
const slow = (random: () => number): number => 3 + (random() < 0.05 ? 4 + 2 * random() : 2 * random());
const kept = (seconds: readonly Second[]): number => seconds.filter((s) => s.p99Ms <= SLO).length / seconds.length;
const perThousand = (seconds: readonly Second[]): number =>
  (seconds.reduce((sum, s) => sum + s.writes, 0) / seconds.reduce((sum, s) => sum + s.records, 0)) * 1000;

t.test(
  'law headroom settles close below the SLO, on disks that are fast and slow, at loads low and high',
  async (t) => {
    for (const [what, rate, writeMs, leastMs] of [
      ['fast, 100/s', 100, fast, 15],
      ['fast, 2,000/s', 2000, fast, 16],
      ['slow, 500/s', 500, slow, 8],
      ['slow, 5,000/s', 5000, slow, 8],
    ] as const) {
      const regimes: Regime[] = [{ untilMs: 60_000, rate, writeMs }];
      const pieces = runPlant('headroom', SLO, regimes, 1, 10_000).seconds.slice(1);
      t.ok(kept(pieces) >= 0.95, `${what}: the SLO is kept in ${kept(pieces)} of the pieces of 10 s`);
      const settled = runPlant('headroom', SLO, regimes).seconds.slice(10);
      const lingers = settled.map((s) => s.lingerMs);
      const mean = lingers.reduce((sum, l) => sum + l, 0) / lingers.length;
      t.ok(mean >= leastMs, `${what}: linger ${mean} on average, and not far off`);
      t.ok(Math.max(...lingers) - Math.min(...lingers) <= 4, `${what}: it does not swing`);
    }
  },
);

t.test('plain aimd keeps the SLO too; where writes vary it needs more of them: why there is another', async (t) => {
  const regimes: Regime[] = [{ untilMs: 110_000, rate: 2000, writeMs: slow }];
  const [plain, better] = (['aimd', 'headroom'] as const).map((law) => runPlant(law, SLO, regimes, 1, 10_000));
  for (const { seconds } of [plain, better]) {
    const most = Math.max(...seconds.map((s) => s.lingerMs));
    t.ok(most > 8, `it came up to ${most}`);
    t.ok(kept(seconds.slice(1)) >= 0.95, `the SLO is kept in ${kept(seconds.slice(1))} of the pieces of 10 s`);
  }
  const lower = plain.states.filter((s, i) => i > 0 && s.lingerMs === plain.states[i - 1].lingerMs / 2);
  t.ok(lower.length > 3, `a sawtooth: halved ${lower.length} times`);
  const ratio = perThousand(better.seconds.slice(1)) / perThousand(plain.seconds.slice(1));
  t.ok(ratio < 0.9, `headroom writes ${ratio} of what plain aimd does`);
});

t.test(
  'steps in load, × 20 up and down, and a disk that becomes slow and recovers: within the SLO in 5 s',
  async (t) => {
    const step =
      (rate: number, writeMs = fast) =>
      (untilMs: number) => ({ untilMs, rate, writeMs });
    for (const [what, ...regimes] of [
      ['× 20 up and down', step(200), step(4000), step(200)],
      ['from sizes to time', step(80_000), step(4000), step(80_000)],
      ['the disk', step(1000), step(1000, slow), step(1000)],
    ] as const) {
      const { seconds, states } = runPlant(
        'headroom',
        SLO,
        regimes.map((regime, i) => regime((i + 1) * 15_000)),
        1,
        5000,
      );
      for (const from of [15_000, 30_000]) {
        const after = seconds.filter((s) => s.atMs >= from + 9000 && s.atMs < from + 16_000);
        t.equal(after.length, 2, 'pieces of 5 s');
        t.equal(kept(after), 1, `${what}, from 5 s after ${from} on: p99 ${after.map((s) => s.p99Ms).join()}`);
      }
      if (what === 'from sizes to time')
        t.ok(
          states.some((s) => s.reason === 'size'),
          'sizes did close batches',
        );
      const end = seconds.at(-1)!;
      if (what === 'the disk') t.ok(end.lingerMs > 15, `it recovers with the disk: ${end.lingerMs}`);
    }
  },
);

t.test('a disk that is too slow is unreachable while it is, and nothing lingers', async (t) => {
  const { states, seconds } = runPlant('headroom', SLO, [
    { untilMs: 5000, rate: 1000, writeMs: fast },
    { untilMs: 10_000, rate: 1000, writeMs: () => 30 },
    { untilMs: 40_000, rate: 1000, writeMs: fast },
  ]);
  const from = states.findIndex((s) => s.unreachable);
  t.ok(from > 0, 'it was reached');
  t.ok(states.every((s) => !s.unreachable || s.lingerMs === 0));
  t.notOk(states.at(-1)!.unreachable, 'over');
  t.ok(seconds.at(-1)!.lingerMs > 15, 'and it lingers again');
});

t.test('clients that wait for their answers are not made to wait for each other', async (t) => {
  for (const clients of [1, 64]) {
    const regime = { untilMs: 20_000, rate: 0, clients, writeMs: fast };
    const { seconds, states } = runPlant('headroom', SLO, [regime]);
    const free = runPlant({ staticMs: 0 }, SLO, [regime]);
    const records = (all: readonly Second[]): number => all.slice(10).reduce((sum, s) => sum + s.records, 0);
    t.ok(
      states.some((s) => s.reason === 'company'),
      `${clients}: seen`,
    );
    const share = records(seconds) / records(free.seconds);
    t.ok(share > 0.8, `${clients} clients get ${share} of what they get without a linger`);
  }
  const { seconds } = runPlant('headroom', SLO, [{ untilMs: 30_000, rate: 2000, clients: 4, writeMs: fast }]);
  t.ok(seconds.at(-1)!.lingerMs > 10, 'among others that come by themselves it lingers');
  t.ok(perThousand(seconds.slice(10)) < 60, `${perThousand(seconds.slice(10))} writes per 1,000 records`);
});
