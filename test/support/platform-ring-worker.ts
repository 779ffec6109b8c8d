// Thread entry for test/platform/ring-threads.test.ts: a real producer on a lane, as fast as the lane allows.

import { parentPort, workerData } from 'node:worker_threads';
import { noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { waitForSignal } from '../../src/platform/waiter.ts';
import { fillRecord, keyBytesOf, payloadBytesOf } from './platform-pattern.ts';

export interface RingWorkerData {
  readonly buffer: SharedArrayBuffer;
  readonly shared: SharedArrayBuffer;
  readonly lane: number;
  readonly records: number;
  /** True: each record waits for its acknowledgement before the next. Then every single signal counts. */
  readonly oneByOne?: boolean;
  /** True: look again and again instead of waiting, so that orders of single stores are met. */
  readonly spin?: boolean;
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

const { buffer, shared, lane, records, oneByOne = false, spin = false } = workerData as RingWorkerData;
const producer = LaneProducer.take(buffer, new SharedState(shared))!;
const words = producer.signalWords;
const scratch = new Uint8Array(2048);
let acknowledged = 0;
let lastOffset = -1;
let refusals = 0;
let lostSignals = 0;
let problem: string | undefined;
const run = noAcknowledgement();

function readAcks(): void {
  while (producer.nextAck(run)) {
    const fits = oneByOne
      ? run.firstOffset === lastOffset + 1 && run.records === 1
      : run.firstOffset > lastOffset && run.records > 0;
    if (!fits) problem ??= `run {${run.firstOffset}, ${run.records}} after offset ${lastOffset}`;
    lastOffset = run.firstOffset + run.records - 1;
    acknowledged += run.records;
  }
}

/** Waits until `ready`, by the rule of waiter.ts: read the word, look, wait. */
function until(ready: () => boolean): void {
  for (;;) {
    const seen = Atomics.load(words, producer.signalIndex);
    if (ready()) return;
    if (spin) continue;
    const from = performance.now();
    waitForSignal(words, producer.signalIndex, seen, LOST_MS);
    if (performance.now() - from >= LOST_MS && ready()) {
      lostSignals++;
      return;
    }
  }
}

producer.declare(lane + 1, Buffer.from(`lane-${lane}`));
for (let i = 0; i < records && lostSignals === 0; i++) {
  if (problem !== undefined) break;
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
  if (oneByOne || i % 7 === 0) producer.publish();
  if (oneByOne) {
    until(() => {
      readAcks();
      return acknowledged > i || problem !== undefined;
    });
  }
}
producer.publish();
until(() => {
  readAcks();
  return acknowledged >= records || lostSignals > 0 || problem !== undefined;
});
producer.close();
parentPort!.postMessage({ acknowledged, lastOffset, refusals, lostSignals, problem } satisfies RingWorkerReport);
