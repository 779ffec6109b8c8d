// Brings a log into each state of its lifecycle, really: a full disk is a full tmpfs, a failed write is refused by the
// kernel, a dead commit thread was ended. Each says how the state is seen, so that a cell is known to have been in it.

import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { open, openLane, type Lane, type LaneHandle, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import { until } from './log-support.ts';

export interface InState {
  readonly dir: string;
  readonly io: LogOptionsInput['io'];
  /** Undefined while the log is opening. */
  readonly log: SpillwayLog | undefined;
  /** Opened before the state was reached. */
  readonly lane: Lane | undefined;
  /** Of a lane that nobody has opened yet. */
  readonly handle: LaneHandle | undefined;
  /** Whether the log is in the state now. */
  readonly holds: () => boolean;
  /** Ends the state: space returns, the log is closed. Whatever waits goes on. */
  readonly leave: () => Promise<unknown>;
  /** Closes and removes the log, whatever its state. */
  readonly end: () => Promise<void>;
}

const small = {
  segmentBytes: '128KiB',
  laneBytes: '64KiB',
  maxRecordBytes: '8KiB',
  window: { maxRecords: 50, maxBytes: '16KiB', lingerMs: 0 },
} as const;

let latestWorker: Worker | undefined;
process.on('worker', (worker: Worker) => (latestWorker = worker));

/** @param dir empty; for `full` on a disk of 1.5 MiB of its own */
export async function bringInto(state: string, dir: string, io: LogOptionsInput['io']): Promise<InState> {
  if (state === 'opening') return opening(dir, io);
  const options: LogOptionsInput = { ...small, dir, io: io!, ...(state === 'draining' ? oneByOne : {}) };
  const ballast = join(dir, '..', 'ballast');
  if (state === 'full') writeFileSync(ballast, Buffer.alloc(900 * 1024));
  const log = await open(options);
  const commitThread = latestWorker!;
  const lane = openLane(log.lane());
  const handle = log.lane();
  await log.appendMany('s', ['one', 'two', 'three']);
  let leave = (): Promise<unknown> => log.close();
  let holds = (): boolean => log.stats().state === state;

  if (state === 'full') {
    for (let i = 0; i < 120; i++) void log.append('s', Buffer.alloc(8000)).catch(() => undefined);
    leave = async () => {
      rmSync(ballast);
      // Shows that what waited goes on by itself; a log that is closed already has no flush.
      await log.flush().catch(() => undefined);
      await log.close().catch(() => undefined);
    };
    await until(holds, 'the disk is full');
  } else if (state === 'draining') {
    for (let i = 0; i < 1500; i++) void log.append('s', 'x').catch(() => undefined);
    const closed = log.close();
    leave = () => closed;
    // Its turns are short: nothing else may come between the look and the calls.
    while (!holds()) await new Promise((resolve) => setImmediate(resolve));
  } else if (state === 'closed') {
    await log.close();
  } else if (state.startsWith('poisoned')) {
    breakSegment(dir);
    await log.append('s', 'never acknowledged').catch(() => undefined);
    holds = () => log.stats().state === 'poisoned';
    leave = () => log.close().catch(() => undefined);
    if (state === 'poisoned, closed') await leave();
  } else if (state.startsWith('died')) {
    await commitThread.terminate();
    holds = () => log.stats().state === 'poisoned';
    leave = () => log.close().catch(() => undefined);
    if (state === 'died, closed') await leave();
  }
  const end = async (): Promise<void> => {
    await log.close().catch(() => undefined);
    remove(dir);
  };
  return { dir, io, log, lane, handle, holds, leave, end };
}

function remove(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}

/** A durable write per record: so many of them keep a close busy for longer than another `open` takes to start its thread. */
const oneByOne = { window: { maxRecords: 1, maxBytes: '16KiB', lingerMs: 0 } } as const;

/** A large unsealed segment takes a while to open: longer than a look at the lock file, which is written first. */
async function opening(dir: string, io: LogOptionsInput['io']): Promise<InState> {
  const large = { dir, io: io!, segmentBytes: '16MiB' };
  const log = await open(large);
  for (let i = 0; i < 14; i++) await log.append('s', Buffer.alloc(1024 * 1024 - 100));
  await log.close();
  let opened: SpillwayLog | undefined;
  const promise = open(large).then((l) => (opened = l));
  const isLocked = (): boolean => readFileSync(join(dir, 'lock'), 'utf8').includes(`"pid":${process.pid}`);
  while (!isLocked() && opened === undefined) await new Promise((resolve) => setImmediate(resolve));
  return {
    dir,
    io,
    log: undefined,
    lane: undefined,
    handle: undefined,
    holds: () => opened === undefined,
    leave: async () => (await promise).close(),
    end: async () => remove(dir),
  };
}

/**
 * Makes the next durable write of this process to the log's segment fail with EBADF: its descriptor is closed, and its
 * number taken by one that cannot be written, so that no file opened later gets it.
 */
export function breakSegment(dir: string): void {
  let broken = 0;
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (!targetOf(fd).startsWith(dir) || !targetOf(fd).endsWith('.seg')) continue;
    closeSync(fd);
    const others: number[] = [];
    for (let taken = openSync('/dev/null', 'r'); taken !== fd; taken = openSync('/dev/null', 'r')) others.push(taken);
    for (const other of others) closeSync(other);
    broken++;
  }
  if (broken !== 1)
    throw new Error(`${broken} descriptors of a segment in ${dir}, expected the one it is written through`);
}

function targetOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ''; // the one that lists this directory
  }
}
