// FileIo through the addon: the calls that decide durability are its own, counted where they are made. Reading and
// listing stay with node:fs.

import type { IoMode } from '../base/types.ts';
import { COUNTER_SLOTS, BLOCK_BYTES } from '../base/limits.ts';
import type { ByteOps, OpenHow } from './file-io.ts';
import { JsIo } from './js-io.ts';
import type { NativeAddon, NativeIo } from './native.ts';

const modeNumber = { direct: 0, buffered: 1, portable: 2 } as const;

export class NativeFileIo extends JsIo {
  override readonly mode: IoMode;
  override readonly bytes: ByteOps;
  readonly #addon: NativeAddon;
  readonly #io: NativeIo;
  readonly #mode: 0 | 1 | 2;
  /** Files of the writes under way, for the message of an error. */
  readonly #submittedTo: string[] = [];

  constructor(
    addon: NativeAddon,
    mode: 'direct' | 'buffered' | 'portable',
    counters: Float64Array = new Float64Array(COUNTER_SLOTS),
  ) {
    super(counters);
    this.mode = mode;
    this.bytes = addon;
    this.#addon = addon;
    this.#mode = modeNumber[mode];
    this.#io = new addon.Io(counters);
  }

  override open(path: string, how: OpenHow, direct: boolean): number {
    const fd = this.attempt('open', path, () => this.#io.open(path, how, direct && this.mode === 'direct'));
    this.paths.set(fd, path);
    return fd;
  }

  override close(fd: number): void {
    const path = this.pathOf(fd);
    this.paths.delete(fd);
    this.attempt('close', path, () => this.#io.close(fd));
  }

  override allocate(fd: number, bytes: number): void {
    this.attempt('fallocate', this.pathOf(fd), () => this.#io.allocate(fd, bytes));
  }

  override write(fd: number, bytes: Uint8Array, position: number): void {
    this.attempt('write', this.pathOf(fd), () => this.#io.write(fd, bytes, position));
  }

  override durableWrite(fd: number, bytes: Uint8Array, position: number): void {
    this.attempt('durable write', this.pathOf(fd), () => this.#io.durableWrite(this.#mode, fd, bytes, position));
  }

  override submit(fd: number, bytes: Uint8Array, position: number): void {
    const path = this.pathOf(fd);
    const taken = this.attempt('durable write', path, () => this.#io.submit(this.#mode, fd, bytes, position));
    if (!taken) throw new Error('three writes are already under way');
    this.#submittedTo.push(path);
  }

  override settle(): void {
    this.attempt('durable write', this.#submittedTo.shift() ?? 'nothing', () => this.#io.settle());
  }

  override sync(fd: number): void {
    this.attempt('fdatasync', this.pathOf(fd), () => this.#io.sync(fd));
  }

  override syncDir(path: string): void {
    this.attempt('fsync', path, () => this.#io.syncDir(path));
  }

  override rename(from: string, to: string): void {
    this.attempt('rename', from, () => this.#io.rename(from, to));
    this.renamed(from, to);
  }

  override unlink(path: string): void {
    this.attempt('unlink', path, () => this.#io.unlink(path));
  }

  override lock(fd: number): boolean {
    try {
      this.#io.lock(fd);
      return true;
    } catch (error) {
      if (['EWOULDBLOCK', 'EAGAIN'].includes((error as { code?: string }).code ?? '')) return false;
      return this.attempt('flock', this.pathOf(fd), () => {
        throw error;
      });
    }
  }

  override alignedBuffer(bytes: number): Uint8Array {
    const whole = new Uint8Array(bytes + BLOCK_BYTES);
    const gap = this.#addon.alignmentGap(whole, BLOCK_BYTES);
    return whole.subarray(gap, gap + bytes);
  }

  override destroy(): void {
    this.paths.clear();
    this.#io.destroy();
  }
}
