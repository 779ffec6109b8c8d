// Everything that the log asks of a disk, as one interface: production is native or pure JS, tests bring a disk that
// loses unsynced pages. All calls block; they are made from a thread of their own (or, for reading, in small pieces).
//
// Contract of every implementation:
//  - a failure throws SpillwayError IO_ERROR with `details.errno`, naming call and file; nothing is retried but EINTR
//    of a plain write or read, and a failed sync never;
//  - `durableWrite` and `settle` return only when the bytes are on stable storage;
//  - writes queued by `submit` reach the file in order, at most three outstanding, and after one fails the rest never do.

import { SpillwayError, errnoOf, reasonOf } from '../base/errors.ts';
import type { IoMode } from '../base/types.ts';

export type OpenHow = 'read' | 'write' | 'create';

/** Work on bytes that native code does faster. */
export interface ByteOps {
  /** CRC-32C (Castagnoli); `crc` continues an earlier result. */
  readonly crc32c: (bytes: Uint8Array, crc?: number) => number;
  /**
   * Completes a batch in `staging`: behind the `prefixBytes` already there, gathers `ranges` (triples of source, from,
   * to), stores the CRC-32C of all but its own four bytes at BATCH_CRC_AT, and pads with zeros to a block.
   * @returns length with padding
   */
  seal(
    staging: Uint8Array,
    prefixBytes: number,
    sources: readonly Uint8Array[],
    ranges: Float64Array,
    rangeCount: number,
  ): number;
}

export interface FileIo {
  readonly mode: IoMode;
  readonly bytes: ByteOps;
  /** Calls made, by counterSlots of base/limits.ts. */
  readonly counters: Float64Array;
  /** Bytes read so far through `read`. */
  readonly bytesRead: number;

  /** @param direct past the page cache where the mode is `direct`; ignored otherwise */
  open(path: string, how: OpenHow, direct: boolean): number;
  close(fd: number): void;
  /** Reserves blocks and sets the size. */
  allocate(fd: number, bytes: number): void;
  /** Not durable before `sync`. */
  write(fd: number, bytes: Uint8Array, position: number): void;
  durableWrite(fd: number, bytes: Uint8Array, position: number): void;
  submit(fd: number, bytes: Uint8Array, position: number): void;
  /** Waits for the oldest submitted write. @throws its error */
  settle(): void;
  sync(fd: number): void;
  syncDir(path: string): void;
  /** Renames, then syncs the directory of `to`. */
  rename(from: string, to: string): void;
  /** Not durable before `syncDir`. */
  unlink(path: string): void;
  /** Takes the advisory lock, or returns false where another holder has it; undefined where there is no such lock here. */
  lock(fd: number): boolean | undefined;
  /** Bytes read, fewer than asked for only at the end of the file. */
  read(fd: number, into: Uint8Array, position: number): number;
  size(fd: number): number;
  /** Names in a directory; undefined where the path does not exist. */
  list(path: string): string[] | undefined;
  /** Whether there is such a name, wherever it leads. */
  exists(path: string): boolean;
  /** Makes a directory and its missing ancestors; each entry, and that of the deepest which was there, is durable on return. */
  makeDir(path: string): void;
  /** A buffer that `durableWrite` on a direct descriptor accepts. */
  alignedBuffer(bytes: number): Uint8Array;
  /** Closes what is open. */
  destroy(): void;
}

const plainWords: Record<string, string> = {
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  ENOTDIR: 'not a directory',
  ENOENT: 'no such file or directory',
  EIO: 'input/output error',
};

/** Wraps what a file operation threw: one line with call, file and reason. */
export function ioError(error: unknown, call: string, path: string): SpillwayError {
  if (error instanceof SpillwayError) return error;
  const errno = errnoOf(error);
  const reason = errno === undefined ? reasonOf(error) : `${plainWords[errno] ?? reasonOf(error)} (${errno})`;
  return new SpillwayError('IO_ERROR', `${call} ${path}: ${reason}`, {
    subject: path,
    cause: error,
    ...(errno === undefined ? {} : { errno }),
  });
}
