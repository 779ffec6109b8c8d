// lab:aimd — does a window that is told nothing but the SLO need fewer durable writes than the best one that stays?
//
// Question     A log lives through a low load, a high one, a disk that another process keeps busy, and bursts that come and go between
//              these. One window that stays has to meet the SLO in all of them. What does one that moves gain?
// Method       1. The disturber is set so that the SLO can be met beside it, and is felt. 2. Every static window of a sweep over linger
//              and maxBytes runs in every regime, interleaved by regime, each in a fresh log. The best static window meets the SLO in
//              all regimes, with the fewest durable writes per record over all of them. 3. The two best, law headroom and plain aimd take
//              turns, regime by regime, each in one log that lives through all of them; SLO misses are counted per interval.
//              4. The load of law headroom steps up by 20 and down again.
// Expected     What stays has to linger as short as the slowest regime demands; what moves lingers longer everywhere else.
// Refuted by   more SLO misses than 1 interval in 20; more than 0.85 of the best static window's durable writes per record over all
//              regimes, or more than 1.05 of them in a steady one.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Cell } from '../lib/report.ts';
import { parseLabArguments, runLab, type Lab } from './frame.ts';
import {
  Contender,
  Disturber,
  regimes,
  runRegime,
  type Disturbance,
  type Regime,
  type Run,
  type Subject,
} from './aimd-run.ts';

const MIB = 1024 * 1024;
const KIB = 1024;
const STEP = 20;
const KEPT = 0.95;
const OVER_ALL = 0.85;
const IN_STEADY = 1.05;
const BACK_SECONDS = 5;
/** The disturber: p99 of a durable write beside it, of the SLO, at most; and what is felt at least. */
const STRONGEST = 0.5;
const FELT = 0.1;
const disturbances: readonly Disturbance[] = [16, 8, 4, 2, 1, 0.5, 0.25].flatMap((mib) => [
  { chunkBytes: mib * MIB, pauseMs: 5 },
  { chunkBytes: mib * MIB, pauseMs: 40 },
]);
/** Regimes that are run once more because of noise: more would take the lab beyond its ten minutes. */
const MAX_REPEATS = 1;

interface Setting {
  readonly sloMs: number;
  readonly lingersMs: readonly number[];
  readonly maxBytes: readonly number[];
  readonly sweepSeconds: number;
  readonly seconds: number;
  readonly intervalSeconds: number;
  readonly warmUpSeconds: number;
  readonly stepSeconds: number;
  readonly finalists: number;
  readonly rounds: number;
}

interface Sums {
  readonly name: string;
  readonly runs: readonly Run[];
}

const perThousand = (runs: readonly Run[]): number => {
  const records = runs.reduce((sum, r) => sum + r.records, 0);
  return (1000 * runs.reduce((sum, r) => sum + r.writes, 0)) / records;
};
const inRegime = ({ runs }: Sums, regime: string): Run[] => runs.filter((r) => r.regime === regime);
const intervalsOf = (runs: readonly Run[]): number[] => runs.flatMap((r) => r.intervals.map((i) => i.p99Ms));
const worst = (runs: readonly Run[]): number => Math.max(...runs.map((r) => r.p99Ms));

/** Without what the plots are made of. */
const short = ({ trail: _trail, ...run }: Run): object => run;

const staticOf = (lingerMs: number, maxBytes: number): Subject => ({
  name: `linger ${lingerMs} ms, ${maxBytes >= MIB ? `${maxBytes / MIB} MiB` : `${maxBytes / KIB} KiB`}`,
  window: { lingerMs, maxBytes },
});

/** The strongest disturbance beside which half of the SLO is left. */
async function calibrate(
  lab: Lab,
  dir: string,
  slow: Regime,
  s: Setting,
): Promise<{ how: Disturbance; writeP99Ms: number }> {
  let found: { how: Disturbance; writeP99Ms: number } | undefined;
  for (const how of disturbances) {
    const probe = await Contender.open(staticOf(0, MIB), dir);
    const setting = { seconds: s.sweepSeconds, skipMs: 400, intervalMs: 1e9, seed: 1 };
    const { writeP99Ms } = await runRegime(probe, slow, setting, new Disturber(dir, how));
    await probe.close();
    const words = `${how.chunkBytes / MIB} MiB, then ${how.pauseMs} ms of rest`;
    lab.report.progress(`disturber of ${words}: p99 of a durable write ${writeP99Ms.toFixed(2)} ms`);
    found = { how, writeP99Ms };
    if (writeP99Ms <= STRONGEST * s.sloMs) break;
  }
  return found!;
}

