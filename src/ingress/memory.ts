// The memory that the options add up to, and the limit it has to stay below. Promises: each row is a bound, not a guess at the
// usual; the start is refused with the largest rows named where their sum exceeds the option `memoryLimit` or, without it,
// the limit of the container. Heap caps are part of the sum and have to be set when a thread starts: left alone, Node 20
// takes 259 MiB in a container of 256 MiB, and the main thread's cannot be changed any more once it runs.
// Of page cache nothing is said: the kernel takes it back.
// Limit: answers that a client does not read are bounded by ingressBytes here, but lie in the kernel too, up to its tcp_wmem.

import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { posix } from 'node:path';
import type { ResourceLimits } from 'node:worker_threads';
import { SpillwayError } from '../base/errors.ts';
import type { GatewayOptions } from '../base/gateway-options.ts';
import {
  COMPRESSOR_BYTES,
  FILL_BYTES,
  LARGE_RECEIVE_BYTES,
  LARGE_RECEIVE_CONNECTIONS,
  MAX_INDEX_ENTRIES,
  MAX_STREAM_IDS,
  ZSTD_WINDOW_LOG,
} from '../base/limits.ts';
import { maxBatchBytes, type LogOptions } from '../base/options.ts';
import { ENTRY_BYTES } from '../flow/dedupe.ts';
import { HISTOGRAM_BYTES } from '../platform/histogram.ts';
import { createLaneBuffer } from '../platform/lane-memory.ts';
import { answersBytes } from './answers.ts';
import { ARRIVAL_RING_BYTES } from './arrival-ring.ts';
import { decodeHeapMiB } from './decode-pool.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

// Measured on Node 20, but for TLS, which is a guess on the safe side; docs/operate.md has the figures. Heaps are rows of their own: nothing here counts them again.

/** The process without a heap: 16 MiB of its own, and of the code of node, which the kernel may take back, what is in use. */
const NODE_BASE_BYTES = 40 * MIB;
/** A thread without its heap: 7.7 MiB with it, of which the heap is 6.7. */
const THREAD_BYTES = 2 * MIB;
/** A connection outside of the heap, in node and in the kernel. */
const CONNECTION_BYTES = 8 * KIB;
/** On the heap: socket, parser, the head of a request. Of 17 KiB that an idle connection takes nearly all. */
const CONNECTION_HEAP_BYTES = 16 * KIB;
/** What TLS adds to it: records in both directions, and the state of the session. */
const TLS_CONNECTION_BYTES = 48 * KIB;
/** The kernel keeps books of twice what it is asked for: its own overhead. */
const KERNEL_FACTOR = 2;
/** Most that node takes from a socket in one read. */
const SOCKET_READ_BYTES = 64 * KIB;
/** What node reads ahead of a body, before it stops behind one more read. */
export const READ_AHEAD_BYTES = 16 * KIB;
/** Batches that are encoded while others are being written. */
const STAGING_BUFFERS = 3;
/** The largest window that a zstd body may ask for; gzip's is smaller. Only a thread that decodes has one. */
const DECODE_WINDOW_BYTES = 2 ** ZSTD_WINDOW_LOG;
/** Shortest batch on disk, and what its place costs in the index of the segment being written. */
const BATCH_DISK_BYTES = 4 * KIB;
const INDEX_BATCH_BYTES = 32;
/** Index of a segment as it is written: a stream with the longest name, and an entry. */
const INDEX_STREAM_FILE_BYTES = 212;
const INDEX_ENTRY_FILE_BYTES = 4;
/** For whatever is not in a row: fragmentation, garbage not yet collected. */
const SLACK = 0.1;

/**
 * Old space of each kind of thread for code, buffers' handles and garbage between two collections, and for the names of
 * MAX_STREAM_IDS streams; the commit thread's holds MAX_INDEX_ENTRIES as well. test/ingress/heap-caps.test.ts fills them.
 */
