// A discrete-event model of what happens to records between their arrival and the answer: a producer's event loop, its lane, the
// window, the commit loop and the disk. The window is the production code (window.ts); the rest follows pipeline/commit-loop.ts and
// load/generator.ts step by step, on a clock of its own. A test plays the same arrivals through the production loop and this.
//
//     arrivals ──▶ producer ──publish──▶ lane ──drain──▶ encode ──▶ durable write ──▶ acknowledgement ─┐
//                  (its timer, its CPU)                                                                │
//                     ▲                                                                                ▼
//                     └──────────────────────────── answers, one by one ◀──────────────────────────────┘
//
// What it keeps of the loop: records gather while a write is under way; a batch that is full already is encoded and queued behind it,
// three at most; ages count from when the loop looked last (not from the record), so that what came during a long write goes at
// once; linger 0 closes as soon as the loop is back; a write of the checkpoint a second, and of zeros for the next segment, stand
// in between. What it leaves out: rolls (one in segmentBytes of log), more than one lane, stalls of a disk that last
// longer than one write, and whatever else the processors do than what was measured.
//
// Limits: one record per arrival, all of the same size. Time: one step per record, some for each batch.
// Deterministic: the same arrivals, costs and seed give the same figures.

import { seededRandom } from '../base/clock.ts';
import { BATCH_HEADER_BYTES, BLOCK_BYTES, CHECKPOINT_MS, FILL_BYTES } from '../base/limits.ts';
import type { WindowOptions } from '../base/options.ts';
import type { CloseReason } from '../base/types.ts';
import { Histogram } from '../platform/histogram.ts';
import { drawn, writeMs, type Costs } from './costs.ts';
import { Producer } from './model-producer.ts';
import { closeReason, fullBy, remainingMs } from './window.ts';

export interface Load {
  /** When a record is due, in ms, ascending. */
  readonly arrivalsMs: Float64Array;
  /** Of one record in the lane, header included. */
  readonly frameBytes: number;
  /** Of a batch on disk, beside header and records: the stream table. */
  readonly tableBytes: number;
  readonly laneBytes: number;
  /** Records under way at most: further ones stay due. */
  readonly maxUnderWay: number;
}

/** One batch, for whoever looks on. */
export interface ModelBatch {
  readonly records: number;
  readonly reason: CloseReason;
  readonly closedMs: number;
}

export interface Forecast {
  readonly records: number;
  readonly batches: number;
  readonly closeReasons: Readonly<Record<CloseReason, number>>;
  /** From the intended time of a record to its answer, in µs. */
  readonly latencyUs: Histogram;
  readonly batchRecords: Histogram;
  /** Most bytes that lay in the lane. */
  readonly laneBytes: number;
  /** Shares of the time, 0 … 1. */
  readonly diskBusy: number;
  readonly producerBusy: number;
}

/** At most so many writes are under way beside the one whose batch waits: as in log.append. */
const QUEUED_WRITES = 2;

/** Shortest wait: what is left of a linger may be too little for a clock of fractions to move by. */
const TICK_MS = 1e-6;

class CommitModel {
  readonly #window: WindowOptions;
  readonly #load: Load;
  readonly #costs: Costs;
  readonly #random: () => number;
  readonly #producer: Producer;
  readonly #onBatch: (batch: ModelBatch) => void;
  readonly #underWay: { readonly end: number; readonly endMs: number }[] = [];
  readonly closeReasons: Record<CloseReason, number> = { records: 0, bytes: 0, linger: 0, flush: 0, idle: 0 };
  readonly batchRecords = new Histogram();
  batches = 0;
  laneBytes = 0;
  diskMs = 0;
  nowMs = 0;
  /** Records taken from the lane, and those that are durable. */
  #head = 0;
  #durable = 0;
  #checkpointed = 0;
  #notBeforeMs = 0;
  #diskFreeMs = 0;
  #behindSinceMs: number | undefined;
  #logBytes = 0;
  #fills = 0;

  constructor(window: WindowOptions, load: Load, costs: Costs, seed: number, onBatch: (batch: ModelBatch) => void) {
    this.#window = window;
    this.#load = load;
    this.#costs = costs;
    this.#random = seededRandom(seed);
    this.#producer = new Producer(load, costs, seededRandom(seed + 1));
    this.#onBatch = onBatch;
  }

  get producer(): Producer {
    return this.#producer;
  }

  run(): void {
    while (this.#head < this.#load.arrivalsMs.length) this.#turn();
    this.#producer.finish();
  }

  #turn(): void {
    const records = this.#available();
    const bytes = records * this.#load.frameBytes;
    this.laneBytes = Math.max(this.laneBytes, bytes);
    const waiting = { records, bytes, flush: false, ageMs: records === 0 ? 0 : this.nowMs - this.#notBeforeMs };
    const reason = closeReason(this.#window, waiting);
    if (reason !== undefined) {
      this.#commit(reason, records);
      this.#checkpointMs();
    } else if (records === 0) this.#idle();
    else this.#linger(Math.min(this.#checkpointMs(), remainingMs(this.#window, waiting)));
  }

  #available(): number {
    return this.#producer.publishedBy(this.nowMs) - this.#head;
  }

  #idle(): void {
    const leftMs = this.#checkpointMs();
    this.#sleep(this.#head, this.#behindSinceMs === undefined ? Infinity : this.nowMs + leftMs);
    this.#notBeforeMs = this.nowMs;
  }

