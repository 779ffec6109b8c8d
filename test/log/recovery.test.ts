// Opening a log: what a crash may have left behind is cut, kept or made again; stale batches of a recycled segment are never read;
// and only what is not sealed is read.

import t from 'tap';
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { BLOCK_BYTES } from '../../src/base/limits.ts';
import { encodeBatchPrefix, planBatchBytes } from '../../src/log/format.ts';
import { indexName, segmentName } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { copyOf, directory } from '../support/log-support.ts';
import { filesOf, fill, firstWrong, KIB, openLog, planOf, readBack, recordAt } from '../support/log-plans.ts';
import { workingModes } from '../support/modes.ts';
import { headerOf, PER_SEGMENT, RECORDS } from '../support/log-segments.ts';

/** Bytes written into a file at a position, as a crash could have left them. */
function scribble(path: string, bytes: Uint8Array, position: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, position);
  closeSync(fd);
}

/** The bytes of a batch as the writer of this segment would have written it next. */
function nextBatch(dir: string, file: string, baseOffset: number, records = RECORDS): Buffer {
  const { epoch, salt } = headerOf(dir, file);
  const plan = planOf(Array.from({ length: records }, (_, i) => recordAt(baseOffset + i)));
  const staging = Buffer.alloc(planBatchBytes(plan));
  const prefix = encodeBatchPrefix(staging, plan, { epoch, salt, baseOffset, committedAtMs: 5 });
  return staging.subarray(0, new JsIo().bytes.seal(staging, prefix, plan.sources, plan.ranges, plan.rangeCount));
}

for (const mode of workingModes) {
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
}

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

/** A log of two sealed segments and an active one, closed. */
function small(dir: string): number {
  const { log } = openLog(dir, 'js');
  fill(log, 2 * PER_SEGMENT + 3);
  log.close();
  return log.durableOffset;
}

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
