// `npm run prove [-- NAME…] [--full] [--seed N] [--only CASE] [--without-addon]`: all proofs, or those named, each in a process
// group of its own with a time limit; one table; bench/out/prove.json. Exit 1 where a claim does not hold.

import { fileURLToPath } from 'node:url';
import { findRoot } from '../../bench/lib/bench.ts';
import { orExit, readFlags, wholeNumber } from '../../bench/lib/experiment.ts';
import { Report, show } from '../../bench/lib/report.ts';
import { nativeMissing } from '../../src/platform/native.ts';
import { cannotBuild } from '../support/build-addon.ts';
import { WITHOUT_ADDON } from '../support/modes.ts';
import { endGroup, endGroupsOnSignal, endOf, endWithParent, forkGroup } from '../support/process-group.ts';
import { DEFAULT_SEED, holds, VIOLATIONS_SHOWN, type Claim, type Prove } from './proof.ts';

/** In the order of the table. */
const proofs = [
  'faults',
  'explorer',
  'corruption',
  'ring',
  'native',
  'model',
  'lifecycle',
  'kills',
  'power',
  'full-disk',
  'gateway-kills',
  'gateway-cuts',
  'gateway-drain',
  'matrix',
  'planted',
] as const;
const longest: readonly string[] = ['planted', 'corruption'];
/** Most proofs wait for processes and disks half of their time. */
const AT_ONCE = 2;
const QUICK_LIMIT_MS = 300_000;
/** A build and a test for each bug, also in the quick run. */
const QUICK_PLANTED_LIMIT_MS = 900_000;
/** The longest, `corruption`, tries two million cases of about a millisecond each. */
const FULL_LIMIT_MS = 7_200_000;

interface Outcome {
  readonly claims: readonly Claim[];
  readonly seconds: number;
}

const USAGE = 'npm run prove [-- NAME…] [--full] [--seed N] [--only CASE] [--without-addon]';
const flags = {
  full: { type: 'boolean', default: false },
  seed: { type: 'string', default: String(DEFAULT_SEED) },
  only: { type: 'string' },
  'without-addon': { type: 'boolean', default: false },
  child: { type: 'boolean', default: false },
} as const;
const { values, positionals, seed } = orExit('prove', () => {
  const read = readFlags(USAGE, flags, true);
  return { ...read, seed: wholeNumber('seed', read.values.seed, 0) };
});
const context = { full: values.full, seed, only: values.only };

async function runHere(name: string): Promise<void> {
  const undo = endWithParent();
  const { prove } = (await import(`./${name}.js`)) as { prove: Prove };
  const claims = await prove(context);
  process.send!(claims, undefined, undefined, () => {
    undo();
    process.disconnect();
  });
}

async function runApart(name: string): Promise<Outcome> {
  const started = performance.now();
  const args = [name, '--child', '--seed', values.seed, ...(values.full ? ['--full'] : [])];
  if (values.only !== undefined) args.push('--only', values.only);
  const child = forkGroup(fileURLToPath(import.meta.url), args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  let claims: readonly Claim[] | undefined;
  child.on('message', (message) => (claims = message as Claim[]));
  const quickLimitMs = name === 'planted' ? QUICK_PLANTED_LIMIT_MS : QUICK_LIMIT_MS;
  const limit = setTimeout(() => void endGroup(child), values.full ? FULL_LIMIT_MS : quickLimitMs);
  const [code, signal] = await endOf(child);
  clearTimeout(limit);
  const seconds = (performance.now() - started) / 1000;
  // Narrowed to one case, most proofs have nothing to say; whether any has, is seen when all are done.
  const saysNothing = claims === undefined || (claims.length === 0 && context.only === undefined);
  if (claims !== undefined && !saysNothing && code === 0) return { claims, seconds };
  const ended = signal === null ? `ended with code ${code}` : `was ended by ${signal} after ${seconds.toFixed(0)} s`;
  const why = saysNothing ? `${ended}, and made no claim` : ended;
  return {
    claims: [
      ...(claims ?? []),
      {
        claim: `the proof '${name}' runs to its end`,
        tried: 1,
        unit: 'runs',
        atLeast: 1,
        violations: [`its process ${why}`],
      },
    ],
    seconds,
  };
}

async function main(): Promise<number> {
  const unknown = positionals.filter((name) => !(proofs as readonly string[]).includes(name));
  if (unknown.length > 0) {
    console.error(`prove: no proof is called '${unknown[0]}'; expected one of ${proofs.join(', ')}`);
    return 2;
  }
  if (values['without-addon']) process.env[WITHOUT_ADDON] = '1';
  else if (process.platform === 'linux' && nativeMissing !== undefined && cannotBuild() === undefined) {
    console.error(`prove: the native addon does not load: ${nativeMissing}; build it (npm ci), or say --without-addon`);
    return 2;
  }
  endGroupsOnSignal();
  const chosen = positionals.length > 0 ? positionals : proofs;
  const root = findRoot(fileURLToPath(new URL('.', import.meta.url)));
  // A part of the proofs is not the proof: its figures lie beside those of all.
  const name = positionals.length > 0 ? `prove-${positionals.join('-')}` : 'prove';
  const report = new Report(name, false, root, root, { ...context, only: context.only ?? null, proofs: chosen });
  report.begin(['every claim: tried at least as often as stated, 0 violations']);
  const results: (Claim & { proof: string; seconds: number })[] = [];
  const outcomes = new Map<string, Outcome>();
  // The longest first, so that none runs alone at the end.
  const waiting = [...chosen].sort((a, b) => Number(longest.includes(b)) - Number(longest.includes(a)));
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      report.progress(`${next} (${outcomes.size} of ${chosen.length} done)`);
      outcomes.set(next, await runApart(next));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  for (const proof of chosen) {
    const { claims, seconds } = outcomes.get(proof)!;
    claims.forEach((c, i) => results.push({ proof, seconds: i === 0 ? seconds : 0, ...c }));
  }
  if (context.only !== undefined && results.every((r) => r.tried === 0)) {
    console.error(`prove: --only '${context.only}': expected a case of ${chosen.join(', ')}, found none`);
    return 2;
  }
  report.results = results;
  report.table(
    ['proof', 'claim', 'tried', 'violations', 'seconds'],
    results.map((r) => [
      r.proof,
      r.claim,
      r.skipped === undefined ? `${show(r.tried)} ${r.unit}` : `skipped: ${r.skipped}`,
      r.skipped === undefined ? r.violations.length : '–',
      r.seconds === 0 ? '' : r.seconds.toFixed(1),
    ]),
  );
  for (const r of results) {
    for (const v of r.violations.slice(0, VIOLATIONS_SHOWN)) report.say(`  ! ${r.proof}: ${v}`);
    const more = r.violations.length - VIOLATIONS_SHOWN;
    if (more > 0) report.say(`  ! ${r.proof}: … and ${more} more`);
    const ok = holds(r);
    report.checks.push({
      name: `${r.proof}: ${r.claim}`,
      pass: ok,
      figure: r.violations.length,
      target: `0 violations in at least ${show(r.atLeast)} ${r.unit}`,
      ...(ok === null ? { note: `skipped: ${r.skipped}` } : {}),
    });
  }
  return report.finish();
}

if (values.child) await runHere(positionals[0]);
else process.exitCode = await main();
