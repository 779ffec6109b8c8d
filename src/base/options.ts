// ONE table of options: validation, defaults, `--help` and docs/options.md are all printed from it.
// A wrong value is refused with one line that names the option, what was expected and what came.

import { codecs, type Codec } from './types.ts';
import { SpillwayError } from './errors.ts';
import {
  BATCH_HEADER_BYTES,
  BLOCK_BYTES,
  MAX_STREAM_TABLE_BYTES,
  MAX_WINDOW_BYTES,
  RECORD_ALIGN_BYTES,
  RECORD_HEADER_BYTES,
} from './limits.ts';
import { nearest } from './spelling.ts';
import { formatBytes, parseBytes, show } from './values.ts';

export { formatBytes, parseBytes, show };

type OptionType = 'integer' | 'number' | 'bytes' | 'choice' | 'string';

export interface OptionSpec {
  /** Dotted path in the options object of `open`, or of a configuration file. */
  readonly name: string;
  readonly flag: string;
  readonly type: OptionType;
  readonly default: number | string | undefined;
  readonly min?: number;
  readonly max?: number;
  readonly choices?: readonly string[];
  readonly sentence: string;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

export const logOptionTable = [
  {
    name: 'dir',
    flag: '--dir',
    type: 'string',
    default: undefined,
    sentence: 'Directory of the log; made when missing. One writer at a time.',
  },
  {
    name: 'window.maxRecords',
    flag: '--window-records',
    type: 'integer',
    default: 1000,
    min: 1,
    max: 1_000_000,
    sentence: 'A batch closes at this many records.',
  },
  {
    name: 'window.maxBytes',
    flag: '--window-bytes',
    type: 'bytes',
    default: MIB,
    min: KIB,
    max: MAX_WINDOW_BYTES,
    sentence: 'A batch closes before it exceeds this many bytes of records, their 16-byte headers included.',
  },
  {
    name: 'window.lingerMs',
    flag: '--linger-ms',
    type: 'number',
    default: 2,
    min: 0,
    max: 60_000,
    sentence:
      'How long the oldest record of a batch waits for company; 0 commits what is there as soon as the previous write has returned.',
  },
  {
    name: 'window.sloP99Ms',
    flag: '--window-slo-p99-ms',
    type: 'number',
    default: 0,
    min: 0,
    max: 60_000,
    sentence:
      'Adaptive window: the linger is moved so that the 99th percentile from append to durable stays under this; 0 never. In place of window.lingerMs.',
  },
  {
    name: 'window.law',
    flag: '--window-law',
    type: 'choice',
    default: 'headroom',
    choices: ['headroom', 'aimd'],
    sentence:
      'How the adaptive window moves: headroom goes by what the SLO leaves beside the durable write, aimd is plain additive increase, multiplicative decrease.',
  },
  {
    name: 'io',
    flag: '--io',
    type: 'choice',
    default: 'auto',
    choices: ['auto', 'direct', 'buffered', 'portable', 'js'],
    sentence: 'How a batch is made durable; auto takes the first of direct, buffered, portable, js that works here.',
  },
  {
    name: 'codec',
    flag: '--codec',
    type: 'choice',
    default: 'none',
    choices: codecs,
    sentence:
      'How a batch is compressed, as a whole; one that would not become a block of 4 KiB shorter is stored plain. zstd needs Node 22.15, also of whoever reads the log.',
  },
  {
    name: 'segmentBytes',
    flag: '--segment-bytes',
    type: 'bytes',
    default: 64 * MIB,
    min: 64 * KIB,
    max: GIB,
    sentence: 'Size of one segment file, preallocated; a multiple of 4 KiB.',
  },
  {
    name: 'laneBytes',
    flag: '--lane-bytes',
    type: 'bytes',
    default: 16 * MIB,
    min: 4 * KIB,
    max: GIB,
    sentence: 'Ring memory of one producing thread; a power of two.',
  },
  {
    name: 'maxLanes',
    flag: '--max-lanes',
    type: 'integer',
    default: 16,
    min: 1,
    max: 256,
    sentence: 'Producing threads at the same time; each lane takes laneBytes once it is used.',
  },
  {
    name: 'maxRecordBytes',
    flag: '--max-record-bytes',
    type: 'bytes',
    default: MIB,
    min: 1,
    max: 16 * MIB,
    sentence: 'Largest record, key and payload together; a larger one is refused.',
  },
  {
    name: 'maxWaitingBytes',
    flag: '--max-waiting-bytes',
    type: 'bytes',
    default: 64 * MIB,
    min: 0,
    max: 4 * GIB,
    sentence:
      'Appends that may wait for a full lane, per lane, in bytes; beyond it an append is refused (BACKLOG_FULL).',
  },
  {
    name: 'retentionBytes',
    flag: '--retention-bytes',
    type: 'bytes',
    default: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    sentence: 'Oldest sealed segments go while the log is larger than this; 0 keeps all.',
  },
  {
    name: 'retentionMs',
    flag: '--retention-ms',
    type: 'number',
    default: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    sentence: 'Sealed segments go when their last record is older than this; 0 keeps all.',
  },
] as const satisfies readonly OptionSpec[];

/** What a caller may write: sizes as a number of bytes or as text such as `'1MiB'`. */
export interface LogOptionsInput {
  dir: string;
  window?: {
    maxRecords?: number;
    maxBytes?: number | string;
    lingerMs?: number;
    sloP99Ms?: number;
    law?: 'headroom' | 'aimd';
  };
  io?: 'auto' | 'direct' | 'buffered' | 'portable' | 'js';
  codec?: Codec;
  segmentBytes?: number | string;
  laneBytes?: number | string;
  maxLanes?: number;
  maxRecordBytes?: number | string;
  maxWaitingBytes?: number | string;
  retentionBytes?: number | string;
  retentionMs?: number;
}

export interface WindowOptions {
  readonly maxRecords: number;
  readonly maxBytes: number;
  readonly lingerMs: number;
}

/** Where sloP99Ms is not 0, lingerMs is 0: what an adaptive window begins with, unless an earlier run left something better. */
export interface AdaptiveWindowOptions extends WindowOptions {
  readonly sloP99Ms: number;
  readonly law: 'headroom' | 'aimd';
}

/** The same, checked and complete: structured-cloneable, so that a worker gets exactly this. */
export interface LogOptions {
  readonly dir: string;
  readonly window: AdaptiveWindowOptions;
  readonly io: 'auto' | 'direct' | 'buffered' | 'portable' | 'js';
  readonly codec: Codec;
  readonly segmentBytes: number;
  readonly laneBytes: number;
  readonly maxLanes: number;
  readonly maxRecordBytes: number;
  readonly maxWaitingBytes: number;
  readonly retentionBytes: number;
  readonly retentionMs: number;
}

function unknownOption(name: string, known: readonly string[]): SpillwayError {
  const near = nearest(name, known);
  const hint = near === undefined ? `known are ${known.join(', ')}` : `did you mean '${near}'?`;
  return new SpillwayError('INVALID_OPTION', `unknown option ${show(name)}: ${hint}`, { subject: name });
}

function invalid(spec: OptionSpec, expected: string, came: unknown): never {
  throw new SpillwayError('INVALID_OPTION', `option '${spec.name}': expected ${expected}, got ${show(came)}`, {
    subject: spec.name,
  });
}

/** Checks one value against its row of the table. @throws INVALID_OPTION */
export function checkOption(spec: OptionSpec, value: unknown): number | string {
  if (spec.type === 'string') {
    if (typeof value !== 'string' || value.length === 0 || value.includes('\0'))
      invalid(spec, 'a non-empty text', value);
    return value;
  }
  if (spec.type === 'choice') {
    const choices = spec.choices ?? [];
    if (typeof value !== 'string' || !choices.includes(value)) invalid(spec, `one of ${choices.join(', ')}`, value);
    return value;
  }
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = spec;
  const what =
    spec.type === 'bytes'
      ? `a size from ${formatBytes(min)} to ${formatBytes(max)}, such as 65536 or '64KiB'`
      : `${spec.type === 'integer' ? 'a whole number' : 'a number'} from ${min} to ${max}`;
  const number = spec.type === 'bytes' && typeof value === 'string' ? parseBytes(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number)) invalid(spec, what, value);
  if (spec.type !== 'number' && !Number.isInteger(number)) invalid(spec, what, value);
  if (number < min || number > max) invalid(spec, what, value);
  return number;
}

