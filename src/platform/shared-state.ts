// The block of shared memory that every thread of one log sees. Map (bytes; cursors 128 apart, so that no two writers
// share a cache line):
//
//      0  DOORBELL       i32  producers and callers count up; the commit worker waits for it
//    128  SLEEPING       i32  commit worker: the number of its sleep while it waits, else 0: producers ring once for each
//    256  STATE          i32  commit worker: index into `states`
//    260  COMMANDS       i32  callers count up per command posted; the commit worker reads its port when it moved
//    264  STREAM_IDS     i32  any producer: last stream id handed out (atomic add)
//    384  PROGRESS       i32  commit worker: signalled when the durable offset or the state moved; readers wait for it
//    512  offsets        i64  commit worker: appended, durable, start (offset after the last record of each)
//    640  counters       f64  commit worker's FileIo (base/limits.ts: counterSlots)
//    768  log statistics f64  commit worker (statSlots below)
//   1024  failure       utf8  whoever sets the state `poisoned`, before it does: the error, as JSON, length first (u32)
//   2048  histograms     f64  commit worker: of each batch, see logHistogramNames
//         stream marks   i32  commit worker (stream-marks.ts), behind the histograms
//
// The f64 parts are plain numbers with one writing thread each: a reader in another thread may see figures that are a
// few batches old, never torn ones (aligned 8-byte stores).

import { SpillwayError, type ErrorMessage } from '../base/errors.ts';
import { COUNTER_SLOTS, counterSlots, type CounterName } from '../base/limits.ts';
import { closeReasons, type CloseReason, type LogState } from '../base/types.ts';
import { Histogram, HISTOGRAM_BYTES } from './histogram.ts';
import { STREAM_MARKS_BYTES, StreamMarks } from './stream-marks.ts';
import { signal } from './waiter.ts';

const states: readonly LogState[] = ['opening', 'open', 'full', 'draining', 'closed', 'poisoned'];

const word = { doorbell: 0, sleeping: 32, state: 64, commands: 65, streamIds: 66, progress: 96 } as const;
const OFFSETS_AT = 512;
const COUNTERS_AT = 640;
const STATS_AT = 768;
const FAILURE_AT = 1024;
const HISTOGRAMS_AT = 2048;
/** Of each batch: µs of its durable write, its records, and their bytes with frame headers. */
export const logHistogramNames = ['durableWrite', 'batchRecords', 'batchBytes'] as const;
export type LogHistogramName = (typeof logHistogramNames)[number];
const STREAM_MARKS_AT = HISTOGRAMS_AT + logHistogramNames.length * HISTOGRAM_BYTES;

const statSlots = {
  batches: 0,
  records: 1,
  recordBytes: 2,
  diskBytes: 3,
  checkpoints: 4,
  rolls: 5,
  fillBytes: 6,
  segments: 7,
  lanes: 8,
  retentionFailures: 9,
  openedMs: 10, // by the monotonic clock
  compressedBatches: 11,
  compressedRawBytes: 12,
  compressedBytes: 13,
  compressUs: 14,
  windowSloMs: 15, // 0: the window stays as it is
  windowLingerMs: 16,
  windowP99Ms: 17, // of the last control interval; -1 before the first
  windowReason: 18, // index into windowReasons (window/aimd.ts)
  windowDecisions: 19,
  windowBreaches: 20,
  windowUnreachable: 21, // 1 while it is
  windowFileFailures: 22,
  closeReasons: 23, // … 27: one per reason
} as const;
export type StatName = Exclude<keyof typeof statSlots, 'closeReasons'>;

export type OffsetName = 'appended' | 'durable' | 'start';
const offsetSlots: Record<OffsetName, number> = { appended: 0, durable: 1, start: 2 };