async function sweep(lab: Lab, dir: string, all: readonly Regime[], s: Setting, disturber: Disturber): Promise<Sums[]> {
  const subjects = s.lingersMs.flatMap((lingerMs) => s.maxBytes.map((maxBytes) => staticOf(lingerMs, maxBytes)));
  const sums = subjects.map(({ name }) => ({ name, runs: [] as Run[] }));
  for (const [r, regime] of all.entries()) {
    lab.report.progress(`sweep of ${subjects.length} static windows: ${regime.name}`);
    for (let i = 0; i < subjects.length; i++) {
      // Another one begins in each regime.
      const at = (i + r * 5) % subjects.length;
      const contender = await Contender.open(subjects[at], dir);
      const setting = { seconds: s.sweepSeconds, skipMs: 400, intervalMs: 1e9, seed: 10 + r };
      sums[at].runs.push(await runRegime(contender, regime, setting, disturber));
      await contender.close();
    }
  }
  return sums;
}

/** Those that meet the SLO in all regimes, fewest durable writes first; where none does, those that come nearest. */
function ranked(all: readonly Sums[], sloMs: number): { readonly met: boolean; readonly order: readonly Sums[] } {
  const good = all.filter(({ runs }) => worst(runs) <= sloMs);
  if (good.length === 0) return { met: false, order: [...all].sort((a, b) => worst(a.runs) - worst(b.runs)) };
  return { met: true, order: good.sort((a, b) => perThousand(a.runs) - perThousand(b.runs)) };
}

async function duel(
  lab: Lab,
  contenders: readonly Contender[],
  all: readonly Regime[],
  s: Setting,
  disturber: Disturber,
): Promise<{ sums: Sums[]; repeated: { regime: string; runs: Run[] }[]; noisy: string[] }> {
  const sums = contenders.map(({ subject }) => ({ name: subject.name, runs: [] as Run[] }));
  const repeated: { regime: string; runs: Run[] }[] = [];
  const noisy: string[] = [];
  for (const contender of contenders) {
    lab.report.progress(`warm-up, not counted: ${contender.subject.name}`);
    await runRegime(contender, all[0], { seconds: s.warmUpSeconds, skipMs: 0, intervalMs: 1e9, seed: 1 }, disturber);
  }
  for (let round = 0; round < s.rounds; round++) {
    for (const [r, regime] of all.entries()) {
      for (;;) {
        const runs: Run[] = [];
        for (let i = 0; i < contenders.length; i++) {
          const contender = contenders[(i + r + round) % contenders.length];
          lab.report.progress(`round ${round + 1} of ${s.rounds}, ${regime.name}: ${contender.subject.name}`);
          const intervalMs = s.intervalSeconds * 1000;
          const seed = 100 * (round + 1) + r;
          runs.push(await runRegime(contender, regime, { seconds: s.seconds, skipMs: 0, intervalMs, seed }, disturber));
        }
        const isNoise = runs.every((run) => run.intervals.some((i) => i.p99Ms > s.sloMs));
        if (!isNoise || repeated.length === MAX_REPEATS) {
          if (isNoise) noisy.push(regime.name);
          for (const run of runs) sums.find((sum) => sum.name === run.subject)!.runs.push(run);
          break;
        }
        lab.report.say(
          `${regime.name}: every window broke the SLO, static ones too: noise. It is repeated, and both are kept.`,
        );
        repeated.push({ regime: regime.name, runs });
      }
    }
  }
  return { sums, repeated, noisy };
}

