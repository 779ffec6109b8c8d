// One lane with both of its ends on this thread, from any cursor and full of old bytes; and what is put into it and walked over.

import { LaneConsumer } from '../../src/platform/lane-consumer.ts';
import { createLaneBuffer } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { laneWords, presetCursor, TestSink, word, type Frame } from './platform-lane.ts';

export const LANE_BYTES = 4096;
/** Key and payload together: the most that options allow for a lane of this size. */
export const MAX_RECORD_BYTES = LANE_BYTES / 4;
export const SIGN_CURSOR = 2 ** 31;
export const WRAP_CURSOR = 2 ** 32;

interface Ends {
  buffer: SharedArrayBuffer;
  words: Int32Array;
  shared: SharedState;
  producer: LaneProducer;
  consumer: LaneConsumer;
}

/** A lane whose cursors stand at `cursor` and whose data is full of old bytes. */
export function lane(cursor = 0, ackCursor = 0): Ends {
  const buffer = createLaneBuffer(LANE_BYTES);
  const words = laneWords(buffer);
  presetCursor(buffer, cursor);
  words[word.ackTail] = ackCursor | 0;
  words[word.ackHead] = ackCursor | 0;
  const shared = new SharedState();
  const producer = LaneProducer.take(buffer, shared)!;
  const consumer = new LaneConsumer(buffer);
  consumer.data.fill(0xee);
  return { buffer, words, shared, producer, consumer };
}

/** Bytes that tell where they belong: no two frames of a run hold the same. */
export function pattern(bytes: number, seed: number): Buffer {
  const out = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) out[i] = (seed * 31 + i * 7 + 1) & 0xff;
  return out;
}

export function walkAll(sink: TestSink, consumer: LaneConsumer): Frame[] {
  sink.begin();
  consumer.walk(sink, Infinity, Infinity, true);
  return sink.frames(consumer);
}
