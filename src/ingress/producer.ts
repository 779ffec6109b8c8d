// A producer with an id on its connection: which of the records it sends are in the log already, and what becomes known.
//
//     known before       ├──run──┤      ├────run────┤
//     an APPEND                ├───────────────────────────┤
//     its parts                ├─┤──new─┤────known──┤─new──┤
//
// What stands between runs is new: it was refused, or a crash took it. What stands before the oldest of as many runs as are
// remembered may be either.

import { SpillwayError } from '../base/errors.ts';
import type { Identity } from '../base/types.ts';
import { addRun, MAX_RUNS, type Dedupe, type Remembered, type SequenceRun } from '../flow/dedupe.ts';

/** Records side by side in the log, one run behind the other. */
export type Runs = readonly { readonly records: number; readonly firstOffset: number }[];

/** Part of an APPEND. */
export interface Part {
  readonly firstSequence: number;
  readonly records: number;
  /** Offset of the first where the part is in the log; an error where nobody can tell; undefined where it is new. */
  readonly there: number | SpillwayError | undefined;
}

const bySequence = (a: SequenceRun, b: SequenceRun): number => a.firstSequence - b.firstSequence;

export class Producer {
  readonly #id: Uint8Array;
  readonly #dedupe: Dedupe | undefined;
  /** Runs remembered when the connection began, in order of sequence. */
  readonly #known: readonly SequenceRun[];
  readonly #added: SequenceRun[] = [];
  /** Below this, runs have been forgotten. */
  readonly #rememberedFrom: number;
  /** Sequence from which on everything is new. */
  readonly #newFrom: number;
  #nextSequence: number;
  /** First known run that does not end before what was last asked about: sequences only rise. */
  #at = 0;

  private constructor(id: Uint8Array, dedupe: Dedupe | undefined, remembered: Remembered | undefined) {
    this.#id = id;
    this.#dedupe = dedupe;
    // In the log they may stand in another order: what was refused at first comes behind what followed it.
    this.#known = [...(remembered?.runs ?? [])].sort(bySequence);
    this.#rememberedFrom = this.#known.length < MAX_RUNS ? 0 : this.#known[0].firstSequence;
    this.#newFrom = Math.max(0, ...this.#known.map(endOf));
    this.#nextSequence = remembered?.nextSequence ?? 0;
  }

  /**
   * Resolves once no other connection has this producer. @param onFence called when another wants it
   * @param dedupe undefined: nothing is remembered, and nobody has to wait
   */
  static async claim(dedupe: Dedupe | undefined, producerId: Uint8Array, onFence: () => void): Promise<Producer> {
    // The first bit is that of Idempotency-Keys (records-post.ts). Cleared before the id is used for anything: what is stored with
    // the records has to be what is asked for after a restart.
    const id = Uint8Array.from(producerId, (byte, i) => (i === 0 ? byte & 0x7f : byte));
    return new Producer(id, dedupe, await dedupe?.claim(nameOf(id), onFence));
  }

  /** To be called once, when nothing of it is under way any more. */
  release(): void {
    this.#dedupe?.release(nameOf(this.#id), this.#remembered());
  }

  /** Whether records sent again are recognised. */
  get isRemembered(): boolean {
    return this.#dedupe !== undefined;
  }

  /** After the last sequence known to be durable. */
  get durableSequence(): number {
    return this.#nextSequence;
  }

  /** Undefined where all of it is new. To be asked in order of sequence. */
  parts(firstSequence: number, records: number): Part[] | undefined {
    if (firstSequence >= this.#newFrom) return undefined;
    const parts: Part[] = [];
    const end = firstSequence + records;
    for (let from = firstSequence; from < end;) {
      while (this.#at < this.#known.length && endOf(this.#known[this.#at]) <= from) this.#at++;
      const run: SequenceRun | undefined = this.#known[this.#at];
      const inside = run !== undefined && run.firstSequence <= from;
      const to = Math.min(end, run === undefined ? end : inside ? endOf(run) : run.firstSequence);
      const there = inside
        ? run.firstOffset + from - run.firstSequence
        : from < this.#rememberedFrom
          ? forgotten()
          : undefined;
      parts.push({ firstSequence: from, records: to - from, there });
      from = to;
    }
    return parts;
  }

  identity(sequence: number): Identity {
    return { id: this.#id, low: sequence % 2 ** 32, high: Math.floor(sequence / 2 ** 32) };
  }

  /** Records are durable now. @param runs where they are, in order */
  add(firstSequence: number, runs: Runs): void {
    let sequence = firstSequence;
    for (const { firstOffset, records } of runs) {
      addRun(this.#added, sequence, firstOffset, records);
      sequence += records;
    }
    this.#nextSequence = Math.max(this.#nextSequence, sequence);
  }

  /** What the next connection has to know. */
  #remembered(): Remembered | undefined {
    if (this.#added.length === 0) return undefined;
    const runs: SequenceRun[] = [];
    for (const r of [...this.#known, ...this.#added].sort(bySequence)) {
      addRun(runs, r.firstSequence, r.firstOffset, r.records);
    }
    return { nextSequence: this.#nextSequence, tag: 0, runs };
  }
}

function forgotten(): SpillwayError {
  return new SpillwayError('DISCONNECTED', 'older than what is remembered: they may or may not be in the log');
}

function nameOf(id: Uint8Array): string {
  return Buffer.from(id).toString('latin1');
}

function endOf(run: SequenceRun): number {
  return run.firstSequence + run.records;
}
