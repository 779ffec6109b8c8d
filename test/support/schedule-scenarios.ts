// The scenarios of test/proof/ring.ts: who does what on which lanes, in a few steps, so that all orders of them can be
// tried. Lanes are as small as the records allow and begin shortly before 2^32, so that the lap, the padding and the
// numbers wrap within three or four records.
// Frames here: 16 bytes of header, then key and payload, rounded up to 8; the declaration of the stream takes 24.

import { ACK_SLOTS, BUSY_LANE_POLL_MS, CHECKPOINT_MS } from '../../src/base/limits.ts';
import type { WindowOptions } from '../../src/base/options.ts';
import { ACK_FIELDS, laneWord } from '../../src/platform/lane-memory.ts';
import { awaitAnswer, awaitDurable, post, Producer } from './schedule-actors.ts';
import { mail, type LaneSetup, type World } from './schedule-memory.ts';

export type Group = 'records' | 'wake-ups' | 'acknowledgements' | 'endings';

export interface Scenario {
  readonly name: string;
  readonly group: Group;
  readonly lanes: readonly LaneSetup[];
  readonly window: WindowOptions;
  /** What each thread beside the commit loop does. */
  readonly threads: readonly ((world: World) => void)[];
  /** Once nobody has anything to do: checks that this is so. Then the log is closed. */
  readonly atRest?: (world: World) => string | undefined;
  /** Waits of at most this long may end at any moment. */
  readonly racingMs?: number;
  /** A thread closes the log itself; records after that may be left behind. */
  readonly closes?: boolean;
  /** The disk fails with the record of this offset. */
  readonly failsFrom?: number;
  /** Preemptions in the quick and in the full run. */
  readonly preemptions: readonly [quick: number, full: number];
}

/** Between the loop's polls and the sleep of an idle loop, so that a wait tells by its length what it is: see Schedule. */
const LINGER_MS = (BUSY_LANE_POLL_MS + CHECKPOINT_MS) / 2;
export const PATIENCE_MS = LINGER_MS;
const atOnce: WindowOptions = { maxRecords: 100, maxBytes: 10_000, lingerMs: 0 };
const lingering = (maxRecords: number, maxBytes = 10_000): WindowOptions => ({
  maxRecords,
  maxBytes,
  lingerMs: LINGER_MS,
});
const payloads = (...sizes: number[]): LaneSetup['records'] => sizes.map((payload) => ({ payload }));
const retired = (world: World): string | undefined =>
  world.shared.stat('lanes') === 0 ? undefined : `${world.shared.stat('lanes')} closed lanes were not retired`;

