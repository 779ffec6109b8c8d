// What a run of lab:overflow counted, and whether it adds up: offered = accepted + dropped + pending, exactly; and each figure
// as somebody else counted it too. Pure.

export interface Ledger {
  /** Records that the producer made and handed over. */
  readonly offered: number;
  /** Whose promise resolved: they are on stable storage. */
  readonly accepted: number;
  /** By the counters of the lane. */
  readonly dropped: number;
  /** Handed over, and neither accepted nor dropped. */
  readonly pending: number;
}

/** The same by other witnesses. */
export interface Witnesses {
  /** Promises that were rejected. */
  readonly refused: number;
  /** Records that the log says it wrote. */
  readonly logRecords: number;
  /** Records that were read back, once the log was closed. */
  readonly readBack: number;
}

/** What does not add up, a sentence each; empty where all does. */
export function disagreements(l: Ledger, w: Witnesses): string[] {
  const wrong: string[] = [];
  const sum = l.accepted + l.dropped + l.pending;
  if (l.offered !== sum) wrong.push(`offered ${l.offered}, but accepted + dropped + pending is ${sum}`);
  if (l.dropped !== w.refused) wrong.push(`dropped ${l.dropped}, but ${w.refused} promises were rejected`);
  if (l.accepted !== w.logRecords) wrong.push(`accepted ${l.accepted}, but the log wrote ${w.logRecords}`);
  if (l.accepted !== w.readBack) wrong.push(`accepted ${l.accepted}, but ${w.readBack} were read back`);
  return wrong;
}
