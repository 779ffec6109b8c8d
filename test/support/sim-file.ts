// One file of the disk in sim-disk.ts: what the cache holds of it, what is on stable storage, and which versions of each page a
// power cut may choose between. Every choice is the caller's.

import { BLOCK_BYTES } from '../../src/base/limits.ts';

export class SimFile {
  /** In the cache. */
  bytes = new Uint8Array(0);
  /** On stable storage. */
  stable = new Uint8Array(0);
  /** Page number → its versions since it was last on stable storage, oldest first. */
  readonly unsynced = new Map<number, Uint8Array[]>();
  /** Pages whose write-back failed: clean for the kernel, and not on stable storage. */
  readonly lost = new Set<number>();
  syncFailed = false;

  resize(bytes: number): void {
    const grown = new Uint8Array(bytes);
    grown.set(this.bytes.subarray(0, bytes));
    this.bytes = grown;
  }

  write(bytes: Uint8Array, position: number): void {
    if (position + bytes.length > this.bytes.length) this.resize(position + bytes.length);
    this.bytes.set(bytes, position);
    for (let page = Math.floor(position / BLOCK_BYTES); page * BLOCK_BYTES < position + bytes.length; page++) {
      const versions = this.unsynced.get(page) ?? [];
      versions.push(this.bytes.slice(page * BLOCK_BYTES, (page + 1) * BLOCK_BYTES));
      this.unsynced.set(page, versions);
      // Dirty again: the next sync writes it back.
      this.lost.delete(page);
    }
  }

  /** Pages [from, to) and the size are on stable storage, but what an earlier failed sync lost. */
  sync(from: number, to: number): void {
    if (this.stable.length !== this.bytes.length) {
      const grown = new Uint8Array(this.bytes.length);
      grown.set(this.stable.subarray(0, grown.length));
      this.stable = grown;
    }
    for (const page of this.unsynced.keys()) {
      if (page < from || page >= to || this.lost.has(page)) continue;
      const at = page * BLOCK_BYTES;
      this.stable.set(this.bytes.subarray(at, at + BLOCK_BYTES), at);
      this.unsynced.delete(page);
    }
  }

  /** What a failed sync left is dropped from the cache. */
  evict(): void {
    for (const page of this.lost) {
      const at = page * BLOCK_BYTES;
      const clean = new Uint8Array(Math.min(BLOCK_BYTES, this.bytes.length - at));
      clean.set(this.stable.subarray(at, at + clean.length));
      this.bytes.set(clean, at);
      this.unsynced.delete(page);
    }
    this.lost.clear();
  }

  copy(): SimFile {
    const copy = new SimFile();
    copy.bytes = this.bytes.slice();
    copy.stable = this.stable.slice();
    for (const [page, versions] of this.unsynced) copy.unsynced.set(page, versions.slice());
    for (const page of this.lost) copy.lost.add(page);
    copy.syncFailed = this.syncFailed;
    return copy;
  }
}

/** Path → file; null for a directory. */
export type Entries = Map<string, SimFile | null>;

/** Stable storage while a power cut is worked out. */
export interface Image {
  readonly entries: Entries;
  readonly files: Map<SimFile, Uint8Array>;
}

/** One thing that a power cut decides: choice 0 is what was on stable storage. */
export interface Decision {
  readonly choices: number;
  apply(image: Image, choice: number): void;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** What a power cut decides of a file: its size, and each unsynced page or sector, in any of the versions that it had. */
export function decisionsOf(file: SimFile, tearBytes: number): Decision[] {
  const decisions: Decision[] = [];
  if (file.stable.length !== file.bytes.length) {
    decisions.push({
      choices: 2,
      apply: (image, choice) => {
        if (choice === 0) return;
        const grown = new Uint8Array(file.bytes.length);
        grown.set(image.files.get(file)!.subarray(0, grown.length));
        image.files.set(file, grown);
      },
    });
  }
  for (const [page, versions] of file.unsynced) {
    for (let at = 0; at < BLOCK_BYTES; at += tearBytes) {
      const from = page * BLOCK_BYTES + at;
      const before = new Uint8Array(tearBytes);
      before.set(file.stable.subarray(from, from + tearBytes));
      const others: Uint8Array[] = [];
      for (const version of versions) {
        const part = version.subarray(at, at + tearBytes);
        if (part.length === 0) continue;
        const whole = part.length === tearBytes ? part : Buffer.concat([part, new Uint8Array(tearBytes - part.length)]);
        if (!same(whole, before) && !others.some((o) => same(o, whole))) others.push(whole);
      }
      if (others.length === 0) continue;
      decisions.push({
        choices: others.length + 1,
        apply: (image, choice) => {
          const bytes = image.files.get(file)!;
          // Beyond a size that was lost there is nothing.
          if (choice > 0 && from < bytes.length) bytes.set(others[choice - 1].subarray(0, bytes.length - from), from);
        },
      });
    }
  }
  return decisions;
}
