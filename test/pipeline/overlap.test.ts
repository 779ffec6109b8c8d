// While a batch is written the next one is encoded. Whoever asks whether the first is durable must not be told too early:
// a flush, and a close. The records behind come from another thread just then; here, between two commands.

import t from 'tap';
import { ACK_SLOTS } from '../../src/base/limits.ts';
import { open, openLane } from '../../src/index.ts';
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

t.test('a flush and a close do not wait for a producer that reads no acknowledgements', async (t) => {
  const records = ACK_SLOTS + 300;
  const { log } = openLog(directory(t), new JsIo());
  const loop = new LoopByHand();
  const { lane } = loop.lane(256 * 1024);
  const appended = Array.from({ length: records }, (_, i) => lane.append('s', payloadAt(i)));
  loop.flush();
  // `run` blocks the thread of the producer: nothing is read until it returns.
  t.equal(loop.run(log, { maxRecords: 1, maxBytes: 16 * 1024, lingerMs: 0 }).error, undefined);
  t.same(
    loop.replies.map((r) => r.error),
    [undefined],
    'the flush was answered',
  );
  t.equal(log.durableOffset, records, 'all is durable, one batch each');
  const codes = await Promise.all(appended.map((a) => codeOf(a)));
  t.equal(
    codes.filter((c) => c === 'resolved').length,
    ACK_SLOTS,
    'as many acknowledgements as a lane holds were read',
  );
  t.same([...new Set(codes.slice(ACK_SLOTS))], ['CLOSED'], 'the rest was in doubt when the log closed');
});

t.test('a producer that comes round late gets every acknowledgement', async (t) => {
  const records = ACK_SLOTS + 300;
  const log = await open({ dir: directory(t), io: 'js', window: { maxRecords: 1, lingerMs: 0 }, maxLanes: 2 });
  const busy = openLane(log.lane());
  const appended = Array.from({ length: records }, (_, i) => busy.append('s', payloadAt(i)));
  const flushed = log.flush();
  // The command goes out in a microtask; acknowledgements would be read in a later turn of the event loop.
  for (let i = 0; i < 5; i++) await Promise.resolve();
  // The thread of both stays busy until all is durable: then acknowledgements are owed.
  const giveUpAt = performance.now() + 60_000;
  while (log.stats().durableOffset < records && performance.now() < giveUpAt);
  t.equal(log.stats().durableOffset, records, 'durable, though nobody has read an acknowledgement');
  t.same((await Promise.all(appended)).map((a) => a.offset).at(-1), records - 1);
  await flushed;
  await busy.close();
  await log.close();
});
