// The memory that the options add up to, and the limit it has to stay below. Promises: each row is a bound, not a guess at the
// usual; the start is refused with the largest rows named where their sum exceeds the option `memoryLimit` or, without it,
// the limit of the container. Heap caps are part of the sum and have to be set when a thread starts: left alone, Node 20
// takes 259 MiB in a container of 256 MiB, and the main thread's cannot be changed any more once it runs.
// Of page cache nothing is said: the kernel takes it back.

import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { posix } from 'node:path';
import type { ResourceLimits } from 'node:worker_threads';
import { SpillwayError } from '../base/errors.ts';
import type { GatewayOptions } from '../base/gateway-options.ts';
import { FILL_BYTES } from '../base/limits.ts';
import { maxBatchBytes, type LogOptions } from '../base/options.ts';
import { ENTRY_BYTES } from '../flow/dedupe.ts';
import { createLaneBuffer } from '../platform/lane-memory.ts';
import { answersBytes } from './answers.ts';
import { decodeHeapMiB } from './decode-pool.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** The process without a heap: code of node, its four I/O threads, an allocator's slack. */
const NODE_BASE_BYTES = 40 * MIB;
/** A worker without its heap: measured 7.9 MiB. */
const THREAD_BYTES = 8 * MIB;
/** A connection in kernel and node: sockets, parser, the head of a request. */
const CONNECTION_BYTES = 80 * KIB;
/** Batches that are encoded while others are being written. */
const STAGING_BUFFERS = 3;
/** The largest window that a zstd body may ask for; gzip's is smaller. */
const DECODE_WINDOW_BYTES = 8 * MIB;
const DECODE_CHUNK_BYTES = 64 * KIB;
/** Shortest batch on disk, and what its place costs in the index of the segment being written. */
const BATCH_DISK_BYTES = 4 * KIB;
const INDEX_ENTRY_BYTES = 32;
/** For whatever is not in a row: fragmentation, garbage not yet collected. */
const SLACK = 0.15;

/** Old space for code, buffers' handles and garbage between two collections, of each kind of thread. */
const MAIN_OLD_MIB = 48;
const ACCEPT_OLD_MIB = 48;
const COMMIT_OLD_MIB = 32;
/** Young generation: three semi-spaces. */
const ACCEPT_SEMI_MIB = 16;
const WORKER_YOUNG_MIB = 12;
const STACK_MIB = 4;

export interface HeapCaps {
  /** For the command line of the process: they cannot be set later. */
  readonly main: { readonly oldMiB: number; readonly semiMiB: number; readonly flags: readonly string[] };
  readonly commit: ResourceLimits;
  readonly accept: ResourceLimits;
  readonly decode: ResourceLimits;
}

const toMiB = (bytes: number): number => Math.ceil(bytes / MIB);

function workerCap(oldMiB: number, youngMiB: number): ResourceLimits {
  return { maxOldGenerationSizeMb: oldMiB, maxYoungGenerationSizeMb: youngMiB, stackSizeMb: STACK_MIB };
}

/** Heap caps of each kind of thread. */
export function heapCaps(log: LogOptions, gateway: GatewayOptions): HeapCaps {
  // Of the smallest records that wait for a full lane nearly all is overhead, and that is on the heap.
  const waitingMiB = toMiB(log.maxWaitingBytes);
  const dedupeMiB = gateway.dedupeMs === 0 ? 0 : toMiB(gateway.dedupeKeys * ENTRY_BYTES);
  const oldMiB = MAIN_OLD_MIB + dedupeMiB + (gateway.acceptThreads === 1 ? waitingMiB : 0);
  const indexMiB = toMiB((log.segmentBytes / BATCH_DISK_BYTES) * INDEX_ENTRY_BYTES);
  return {
    main: {
      oldMiB,
      semiMiB: ACCEPT_SEMI_MIB,
      flags: [`--max-old-space-size=${oldMiB}`, `--max-semi-space-size=${ACCEPT_SEMI_MIB}`],
    },
    commit: workerCap(COMMIT_OLD_MIB + indexMiB, WORKER_YOUNG_MIB),
    accept: workerCap(ACCEPT_OLD_MIB + waitingMiB, 3 * ACCEPT_SEMI_MIB),
    decode: workerCap(decodeHeapMiB(log.maxRecordBytes), WORKER_YOUNG_MIB),
  };
}

export interface MemoryRow {
  readonly what: string;
  readonly bytes: number;
  /** Those that decide it; none where nothing can be turned down. */
  readonly options: readonly string[];
}

export interface MemorySum {
  readonly rows: readonly MemoryRow[];
  readonly totalBytes: number;
}

function heapBytes(cap: ResourceLimits): number {
  return (cap.maxOldGenerationSizeMb! + cap.maxYoungGenerationSizeMb!) * MIB;
}

/** Bytes that one lane takes, its control words and acknowledgements included. */
function laneBytes(log: LogOptions): number {
  const smallest = 4 * KIB;
  return createLaneBuffer(smallest).byteLength - smallest + log.laneBytes;
}

const row = (what: string, bytes: number, ...options: string[]): MemoryRow => ({ what, bytes, options });

