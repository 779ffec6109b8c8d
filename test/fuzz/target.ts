// What a fuzz target is, and what all of them share.

import type { Arbitrary } from 'fast-check';
import { SpillwayError, type ErrorCode } from '../../src/base/errors.ts';

export interface Target {
  readonly name: string;
  /** What has to hold, in a line. */
  readonly promise: string;
  /** Longer inputs are cut. */
  readonly maxBytes: number;
  /** Executions of a quick run. */
  readonly quick: number;
  /** Blocks that a quick run covers at least: else it did not get where it should. */
  readonly leastCovered: number;
  readonly dictionary: readonly Uint8Array[];
  /** One execution takes less time of the processor. */
  readonly slowMs?: number;
  /** Inputs that make sense, to begin with and to come back to. */
  readonly structured: Arbitrary<Uint8Array>;
  /** Takes any bytes. Throws where something does not hold: a Violation, or whatever came out of the product. */
  run(input: Uint8Array): void;
}

/** A rule that does not hold. */
export class Violation extends Error {
  readonly rule: string;

  /** @param rule the same for the same kind of violation @param detail what came this time */
  constructor(rule: string, detail = '') {
    super(detail === '' ? rule : `${rule}: ${detail}`);
    this.name = 'Violation';
    this.rule = rule;
  }
}

export function must(holds: boolean, rule: string, detail?: () => string): void {
  if (!holds) throw new Violation(rule, detail?.());
}

/** What a call came to: its value, or the refusal that is documented for it. Anything else is thrown on. */
export type Outcome<T> = { readonly value: T } | { readonly refused: SpillwayError };

export function outcomeOf<T>(codes: readonly ErrorCode[], call: () => T): Outcome<T> {
  try {
    return { value: call() };
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    must(codes.includes(error.code), `refused with ${error.code}`, () => error.message);
    return { refused: error };
  }
}

/** A refusal that a person reads: one line of decent length, which can be printed anywhere. */
export function mustBeALine(message: string): void {
  // oxlint-disable-next-line no-control-regex
  must(!/[\x00-\x1f\x7f]/.test(message), 'a refusal is one line without control characters', () =>
    JSON.stringify(message.slice(0, 200)),
  );
  must(message.length <= 1024, 'a refusal is a line of decent length', () => `${message.length} characters`);
}

export function bytesOf(...texts: readonly string[]): Uint8Array[] {
  return texts.map((text) => Buffer.from(text, 'latin1'));
}

/** Takes an input apart from its beginning; what is not there is 0. */
export class Taker {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#at < this.#bytes.length ? this.#bytes[this.#at++] : 0;
  }

  u16(): number {
    return this.u8() | (this.u8() << 8);
  }

  take(bytes: number): Uint8Array {
    const from = this.#at;
    this.#at = Math.min(this.#bytes.length, from + bytes);
    return this.#bytes.subarray(from, this.#at);
  }

  rest(): Uint8Array {
    return this.take(this.left);
  }
}
