// What the proofs mount, and how it is taken down whatever ends them. Each mounts below a directory of its own whose name
// carries the kind and the process id. It is taken down in a `finally`, else when the process exits or is told to end, else,
// where it was killed, by the next one that makes such a directory.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { atEnd } from './at-end.ts';
import { temporaryDirectory } from './modes.ts';

export type MountKind = 'full' | 'lifecycle' | 'power';

/** A directory to mount below. */
export function directoryForMounts(kind: MountKind): string {
  sweep();
  // As the kernel names what is mounted there.
  const top = realpathSync(temporaryDirectory(`spillway-${kind}-${process.pid}-`));
  atEnd(() => removeMounts(top));
  return top;
}

/** @throws Error in one line where it cannot be mounted here */
export function mount(dir: string, ...args: readonly string[]): void {
  try {
    execFileSync('mount', [...args, dir], { stdio: 'pipe' });
  } catch (error) {
    throw new Error(said(error), { cause: error });
  }
}

/** Nobody may have a file open there. A loop device belongs to its mount: it is detached. */
export function unmount(dir: string): void {
  execFileSync('umount', [dir], { stdio: 'pipe' });
}

/** The first line of what a failed command said. */
export function said(error: unknown): string {
  const { stderr, message } = error as { stderr?: Buffer; message: string };
  return (stderr?.toString().trim() || message).split('\n')[0];
}

/** Unmounts all below the directory, lazily where something still holds a file, and removes it. */
export function removeMounts(top: string): void {
  for (const dir of mountPoints().filter((d) => d.startsWith(`${top}/`))) {
    if (spawnSync('umount', [dir]).status !== 0) spawnSync('umount', ['--lazy', dir]);
  }
  rmSync(top, { recursive: true, force: true });
}

/** The latest first. */
function mountPoints(): string[] {
  if (!existsSync('/proc/mounts')) return [];
  const lines = readFileSync('/proc/mounts', 'utf8').split('\n').toReversed();
  const unescaped = (path: string): string =>
    path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return lines.map((line) => unescaped(line.split(' ')[1] ?? ''));
}

/** Unmounts and removes what processes left that are gone. */
function sweep(): void {
  const found = new Set<string>();
  for (const dir of mountPoints()) {
    const [, top, pid] = /^(.*\/spillway-(?:full|lifecycle|power)-(\d+)-[^/]+)\//.exec(dir) ?? [];
    if (top !== undefined && !existsSync(`/proc/${pid}`)) found.add(top);
  }
  for (const top of found) {
    try {
      removeMounts(top);
    } catch {
      // Somebody else sweeps at the same time.
    }
  }
}
