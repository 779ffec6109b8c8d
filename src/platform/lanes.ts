// The consuming side of all lanes together: drains them in turn into one batch plan, and takes acknowledgements back
// to the lane that each record came from.
//
// Fairness: within a batch every lane that has records gets an equal share of the room that is left, again and again
// until the batch is full or the lanes are empty; the lane that begins changes with every batch. So a busy lane can
// fill what others leave over, and no lane waits longer than one batch.

import { MAX_RANGES, MAX_STREAM_IDS, MAX_STREAM_TABLE_BYTES } from '../base/limits.ts';
import type { WindowOptions } from '../base/options.ts';
import type { BatchPlan } from '../base/types.ts';
import { LaneConsumer, type WalkSink } from './lane-consumer.ts';
import type { BatchTimes } from './lane-memory.ts';

/** Records of one lane that stand side by side in a batch. */
interface Run {
  readonly lane: LaneConsumer;
  records: number;
  /** Offset after the last record of this run. */
  end: number;
  batch: BatchTimes;
}

/** Of runs that have no offsets yet. */
const unassigned: BatchTimes = { freeMs: 0, closedMs: 0, durableMs: 0 };

/** Bytes of a stream's row in the batch's stream table. */
export function streamRowBytes(name: string): number {
  return 8 + name.length;
}

/**
 * A walk reports a range where a stream was declared, at the lap's end and at its own end. A declaration stands before
 * the first record of its stream, and the stream table bounds those of one batch.
 */
const MAX_RANGES_OF_A_WALK = Math.ceil(MAX_STREAM_TABLE_BYTES / streamRowBytes('x')) + 3;

/** Plan and walk sink in one: what `drain` fills, over and over again. */
class Plan implements BatchPlan, WalkSink {
  readonly sources: Uint8Array[] = [];
  readonly ranges = new Float64Array(MAX_RANGES * 3);
  rangeCount = 0;
  records = 0;
  recordBytes = 0;
  readonly streamIds: number[] = [];
  readonly streamRecords: number[] = [];
  readonly streamNames: string[] = [];
  readonly counts = new Uint32Array(MAX_STREAM_IDS + 1);
  readonly seenIn = new Uint32Array(MAX_STREAM_IDS + 1);
  batchNumber = 0;
  source = 0;
  #tableBytes = 0;

  begin(): void {
    this.batchNumber++;
    this.rangeCount = 0;
    this.records = 0;
    this.recordBytes = 0;
    this.#tableBytes = 0;
    this.streamIds.length = 0;
  }

  get rangesLeft(): number {
    return MAX_RANGES - this.rangeCount;
  }

  onRange(from: number, to: number): void {
    const r = this.rangeCount * 3;
    this.ranges[r] = this.source;
    this.ranges[r + 1] = from;
    this.ranges[r + 2] = to;
    this.rangeCount++;
  }

  onStream(stream: number): boolean {
    const bytes = this.#tableBytes + streamRowBytes(this.streamNames[stream]);
    if (bytes > MAX_STREAM_TABLE_BYTES) return false;
    this.#tableBytes = bytes;
    this.seenIn[stream] = this.batchNumber;
    this.counts[stream] = 0;
    this.streamIds.push(stream);
    return true;
  }

  onDeclare(stream: number, name: string): void {
    this.streamNames[stream] = name;
  }

  finish(): void {
    this.streamRecords.length = 0;
    for (const id of this.streamIds) this.streamRecords.push(this.counts[id]);
  }
}

export class LaneSet {
  readonly #lanes: LaneConsumer[] = [];
  readonly #plan = new Plan();
  /** Runs of the batch being drained, then of all batches drained and not yet acknowledged, oldest first. */
  #runs: Run[] = [];
  #fresh: Run[] = [];
  /** Batches whose durable write has not returned, oldest first. */
  readonly #unwritten: BatchTimes[] = [];
  #next = 0;
  /** Whether lanes without room for acknowledgements are drained too. */
  #drainsAll = false;

