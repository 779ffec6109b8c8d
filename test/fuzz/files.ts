// Where inputs lie: the corpus (test/fuzz/corpus/TARGET, committed) and findings (test/fuzz/findings/TARGET, not).

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from '../support/platform-root.ts';

export interface ChildTask {
  readonly seed: number;
  readonly executions: number;
  /** The corpus is written anew. */
  readonly save: boolean;
  /** One saved input is tried, and nothing else. */
  readonly only?: string;
}

export interface ChildResult {
  readonly executions: number;
  readonly covered: number;
  readonly corpus: number;
  /** A line each. */
  readonly findings: readonly string[];
}

/** A kept input longer than this is not worth its place. */
const CORPUS_INPUT_BYTES = 2048;

export function corpusDir(target: string): string {
  return join(root, 'test', 'fuzz', 'corpus', target);
}

export function findingsDir(target: string): string {
  return join(root, 'test', 'fuzz', 'findings', target);
}

/** Paths in the corpus of a target; inputs named `regression-…` showed a bug once. */
export function corpusFiles(target: string): string[] {
  const dir = corpusDir(target);
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .sort()
    .map((name) => join(dir, name));
}

export function readCorpus(target: string): Uint8Array[] {
  return corpusFiles(target).map((path) => readFileSync(path));
}

function nameOf(input: Uint8Array): string {
  return createHash('sha256').update(input).digest('hex').slice(0, 12);
}

/** Replaces the corpus but its regressions. */
export function writeCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const dir = corpusDir(target);
  mkdirSync(dir, { recursive: true });
  const regressions = new Set<string>();
  for (const path of corpusFiles(target)) {
    if (path.includes('regression-')) regressions.add(nameOf(readFileSync(path)));
    else rmSync(path);
  }
  for (const input of inputs) {
    if (input.length <= CORPUS_INPUT_BYTES && !regressions.has(nameOf(input)))
      writeFileSync(join(dir, nameOf(input)), input);
  }
}

/** @returns the line that tells of it, with the command that repeats it */
export function writeFinding(target: string, key: string, message: string, input: Uint8Array): string {
  const dir = findingsDir(target);
  mkdirSync(dir, { recursive: true });
  const path = join(dir, nameOf(input));
  writeFileSync(path, input);
  const what = message.startsWith(key) ? message : `${key}: ${message}`;
  return `${what.slice(0, 300)}; npm run test:fuzz -- --only ${relative(root, path)}`;
}
