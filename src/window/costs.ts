// What things cost, as measured on one machine and one disk: what the model (model.ts) draws its times from.
// A distribution is its samples in ascending order; a draw takes the one that a fraction from 0 to below 1 points at, between two
// sizes of writes the same fraction of both, linearly by bytes. Beyond the largest size measured the time grows in proportion.

/** Samples in ms, ascending; not empty. */
export type Distribution = Float64Array;

export interface WriteCost {
  /** On disk, padding included. */
  readonly bytes: number;
  readonly ms: Distribution;
}

export interface Costs {
  /** Durable writes, by ascending size. */
  readonly writes: readonly WriteCost[];
  /** Gathering and encoding a batch: so much each, and by its bytes. */
  readonly batchMs: number;
  readonly encodeMsPerByte: number;
  /** Writing the durable end down, once a second. */
  readonly checkpointMs: Distribution;
  /** Preparing the next segment: one piece of FILL_BYTES. */
  readonly fillMs: Distribution;
  /** From a producer's ring of the doorbell until the commit thread has looked. */
  readonly wakeMs: Distribution;
  /** From the end of a timed wait until it has looked. */
  readonly timerLateMs: Distribution;
  /** From an acknowledgement until the producer's event loop reads it. */
  readonly backMs: Distribution;
  readonly producer: ProducerCost;
}

/** The thread that appends: an event loop with a timer of its own. */
export interface ProducerCost {
  /** Of the thread, per record. */
  readonly sendMs: number;
  readonly answerMs: number;
  /** Its timer counts in whole ones of these, cut off; 0: it is exact. */
  readonly timerMs: number;
  /** How much later than that it comes round. */
  readonly lateMs: Distribution;
}

export function distributionOf(samples: Iterable<number>): Distribution {
  const sorted = Float64Array.from(samples).sort();
  if (sorted.length === 0) throw new Error('a distribution needs samples');
  return sorted;
}

/** @param fraction from 0 to below 1 */
export function drawn(ms: Distribution, fraction: number): number {
  return ms[Math.floor(fraction * ms.length)];
}

/** Nearest-rank quantile. */
export function quantileOf(ms: Distribution, q: number): number {
  return ms[Math.max(0, Math.ceil(q * ms.length) - 1)];
}

/** What a durable write of so many bytes takes. @param fraction which of the times measured: 0 the shortest, 0.5 the median */
export function writeMs(writes: readonly WriteCost[], bytes: number, fraction: number): number {
  const above = writes.findIndex((w) => w.bytes >= bytes);
  if (above === 0) return drawn(writes[0].ms, fraction);
  if (above < 0) {
    const last = writes[writes.length - 1];
    return (drawn(last.ms, fraction) * bytes) / last.bytes;
  }
  const [low, high] = [writes[above - 1], writes[above]];
  const share = (bytes - low.bytes) / (high.bytes - low.bytes);
  return drawn(low.ms, fraction) * (1 - share) + drawn(high.ms, fraction) * share;
}
