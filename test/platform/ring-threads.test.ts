// Two threads on one lane, and three on a LaneSet: sequence, bytes and acknowledgements of every record, under a real
// memory model. What waits does so by the rules of waiter.ts, so a lost signal shows as a wait that ran out.

import { availableParallelism } from 'node:os';
import t, { type Test } from 'tap';
import { Worker } from 'node:worker_threads';
import { LaneSet } from '../../src/platform/lanes.ts';
import { LaneConsumer } from '../../src/platform/lane-consumer.ts';
import { createLaneBuffer, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { waitForSignal } from '../../src/platform/waiter.ts';
import { presetCursor, TestSink } from '../support/platform-lane.ts';
import { fillRecord, keyBytesOf, payloadBytesOf } from '../support/platform-pattern.ts';
import type { RingWorkerData, RingWorkerReport } from '../support/platform-ring-worker.ts';

const LANE_BYTES = 16 * 1024;
/** Longer than any pause of a loaded machine, shorter than the time limit of the test. */
const LOST_MS = 2000;

function startProducer(t: Test, data: RingWorkerData): Promise<RingWorkerReport> {
  const worker = new Worker(new URL('../support/platform-ring-worker.js', import.meta.url), {
    workerData: data,
    execArgv: [],
    env: {},
  });
  t.teardown(() => worker.terminate());
  const report = new Promise<RingWorkerReport>((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`the producer ended with ${code}`)));
  });
  report.catch(() => {}); // where the consumer failed first, nobody waits for it
  return report;
}

/** Checks records of one lane one after the other, byte by byte. Throws at the first difference. */
class Verifier {
  readonly #lane: number;
  readonly #wanted = new Uint8Array(2048);
  next = 0;
  bytes = 0;

  constructor(lane: number) {
    this.#lane = lane;
  }

