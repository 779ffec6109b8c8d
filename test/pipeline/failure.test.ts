// What fails, and what every caller then hears. Most of it on the commit loop run by hand over a disk that fails at
// chosen calls; the death of the thread and a really full disk through the public interface.

import t, { type Test } from 'tap';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open } from '../../src/index.ts';
import { counterSlots } from '../../src/base/limits.ts';
import type { LogRecord } from '../../src/base/types.ts';
import { Log } from '../../src/log/log.ts';
import { Lane } from '../../src/pipeline/lane.ts';
import { LaneConsumer } from '../../src/platform/lane-consumer.ts';
import { createLaneBuffer, laneIsClosed } from '../../src/platform/lane-memory.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { verify } from '../../src/log/verify.ts';
import { codeOf, directory, modeNotReached, until, within } from '../support/log-support.ts';
import { FaultyIo, type Fault } from '../support/log-faulty-io.ts';
import { fill, openLog, planOf, readBack, thrown } from '../support/log-plans.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';
import { endWorkers, openSmall, recordsOf, text } from '../support/pipeline-logs.ts';
import { workingModes } from '../support/modes.ts';

t.teardown(endWorkers);

interface Ran {
  readonly dir: string;
  readonly io: FaultyIo;
  readonly log: Log;
  readonly loop: LoopByHand;
  readonly lane: Lane;
  /** Offset that each append resolved with, or the code it was rejected with. */
  readonly results: (number | string)[];
}

/** Appends `count` records of 100 bytes, runs the loop over a disk with these faults, then closes it. */
async function ran(
  t: { teardown(f: () => unknown): unknown },
  faults: (loop: LoopByHand) => Fault[],
  count = 100,
  payloadBytes = 100,
): Promise<Ran> {
  const dir = directory(t);
  const io = new FaultyIo();
  const { log } = openLog(dir, io);
  const loop = new LoopByHand();
  const { lane } = loop.lane(256 * 1024);
  const promises = Array.from({ length: count }, (_, i) => lane.append('s', `${i}:`.padEnd(payloadBytes, 'x')));
  const settled = Promise.allSettled(promises);
  loop.flush();
  io.faults = faults(loop);
  loop.run(log);
  const results = (await within(settled, 'every append has an answer')).map((r) =>
    r.status === 'fulfilled' ? r.value.offset : ((r.reason as { code?: string }).code ?? String(r.reason)),
  );
  return { dir, io, log, loop, lane, results };
}

function numbered(records: readonly LogRecord[]): boolean {
  return records.every((r, i) => text(r).startsWith(`${i}:`));
}

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

for (const [what, call, path] of [
  ['zeros of the next segment', 'write', /spare\.tmp$/],
  ['its allocation', 'allocate', /spare\.tmp$/],
  ['its file', 'open', /spare\.tmp$/],
  ['the index', 'write', /\.idx\.tmp$/],
] as const) {
  t.test(`no space at a roll (${what}): appends wait, and go on when there is space`, async (t) => {
    const states: string[] = [];
    const durable: number[] = [];
    const r = await ran(
      t,
      ({ shared }) => [
        {
          call,
          path,
          errno: 'ENOSPC',
          times: 8,
          shortBytes: 4096,
          onFail: () => {
            states.push(shared.state);
            durable.push(shared.offset('durable'));
          },
        },
      ],
      150,
      1000,
    );
    t.same(
      r.results,
      Array.from({ length: 150 }, (_, i) => i),
      'every append resolved in the end',
    );
    t.ok(states.includes('full'), `states ${[...new Set(states)].join(', ')}`);
    t.equal(r.loop.shared.state, 'closed');
    t.equal(r.loop.replies[0].error, undefined);
    const again = openLog(r.dir, new JsIo());
    t.equal(again.log.durableOffset, 150);
    t.ok(numbered(readBack(again.io, r.dir).records));
    again.log.close();
    t.equal(verify(again.io, r.dir).ok, true);
  });
}

t.test('closing while the disk is full gives DISK_FULL, and keeps what was acknowledged', async (t) => {
  const dir = directory(t);
  const io = new FaultyIo();
  const { log } = openLog(dir, io);
  const loop = new LoopByHand();
  const { lane } = loop.lane(256 * 1024);
  const promises = Array.from({ length: 150 }, (_, i) => lane.append('s', `${i}:`.padEnd(1000, 'x')));
  const settled = Promise.allSettled(promises);
  // The close command comes while the loop waits for space: at its first retry.
  let failures = 0;
  const onFail = (): void => {
    if (loop.shared.state === 'full' && failures++ === 0) loop.close();
  };
  io.faults = [{ call: 'write', path: /spare\.tmp$/, errno: 'ENOSPC', onFail }];
  const reply = loop.run(log);
  t.match(reply, { error: { code: 'DISK_FULL' } });
  const results = await within(settled, 'every append has an answer');
  const acked = results.filter((r) => r.status === 'fulfilled').length;
  t.ok(acked > 0 && acked < 150, `${acked} acknowledged`);
  t.same([...new Set(results.slice(acked).map((r) => (r as { reason: { code: string } }).reason.code))], ['DISK_FULL']);
  const again = openLog(dir, new JsIo());
  t.equal(again.log.durableOffset, acked);
  t.ok(numbered(readBack(again.io, dir).records));
  again.log.close();
});

