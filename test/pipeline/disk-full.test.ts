// A full disk is back-pressure: appends wait, and go on when there is space. On the commit loop run by hand over a disk that says
// it is full at chosen calls, and on one that really is, through the public interface.

import t from 'tap';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open } from '../../src/index.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { verify } from '../../src/log/verify.ts';
import { codeOf, directory, modeNotReached, until, within } from '../support/log-support.ts';
import { FaultyIo } from '../support/log-faulty-io.ts';
import { openLog, planOf, readBack, thrown } from '../support/log-plans.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';
import { endWorkers, recordsOf } from '../support/pipeline-logs.ts';
import { workingModes } from '../support/modes.ts';
import { numbered, ran } from '../support/pipeline-failing.ts';

t.teardown(endWorkers);

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