  #linger(waitMs: number): void {
    const { maxRecords, maxBytes } = this.#window;
    const enough = Math.min(maxRecords, Math.ceil(maxBytes / this.#load.frameBytes));
    this.#sleep(this.#head + enough - 1, this.nowMs + Math.max(waitMs, TICK_MS));
  }

  /** Until that record is published, or the time has come. */
  #sleep(record: number, untilMs: number): void {
    const atMs = this.#producer.publishes(record, untilMs);
    if (atMs !== undefined && atMs <= this.nowMs) return;
    const { wakeMs, timerLateMs } = this.#costs;
    this.nowMs = atMs === undefined ? untilMs + this.#draw(timerLateMs) : atMs + this.#draw(wakeMs);
  }

  #commit(reason: CloseReason, available: number): void {
    const { frameBytes, tableBytes } = this.#load;
    const { maxRecords, maxBytes } = this.#window;
    const drainedMs = this.nowMs;
    // The first record is taken whatever its size.
    const records = Math.min(available, maxRecords, Math.max(1, Math.floor(maxBytes / frameBytes)));
    const bytes = records * frameBytes;
    const full = fullBy(this.#window, records, bytes) ?? (records < available ? 'bytes' : reason);
    this.#head += records;
    const left = available - records;
    const overlap = fullBy(this.#window, left, left * frameBytes) !== undefined;
    this.nowMs += this.#costs.batchMs + bytes * this.#costs.encodeMsPerByte;
    this.#count(full, records, drainedMs);
    const body = BATCH_HEADER_BYTES + tableBytes + bytes;
    this.#write(Math.ceil(body / BLOCK_BYTES) * BLOCK_BYTES, overlap);
    this.#notBeforeMs = drainedMs;
    this.#producer.acknowledge(this.#durable, this.#head, this.nowMs + this.#draw(this.#costs.backMs));
  }

  #write(batchBytes: number, overlap: boolean): void {
    const ms = writeMs(this.#costs.writes, batchBytes, this.#random());
    this.diskMs += ms;
    this.#diskFreeMs = Math.max(this.nowMs, this.#diskFreeMs) + ms;
    this.#underWay.push({ end: this.#head, endMs: this.#diskFreeMs });
    while (this.#underWay.length > (overlap ? QUEUED_WRITES : 0)) this.#settle();
    this.#logBytes += batchBytes;
    if (this.#logBytes < (this.#fills + 1) * FILL_BYTES) return;
    this.#fills++;
    this.nowMs += this.#draw(this.#costs.fillMs);
  }

  #settle(): void {
    const { end, endMs } = this.#underWay.shift()!;
    this.nowMs = Math.max(this.nowMs, endMs);
    this.#durable = end;
  }

  #count(reason: CloseReason, records: number, closedMs: number): void {
    this.closeReasons[reason]++;
    this.batches++;
    this.batchRecords.record(records);
    this.#onBatch({ records, reason, closedMs });
  }

  /** Writes the durable end down where that is due. @returns ms until it will be */
  #checkpointMs(): number {
    if (this.#durable === this.#checkpointed) return CHECKPOINT_MS;
    this.#behindSinceMs ??= this.nowMs;
    const leftMs = this.#behindSinceMs + CHECKPOINT_MS - this.nowMs;
    if (leftMs > 0) return leftMs;
    this.nowMs += this.#draw(this.#costs.checkpointMs);
    this.#checkpointed = this.#durable;
    this.#behindSinceMs = undefined;
    return CHECKPOINT_MS;
  }

  #draw(ms: Float64Array): number {
    return drawn(ms, this.#random());
  }
}

/** Plays the arrivals with this window. @param onBatch called for each batch, in order */
export function simulate(
  window: WindowOptions,
  load: Load,
  costs: Costs,
  seed: number,
  onBatch: (batch: ModelBatch) => void = () => undefined,
): Forecast {
  const model = new CommitModel(window, load, costs, seed, onBatch);
  model.run();
  const { producer } = model;
  const spanMs = Math.max(model.nowMs, Number.MIN_VALUE);
  return {
    records: producer.answered,
    batches: model.batches,
    closeReasons: model.closeReasons,
    latencyUs: producer.latencyUs,
    batchRecords: model.batchRecords,
    laneBytes: model.laneBytes,
    diskBusy: Math.min(1, model.diskMs / spanMs),
    producerBusy: Math.min(1, producer.busyMs / spanMs),
  };
}

/** Two plays of as many arrivals as one: shares are means, histograms and counts are added up. */
export function together(a: Forecast, b: Forecast): Forecast {
  a.latencyUs.merge(b.latencyUs);
  a.batchRecords.merge(b.batchRecords);
  const part = a.records / (a.records + b.records);
  const closeReasons = { ...a.closeReasons };
  for (const reason of Object.keys(closeReasons) as CloseReason[]) closeReasons[reason] += b.closeReasons[reason];
  return {
    records: a.records + b.records,
    batches: a.batches + b.batches,
    closeReasons,
    latencyUs: a.latencyUs,
    batchRecords: a.batchRecords,
    laneBytes: Math.max(a.laneBytes, b.laneBytes),
    diskBusy: a.diskBusy * part + b.diskBusy * (1 - part),
    producerBusy: a.producerBusy * part + b.producerBusy * (1 - part),
  };
}
