// All lanes of a log on one thread: their producers, the set that drains them, and who got what of a batch.

import type { BatchPlan } from '../../src/base/types.ts';
import { LaneSet } from '../../src/platform/lanes.ts';
import { createLaneBuffer, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { planFrames } from './platform-lane.ts';

const LANE_BYTES = 64 * 1024;
export const wide = { maxRecords: 1_000_000, maxBytes: 64 * 1024 * 1024, lingerMs: 0 };

export class Producers {
  readonly shared = new SharedState();
  readonly set = new LaneSet();
  readonly producers: LaneProducer[] = [];
  readonly buffers: SharedArrayBuffer[] = [];

  constructor(lanes: number, laneBytes = LANE_BYTES) {
    for (let i = 0; i < lanes; i++) this.add(laneBytes);
  }

  add(laneBytes = LANE_BYTES): LaneProducer {
    const buffer = createLaneBuffer(laneBytes);
    const producer = LaneProducer.take(buffer, this.shared)!;
    this.buffers.push(buffer);
    this.producers.push(producer);
    this.set.add(buffer);
    producer.declare(this.producers.length, Buffer.from(`s${this.producers.length}`));
    producer.publish();
    return producer;
  }

  /** Puts records `from` … `to` − 1 of a lane: the payload begins with lane and number. */
  put(lane: number, from: number, to: number, payloadBytes = 16): void {
    for (let i = from; i < to; i++) {
      if (!this.producers[lane].put(lane + 1, 0, 1, null, text(lane, i, payloadBytes)))
        throw new Error(`lane ${lane} is full at ${i}`);
    }
    this.producers[lane].publish();
  }
}

export function filled(length: number, value: number): number[] {
  return Array.from({ length }, () => value);
}

export function text(lane: number, i: number, bytes: number): Buffer {
  return Buffer.from(`${lane}:${i} `.padEnd(bytes, '.'));
}

/** Records per lane of a plan, in lane order. */
export function shares(plan: BatchPlan, lanes: number): number[] {
  const counts = filled(lanes, 0);
  for (const frame of planFrames(plan)) counts[frame.source]++;
  return counts;
}

export function allAcks(producer: LaneProducer): number[] {
  const run = noAcknowledgement();
  const offsets: number[] = [];
  while (producer.nextAck(run)) for (let i = 0; i < run.records; i++) offsets.push(run.firstOffset + i);
  return offsets;
}
