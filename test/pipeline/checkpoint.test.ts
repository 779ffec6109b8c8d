// The durable end is written down at most CHECKPOINT_MS after a batch, however records come: what a damaged end is told by.

import t from 'tap';
import { ACK_SLOTS, CHECKPOINT_MS } from '../../src/base/limits.ts';
import { readCheckpoint, type Checkpoint } from '../../src/log/checkpoint.ts';
import { createLaneBuffer, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { openLog } from '../support/log-plans.ts';
import { directory } from '../support/log-support.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';

const STEP_MS = 10;
const LASTS_MS = 10 * CHECKPOINT_MS;
/** Until a record a batch has filled all acknowledgements that a lane can hold unread, and as long again. */
const UNREAD_EVERY_MS = 4 * STEP_MS;
const UNREAD_LASTS_MS = 2 * ACK_SLOTS * UNREAD_EVERY_MS;

for (const [name, everyMs, lingerMs, lastsMs, reads] of [
  ['without a pause', STEP_MS, 0, LASTS_MS, true],
  ['a record now and then, never a second of silence', 400, 0, LASTS_MS, true],
  ['a record every two seconds', 2000, 0, LASTS_MS, true],
  ['records that wait for others', 3000, 2500, LASTS_MS, true],
  ['a producer that does not read its acknowledgements', UNREAD_EVERY_MS, 0, UNREAD_LASTS_MS, false],
] as const) {
  t.test(name, async (t) => {
    const dir = directory(t);
    const { log, io } = openLog(dir, 'js');
    const loop = new LoopByHand();
    const buffer = createLaneBuffer(64 * 1024);
    loop.queue({ id: 0, kind: 'lane', buffer });
    const producer = LaneProducer.take(buffer, loop.shared)!;
    const stream = loop.shared.nextStreamId();
    producer.declare(stream, Buffer.from('a'));
    const ack = noAcknowledgement();
    let appended = 0;
    /** What was durable, and when. */
    const seen: { readonly atMs: number; readonly durableOffset: number }[] = [];
    let nowMs = 1;
    let nextMs = 0;
    let latest = 0;
    let closing = false;
    let unread = 0;
    const monotonicMs = (): number => {
      nowMs += STEP_MS;
      // Nobody sleeps for long: the bell has always been rung.
      Atomics.add(loop.shared.words, loop.shared.doorbell, 1);
      if (nowMs >= nextMs && nowMs < lastsMs) {
        nextMs = nowMs + everyMs;
        producer.put(stream, 0, 0, null, Buffer.from('x'));
        producer.publish();
        appended++;
      }
      while ((reads || closing) && producer.nextAck(ack));
      seen.push({ atMs: nowMs, durableOffset: log.durableOffset });
      const { durableOffset } = readCheckpoint(io, dir) as Checkpoint;
      // The clock is asked several times in a turn, and each time is later.
      const due = seen.findLast((s) => s.atMs < nowMs - CHECKPOINT_MS - 10 * STEP_MS)?.durableOffset ?? 0;
      latest = Math.max(latest, due - durableOffset);
      if (nowMs >= lastsMs + 2 * CHECKPOINT_MS && !closing) {
        closing = true;
        unread = appended - log.durableOffset;
        loop.close();
      }
      return nowMs;
    };
    // An idle loop with nothing to do does not ask for the time.
    const retain = log.retain.bind(log);
    log.retain = () => {
      monotonicMs();
      retain();
    };
    loop.run(log, { maxRecords: 1000, maxBytes: 64 * 1024, lingerMs }, { monotonicMs, wallMs: () => nowMs });
    t.equal(log.durableOffset, appended, 'all is durable');
    t.ok(appended >= lastsMs / everyMs / 3, `${appended} records`);
    t.equal(unread > 0, !reads, 'records wait behind unread acknowledgements');
    t.equal(latest, 0, 'records that were durable for longer and are not written down');
    const own = log.checkpoints - log.rolls;
    t.ok(own <= lastsMs / CHECKPOINT_MS + 5, `${own} checkpoints beside those of rolls`);
  });
}
