// Thread entry for test/platform/ring-threads.test.ts: a real producer on a lane, as fast as the lane allows.

import { parentPort, workerData } from 'node:worker_threads';
import { LaneProducer } from '../../src/platform/ring.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { waitForSignal } from '../../src/platform/waiter.ts';
import { fillRecord, keyBytesOf, payloadBytesOf } from './platform-pattern.ts';

export interface RingWorkerData {
  readonly buffer: SharedArrayBuffer;
  readonly shared: SharedArrayBuffer;
  readonly lane: number;
  readonly records: number;
}

/** What the producer found out, told when all is acknowledged. */
export interface RingWorkerReport {
  readonly acknowledged: number;
  readonly lastOffset: number;
  readonly refusals: number;
  /** Waits that ran into their time limit although what they waited for was there. */
  readonly lostSignals: number;
  readonly problem: string | undefined;
}

const LOST_MS = 2000;

const { buffer, shared, lane, records } = workerData as RingWorkerData;
const producer = LaneProducer.take(buffer, new SharedState(shared))!;
const words = producer.signalWords;
const scratch = new Uint8Array(2048);
let acknowledged = 0;
let lastOffset = -1;
let refusals = 0;
let lostSignals = 0;
let problem: string | undefined;
const run = { firstOffset: 0, records: 0 };

function readAcks(): void {
  while (producer.nextAck(run)) {
    if (run.firstOffset <= lastOffset || run.records < 1) problem ??= `run {${run.firstOffset}, ${run.records}} after offset ${lastOffset}`;
    lastOffset = run.firstOffset + run.records - 1;
    acknowledged += run.records;
  }
}

/** Waits until `ready`, by the rule of waiter.ts: read the word, look, wait. */
function until(ready: () => boolean): void {
  for (;;) {
    const seen = Atomics.load(words, producer.signalIndex);
    if (ready()) return;
    const from = performance.now();
    waitForSignal(words, producer.signalIndex, seen, LOST_MS);
    if (performance.now() - from >= LOST_MS && ready()) {
      lostSignals++;
      return;
    }
  }
}

producer.declare(lane + 1, Buffer.from(`lane-${lane}`));
for (let i = 0; i < records; i++) {
  const keyBytes = keyBytesOf(i);
  const payloadBytes = payloadBytesOf(i);
  fillRecord(scratch, lane, i, keyBytes + payloadBytes);
  const key = keyBytes === 0 ? null : scratch.subarray(0, keyBytes);
  const payload = scratch.subarray(keyBytes, keyBytes + payloadBytes);
  const put = (): boolean => producer.put(lane + 1, i & 1, 1.7e12 + i, key, payload);
  if (!put()) {
    refusals++;
    producer.publish();
    until(() => {
      readAcks();
      return put();
    });
  }
  if (i % 7 === 0) producer.publish();
}
producer.publish();
until(() => {
  readAcks();
  return acknowledged >= records || problem !== undefined;
});
producer.close();
parentPort!.postMessage({ acknowledged, lastOffset, refusals, lostSignals, problem } satisfies RingWorkerReport);
