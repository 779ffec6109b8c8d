// One writer per directory. The kernel's advisory lock decides where there is one (native io): it ends with its holder,
// whatever killed it. The file's text names the holder for the message, and decides alone where no such lock exists
// (mode js): there a holder is alive if a process with that id and start time is. Process ids mean something only among the
// processes that this one can see: of a holder with another host name, another boot or another pid namespace (a container on
// the network of the host has its name) nobody can tell from here, so it is believed.

import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { SpillwayError } from '../base/errors.ts';
import type { FileIo } from '../platform/file-io.ts';
import { LOCK_FILE } from './names.ts';

interface Holder {
  readonly pid: number;
  /** Start of the process in clock ticks after boot; '' where the system does not tell. Tells a reused id apart. */
  readonly startTicks: string;
  readonly host: string;
  /** Which run of which kernel, and which of its pid namespaces; '' where the system does not tell. */
  readonly bootId: string;
  readonly pidNamespace: string;
  /** True where the holder also has the kernel's lock. */
  readonly kernelLock: boolean;
}

type Surroundings = Pick<Holder, 'host' | 'bootId' | 'pidNamespace'>;

function orNothing(read: () => string): string {
  try {
    return read().trim();
  } catch {
    return '';
  }
}

function surroundings(): Surroundings {
  return {
    host: hostname(),
    bootId: orNothing(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    pidNamespace: orNothing(() => readlinkSync('/proc/self/ns/pid')),
  };
}

/** Whether the holder's process id is one of those that can be asked about here. */
function canBeSeen(holder: Holder): boolean {
  const here = surroundings();
  return (Object.keys(here) as (keyof Surroundings)[]).every((key) => holder[key] === here[key]);
}

const TEXT_BYTES = 512;

function startTicks(pid: number): string {
  try {
    // Field 22 of proc(5) stat; the command in parentheses may hold spaces, so count from the last ')'.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function isAlive(holder: Holder): boolean {
  if (!canBeSeen(holder)) return true;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return holder.startTicks === '' || holder.startTicks === startTicks(holder.pid);
}

function readHolder(io: FileIo, fd: number): Holder | undefined {
  const text = new Uint8Array(TEXT_BYTES);
  return parseHolder(Buffer.from(text.subarray(0, io.read(fd, text, 0))).toString('utf8'));
}

function parseHolder(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Partial<Holder>;
    return typeof holder.pid === 'number'
      ? { startTicks: '', ...surroundings(), kernelLock: false, ...holder, pid: holder.pid }
      : undefined;
  } catch {
    return undefined; // empty, or torn by a crash while it was written: nobody holds it
  }
}

/** @param byKernel the kernel says so, and with its holder's end it would say otherwise */
function locked(dir: string, holder: Holder | undefined, byKernel: boolean): SpillwayError {
  const who =
    holder === undefined
      ? 'another process'
      : holder.pid === process.pid && canBeSeen(holder)
        ? `this process (pid ${holder.pid})`
        : `process ${holder.pid} on ${holder.host}`;
  // From here nobody can see whether it lives: a container that is started again, or a machine, is another place.
  const elsewhere = holder !== undefined && !byKernel && !canBeSeen(holder);
  const where =
    elsewhere && holder.host === hostname() ? ' (in another container, or before the machine was started)' : '';
  const hint = elsewhere ? `${where}; if that process is gone, remove ${join(dir, LOCK_FILE)}` : '';
  const message = `${dir} is open for writing by ${who}; a log has one writer at a time${hint}`;
  return new SpillwayError('LOCKED', message, { subject: dir });
}

export class DirectoryLock {
  readonly #io: FileIo;
  readonly #fd: number;

  private constructor(io: FileIo, fd: number) {
    this.#io = io;
    this.#fd = fd;
  }

  /** @throws LOCKED naming the holder */
  static take(io: FileIo, dir: string): DirectoryLock {
    const path = join(dir, LOCK_FILE);
    const fd = openOrCreate(io, path);
    const kernelLock = io.lock(fd);
    const holder = readHolder(io, fd);
    // With the kernel's lock in hand a holder that also used it is dead; one that could not must be asked for.
    const free = kernelLock ?? true;
    if (!free || (holder !== undefined && !(kernelLock === true && holder.kernelLock) && isAlive(holder))) {
      io.close(fd);
      throw locked(dir, holder, !free);
    }
    const me: Holder = {
      pid: process.pid,
      startTicks: startTicks(process.pid),
      ...surroundings(),
      kernelLock: kernelLock === true,
    };
    io.write(fd, Buffer.from(JSON.stringify(me).padEnd(TEXT_BYTES)), 0);
    return new DirectoryLock(io, fd);
  }

  /**
   * Clears the text of a lock whose holder, a thread of this process, has died: in mode js it names this living process,
   * and would keep it out for ever.
   */
  static disown(dir: string): void {
    const path = join(dir, LOCK_FILE);
    try {
      const holder = parseHolder(readFileSync(path, 'utf8'));
      if (holder?.pid === process.pid && canBeSeen(holder)) writeFileSync(path, ' '.repeat(TEXT_BYTES));
    } catch {
      // No lock file, or not ours to write: then it keeps nobody out.
    }
  }

  /**
   * The file stays: removing it would let a third process lock a name that is gone while a second waits for it. Does not throw:
   * on a disk that is gone there is nothing to release, and the kernel's lock goes with its descriptor.
   */
  release(): void {
    for (const step of [
      () => this.#io.write(this.#fd, Buffer.from(' '.repeat(TEXT_BYTES)), 0),
      () => this.#io.close(this.#fd),
    ]) {
      try {
        step();
      } catch {
        // What became of the log is told by whoever closed it.
      }
    }
  }
}

function openOrCreate(io: FileIo, path: string): number {
  if (io.exists(path)) return io.open(path, 'write', false);
  try {
    return io.open(path, 'create', false);
  } catch (error) {
    if (error instanceof SpillwayError && error.details.errno === 'EEXIST') return io.open(path, 'write', false);
    throw error;
  }
}
