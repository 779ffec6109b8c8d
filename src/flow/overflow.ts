// Appends that wait for room in a full lane, and who of them has to go when too many wait.
//
//     first ─▶ ┌──────────────┬───────┬───────┬───────┐ ◀─ push
//              │ put > 0      │       │       │       │    each with bytes and its own policy
//              └──────────────┴───────┴───────┴───────┘
//               part of it is in the lane already: it is never evicted or removed, only shifted
//
// Promises:
//   - in the order of arrival; at most `maxBytes` together, except that one larger append may wait where it is alone: else it
//     could never be appended;
//   - only an append whose own policy is drop-oldest is evicted: one that was told to block keeps its place, whatever streams
//     beside it want;
//   - nobody is evicted in vain: where all evictions together would not make the room, the newcomer is refused instead.
// Each step takes constant time.

import type { OverflowPolicy } from '../base/gateway-options.ts';
import { Chain, type Link } from './chain.ts';

export interface WaitingAppend {
  /** What it counts for the bound; the same for as long as it waits. */
  readonly bytes: number;
  readonly records: number;
  /** Records of it that are in the lane already; above 0 for the first one at most. */
  readonly put: number;
  /** Without a policy it blocks. */
  readonly admission: { readonly overflow?: OverflowPolicy };
}

interface Places<T> {
  readonly inOrder: Link<T>;
  readonly droppable: Link<T> | undefined;
}

export class WaitingQueue<T extends WaitingAppend> {
  readonly #maxBytes: number;
  readonly #inOrder = new Chain<T>();
  /** Those of policy drop-oldest once more. */
  readonly #droppable = new Chain<T>();
  readonly #places = new Map<T, Places<T>>();
  #bytes = 0;
  #records = 0;
  #droppableBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#inOrder.length;
  }

  /** Sum of those that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Records of them that are not in the lane yet. */
  get records(): number {
    return this.#records - (this.first?.put ?? 0);
  }

  /** Who is next. */
  get first(): T | undefined {
    return this.#inOrder.first?.value;
  }

  /**
   * What becomes of an append that finds the lane full, none of it put yet:
   * `wait`: push it; `refuse` it; `evict`: evictOldest, then ask again.
   */
  decide(policy: OverflowPolicy, bytes: number): 'wait' | 'refuse' | 'evict' {
    if (policy === 'drop-newest') return 'refuse';
    if (this.#hasRoom(this.length, this.#bytes, bytes)) return 'wait';
    if (policy === 'block') return 'refuse';
    const pinned = this.#pinned;
    const evictable = this.#droppable.length - (pinned === undefined ? 0 : 1);
    const evictableBytes = this.#droppableBytes - (pinned?.bytes ?? 0);
    const enough = this.#hasRoom(this.length - evictable, this.#bytes - evictableBytes, bytes);
    return enough && evictable > 0 ? 'evict' : 'refuse';
  }

  /** Adds one that `decide` let wait, or whose first part went into the lane while nobody waited. */
  push(append: T): void {
    if (!this.#hasRoom(this.length, this.#bytes, append.bytes)) throw new Error('an append waits without room for it');
    const droppable = append.admission.overflow === 'drop-oldest' ? this.#droppable.push(append) : undefined;
    this.#places.set(append, { inOrder: this.#inOrder.push(append), droppable });
    this.#bytes += append.bytes;
    this.#records += append.records;
    if (droppable !== undefined) this.#droppableBytes += append.bytes;
  }

  /** Takes the first one out: all of it is in the lane, or it failed. */
  shift(): T | undefined {
    const first = this.first;
    if (first !== undefined) this.#leave(first);
    return first;
  }

  /** Takes out the oldest that may be evicted: after `decide` said so there is one. */
  evictOldest(): T {
    const oldest = this.#pinned === undefined ? this.#droppable.first : this.#droppable.first?.after;
    if (oldest === undefined) throw new Error('there is nothing to evict');
    this.#leave(oldest.value);
    return oldest.value;
  }

  /** Takes one out that has waited too long. False where it has left before, or part of it is in the lane already. */
  remove(append: T): boolean {
    return append.put === 0 && this.#leave(append);
  }

  /** Takes all out, first to last: nothing more goes into the lane. */
  takeAll(): T[] {
    const all: T[] = [];
    for (let append = this.shift(); append !== undefined; append = this.shift()) all.push(append);
    return all;
  }

  /** The first one, where it could be evicted by its policy but is in the lane in part. */
  get #pinned(): T | undefined {
    const first = this.#droppable.first?.value;
    return first !== undefined && first.put > 0 ? first : undefined;
  }

  #hasRoom(length: number, bytes: number, more: number): boolean {
    return length === 0 || bytes + more <= this.#maxBytes;
  }

  #leave(append: T): boolean {
    const places = this.#places.get(append);
    if (places === undefined) return false;
    this.#places.delete(append);
    this.#inOrder.remove(places.inOrder);
    this.#bytes -= append.bytes;
    this.#records -= append.records;
    if (places.droppable !== undefined) {
      this.#droppable.remove(places.droppable);
      this.#droppableBytes -= append.bytes;
    }
    return true;
  }
}