/** Seconds after a step until the p99 of a quarter second was above the SLO for the last time. */
function backWithin(trail: Run['trail'], fromMs: number, toMs: number, sloMs: number): number {
  const above = trail.filter((x) => x.atMs > fromMs && x.atMs <= toMs && x.p99Ms !== null && x.p99Ms > sloMs);
  // Single quarters with a hiccup long after are no part of the step: two in a row are.
  let lastMs = fromMs;
  for (const x of above) if (x.atMs - lastMs <= 1000) lastMs = x.atMs;
  return (lastMs - fromMs) / 1000;
}

async function steps(lab: Lab, dir: string, all: readonly Regime[], s: Setting): Promise<Run> {
  const [low] = all;
  const { stepSeconds } = s;
  lab.report.progress(`step in load × ${STEP}, up and down, ${3 * stepSeconds} s`);
  const contender = await Contender.open({ name: 'steps', window: { sloP99Ms: s.sloMs } }, dir);
  const stepMs = stepSeconds * 1000;
  const arrivals = (seed: number) => {
    const slow = low.arrivals(seed, 3 * stepMs);
    let atMs = 0;
    let gapMs = 0;
    let left = 0;
    // The gaps of the low load, in the middle third cut into as many as the step is high.
    return () => {
      if (left === 0) {
        const next = slow()!;
        left = next >= stepMs && next < 2 * stepMs ? STEP : 1;
        gapMs = (next - atMs) / left;
      }
      left--;
      return (atMs += gapMs);
    };
  };
  const regime = { ...low, name: 'steps', arrivals };
  const setting = { seconds: 3 * stepSeconds, skipMs: 0, intervalMs: stepMs, seed: 3 };
  const run = await runRegime(contender, regime, setting, new Disturber(dir, disturbances[0]));
  await contender.close();
  return run;
}

function tables(lab: Lab, title: string, all: readonly Sums[], names: readonly string[], s: Setting): void {
  lab.report.say(title);
  const cells = (sum: Sums): Cell[] => {
    const kept = intervalsOf(sum.runs);
    return [
      sum.name,
      ...names.flatMap((name) => [worst(inRegime(sum, name)), perThousand(inRegime(sum, name))]),
      perThousand(sum.runs),
      kept.length === 0 ? '–' : `${kept.filter((p99) => p99 <= s.sloMs).length} of ${kept.length}`,
    ];
  };
  const header = ['window', ...names.flatMap((name) => [`${name}: p99 ms`, 'writes']), 'writes, all', 'SLO kept'];
  lab.report.table(header, [...all.map(cells), ['writes: durable writes per 1,000 records; SLO kept: intervals']]);
}

function plots(lab: Lab, sums: readonly Sums[], stepRun: Run, names: readonly string[], s: Setting): void {
  const along = ({ runs }: Sums): [number, number][] => {
    let before = 0;
    return runs.flatMap((run) => {
      const from = before;
      before += run.trail.at(-1)?.atMs ?? 0;
      return run.trail.map((x): [number, number] => [(from + x.atMs) / 1000, x.lingerMs]);
    });
  };
  const slo = { name: `SLO, ${s.sloMs} ms`, y: s.sloMs };
  lab.plot('window', {
    title: `lab:aimd: the linger over time, through ${names.join(', ')}`,
    x: 'seconds under load',
    y: 'linger, ms',
    series: sums.map((sum) => ({ name: sum.name, points: along(sum) })),
    levels: [slo],
  });
  const by = (y: (runs: Run[]) => number) =>
    sums.map((sum) => ({
      name: sum.name,
      points: names.map((name, i): [number, number] => [i + 1, y(inRegime(sum, name))]),
    }));
  const numbered = names.map((name, i) => `${i + 1} ${name}`).join(', ');
  lab.plot('p99', { title: 'lab:aimd: p99 per regime', x: numbered, y: 'p99, ms', series: by(worst), levels: [slo] });
  lab.plot('writes', {
    title: 'lab:aimd: durable writes per 1,000 records',
    x: numbered,
    y: 'durable writes per 1,000 records',
    series: by(perThousand),
  });
  const points = (y: (x: Run['trail'][number]) => number | null): [number, number][] =>
    stepRun.trail.flatMap((x) => (y(x) === null ? [] : [[x.atMs / 1000, y(x)!] as [number, number]]));
  lab.plot('steps', {
    title: `lab:aimd: load × ${STEP} after ${s.stepSeconds} s, and down again after ${2 * s.stepSeconds} s`,
    x: 'seconds',
    y: 'ms',
    series: [
      { name: 'p99 of each quarter second', points: points((x) => x.p99Ms) },
      { name: 'linger', points: points((x) => x.lingerMs) },
    ],
    levels: [slo],
  });
}