/** Checks that an object has none but the known keys. @throws INVALID_OPTION naming the nearest */
export function checkKeys(value: unknown, known: readonly string[], where: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SpillwayError('INVALID_OPTION', `${where}: expected an object, got ${show(value)}`, { subject: where });
  }
  for (const key of Object.keys(value)) if (!known.includes(key)) throw unknownOption(key, known);
}

/**
 * Checks what a caller gave `open` and fills in the defaults.
 * @throws INVALID_OPTION naming the option, what was expected and what came
 */
export function resolveLogOptions(input: LogOptionsInput): LogOptions {
  const top = [...new Set(logOptionTable.map((s) => s.name.split('.')[0]))];
  checkKeys(input, top, 'options');
  const inner = logOptionTable.filter((s) => s.name.startsWith('window.')).map((s) => s.name.slice('window.'.length));
  if (input.window !== undefined) checkKeys(input.window, inner, "option 'window'");

  const value = (name: (typeof logOptionTable)[number]['name']): number | string => {
    const spec: OptionSpec = logOptionTable.find((s) => s.name === name)!;
    const [head, tail] = name.split('.');
    const given = input[head as keyof LogOptionsInput];
    const raw = tail === undefined ? given : (given as Record<string, unknown> | undefined)?.[tail];
    return raw === undefined && spec.default !== undefined ? spec.default : checkOption(spec, raw);
  };
  const isAdaptive = value('window.sloP99Ms') !== 0;
  if (isAdaptive && input.window?.lingerMs !== undefined) {
    const message = `option 'window.sloP99Ms': expected it without 'window.lingerMs', which is what it moves, got both`;
    throw new SpillwayError('INVALID_OPTION', message, { subject: 'window.sloP99Ms' });
  }
  const options: LogOptions = {
    dir: value('dir') as string,
    window: {
      maxRecords: value('window.maxRecords') as number,
      maxBytes: value('window.maxBytes') as number,
      lingerMs: isAdaptive ? 0 : (value('window.lingerMs') as number),
      sloP99Ms: value('window.sloP99Ms') as number,
      law: value('window.law') as LogOptions['window']['law'],
    },
    io: value('io') as LogOptions['io'],
    codec: value('codec') as Codec,
    segmentBytes: value('segmentBytes') as number,
    laneBytes: value('laneBytes') as number,
    maxLanes: value('maxLanes') as number,
    maxRecordBytes: value('maxRecordBytes') as number,
    maxWaitingBytes: value('maxWaitingBytes') as number,
    retentionBytes: value('retentionBytes') as number,
    retentionMs: value('retentionMs') as number,
  };
  checkTogether(options);
  return options;
}

