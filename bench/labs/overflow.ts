// lab:overflow — more is offered than the disk takes, within 256 MiB. What do the overflow policies do to memory, to the queue and to
// whoever waits, and what does a plain array do?
//
//   spillway lab overflow                 all policies, each in a memory limit of its own, compared
//   spillway lab overflow --policy P      one of them, live, within whatever limit there is around it
//
// Question     Four times as many records are offered as the disk takes, for as long as it lasts. Does memory stay bounded, and is
//              every record that was not taken accounted for?
// Method       bench/labs/overflow-run.ts: the log's own lane, window, commit loop and I/O mode, over a FileIo whose durable
//              writes take as long as on a disk of 8 MiB/s; a producer that makes a 4 KiB record, outside of V8's heap, whenever
//              one is due. Each policy in a process of its own, in a container or a memory cgroup of 256 MiB without swap.
// Expected     block: the producer is slowed to the rate of the disk, nothing is dropped. drop-newest, drop-oldest: the producer
//              keeps its rate, three of four records are dropped, each counted. All of them: RSS flat. unbounded: RSS rises by what
//              is not taken until the kernel kills the process.
// Refuted by   a bounded policy that is killed, whose RSS keeps rising, or whose ledger is off by a record; an array that lives.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { slopePerMinute } from '../lib/resident.ts';
import { median } from '../lib/stats.ts';
import { BenchError } from '../lib/experiment.ts';
import type { Cell } from '../lib/report.ts';
import { Skipped, packageRoot, makeDiskDir, parseLabArguments, runLab, type Lab, type LabArguments } from './frame.ts';
import { contain, whereToRun, type Contained } from './contain.ts';
import { live } from './overflow-live.ts';
import {
  FACTOR,
  labPolicies,
  recordsPerSecond,
  SAMPLE_MS,
  type LabPolicy,
  type Outcome,
  type Sample,
  type Setting,
} from './overflow-run.ts';

const MIB = 1024 * 1024;
const LIMIT_MIB = 256;
const RSS_SHARE = 0.85;
/** Of what is offered and not taken: so much of it may stay in memory for good. Quiet runs show less than nothing. */
const SLOPE_SHARE = 0.01;
/** Kept out of the slope: filling the lane, warming up. The second half of the run counts. */
const WARM_UP_SHARE = 0.5;
const MAX_SECONDS = 40;

const statement = {
  name: 'overflow',
  question: 'Four times what the disk takes is offered. Is memory bounded, and every record accounted for?',
  method:
    'A log on a disk slowed to a stated rate; a process per policy in a memory limit; `unbounded` is a plain array.',
  expected:
    'block slows the producer; drop-* keep its rate and count each drop; RSS is flat; unbounded is killed by the kernel.',
  refutedBy: 'A bounded policy that is killed, keeps growing or is off by one record; an array that lives.',
};

function settingOf(policy: LabPolicy, { smoke, numbers }: LabArguments, dir: string): Setting {
  const [seconds, recordBytes, diskBytesPerSecond] = smoke ? [1, 16 * 1024, 32 * MIB] : [15, 4096, 8 * MIB];
  // The array gets the time that it needs, whatever the limit.
  const most = policy === 'unbounded' ? MAX_SECONDS : seconds;
  return {
    policy,
    seconds: Math.min(MAX_SECONDS, numbers.seconds ?? most),
    recordBytes,
    diskBytesPerSecond,
    dir,
  };
}

interface Ended extends Contained {
  readonly policy: LabPolicy;
  readonly samples: readonly Sample[];
  readonly outcome: Outcome | undefined;
}

function parse(policy: LabPolicy, ended: Contained): Ended {
  const samples: Sample[] = [];
  let outcome: Outcome | undefined;
  for (const line of ended.lines) {
    if (!line.startsWith('{')) continue;
    const told = JSON.parse(line) as { sample?: Sample; outcome?: Outcome };
    if (told.sample !== undefined) samples.push(told.sample);
    outcome ??= told.outcome;
  }
  return { ...ended, policy, samples, outcome };
}

const points = (e: Ended, y: (s: Sample) => number): [number, number][] => e.samples.map((s) => [s.ms / 1000, y(s)]);

/** Too short for a rate: the last look comes right behind the one before. */
const SHORT_MS = 100;

function offeredRates(e: Ended): [number, number][] {
  return e.samples.slice(1).flatMap((s, i) => {
    const ms = s.ms - e.samples[i].ms;
    return ms < SHORT_MS ? [] : [[s.ms / 1000, ((s.offered - e.samples[i].offered) / ms) * 1000] as [number, number]];
  });
}

