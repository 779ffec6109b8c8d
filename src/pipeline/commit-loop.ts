// The commit loop: drains the lanes, lets the window close batches, makes each durable with one write, acknowledges.
// Runs on a thread of its own and may block. `acknowledge` is the only producer of acknowledgements.
//
//     wait ──records──▶ window closes? ──no──▶ wait for company (linger)
//      ▲                   │ yes
//      │                   ▼
//      └── acknowledge ◀── durable write ◀── encode ◀── drain          (the next batch is encoded during the write
//                                                                       when it is already full)
//
// Asserted in every turn: appendedOffset ≥ durableOffset ≥ what has been acknowledged.

import type { Clock } from '../base/clock.ts';
import { isDiskFull, SpillwayError, toErrorMessage, type ErrorMessage } from '../base/errors.ts';
import { BUSY_LANE_POLL_MS, CHECKPOINT_MS, CLOSE_GRACE_MS, DISK_FULL_RETRY_MS } from '../base/limits.ts';
import type { WindowOptions } from '../base/options.ts';
import type { BatchPlan, CloseReason } from '../base/types.ts';
import type { Log } from '../log/log.ts';
import { LaneSet } from '../platform/lanes.ts';
import type { SharedState } from '../platform/shared-state.ts';
import { signal, waitForSignal } from '../platform/waiter.ts';
import { closeReason, fullBy, remainingMs, type Waiting } from '../window/window.ts';
import type { WindowControl } from './window-control.ts';

export type Command =
  | { readonly id: number; readonly kind: 'lane'; readonly buffer: SharedArrayBuffer }
  | { readonly id: number; readonly kind: 'flush' }
  | { readonly id: number; readonly kind: 'truncate'; readonly offset: number }
  | { readonly id: number; readonly kind: 'close' };

export type Reply = { readonly id: number; readonly error?: ErrorMessage };

/** Where commands come from; after posting one, the caller counts COMMANDS up and rings the doorbell. */
export interface CommandPort {
  next(): Command | undefined;
  reply(reply: Reply): void;
}

interface Flush {
  readonly id: number;
  readonly drained: () => boolean;
}

export class CommitLoop {
  readonly #shared: SharedState;
  readonly #log: Log;
  readonly #window: WindowOptions;
  readonly #clock: Clock;
  readonly #port: CommandPort;
  /** Moves the linger of the window; undefined where it stays. */
  readonly #control: WindowControl | undefined;
  readonly #lanes = new LaneSet();
  #flushes: Flush[] = [];
  #closeId: number | undefined;
  /** Whether everything published when the close was asked for is drained; what comes later is not waited for. */
  #closeDrained: () => boolean = () => false;
  /** Before this moment nothing that waits now was there: ages are counted from here. */
  #notBefore: number;
  #lastCommitAt: number;
  /** When it had finished with the batch before, and looked for the next. */
  #freeMs: number;
  /** When the first batch was written that the checkpoint does not know. */
  #behindSince: number | undefined;
  #acknowledgedOffset: number;
  #commandsSeen = 0;
  /** Numbers each sleep, from 1: a producer rings once for each. */
  #sleeps = 0;

