// Small disks that are really full: a tmpfs, and an ext4 in a sparse file on a loop device. Needs root. Names carry the
// process id; whoever mounts unmounts, in a `finally` (mounts.ts).

import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, statfsSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { modesIn, type Modes } from './modes.ts';
import { directoryForMounts, mount, removeMounts, said } from './mounts.ts';

const MIB = 1024 * 1024;

export type DiskKind = 'tmpfs' | 'ext4';

/** Why no small disk of any kind can be had here; undefined where one can. */
export function cannotMount(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting small disks needs root';
  try {
    SmallDisk.make('tmpfs', diskBytes.tmpfs).unmount();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** A file system of a few MiB, with a file of somebody else's on it that takes as much as is asked for. */
export class SmallDisk {
  readonly kind: DiskKind;
  /** Where it is mounted. */
  readonly dir: string;
  readonly #home: string;
  readonly #ballast: string;

  /** @throws Error in one line where it cannot be made here */
  static make(kind: DiskKind, bytes: number): SmallDisk {
    const home = directoryForMounts('full');
    const dir = join(home, 'disk');
    mkdirSync(dir);
    try {
      if (kind === 'tmpfs') {
        mount(dir, '-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs');
      } else {
        const image = join(home, 'image');
        closeSync(openSync(image, 'w'));
        truncateSync(image, bytes);
        // No blocks kept back for root: the tests are root, and want to meet the end of the disk.
        execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', '-b', '4096', image], { stdio: 'pipe' });
        mount(dir, '-o', 'loop', image);
      }
    } catch (error) {
      removeMounts(home);
      throw new Error(`no ${kind} could be mounted: ${said(error)}`, { cause: error });
    }
    return new SmallDisk(kind, home, dir);
  }

  private constructor(kind: DiskKind, home: string, dir: string) {
    this.kind = kind;
    this.#home = home;
    this.dir = dir;
    this.#ballast = join(dir, 'ballast');
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.dir);
    return bavail * bsize;
  }

  /** The ballast grows until no more than about `bytes` are free; with 0, until the disk takes not one block more. */
  leave(bytes: number): void {
    const fd = openSync(this.#ballast, 'a');
    try {
      for (let piece = 256 * 1024; piece >= 4096; piece /= 4) {
        const zeros = Buffer.alloc(piece);
        try {
          while (this.freeBytes > bytes + (bytes === 0 ? -1 : piece)) writeSync(fd, zeros);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        }
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** The ballast is deleted: space returns from outside. */
  release(): void {
    rmSync(this.#ballast, { force: true });
  }

  /** Asked while there is space. */
  modes(): Modes {
    const dir = join(this.dir, 'probe');
    mkdirSync(dir);
    const modes = modesIn(dir);
    rmSync(dir, { recursive: true });
    return modes;
  }

  unmount(): void {
    removeMounts(this.#home);
  }
}

/** Bytes of each kind: ext4 needs some for itself. */
export const diskBytes: Record<DiskKind, number> = { tmpfs: 12 * MIB, ext4: 32 * MIB };