const title = (what: string): string => `lab:overflow: ${what}, ${FACTOR} × what the disk takes is offered`;

function draw(lab: Lab, all: readonly Ended[], limitMiB: number): void {
  const series = (y: (s: Sample) => number) =>
    all.map((e) => ({ name: e.policy, points: points(e, y), endsHere: e.killed }));
  lab.plot('rss', {
    title: title('resident memory'),
    x: 'seconds',
    y: 'RSS, MiB',
    series: series((s) => s.rssBytes / MIB),
    levels: [{ name: 'memory limit', y: limitMiB }],
  });
  lab.plot('depth', { title: title('queue depth'), x: 'seconds', y: 'records', series: series((s) => s.depth) });
  lab.plot('drops', { title: title('dropped'), x: 'seconds', y: 'records', series: series((s) => s.dropped) });
  lab.plot('p99', {
    title: title('p99 of accepted records so far, from handing over to durable'),
    x: 'seconds',
    y: 'ms',
    series: series((s) => s.p99Ms),
  });
  lab.plot('rate', {
    title: title('offered by the producer'),
    x: 'seconds',
    y: 'records/s',
    series: all.map((e) => ({ name: e.policy, points: offeredRates(e), endsHere: e.killed })),
  });
}

function judge({ report }: Lab, e: Ended, setting: Setting, limitMiB: number): void {
  const { policy, outcome } = e;
  const ended = `exit ${e.exitCode}${e.killed ? ' (signal KILL)' : ''}, ${e.evidence}`;
  if (policy === 'unbounded') {
    report.exact(
      'unbounded: killed by the kernel',
      e.exitCode === 137 && e.oomKills > 0,
      ended,
      'exit 137, and an oom_kill',
    );
    return;
  }
  report.exact(`${policy}: lives`, e.exitCode === 0 && e.oomKills === 0, ended, 'exit 0, no oom_kill');
  if (outcome === undefined) return;
  const { offered, accepted, dropped, pending, wrong } = outcome;
  const books = wrong.length === 0 ? `${offered} − ${accepted} = ${dropped}` : wrong.join('; ');
  const exact = wrong.length === 0 && pending === 0 && dropped === offered - accepted;
  report.exact(`${policy}: drops = offered − accepted, and the log agrees`, exact, books, 'to the record');
  const warmUpMs = WARM_UP_SHARE * setting.seconds * 1000;
  const mostMiB = RSS_SHARE * limitMiB;
  const peakMiB = outcome.peakRssBytes / MIB;
  report.measured(`${policy}: largest RSS, MiB`, peakMiB <= mostMiB, peakMiB, `≤ ${mostMiB}`);
  const loaded = e.samples.filter(({ ms }) => ms >= warmUpMs && ms <= setting.seconds * 1000);
  const rising =
    slopePerMinute(
      loaded.map((s) => ({ ...s, seconds: s.ms / 1000 })),
      (s) => s.rssBytes / MIB,
    ) / 60;
  // Of a run of some seconds there is no slope.
  const known = Number.isNaN(rising) ? null : rising;
  const most = (SLOPE_SHARE * (FACTOR - 1) * setting.diskBytesPerSecond) / MIB;
  const target = `≤ ${most.toFixed(2)}: a hundredth of what is not taken`;
  const note = known === null ? 'the run was too short for a slope' : undefined;
  report.measured(`${policy}: RSS rises by MiB/s, second half`, rising <= most, known, target, note);
  const wanted = FACTOR * recordsPerSecond(setting);
  const rate = median(
    offeredRates(e)
      .filter(([x]) => x * 1000 >= warmUpMs && x < setting.seconds)
      .map((r) => r[1]),
  );
  if (policy === 'block') {
    const share = rate / recordsPerSecond(setting);
    report.measured('block: producer, of the rate of the disk', share <= 1.2 && share >= 0.8, share, '0.8 … 1.2');
    report.exact('block: dropped', dropped === 0, dropped, '0');
  } else {
    report.measured(`${policy}: producer, of the rate it wants`, rate / wanted >= 0.9, rate / wanted, '≥ 0.9');
  }
}

