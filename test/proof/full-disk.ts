// A disk that is really full, and memory that is really limited. On a small tmpfs and a small ext4, in every I/O mode that
// works there, two producers append until nothing goes any more; then space returns in different ways, or the log is closed
// and opened. Whatever is acknowledged is looked for by another process, byte for byte. The cases: test/support/full-disk-cases.ts.
//
// And a log under load inside a memory cgroup: the page cache of what it writes counts towards the limit as its own memory
// does. It must be reclaimed; nothing may be killed.

import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { seededRandom32 } from '../../src/base/clock.ts';
import type { IoMode } from '../../src/base/types.ts';
import { Case, OtherProcess, scenarios } from '../support/full-disk-cases.ts';
import { MemoryGroup } from '../../bench/lib/memory-group.ts';
import { diskBytes, SmallDisk, type DiskKind } from '../support/full-disk-mounts.ts';
import { expectedModes, temporaryDirectory, workingModes, type Modes } from '../support/modes.ts';
import { repeatCommand, skip, skipModes, type Claim, type ProofContext } from './proof.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const QUICK = { rounds: 1, floodSeconds: 2, floodModes: 1 };
const FULL = { rounds: 6, floodSeconds: 10, floodModes: 4 };
/** Disks in use at the same time: most of a case is waiting. */
const AT_ONCE = 8;
/** Node, two threads, one lane of 16 MiB, staging, and the under-way load of the child; the rest is for the page cache. */
const LIMIT_BYTES = 160 * MIB;
/** So much at least is written, however slow the disk: several times what the limit leaves for the page cache. */
const FLOOD_BYTES = 3 * LIMIT_BYTES;
const FLOOD_LIMIT_MS = 90_000;
const REMOVED_WITHIN_MS = 5_000;

const claims: Record<keyof typeof scenarios, string> = {
  deleted: 'full: appends wait, then BACKLOG_FULL, nothing false is acknowledged; it goes on when a file is deleted',
  truncated: 'the same, and it goes on when truncateBefore frees segments',
  retention: 'the same, and it goes on when segments become older than retentionMs',
  closed: 'closed while full: DISK_FULL, and reopening finds exactly what was acknowledged',
  'opened full': 'opened on a disk without one free block: a new log gets DISK_FULL, one that is there goes on',
  spare: 'full while the next segment is prepared in the background, and not when it is needed: nobody notices',
};

interface Tried {
  readonly scenario: string;
  readonly violations: readonly string[];
  readonly notes: readonly string[];
}

/** All cases of one disk and mode, one after the other; each in a directory of its own, at another degree of fullness. */
async function tryPlace(
  kind: DiskKind,
  io: IoMode,
  rounds: number,
  { seed, only }: ProofContext,
  reader: OtherProcess,
): Promise<Tried[]> {
  const tried: Tried[] = [];
  const disk = SmallDisk.make(kind, diskBytes[kind]);
  try {
    for (let round = 0; round < rounds; round++) {
      for (const [number, [scenario, run]] of Object.entries(scenarios).entries()) {
        const name = `${kind}/${io}/${scenario}/${round}`;
        if (only !== undefined && only !== name) continue;
        const random = seededRandom32(seed + round * 100 + number);
        // From barely more than what opening takes up to five segments, in blocks.
        const free = Math.floor((320 * KIB + (random() % (1000 * KIB))) / 4096) * 4096;
        const dir = join(disk.dir, 'log');
        const place = { disk, dir, io, run: 1 + 2 * (round * 10 + number), free, reader };
        const c = new Case(place);
        try {
          await run(c, place);
        } catch (error) {
          c.wrong.push(error instanceof Error ? error.message : String(error));
        }
        await c.end();
        for (const used of ['log', 'fresh']) rmSync(join(disk.dir, used), { recursive: true, force: true });
        const violations = c.wrong.map((w) => `${name}: ${w}; ${repeatCommand('full-disk', seed, name)}`);
        tried.push({ scenario, violations, notes: c.notes });
      }
    }
  } finally {
    disk.unmount();
  }
  return tried;
}

/** The modes of a disk of this kind, or why there is none here. */
function modesOf(kind: DiskKind): Modes | string {
  try {
    const disk = SmallDisk.make(kind, diskBytes[kind]);
    try {
      return disk.modes();
    } finally {
      disk.unmount();
    }
  } catch (error) {
    return (error as Error).message;
  }
}