function judge(lab: Lab, sums: readonly Sums[], stepRun: Run, all: readonly Regime[], s: Setting, met: boolean): void {
  const { report } = lab;
  const [best] = sums;
  const adaptive = sums.find((sum) => sum.name === 'headroom')!;
  const limited = [...sums.flatMap((sum) => sum.runs), stepRun].some((run) => run.byGenerator);
  const note = limited
    ? 'the load generator was the limit in a run'
    : met
      ? undefined
      : 'noise broke the SLO for every window in a regime: repeat on a quieter machine';
  const p99s = intervalsOf(adaptive.runs);
  const kept = p99s.filter((p99) => p99 <= s.sloMs).length / p99s.length;
  const words = `headroom: share of ${p99s.length} intervals of ${s.intervalSeconds} s within the SLO`;
  report.measured(words, kept >= KEPT, kept, `≥ ${KEPT}`, note);
  const ratio = perThousand(adaptive.runs) / perThousand(best.runs);
  report.measured(
    'headroom: durable writes per record, of the best static',
    ratio <= OVER_ALL,
    ratio,
    `≤ ${OVER_ALL}`,
    note,
  );
  for (const { name } of all.filter((regime) => regime.steady)) {
    const of = perThousand(inRegime(adaptive, name)) / perThousand(inRegime(best, name));
    report.measured(`${name}: the same`, of <= IN_STEADY, of, `≤ ${IN_STEADY}`, note);
  }
  const stepMs = s.stepSeconds * 1000;
  for (const [words, n] of [
    [`load × ${STEP}`, 1],
    [`load / ${STEP}`, 2],
  ] as const) {
    const seconds = backWithin(stepRun.trail, n * stepMs, (n + 1) * stepMs, s.sloMs);
    report.measured(
      `${words}: seconds until back within the SLO`,
      seconds <= BACK_SECONDS,
      seconds,
      `≤ ${BACK_SECONDS}`,
      note,
    );
  }
}