function rowOf(e: Ended): Cell[] {
  const last = e.samples.at(-1);
  const at = (key: 'wanted' | 'offered' | 'accepted' | 'dropped'): Cell => e.outcome?.[key] ?? last?.[key];
  const peak = Math.max(0, ...e.samples.map((s) => s.rssBytes)) / MIB;
  const depth = Math.max(0, ...e.samples.map((s) => s.depth));
  const p50Ms = e.outcome?.p50Ms ?? null;
  const p99Ms = e.outcome?.p99Ms ?? last?.p99Ms ?? null;
  const seconds = (last?.ms ?? 0) / 1000;
  const ended = e.killed ? `killed: exit ${e.exitCode}, ${e.evidence}` : `exit ${e.exitCode}`;
  return [
    e.policy,
    seconds,
    at('wanted'),
    at('offered'),
    at('accepted'),
    at('dropped'),
    depth,
    peak,
    p50Ms,
    p99Ms,
    ended,
  ];
}

async function compare(lab: Lab, policies: readonly LabPolicy[], setting: Setting, limitMiB: number, smoke: boolean) {
  const place = whereToRun(smoke);
  lab.report.say(`each within ${limitMiB} MiB: ${place.sentence}`);
  const all: Ended[] = [];
  for (const policy of policies) {
    lab.report.progress(policy === 'unbounded' ? `${policy}, until it is killed` : `${policy}, ${setting.seconds} s`);
    const run = await contain(place, `overflow-${policy}`, limitMiB * MIB, [
      join(packageRoot, 'dist', 'bench', 'labs', 'overflow.js'),
      '--policy',
      policy,
      '--json',
      '--seconds',
      // The array is ended by what it does, not by the clock.
      String(policy === 'unbounded' ? MAX_SECONDS : setting.seconds),
      '--dir',
      lab.dataDir,
      ...(smoke ? ['--smoke'] : []),
    ]);
    all.push(parse(policy, run));
  }
  lab.report.io = all.find((e) => e.outcome !== undefined)?.outcome?.io ?? 'unknown';
  lab.report.table(
    [
      'policy',
      'seconds',
      'wanted',
      'offered',
      'accepted',
      'dropped',
      'largest depth',
      'RSS MiB',
      'p50 ms',
      'p99 ms',
      'ended',
    ],
    all.map(rowOf),
  );
  draw(lab, all, limitMiB);
  for (const e of all) {
    judge(lab, e, setting, limitMiB);
    if (e.exitCode !== 0 && !e.killed) lab.report.say(`${e.policy}: ${e.errors.trim()}`);
  }
  lab.report.results = { place: place.sentence, runs: all.map(({ lines: _lines, ...e }) => e) };
}

async function main(): Promise<void> {
  const a = parseLabArguments('overflow', ['seconds'], true);
  if (a.policy !== undefined) {
    const policy = labPolicies.find((p) => p === a.policy);
    if (policy === undefined) throw new BenchError(`--policy: expected one of ${labPolicies.join(', ')}`);
    const dir = makeDiskDir('overflow', a.dir);
    const clean = (): void => rmSync(dir, { recursive: true, force: true });
    process
      .once('SIGINT', () => process.exit(130))
      .once('SIGTERM', () => process.exit(143))
      .once('exit', clean);
    return live(statement, a.json, settingOf(policy, a, dir));
  }
  const limitMiB = a.smoke ? 128 : LIMIT_MIB;
  await runLab(
    statement,
    () => a,
    () => {
      const base = settingOf('block', a, '');
      const policies = a.smoke ? (['drop-newest', 'unbounded'] as const) : labPolicies;
      const { policy: _policy, dir: _dir, ...parameters } = base;
      return {
        parameters: { ...parameters, factor: FACTOR, limitMiB, sampleMs: SAMPLE_MS, policies },
        targets: [
          `bounded policies live, RSS ≤ ${RSS_SHARE} of the limit and rising in the second half by at most ${SLOPE_SHARE} of what is not taken`,
          'drops = offered − accepted, as promises, counters, the log and a reader of it count them',
          'block: the producer runs at 0.8 to 1.2 of the rate of the disk, and drops nothing; drop-*: at ≥ 0.9 of the rate it wants',
          'unbounded: exit 137, and the oom_kill of the group (or OOMKilled of the container) says who did it',
        ],
        body: (lab) => compare(lab, policies, base, limitMiB, a.smoke),
      };
    },
  );
}

try {
  await main();
} catch (error) {
  console.error(
    `lab overflow: ${error instanceof BenchError || error instanceof Skipped ? error.message : ((error as Error).stack ?? String(error))}`,
  );
  process.exitCode = error instanceof BenchError ? 2 : 1;
}
