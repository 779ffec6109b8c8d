// What all proofs have in common. A proof tries many cases and reports, per claim, how many it tried and each violation
// it met. `<name>.ts` beside this file exports `prove`; `<name>.test.ts` runs it with its quick values inside `npm test`;
// `npm run prove` (main.ts) runs all of them and prints one table. A proof is deterministic from its seed where it can be
// (simulated disks); where it cannot (real kills), the seed still decides what is tried.

import type { Test } from 'tap';
import type { Modes } from '../support/modes.ts';

export interface ProofContext {
  /** The long run: `npm run prove -- --full`. Quick values take seconds and go with `npm test`. */
  readonly full: boolean;
  readonly seed: number;
  /** Narrows to one case, as printed in a violation; undefined tries all. */
  readonly only: string | undefined;
}

/** One line of the table. */
export interface Claim {
  /** What holds, as a sentence that could be false. */
  readonly claim: string;
  /** Cases tried. */
  readonly tried: number;
  /** What a case is, plural: `states`, `kills`, `bit flips`. */
  readonly unit: string;
  /** Below this many the proof did not do its work, and fails. Stated before the run. */
  readonly atLeast: number;
  /** One line each: what was done, what was expected, what came, and the command that repeats it. */
  readonly violations: readonly string[];
  /** Why nothing was tried here (no root, no loop devices). A skipped claim is neither shown nor refuted. */
  readonly skipped?: string;
  /** Further figures worth printing, e.g. `{ 'torn tails cut': 17 }`. */
  readonly figures?: Readonly<Record<string, number | string>>;
  /** Case by case, where a document shows them. */
  readonly rows?: readonly Readonly<Record<string, number | string>>[];
}

export type Prove = (context: ProofContext) => Promise<readonly Claim[]>;

export const DEFAULT_SEED = 20261121;
/** Violations after which a proof need not go on. `planted` sets it to 1: it wants to know whether there is any. */
export const VIOLATIONS_SHOWN = Number(process.env['SPILLWAY_PROOF_VIOLATIONS'] ?? 20);
// A list that is cut to none, or to no number, looks like that of a claim that holds.
if (!Number.isSafeInteger(VIOLATIONS_SHOWN) || VIOLATIONS_SHOWN < 1) {
  throw new Error('SPILLWAY_PROOF_VIOLATIONS: expected a whole number from 1 on');
}

export const quick: ProofContext = { full: false, seed: DEFAULT_SEED, only: undefined };

export function skip(claim: string, unit: string, why: string): Claim {
  return { claim, tried: 0, unit, atLeast: 0, violations: [], skipped: why };
}

/** A row for each mode that does not work: nobody shall take what the others showed for what all of them show. */
export function skipModes(missing: Modes['missing'], unit: string, where = ''): Claim[] {
  return [...missing].map(([mode, why]) =>
    skip(`mode ${mode}${where}`, unit, `mode ${mode} does not work here: ${why}`),
  );
}

/** The command that tries one case again. @param full where the long run tries a case otherwise than the quick one */
export function repeatCommand(proof: string, seed: number, only?: string, full = false): string {
  const narrowed = only === undefined ? '' : ` --only '${only}'`;
  return `npm run prove -- ${proof}${full ? ' --full' : ''} --seed ${seed}${narrowed}`;
}

/** True where the claim was tried enough and nothing contradicts it; null where it was skipped. */
export function holds(c: Claim): boolean | null {
  if (c.skipped !== undefined) return null;
  return c.violations.length === 0 && c.tried >= c.atLeast;
}

/** How the assertion begins that a proof did its work. A bug that keeps it from that is not caught by it: planted.ts. */
export const ENOUGH_TRIED = 'tried enough';

/** Body of every `<name>.test.ts`. */
export async function testProof(t: Test, prove: Prove, context: ProofContext = quick): Promise<void> {
  const claims = await prove(context);
  t.ok(claims.length > 0, `${ENOUGH_TRIED}: the proof makes a claim`);
  for (const c of claims) {
    if (c.skipped !== undefined) {
      t.pass(c.claim, { skip: c.skipped });
      continue;
    }
    t.same(c.violations.slice(0, VIOLATIONS_SHOWN), [], `${c.claim}: no violation in ${c.tried} ${c.unit}`);
    t.ok(c.tried >= c.atLeast, `${ENOUGH_TRIED}, ${c.tried} ${c.unit}, at least ${c.atLeast}: ${c.claim}`);
  }
}
