// The files of one log directory in memory, for reading: what a target made up, as recovery, readers and verify see it.
// After MOST_CALLS calls it says that whoever asks does not come to an end.

import { basename } from 'node:path';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import { ioError, type ByteOps, type FileIo, type OpenHow } from '../../src/platform/file-io.ts';
import { jsBytes } from '../../src/platform/js-bytes.ts';
import { native } from '../../src/platform/native.ts';
import { Violation } from './target.ts';

const MOST_CALLS = 5000;

export class MemoryIo implements FileIo {
  readonly mode = 'buffered';
  readonly bytes: ByteOps = native ?? jsBytes;
  readonly counters = new Float64Array(COUNTER_SLOTS);
  bytesRead = 0;
  /** What the one who asks did wrong: an error that is thrown here may be taken for one of the disk. */
  wrong: Violation | undefined;
  #calls = 0;
  readonly #files: ReadonlyMap<string, Uint8Array>;
  readonly #open = new Map<number, Uint8Array>();

  constructor(files: Readonly<Record<string, Uint8Array>>) {
    this.#files = new Map(Object.entries(files));
  }

  /** Descriptors that were not closed. */
  get left(): number {
    return this.#open.size;
  }

  #count(): void {
    if (++this.#calls > MOST_CALLS) this.#fail('reading comes to an end', `${MOST_CALLS} calls`);
  }

  #fail(rule: string, detail?: string): never {
    throw (this.wrong = new Violation(rule, detail));
  }

  open(path: string, how: OpenHow): number {
    this.#count();
    const file = this.#files.get(basename(path));
    if (how !== 'read') this.#refuse();
    if (file === undefined) throw ioError(Object.assign(new Error('no such file'), { code: 'ENOENT' }), 'open', path);
    this.#open.set(this.#calls, file);
    return this.#calls;
  }

  read(fd: number, into: Uint8Array, position: number): number {
    this.#count();
    const file = this.#open.get(fd);
    if (file === undefined) this.#fail('only what is open is read');
    if (position < 0 || !Number.isSafeInteger(position)) this.#fail('positions are positions', `${position}`);
    const part = file.subarray(position, position + into.length);
    into.set(part);
    this.bytesRead += part.length;
    return part.length;
  }

  size(fd: number): number {
    this.#count();
    return this.#open.get(fd)!.length;
  }

  close(fd: number): void {
    if (!this.#open.delete(fd)) this.#fail('only what is open is closed');
  }

  list(): string[] {
    this.#count();
    return [...this.#files.keys()];
  }

  exists(path: string): boolean {
    this.#count();
    return this.#files.has(basename(path));
  }

  /** A reader in another process syncs what it is about to hand out. */
  sync(): void {
    this.#count();
  }

  #refuse(): never {
    this.#fail('who reads changes nothing');
  }

  allocate(): void {
    this.#refuse();
  }
  write(): void {
    this.#refuse();
  }
  durableWrite(): void {
    this.#refuse();
  }
  submit(): void {
    this.#refuse();
  }
  settle(): void {
    this.#refuse();
  }
  syncDir(): void {
    this.#refuse();
  }
  rename(): void {
    this.#refuse();
  }
  unlink(): void {
    this.#refuse();
  }
  makeDir(): void {
    this.#refuse();
  }
  lock(): undefined {
    return undefined;
  }
  alignedBuffer(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }
  destroy(): void {
    this.#open.clear();
  }
}
