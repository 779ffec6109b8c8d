// FileIo with nothing but node:fs: mode `js`, and the reading half that the native implementation shares.
// No advisory lock exists here: the lock file's process id decides alone (log/lock.ts).

import fs from 'node:fs';
import { dirname, parse, resolve } from 'node:path';
import { COUNTER_SLOTS, counterSlots, type CounterName } from '../base/limits.ts';
import type { IoMode } from '../base/types.ts';
import { SpillwayError } from '../base/errors.ts';
import { ioError, type ByteOps, type FileIo, type OpenHow } from './file-io.ts';
import { jsBytes } from './js-bytes.ts';

const openFlags: Record<OpenHow, string> = { read: 'r', write: 'r+', create: 'wx+' };

export class JsIo implements FileIo {
  readonly mode: IoMode = 'js';
  readonly bytes: ByteOps = jsBytes;
  readonly counters: Float64Array;
  bytesRead = 0;
  protected readonly paths = new Map<number, string>();
  #failed: SpillwayError | undefined;
  #submitted: (SpillwayError | undefined)[] = [];

  constructor(counters: Float64Array = new Float64Array(COUNTER_SLOTS)) {
    this.counters = counters;
  }

  open(path: string, how: OpenHow, _direct: boolean): number {
    this.count('openat');
    const fd = this.attempt('open', path, () => fs.openSync(path, openFlags[how], 0o640));
    this.paths.set(fd, path);
    return fd;
  }

  close(fd: number): void {
    const path = this.pathOf(fd);
    this.count('close');
    this.paths.delete(fd);
    this.attempt('close', path, () => fs.closeSync(fd));
  }

  allocate(fd: number, bytes: number): void {
    this.count('ftruncate');
    this.attempt('ftruncate', this.pathOf(fd), () => fs.ftruncateSync(fd, bytes));
  }

  write(fd: number, bytes: Uint8Array, position: number): void {
    this.attempt('write', this.pathOf(fd), () => this.#writeAll(fd, bytes, position));
  }

  durableWrite(fd: number, bytes: Uint8Array, position: number): void {
    const calls = this.counters[counterSlots.pwrite64];
    this.write(fd, bytes, position);
    this.counters[counterSlots.commitWrites] += this.counters[counterSlots.pwrite64] - calls;
    this.count('commitSyncs');
    this.sync(fd);
  }

  /** No second thread here: the write is done at once, its error kept for `settle`. */
  submit(fd: number, bytes: Uint8Array, position: number): void {
    if (this.#failed === undefined) {
      try {
        this.durableWrite(fd, bytes, position);
      } catch (error) {
        this.#failed = ioError(error, 'write', this.pathOf(fd));
      }
    }
    this.#submitted.push(this.#failed);
  }

  settle(): void {
    const error = this.#submitted.shift();
    if (error !== undefined) throw error;
  }

  sync(fd: number): void {
    this.count('fdatasync');
    this.attempt('fdatasync', this.pathOf(fd), () => fs.fdatasyncSync(fd));
  }

  syncDir(path: string): void {
    this.attempt('fsync', path, () => {
      this.count('openat');
      const fd = fs.openSync(path, 'r');
      try {
        this.count('fsync');
        fs.fsyncSync(fd);
      } finally {
        this.count('close');
        fs.closeSync(fd);
      }
    });
  }

  rename(from: string, to: string): void {
    this.count('rename');
    this.attempt('rename', from, () => fs.renameSync(from, to));
    this.renamed(from, to);
    this.syncDir(dirname(to));
  }

  unlink(path: string): void {
    this.count('unlink');
    this.attempt('unlink', path, () => fs.unlinkSync(path));
  }

  lock(_fd: number): boolean | undefined {
    return undefined;
  }

  read(fd: number, into: Uint8Array, position: number): number {
    let done = 0;
    this.attempt('read', this.pathOf(fd), () => {
      while (done < into.length) {
        const n = fs.readSync(fd, into, done, into.length - done, position + done);
        if (n === 0) break;
        done += n;
      }
    });
    this.bytesRead += done;
    return done;
  }

  size(fd: number): number {
    return this.attempt('fstat', this.pathOf(fd), () => fs.fstatSync(fd).size);
  }

  list(path: string): string[] | undefined {
    try {
      return fs.readdirSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw ioError(error, 'readdir', path);
    }
  }

  exists(path: string): boolean {
    // A name that leads nowhere is there all the same, and an error is not the answer 'no'.
    return this.attempt('lstat', path, () => fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined);
  }

  makeDir(path: string): void {
    const target = resolve(path);
    const missing: string[] = [];
    let there = target;
    for (; !fs.existsSync(there) && there !== parse(there).root; there = dirname(there)) missing.unshift(there);
    // A process that was killed between making a directory and this sync left it in the cache alone.
    if (this.#mayRead(dirname(there))) this.syncDir(dirname(there));
    for (const dir of missing) {
      this.attempt('mkdir', dir, () => fs.mkdirSync(dir, 0o750));
      this.syncDir(dirname(dir));
    }
  }

  alignedBuffer(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  destroy(): void {
    for (const fd of this.paths.keys()) this.close(fd);
  }

  protected count(name: CounterName): void {
    this.counters[counterSlots[name]]++;
  }

  protected pathOf(fd: number): string {
    const path = this.paths.get(fd);
    if (path === undefined) throw new SpillwayError('IO_ERROR', `descriptor ${fd} is not open`, { errno: 'EBADF' });
    return path;
  }

  /** Descriptors of a renamed file are named by what it is called now. */
  protected renamed(from: string, to: string): void {
    for (const [fd, path] of this.paths) if (path === from) this.paths.set(fd, to);
  }

  protected attempt<T>(call: string, path: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw ioError(error, call, path);
    }
  }

  /** What we may not read, we have not made an entry in. */
  #mayRead(dir: string): boolean {
    try {
      fs.accessSync(dir, fs.constants.R_OK);
      return true;
    } catch {
      return false;
    }
  }

  #writeAll(fd: number, bytes: Uint8Array, position: number): void {
    let done = 0;
    while (done < bytes.length) {
      this.count('pwrite64');
      const n = fs.writeSync(fd, bytes, done, bytes.length - done, position + done);
      if (n === 0) throw Object.assign(new Error('the write made no progress'), { code: 'EIO' });
      this.counters[counterSlots.bytesWritten] += n;
      done += n;
    }
  }
}
