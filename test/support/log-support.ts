// What the tests of log and pipeline share: directories, waiting for a condition, and proof of the I/O mode.

import { cpSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { counterSlots, type CounterName } from '../../src/base/limits.ts';
import type { IoMode } from '../../src/base/types.ts';
import { temporaryDirectory } from './modes.ts';

interface Teardown {
  teardown(action: () => unknown): unknown;
}

/** A directory that is removed when the test ends. */
export function directory(t: Teardown): string {
  const dir = temporaryDirectory();
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function copyOf(t: Teardown, dir: string): string {
  const copy = directory(t);
  cpSync(dir, copy, { recursive: true });
  return copy;
}

/** Waits for a condition by asking again and again; never by sleeping for a guessed time. */
export async function until(condition: () => unknown, what: string, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await delay(2);
  }
}

/** The promise, or an error that says what did not come: a hang is a finding, not a timeout of the whole file. */
export async function within<T>(promise: Promise<T>, what: string, timeoutMs = 5_000): Promise<T> {
  const stop = new AbortController();
  const late = delay(timeoutMs, undefined, { signal: stop.signal }).then(
    () => {
      throw new Error(`not within ${timeoutMs} ms: ${what}`);
    },
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}

/** The code that a promise rejects with; 'resolved', or 'late' where it does neither in time. */
export async function codeOf(promise: Promise<unknown>, timeoutMs = 5_000): Promise<string> {
  try {
    await within(promise, 'settled', timeoutMs);
    return 'resolved';
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return code ?? (message.startsWith('not within') ? 'late' : message);
  }
}

/** Why the counters do not show this mode; undefined where they do. */
export function modeNotReached(mode: IoMode, calls: Record<CounterName, number>, batches: number): string | undefined {
  const { commitWrites, commitSyncs, pwritev2, pwritev, pwrite64 } = calls;
  if (commitWrites < batches) return `${commitWrites} commit writes for ${batches} batches`;
  const oneCall = mode === 'direct' || mode === 'buffered';
  if (oneCall && (commitSyncs !== 0 || pwritev2 < batches)) return `${commitSyncs} syncs, ${pwritev2} pwritev2`;
  if (!oneCall && commitSyncs < batches) return `${commitSyncs} syncs for ${batches} batches`;
  if (mode === 'portable' && pwritev + pwrite64 < batches) return `${pwritev} pwritev, ${pwrite64} pwrite64`;
  if (mode === 'js' && (pwrite64 < batches || pwritev2 > 0)) return `${pwrite64} pwrite64, ${pwritev2} pwritev2`;
  return undefined;
}

export function callsOf(counters: Float64Array): Record<CounterName, number> {
  const calls = {} as Record<CounterName, number>;
  for (const name of Object.keys(counterSlots) as CounterName[]) calls[name] = counters[counterSlots[name]];
  return calls;
}
