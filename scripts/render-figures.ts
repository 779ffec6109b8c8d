// Writes measured figures into the documents from bench/out/*.json, so that none is typed by hand. Each stands between a pair
// of marks, `<!-- name -->` … `<!-- /name -->`; a mark whose runs are not there is left as it was. Run the benches, or
// `npm run prove -- --full`, then `node dist/scripts/render-figures.js`.

import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { median } from '../bench/lib/stats.ts';
import type { Claim } from '../test/proof/proof.ts';

type Row = Record<string, number>;

interface Outcome<T> {
  readonly startedAt: string;
  readonly environment: {
    readonly node: string;
    readonly cpu: string;
    readonly cpuCount: number;
    readonly fileSystem: string;
  };
  readonly results: T;
  readonly checks: readonly {
    readonly name: string;
    readonly pass: boolean | null;
    readonly figure: string | number | null;
    readonly target: string;
    readonly note?: string;
  }[];
}
type Judged = Outcome<unknown>['checks'][number];

interface AppendSubject {
  readonly recordBytes: number;
  readonly producers: number;
  readonly io: string;
  readonly rounds: readonly Row[];
}

interface OfferedRun {
  readonly subject: string;
  readonly load: string;
  readonly offeredPerSecond: number;
  readonly durablePerSecond: number;
  readonly commitCallsPerRecord: number;
  readonly carriedShare: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly p999: number };
}

interface CountedRun {
  readonly io: string;
  readonly recordsPerBatch: number;
  readonly commitCallsPerRecord: number;
  readonly allCallsPerRecord: number;
}

const outcome = <T>(name: string): Outcome<T> =>
  JSON.parse(readFileSync(`bench/out/${name}.json`, 'utf8')) as Outcome<T>;
const of = (rows: readonly Row[], key: string): number => median(rows.map((r) => r[key]));
const show = (n: number): string =>
  n >= 100 ? Math.round(n).toLocaleString('en-US') : String(Number(n.toPrecision(n < 0.1 ? 2 : 3)));
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((r) => `| ${r.join(' | ')} |`).join('\n');

