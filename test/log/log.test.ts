import t from 'tap';
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { BLOCK_BYTES } from '../../src/base/limits.ts';
import { decodeSegmentHeader, encodeBatchPrefix, planBatchBytes } from '../../src/log/format.ts';
import { indexName, segmentName } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { callsOf, copyOf, directory, modeNotReached } from '../support/log-support.ts';
import {
  filesOf,
  fill,
  firstWrong,
  KIB,
  openLog,
  payloadAt,
  planOf,
  readBack,
  SimulatedClock,
  thrown,
} from '../support/log-plans.ts';
import { workingModes } from '../support/modes.ts';

/** Batches of 20 records of 100 bytes take one block of 4 KiB; 15 of them fill a segment of 64 KiB. */
const PER_SEGMENT = 15;
const RECORDS = 20;

function headerOf(
  dir: string,
  file: string,
): { epoch: number; salt: number; segmentBytes: number; baseOffset: number } {
  const header = decodeSegmentHeader(readFileSync(join(dir, file)), crc32cJs);
  if ('invalid' in header) throw new Error(`${file}: ${header.invalid}`);
  return header;
}

/** Bytes written into a file at a position, as a crash could have left them. */
function scribble(path: string, bytes: Uint8Array, position: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, position);
  closeSync(fd);
}

