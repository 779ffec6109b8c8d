// What fails, and what every caller then hears. Most of it on the commit loop run by hand over a disk that fails at
// chosen calls; the death of the thread through the public interface. A disk that is full is no failure: disk-full.test.ts.

import t, { type Test } from 'tap';
import { counterSlots } from '../../src/base/limits.ts';
import type { LogRecord } from '../../src/base/types.ts';
import { Lane } from '../../src/pipeline/lane.ts';
import { LaneConsumer } from '../../src/platform/lane-consumer.ts';
import { createLaneBuffer, laneIsClosed, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { verify } from '../../src/log/verify.ts';
import { codeOf, directory, until, within } from '../support/log-support.ts';
import { FaultyIo, type Fault } from '../support/log-faulty-io.ts';
import { fill, openLog, planOf, readBack, thrown } from '../support/log-plans.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';
import { endWorkers, openSmall, recordsOf, text } from '../support/pipeline-logs.ts';
import { workingModes } from '../support/modes.ts';
import { numbered, ran, type Ran } from '../support/pipeline-failing.ts';

t.teardown(endWorkers);

async function checkPoisoned(t: Test, r: Ran, acknowledged: number | undefined): Promise<void> {
  const acked = r.results.filter((x) => typeof x === 'number');
  if (acknowledged !== undefined) t.equal(acked.length, acknowledged, 'acknowledged before the failure');
  t.same(
    r.results.slice(0, acked.length),
    acked.map((_, i) => i),
    'a prefix, each with its offset',
  );
  t.same([...new Set(r.results.slice(acked.length))], ['POISONED'], 'all that waited are told');
  t.equal(r.loop.shared.state, 'poisoned');
  t.equal(r.loop.replies[0].error?.code, 'POISONED', 'flush');
  t.equal(await codeOf(r.lane.append('s', 'later')), 'POISONED', 'a later append');
  t.equal(r.io.syncsAfterFailure, 0, 'no sync is tried twice on a descriptor');
  const read = readBack(new JsIo(), r.dir, { durableOffset: () => acked.length });
  t.equal(read.error, undefined, 'reading goes on');
  t.ok(read.records.length >= acked.length && numbered(read.records));
  const again = openLog(r.dir, new JsIo());
  t.ok(again.log.durableOffset >= acked.length, 'reopening finds everything acknowledged');
  fill(again.log, 1);
  again.log.close();
  const all = readBack(again.io, r.dir).records;
  t.ok(numbered(all.slice(0, -20)));
  t.equal(verify(again.io, r.dir).ok, true);
}

for (const at of [1, 2, 5]) {
  for (const [what, fault] of [
    ['the write fails', { call: 'durableWrite', errno: 'EIO' }],
    ['a short write, then an error', { call: 'durableWrite', errno: 'EIO', shortBytes: 700 }],
    ['a short write on a full device', { call: 'durableWrite', errno: 'ENOSPC', shortBytes: 512 }],
    ['the sync fails', { call: 'sync', path: /\.seg$/, errno: 'EIO' }],
    ['the sync fails once, a second would not', { call: 'sync', path: /\.seg$/, errno: 'EIO', times: 1 }],
  ] as const) {
    t.test(`batch ${at}: ${what}`, async (t) => {
      const r = await ran(t, () => [{ ...fault, at }]);
      await checkPoisoned(t, r, (at - 1) * 10);
    });
  }
}

for (const [what, fault] of [
  ['the sync of the index', { call: 'sync', path: /\.idx\.tmp$/ }],
  ['the rename of the index', { call: 'rename', path: /\.idx$/ }],
  ['the directory', { call: 'syncDir' }],
  ['the sync of the zeros of the next segment', { call: 'sync', path: /spare\.tmp$/ }],
  ['the same once: a second sync would succeed', { call: 'sync', path: /spare\.tmp$/, times: 1 }],
  ['the header of the next segment', { call: 'write', path: /spare$/ }],
  ['the sync of that header', { call: 'sync', path: /spare$/ }],
  ['the rename to the next segment', { call: 'rename', path: /\.seg$/ }],
  ['the checkpoint', { call: 'write', path: /checkpoint$/ }],
  ['the sync of the checkpoint', { call: 'sync', path: /checkpoint$/ }],
] as const) {
  t.test(`at the roll fails ${what}`, async (t) => {
    // 10 records of 1,000 bytes make a batch of 12 KiB: five fill a segment.
    const r = await ran(t, () => [{ errno: 'EIO', ...fault } as Fault], 150, 1000);
    if (r.results.every((x) => typeof x === 'number')) {
      t.equal(r.io.syncsAfterFailure, 0, 'survived by other means than a second sync');
      t.ok(r.log.rolls >= 2);
      return;
    }
    await checkPoisoned(t, r, undefined);
  });
}

t.test('a truncation whose own checkpoint fails is told so at once', async (t) => {
  const io = new FaultyIo();
  const { log } = openLog(directory(t), io);
  fill(log, 2);
  const loop = new LoopByHand();
  loop.queue({ id: 7, kind: 'truncate', offset: 20 });
  io.faults = [{ call: 'sync', path: /checkpoint$/, errno: 'EIO' }];
  loop.run(log);
  t.equal(loop.shared.state, 'poisoned');
  t.equal(loop.replies[0]?.id, 7);
  t.equal(loop.replies[0]?.error?.code, 'POISONED');
});

t.test('after a failure the log itself takes nothing, and closing syncs nothing', async (t) => {
  const dir = directory(t);
  const io = new FaultyIo();
  const { log } = openLog(dir, io);
  fill(log, 1);
  io.faults = [{ call: 'sync', path: /\.seg$/, errno: 'EIO', times: 1 }];
  t.match(
    thrown(() => fill(log, 1)),
    { code: 'POISONED', retryable: false, message: /EIO/ },
  );
  t.equal(log.durableOffset, 20);
  const { length } = io.syncs;
  const writes = io.counters[counterSlots.pwrite64];
  const plan = planOf([{ payload: 'x' }]);
  for (const action of [
    () => log.append(plan, false),
    () => log.append(plan, true),
    () => log.roll(),
    () => log.hasRoomFor(plan),
  ]) {
    t.match(thrown(action), { code: 'POISONED' });
  }
  log.close();
  t.equal(io.syncs.length, length);
  t.equal(io.counters[counterSlots.pwrite64], writes, 'nor writes anything');
});

t.test('an overlapped write that fails is found at its settling; what is queued behind it never counts', async (t) => {
  const dir = directory(t);
  const io = new FaultyIo();
  const { log } = openLog(dir, io);
  const plan = planOf([{ payload: 'x' }]);
  io.faults = [{ call: 'sync', path: /\.seg$/, errno: 'EIO', at: 2 }];
  log.append(plan, true);
  log.append(plan, true);
  t.equal(log.durableOffset, 0, 'two may stay under way');
  log.append(plan, true);
  t.equal(log.durableOffset, 1);
  t.match(
    thrown(() => log.append(plan, true)),
    { code: 'POISONED' },
  );
  t.equal(log.durableOffset, 1);
  t.match(
    thrown(() => log.settle()),
    { code: 'POISONED' },
  );
  log.close();
  t.equal(io.syncsAfterFailure, 0);
});

t.test('what was acknowledged before the log closed or failed is never answered otherwise', async (t) => {
  // The commit worker acknowledges and changes the state between a lane's two looks. Forced here through the clock,
  // which a lane asks between them when a waiting append finds room.
  for (const state of ['closed', 'poisoned'] as const) {
    const shared = new SharedState();
    const buffer = createLaneBuffer(4096);
    let meddle: (() => void) | undefined;
    const clock = {
      wallMs: () => {
        const once = meddle;
        meddle = undefined;
        once?.();
        return 1;
      },
      monotonicMs: () => 1,
    };
    shared.state = 'open';
    const handle = { shared: shared.buffer, lane: buffer, limits: { maxRecordBytes: 1024, maxWaitingBytes: 2 ** 20 } };
    const lane = new Lane(handle, clock);
    const consumer = new LaneConsumer(buffer);
    const sink = {
      onRange: () => undefined,
      onStream: () => true,
      onDeclare: () => undefined,
      counts: new Uint32Array(65536),
      seenIn: new Uint32Array(65536),
      batchNumber: 1,
      rangesLeft: 4096,
    };
    const codes = Array.from({ length: 5 }, () => codeOf(lane.append('s', Buffer.alloc(1000))));
    // Three are in the lane, two wait for room. The consumer takes the three; making room wakes the lane, and while it
    // puts the next one, the acknowledgement of the three and the new state appear.
    consumer.walk(sink, 3, 1e6, true);
    t.equal(consumer.walkedRecords, 3);
    consumer.release();
    meddle = () => {
      consumer.acknowledge(0, 3, noAcknowledgement());
      if (state === 'closed') shared.state = 'closed';
      else shared.fail({ code: 'POISONED', message: 'test', details: {} });
    };
    const strays: unknown[] = [];
    const stray = (error: unknown): void => void strays.push(error);
    process.on('uncaughtException', stray);
    process.on('unhandledRejection', stray);
    consumer.notify();
    const first = await Promise.all(codes);
    consumer.notify();
    // A lane looks by itself once a second: an acknowledgement that nobody waits for any more must not hurt it.
    const looked = performance.now();
    await until(() => strays.length > 0 || performance.now() - looked > 1300, 'one look more');
    process.off('uncaughtException', stray);
    process.off('unhandledRejection', stray);
    t.same(first.slice(0, 3), ['resolved', 'resolved', 'resolved'], `${state}: durable is durable`);
    t.same(
      first.slice(3),
      Array.from({ length: 2 }, () => (state === 'closed' ? 'CLOSED' : 'POISONED')),
      state,
    );
    t.same(strays.map(String), [], `${state}: no stray exception`);
  }
});

t.test('closing a log gives its lane back: no timer keeps its memory', async (t) => {
  const loop = new LoopByHand();
  const { lane, handle } = loop.lane();
  const { log } = openLog(directory(t), 'js');
  const append = lane.append('s', 'x');
  lane.refuse();
  loop.close();
  loop.run(log);
  t.same(await append, { offset: 0 });
  await within(lane.close(), 'lane closed');
  t.ok(laneIsClosed(handle.lane), 'as SpillwayLog.close does it: refuse, then close');
});

for (const io of workingModes) {
  t.test(`${io}: the death of the commit worker reaches every caller`, async (t) => {
    const dir = directory(t);
    const { log, commitWorker } = await openSmall({
      dir,
      io,
      window: { maxRecords: 1000, maxBytes: '16KiB', lingerMs: 20_000 },
    });
    t.same(await Promise.all([log.append('s', '0:'), log.flush()]), [{ offset: 0 }, undefined]);
    const waiting = Array.from({ length: 5 }, (_, i) => codeOf(log.append('s', `${i + 1}:`)));
    const following = (async () => {
      const seen: LogRecord[] = [];
      for await (const r of log.read({ follow: true })) seen.push(r);
      return seen;
    })();
    following.catch(() => undefined);
    await commitWorker.terminate();
    t.same(
      await Promise.all(waiting),
      Array.from({ length: 5 }, () => 'WORKER_DIED'),
      'appends that waited',
    );
    t.equal(log.stats().state, 'poisoned');
    t.equal(await codeOf(log.append('s', 'later')), 'WORKER_DIED', 'a later append');
    t.equal(await codeOf(log.flush(), 2000), 'WORKER_DIED', 'a later flush');
    t.equal(await codeOf(log.truncateBefore(0), 2000), 'WORKER_DIED', 'a later truncateBefore');
    t.same((await recordsOf(log)).map(text), ['0:'], 'reading works');
    t.not(await codeOf(following, 2000), 'late', 'a following reader is not left waiting');
    t.equal(await codeOf(log.close()), 'WORKER_DIED', 'close');
    t.equal(await codeOf(log.close()), 'WORKER_DIED', 'and again');
    const { log: again } = await openSmall({ dir, io });
    t.same((await recordsOf(again)).slice(0, 1).map(text), ['0:'], 'reopening finds what was acknowledged');
    await again.close();
  });

  t.test(`${io}: flush and close under way when the commit worker dies`, async (t) => {
    const { log, commitWorker } = await openSmall({ dir: directory(t), io });
    const appends = Array.from({ length: 2000 }, (_, i) => codeOf(log.append('s', `${i}`)));
    const calls = [codeOf(log.flush()), codeOf(log.truncateBefore(0)), codeOf(log.close())];
    void commitWorker.terminate();
    for (const code of [...(await Promise.all(appends)), ...(await Promise.all(calls))]) {
      if (!['resolved', 'WORKER_DIED', 'CLOSED'].includes(code)) t.fail(code);
    }
    t.pass('every caller was told');
  });
}
