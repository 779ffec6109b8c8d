// The loop: inputs are changed at random; one that makes code run which has not run before is kept, and changed further. Inputs that
// make sense come from fast-check, to begin with and now and then.
//
// Promises: the same target, seed and corpus try the same inputs in the same order; every input is announced before it is tried, so
// that whoever watches knows which one the process hangs or dies on.
// To look at the coverage costs as much as a hundred executions: it is looked at per round, and a round that found something new is
// halved until it is known which inputs did.

import fc from 'fast-check';
import { Coverage } from './coverage.ts';
import { mutate } from './mutate.ts';
import { Random } from './random.ts';
import { Violation, type Target } from './target.ts';

const FIRST_ROUND = 64;
const LONGEST_ROUND = 2048;
/** Inputs from fast-check at the beginning, and again each so many rounds. */
const SAMPLES = 200;
const ROUNDS_PER_SAMPLES = 32;
/** One execution takes less time of the processor, where the target says nothing else. */
const SLOW_MS = 1000;
const SMALLER_TRIES = 1000;
/** How many of the inputs kept last count as the newest. */
const NEWEST = 8;
const SLOW = 'slow';
/** Different findings after which a target need not go on. */
const MOST_FINDINGS = 20;

export interface Finding {
  /** The same for the same kind of finding. */
  readonly key: string;
  readonly message: string;
  readonly input: Uint8Array;
}

export interface Result {
  readonly executions: number;
  readonly covered: number;
  readonly corpus: readonly Uint8Array[];
  readonly findings: readonly Finding[];
}

export interface EngineOptions {
  readonly seed: number;
  readonly executions: number;
  /** Inputs that are tried first. */
  readonly corpus: readonly Uint8Array[];
  /** Which scripts guide it, by their URL. */
  readonly covers: (url: string) => boolean;
  /** Called before each execution. */
  readonly announce: (input: Uint8Array) => void;
}

/** What went wrong with an input; undefined where nothing did. */
export function tryInput(target: Target, input: Uint8Array): Finding | undefined {
  // In memory of its own, so that it stays what it was.
  const copy = new Uint8Array(input);
  const startedMs = performance.now();
  const before = process.cpuUsage();
  try {
    target.run(copy);
  } catch (error) {
    return { ...describe(error), input };
  }
  // The clock on the wall also counts what others did meanwhile, but is asked for nothing.
  const slowMs = target.slowMs ?? SLOW_MS;
  if (performance.now() - startedMs < slowMs) return undefined;
  const { user, system } = process.cpuUsage(before);
  const ms = (user + system) / 1000;
  if (ms < slowMs) return undefined;
  return { key: SLOW, message: `one execution took ${ms.toFixed(0)} ms of the processor`, input };
}

function describe(error: unknown): { key: string; message: string } {
  if (error instanceof Violation) return { key: error.rule, message: error.message };
  const { name, message = String(error), stack = '' } = error as Partial<Error>;
  // Where it was thrown: the first place in our code.
  const place = /dist\/([^\s)]+)/.exec(stack)?.[1] ?? 'nowhere';
  return { key: `${name} at ${place}`, message: `${name}: ${message} (${place})` };
}

class Engine {
  readonly #target: Target;
  readonly #options: EngineOptions;
  readonly #random: Random;
  readonly #coverage: Coverage;
  readonly #corpus: Uint8Array[] = [];
  readonly #findings = new Map<string, Finding>();
  #executions = 0;

  constructor(target: Target, options: EngineOptions) {
    this.#target = target;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#coverage = new Coverage(options.covers);
  }

  run(): Result {
    const { executions, corpus } = this.#options;
    this.#round(corpus);
    let size = FIRST_ROUND;
    for (let n = 0; this.#executions < executions && this.#findings.size < MOST_FINDINGS; n++) {
      if (n % ROUNDS_PER_SAMPLES === 0) this.#round(this.#samples());
      const left = Math.max(1, executions - this.#executions);
      const isNew = this.#round(Array.from({ length: Math.min(size, left) }, () => this.#next()));
      size = isNew ? FIRST_ROUND : Math.min(LONGEST_ROUND, 2 * size);
    }
    const findings = [...this.#findings.values()];
    return { executions: this.#executions, covered: this.#coverage.covered, corpus: this.#corpus, findings };
  }

  #samples(): Uint8Array[] {
    return fc.sample(this.#target.structured, { numRuns: SAMPLES, seed: this.#random.next() | 0 });
  }

  #next(): Uint8Array {
    const r = this.#random;
    const { dictionary, maxBytes } = this.#target;
    const none = new Uint8Array(0);
    const kept = this.#corpus;
    if (kept.length === 0) return mutate(r, none, none, dictionary, maxBytes);
    // Every second time one of the newest: that is where something is still to be found.
    const input = r.below(2) === 0 ? kept.at(-1 - r.below(Math.min(kept.length, NEWEST)))! : r.pick(kept);
    return mutate(r, input, r.pick(kept), dictionary, maxBytes);
  }

  /** @returns whether something new was covered */
  #round(inputs: readonly Uint8Array[]): boolean {
    for (const input of inputs) this.#execute(input);
    if (!this.#coverage.take(false)) return false;
    const before = this.#corpus.length;
    this.#locate(inputs);
    if (this.#corpus.length > before) return true;
    // Covered by all of them together only, such as by the one after which the compiler stepped in.
    for (const input of inputs) this.#try(input);
    this.#coverage.take(true);
    return false;
  }

  /** Keeps those of the inputs, some of which cover something new, that do. */
  #locate(inputs: readonly Uint8Array[]): void {
    if (inputs.length === 1) {
      this.#try(inputs[0]);
      if (this.#coverage.take(true)) this.#corpus.push(inputs[0]);
      return;
    }
    const middle = inputs.length >> 1;
    for (const half of [inputs.slice(0, middle), inputs.slice(middle)]) {
      for (const input of half) this.#try(input);
      if (this.#coverage.take(false)) this.#locate(half);
    }
  }

  #execute(input: Uint8Array): void {
    this.#executions++;
    const finding = this.#try(input);
    if (finding === undefined || this.#findings.has(finding.key)) return;
    this.#findings.set(finding.key, this.#smaller(finding));
  }

  #try(input: Uint8Array): Finding | undefined {
    this.#options.announce(input);
    return tryInput(this.#target, input);
  }

  /** Without what is not needed for the same finding. */
  #smaller(finding: Finding): Finding {
    let best = finding;
    let tries = finding.key === SLOW ? SMALLER_TRIES - 20 : 0;
    for (let bytes = best.input.length >> 1; bytes > 0; bytes >>= 1) {
      for (let at = 0; at < best.input.length && tries < SMALLER_TRIES; tries++) {
        const { input } = best;
        const less = this.#try(Buffer.concat([input.subarray(0, at), input.subarray(at + bytes)]));
        if (less?.key === finding.key) best = less;
        else at += bytes;
      }
    }
    return best;
  }
}

export function fuzz(target: Target, options: EngineOptions): Result {
  return new Engine(target, options).run();
}

/** Those inputs, the shortest first, that cover all that the inputs cover together. */
export function smallest(
  target: Target,
  inputs: readonly Uint8Array[],
  covers: (url: string) => boolean,
): Uint8Array[] {
  const coverage = new Coverage(covers);
  const kept = [...inputs]
    .sort((a, b) => a.length - b.length)
    .filter((input) => {
      tryInput(target, input);
      return coverage.take(true);
    });
  return kept;
}
