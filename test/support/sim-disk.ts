// A disk in memory that keeps apart what the kernel holds in its caches and what is on stable storage. Promises:
//  - what programs see (read, list, size) is the cache; `write`, `open`, `rename` and `unlink` change only that;
//  - `sync` moves a file's pages and size to stable storage, `syncDir` a directory's entries; `durableWrite` with one call
//    (modes direct and buffered) only the pages that it wrote, as RWF_DSYNC does;
//  - after a sync that failed, the pages count as clean though they are not: a second sync reports success and saves
//    nothing (PostgreSQL's "fsyncgate", 2018). `syncsAfterFailure` counts who tries. Clean pages may be evicted at any moment, and
//    are read from stable storage then: `evict` does it;
//  - a power cut (`crash`) keeps or loses each unsynced page by itself, in any of the versions that it had since the last
//    sync, whole or torn into sectors of 512 bytes; keeps or loses each unsynced directory entry and each new size;
//  - a kill (`afterKill`) keeps all of the cache;
//  - every call is numbered, and `decide` may let it fail or cut the power in its midst: with its effect in the cache, not
//    on stable storage.
// Nothing is random here: a power cut is a list of decisions that the caller takes. The pages of one file: sim-file.ts.

import { dirname } from 'node:path';
import { BLOCK_BYTES, COUNTER_SLOTS } from '../../src/base/limits.ts';
import type { IoMode } from '../../src/base/types.ts';
import { ioError, type ByteOps, type FileIo, type OpenHow } from '../../src/platform/file-io.ts';
import { jsBytes } from '../../src/platform/js-bytes.ts';
import { native } from '../../src/platform/native.ts';
import { decisionsOf, SimFile, type Decision, type Entries, type Image } from './sim-file.ts';

export type SimCall =
  | 'open'
  | 'create'
  | 'close'
  | 'allocate'
  | 'write'
  | 'sync'
  | 'syncDir'
  | 'rename'
  | 'unlink'
  | 'read'
  | 'size'
  | 'list'
  | 'exists'
  | 'mkdir';

/** What happens to a call: it works; the power goes in its midst; or it fails, a write after `wrote` of its bytes. */
export type Outcome = 'works' | 'cut' | { readonly errno: string; readonly wrote?: number };
export type Decide = (index: number, call: SimCall, path: string) => Outcome;

export class PowerCut extends Error {
  constructor() {
    super('the power was cut');
  }
}

interface DirectoryChange {
  readonly dir: string;
  readonly removes: string | undefined;
  readonly sets: readonly [path: string, file: SimFile | null] | undefined;
}

export interface SimDiskOptions {
  readonly mode?: IoMode;
  /** Whether a submitted write is done at once or only when it is settled: the writer thread may be that fast or slow. */
  readonly eager?: boolean;
}

export class SimDisk implements FileIo {
  readonly mode: IoMode;
  readonly bytes: ByteOps = native ?? jsBytes;
  readonly counters = new Float64Array(COUNTER_SLOTS);
  readonly #eager: boolean;
  bytesRead = 0;
  calls = 0;
  /** Syncs tried on a file of which one had failed before. */
  syncsAfterFailure = 0;
  decide: Decide = () => 'works';
  /** From a cut on every call fails and changes nothing, whatever the program does with the error. */
  powerIsOff = false;
  #entries: Entries = new Map([['/', null]]);
  #stableEntries: Entries = new Map([['/', null]]);
  #changes: DirectoryChange[] = [];
  /** Names that lead nowhere: listed, and not to be opened. */
  readonly #leadNowhere = new Set<string>();
  #open = new Map<number, { path: string; file: SimFile }>();
  #nextFd = 3;
  #submitted: { fd: number; bytes: Uint8Array; position: number; error?: unknown; done: boolean }[] = [];
  #writerFailed: unknown;

  constructor({ mode = 'direct', eager = true }: SimDiskOptions = {}) {
    this.mode = mode;
    this.#eager = eager;
  }