export const scenarios: readonly Scenario[] = [
  {
    // The second record would fit but for the padding before it: it waits for the first to be drained.
    name: 'wrap',
    group: 'records',
    lanes: [{ laneBytes: 64, cursor: -48, firstSeq: -2, records: payloads(0, 8, 16) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(3);
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    name: 'groups',
    group: 'records',
    lanes: [
      {
        laneBytes: 128,
        cursor: -72,
        records: [{ payload: 5, key: 3 }, { payload: 9 }, { payload: 0 }, { payload: 1 }],
      },
    ],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.fill(2);
        producer.publish();
        producer.fill(2);
        producer.publish();
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    // Declaration and first record fill the lane to the last byte, so does the second: the producer waits for SIGNAL.
    name: 'full-lane',
    group: 'records',
    lanes: [{ laneBytes: 64, cursor: -64, records: payloads(24, 48, 40) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(3);
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    name: 'two-lanes',
    group: 'records',
    lanes: [
      { laneBytes: 64, cursor: -24, records: payloads(3) },
      { laneBytes: 64, records: payloads(4) },
    ],
    window: atOnce,
    threads: [0, 1].map((lane) => (world: World): void => {
      const producer = new Producer(world, lane);
      producer.send();
      producer.awaitAcks();
    }),
    preemptions: [1, 2],
  },
  {
    name: 'sleep',
    group: 'wake-ups',
    lanes: [{ laneBytes: 64, records: payloads(1, 2) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send();
        producer.awaitAcks();
        producer.send();
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    // A full window ends the linger at once: its timer must not be needed.
    name: 'linger-records',
    group: 'wake-ups',
    lanes: [{ laneBytes: 256, records: payloads(1, 2, 3) }],
    window: lingering(3),
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(3);
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    name: 'linger-bytes',
    group: 'wake-ups',
    lanes: [{ laneBytes: 256, records: payloads(24, 24, 24) }],
    // Three frames of 40 bytes, and the declaration in front of them, which counts as long as it is not drained.
    window: lingering(100, 144),
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(3);
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    // Too few for the window: the timer ends the wait, at any moment.
    name: 'linger-time',
    group: 'wake-ups',
    lanes: [{ laneBytes: 256, records: payloads(1, 2) }],
    window: lingering(3),
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(2);
        producer.awaitAcks();
      },
    ],
    racingMs: LINGER_MS,
    preemptions: [2, 3],
  },
  {
    name: 'linger-two-lanes',
    group: 'wake-ups',
    lanes: [
      { laneBytes: 64, records: payloads(1) },
      { laneBytes: 64, records: payloads(2, 3) },
    ],
    window: lingering(3),
    threads: [1, 2].map((records, lane) => (world: World): void => {
      const producer = new Producer(world, lane);
      producer.send(records);
      producer.awaitAcks();
    }),
    preemptions: [1, 2],
  },
  {
    name: 'reader',
    group: 'wake-ups',
    lanes: [{ laneBytes: 64, records: payloads(1, 2) }],
    window: atOnce,
    threads: [(world) => new Producer(world, 0).send(2), (world) => awaitDurable(world, 2)],
    preemptions: [1, 2],
  },
  {
    // One record per batch, the next one ready: writes overlap, acknowledgements come late, their slots wrap with 2^32.
    name: 'overlap',
    group: 'acknowledgements',
    lanes: [{ laneBytes: 256, ackCursor: -2, records: payloads(1, 2, 3, 4) }],
    window: { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 },
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.fill(3);
        producer.publish();
        producer.readAcks();
        producer.send();
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    // One slot is free: the second record waits in the lane until the producer has read a run.
    name: 'slots',
    group: 'acknowledgements',
    lanes: [{ laneBytes: 128, unreadAcks: 1023, records: payloads(1, 2) }],
    window: { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 },
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(2);
        producer.readAcks(2, 2);
      },
    ],
    atRest: (world) => {
      const runs = new Float64Array(world.lanes[0], 512, ACK_SLOTS * ACK_FIELDS);
      const words = world.laneWords[0];
      const slot = (ACK_SLOTS - 1) * ACK_FIELDS;
      const last = [runs[slot], runs[slot + 1], runs[0], runs[1]];
      return last.join() === '0,1,1,1' && words[laneWord.ackTail] === 1025 && words[laneWord.ackHead] === 2
        ? undefined
        : `runs ${last} in the last and first slot, ACK_TAIL ${words[laneWord.ackTail]}`;
    },
    preemptions: [2, 3],
  },
  {
    name: 'retire',
    group: 'endings',
    lanes: [{ laneBytes: 64, records: payloads(1) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send();
        producer.awaitAcks();
        producer.close();
      },
    ],
    atRest: retired,
    preemptions: [2, 3],
  },
  {
    // A lane that is closed with a record in it is not forgotten before that record is acknowledged.
    name: 'close-lane-early',
    group: 'endings',
    lanes: [{ laneBytes: 64, records: payloads(1) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send();
        producer.close();
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    // One lane goes while another comes: the loop learns of it, drains it and forgets it too.
    name: 'come-and-go',
    group: 'endings',
    lanes: [
      { laneBytes: 64, records: [] },
      { laneBytes: 64, later: true, records: payloads(2) },
    ],
    window: atOnce,
    threads: [
      (world) => {
        new Producer(world, 0).close();
      },
      (world) => {
        post(world, 'lane', 1);
        const producer = new Producer(world, 1);
        producer.send();
        producer.awaitAcks();
        producer.close();
      },
    ],
    atRest: retired,
    preemptions: [1, 2],
  },
  {
    // One record per batch: the second write may be under way when the first record, which the flush is about, is drained.
    name: 'flush',
    group: 'endings',
    lanes: [{ laneBytes: 128, firstSeq: 2 ** 31 - 1, records: payloads(1, 2) }],
    window: lingering(1),
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send();
        const id = post(world, 'flush', 1);
        producer.send();
        awaitAnswer(world, id);
        producer.awaitAcks();
      },
    ],
    preemptions: [2, 3],
  },
  {
    // Somebody flushes while another publishes: what had been published by then is durable, the rest lingers.
    name: 'flush-beside',
    group: 'endings',
    lanes: [{ laneBytes: 128, records: payloads(1, 2) }],
    window: lingering(10),
    threads: [
      (world) => {
        const producer = new Producer(world, 0);
        producer.send(2);
        producer.awaitAcks();
      },
      (world) => {
        const published = Atomics.load(world.laneWords[0], laneWord.seq);
        awaitAnswer(world, post(world, 'flush', published));
      },
    ],
    preemptions: [1, 2],
  },
  {
    // A close in the midst of it: whoever waits hears of it, and what is acknowledged is durable.
    name: 'close-beside',
    group: 'endings',
    lanes: [{ laneBytes: 64, records: payloads(8, 16) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0, true);
        producer.send(2);
        producer.awaitAcks();
      },
      (world) => void post(world, 'close'),
    ],
    closes: true,
    preemptions: [1, 2],
  },
  {
    name: 'close-after',
    group: 'endings',
    lanes: [{ laneBytes: 64, records: payloads(1, 2) }],
    window: atOnce,
    threads: [
      (world) => {
        const producer = new Producer(world, 0, true);
        producer.send();
        post(world, 'close');
        producer.send();
        producer.awaitAcks();
      },
    ],
    closes: true,
    preemptions: [2, 3],
  },
  {
    name: 'poison',
    group: 'endings',
    lanes: [{ laneBytes: 64, records: payloads(8, 16) }],
    window: { maxRecords: 1, maxBytes: 10_000, lingerMs: 0 },
    threads: [
      (world) => {
        const producer = new Producer(world, 0, true);
        producer.send(2);
        producer.awaitAcks();
        if (!producer.ended) throw new Error('a record beyond the failed write was acknowledged');
      },
    ],
    failsFrom: 1,
    preemptions: [2, 3],
  },
];

/** What must hold once all threads have ended. */
export function atEnd(scenario: Scenario, world: World): string | undefined {
  if (scenario.closes === true || scenario.failsFrom !== undefined) return undefined;
  const total = scenario.lanes.reduce((sum, lane) => sum + lane.records.length, 0);
  if (world.mail[mail.durable] !== total) return `${world.mail[mail.durable]} of ${total} records are durable`;
  for (const [lane, words] of world.laneWords.entries()) {
    if (words[laneWord.tail] !== words[laneWord.head]) return `lane ${lane} is not empty`;
    if (scenario.name === 'slots') continue;
    if (scenario.name !== 'reader' && words[laneWord.ackTail] !== words[laneWord.ackHead])
      return `lane ${lane} has unread acknowledgements`;
  }
  return undefined;
}