/** The bytes of a batch as the writer of this segment would have written it next. */
function nextBatch(dir: string, file: string, baseOffset: number, records = RECORDS): Buffer {
  const { epoch, salt } = headerOf(dir, file);
  const plan = planOf(Array.from({ length: records }, (_, i) => ({ payload: payloadAt(baseOffset + i) })));
  const staging = Buffer.alloc(planBatchBytes(plan));
  const prefix = encodeBatchPrefix(staging, plan, { epoch, salt, baseOffset, committedAtMs: 5 });
  return staging.subarray(0, new JsIo().bytes.seal(staging, prefix, plan.sources, plan.ranges, plan.rangeCount));
}

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
    const batch = (first: number) => planOf(Array.from({ length: 5 }, (_, i) => ({ payload: payloadAt(first + i) })));
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

  t.test(`${mode}: a torn tail is cut silently, and appending goes on over it`, async (t) => {
    const dir = directory(t);
    const first = openLog(dir, mode);
    fill(first.log, 3);
    first.log.close();
    const file = segmentName(0);
    // Half of a batch of several blocks: header and checksum are there, the rest is not.
    const torn = nextBatch(dir, file, 60, 150);
    t.ok(torn.length > 2 * BLOCK_BYTES);
    scribble(join(dir, file), torn.subarray(0, torn.length - BLOCK_BYTES), 4 * BLOCK_BYTES);
    const seen = verify(new JsIo(), dir);
    t.match(seen, { ok: true, records: 60, tornBytes: torn.length });
    const { log, io } = openLog(dir, mode);
    t.equal(log.durableOffset, 60);
    t.equal(log.recovered.tornBytes, torn.length);
    fill(log, 2);
    log.close();
    const { records, error } = readBack(io, dir);
    t.equal(error, undefined);
    t.equal(records.length, 100);
    t.equal(firstWrong(records, 0), undefined);
    t.equal(verify(io, dir).ok, true);
  });

  t.test(`${mode}: a whole batch behind the recorded end is kept: it may have been acknowledged`, async (t) => {
    const dir = directory(t);
    const first = openLog(dir, mode);
    fill(first.log, 3);
    first.log.close();
    scribble(join(dir, segmentName(0)), nextBatch(dir, segmentName(0), 60), 4 * BLOCK_BYTES);
    const { log, io } = openLog(dir, mode);
    t.equal(log.durableOffset, 80);
    log.close();
    t.equal(firstWrong(readBack(io, dir).records, 0), undefined);
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
    const plan = planOf(Array.from({ length: 100 }, (_, i) => ({ payload: payloadAt(i, 1500) })));
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

t.test('a stale batch of a recycled segment, partly overwritten, is never read', async (t) => {
  const dir = directory(t);
  const { log } = openLog(dir, 'js', { retentionBytes: 128 * KIB });
  fill(log, 6 * PER_SEGMENT + 4);
  log.close();
  const active = filesOf(dir, '.seg').at(-1)!;
  const { baseOffset } = headerOf(dir, active);
  for (const firstBlocks of [1, 2]) {
    const copy = copyOf(t, dir);
    // The write under way at the crash brought only its first blocks to the disk; behind them lies the old life.
    const torn = nextBatch(copy, active, baseOffset + 4 * RECORDS, 100);
    t.ok(torn.length >= 3 * BLOCK_BYTES);
    scribble(join(copy, active), torn.subarray(0, firstBlocks * BLOCK_BYTES), 5 * BLOCK_BYTES);
    const again = openLog(copy, 'js');
    t.equal(again.log.durableOffset, baseOffset + 4 * RECORDS);
    t.ok(again.log.recovered.tornBytes > 0);
    fill(again.log, 1);
    const { records, error } = readBack(again.io, copy);
    t.equal(error, undefined);
    t.equal(firstWrong(records, again.log.startOffset), undefined);
    t.equal(records.at(-1)?.offset, baseOffset + 5 * RECORDS - 1);
    again.log.close();
  }
});

/** A log of two sealed segments and an active one, closed. */
function small(dir: string): number {
  const { log } = openLog(dir, 'js');
  fill(log, 2 * PER_SEGMENT + 3);
  log.close();
  return log.durableOffset;
}

t.test('a crash in the midst of a roll, at each step', async (t) => {
  const dir = directory(t);
  const { log } = openLog(dir, 'js');
  fill(log, 2 * PER_SEGMENT);
  const end = log.durableOffset;
  const base = segmentName(PER_SEGMENT * RECORDS);
  // The disk as each call of the roll left it, copied before the next call.
  log.close();
  const steps: { what: string; dir: string }[] = [];
  class Copying extends JsIo {
    watching = false;
    #snap(what: string): void {
      if (this.watching) steps.push({ what, dir: copyOf(t, dir) });
    }
    override open(path: string, how: 'read' | 'write' | 'create', direct: boolean): number {
      this.#snap(`before open ${path}`);
      return super.open(path, how, direct);
    }
    override write(fd: number, bytes: Uint8Array, position: number): void {
      this.#snap(`before write ${this.pathOf(fd)}`);
      super.write(fd, bytes, position);
    }
    override rename(from: string, to: string): void {
      this.#snap(`before rename ${from}`);
      super.rename(from, to);
      this.#snap(`after rename ${from}`);
    }
    override unlink(path: string): void {
      this.#snap(`before unlink ${path}`);
      super.unlink(path);
      this.#snap(`after unlink ${path}`);
    }
  }
  const io = new Copying();
  const second = openLog(dir, io, { retentionBytes: 128 * KIB });
  io.watching = true;
  second.log.roll();
  io.watching = false;
  second.log.close();
  t.ok(steps.length >= 8, `${steps.length} moments`);
  for (const { what, dir: copy } of steps) {
    const before = verify(new JsIo(), copy);
    t.equal(before.ok, true, `${what}: ${JSON.stringify(before.problems)}`);
    const again = openLog(copy, 'js');
    t.equal(again.log.durableOffset, end, what);
    t.same(filesOf(copy, '.tmp'), [], `${what}: half-made files are gone`);
    fill(again.log, 2);
    again.log.close();
    const { records, error } = readBack(again.io, copy);
    t.equal(error, undefined, what);
    t.equal(firstWrong(records, again.log.startOffset), undefined, what);
    t.equal(records.at(-1)?.offset, end + 2 * RECORDS - 1, what);
    t.equal(verify(again.io, copy).ok, true, what);
  }
  t.ok(existsSync(join(dir, base)));
});

t.test('sealed, but no successor; a successor without records; half-made files', async (t) => {
  const dir = directory(t);
  const { log } = openLog(dir, 'js');
  fill(log, PER_SEGMENT);
  const end = log.durableOffset;
  const checkpoint = readFileSync(join(dir, 'checkpoint'));
  log.roll();
  log.close();
  const checked = (copy: string, what: string): void => {
    const again = openLog(copy, 'js');
    t.equal(again.log.durableOffset, end, what);
    fill(again.log, 1);
    t.same(filesOf(copy, '.seg'), [segmentName(0), segmentName(end)], what);
    again.log.close();
    t.equal(firstWrong(readBack(again.io, copy).records, 0), undefined, what);
    t.equal(verify(again.io, copy).ok, true, what);
  };
  const noSuccessor = copyOf(t, dir);
  rmSync(join(noSuccessor, segmentName(end)));
  writeFileSync(join(noSuccessor, 'checkpoint'), checkpoint); // the one of the roll comes after the successor
  checked(noSuccessor, 'index there, no successor');
  const halfMade = copyOf(t, dir);
  for (const f of [`${indexName(end)}.tmp`, 'spare.tmp', 'checkpoint.tmp', 'probe.tmp'])
    writeFileSync(join(halfMade, f), 'half');
  checked(halfMade, 'temporary files');
  t.same(filesOf(halfMade, '.tmp'), []);
  const wrongSpare = copyOf(t, dir);
  writeFileSync(join(wrongSpare, 'spare'), Buffer.alloc(4096));
  checked(wrongSpare, 'a spare of another size');
  checked(copyOf(t, dir), 'an empty successor');
});

t.test('an index that is missing or damaged is said by verify, and made again at the next open', async (t) => {
  const dir = directory(t);
  const end = small(dir);
  const file = indexName(PER_SEGMENT * RECORDS);
  const right = readFileSync(join(dir, file));
  const cases: [string, (path: string) => void][] = [
    ['missing', (path) => rmSync(path)],
    ['empty', (path) => truncateSync(path, 0)],
    ['cut', (path) => truncateSync(path, right.length - 4)],
    ['longer', (path) => writeFileSync(path, Buffer.concat([right, Buffer.alloc(100)]))],
    ['a flipped bit', (path) => scribble(path, Buffer.from([right[70] ^ 4]), 70)],
    ['that of another segment', (path) => copyFileSync(join(path, '..', indexName(0)), path)],
  ];
  for (const [what, damage] of cases) {
    const copy = copyOf(t, dir);
    damage(join(copy, file));
    const found = verify(new JsIo(), copy);
    t.match(found, { records: end }, `${what}: no record is doubted`);
    t.same(
      found.problems.map((p) => p.file),
      [file],
      `${what}: verify names the index`,
    );
    t.equal(firstWrong(readBack(new JsIo(), copy).records, 0), undefined, `${what}: it costs a reader speed only`);
    const again = openLog(copy, 'js');
    t.equal(again.log.durableOffset, end, what);
    again.log.close();
    t.ok(readFileSync(join(copy, file)).equals(right), `${what}: the same index again`);
    t.equal(verify(again.io, copy).ok, true, what);
  }
});

t.test('opening reads only what is not sealed', async (t) => {
  const dir = directory(t);
  const { log } = openLog(dir, 'js');
  fill(log, 20 * PER_SEGMENT + 2);
  log.close();
  const io = new JsIo();
  const again = openLog(dir, io);
  const size = 20 * 64 * KIB;
  t.ok(io.bytesRead < 0.2 * size, `${io.bytesRead} of ${size} bytes read`);
  again.log.close();
});
