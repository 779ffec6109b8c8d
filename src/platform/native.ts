// Loads the addon once per thread, or says why not. The only place that knows its shape (native/addon.cc, addon_io.cc).

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { existsSync } from 'node:fs';
import { reasonOf } from '../base/errors.ts';
import { NATIVE_INTERFACE } from '../base/limits.ts';

export interface NativeIo {
  open(path: string, how: 'read' | 'write' | 'create', direct: boolean): number;
  close(fd: number): void;
  allocate(fd: number, bytes: number): void;
  write(fd: number, bytes: Uint8Array, position: number): void;
  durableWrite(mode: number, fd: number, bytes: Uint8Array, position: number): void;
  submit(mode: number, fd: number, bytes: Uint8Array, position: number): boolean;
  settle(): void;
  outstanding(): number;
  sync(fd: number): void;
  syncDir(path: string): void;
  rename(from: string, to: string): void;
  unlink(path: string): void;
  lock(fd: number): void;
  destroy(): void;
}

export interface NativeAddon {
  /** NATIVE_INTERFACE of the sources that it was built from. */
  readonly interface: number;
  readonly crc32c: (bytes: Uint8Array, crc?: number) => number;
  crc32cPortable(bytes: Uint8Array, crc?: number): number;
  readonly crc32cHardware: boolean;
  alignmentGap(bytes: Uint8Array, alignment: number): number;
  /** A view over an ordinary ArrayBuffer at the same address; keeps the shared memory alive. May throw. */
  plainView(bytes: Uint8Array): Uint8Array;
  seal(
    staging: Uint8Array,
    prefixBytes: number,
    sources: readonly Uint8Array[],
    ranges: Float64Array,
    rangeCount: number,
  ): number;
  readonly encodeFrames: (
    out: Uint8Array,
    body: Uint8Array,
    ranges: Uint32Array,
    records: number,
    keyBytes: number,
  ) => number;
  /**
   * Writes from and to of each line of `body` into `ranges`. @param place position to begin at, and pairs that are there already; holds
   * both afterwards. Stops at the end, where `ranges` is full, or before a line longer than `maxBytes`: native/frames.h.
   */
  readonly findLines: (body: Uint8Array, place: Uint32Array, ranges: Uint32Array, maxBytes: number) => void;
  /** Gives the memory of a view back now; it is empty after. Nothing happens where it is not all of an ordinary buffer. */
  readonly release: (bytes: Uint8Array | Uint32Array) => void;
  /** Of a socket that may listen: what it accepts from then on inherits it. Throws as the system call fails. */
  limitReceiveBuffer(fd: number, bytes: number): void;
  /** Likewise: bytes that a TCP connection takes from its writer before it can send them. */
  limitUnsent(fd: number, bytes: number): void;
  /** Bytes written to a connection that its peer has not acknowledged. */
  unsentBytes(fd: number): number;
  /** Another descriptor of the same socket, for the caller to close. */
  duplicate(fd: number): number;
  readonly Io: new (counters: Float64Array) => NativeIo;
}

/** Root of the package, wherever this file was compiled to: the folder that holds package.json. */
function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, 'package.json'))) dir = dirname(dir);
  return dir;
}

/** @throws Error for one that was built from other sources than these */
export function checkInterface(addon: { readonly interface?: number }): void {
  if (addon.interface === NATIVE_INTERFACE) return;
  throw new Error('the native addon was built from other sources: remove the folder build, then npm ci');
}

function load(): { addon: NativeAddon } | { reason: string } {
  try {
    const require = createRequire(import.meta.url);
    const find = require('node-gyp-build') as (dir: string) => NativeAddon;
    const addon = find(packageRoot());
    checkInterface(addon);
    return { addon };
  } catch (error) {
    return { reason: reasonOf(error).split('\n')[0] };
  }
}

const loaded = load();

export const native: NativeAddon | undefined = 'addon' in loaded ? loaded.addon : undefined;
/** Why there is no addon; undefined when there is one. */
export const nativeMissing: string | undefined = 'reason' in loaded ? loaded.reason : undefined;

/**
 * The same bytes as an ordinary view where that is possible, else the view itself. Copying into it is several times
 * faster where source and target are not aligned alike (native/addon.cc, PlainView). For payload bytes only: words that
 * threads order themselves by stay with Atomics on the shared view.
 */
export function plainView(shared: Uint8Array): Uint8Array {
  try {
    return native?.plainView(shared) ?? shared;
  } catch {
    return shared; // a runtime that has no external buffers
  }
}
