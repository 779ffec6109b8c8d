// Which streams have moved: one i32 per group of streams, in memory that all threads of a log share. Whoever waits for records of a
// stream is woken by these, not by every commit of any stream.
//
//     commit worker:  mark odd ──▶ durable offset ──▶ mark even, one higher, and wake     (idempotent per mark: many streams share one)
//     who waits:      mark ──▶ look ──▶ wait until the mark differs
//
// So a mark that is even, and was the same before a look and after the durable offset was read, says that nothing of its streams has
// come between the two. Limits: STREAM_MARKS groups; a stream that shares one with a busy stream is woken by it too.

import { STREAM_MARKS } from '../base/limits.ts';
import { signal, signalled } from './waiter.ts';

export const STREAM_MARKS_BYTES = STREAM_MARKS * 4;

/** FNV-1a. */
function groupOf(stream: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < stream.length; i++) hash = Math.imul(hash ^ stream.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % STREAM_MARKS;
}

export class StreamMarks {
  readonly #marks: Int32Array;
  /** Commit worker: group of each stream id. */
  readonly #groups: number[] = [];
  /** Commit worker: batches that are written and not yet published, oldest first. */
  readonly #pending: { readonly endOffset: number; readonly groups: readonly number[] }[] = [];

  constructor(buffer: SharedArrayBuffer, byteOffset: number) {
    this.#marks = new Int32Array(buffer, byteOffset, STREAM_MARKS);
  }

  /** Commit worker only: a batch with these streams has been written up to an offset. */
  written(endOffset: number, streamIds: readonly number[], streamNames: readonly string[]): void {
    const groups = streamIds.map((id) => (this.#groups[id] ??= groupOf(streamNames[id])));
    this.#pending.push({ endOffset, groups });
  }

  /** Commit worker only. @param publish makes the durable offset known */
  published(durableOffset: number, publish: () => void): void {
    let batches = 0;
    while (batches < this.#pending.length && this.#pending[batches].endOffset <= durableOffset) batches++;
    const moved = this.#pending.splice(0, batches);
    for (const { groups } of moved) for (const group of groups) Atomics.or(this.#marks, group, 1);
    publish();
    for (const { groups } of moved) {
      for (const group of groups) if ((Atomics.load(this.#marks, group) & 1) === 1) signal(this.#marks, group);
    }
  }

  /** The mark of a stream now. */
  of(stream: string): number {
    return Atomics.load(this.#marks, groupOf(stream));
  }

  /** Resolves once the mark is not `seen` any more, or after `timeoutMs`. Keeps no process alive. */
  async changed(stream: string, seen: number, timeoutMs: number): Promise<void> {
    await signalled(this.#marks, groupOf(stream), seen, timeoutMs);
  }
}
