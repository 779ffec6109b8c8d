// The only home of Atomics.wait, waitAsync and notify. A signal is one Int32 word that only ever counts up (modulo
// 2^32): whoever waits reads the word first, then looks at the state it cares about, then waits for the word to change,
// so a signal between look and wait is never lost.

/** Counts the word up and wakes everybody who waits for it. Publish the data BEFORE calling this. */
export function signal(words: Int32Array, index: number): void {
  Atomics.add(words, index, 1);
  Atomics.notify(words, index);
}

/** Blocks this thread until the word differs from `seen`, at most `timeoutMs`. Never on a thread with an event loop. */
export function waitForSignal(words: Int32Array, index: number, seen: number, timeoutMs: number): void {
  Atomics.wait(words, index, seen, timeoutMs);
}

/** Resolves once the word differs from `seen`, or after `timeoutMs`. Does not keep the process alive. */
export async function signalled(words: Int32Array, index: number, seen: number, timeoutMs?: number): Promise<void> {
  const result = Atomics.waitAsync(words, index, seen, timeoutMs);
  if (result.async) await result.value;
}
