// Test doubles around one lane: the words of its map, a walk sink, and a second decoder of its frames.

import type { BatchPlan } from '../../src/base/types.ts';
import type { LaneConsumer, WalkSink } from '../../src/platform/lane-consumer.ts';

/** Indices into the i32 words of a lane, from the map at the head of src/platform/lane-memory.ts. */
export const word = { state: 0, tail: 32, seq: 33, head: 64, ackTail: 65, signal: 66, ackHead: 96 } as const;

export function laneWords(buffer: SharedArrayBuffer): Int32Array {
  return new Int32Array(buffer, 0, 128);
}

/** Makes a lane begin as if `cursor` bytes had gone through it already. Before either end is made. */
export function presetCursor(buffer: SharedArrayBuffer, cursor: number): void {
  const words = laneWords(buffer);
  words[word.tail] = cursor | 0;
  words[word.head] = cursor | 0;
}

export interface Frame {
  stream: number;
  flags: number;
  timestampMs: number;
  key: Buffer;
  payload: Buffer;
}

/** Decodes whole frames by the picture in lane-memory.ts, not by its code. Throws where a byte is not as drawn. */
export function decodeFrames(bytes: Uint8Array): Frame[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Frame[] = [];
  let at = 0;
  while (at < bytes.length) {
    const payloadBytes = view.getUint32(at, true);
    const keyBytes = view.getUint16(at + 14, true);
    const kind = view.getUint8(at + 7);
    if (kind !== 0) throw new Error(`byte ${at}: kind ${kind} inside a range`);
    const keyAt = at + 16;
    const payloadAt = keyAt + keyBytes;
    const end = payloadAt + payloadBytes;
    if (end > bytes.length) throw new Error(`byte ${at}: a frame of ${end - at} bytes reaches beyond its range`);
    const next = Math.ceil(end / 8) * 8;
    for (let p = end; p < next; p++) if (bytes[p] !== 0) throw new Error(`byte ${p}: padding is ${bytes[p]}, not 0`);
    frames.push({
      stream: view.getUint16(at + 4, true),
      flags: view.getUint8(at + 6),
      timestampMs: view.getUint32(at + 8, true) + view.getUint16(at + 12, true) * 2 ** 32,
      key: Buffer.from(bytes.subarray(keyAt, payloadAt)),
      payload: Buffer.from(bytes.subarray(payloadAt, end)),
    });
    at = next;
  }
  return frames;
}

/** Collects what a walk reports. */
export class TestSink implements WalkSink {
  readonly counts = new Uint32Array(65_536);
  readonly seenIn = new Uint32Array(65_536);
  batchNumber = 0;
  ranges: [number, number][] = [];
  streams: number[] = [];
  declared: [number, string][] = [];
  /** Streams that `onStream` takes before it says no. */
  maxStreams = Infinity;

  begin(): void {
    this.batchNumber++;
    this.ranges = [];
    this.streams = [];
    this.declared = [];
  }

  /** Never runs out: what MAX_RANGES does is tested on LaneSet. */
  readonly rangesLeft = 4096;

  onRange(from: number, to: number): void {
    if (from >= to) throw new Error(`an empty range: ${from} … ${to}`);
    this.ranges.push([from, to]);
  }

  onStream(stream: number): boolean {
    if (this.streams.length >= this.maxStreams) return false;
    this.streams.push(stream);
    this.seenIn[stream] = this.batchNumber;
    this.counts[stream] = 0;
    return true;
  }

  onDeclare(stream: number, name: string): void {
    this.declared.push([stream, name]);
  }

  /** The records of the last walk. */
  frames(lane: LaneConsumer): Frame[] {
    return this.ranges.flatMap(([from, to]) => {
      if (to > lane.data.length)
        throw new Error(`range ${from} … ${to} reaches beyond the lane's ${lane.data.length} bytes`);
      return decodeFrames(lane.data.subarray(from, to));
    });
  }
}

/** The records of a batch plan, in log order, with the lane that each came from. */
export function planFrames(plan: BatchPlan): (Frame & { source: number })[] {
  const frames: (Frame & { source: number })[] = [];
  for (let r = 0; r < plan.rangeCount; r++) {
    const [source, from, to] = plan.ranges.subarray(r * 3, r * 3 + 3);
    const bytes = plan.sources[source].length;
    if (to > bytes) throw new Error(`range ${from} … ${to} of lane ${source} reaches beyond its ${bytes} bytes`);
    for (const frame of decodeFrames(plan.sources[source].subarray(from, to))) frames.push({ ...frame, source });
  }
  return frames;
}