function render(): string {
  const append = outcome<AppendSubject[]>('append');
  const latency = outcome<{ rounds: Row[] }>('latency');
  const offered = outcome<{ runs: OfferedRun[] }>('before-after');
  const counted = outcome<CountedRun[]>('syscalls');
  const { node, cpu, cpuCount, fileSystem } = append.environment;
  const all = [append, latency, offered, counted].flatMap(
    (o): readonly { name: string; pass: boolean | null; target: string }[] => o.checks,
  );
  const missed = all.filter((c) => c.pass === false);
  const groups = new Map<string, OfferedRun[]>();
  for (const run of offered.results.runs) {
    const key = `${run.subject}, ${run.load === 'base' ? 'what unbatched just carries' : '50 × that'}`;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const at = (runs: readonly OfferedRun[], pick: (r: OfferedRun) => number): string => show(median(runs.map(pick)));
  return [
    `On ${append.startedAt.slice(0, 10)}: ${cpuCount} × ${cpu}, ${fileSystem}, Node ${node}, I/O mode ${append.results[0].io}. Written from`,
    '`bench/out/*.json` by `scripts/render-figures.ts`; medians over the rounds. Machines differ: ratios and counts travel, times do not.',
    '',
    '**Against the floor** (`npm run bench:append`): a plain C++ loop that writes batches of the same size in the same mode, same',
    'rounds. Default window, lingerMs 0.',
    '',
    table(
      [
        'record bytes',
        'producers',
        'durable records/s',
        'payload MB/s',
        'of the floor',
        '× one write + fdatasync per record',
      ],
      append.results.map((s) => [
        show(s.recordBytes),
        String(s.producers),
        show(of(s.rounds, 'recordsPerSecond')),
        show(of(s.rounds, 'payloadMBps')),
        of(s.rounds, 'ofFloor').toFixed(2),
        show(of(s.rounds, 'overSingles')),
      ]),
    ),
    '',
    `**One record at a time** (\`npm run bench:latency\`): append to durable p50 ${show(of(latency.results.rounds, 'oursP50Us'))} µs, ` +
      `${of(latency.results.rounds, 'ratio').toFixed(2)} × one bare durable write of a block.`,
    '',
    '**Before and after** (`npm run bench:before-after`): the same open-loop load, 256-byte records, latency from the intended start.',
    'The SLO is a p99 of 20 ms.',
    '',
    table(
      [
        'path, load',
        'offered/s',
        'durable/s',
        'carried',
        'durable write calls per record',
        'p50 ms',
        'p99 ms',
        'p99.9 ms',
      ],
      [...groups].map(([key, runs]) => [
        key,
        at(runs, (r) => r.offeredPerSecond),
        at(runs, (r) => r.durablePerSecond),
        `${(median(runs.map((r) => r.carriedShare)) * 100).toFixed(1)} %`,
        at(runs, (r) => r.commitCallsPerRecord),
        at(runs, (r) => r.latencyMs.p50),
        at(runs, (r) => r.latencyMs.p99),
        at(runs, (r) => r.latencyMs.p999),
      ]),
    ),
    '',
    '**System calls per record** (`npm run bench:syscalls`): write and sync calls that make batches durable, counted by the addon and',
    'by `strace -f -c` in the same run, which agree exactly; in brackets with all upkeep (segments, index, checkpoint).',
    '',
    table(
      ['records per batch', ...new Set(counted.results.map((r) => r.io))],
      [...new Set(counted.results.map((r) => r.recordsPerBatch))].map((n) => [
        show(n),
        ...counted.results
          .filter((r) => r.recordsPerBatch === n)
          .map((r) => `${show(r.commitCallsPerRecord)} (${show(r.allCallsPerRecord)})`),
      ]),
    ),
    '',
    missed.length === 0
      ? `All ${all.filter((c) => c.pass === true).length} judged checks of these runs held.`
      : `Of the judged checks of these runs, ${missed.length} did not hold: ${missed.map((c) => `${c.name} (target ${c.target})`).join('; ')}.`,
  ].join('\n');
}

interface Proven extends Claim {
  readonly proof: string;
  readonly seconds: number;
}

/** What the last run of all proofs tried, and which planted bug was caught by what. */
function renderProof(): string {
  const { startedAt, environment, parameters, results } = outcome<Proven[]>('prove') as Outcome<Proven[]> & {
    readonly parameters: { readonly full: boolean; readonly seed: number };
  };
  const { node, cpu, cpuCount, fileSystem } = environment;
  const command = `npm run prove${parameters.full ? ' -- --full' : ''}`;
  const tried = (c: Proven): string =>
    c.skipped === undefined ? `${show(c.tried)} ${c.unit}` : `skipped: ${c.skipped}`;
  const planted = results.find((c) => c.proof === 'planted')?.rows ?? [];
  return [
    `On ${startedAt.slice(0, 10)}: ${cpuCount} × ${cpu}, ${fileSystem}, Node ${node}, \`${command}\`, seed ${parameters.seed}. Written from`,
    '`bench/out/prove.json` by `scripts/render-figures.ts`.',
    '',
    table(
      ['proof', 'claim', 'tried', 'violations'],
      results.map((c) => [
        `\`${c.proof}\``,
        c.claim,
        tried(c),
        c.skipped === undefined ? String(c.violations.length) : '–',
      ]),
    ),
    '',
    `**Bugs planted on purpose** (\`npm run test:planted\`), each in a build of its own:`,
    '',
    table(
      ['bug', 'caught by', 'seconds'],
      planted.map((r) => [String(r.bug), `\`${r.caughtBy}\``, String(r.seconds)]),
    ),
  ].join('\n');
}

const figureOf = (figure: string | number | null): string =>
  typeof figure === 'number' ? show(figure) : (figure ?? '–');

const verdictOf = (c: Judged): string =>
  c.pass === null ? `not judged: ${c.note ?? 'no reason given'}` : c.pass ? 'held' : '**missed**';

/** Targets of benches, or labs, and what came, missed ones included. */
function renderChecks(benches: readonly string[], shared = ', which clients and gateway share'): string {
  // The name comes from its file: benches do not say there what they are.
  const outcomes = benches.map((name) => ({ ...outcome<unknown>(name), name }));
  const [{ environment, startedAt }] = outcomes;
  const { node, cpu, cpuCount, fileSystem } = environment;
  return [
    `On ${startedAt.slice(0, 10)}: ${cpuCount} × ${cpu}${shared}, ${fileSystem}, Node ${node}. Written from`,
    '`bench/out/*.json` by `scripts/render-figures.ts`. Targets that were missed stand here too.',
    '',
    table(
      ['`npm run`', 'shows', 'figure', 'target', ''],
      outcomes.flatMap(({ name, checks }) =>
        checks.map((c) => [
          `\`${name.startsWith('lab-') ? name.replace('-', ':') : `bench:${name}`}\``,
          c.name,
          figureOf(c.figure),
          c.target,
          verdictOf(c),
        ]),
      ),
    ),
  ].join('\n');
}

/** Plots that a document shows, beside it: those of the last run. */
const plots = {
  'overflow-rss': 'resident memory of four policies, and where the kernel ended one',
  'overflow-depth': 'queue depth of the same',
  'bomb-rss': 'resident memory of the gateway among bombs, and of a server that calls gunzipSync',
  'compression-ratio': 'bytes on disk without a codec over bytes with it, by how full batches are',
  'compression-cpu': 'time of the commit thread for compressing, by how full batches are',
  'nagle-latency': 'latency of requests of two writes and of one',
  'window-p99': 'p99 of a trace by linger, forecast and fact, against the SLO',
  'window-heat': 'forecast p99 of the trace by linger and by how many records fill a batch',
  'window-peak': 'batch sizes at peak load',
  'window-low': 'batch sizes at low load',
  'aimd-window': 'the linger over time, of windows that stay and that move',
  'aimd-p99': 'their p99 in each regime',
  'aimd-writes': 'and the durable writes that they needed',
} as const;

const isMeasured = (name: string): boolean => existsSync(`bench/out/${name}.json`);

function renderLabs(labs: readonly string[]): string {
  mkdirSync('docs/plots', { recursive: true });
  const left = labs.filter((lab) => !isMeasured(lab));
  const shown = Object.entries(plots)
    .filter(([name]) => isMeasured(`lab-${name.split('-')[0]}`))
    .map(([name, what]) => {
      copyFileSync(`bench/out/lab-${name}.svg`, `docs/plots/lab-${name}.svg`);
      return `![${what}](plots/lab-${name}.svg)`;
    });
  const notMeasured = left.length === 0 ? [] : [`Not measured here yet: ${left.join(', ')}.`];
  return [renderChecks(labs.filter(isMeasured), ''), ...notMeasured, ...shown].join('\n\n');
}

interface CorpusRun {
  readonly skipped: readonly { readonly cases: number }[];
  readonly areas: readonly {
    readonly outcomes: readonly { readonly wrong: readonly string[]; readonly left: readonly string[] }[];
    readonly left: readonly string[];
  }[];
}
interface FuzzTarget {
  readonly executions: number;
  readonly findings: readonly string[];
  readonly skipped?: string;
}
type Parameters = Readonly<Record<string, number | boolean>>;

/** A check that is worked out of what a run counted: hundreds of checks are one line here. */
const counted = (name: string, pass: boolean, figure: string, target: string): Judged => ({
  name,
  pass,
  figure,
  target,
});

function corpusChecks({ results, checks }: Outcome<CorpusRun>): Judged[] {
  const outcomes = results.areas.flatMap((a) => a.outcomes);
  const skipped = results.skipped.reduce((n, s) => n + s.cases, 0);
  const wrong = outcomes.filter((o) => o.wrong.length > 0).length;
  const left = outcomes.filter((o) => o.left.length > 0).length + results.areas.reduce((n, a) => n + a.left.length, 0);
  return [
    counted(
      `bad input: cases${skipped === 0 ? '' : `; ${skipped} skipped`}`,
      outcomes.length >= 120,
      show(outcomes.length),
      '≥ 120',
    ),
    counted('bad input: wrong answers', wrong === 0, String(wrong), '0'),
    counted('bad input: cases that left something behind', left === 0, String(left), '0'),
    ...checks.filter((c) => c.name.startsWith('gateway ')),
  ];
}

function fuzzChecks({ results }: Outcome<readonly FuzzTarget[]>): Judged[] {
  const run = results.filter((r) => r.skipped === undefined);
  const least = Math.min(...run.map((r) => r.executions));
  const findings = run.reduce((n, r) => n + r.findings.length, 0);
  const skipped = results.length - run.length;
  return [
    counted(
      `fuzzing: executions of each of ${run.length} targets, at least${skipped === 0 ? '' : `; ${skipped} skipped`}`,
      run.length > 0 && least >= 1_000_000,
      run.length > 0 ? show(least) : '–',
      '≥ 1,000,000',
    ),
    counted('fuzzing: findings', findings === 0, String(findings), '0'),
  ];
}

interface Strain {
  /** Name of its file in bench/out. */
  readonly name: string;
  readonly what: string;
  readonly command: string;
  /** Flags that made a run shorter or longer than it is by itself; '' for none. */
  readonly flags: (p: Parameters) => string;
  readonly checks?: (o: never) => readonly Judged[];
}

/** What bends the gateway. */
const strains: readonly Strain[] = [
  {
    name: 'soak',
    what: 'minutes of overload in 256 MiB',
    command: 'npm run soak',
    flags: (p) => (p.seconds === 600 ? '' : `--minutes ${Number(p.seconds) / 60}`),
  },
  {
    name: 'corpus',
    what: 'bad input',
    command: 'npm run test:corpus',
    flags: (p) => (p.full === true ? '--full' : ''),
    checks: corpusChecks,
  },
  { name: 'fuzz', what: 'fuzzing', command: 'npm run test:fuzz', flags: () => '', checks: fuzzChecks },
  {
    name: 'hostile',
    what: 'hostile clients',
    command: 'npm run bench:hostile',
    flags: (p) =>
      p.rounds === 5 && p.seconds === 5 ? '' : `--rounds ${Number(p.rounds)} --seconds ${Number(p.seconds)}`,
  },
  {
    name: 'overload',
    what: 'overload that ends',
    command: 'npm run bench:overload',
    flags: (p) => (p.seconds === 30 ? '' : `--seconds ${Number(p.seconds)}`),
  },
];

/** Each of them, measured or not. */
function renderStrains(): string {
  const machines = new Set<string>();
  const rows = strains.flatMap(({ name, what, command, flags, checks }): string[][] => {
    if (!isMeasured(name)) return [[what, `\`${command}\``, '–', '–', 'not measured', '–']];
    const run = outcome<never>(name) as Outcome<never> & { readonly parameters: Parameters };
    const { node, cpu, cpuCount, fileSystem } = run.environment;
    machines.add(`${cpuCount} × ${cpu}, ${fileSystem}, Node ${node}`);
    const given = flags(run.parameters);
    const judged = checks === undefined ? run.checks : checks(run as never);
    return judged.map((c) => [
      c.name,
      `\`${command}${given === '' ? '' : ` -- ${given}`}\``,
      figureOf(c.figure),
      c.target,
      verdictOf(c),
      run.startedAt.slice(0, 10),
    ]);
  });
  const where = machines.size === 0 ? 'Nothing of this was measured yet' : [...machines].join('; ');
  return [
    `${where}. Written from \`bench/out/*.json\` by \`scripts/render-figures.ts\`. Targets that were missed stand here too.`,
    '',
    table(['shows', 'command', 'figure', 'target', '', 'on'], rows),
  ].join('\n');
}

function write(document: string, mark: string, benches: readonly string[], body: () => string): void {
  const missing = benches.filter((name) => !isMeasured(name));
  if (missing.length > 0)
    return console.log(`${document}: '${mark}' is left as it was, there is no ${missing.join(', ')}.json`);
  const text = readFileSync(document, 'utf8');
  const from = text.indexOf(`<!-- ${mark} -->`) + `<!-- ${mark} -->`.length;
  writeFileSync(document, `${text.slice(0, from)}\n\n${body()}\n\n${text.slice(text.indexOf(`<!-- /${mark} -->`))}`);
}

write('README.md', 'figures', ['append', 'latency', 'before-after', 'syscalls'], render);
write('docs/guarantees.md', 'proof', ['prove'], renderProof);
write('docs/operate.md', 'gateway', ['http', 'tcp', 'clients', 'recovery'], () =>
  renderChecks(['http', 'tcp', 'clients', 'recovery']),
);

const labs = ['lab-overflow', 'lab-bomb', 'lab-nagle', 'lab-window', 'lab-aimd', 'lab-compression'];
write('docs/labs.md', 'labs', ['lab-overflow'], () => renderLabs(labs));
// One of them is enough: the others are said not to be measured.
const measured = strains.filter(({ name }) => isMeasured(name)).map(({ name }) => name);
write('docs/labs.md', 'bends', measured.length > 0 ? measured : strains.map(({ name }) => name), renderStrains);