function refuse(name: string, expected: string, came: number): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': expected ${expected}, got ${formatBytes(came)}`, {
    subject: name,
  });
}

/** Bounds that tie options to each other. */
function checkTogether(o: LogOptions): void {
  if ((o.laneBytes & (o.laneBytes - 1)) !== 0) refuse('laneBytes', 'a power of two', o.laneBytes);
  if (o.segmentBytes % BLOCK_BYTES !== 0) refuse('segmentBytes', 'a multiple of 4KiB', o.segmentBytes);
  // A frame that does not fit before the lane's end is put at its start, behind padding: in the worst case it needs
  // twice its own size. A quarter leaves room for the batch before it.
  if (o.maxRecordBytes > o.laneBytes / 4) {
    refuse('maxRecordBytes', `at most a quarter of laneBytes (${formatBytes(o.laneBytes / 4)})`, o.maxRecordBytes);
  }
  // A full lane then always holds a full batch: a waiting producer never waits out the linger.
  if (o.window.maxBytes > o.laneBytes / 2) {
    refuse('window.maxBytes', `at most half of laneBytes (${formatBytes(o.laneBytes / 2)})`, o.window.maxBytes);
  }
  const needed = BLOCK_BYTES + maxBatchBytes(o);
  if (o.segmentBytes < needed) {
    refuse('segmentBytes', `at least ${formatBytes(needed)}, so that the largest batch fits`, o.segmentBytes);
  }
}

interface BatchBounds {
  readonly window: WindowOptions;
  readonly maxRecordBytes: number;
}

/** Bytes of records that one batch can hold: the window, or one record that is larger than the window. */
function maxBatchRecordBytes(o: BatchBounds): number {
  return Math.max(o.window.maxBytes, o.maxRecordBytes + RECORD_HEADER_BYTES + RECORD_ALIGN_BYTES);
}

/** Largest batch on disk: header, stream table and records, padded to a block. */
export function maxBatchBytes(o: BatchBounds): number {
  const bytes = BATCH_HEADER_BYTES + MAX_STREAM_TABLE_BYTES + maxBatchRecordBytes(o);
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** A full option line for `--help` and the documentation. */
export function describeOption(spec: OptionSpec): { flag: string; defaultText: string; bounds: string } {
  const asText = (n: number): string => (spec.type === 'bytes' ? formatBytes(n) : String(n));
  const bounds =
    spec.choices !== undefined
      ? spec.choices.join(' | ')
      : spec.min === undefined
        ? ''
        : `${asText(spec.min)} … ${spec.max === Number.MAX_SAFE_INTEGER ? '' : asText(spec.max ?? 0)}`;
  const fallback = spec.default;
  return {
    flag: spec.flag,
    defaultText: fallback === undefined ? 'required' : typeof fallback === 'number' ? asText(fallback) : fallback,
    bounds,
  };
}