  open(path: string, how: OpenHow, _direct: boolean): number {
    return this.#call(how === 'create' ? 'create' : 'open', path, () => {
      let file = this.#entries.get(path);
      if (how === 'create') {
        if (file !== undefined) throw this.#error('EEXIST', 'open', path);
        file = new SimFile();
        this.#change({ dir: dirname(path), removes: undefined, sets: [path, file] });
      }
      if (file === undefined || file === null || this.#leadNowhere.has(path)) throw this.#error('ENOENT', 'open', path);
      this.#open.set(this.#nextFd, { path, file });
      return this.#nextFd++;
    });
  }

  close(fd: number): void {
    const { path } = this.#opened(fd);
    // The descriptor is gone even where close reports an error.
    this.#open.delete(fd);
    this.#call('close', path, () => undefined);
  }

  allocate(fd: number, bytes: number): void {
    const { path, file } = this.#opened(fd);
    this.#call('allocate', path, () => {
      if (bytes > file.bytes.length) file.resize(bytes);
    });
  }

  write(fd: number, bytes: Uint8Array, position: number): void {
    const { path, file } = this.#opened(fd);
    this.#call('write', path, (wrote) => file.write(bytes.subarray(0, wrote ?? bytes.length), position), bytes.length);
  }

  durableWrite(fd: number, bytes: Uint8Array, position: number): void {
    this.write(fd, bytes, position);
    const oneCall = this.mode === 'direct' || this.mode === 'buffered';
    const from = oneCall ? Math.floor(position / BLOCK_BYTES) : 0;
    const to = oneCall ? Math.ceil((position + bytes.length) / BLOCK_BYTES) : Infinity;
    this.#sync(fd, from, to);
  }

  submit(fd: number, bytes: Uint8Array, position: number): void {
    if (this.#submitted.length === 3) throw new Error('three writes are already under way');
    this.#submitted.push({ fd, bytes, position, done: false });
    if (this.#eager) this.#perform(this.#submitted.length - 1);
  }

  settle(): void {
    if (this.#submitted.length === 0) throw new Error('nothing is outstanding');
    this.#perform(0);
    const { error } = this.#submitted.shift()!;
    if (error !== undefined) throw error;
  }

  #perform(index: number): void {
    const job = this.#submitted[index];
    if (job.done) return;
    job.done = true;
    job.error = this.#writerFailed;
    if (job.error !== undefined) return;
    try {
      this.durableWrite(job.fd, job.bytes, job.position);
    } catch (error) {
      if (error instanceof PowerCut) throw error;
      this.#writerFailed = error;
      job.error = error;
    }
  }

  sync(fd: number): void {
    this.#sync(fd, 0, Infinity);
  }

  #sync(fd: number, from: number, to: number): void {
    const { path, file } = this.#opened(fd);
    if (file.syncFailed) this.syncsAfterFailure++;
    try {
      this.#call('sync', path, () => file.sync(from, to), 0, true);
    } catch (error) {
      if (!(error instanceof PowerCut)) {
        file.syncFailed = true;
        for (const page of file.unsynced.keys()) file.lost.add(page);
      }
      throw error;
    }
  }

  syncDir(path: string): void {
    this.#call('syncDir', path, () => this.#settleDirectory(path), 0, true);
  }

  rename(from: string, to: string): void {
    this.#call('rename', to, () => {
      const file = this.#entries.get(from);
      if (file === undefined) throw this.#error('ENOENT', 'rename', from);
      this.#change({ dir: dirname(to), removes: from, sets: [to, file] });
      for (const [fd, open] of this.#open) if (open.path === from) this.#open.set(fd, { ...open, path: to });
    });
    this.syncDir(dirname(to));
  }

  unlink(path: string): void {
    this.#call('unlink', path, () => {
      if (!this.#entries.has(path)) throw this.#error('ENOENT', 'unlink', path);
      this.#change({ dir: dirname(path), removes: path, sets: undefined });
    });
  }

  lock(_fd: number): boolean {
    return true;
  }

  read(fd: number, into: Uint8Array, position: number): number {
    const { path, file } = this.#opened(fd);
    return this.#call('read', path, () => {
      const part = file.bytes.subarray(position, position + into.length);
      into.set(part);
      this.bytesRead += part.length;
      return part.length;
    });
  }

  size(fd: number): number {
    const { path, file } = this.#opened(fd);
    return this.#call('size', path, () => file.bytes.length);
  }

  list(path: string): string[] | undefined {
    return this.#call('list', path, () => {
      if (this.#entries.get(path) !== null) return undefined;
      const prefix = path === '/' ? '/' : `${path}/`;
      return [...this.#entries.keys()]
        .filter((p) => p !== '/' && dirname(p) === path)
        .map((p) => p.slice(prefix.length));
    });
  }

  exists(path: string): boolean {
    return this.#call('exists', path, () => this.#entries.has(path));
  }

  makeDir(path: string): void {
    if (this.#entries.has(path)) return path === '/' ? undefined : this.syncDir(dirname(path));
    this.makeDir(dirname(path));
    this.#call('mkdir', path, () => this.#change({ dir: dirname(path), removes: undefined, sets: [path, null] }));
    this.syncDir(dirname(path));
  }

  alignedBuffer(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  destroy(): void {
    this.#open.clear();
  }

  /** Whether a sync has failed whose pages are still in the cache. */
  get mayEvict(): boolean {
    return [...this.#allFiles()].some((file) => file.lost.size > 0);
  }

  evict(): void {
    for (const file of this.#allFiles()) file.evict();
  }

  /** Changes bytes of a file in cache and on stable storage alike: damage, for which nobody is to blame. */
  damage(path: string, change: (bytes: Uint8Array) => Uint8Array): void {
    const file = this.#entries.get(path);
    if (!(file instanceof SimFile)) throw this.#error('ENOENT', 'damage', path);
    file.bytes = change(file.bytes.slice()) as Uint8Array<ArrayBuffer>;
    file.stable = file.bytes.slice();
  }

  /** As where a file was moved to another disk, a link was left in its place, and that disk is not mounted. */
  leadNowhere(path: string): void {
    if (!this.#entries.has(path)) throw this.#error('ENOENT', 'leadNowhere', path);
    this.#leadNowhere.add(path);
  }

  /** Whether there is such a file, and its name leads to it. */
  hasFile(path: string): boolean {
    return this.#entries.get(path) instanceof SimFile && !this.#leadNowhere.has(path);
  }

  fileBytes(path: string): Uint8Array {
    const file = this.#entries.get(path);
    if (!(file instanceof SimFile)) throw this.#error('ENOENT', 'fileBytes', path);
    return file.bytes;
  }

  get paths(): string[] {
    return [...this.#entries].filter(([, file]) => file !== null).map(([path]) => path);
  }

  /** What the next process finds after this one was killed: the caches stay, descriptors and queued writes do not. */
  afterKill(): SimDisk {
    const copies = new Map<SimFile, SimFile>();
    const copyOf = (file: SimFile | null): SimFile | null => {
      if (file === null) return null;
      const copy = copies.get(file) ?? file.copy();
      copies.set(file, copy);
      return copy;
    };
    const copyAll = (entries: Entries): Entries => new Map([...entries].map(([path, file]) => [path, copyOf(file)]));
    const changes = this.#changes.map((c): DirectoryChange => ({
      ...c,
      sets: c.sets && [c.sets[0], copyOf(c.sets[1])],
    }));
    return this.#successor(copyAll(this.#entries), copyAll(this.#stableEntries), changes);
  }

  /**
   * Everything that a power cut now would decide: how many choices each decision has. Pages whose versions do not differ
   * from stable storage are no decision.
   * @param tearBytes 512 or 4096: what is written whole or not at all
   */
  decisions(tearBytes: number): readonly number[] {
    return this.#decisions(tearBytes).map((d) => d.choices);
  }

  /** The disk after a power cut. @param choices one number per decision, 0 for what was on stable storage */
  crash(tearBytes: number, choices: readonly number[]): SimDisk {
    const image: Image = { entries: new Map(this.#stableEntries), files: new Map() };
    for (const file of this.#allFiles()) image.files.set(file, file.stable.slice());
    this.#decisions(tearBytes).forEach((d, i) => d.apply(image, choices[i] ?? 0));
    const entries: Entries = new Map();
    const copies = new Map<SimFile, SimFile>();
    for (const [path, file] of image.entries) {
      if (file === null) entries.set(path, null);
      else {
        let copy = copies.get(file);
        if (copy === undefined) {
          copy = new SimFile();
          copy.bytes = image.files.get(file)! as Uint8Array<ArrayBuffer>;
          copy.stable = copy.bytes.slice();
          copies.set(file, copy);
        }
        entries.set(path, copy);
      }
    }
    return this.#successor(entries, new Map(entries), []);
  }

  /** The cache's content and what is not yet on stable storage, for telling states apart. */
  describe(add: (bytes: Uint8Array | string) => void): void {
    for (const path of [...this.#entries.keys()].sort()) {
      add(path);
      const file = this.#entries.get(path);
      if (file instanceof SimFile) add(file.bytes);
    }
  }

  #successor(entries: Entries, stableEntries: Entries, changes: readonly DirectoryChange[]): SimDisk {
    const next = new SimDisk({ mode: this.mode, eager: this.#eager });
    next.#entries = entries;
    next.#stableEntries = stableEntries;
    next.#changes = [...changes];
    next.#nextFd = this.#nextFd;
    for (const path of this.#leadNowhere) next.#leadNowhere.add(path);
    return next;
  }

  #allFiles(): Set<SimFile> {
    const files = new Set<SimFile>();
    for (const entries of [this.#entries, this.#stableEntries])
      for (const file of entries.values()) if (file !== null) files.add(file);
    for (const change of this.#changes) if (change.sets?.[1] instanceof SimFile) files.add(change.sets[1]);
    return files;
  }

  #decisions(tearBytes: number): Decision[] {
    const decisions: Decision[] = [];
    for (const file of this.#allFiles()) decisions.push(...decisionsOf(file, tearBytes));
    for (const change of this.#changes) {
      decisions.push({ choices: 2, apply: (image, choice) => choice === 1 && this.#apply(image.entries, change) });
    }
    return decisions;
  }

  #change(change: DirectoryChange): void {
    this.#changes.push(change);
    this.#apply(this.#entries, change);
  }

  #apply(entries: Entries, change: DirectoryChange): void {
    if (change.removes !== undefined) entries.delete(change.removes);
    if (change.sets !== undefined && entries === this.#entries) this.#leadNowhere.delete(change.sets[0]);
    if (change.sets !== undefined) entries.set(...change.sets);
  }

  #settleDirectory(dir: string): void {
    for (const change of this.#changes) if (change.dir === dir) this.#apply(this.#stableEntries, change);
    this.#changes = this.#changes.filter((c) => c.dir !== dir);
  }

  #opened(fd: number): { path: string; file: SimFile } {
    const open = this.#open.get(fd);
    if (open === undefined) throw this.#error('EBADF', 'use', `descriptor ${fd}`);
    return open;
  }

  #error(errno: string, call: string, path: string): Error {
    return ioError(Object.assign(new Error(errno), { code: errno }), call, path);
  }

  /**
   * One call: numbered, decided, done.
   * @param length bytes of a write: on failure a part of them may get through
   * @param isSync a power cut in its midst leaves it undone; any other call has then changed the cache
   */
  #call<T>(call: SimCall, path: string, action: (wrote?: number) => T, length = 0, isSync = false): T {
    if (this.powerIsOff) throw new PowerCut();
    const outcome = this.decide(this.calls++, call, path);
    if (outcome === 'works') return action();
    if (outcome === 'cut') {
      this.powerIsOff = true;
      if (!isSync) action();
      throw new PowerCut();
    }
    const wrote = Math.floor((outcome.wrote ?? 0) * length);
    if (wrote > 0) action(wrote);
    throw this.#error(outcome.errno, call, path);
  }
}
