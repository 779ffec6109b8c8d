// What has been made durable lately, by whom: so that a retry is answered with the first result instead of being stored
// again. One entry per producer (framed protocol) or per Idempotency-Key (HTTP).
//
// Promises: at most `maxKeys` entries, and at most maxKeys × ENTRY_BYTES of memory for them, about; those least lately used go first; none older than `maxAgeMs` is believed; one claim at a
// time per entry, so that a retry that overtakes its original waits for it. What is written down is not here but with the
// records themselves (base/types.ts, Identity): `restore` rebuilds the table from the end of the log.

import { Chain, type Link } from './chain.ts';

/** Records of one producer that stand side by side in the log. */
export interface SequenceRun {
  readonly firstSequence: number;
  readonly firstOffset: number;
  records: number;
}

export interface Remembered {
  /** Sequence after the last record that is known to be durable. */
  readonly nextSequence: number;
  /** Checksum of the body, where the key belongs to a single request; else 0. */
  readonly tag: number;
  /** The newest runs, in order; fewer than 2 × MAX_RUNS. Whoever holds the claim may add to them. */
  readonly runs: SequenceRun[];
}

/** Who may append for an entry, until it is released. */
export interface Dedupe {
  /**
   * Resolves once nobody else holds the entry. @param onFence called when somebody else wants it: a connection that is still
   * open is then out of date. @returns undefined for one that is new, or forgotten
   */
  claim(id: string, onFence?: () => void): Promise<Remembered | undefined>;
  /** Gives it back, with what is durable by now; undefined leaves what was remembered. */
  release(id: string, remembered: Remembered | undefined): void;
}

/** Runs remembered per entry: more than a producer can have under way within its credit in frames of usual sizes. */
export const MAX_RUNS = 1024;
/** What an entry costs in memory, about: with one run, and each further one. */
export const ENTRY_BYTES = 320;
const RUN_BYTES = 64;

/** Adds a run behind the others, joined to the last where it goes on from it. */
export function addRun(runs: SequenceRun[], firstSequence: number, firstOffset: number, records: number): void {
  const last = runs.at(-1);
  const goesOn =
    last !== undefined &&
    last.firstSequence + last.records === firstSequence &&
    last.firstOffset + last.records === firstOffset;
  if (goesOn) last.records += records;
  else runs.push({ firstSequence, firstOffset, records });
  if (runs.length >= 2 * MAX_RUNS) runs.splice(0, MAX_RUNS);
}

/** Offset of one record, where the runs still tell. */
export function offsetOf(runs: readonly SequenceRun[], sequence: number): number | undefined {
  const run = runs.findLast((r) => r.firstSequence <= sequence);
  const within = run === undefined ? -1 : sequence - run.firstSequence;
  return run !== undefined && within < run.records ? run.firstOffset + within : undefined;
}

interface Entry {
  readonly id: string;
  remembered: Remembered | undefined;
  /** Runs that were counted for it when it was last released. */
  moreRuns: number;
  usedMs: number;
  held: boolean;
  onFence: () => void;
  readonly waiting: { readonly resolve: (r: Remembered | undefined) => void; readonly onFence: () => void }[];
}

const nothing = (): void => undefined;

export class DedupeTable implements Dedupe {
  readonly #links = new Map<string, Link<Entry>>();
  /** In order of last use, oldest first. Not the order of the map: V8 walks over what was deleted before. */
  readonly #byUse = new Chain<Entry>();
  /** Runs beyond the first of each entry. */
  #moreRuns = 0;
  readonly #maxKeys: number;
  readonly #maxAgeMs: number;
  readonly #now: () => number;

  /** @param now milliseconds; of the wall clock where `restore` is used with times of records */
  constructor(options: { readonly maxKeys: number; readonly maxAgeMs: number }, now: () => number) {
    this.#maxKeys = options.maxKeys;
    this.#maxAgeMs = options.maxAgeMs;
    this.#now = now;
  }

