// One call of append, appendMany or appendFrames on its way through a lane: what it holds, and what is checked before.

import { isDetached } from '../base/bytes.ts';
import { SpillwayError } from '../base/errors.ts';
import type { OverflowPolicy } from '../base/gateway-options.ts';
import { MAX_KEY_BYTES, WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import { checkKeys, show } from '../base/options.ts';
import type { Identity } from '../base/types.ts';
import { overflowPolicies } from '../base/gateway-options.ts';
import { FLAG_UNTERMINATED } from '../platform/lane-memory.ts';
import type { Frames } from '../platform/lane-producer.ts';

/** What `append` takes as a record's bytes; text is stored as UTF-8. */
export type Payload = Uint8Array | string;

/** What becomes of a call that finds its lane full. */
export interface Admission {
  /** `block` (the default) waits for room; `drop-newest` refuses it; `drop-oldest` refuses the oldest call that waits. */
  readonly overflow?: OverflowPolicy;
  /** How long `block` waits at most, in ms; without it, as long as it takes. */
  readonly maxBlockMs?: number;
}

export interface AppendOptions extends Admission {
  /** Kept with the record; at most 65,535 bytes. One of 0 bytes is none. */
  readonly key?: Payload;
  /** Marks the last line of a text that ended without a newline. */
  readonly unterminated?: boolean;
}

export interface Appended {
  readonly offset: number;
}

export interface AppendedMany {
  readonly firstOffset: number;
  /** Records of other lanes may stand between the first and the last. */
  readonly lastOffset: number;
  /** Where they do: for each run of records side by side, how many, and the offset of the first. */
  readonly runs?: readonly { readonly records: number; readonly firstOffset: number }[];
}

/** Records of one call, from put to acknowledgement. */
export interface Job {
  readonly stream: string;
  readonly flags: number;
  key: Uint8Array | null;
  /** Let go once all are in the lane: nobody keeps the caller's bytes until they are acknowledged. */
  payloads: readonly Uint8Array[];
  /** Instead of payloads: whole record frames, which go into the lane in one piece. */
  frames: Frames | null;
  readonly identity: Identity | undefined;
  readonly admission: Admission;
  readonly records: number;
  readonly bytes: number;
  readonly startedMs: number;
  /** Ends the waiting of a blocked call. */
  timer: NodeJS.Timeout | undefined;
  /** Records put into the lane so far. */
  put: number;
  /** Records acknowledged so far. */
  acked: number;
  firstOffset: number;
  runs: { records: number; firstOffset: number }[] | undefined;
  readonly resolve: (result: AppendedMany) => void;
  readonly reject: (error: SpillwayError) => void;
}

export const noOptions: AppendOptions = {};
const noPayloads: readonly Uint8Array[] = [];
const noBytes = new Uint8Array(0);

// Hot: per record. The message is only put together when it is needed.
function toBytes(payload: unknown, name: string, index?: number): Uint8Array {
  if (payload instanceof Uint8Array) {
    if (payload.length > 0 || !isDetached(payload)) return payload;
    throw new SpillwayError('INVALID_RECORD', `${name}: its ArrayBuffer was transferred away`, { subject: name });
  }
  if (typeof payload === 'string') return Buffer.from(payload, 'utf8');
  const what = index === undefined ? name : `${name} ${index}`;
  throw new SpillwayError(
    'INVALID_RECORD',
    `${what}: expected a Uint8Array or a string, got ${payload === null ? 'null' : typeof payload}`,
    { subject: what },
  );
}

function checkOptions(options: AppendOptions): void {
  checkKeys(options, ['key', 'unterminated', 'overflow', 'maxBlockMs'], 'append options');
  const { overflow, maxBlockMs } = options;
  if (overflow !== undefined && !overflowPolicies.includes(overflow)) {
    const message = `option 'overflow': expected one of ${overflowPolicies.join(', ')}, got ${show(overflow)}`;
    throw new SpillwayError('INVALID_OPTION', message, { subject: 'overflow' });
  }
  if (maxBlockMs !== undefined && !(typeof maxBlockMs === 'number' && maxBlockMs >= 0)) {
    const message = `option 'maxBlockMs': expected a number from 0, got ${show(maxBlockMs)}`;
    throw new SpillwayError('INVALID_OPTION', message, { subject: 'maxBlockMs' });
  }
}

function newJob(
  content: Pick<Job, 'stream' | 'flags' | 'key' | 'payloads' | 'frames'>,
  records: number,
  bytes: number,
  admission: Admission,
  startedMs: number,
  identity: Identity | undefined,
  resolve: Job['resolve'],
  reject: Job['reject'],
): Job {
  return {
    stream: content.stream,
    flags: content.flags,
    key: content.key,
    payloads: content.payloads,
    frames: content.frames,
    identity,
    admission,
    records,
    bytes,
    startedMs,
    timer: undefined,
    put: 0,
    acked: 0,
    firstOffset: -1,
    runs: undefined,
    resolve,
    reject,
  };
}

/**
 * Checks what a caller gave, and makes a job of it.
 * @throws INVALID_STREAM, INVALID_OPTION, INVALID_RECORD, RECORD_TOO_LARGE
 */
export function jobOfPayloads(
  stream: string,
  payloads: readonly Payload[],
  options: AppendOptions,
  context: { readonly known: boolean; readonly maxRecordBytes: number; readonly startedMs: number },
  identity: Identity | undefined,
  resolve: Job['resolve'],
  reject: Job['reject'],
): Job {
  if (!context.known) checkStreamName(stream);
  if (options !== noOptions) checkOptions(options);
  if (!Array.isArray(payloads)) throw new SpillwayError('INVALID_RECORD', 'appendMany: expected an array of payloads');
  if (payloads.length === 0)
    throw new SpillwayError('INVALID_RECORD', 'appendMany: expected at least one payload, got none');
  const key = options.key === undefined ? null : toBytes(options.key, 'key');
  const keyBytes = key?.length ?? 0;
  if (keyBytes > MAX_KEY_BYTES) {
    throw new SpillwayError('INVALID_RECORD', `key: expected at most ${MAX_KEY_BYTES} bytes, got ${keyBytes}`, {
      subject: 'key',
    });
  }
  const { maxRecordBytes, startedMs } = context;
  // The caller's own array, where it holds no text: what cannot be put at once is copied before this call returns.
  let list: Uint8Array[] | undefined;
  let bytes = 0;
  for (let i = 0; i < payloads.length; i++) {
    const payload = toBytes(payloads[i], 'payload', i);
    if (keyBytes + payload.length > maxRecordBytes) {
      throw new SpillwayError(
        'RECORD_TOO_LARGE',
        `payload ${i}: expected at most maxRecordBytes (${maxRecordBytes}) with its key, got ${keyBytes + payload.length}`,
        { subject: String(i) },
      );
    }
    if (payload !== payloads[i]) list ??= payloads.slice(0, i) as Uint8Array[];
    list?.push(payload);
    bytes += payload.length + keyBytes + WAITER_OVERHEAD_BYTES;
  }
  const flags = options.unterminated === true ? FLAG_UNTERMINATED : 0;
  const content = { stream, flags, key, payloads: list ?? (payloads as readonly Uint8Array[]), frames: null };
  return newJob(content, payloads.length, bytes, options, startedMs, identity, resolve, reject);
}

/** A job of frames that somebody has checked already, see `Lane.appendFrames`. */
export function jobOfFrames(
  stream: string,
  frames: Frames,
  records: number,
  identity: Identity | undefined,
  admission: Admission,
  startedMs: number,
  resolve: Job['resolve'],
  reject: Job['reject'],
): Job {
  const content = { stream, flags: 0, key: null, payloads: noPayloads, frames };
  return newJob(
    content,
    records,
    frames.length + WAITER_OVERHEAD_BYTES,
    admission,
    startedMs,
    identity,
    resolve,
    reject,
  );
}

/** All of it is in the lane: the caller's bytes are let go. */
export function letGo(job: Job): void {
  job.payloads = noPayloads;
  job.frames = null;
  job.key = null;
}

/** Copies what waits, so that the caller may use its buffers again. In one piece: an allocation per record would cost more than the record. */
export function keepOwnCopy(job: Job): void {
  job.key = job.key && new Uint8Array(job.key);
  if (job.frames !== null) {
    const { frames } = job;
    const own = new Uint8Array(frames.length);
    if (frames instanceof Uint8Array) own.set(frames);
    else frames.write(own);
    job.frames = own;
  }
  const { payloads, put } = job;
  let bytes = 0;
  for (let i = put; i < payloads.length; i++) bytes += payloads[i].length;
  const copy = new Uint8Array(bytes);
  let at = 0;
  job.payloads = payloads.map((p, i) => {
    if (i < put) return noBytes;
    copy.set(p, at);
    return copy.subarray(at, (at += p.length));
  });
}

/** The next run of a job's records is acknowledged. */
export function acknowledgeRun(job: Job, firstOffset: number, records: number): void {
  if (job.acked === 0) job.firstOffset = firstOffset;
  else if (job.runs !== undefined || firstOffset !== job.firstOffset + job.acked) {
    job.runs ??= [{ records: job.acked, firstOffset: job.firstOffset }];
    job.runs.push({ records, firstOffset });
  }
  job.acked += records;
}