async function tryDisks(context: ProofContext): Promise<Claim[]> {
  const { rounds } = context.full ? FULL : QUICK;
  const jobs: { kind: DiskKind; io: IoMode }[] = [];
  const skipped: Claim[] = [];
  let expected = 0;
  for (const kind of ['tmpfs', 'ext4'] as const) {
    const modes = modesOf(kind);
    if (typeof modes === 'string') {
      skipped.push(skip(`full disks of kind ${kind}`, 'full disks', modes));
      continue;
    }
    jobs.push(...modes.working.map((io) => ({ kind, io })));
    skipped.push(...skipModes(modes.missing, 'full disks', ` on ${kind}`));
    expected += modes.expected.length;
  }
  if (jobs.length === 0) {
    const why = skipped.map((c) => c.skipped).join('; ');
    return Object.values(claims).map((claim) => skip(claim, 'full disks', why));
  }
  const atLeast = context.only === undefined ? expected * rounds : 0;
  const figures = { 'disks and modes': jobs.map((j) => `${j.kind} ${j.io}`).join(', ') };
  const reader = new OtherProcess();
  const tried: Tried[] = [];
  try {
    const worker = async (): Promise<void> => {
      for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
        tried.push(...(await tryPlace(job.kind, job.io, rounds, context, reader)));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  } finally {
    reader.end();
  }
  const shown = Object.entries(claims).map(([scenario, claim]) => {
    const mine = tried.filter((x) => x.scenario === scenario);
    const violations = mine.flatMap((x) => x.violations);
    const notes: Record<string, number> = {};
    for (const note of mine.flatMap((x) => x.notes)) notes[note] = (notes[note] ?? 0) + 1;
    return { claim, tried: mine.length, unit: 'full disks', atLeast, violations, figures: { ...figures, ...notes } };
  });
  return [...shown, ...skipped];
}

interface Flood {
  readonly mode: IoMode;
  readonly durableOffset: number;
  readonly diskBytes: number;
  readonly rssMiB: number;
  readonly anonymousMiB: number;
}

/** What of MemoryGroup is used here; a test gives others. */
type Group = Pick<MemoryGroup, 'inside' | 'events' | 'remove'>;
export interface Groups {
  make(name: string, limitBytes: number): Group;
}

/** The kernel frees what a process took only after its end was told: until then the group is busy. */
async function remove(group: Group): Promise<void> {
  const deadline = performance.now() + REMOVED_WITHIN_MS;
  for (;;) {
    try {
      return group.remove();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || performance.now() > deadline) throw error;
      await delay(10);
    }
  }
}

/** @returns figures; what is wrong goes to `wrong`, and stays there whatever is thrown later */
async function flood(io: IoMode, seconds: number, group: Group, wrong: string[]): Promise<string> {
  const dir = temporaryDirectory(`spillway-flood-${process.pid}-`);
  try {
    const child = fileURLToPath(new URL('../support/full-disk-flood.js', import.meta.url));
    const [command, args] = group.inside(process.execPath, [child, dir, io, String(seconds), String(FLOOD_BYTES)]);
    let told: Flood | undefined;
    try {
      const { stdout } = await promisify(execFile)(command, args, { timeout: FLOOD_LIMIT_MS });
      told = JSON.parse(stdout) as Flood;
    } catch (error) {
      const { signal, code, message } = error as { signal?: string; code?: number; message: string };
      wrong.push(`the child ended by ${signal ?? `code ${code}`}: ${message.split('\n').at(-2)}`);
    }
    const events = group.events();
    if (events.oomKills > 0) wrong.push(`${events.oomKills} processes were killed for want of memory`);
    if (told === undefined) return `limit met ${events.limitMet} times`;
    const written = told.diskBytes / MIB;
    // Past the page cache nothing but the filling of segments counts; through it, far more was written than fits.
    if (told.mode !== 'direct' && events.limitMet === 0)
      wrong.push('the limit was never met: nothing had to be reclaimed');
    if (told.diskBytes < FLOOD_BYTES) wrong.push(`only ${written.toFixed(0)} MiB were written: no load`);
    if (told.anonymousMiB > LIMIT_BYTES / MIB) wrong.push(`${told.anonymousMiB.toFixed(0)} MiB of anonymous memory`);
    return (
      `${written.toFixed(0)} MiB written, at most ${told.anonymousMiB.toFixed(0)} MiB anonymous, RSS ${told.rssMiB.toFixed(0)} MiB, ` +
      `limit met ${events.limitMet} times, page cache ${(events.cacheBytes / MIB).toFixed(0)} MiB at the end`
    );
  } finally {
    rmSync(dir, { recursive: true, force: true });
    await remove(group);
  }
}

export async function tryMemory({ full, seed, only }: ProofContext, groups: Groups = MemoryGroup): Promise<Claim> {
  const claim = `under load inside a memory cgroup of ${LIMIT_BYTES / MIB} MiB nothing is killed, and the page cache is reclaimed`;
  const { floodSeconds, floodModes } = full ? FULL : QUICK;
  // Through the page cache first: there it weighs.
  const planned = [...expectedModes]
    .sort((a, b) => Number(a === 'direct') - Number(b === 'direct'))
    .slice(0, floodModes);
  const violations: string[] = [];
  const figures: Record<string, string> = {};
  let tried = 0;
  for (const io of planned.filter((mode) => workingModes.includes(mode))) {
    const name = `memory/${io}`;
    if (only !== undefined && only !== name) continue;
    const wrong: string[] = [];
    let figure = 'without figures';
    let group: Group | undefined;
    try {
      group = groups.make(`spillway-flood-${process.pid}-${io}`, LIMIT_BYTES);
      figure = await flood(io, floodSeconds, group, wrong);
      figures[io] = figure;
    } catch (error) {
      const { message } = error as Error;
      // Nothing else is a reason to skip: what was seen would be lost.
      if (group === undefined && tried === 0) return skip(claim, 'runs', message);
      wrong.push(message);
    }
    violations.push(...wrong.map((w) => `${name}: ${w} (${figure}); ${repeatCommand('full-disk', seed, name)}`));
    tried++;
  }
  return { claim, tried, unit: 'runs', atLeast: only === undefined ? planned.length : 0, violations, figures };
}

export async function prove(context: ProofContext): Promise<Claim[]> {
  const quota = skip(
    'a used-up quota (EDQUOT) is a full disk',
    'quotas',
    "needs a kernel with quota formats; the simulated disk of the proof 'faults' returns EDQUOT at every call",
  );
  if (process.getuid?.() !== 0) {
    const why = 'mounting small disks and limiting memory needs root';
    return [...Object.values(claims).map((c) => skip(c, 'full disks', why)), skip('memory limit', 'runs', why), quota];
  }
  const disks = context.only?.startsWith('memory/') === true ? [] : await tryDisks(context);
  return [...disks, await tryMemory(context), quota];
}