  get size(): number {
    return this.#links.size;
  }

  claim(id: string, onFence = nothing): Promise<Remembered | undefined> {
    const entry = this.#links.get(id)?.value;
    if (entry === undefined) {
      this.#add({ id, remembered: undefined, usedMs: this.#now(), held: true, onFence, waiting: [], moreRuns: 0 });
      return Promise.resolve(undefined);
    }
    if (entry.held) {
      entry.onFence();
      return new Promise((resolve) => entry.waiting.push({ resolve, onFence }));
    }
    entry.held = true;
    entry.onFence = onFence;
    const remembered = this.#use(entry);
    this.#evict();
    return Promise.resolve(remembered);
  }

  release(id: string, remembered: Remembered | undefined): void {
    const entry = this.#links.get(id)?.value;
    if (entry === undefined || !entry.held) throw new Error('released without a claim');
    this.#remember(entry, remembered ?? entry.remembered);
    const next = entry.waiting.shift();
    if (next !== undefined) {
      entry.onFence = next.onFence;
      next.resolve(this.#use(entry));
      // Who waits behind it wants it too.
      if (entry.waiting.length > 0) next.onFence();
      return;
    }
    entry.held = false;
    entry.onFence = nothing;
    this.#use(entry);
    if (entry.remembered === undefined) this.#forget(entry);
    this.#evict();
  }

  /** One record found in the log, in the order of the log. @param timestampMs when it was appended */
  restore(id: string, sequence: number, tag: number, offset: number, timestampMs: number): void {
    const before = this.#links.get(id)?.value;
    // Another tag: the key had been forgotten, and was used again for another request.
    const known = before?.remembered?.tag === tag ? before.remembered : undefined;
    const runs = known?.runs ?? [];
    addRun(runs, sequence, offset, 1);
    const nextSequence = Math.max(known?.nextSequence ?? 0, sequence + 1);
    if (before !== undefined) this.#forget(before);
    const entry: Entry = {
      id,
      remembered: undefined,
      usedMs: timestampMs,
      held: false,
      onFence: nothing,
      waiting: [],
      moreRuns: 0,
    };
    this.#remember(entry, { nextSequence, tag, runs });
    this.#add(entry);
  }

  #add(entry: Entry): void {
    this.#links.set(entry.id, this.#byUse.push(entry));
    this.#evict();
  }

  #remember(entry: Entry, remembered: Remembered | undefined): void {
    const moreRuns = Math.max(0, (remembered?.runs.length ?? 0) - 1);
    this.#moreRuns += moreRuns - entry.moreRuns;
    entry.moreRuns = moreRuns;
    entry.remembered = remembered;
  }

  #forget(entry: Entry): void {
    this.#moreRuns -= entry.moreRuns;
    entry.moreRuns = 0;
    this.#byUse.remove(this.#links.get(entry.id)!);
    this.#links.delete(entry.id);
  }

  /** Moves an entry to the end; what is too old is not believed. */
  #use(entry: Entry): Remembered | undefined {
    const nowMs = this.#now();
    if (nowMs - entry.usedMs > this.#maxAgeMs) this.#remember(entry, undefined);
    entry.usedMs = nowMs;
    this.#byUse.moveToEnd(this.#links.get(entry.id)!);
    return entry.remembered;
  }

  #evict(): void {
    const tooOldMs = this.#now() - this.#maxAgeMs;
    for (let link = this.#byUse.first; link !== undefined;) {
      const { value: entry, after } = link;
      const cost = this.size + (this.#moreRuns * RUN_BYTES) / ENTRY_BYTES;
      if (cost <= this.#maxKeys && entry.usedMs >= tooOldMs) return;
      // One that is held is in use, whatever its age; there are no more of those than connections and requests.
      if (!entry.held) this.#forget(entry);
      link = after;
    }
  }
}