const MAIN_OLD_MIB = 28;
const ACCEPT_OLD_MIB = 28;
const COMMIT_OLD_MIB = 20;
/** Young generation: three semi-spaces. With 4 MiB a request costs as much CPU as with 16, as far as could be told; with 2 it costs more. */
const ACCEPT_SEMI_MIB = 4;
const COMMIT_YOUNG_MIB = 3;
const DECODE_YOUNG_MIB = 3;
/** Where a schema parses records: garbage on the heap, and much of it. */
const PARSE_YOUNG_MIB = 12;
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
  const connectionsMiB = toMiB(gateway.maxConnections * CONNECTION_HEAP_BYTES);
  const dedupeMiB = gateway.dedupeMs === 0 ? 0 : toMiB(gateway.dedupeKeys * ENTRY_BYTES);
  const oldMiB = MAIN_OLD_MIB + dedupeMiB + (gateway.acceptThreads === 1 ? waitingMiB + connectionsMiB : 0);
  const indexMiB = toMiB((log.segmentBytes / BATCH_DISK_BYTES) * INDEX_BATCH_BYTES);
  const parses = Object.values(gateway.streams).some(({ schema }) => schema !== undefined);
  return {
    main: {
      oldMiB,
      semiMiB: ACCEPT_SEMI_MIB,
      flags: [`--max-old-space-size=${oldMiB}`, `--max-semi-space-size=${ACCEPT_SEMI_MIB}`],
    },
    commit: workerCap(COMMIT_OLD_MIB + indexMiB, COMMIT_YOUNG_MIB),
    accept: workerCap(ACCEPT_OLD_MIB + waitingMiB + connectionsMiB, 3 * ACCEPT_SEMI_MIB),
    decode: workerCap(decodeHeapMiB(parses ? log.maxRecordBytes : 0), parses ? PARSE_YOUNG_MIB : DECODE_YOUNG_MIB),
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

/** Bytes that one lane takes, its control words, acknowledgements, and what the adaptive window has seen of it included. */
function laneBytes(log: LogOptions): number {
  const smallest = 4 * KIB;
  const seen = log.window.sloP99Ms === 0 ? 0 : HISTOGRAM_BYTES;
  return createLaneBuffer(smallest).byteLength - smallest + log.laneBytes + seen;
}

/** What a connection holds that is not read: the kernel, and what node has read and nobody took. */
function unreadBytes({ receiveBufferBytes }: GatewayOptions): number {
  const kernelBytes = KERNEL_FACTOR * receiveBufferBytes;
  return kernelBytes + READ_AHEAD_BYTES + Math.min(kernelBytes, SOCKET_READ_BYTES);
}

const row = (what: string, bytes: number, ...options: string[]): MemoryRow => ({ what, bytes, options });

/** The most that this configuration takes, row by row. */
export function memorySum(log: LogOptions, gateway: GatewayOptions): MemorySum {
  const caps = heapCaps(log, gateway);
  const accepts = gateway.acceptThreads;
  const acceptWorkers = accepts === 1 ? 0 : accepts;
  const decoders = accepts * gateway.decodeThreads;
  /** One more than there are threads that decode: the next body is ready when one is done. */
  const slots = accepts + decoders;
  const connections = accepts * gateway.maxConnections;
  const connectionBytes = CONNECTION_BYTES + (gateway.tlsCert === undefined ? 0 : TLS_CONNECTION_BYTES);
  const indexBytes =
    MAX_STREAM_IDS * INDEX_STREAM_FILE_BYTES +
    MAX_INDEX_ENTRIES * INDEX_ENTRY_FILE_BYTES +
    (log.segmentBytes / BATCH_DISK_BYTES) * 8;
  const mainOptions = acceptWorkers === 0 ? ['dedupeKeys', 'maxWaitingBytes', 'maxConnections'] : ['dedupeKeys'];
  const rows = [
    row('node', NODE_BASE_BYTES),
    row('worker threads', (1 + acceptWorkers + decoders) * THREAD_BYTES, 'acceptThreads', 'decodeThreads'),
    row('heap of the main thread', (caps.main.oldMiB + 3 * caps.main.semiMiB) * MIB, ...mainOptions),
    row('heap of the commit thread', heapBytes(caps.commit), 'segmentBytes'),
    row('heaps of the accept threads', acceptWorkers * heapBytes(caps.accept), 'acceptThreads', 'maxWaitingBytes'),
    row('heaps of the decode threads', decoders * heapBytes(caps.decode), 'decodeThreads', 'maxRecordBytes'),
    // The log's own lane is never used: its pages are not there.
    row('lanes', accepts * laneBytes(log), 'laneBytes', 'acceptThreads'),
    row('staging of batches', STAGING_BUFFERS * maxBatchBytes(log) + FILL_BYTES, 'window.maxBytes', 'maxRecordBytes'),
    row('compression of batches', log.codec === 'none' ? 0 : maxBatchBytes(log) + COMPRESSOR_BYTES, 'codec'),
    // The one that is kept, and the one that zlib makes; of batches as this opening writes them.
    row(
      'batches decompressed for readers',
      log.codec === 'none' ? 0 : accepts * 2 * maxBatchBytes(log),
      'codec',
      'window.maxBytes',
    ),
    row('index being written', indexBytes, 'segmentBytes'),
    row('connections', connections * connectionBytes, 'maxConnections', 'acceptThreads'),
    row(
      'unread by connections',
      connections * unreadBytes(gateway) + accepts * LARGE_RECEIVE_CONNECTIONS * KERNEL_FACTOR * LARGE_RECEIVE_BYTES,
      'maxConnections',
      'receiveBufferBytes',
    ),
    row(
      'bodies under way',
      accepts * (gateway.ingressBytes + gateway.wireBodyBytes),
      'ingressBytes',
      'wireBodyBytes',
      'acceptThreads',
    ),
    row('answers to readers', accepts * answersBytes(log.maxRecordBytes), 'maxRecordBytes', 'acceptThreads'),
    row('bodies being decoded', slots * gateway.decodedBodyBytes, 'decodedBodyBytes', 'decodeThreads', 'acceptThreads'),
    row(
      'arrivals to be written down',
      gateway.recordArrivals === undefined ? 0 : accepts * ARRIVAL_RING_BYTES,
      'recordArrivals',
      'acceptThreads',
    ),
    row('windows of the decode threads', decoders * DECODE_WINDOW_BYTES, 'decodeThreads', 'acceptThreads'),
  ].filter(({ bytes }) => bytes > 0);
  const sum = rows.reduce((total, { bytes }) => total + bytes, 0);
  const slack = Math.ceil(sum * SLACK);
  return { rows: [...rows, row(`slack of ${SLACK * 100} %`, slack)], totalBytes: sum + slack };
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