async function body(lab: Lab, s: Setting): Promise<void> {
  const { report } = lab;
  const all = regimes();
  const names = all.map(({ name }) => name);
  for (const regime of all) report.say(`${regime.name.padEnd(10)} ${regime.words}`);
  const dir = join(lab.dataDir, 'disk');
  mkdirSync(dir);
  const { how, writeP99Ms } = await calibrate(lab, dir, all[2], s);
  report.say(
    `disturber  ${how.chunkBytes / MIB} MiB and an fdatasync, then ${how.pauseMs} ms of rest: a durable write beside it has a p99 of ${writeP99Ms.toFixed(2)} ms`,
  );
  if (writeP99Ms < FELT * s.sloMs)
    report.say('           which this disk hardly feels: the regime is no test of a slow disk here');
  const disturber = new Disturber(dir, how);
  const swept = await sweep(lab, dir, all, s, disturber);
  const { met, order } = ranked(swept, s.sloMs);
  tables(lab, '\nStatic windows of the sweep', swept, names, s);
  report.say(
    met
      ? `best static window: ${order[0].name}, of ${order.length} that met the SLO in all regimes\n`
      : `NO static window met the SLO in all regimes; the nearest is ${order[0].name}\n`,
  );
  const subjectOf = (name: string): Subject =>
    s.lingersMs.flatMap((l) => s.maxBytes.map((b) => staticOf(l, b))).find((x) => x.name === name)!;
  const finalists: Subject[] = [
    ...order.slice(0, s.finalists).map(({ name }) => subjectOf(name)),
    { name: 'headroom', window: { sloP99Ms: s.sloMs } },
    { name: 'aimd', window: { sloP99Ms: s.sloMs, law: 'aimd' } },
  ];
  const contenders: Contender[] = [];
  for (const finalist of finalists) contenders.push(await Contender.open(finalist, dir));
  report.io = contenders[0].log.stats().io;
  const { sums, repeated, noisy } = await duel(lab, contenders, all, s, disturber);
  for (const contender of contenders) await contender.close();
  const stepRun = await steps(lab, dir, all, s);
  tables(lab, 'The best static windows and the adaptive ones, in turns', sums, names, s);
  const late = Math.max(...sums.flatMap((sum) => sum.runs.map((run) => run.ownLagP99Ms)));
  report.say(
    `latency is the log's, append to acknowledged; requests went out up to ${late.toFixed(1)} ms late (p99 of the worst run)\n`,
  );
  plots(lab, sums, stepRun, names, s);
  report.results = {
    disturber: { ...how, writeP99Ms },
    sweep: swept.map(({ name, runs }) => ({ name, writesPerThousand: perThousand(runs), runs: runs.map(short) })),
    best: { name: order[0].name, met },
    duel: sums.map(({ name, runs }) => ({ name, writesPerThousand: perThousand(runs), runs })),
    noisy,
    repeated: repeated.map(({ regime, runs }) => ({ regime, runs: runs.map(short) })),
    steps: stepRun,
  };
  for (const name of noisy)
    report.say(`${name}: noise broke the SLO for every window, static ones too; repeat the lab`);
  judge(lab, sums, stepRun, all, s, met && noisy.length === 0);
  const counted = sums.every(
    ({ runs }) => runs.length === all.length * s.rounds && runs.every((r) => r.records > 0 && r.writes > 0),
  );
  report.exact(
    'every window ran in every regime, and wrote',
    counted,
    sums.length,
    'records and durable writes in each',
  );
}

await runLab(
  {
    name: 'aimd',
    question: 'Does a window that is told nothing but the SLO need fewer durable writes than the best one that stays?',
    method:
      'A sweep of static windows in four regimes; then the best of them, law headroom and plain aimd in turns, each in one log through all regimes; then a step in load.',
    expected: 'What stays lingers as short as the slowest regime demands; what moves lingers longer everywhere else.',
    refutedBy: `More misses than 1 interval in 20, more than ${OVER_ALL} of the best static's writes over all, or ${IN_STEADY} in a steady regime.`,
  },
  () => parseLabArguments('aimd', ['seconds', 'rounds'], false, ['quick']),
  ({ smoke, quick, numbers }) => {
    const small: Setting = {
      sloMs: 20,
      lingersMs: smoke ? [0] : [0, 4, 8, 12, 16],
      maxBytes: [MIB],
      sweepSeconds: smoke ? 0.3 : 0.8,
      seconds: smoke ? 0.6 : 4,
      intervalSeconds: smoke ? 0.3 : 2,
      warmUpSeconds: smoke ? 0.3 : 4,
      stepSeconds: smoke ? 0.6 : 5,
      finalists: 1,
      rounds: 1,
    };
    const full: Setting = {
      sloMs: 20,
      lingersMs: [0, 2, 4, 6, 8, 10, 12, 15, 18],
      maxBytes: [16 * KIB, MIB],
      sweepSeconds: 1.6,
      seconds: 20,
      intervalSeconds: 10,
      warmUpSeconds: 5,
      stepSeconds: 8,
      finalists: 2,
      rounds: 1,
    };
    const base = smoke || quick ? small : full;
    const s = { ...base, seconds: numbers.seconds ?? base.seconds, rounds: numbers.rounds ?? base.rounds };
    return {
      parameters: { ...s },
      targets: [
        `headroom keeps the SLO, a p99 of ${s.sloMs} ms, in ≥ ${KEPT} of the intervals of ${s.intervalSeconds} s`,
        `its durable writes per record: ≤ ${OVER_ALL} of those of the best static window over all regimes, ≤ ${IN_STEADY} in each steady one`,
        `a load that steps up by ${STEP} and down again: back within the SLO in ≤ ${BACK_SECONDS} s`,
      ],
      body: (lab) => body(lab, s),
    };
  },
);