export class SharedState {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly doorbell = word.doorbell;
  readonly sleeping = word.sleeping;
  readonly commands = word.commands;
  readonly progress = word.progress;
  readonly counters: Float64Array;
  readonly histograms: Readonly<Record<LogHistogramName, Histogram>>;
  readonly marks: StreamMarks;
  readonly #offsets: BigInt64Array;
  readonly #stats: Float64Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(STREAM_MARKS_AT + STREAM_MARKS_BYTES)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, OFFSETS_AT / 4);
    this.#offsets = new BigInt64Array(buffer, OFFSETS_AT, 3);
    this.counters = new Float64Array(buffer, COUNTERS_AT, COUNTER_SLOTS);
    this.#stats = new Float64Array(buffer, STATS_AT, statSlots.closeReasons + closeReasons.length);
    const histograms = {} as Record<LogHistogramName, Histogram>;
    logHistogramNames.forEach((name, i) => {
      histograms[name] = new Histogram(buffer, HISTOGRAMS_AT + i * HISTOGRAM_BYTES);
    });
    this.histograms = histograms;
    this.marks = new StreamMarks(buffer, STREAM_MARKS_AT);
  }

  get state(): LogState {
    return states[Atomics.load(this.words, word.state)];
  }

  /** Commit worker only. Signal PROGRESS afterwards. */
  set state(state: LogState) {
    Atomics.store(this.words, word.state, states.indexOf(state));
  }

  /** Ends all acknowledgement: every thread sees this error from now on. The first one stays. */
  fail(error: ErrorMessage): void {
    if (this.state === 'poisoned' || this.state === 'closed') return;
    const room = HISTOGRAMS_AT - FAILURE_AT - 4;
    let text = Buffer.from(JSON.stringify({ code: error.code, message: error.message }));
    if (text.length > room)
      text = Buffer.from(JSON.stringify({ code: error.code, message: error.message.slice(0, room >> 3) }));
    new Uint8Array(this.buffer, FAILURE_AT + 4, text.length).set(text);
    new Uint32Array(this.buffer, FAILURE_AT, 1)[0] = text.length;
    this.state = 'poisoned';
    signal(this.words, this.progress);
  }

  /** The error that `fail` was given; undefined while all is well. */
  failure(): SpillwayError | undefined {
    if (this.state !== 'poisoned') return undefined;
    const length = new Uint32Array(this.buffer, FAILURE_AT, 1)[0];
    const { code, message } = JSON.parse(
      Buffer.from(new Uint8Array(this.buffer, FAILURE_AT + 4, length)).toString(),
    ) as ErrorMessage;
    return new SpillwayError(code, message);
  }

  /** Any producing thread. Ids are never used twice in the life of a log handle; 0 is never given out. */
  nextStreamId(): number {
    return Atomics.add(this.words, word.streamIds, 1) + 1;
  }

  offset(name: OffsetName): number {
    return Number(Atomics.load(this.#offsets, offsetSlots[name]));
  }

  setOffset(name: OffsetName, offset: number): void {
    Atomics.store(this.#offsets, offsetSlots[name], BigInt(offset));
  }

  add(stat: StatName, amount: number): void {
    this.#stats[statSlots[stat]] += amount;
  }

  set(stat: StatName, value: number): void {
    this.#stats[statSlots[stat]] = value;
  }

  stat(stat: StatName): number {
    return this.#stats[statSlots[stat]];
  }

  countClose(reason: CloseReason): void {
    this.#stats[statSlots.closeReasons + closeReasons.indexOf(reason)]++;
  }

  closeCounts(): Record<CloseReason, number> {
    const counts = {} as Record<CloseReason, number>;
    closeReasons.forEach((r, i) => (counts[r] = this.#stats[statSlots.closeReasons + i]));
    return counts;
  }

  systemCalls(): Record<CounterName, number> {
    const calls = {} as Record<CounterName, number>;
    for (const name of Object.keys(counterSlots) as CounterName[]) calls[name] = this.counters[counterSlots[name]];
    return calls;
  }
}
