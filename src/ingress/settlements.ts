// The answers a connection owes, in order of sequence: what was answered is written only when all before it is.
//
//     ├─ durable ─┼─ durable ─┼─ refused ─┼─ pending ─┼─ durable ─┤        queue of parts of APPENDs
//     └──────── ACK ──────────┴── ERROR ──┘           waits
//
// Promises: an ACK comes out only for records whose append has resolved; runs that follow on from each other are one run;
// at most MAX_ACK_RUNS in a frame. The queue is bounded by whoever adds to it: an entry per part of an APPEND.

import type { SpillwayError } from '../base/errors.ts';
import { encodeAck, encodeError, MAX_ACK_RUNS, RUN_DUPLICATE, type AckRun } from '../codec/frames.ts';
import type { Runs } from './producer.ts';

/** Records of one APPEND, or a part of them, that are answered alike. */
export interface Settlement {
  readonly firstSequence: number;
  readonly records: number;
  /** Credit that is free again once this is answered. */
  readonly creditBytes: number;
  outcome: Runs | SpillwayError | undefined;
  duplicate: boolean;
}

/** Frames to write, and what they set free. */
export interface Answers {
  readonly frames: readonly Uint8Array[];
  readonly creditBytes: number;
}

/** Settled entries that may stand at the front of the list before it is cut. */
const FORGET_ENTRIES = 1024;

export class Settlements {
  #queue: Settlement[] = [];
  /** Entries at the front that are done with. */
  #head = 0;
  readonly #retryAfterMs: (error: SpillwayError) => number;
  readonly #tellable: (message: string) => string;

  /** @param tellable what of a message may be shown */
  constructor(retryAfterMs: (error: SpillwayError) => number, tellable: (message: string) => string) {
    this.#retryAfterMs = retryAfterMs;
    this.#tellable = tellable;
  }

  /** Entries without an answer, or with one that is not yet taken. */
  get length(): number {
    return this.#queue.length - this.#head;
  }

  /** Whether `take` would give anything. */
  get answered(): boolean {
    return this.#queue[this.#head]?.outcome !== undefined;
  }

  add(firstSequence: number, records: number, creditBytes: number): Settlement {
    const entry: Settlement = { firstSequence, records, creditBytes, outcome: undefined, duplicate: false };
    this.#queue.push(entry);
    return entry;
  }

  /** Answers from the front on, up to the first that is pending, or until there are maxBytes of them. */
  take(maxBytes: number): Answers {
    const writer = new AnswerWriter();
    let creditBytes = 0;
    while (this.answered && writer.bytes < maxBytes) {
      const entry = this.#queue[this.#head++];
      const outcome = entry.outcome!;
      if (isRuns(outcome)) writer.putRuns(entry, outcome);
      else writer.put(this.#error(entry, outcome));
      creditBytes += entry.creditBytes;
    }
    writer.putAck();
    this.#forget();
    return { frames: writer.frames, creditBytes };
  }

  #error(entry: Settlement, error: SpillwayError): Uint8Array {
    const { firstSequence, records } = entry;
    const { code, retryable } = error;
    const message = this.#tellable(error.message);
    const retryAfterMs = Math.min(Math.ceil(this.#retryAfterMs(error)), 2 ** 32 - 1);
    return encodeError({ firstSequence, records, code, retryable, retryAfterMs, message });
  }

  #forget(): void {
    if (this.#head === this.#queue.length) {
      this.#queue.length = 0;
      this.#head = 0;
    } else if (this.#head > FORGET_ENTRIES) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }
}

function isRuns(outcome: Runs | SpillwayError): outcome is Runs {
  return Array.isArray(outcome);
}

type OpenRun = { -readonly [K in keyof AckRun]: AckRun[K] };

class AnswerWriter {
  readonly frames: Uint8Array[] = [];
  bytes = 0;
  #runs: OpenRun[] = [];

  /** What was acknowledged before goes out first. */
  put(frame: Uint8Array): void {
    this.putAck();
    this.frames.push(frame);
    this.bytes += frame.length;
  }

  putRuns(entry: Settlement, runs: Runs): void {
    const flags = entry.duplicate ? RUN_DUPLICATE : 0;
    let { firstSequence } = entry;
    for (const { firstOffset, records } of runs) {
      const last = this.#runs.at(-1);
      const goesOn =
        last !== undefined &&
        last.flags === flags &&
        last.firstSequence + last.records === firstSequence &&
        last.firstOffset + last.records === firstOffset &&
        last.records + records < 2 ** 32;
      if (goesOn) last.records += records;
      else this.#push({ firstSequence, firstOffset, records, flags });
      firstSequence += records;
    }
  }

  #push(run: OpenRun): void {
    if (this.#runs.length === MAX_ACK_RUNS) this.putAck();
    this.#runs.push(run);
  }

  putAck(): void {
    const last = this.#runs.at(-1);
    if (last === undefined) return;
    const frame = encodeAck({ sequence: last.firstSequence + last.records, runs: this.#runs });
    this.#runs = [];
    this.frames.push(frame);
    this.bytes += frame.length;
  }
}
