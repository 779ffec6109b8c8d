// The answers a connection owes, in order of sequence: what was answered is written only when all before it is.
//
//     ├─ durable ─┼─ durable ─┼─ refused ─┼─ pending ─┼─ durable ─┤        queue of parts of APPENDs
//     └──────── ACK ──────────┴── ERROR ──┘           waits
//
// Promises: an ACK comes out only for records whose append has resolved; runs that follow on from each other are one run;
// at most MAX_ACK_RUNS in a frame. The queue is bounded by whoever adds to it: an entry per part of an APPEND.

import type { SpillwayError } from '../base/errors.ts';
import { encodeAck, encodeError, MAX_ACK_RUNS, RUN_DUPLICATE, type AckRun } from '../codec/frames.ts';

type Runs = readonly { readonly records: number; readonly firstOffset: number }[];

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
  readonly frames: Uint8Array[];
  bytes: number;
  creditBytes: number;
}

/** Settled entries that may stand at the front of the list before it is cut. */
const FORGET_ENTRIES = 1024;

export class Settlements {
  #queue: Settlement[] = [];
  /** Entries at the front that are done with. */
  #head = 0;
  readonly #retryAfterMs: (error: SpillwayError) => number;

  constructor(retryAfterMs: (error: SpillwayError) => number) {
    this.#retryAfterMs = retryAfterMs;
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
    const answers: Answers = { frames: [], bytes: 0, creditBytes: 0 };
    let runs: AckRun[] = [];
    let sequence = 0;
    const put = (frame: Uint8Array): void => {
      answers.frames.push(frame);
      answers.bytes += frame.length;
    };
    const putAck = (): void => {
      if (runs.length > 0) put(encodeAck({ sequence, runs }));
      runs = [];
    };
    while (this.answered && answers.bytes < maxBytes) {
      const entry = this.#queue[this.#head++];
      const outcome = entry.outcome!;
      answers.creditBytes += entry.creditBytes;
      if (isRuns(outcome)) {
        if (runs.length + outcome.length > MAX_ACK_RUNS) putAck();
        addRuns(runs, entry, outcome);
      } else {
        putAck();
        put(this.#error(entry, outcome));
      }
      sequence = entry.firstSequence + entry.records;
    }
    putAck();
    this.#forget();
    return answers;
  }

  #error(entry: Settlement, error: SpillwayError): Uint8Array {
    const { firstSequence, records } = entry;
    const { code, retryable, message } = error;
    return encodeError({
      firstSequence,
      records,
      code,
      retryable,
      retryAfterMs: this.#retryAfterMs(error),
      message,
    });
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
