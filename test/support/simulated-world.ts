// Commit loop, lane and log of production in a world whose time stands still unless something takes time: a durable write, or a wait.
// Records appear in the lane at their time, acknowledgements are read the moment they are there. One thread: waiting is simulated by
// moving the clock to what ends it, so Atomics.wait is replaced while the loop runs.

import type { Clock } from '../../src/base/clock.ts';
import type { WindowOptions } from '../../src/base/options.ts';
import type { CloseReason } from '../../src/base/types.ts';
import { Histogram } from '../../src/platform/histogram.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { createLaneBuffer, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { openLog } from './log-plans.ts';
import { LoopByHand } from './pipeline-loop.ts';

export const PAYLOAD_BYTES = 112;
/** Frames of 128 bytes never wrap in a lane this large, and nothing ever waits for room. */
const LANE_BYTES = 4 * 1024 * 1024;
export const CHECKPOINT_WRITE_MS = 3;
const SEGMENT_BYTES = 16 * 1024 * 1024;

/** A batch as it was handed to the disk. */
export interface WrittenBatch {
  readonly records: number;
  readonly closedMs: number;
}

class World extends JsIo implements Clock {
  readonly loop = new LoopByHand();
  readonly batches: WrittenBatch[] = [];
  readonly latencyUs = new Histogram();
  readonly buffer = createLaneBuffer(LANE_BYTES);
  readonly #arrivalsMs: Float64Array;
  readonly #writeMs: (bytes: number) => number;
  readonly #producer: LaneProducer;
  readonly #stream: number;
  readonly #run = noAcknowledgement();
  readonly #ends: number[] = [];
  #diskFreeMs = 0;
  #published = 0;
  acknowledged = 0;
  checkpoints = 0;
  submits = 0;
  nowMs = 0;
  runs = false;

  constructor(arrivalsMs: Float64Array, writeMs: (bytes: number) => number) {
    super();
    this.#arrivalsMs = arrivalsMs;
    this.#writeMs = writeMs;
    this.loop.queue({ id: 0, kind: 'lane', buffer: this.buffer });
    this.#producer = LaneProducer.take(this.buffer, this.loop.shared)!;
    this.#stream = this.loop.shared.nextStreamId();
    this.#producer.declare(this.#stream, Buffer.from('s'));
    this.#producer.publish();
  }

  wallMs(): number {
    return this.nowMs;
  }

  monotonicMs(): number {
    if (this.runs) this.#look();
    return this.nowMs;
  }

  override durableWrite(fd: number, bytes: Uint8Array, position: number): void {
    super.write(fd, bytes, position);
    this.#note(bytes);
    this.#advance(this.nowMs + this.#writeMs(bytes.length));
    this.#diskFreeMs = this.nowMs;
  }

  override submit(fd: number, bytes: Uint8Array, position: number): void {
    super.write(fd, bytes, position);
    this.submits++;
    this.#note(bytes);
    this.#diskFreeMs = Math.max(this.nowMs, this.#diskFreeMs) + this.#writeMs(bytes.length);
    this.#ends.push(this.#diskFreeMs);
  }

  override settle(): void {
    this.#advance(Math.max(this.nowMs, this.#ends.shift()!));
  }

  /** While it runs, of the checkpoint alone: nothing rolls, and no spare is finished. */
  override sync(): void {
    if (!this.runs) return;
    this.checkpoints++;
    this.#advance(this.nowMs + CHECKPOINT_WRITE_MS);
  }

  override syncDir(): void {}

  /** In place of Atomics.wait. */
  wait(words: Int32Array, index: number, seen: number, timeoutMs: number): 'ok' | 'not-equal' | 'timed-out' {
    if (words[index] !== seen) return 'not-equal';
    if (this.acknowledged === this.#arrivalsMs.length) {
      this.loop.close();
      return 'ok';
    }
    const untilMs = this.nowMs + timeoutMs;
    while (this.#published < this.#arrivalsMs.length && this.#arrivalsMs[this.#published] <= untilMs) {
      this.nowMs = this.#arrivalsMs[this.#published];
      this.#look();
      if (words[index] !== seen) return 'ok';
    }
    if (untilMs === Infinity) throw new Error('nothing will ever end this wait');
    this.nowMs = untilMs;
    return 'timed-out';
  }

  #advance(untilMs: number): void {
    this.nowMs = untilMs;
    this.#look();
  }

  /** What is due appears, what is acknowledged is read. */
  #look(): void {
    const arrivalsMs = this.#arrivalsMs;
    for (; this.#published < arrivalsMs.length && arrivalsMs[this.#published] <= this.nowMs; this.#published++) {
      if (!this.#producer.put(this.#stream, 0, 0, null, Buffer.alloc(PAYLOAD_BYTES, 'x'))) throw new Error('full lane');
      this.#producer.publish();
    }
    while (this.#producer.nextAck(this.#run)) {
      for (let i = 0; i < this.#run.records; i++) {
        this.latencyUs.record((this.nowMs - arrivalsMs[this.acknowledged++]) * 1000);
      }
    }
  }

  #note(bytes: Uint8Array): void {
    const records = new DataView(bytes.buffer, bytes.byteOffset).getUint32(24, true);
    this.batches.push({ records, closedMs: this.nowMs });
  }
}

export interface Played {
  readonly batches: readonly WrittenBatch[];
  readonly latencyUs: Histogram;
  readonly closeReasons: Record<CloseReason, number>;
  readonly checkpoints: number;
  /** Batches that were queued behind a write. */
  readonly submits: number;
}

/** Plays arrivals through the production loop. @param dir empty @param writeMs of so many bytes on disk */
export function playProduction(
  dir: string,
  window: WindowOptions,
  arrivalsMs: Float64Array,
  writeMs: (bytes: number) => number,
): Played {
  const world = new World(arrivalsMs, writeMs);
  const { log } = openLog(dir, world, { segmentBytes: SEGMENT_BYTES, window });
  const { wait } = Atomics;
  Object.assign(Atomics, { wait: world.wait.bind(world) });
  world.runs = true;
  try {
    const { error } = world.loop.run(log, window, world);
    if (error !== undefined) throw new Error(error.message);
  } finally {
    world.runs = false;
    Object.assign(Atomics, { wait });
  }
  const { shared } = world.loop;
  const { batches, latencyUs, checkpoints, submits } = world;
  return { batches, latencyUs, closeReasons: shared.closeCounts(), checkpoints, submits };
}
