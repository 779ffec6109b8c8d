// The life of a log on a disk that works: offsets, rolls, overlapped appends, retention, truncation, other sizes, in every I/O mode.
// What a crash leaves behind: recovery.test.ts.

import t from 'tap';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { BLOCK_BYTES } from '../../src/base/limits.ts';
import { indexName, segmentName } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { callsOf, directory, modeNotReached } from '../support/log-support.ts';
import {
  filesOf,
  fill,
  firstWrong,
  KIB,
  openLog,
  planOf,
  readBack,
  recordAt,
  SimulatedClock,
  thrown,
} from '../support/log-plans.ts';
import { workingModes } from '../support/modes.ts';
import { headerOf, PER_SEGMENT, RECORDS } from '../support/log-segments.ts';

for (const mode of workingModes) {
  t.test(`${mode}: dense offsets, rolls, indexes, reopen`, async (t) => {
    const dir = directory(t);
    const { log, io } = openLog(dir, mode);
    t.same([log.startOffset, log.appendedOffset, log.durableOffset, log.segments], [0, 0, 0, 1]);
    const before = io.counters[13];
    fill(log, 3 * PER_SEGMENT + 2);
    const end = (3 * PER_SEGMENT + 2) * RECORDS;
    t.equal(log.durableOffset, end);
    t.equal(log.rolls, 3);
    t.equal(modeNotReached(mode, callsOf(io.counters), 3 * PER_SEGMENT + 2), undefined, 'the mode was reached');
    t.equal(io.counters[13] - before, 3 * PER_SEGMENT + 2, 'one commit write per batch');
    const bases = [0, 1, 2, 3].map((i) => i * PER_SEGMENT * RECORDS);
    t.same(filesOf(dir, '.seg'), bases.map(segmentName));
    t.same(filesOf(dir, '.idx'), bases.slice(0, 3).map(indexName), 'an index once sealed, never before');
    t.ok(
      filesOf(dir, '.seg').every((f) => statSync(join(dir, f)).size === 64 * KIB),
      'all files have their full size',
    );
    log.close();

    const again = openLog(dir, mode);
    t.same([again.log.startOffset, again.log.durableOffset, again.log.segments], [0, end, 4]);
    t.equal(again.log.recovered.tornBytes, 0);
    fill(again.log, 1);
    const { records, error } = readBack(again.io, dir);
    t.equal(error, undefined);
    t.equal(records.length, end + RECORDS);
    t.equal(firstWrong(records, 0), undefined);
    again.log.close();
    t.match(verify(again.io, dir), {
      ok: true,
      records: end + RECORDS,
      firstOffset: 0,
      lastOffset: end + RECORDS - 1,
      tornBytes: 0,
    });
  });

  t.test(`${mode}: overlapped appends keep order; durable moves only when they settle`, async (t) => {
    const dir = directory(t);
    const { log, io } = openLog(dir, mode);
    const batch = (first: number) => planOf(Array.from({ length: 5 }, (_, i) => recordAt(first + i)));
    log.append(batch(0), true);
    t.same([log.appendedOffset, log.durableOffset, log.outstanding], [5, 0, 1], 'under way: not durable');
    log.append(batch(5), true);
    t.same([log.appendedOffset, log.durableOffset, log.outstanding], [10, 0, 2], 'two may stay under way');
    log.append(batch(10), true);
    t.same([log.appendedOffset, log.durableOffset, log.outstanding], [15, 5, 2], 'the first has settled');
    log.append(batch(15), false);
    t.same([log.appendedOffset, log.durableOffset, log.outstanding], [20, 20, 0], 'not overlapped: all have');
    log.append(batch(20), true);
    log.settle();
    t.equal(log.durableOffset, 25);
    fill(log, 40, { overlap: true });
    log.append(batch(log.appendedOffset), true);
    log.close();
    const { records, error } = readBack(io, dir);
    t.equal(error, undefined);
    t.equal(firstWrong(records, 0), undefined);
    t.equal(records.length, 25 + 40 * RECORDS + 5, 'closing settles what is under way');
  });

  t.test(
    `${mode}: retentionBytes recycles: files are renamed, none grow in number, old batches stay unread`,
    async (t) => {
      const dir = directory(t);
      const { log, io } = openLog(dir, mode, { retentionBytes: 128 * KIB });
      fill(log, 4 * PER_SEGMENT + 1);
      const files = readdirSync(dir).length;
      const filled = log.fillBytes;
      fill(log, 10 * PER_SEGMENT);
      t.ok(readdirSync(dir).length <= files, `no growth: ${readdirSync(dir).join(' ')}`);
      t.equal(log.fillBytes, filled, 'no zeros were written for any recycled segment');
      t.ok(log.segments <= 3);
      t.ok(log.startOffset > 0);
      const { records, error } = readBack(io, dir);
      t.equal(error, undefined);
      t.equal(firstWrong(records, log.startOffset), undefined);
      t.equal(records.length, log.durableOffset - log.startOffset);
      // The active segment is a recycled one, with whole batches of its old life behind its end.
      const end = log.durableOffset;
      log.close();
      const active = filesOf(dir, '.seg').at(-1)!;
      const bytes = readFileSync(join(dir, active));
      const used = 1 + (end - headerOf(dir, active).baseOffset) / RECORDS;
      t.ok(used < 16 && bytes.readUInt32LE(used * BLOCK_BYTES) === 0x424c5053, 'a stale batch stands behind the end');
      const again = openLog(dir, mode, { retentionBytes: 128 * KIB });
      t.equal(again.log.durableOffset, end, 'and is not taken for a new one');
      t.equal(again.log.recovered.tornBytes, 0);
      again.log.close();
      t.equal(verify(again.io, dir).ok, true);
    },
  );

  t.test(`${mode}: truncateBefore is kept over a reopen, frees whole segments, and knows its bounds`, async (t) => {
    const dir = directory(t);
    const { log, io } = openLog(dir, mode);
    fill(log, 3 * PER_SEGMENT + 1);
    const end = log.durableOffset;
    for (const wrong of [end + 1, -1, 1.5, Number.NaN]) {
      t.match(
        thrown(() => log.truncateBefore(wrong)),
        { code: 'OFFSET_OUT_OF_RANGE' },
        String(wrong),
      );
    }
    const start = PER_SEGMENT * RECORDS + 7;
    log.truncateBefore(start);
    t.same(filesOf(dir, '.seg').length, 3, 'the first segment is gone, the second holds records still wanted');
    t.notOk(existsSync(join(dir, indexName(0))));
    log.truncateBefore(3);
    t.equal(log.startOffset, start, 'never backwards');
    t.equal(firstWrong(readBack(io, dir).records, start), undefined);
    t.match(readBack(io, dir, { from: start - 1 }).error, { code: 'OFFSET_OUT_OF_RANGE' });
    log.close();
    const again = openLog(dir, mode);
    t.equal(again.log.startOffset, start);
    t.equal(readBack(again.io, dir).records[0].offset, start);
    again.log.truncateBefore(end);
    t.equal(readBack(again.io, dir).records.length, 0);
    t.equal(filesOf(dir, '.seg').length, 1);
    fill(again.log, 1);
    t.equal(readBack(again.io, dir).records[0].offset, end);
    again.log.close();
    const third = openLog(dir, mode);
    t.same([third.log.startOffset, third.log.durableOffset], [end, end + RECORDS]);
    third.log.close();
    t.equal(verify(third.io, dir).ok, true);
  });

  t.test(`${mode}: other sizes in the next run`, async (t) => {
    for (const [from, to] of [
      [64, 128],
      [128, 64],
    ]) {
      const dir = directory(t);
      const first = openLog(dir, mode, { segmentBytes: from * KIB });
      fill(first.log, PER_SEGMENT + 3);
      first.log.close();
      const retentionBytes = 2 * to * KIB;
      const { log, io } = openLog(dir, mode, { segmentBytes: to * KIB, retentionBytes });
      for (let i = 0; i < 12; i++) {
        fill(log, 10);
        for (const f of filesOf(dir, '.seg')) {
          const { segmentBytes } = headerOf(dir, f);
          t.equal(statSync(join(dir, f)).size, segmentBytes, `${from} → ${to}: ${f} is as long as its header says`);
        }
      }
      const { records, error } = readBack(io, dir, { durableOffset: () => log.durableOffset });
      t.equal(error?.message, undefined);
      t.equal(records.length, log.durableOffset - log.startOffset);
      t.equal(firstWrong(records, log.startOffset), undefined);
      log.close();
      t.equal(verify(io, dir).ok, true);
    }
  });

  t.test(`${mode}: an empty active segment too small for a larger window is replaced`, async (t) => {
    const dir = directory(t);
    openLog(dir, mode).log.close();
    const { log, io } = openLog(dir, mode, {
      segmentBytes: 512 * KIB,
      window: { maxRecords: 1000, maxBytes: 200 * KIB, lingerMs: 0 },
    });
    const plan = planOf(Array.from({ length: 100 }, (_, i) => recordAt(i, 1500)));
    t.notOk(log.hasRoomFor(plan));
    log.roll();
    t.ok(log.hasRoomFor(plan));
    log.append(plan, false);
    t.equal(statSync(join(dir, segmentName(0))).size, 512 * KIB);
    log.close();
    t.equal(firstWrong(readBack(io, dir).records, 0), undefined);
    const again = openLog(dir, mode);
    t.equal(again.log.durableOffset, 100);
    again.log.close();
  });
}

