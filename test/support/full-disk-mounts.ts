// Small disks that are really full: a tmpfs, and an ext4 in a sparse file on a loop device. Needs root. Names carry the
// process id; whoever mounts unmounts, in a `finally`.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import type { IoMode } from '../../src/base/types.ts';
import { chooseIo } from '../../src/platform/choose-io.ts';
import { temporaryDirectory } from './modes.ts';

const MIB = 1024 * 1024;
const ioModes = ['direct', 'buffered', 'portable', 'js'] as const;

export type DiskKind = 'tmpfs' | 'ext4';

function said(error: unknown): string {
  const { stderr, message } = error as { stderr?: Buffer; message: string };
  return (stderr?.toString().trim() || message).split('\n')[0];
}

const PREFIX = 'spillway-full-';
const mounted = new Set<SmallDisk>();
// A test that ran out of time ends without its `finally`; one that was killed without even this.
process.on('exit', () => mounted.forEach((disk) => disk.unmount()));

/** Unmounts what a killed process left behind. */
function sweep(): void {
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const dir = line.split(' ')[1] ?? '';
    const pid = new RegExp(`/${PREFIX}(\\d+)-[^/]*/disk$`).exec(dir)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    spawnSync('umount', [dir]);
    rmSync(dirname(dir), { recursive: true, force: true });
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
    sweep();
    const home = temporaryDirectory(`${PREFIX}${process.pid}-`);
    const dir = join(home, 'disk');
    mkdirSync(dir);
    try {
      if (kind === 'tmpfs') {
        execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', dir], { stdio: 'pipe' });
      } else {
        const image = join(home, 'image');
        closeSync(openSync(image, 'w'));
        truncateSync(image, bytes);
        // No blocks kept back for root: the tests are root, and want to meet the end of the disk.
        execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', '-b', '4096', image], { stdio: 'pipe' });
        execFileSync('mount', ['-o', 'loop', image, dir], { stdio: 'pipe' });
      }
    } catch (error) {
      rmSync(home, { recursive: true, force: true });
      throw new Error(`no ${kind} could be mounted: ${said(error)}`, { cause: error });
    }
    return new SmallDisk(kind, home, dir);
  }

  private constructor(kind: DiskKind, home: string, dir: string) {
    this.kind = kind;
    this.#home = home;
    this.dir = dir;
    this.#ballast = join(dir, 'ballast');
    mounted.add(this);
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

  /** I/O modes that work on it. Asked while there is space. */
  modes(): IoMode[] {
    const dir = join(this.dir, 'probe');
    mkdirSync(dir);
    const works = (mode: IoMode): boolean => {
      try {
        chooseIo(dir, mode, new Float64Array(COUNTER_SLOTS)).destroy();
        return true;
      } catch {
        return false;
      }
    };
    const modes = ioModes.filter(works);
    rmSync(dir, { recursive: true });
    return modes;
  }

  unmount(): void {
    mounted.delete(this);
    // Lazily where something still holds a file: nothing may stay mounted behind a failed case.
    if (spawnSync('umount', [this.dir]).status !== 0) spawnSync('umount', ['-l', this.dir]);
    rmSync(this.#home, { recursive: true, force: true });
  }
}

/** Bytes of each kind: ext4 needs some for itself. */
export const diskBytes: Record<DiskKind, number> = { tmpfs: 12 * MIB, ext4: 32 * MIB };