t.test('a roll out of an empty segment survives a full disk too', async (t) => {
  const dir = directory(t);
  openLog(dir, new JsIo()).log.close();
  const io = new FaultyIo();
  const KIB = 1024;
  const { log } = openLog(dir, io, {
    segmentBytes: 512 * KIB,
    window: { maxRecords: 1000, maxBytes: 200 * KIB, lingerMs: 0 },
  });
  const plan = planOf(Array.from({ length: 100 }, () => ({ payload: Buffer.alloc(1500) })));
  t.notOk(log.hasRoomFor(plan));
  io.faults = [{ call: 'write', path: /spare\.tmp$/, errno: 'ENOSPC', times: 3 }];
  for (let i = 0; i < 3; i++) {
    t.match(
      thrown(() => log.roll()),
      { details: { errno: 'ENOSPC' } },
    );
    t.equal(log.hasRoomFor(plan), false, 'still usable: it says that it needs a roll');
  }
  log.roll();
  log.append(plan, false);
  t.equal(log.durableOffset, 100);
  log.close();
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
      consumer.acknowledge(0, 3);
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

function tmpfs(t: { teardown(f: () => unknown): unknown }, size: string): string | undefined {
  const dir = directory(t);
  if (process.getuid?.() !== 0) return undefined;
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  t.teardown(() => execFileSync('umount', ['-l', dir], { stdio: 'ignore' }));
  return dir;
}

for (const io of workingModes.filter((m) => m !== 'direct')) {
  t.test(`${io}: a disk that is really full`, async (t) => {
    const disk = tmpfs(t, '1536k');
    if (disk === undefined) {
      t.pass('SKIPPED: mounting a tmpfs needs root');
      return;
    }
    const ballast = join(disk, 'ballast');
    const dir = join(disk, 'log');
    writeFileSync(ballast, Buffer.alloc(700 * 1024));
    const options = {
      dir,
      io,
      segmentBytes: '256KiB',
      laneBytes: '64KiB',
      maxRecordBytes: '8KiB',
      window: { maxRecords: 50, maxBytes: '16KiB', lingerMs: 0 },
    } as const;
    const log = await open(options);
    const acked: number[] = [];
    let failed: unknown;
    const appends = Array.from({ length: 1000 }, (_, i) =>
      log.append('s', `${i}:`.padEnd(1000, 'x')).then(
        ({ offset }) => void (acked[i] = offset),
        (error: unknown) => void (failed ??= error),
      ),
    );
    await until(() => log.stats().state === 'full' || failed !== undefined, 'state full');
    t.equal(failed, undefined, 'a full disk is back-pressure, not an error');
    const then = acked.filter((o) => o !== undefined).length;
    t.ok(then > 100 && then < 1000, `${then} acknowledged until it was full`);
    t.equal((await recordsOf(log)).length, log.stats().durableOffset, 'what is acknowledged can be read meanwhile');
    rmSync(ballast);
    await within(Promise.all(appends), 'it goes on when space returns', 15_000);
    t.equal(failed, undefined);
    t.equal(log.stats().state, 'open');
    t.same(
      acked,
      Array.from({ length: 1000 }, (_, i) => i),
    );
    const stats = log.stats();
    t.equal(modeNotReached(io, stats.systemCalls, stats.batches), undefined);
    await log.close();
    const again = await open(options);
    const records = await recordsOf(again);
    t.equal(records.length, 1000);
    t.ok(numbered(records));
    await again.close();
    t.equal(verify(new JsIo(), dir).ok, true);
  });
}

t.test('opening on a full disk says so, holds nothing, and works once there is space', async (t) => {
  const disk = tmpfs(t, '512k');
  if (disk === undefined) {
    t.pass('SKIPPED: mounting a tmpfs needs root');
    return;
  }
  const dir = join(disk, 'log');
  mkdirSync(dir);
  writeFileSync(join(disk, 'ballast'), Buffer.alloc(400 * 1024));
  const options = {
    dir,
    io: 'js',
    segmentBytes: '256KiB',
    laneBytes: '64KiB',
    maxRecordBytes: '8KiB',
    window: { maxBytes: '16KiB' },
  } as const;
  t.equal(await codeOf(open(options)), 'DISK_FULL');
  rmSync(join(disk, 'ballast'));
  const log = await open(options);
  t.same(await log.append('s', 'x'), { offset: 0 });
  await log.close();
});