  range(data: Uint8Array, from: number, to: number): void {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    let at = from;
    while (at < to) {
      const i = this.next++;
      const keyBytes = keyBytesOf(i);
      const payloadBytes = payloadBytesOf(i);
      const header = [
        view.getUint32(at, true),
        view.getUint16(at + 4, true),
        view.getUint16(at + 6, true),
        view.getUint16(at + 14, true),
      ];
      const timestampMs = view.getUint32(at + 8, true) + view.getUint16(at + 12, true) * 2 ** 32;
      const wanted = [payloadBytes, this.#lane + 1, i & 1, keyBytes];
      if (header.some((value, n) => value !== wanted[n]) || timestampMs !== 1.7e12 + i) {
        throw new Error(`record ${i}: header ${header}, ${timestampMs}; wanted ${wanted}, ${1.7e12 + i}`);
      }
      const length = keyBytes + payloadBytes;
      fillRecord(this.#wanted, this.#lane, i, length);
      let p = at + 16;
      for (let n = 0; n < length; n++, p++) {
        if (data[p] !== this.#wanted[n])
          throw new Error(`record ${i}, byte ${n}: ${data[p]}, wanted ${this.#wanted[n]}`);
      }
      for (; p % 8 !== 0; p++) if (data[p] !== 0) throw new Error(`record ${i}: padding is ${data[p]}`);
      at = p;
      this.bytes += length;
    }
  }
}

/** Sleeps as the commit loop does, until `enough`. Throws where a sleep ran out although enough was there. */
class Sleeper {
  readonly #shared: SharedState;
  sleeps = 0;
  #number = 0;

  constructor(shared: SharedState) {
    this.#shared = shared;
  }

  sleep(enough: () => boolean, prepare: () => void): void {
    const { words, doorbell, sleeping } = this.#shared;
    const seen = Atomics.load(words, doorbell);
    prepare();
    Atomics.store(words, sleeping, ++this.#number);
    if (!enough()) {
      this.sleeps++;
      const from = performance.now();
      waitForSignal(words, doorbell, seen, LOST_MS);
      // Waiting for what is there already: the ring for it was lost. No sense in going on.
      if (performance.now() - from >= LOST_MS && enough()) throw new Error(`a ring was lost in sleep ${this.sleeps}`);
    }
    Atomics.store(words, sleeping, 0);
  }
}

function checkReport(t: Test, report: RingWorkerReport, records: number, refusals = 50): void {
  t.equal(report.problem, undefined, 'acknowledgements came in order');
  t.equal(report.acknowledged, records, 'every record was acknowledged once');
  t.equal(report.lostSignals, 0, 'no signal to the producer was lost');
  t.ok(report.refusals >= refusals, `the lane was full ${report.refusals} times`);
}

t.test('one producer, one consumer: 400,000 records through 16 KiB, cursors past 2^32', async (t) => {
  const records = 400_000;
  const shared = new SharedState();
  const buffer = createLaneBuffer(LANE_BYTES);
  presetCursor(buffer, 2 ** 32 - 5 * 2 ** 20);
  const consumer = new LaneConsumer(buffer);
  const report = startProducer(t, { buffer, shared: shared.buffer, lane: 0, records });
  const verifier = new Verifier(0);
  const sleeper = new Sleeper(shared);
  const sink = new TestSink();
  let walks = 0;
  let offset = 0;
  while (verifier.next < records) {
    if (consumer.availableBytes() === 0) {
      sleeper.sleep(
        () => consumer.availableBytes() > 0,
        () => consumer.wakeAfter(1, 1),
      );
      continue;
    }
    sink.begin();
    // Bounds that change, so that walks end in the middle of what is there, for each reason.
    consumer.walk(sink, 1 + (walks % 97), 64 + (walks % 13) * 700, true);
    for (const [from, to] of sink.ranges) verifier.range(consumer.data, from, to);
    consumer.release();
    // SEQ is stored before TAIL: what was walked has been counted.
    if (consumer.availableRecords() > LANE_BYTES / 16)
      throw new Error(`${consumer.availableRecords()} records are said to wait`);
    while (consumer.ackRoom() === 0) await new Promise((resolve) => setImmediate(resolve));
    offset += walks % 3; // offsets of other lanes lie between
    if (consumer.walkedRecords > 0) consumer.acknowledge(offset, consumer.walkedRecords, noAcknowledgement());
    offset += consumer.walkedRecords;
    walks++;
    consumer.notify();
  }
  const told = await report;
  checkReport(t, told, records);
  t.equal(told.lastOffset, offset - 1);
  t.ok(verifier.bytes > 8e6, `${verifier.bytes} bytes of keys and payloads in ${walks} walks`);
  t.ok(consumer.closedAndEmpty && consumer.acksRead);
});

t.test('two producers into a LaneSet: each in order, offsets dense, acknowledged to the right lane', async (t) => {
  const records = 100_000;
  const shared = new SharedState();
  const lanes = new LaneSet();
  const buffers = [0, 1].map(() => createLaneBuffer(LANE_BYTES));
  buffers.forEach((buffer) => lanes.add(buffer));
  const reports = buffers.map((buffer, lane) => startProducer(t, { buffer, shared: shared.buffer, lane, records }));
  const verifiers = [new Verifier(0), new Verifier(1)];
  const sleeper = new Sleeper(shared);
  const window = { maxRecords: 150, maxBytes: 6000, lingerMs: 0 };
  let offset = 0;
  while (offset < 2 * records) {
    const { plan } = lanes.drain(window);
    if (plan.records === 0) {
      if (lanes.availableBytes() > 0) await new Promise((resolve) => setImmediate(resolve)); // acks are unread
      else
        sleeper.sleep(
          () => lanes.availableBytes() > 0,
          () => lanes.wakeAt(1, 1),
        );
      continue;
    }
    for (let r = 0; r < plan.rangeCount; r++) {
      const [source, from, to] = plan.ranges.subarray(r * 3, r * 3 + 3);
      verifiers[source].range(plan.sources[source], from, to);
    }
    lanes.assign(offset, 0, 0);
    offset += plan.records;
    lanes.release();
    lanes.acknowledge(offset);
    if (offset !== verifiers[0].next + verifiers[1].next)
      throw new Error('the plan counts other records than it holds');
  }
  for (const report of await Promise.all(reports)) checkReport(t, report, records);
  t.strictSame(
    verifiers.map((v) => v.next),
    [records, records],
  );
  t.equal(lanes.retire(), 2, 'both lanes are done with');
});

for (const spin of [false, true]) {
  t.test(
    `one record at a time, ${spin ? 'without waiting: every store comes in order' : 'every ring and every signal arrives'}`,
    // On one core every handover of two spinning threads costs a time slice.
    { skip: spin && availableParallelism() < 2 ? 'needs two cores' : false },
    async (t) => {
      const records = spin ? 50_000 : 20_000;
      const shared = new SharedState();
      const buffer = createLaneBuffer(LANE_BYTES);
      const lanes = new LaneSet();
      lanes.add(buffer);
      const report = startProducer(t, { buffer, shared: shared.buffer, lane: 0, records, oneByOne: true, spin });
      const verifier = new Verifier(0);
      const sleeper = new Sleeper(shared);
      const window = { maxRecords: 10, maxBytes: 10_000, lingerMs: 0 };
      const giveUpAt = performance.now() + 100_000;
      for (let offset = 0; offset < records;) {
        if (lanes.availableBytes() === 0) {
          if (!spin)
            sleeper.sleep(
              () => lanes.availableBytes() > 0,
              () => lanes.wakeAt(1, window.maxBytes),
            );
          else if (performance.now() > giveUpAt) break;
          continue;
        }
        const { plan } = lanes.drain(window);
        if (plan.records > 1) throw new Error(`${plan.records} records at a time`);
        if (lanes.availableRecords() !== 0) throw new Error(`${lanes.availableRecords()} records are said to wait`);
        for (let r = 0; r < plan.rangeCount; r++)
          verifier.range(plan.sources[0], plan.ranges[r * 3 + 1], plan.ranges[r * 3 + 2]);
        lanes.assign(offset, 0, 0);
        offset += plan.records;
        lanes.release();
        lanes.acknowledge(offset);
      }
      checkReport(t, await report, records, 0);
      if (!spin) t.ok(sleeper.sleeps > 100, `the consumer slept ${sleeper.sleeps} times`);
    },
  );
}
