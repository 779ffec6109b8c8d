// What fails once and is not final: freeing segments, and making the next one on a full disk. The log goes on, and what the
// failure left lying is in nobody's way.

import t from 'tap';
import { verify } from '../../src/log/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { FaultyIo } from '../support/log-faulty-io.ts';
import { filesOf, fill, firstWrong, openLog, readBack, thrown, tiny } from '../support/log-plans.ts';
import { directory } from '../support/log-support.ts';

for (const fault of [
  { call: 'unlink', path: /\.idx$/ },
  { call: 'unlink', path: /\.seg$/ },
  { call: 'rename', path: /spare$/ },
  { call: 'syncDir' },
] as const) {
  t.test(
    `freeing fails once (${fault.call} ${fault.path ?? ''}): the next truncation frees what it left`,
    async (t) => {
      const dir = directory(t);
      const io = new FaultyIo();
      const { log } = openLog(dir, io);
      while (log.rolls < 5) fill(log, 1);
      const before = filesOf(dir, '.seg').length;
      io.faults = [{ ...fault, errno: 'EIO', times: 1 }];
      t.equal(thrown(() => log.truncateBefore(log.durableOffset - 1)).code, 'IO_ERROR');
      t.equal(log.poison, undefined);
      log.truncateBefore(log.durableOffset);
      t.ok(before > 3, `${before} segments before`);
      t.equal(filesOf(dir, '.seg').length, 1, 'only the active one is left');
      t.equal(filesOf(dir, '.idx').length, 0);
      while (log.rolls < 8) fill(log, 1);
      log.close();
      const again = openLog(dir, new JsIo());
      t.equal(firstWrong(readBack(again.io, dir).records), undefined);
      again.log.close();
      t.same(verify(again.io, dir).problems, []);
    },
  );
}

t.test(
  'retention fails to remove a file in a roll: the log goes on, counts it, and removes it the next time',
  async (t) => {
    const dir = directory(t);
    const io = new FaultyIo();
    const { log } = openLog(dir, io, { retentionBytes: 3 * tiny.segmentBytes });
    while (log.rolls < 6) fill(log, 1);
    const kept = filesOf(dir, '.seg').length;
    io.faults = [{ call: 'unlink', path: /\.idx$/, errno: 'EIO', times: 1 }];
    while (log.rolls < 7) fill(log, 1);
    t.equal(log.retentionFailures, 1);
    t.equal(log.poison, undefined);
    t.equal(filesOf(dir, '.seg').length, kept + 1, 'one more than retention wants');
    while (log.rolls < 8) fill(log, 1);
    t.equal(log.retentionFailures, 1);
    t.equal(filesOf(dir, '.seg').length, kept);
    log.close();
    t.same(verify(io, dir).problems, []);
  },
);

for (const [what, fault] of [
  ['the rename of the filled file', { call: 'rename', path: /spare$/ }],
  ['the directory behind it', { call: 'syncDir' }],
  ['the rename to the segment', { call: 'rename', path: /\.seg$/ }],
] as const) {
  t.test(`no space once at ${what}: the roll succeeds when it is tried again`, async (t) => {
    const dir = directory(t);
    const io = new FaultyIo();
    const { log } = openLog(dir, io);
    fill(log, 3);
    io.faults = [{ ...fault, errno: 'ENOSPC', times: 1, at: fault.call === 'syncDir' ? 2 : 1 }];
    t.equal(thrown(() => log.roll()).details.errno, 'ENOSPC');
    t.equal(log.poison, undefined);
    log.roll();
    fill(log, 3);
    log.close();
    const again = openLog(dir, new JsIo());
    const { records } = readBack(again.io, dir);
    t.equal(records.length, log.durableOffset);
    t.equal(firstWrong(records, 0), undefined);
    again.log.close();
  });
}