  add(buffer: SharedArrayBuffer): void {
    const lane = new LaneConsumer(buffer);
    this.#lanes.push(lane);
    this.#plan.sources.push(lane.data);
  }

  get size(): number {
    return this.#lanes.length;
  }

  availableRecords(): number {
    let sum = 0;
    for (const lane of this.#lanes) sum += lane.availableRecords();
    return sum;
  }

  availableBytes(): number {
    let sum = 0;
    for (const lane of this.#lanes) sum += lane.availableBytes();
    return sum;
  }

  /**
   * Drains at most one window's worth of records into the plan. The plan is reused by the next call.
   * `full` says which bound of the window ended it, if one did.
   * @param all also lanes whose producer has left all its acknowledgements unread, and is busy, or gone. Else such a lane is
   *   left alone, which bounds what waits for its producer; a flush or a close must not wait for it.
   */
  drain(window: WindowOptions, all = false): { plan: BatchPlan; full: 'records' | 'bytes' | undefined } {
    const plan = this.#plan;
    plan.begin();
    let full: 'records' | 'bytes' | undefined;
    const count = this.#lanes.length;
    // Shares first. Where a round of shares moved nothing (what is left is less than a frame for each), one record each
    // of whatever size still fits.
    let sharing = true;
    this.#drainsAll = all;
    for (let ready = this.#ready(); ready > 0 && full === undefined; ready = this.#ready()) {
      const before = plan.records;
      const parts = sharing ? ready : 1;
      const shareRecords = sharing ? Math.max(1, Math.floor((window.maxRecords - plan.records) / parts)) : 1;
      const shareBytes = Math.floor((window.maxBytes - plan.recordBytes) / parts);
      for (let turn = 0; turn < count && full === undefined; turn++) {
        full = this.#visit((this.#next + turn) % count, window, shareRecords, shareBytes);
      }
      if (plan.records > before) sharing = true;
      else if (sharing) sharing = false;
      else full ??= 'bytes';
    }
    this.#next = count === 0 ? 0 : (this.#next + 1) % count;
    plan.finish();
    return { plan, full };
  }

  /** What is published now. The answer: whether all of it has been drained. */
  mark(): () => boolean {
    const targets = this.#lanes.map((lane) => ({ lane, seq: lane.publishedSeq }));
    return () => targets.every(({ lane, seq }) => lane.hasWalked(seq));
  }

  /** Gives the drained bytes back to the producers: call once they are copied. */
  release(): void {
    for (const lane of this.#lanes) lane.release();
  }

  /**
   * The records of the last drain got the offsets from `firstOffset` on. Acknowledged later, see `acknowledge`.
   * @param freeMs, closedMs of this batch, see BatchTimes
   */
  assign(firstOffset: number, freeMs: number, closedMs: number): void {
    const batch = { freeMs, closedMs, durableMs: 0 };
    this.#unwritten.push(batch);
    let end = firstOffset;
    for (const run of this.#fresh) {
      end += run.records;
      run.end = end;
      run.batch = batch;
      this.#runs.push(run);
    }
    this.#fresh = [];
  }

  /** The durable write of the oldest batch that was assigned and not yet written has returned. */
  written(durableMs: number): void {
    const batch = this.#unwritten.shift();
    if (batch !== undefined) batch.durableMs = durableMs;
  }

  /**
   * THE acknowledgement: everything below `durableOffset`, which a durable write has returned for. A lane without room for
   * it gets it later.
   */
  acknowledge(durableOffset: number): void {
    const without = new Set<LaneConsumer>();
    this.#runs = this.#runs.filter((run) => {
      if (run.end > durableOffset) return true;
      // Room may come while this goes on; the order of a lane's acknowledgements must stay.
      if (without.has(run.lane) || run.lane.ackRoom() === 0) {
        without.add(run.lane);
        return true;
      }
      run.lane.acknowledge(run.end - run.records, run.records, run.batch);
      return false;
    });
    this.notifyAll();
  }

  /** Whether durable records wait for room in their lane to be acknowledged. */
  owesBelow(durableOffset: number): boolean {
    return this.#runs.some((run) => run.end <= durableOffset);
  }

  notifyAll(): void {
    for (const lane of this.#lanes) lane.notify();
  }

  /**
   * Before sleeping: rings once `records` or `bytes` wait in all lanes together, or a little earlier: each lane rings when it has
   * brought its part of what is lacking. What waits now is looked at once, so that what is lacking and where each lane
   * stands belong together.
   */
  wakeAt(records: number, bytes: number): void {
    const now = this.#lanes.map((lane) => ({ lane, records: lane.availableRecords(), bytes: lane.availableBytes() }));
    const part = (bound: number, waiting: number): number => Math.max(1, Math.ceil((bound - waiting) / now.length));
    const recordsEach = part(
      records,
      now.reduce((sum, l) => sum + l.records, 0),
    );
    const bytesEach = part(
      bytes,
      now.reduce((sum, l) => sum + l.bytes, 0),
    );
    for (const l of now) l.lane.wakeAfter(l.records + recordsEach, l.bytes + bytesEach);
  }

  /** Forgets lanes that their producer closed and whose every acknowledgement was read. Returns how many. */
  retire(): number {
    let retired = 0;
    for (let i = this.#lanes.length - 1; i >= 0; i--) {
      const lane = this.#lanes[i];
      if (!lane.closedAndEmpty || !lane.acksRead || this.#runs.some((r) => r.lane === lane)) continue;
      this.#lanes.splice(i, 1);
      this.#plan.sources.splice(i, 1);
      retired++;
    }
    if (retired > 0) this.#next = 0;
    return retired;
  }

  /** Lanes that have records and room for their acknowledgements. */
  #ready(): number {
    let ready = 0;
    for (const lane of this.#lanes) if (lane.availableBytes() > 0 && this.#ackRoom(lane) > 0) ready++;
    return ready;
  }

  #ackRoom(lane: LaneConsumer): number {
    if (this.#drainsAll) return 1;
    let promised = 0;
    for (const run of this.#runs) if (run.lane === lane) promised++;
    for (const run of this.#fresh) if (run.lane === lane) promised++;
    return lane.ackRoom() - promised;
  }

  #visit(
    index: number,
    window: WindowOptions,
    shareRecords: number,
    shareBytes: number,
  ): 'records' | 'bytes' | undefined {
    const lane = this.#lanes[index];
    const plan = this.#plan;
    if (lane.availableBytes() === 0 || this.#ackRoom(lane) === 0) return undefined;
    if (plan.rangesLeft < MAX_RANGES_OF_A_WALK) return 'bytes';
    plan.source = index;
    const roomRecords = Math.min(shareRecords, window.maxRecords - plan.records);
    if (roomRecords <= 0) return 'records';
    const roomBytes = Math.min(shareBytes, window.maxBytes - plan.recordBytes);
    lane.walk(plan, roomRecords, roomBytes, plan.records === 0);
    plan.records += lane.walkedRecords;
    plan.recordBytes += lane.walkedBytes;
    if (lane.walkedRecords > 0) this.#addRun(lane, lane.walkedRecords);
    if (plan.records >= window.maxRecords) return 'records';
    if (plan.recordBytes >= window.maxBytes) return 'bytes';
    // The share ended it, or a frame too large for what is left: others have their turn.
    return undefined;
  }

  #addRun(lane: LaneConsumer, records: number): void {
    const last = this.#fresh.at(-1);
    if (last !== undefined && last.lane === lane) last.records += records;
    else this.#fresh.push({ lane, records, end: 0, batch: unassigned });
  }
}
