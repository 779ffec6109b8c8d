// While a batch is written the next one is encoded. Whoever asks whether the first is durable must not be told too early:
// a flush, and a close. The records behind come from another thread just then; here, between two commands.

import t from 'tap';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { createLaneBuffer } from '../../src/platform/lane-memory.ts';
import { codeOf, directory } from '../support/log-support.ts';
import { openLog, payloadAt } from '../support/log-plans.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';

const WINDOW = 10;

/** A second lane whose records come only when `put` is called. */
function otherLane(loop: LoopByHand): { put: (records: number) => void } {
  const buffer = createLaneBuffer(64 * 1024);
  loop.queue({ id: 0, kind: 'lane', buffer });
  const producer = LaneProducer.take(buffer, loop.shared)!;
  const id = loop.shared.nextStreamId();
  producer.declare(id, Buffer.from('other'));
  return {
    put: (records) => {
      for (let i = 0; i < records; i++) producer.put(id, 0, 0, null, payloadAt(i));
      producer.publish();
    },
  };
}

t.test(`a flush of ${WINDOW} records with a full window behind it is answered once they are durable`, async (t) => {
  const { log } = openLog(directory(t), new JsIo());
  const loop = new LoopByHand();
  const { lane } = loop.lane();
  const other = otherLane(loop);
  const appended = Array.from({ length: WINDOW }, (_, i) => lane.append('s', payloadAt(i)));
  const flush = loop.flush();
  loop.afterCommand = (command) => {
    if (command.kind === 'flush') other.put(3 * WINDOW);
  };
  const durableAt: number[] = [];
  const underWayAt: number[] = [];
  const reply = loop.reply.bind(loop);
  loop.reply = (r) => {
    if (r.id === flush) {
      durableAt.push(loop.shared.offset('durable'));
      underWayAt.push(log.outstanding);
    }
    reply(r);
  };
  loop.run(log, { maxRecords: WINDOW, maxBytes: 16 * 1024, lingerMs: 0 });
  const offsets = (await Promise.all(appended)).map((a) => a.offset);
  t.ok(log.appendedOffset > offsets.at(-1)! + 1, 'records were appended behind them');
  t.equal(durableAt.length, 1, 'one answer');
  t.ok(durableAt[0] > offsets.at(-1)!, `durable up to ${durableAt[0]} when the flush was answered`);
});

t.test(`a close with a full window behind the last ${WINDOW} records acknowledges them`, async (t) => {
  const { log } = openLog(directory(t), new JsIo());
  const loop = new LoopByHand();
  const { lane } = loop.lane();
  const other = otherLane(loop);
  const appended = Array.from({ length: WINDOW }, (_, i) => lane.append('s', payloadAt(i)));
  loop.close();
  let left = -1;
  loop.afterCommand = (command) => {
    if (command.kind === 'close') other.put((left = 5 * WINDOW));
  };
  t.equal(loop.run(log, { maxRecords: WINDOW, maxBytes: 16 * 1024, lingerMs: 0 }).error, undefined);
  t.equal(left, 5 * WINDOW, 'the records behind came in time');
  t.ok(log.appendedOffset < WINDOW + left, 'and were not waited for: the last batch was overlapped');
  t.same([...new Set(await Promise.all(appended.map((a) => codeOf(a))))], ['resolved']);
});
