// What a load generator says of itself, as the checks need it: where it was the limit, a run says nothing of the target, and is not
// judged (Report.measured, `note`).

import type { LoadReport } from '../../src/load/report.ts';

export type Loaded = Pick<LoadReport, 'limit' | 'verdict'>;

/** Why a run is not judged; undefined where the generator was not the limit. */
export function ownLimit(report: Loaded): string | undefined {
  return report.limit === 'generator' ? report.verdict : undefined;
}

/**
 * The rounds in which no generator was the limit. Where less than half are left, all of them, and why none is judged.
 * @param of the runs of a round
 */
export function judgeable<T>(
  rounds: readonly T[],
  of: (round: T) => readonly Loaded[],
): { readonly rounds: readonly T[]; readonly note?: string } {
  const fit = rounds.filter((round) => of(round).every((report) => ownLimit(report) === undefined));
  if (fit.length > 0 && fit.length * 2 >= rounds.length) return { rounds: fit };
  return { rounds, note: `the generator was the limit in ${rounds.length - fit.length} of ${rounds.length} rounds` };
}
