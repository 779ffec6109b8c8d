// A file system in a file, mounted through a loop device, that can be cut off as by a loss of power: it is shut down with
// the NOLOGFLUSH flag, so that nothing more reaches the device, not even what a journal holds ready, and the page cache
// is dropped when it is unmounted. Mounting again runs the journal's recovery.
//
// True to a loss of power: what was not forced out is gone, data and names alike (the proof `power` shows so each time).
// Not so: the device's own cache is not lost, so a flush command that was left out does not show; nor is a write of the
// device torn, since the device finishes what it was given. Both are for the simulated disk (sim-disk.ts).

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { within } from './log-support.ts';
import { directoryForMounts, mount, removeMounts, said, unmount } from './mounts.ts';

export type FileSystem = 'ext4' | 'xfs';

const MIB = 1024 * 1024;
/** Sparse; mkfs.xfs refuses less than 300 MiB. */
const imageBytes: Record<FileSystem, number> = { ext4: 256 * MIB, xfs: 320 * MIB };
const mkfsOptions: Record<FileSystem, readonly string[]> = { ext4: ['-q', '-F'], xfs: ['-q', '-f'] };

/** A cut is one system call. */
const CUT_LIMIT_MS = 10_000;

// EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number, _IOR('X', 125, __u32), and 2 is NOLOGFLUSH for both. It runs
// beside the proof and waits for its line, so that no start of an interpreter lies between decision and cut.
const CUTTER = `
import fcntl, os, struct, sys
for line in sys.stdin:
    try:
        fd = os.open(line.strip(), os.O_RDONLY)
        fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
        os.close(fd)
        print('cut', flush=True)
    except OSError as error:
        print(error, flush=True)
`;

/** Why no file system of this kind can be cut off here; undefined where it can. */
export async function cannotCut(kind: FileSystem): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'needs Linux and root, to mount';
  for (const [tool, flag] of [
    [`mkfs.${kind}`, '-V'],
    ['python3', '--version'],
    ['mount', '--version'],
  ]) {
    try {
      execFileSync(tool, [flag], { stdio: 'ignore' });
    } catch {
      return `needs ${tool}`;
    }
  }
  let disk: LoopDisk | undefined;
  try {
    disk = new LoopDisk(kind);
    await disk.cut();
    return undefined;
  } catch (error) {
    return `needs loop devices and a kernel that can shut ${kind} down: ${said(error)}`;
  } finally {
    disk?.remove();
  }
}

export class LoopDisk {
  /** Where it is mounted. */
  readonly path: string;
  readonly #top: string;
  readonly #image: string;
  readonly #kind: FileSystem;
  readonly #cutter: ChildProcess;
  readonly #answers: Interface;

  /** Makes the file system and mounts it. */
  constructor(kind: FileSystem) {
    this.#kind = kind;
    this.#top = directoryForMounts('power');
    this.#image = join(this.#top, 'image');
    this.path = join(this.#top, 'mnt');
    this.#cutter = spawn('python3', ['-c', CUTTER], { stdio: ['pipe', 'pipe', 'inherit'] });
    // One that has gone answers nothing: cut() says so.
    this.#cutter.stdin!.on('error', () => undefined);
    this.#answers = createInterface({ input: this.#cutter.stdout! });
    try {
      writeFileSync(this.#image, '');
      truncateSync(this.#image, imageBytes[kind]);
      mkdirSync(this.path);
      execFileSync(`mkfs.${kind}`, [...mkfsOptions[kind], this.#image], { stdio: 'pipe' });
      this.mount();
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  mount(): void {
    mount(this.path, '-t', this.#kind, '-o', 'loop', this.#image);
  }

  /** Nobody may have a file open on it. */
  unmount(): void {
    unmount(this.path);
  }

  /** Resolves once nothing reaches the device any more. */
  async cut(): Promise<void> {
    this.#cutter.stdin!.write(`${this.path}\n`);
    const [answer] = (await within(once(this.#answers, 'line'), 'the answer of what cuts', CUT_LIMIT_MS)) as [string];
    if (answer !== 'cut') throw new Error(answer);
  }

  /** Also under a writer that has not ended yet. */
  remove(): void {
    this.#cutter.kill();
    removeMounts(this.#top);
  }
}