  constructor(
    shared: SharedState,
    log: Log,
    window: WindowOptions,
    clock: Clock,
    port: CommandPort,
    control?: WindowControl,
  ) {
    this.#shared = shared;
    this.#log = log;
    this.#window = control?.window ?? window;
    this.#control = control;
    shared.set('windowLingerMs', this.#window.lingerMs);
    this.#clock = clock;
    this.#port = port;
    this.#notBefore = clock.monotonicMs();
    this.#lastCommitAt = this.#notBefore;
    this.#freeMs = this.#notBefore;
    shared.set('openedMs', this.#notBefore);
    this.#acknowledgedOffset = log.durableOffset;
    this.#publishOffsets();
    shared.state = 'open';
    log.onWrite = (us, atMs) => {
      shared.histograms.durableWrite.record(us);
      this.#lanes.written(atMs);
    };
  }

  /**
   * Runs until a `close` command has been carried out; returns the answer to it, to be sent once the directory is free.
   * Does not throw: what fails is told to all callers.
   */
  run(): Reply {
    try {
      while (this.#turn());
      // The last batch may still be under way, where another lane held a full one behind it: it is acknowledged too.
      this.#log.settleAll();
      this.#acknowledge();
      this.#waitForBusyLanes();
      this.#log.close();
      this.#control?.close();
    } catch (error) {
      return this.#fail(error);
    }
    return this.#finish();
  }

  /** Whether a lane has no room for acknowledgements of what is durable. */
  #isOwing(): boolean {
    return this.#lanes.owesBelow(this.#log.durableOffset);
  }

  /** A producer that is busy reads its acknowledgements when it comes round; one that is gone never does. */
  #waitForBusyLanes(): void {
    const until = this.#clock.monotonicMs() + CLOSE_GRACE_MS;
    while (this.#isOwing() && this.#clock.monotonicMs() < until) {
      const seen = Atomics.load(this.#shared.words, this.#shared.doorbell);
      waitForSignal(this.#shared.words, this.#shared.doorbell, seen, 1);
      this.#acknowledge();
    }
  }

  /** One turn: at most one batch, or one wait. False once drained after `close`. */
  #turn(): boolean {
    const seen = Atomics.load(this.#shared.words, this.#shared.doorbell);
    this.#obey();
    this.#answerFlushes();
    if (this.#isOwing()) this.#acknowledge();
    const waiting = this.#waiting();
    const reason = closeReason(this.#window, waiting);
    if (reason !== undefined) {
      this.#commit(reason, seen);
      this.#checkpointMs();
      this.#freeMs = this.#clock.monotonicMs();
    } else if (this.#closeId === undefined) this.#sleep(waiting, seen);
    this.#answerFlushes();
    return !(this.#closeId !== undefined && this.#closeDrained());
  }

  #waiting(): Waiting {
    const bytes = this.#lanes.availableBytes();
    const records = this.#lanes.availableRecords();
    const flush = this.#flushes.length > 0 || this.#closeId !== undefined;
    return { records, bytes, flush, ageMs: records === 0 ? 0 : this.#clock.monotonicMs() - this.#notBefore };
  }

  #commit(reason: CloseReason, seen: number): void {
    const drainedAt = this.#clock.monotonicMs();
    const { plan, full } = this.#lanes.drain(this.#window, this.#flushes.length > 0 || this.#closeId !== undefined);
    if (plan.records === 0) {
      // What is under way belongs to other lanes too.
      this.#log.settleAll();
      this.#acknowledge();
      // Every lane with records has unread acknowledgements up to its bound: its thread is busy, or it is gone for good.
      const forLong = drainedAt - this.#lastCommitAt > CLOSE_GRACE_MS;
      waitForSignal(this.#shared.words, this.#shared.doorbell, seen, forLong ? BUSY_LANE_POLL_MS : 1);
      return;
    }
    const closedMs = this.#clock.monotonicMs();
    this.#makeRoom(plan);
    const overlap = fullBy(this.#window, this.#lanes.availableRecords(), this.#lanes.availableBytes()) !== undefined;
    this.#lanes.assign(this.#log.appendedOffset, this.#freeMs, closedMs);
    this.#log.append(plan, overlap);
    this.#lanes.release();
    this.#shared.marks.written(this.#log.appendedOffset, plan.streamIds, plan.streamNames);
    this.#count(plan, full ?? reason);
    this.#notBefore = drainedAt;
    this.#lastCommitAt = this.#clock.monotonicMs();
    this.#acknowledge();
    this.#control?.committed(this.#lastCommitAt);
  }

  /** Writes the durable end down where that is due. @returns ms until it will be */
  #checkpointMs(): number {
    if (!this.#log.checkpointIsBehind) {
      this.#behindSince = undefined;
      return CHECKPOINT_MS;
    }
    const nowMs = this.#clock.monotonicMs();
    this.#behindSince ??= nowMs;
    const leftMs = this.#behindSince + CHECKPOINT_MS - nowMs;
    if (leftMs > 0) return leftMs;
    this.#log.checkpoint();
    this.#behindSince = undefined;
    this.#publishOffsets();
    return CHECKPOINT_MS;
  }

  #acknowledge(): void {
    const { durableOffset, appendedOffset } = this.#log;
    if (appendedOffset < durableOffset || durableOffset < this.#acknowledgedOffset) {
      throw new Error(`offsets out of order: ${appendedOffset}, ${durableOffset}, ${this.#acknowledgedOffset}`);
    }
    this.#publishOffsets();
    this.#lanes.acknowledge(durableOffset);
    this.#acknowledgedOffset = durableOffset;
    signal(this.#shared.words, this.#shared.progress);
  }

  /** Rolls if the batch does not fit, waiting for space on a full disk: producers are held back by their full lanes. */
  #makeRoom(plan: BatchPlan): void {
    while (!this.#log.hasRoomFor(plan)) {
      const seen = Atomics.load(this.#shared.words, this.#shared.doorbell);
      try {
        this.#log.roll();
        if (this.#shared.state === 'full') this.#shared.state = 'open';
        this.#acknowledge();
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        this.#acknowledge();
        this.#shared.state = 'full';
        this.#lanes.notifyAll();
        signal(this.#shared.words, this.#shared.progress);
        this.#obey();
        if (this.#closeId !== undefined)
          throw new SpillwayError('DISK_FULL', `closed while the disk was full: ${(error as Error).message}`);
        // Segments grow old meanwhile, and what is freed is the space that is lacking.
        this.#log.retain();
        this.#publishOffsets();
        waitForSignal(this.#shared.words, this.#shared.doorbell, seen, DISK_FULL_RETRY_MS);
      }
    }
  }

  #sleep(waiting: Waiting, seen: number): void {
    const { words, doorbell, sleeping } = this.#shared;
    const idle = waiting.records === 0;
    if (idle) {
      this.#lanes.retire();
      this.#shared.set('lanes', this.#lanes.size);
    }
    this.#lanes.wakeAt(idle ? 1 : this.#window.maxRecords, idle ? 1 : this.#window.maxBytes);
    this.#sleeps = (this.#sleeps + 1) & 0x7fffffff || 1;
    Atomics.store(words, sleeping, this.#sleeps);
    // Published after the look above and before SLEEPING was set: nobody rang for it.
    const records = this.#lanes.availableRecords();
    const missed = idle ? records > 0 : fullBy(this.#window, records, this.#lanes.availableBytes()) !== undefined;
    const waitMs = idle ? this.#idleMs() : Math.min(this.#checkpointMs(), remainingMs(this.#window, waiting));
    if (!missed) waitForSignal(words, doorbell, seen, this.#isOwing() ? Math.min(waitMs, BUSY_LANE_POLL_MS) : waitMs);
    Atomics.store(words, sleeping, 0);
    if (idle) this.#notBefore = this.#clock.monotonicMs();
  }

  /** Time until the next chore of an idle log; does those that are due. */
  #idleMs(): number {
    this.#log.retain();
    this.#publishOffsets();
    const leftMs = this.#checkpointMs();
    this.#freeMs = this.#clock.monotonicMs();
    this.#control?.idle(this.#freeMs);
    return leftMs;
  }

  #obey(): void {
    const commands = Atomics.load(this.#shared.words, this.#shared.commands);
    if (commands === this.#commandsSeen) return;
    this.#commandsSeen = commands;
    for (let command = this.#port.next(); command !== undefined; command = this.#port.next()) {
      if (command.kind === 'lane') {
        this.#lanes.add(command.buffer);
        this.#control?.addLane(command.buffer);
        this.#shared.set('lanes', this.#lanes.size);
      } else if (command.kind === 'flush') {
        this.#flushes.push({ id: command.id, drained: this.#lanes.mark() });
      } else if (command.kind === 'close') {
        this.#closeId = command.id;
        this.#closeDrained = this.#lanes.mark();
        this.#shared.state = 'draining';
      } else {
        this.#truncate(command.id, command.offset);
      }
    }
  }

  #truncate(id: number, offset: number): void {
    try {
      this.#log.truncateBefore(offset);
      this.#publishOffsets();
      this.#port.reply({ id });
    } catch (error) {
      this.#port.reply({ id, error: toErrorMessage(error) });
      if (this.#log.poison !== undefined) throw error;
    }
  }

  #answerFlushes(): void {
    if (this.#flushes.length === 0) return;
    const done = this.#flushes.filter((f) => f.drained());
    if (done.length === 0) return;
    this.#log.settleAll();
    this.#acknowledge();
    this.#flushes = this.#flushes.filter((f) => !done.includes(f));
    for (const flush of done) this.#port.reply({ id: flush.id });
  }

  #count(plan: BatchPlan, reason: CloseReason): void {
    const shared = this.#shared;
    shared.countClose(reason);
    shared.add('batches', 1);
    shared.add('records', plan.records);
    shared.add('recordBytes', plan.recordBytes);
    shared.histograms.batchRecords.record(plan.records);
    shared.histograms.batchBytes.record(plan.recordBytes);
    shared.set('diskBytes', this.#log.batchBytesWritten);
    const { compression } = this.#log;
    shared.set('compressedBatches', compression.batches);
    shared.set('compressedRawBytes', compression.rawBytes);
    shared.set('compressedBytes', compression.storedBytes);
    shared.set('compressUs', compression.us);
  }

  #publishOffsets(): void {
    const shared = this.#shared;
    shared.setOffset('start', this.#log.startOffset);
    shared.setOffset('appended', this.#log.appendedOffset);
    const { durableOffset } = this.#log;
    shared.marks.published(durableOffset, () => shared.setOffset('durable', durableOffset));
    shared.set('checkpoints', this.#log.checkpoints);
    shared.set('rolls', this.#log.rolls);
    shared.set('fillBytes', this.#log.fillBytes);
    shared.set('segments', this.#log.segments);
    shared.set('retentionFailures', this.#log.retentionFailures);
  }

  #finish(): Reply {
    this.#publishOffsets();
    this.#shared.state = 'closed';
    this.#lanes.notifyAll();
    signal(this.#shared.words, this.#shared.progress);
    return { id: this.#closeId ?? 0 };
  }

  /** Nothing is acknowledged from here on; commands are answered with the error until `close`. */
  #fail(error: unknown): Reply {
    const cause = toErrorMessage(error, 'POISONED');
    const told: ErrorMessage =
      cause.code === 'DISK_FULL' || cause.code === 'POISONED'
        ? cause
        : { ...cause, code: 'POISONED', message: `the log cannot go on, reopen it: ${cause.message}` };
    this.#shared.fail(told);
    this.#lanes.notifyAll();
    for (const flush of this.#flushes) this.#port.reply({ id: flush.id, error: told });
    try {
      this.#log.close();
    } catch {
      // It is poisoned already; what closing adds changes nothing for the callers.
    }
    if (this.#closeId !== undefined) return { id: this.#closeId, error: told };
    for (;;) {
      const seen = Atomics.load(this.#shared.words, this.#shared.doorbell);
      for (let command = this.#port.next(); command !== undefined; command = this.#port.next()) {
        if (command.kind === 'close') return { id: command.id, error: told };
        if (command.kind !== 'lane') this.#port.reply({ id: command.id, error: told });
      }
      waitForSignal(this.#shared.words, this.#shared.doorbell, seen, Infinity);
    }
  }
}