t.test('an empty log: open, close, open, verify', async (t) => {
  const dir = directory(t);
  for (let i = 0; i < 3; i++) {
    const { log, io } = openLog(dir, 'js');
    t.same([log.startOffset, log.durableOffset, log.segments], [0, 0, 1]);
    log.close();
    t.match(verify(io, dir), { ok: true, records: 0, firstOffset: null, lastOffset: null });
    t.same(readBack(io, dir), { records: [], error: undefined });
  }
  t.same(filesOf(dir, '.seg'), [segmentName(0)]);
});

t.test('retentionMs, by a simulated clock', async (t) => {
  const dir = directory(t);
  const clock = new SimulatedClock();
  const { log } = openLog(dir, 'js', { retentionMs: 1000 }, clock);
  fill(log, PER_SEGMENT);
  clock.nowMs += 600;
  fill(log, PER_SEGMENT);
  fill(log, 1);
  log.retain();
  t.equal(log.startOffset, 0, 'nothing is old enough');
  clock.nowMs += 401;
  log.retain();
  t.equal(log.startOffset, PER_SEGMENT * RECORDS, 'the first segment is');
  clock.nowMs += 10_000;
  log.retain();
  t.equal(log.startOffset, 2 * PER_SEGMENT * RECORDS, 'the active segment stays, however old');
  t.equal(log.durableOffset, (2 * PER_SEGMENT + 1) * RECORDS);
  log.close();
  // The age of a sealed segment is known after a reopen, from its index.
  const again = openLog(dir, 'js', { retentionMs: 1000 }, clock);
  t.equal(again.log.startOffset, 2 * PER_SEGMENT * RECORDS);
  again.log.close();
});