/** The most that this configuration takes, row by row. */
export function memorySum(log: LogOptions, gateway: GatewayOptions): MemorySum {
  const caps = heapCaps(log, gateway);
  const accepts = gateway.acceptThreads;
  const acceptWorkers = accepts === 1 ? 0 : accepts;
  const decoders = accepts * gateway.decodeThreads;
  const lanes = 1 + acceptWorkers;
  /** One more than there are threads that decode: the next body is ready when one is done. */
  const slots = accepts + decoders;
  const slotBytes = gateway.decodedBodyBytes + DECODE_WINDOW_BYTES + DECODE_CHUNK_BYTES;
  const mainOptions = acceptWorkers === 0 ? ['maxWaitingBytes', 'dedupeKeys'] : ['dedupeKeys'];
  const rows = [
    row('node', NODE_BASE_BYTES),
    row('worker threads', (1 + acceptWorkers + decoders) * THREAD_BYTES, 'acceptThreads', 'decodeThreads'),
    row('heap of the main thread', (caps.main.oldMiB + 3 * caps.main.semiMiB) * MIB, ...mainOptions),
    row('heap of the commit thread', heapBytes(caps.commit), 'segmentBytes'),
    row('heaps of the accept threads', acceptWorkers * heapBytes(caps.accept), 'acceptThreads', 'maxWaitingBytes'),
    row('heaps of the decode threads', decoders * heapBytes(caps.decode), 'decodeThreads', 'maxRecordBytes'),
    row('lanes', lanes * laneBytes(log), 'laneBytes', 'acceptThreads'),
    row('staging of batches', STAGING_BUFFERS * maxBatchBytes(log) + FILL_BYTES, 'window.maxBytes', 'maxRecordBytes'),
    row('connections', accepts * gateway.maxConnections * CONNECTION_BYTES, 'maxConnections', 'acceptThreads'),
    row('bodies under way', accepts * gateway.ingressBytes, 'ingressBytes', 'acceptThreads'),
    row('answers to readers', accepts * answersBytes(log.maxRecordBytes), 'maxRecordBytes', 'acceptThreads'),
    row('bodies being decoded', slots * slotBytes, 'decodedBodyBytes', 'decodeThreads', 'acceptThreads'),
  ].filter(({ bytes }) => bytes > 0);
  const sum = rows.reduce((total, { bytes }) => total + bytes, 0);
  const slack = Math.ceil(sum * SLACK);
  return { rows: [...rows, row('slack of 15 %', slack)], totalBytes: sum + slack };
}

export interface MemoryLimit {
  readonly bytes: number;
  /** `memoryLimit`, or the file that says so. */
  readonly where: string;
}

/** What is asked of the machine: an argument, so that a test can be any container. */
export interface MemoryProbe {
  /** Text of a file; undefined where it cannot be read. */
  read(path: string): string | undefined;
  totalBytes(): number;
}

const systemProbe: MemoryProbe = {
  read: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  totalBytes: totalmem,
};

/** Where control groups are mounted, and which file of a group holds its limit: version 2, then 1. */
const versions = [
  { mounts: ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'], file: 'memory.max' },
  { mounts: ['/sys/fs/cgroup/memory'], file: 'memory.limit_in_bytes' },
] as const;

/** The folder of a group and those above it, whose limits hold for it as well. */
function upwards(group: string): string[] {
  const parts = group.split('/').filter((part) => part !== '' && part !== '.' && part !== '..');
  return parts.map((_, i) => parts.slice(0, parts.length - i).join('/')).concat('');
}

/** Files that may hold a limit of this process. In a container the path may be that of the host: then only the top is there. */
function limitFiles(probe: MemoryProbe): string[] {
  const files: string[] = [];
  for (const line of (probe.read('/proc/self/cgroup') ?? '').split('\n')) {
    // hierarchy:controllers:path; hierarchy 0 without controllers is version 2.
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    if (match === null) continue;
    const isV2 = match[1] === '0' && match[2] === '';
    if (!isV2 && !match[2].split(',').includes('memory')) continue;
    const { mounts, file } = versions[isV2 ? 0 : 1];
    for (const mount of mounts) for (const group of upwards(match[3])) files.push(posix.join(mount, group, file));
  }
  return files;
}

/**
 * The limit for the sum: the option, where it is not 0, else the tightest of this process's control groups; undefined where
 * there is none, or none below the machine's memory.
 */
export function limitOf(memoryLimit: number, probe: MemoryProbe = systemProbe): MemoryLimit | undefined {
  if (memoryLimit > 0) return { bytes: memoryLimit, where: 'memoryLimit' };
  let tightest: MemoryLimit | undefined;
  for (const where of limitFiles(probe)) {
    const text = probe.read(where)?.trim();
    if (text === undefined || !/^\d+$/.test(text)) continue;
    const bytes = Number(text);
    if (bytes <= probe.totalBytes() && bytes < (tightest?.bytes ?? Infinity)) tightest = { bytes, where };
  }
  return tightest;
}

const inMiB = (bytes: number): string => `${Math.ceil(bytes / MIB)} MiB`;
/** Rows that a refusal names: what is worth turning down. */
const NAMED_ROWS = 3;

/** @throws MEMORY_LIMIT naming the largest rows, where the sum exceeds the limit */
export function checkMemory(sum: MemorySum, limit: MemoryLimit | undefined): void {
  if (limit === undefined || sum.totalBytes <= limit.bytes) return;
  const largest = sum.rows.filter(({ options }) => options.length > 0).sort((a, b) => b.bytes - a.bytes);
  const named = largest
    .slice(0, NAMED_ROWS)
    .map(({ what, bytes, options }) => `${what} ${inMiB(bytes)} (${options.join(', ')})`)
    .join('; ');
  throw new SpillwayError(
    'MEMORY_LIMIT',
    `memory: the options add up to ${inMiB(sum.totalBytes)}, above the limit of ${inMiB(limit.bytes)} (${limit.where}); largest: ${named}`,
    { subject: 'memoryLimit' },
  );
}
