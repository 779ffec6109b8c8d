// Segments that are listed and cannot be opened: names that lead nowhere, files that somebody removes at that very moment,
// and those that a live writer truncates away. Only the last are no damage.

import t from 'tap';
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { indexName, segmentName } from '../../src/log/names.ts';
import { inspect, verify } from '../../src/log/verify.ts';
import { LogReader } from '../../src/log/reader.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { FaultyIo } from '../support/log-faulty-io.ts';
import { copyOf, directory } from '../support/log-support.ts';
import { filesOf, fill, firstWrong, KIB, openLog, readBack, thrown } from '../support/log-plans.ts';
import { verifyOnThreads } from '../../src/pipeline/verify.ts';

const RECORDS = 20;
const PER_SEGMENT = 15 * RECORDS;
const END = 4 * PER_SEGMENT + 2 * RECORDS;
const bases = [0, 1, 2, 3, 4].map((n) => n * PER_SEGMENT);

/** Acts right before the nth opening of a file, and takes care that nobody goes round for ever. */
class Acting extends JsIo {
  opens = 0;
  readonly #name: string;
  readonly #at: number;
  readonly #act: () => void;
  #seen = 0;

  constructor(name: string, at: number, act: () => void) {
    super();
    this.#name = name;
    this.#at = at;
    this.#act = act;
  }

  override open(...args: Parameters<JsIo['open']>): number {
    if (++this.opens > 500) throw new Error(`it goes round: ${args[0]} was opened again and again`);
    if (args[0].endsWith(this.#name) && ++this.#seen === this.#at) this.#act();
    return super.open(...args);
  }

  get acted(): boolean {
    return this.#seen >= this.#at;
  }
}

const idle = (): Acting => new Acting('nothing', 1, () => undefined);

const whole = directory(t);
{
  const { log } = openLog(whole, 'js');
  fill(log, END / RECORDS);
  log.close();
}
t.strictSame(filesOf(whole, '.seg'), bases.map(segmentName));

t.test('a name that leads nowhere: an old segment on a disk that is not mounted', async (t) => {
  for (const [i, base] of bases.entries()) {
    for (const withIndex of [false, true]) {
      const dir = copyOf(t, whole);
      const elsewhere = directory(t);
      const next = bases[i + 1] ?? END;
      for (const name of [segmentName(base), ...(withIndex && i < 4 ? [indexName(base)] : [])]) {
        renameSync(join(dir, name), join(elsewhere, name));
        symlinkSync(join(elsewhere, 'not-mounted', name), join(dir, name));
      }
      const what = `segment ${i}${withIndex ? ' and its index' : ''}`;
      const problem = { file: segmentName(base), position: 0, firstOffset: base, lastOffset: next - 1 };
      const error = thrown(() => openLog(dir, idle()));
      t.match(error, { code: 'CORRUPT', details: { problems: [problem] } }, `${what}: opening`);
      t.match(verify(idle(), dir), { ok: false, problems: [problem] }, `${what}: verify`);
      t.match((await verifyOnThreads(dir, { threads: 2 })).problems, [problem], `${what}: verify on threads`);
      t.match(inspect(idle(), dir).found.problems, [problem], `${what}: inspect`);
      for (const options of [{}, { stream: 's' }, { durableOffset: () => END }, { from: base }]) {
        const { records, error: wrong } = readBack(idle(), dir, { ...options, checkEnd: true });
        t.match(wrong, { code: 'CORRUPT' }, `${what}: a reader`);
        t.ok(wrong?.details.problems?.[0].firstOffset === base, `${what}: a reader says where`);
        t.equal(firstWrong(records), undefined);
        t.equal(records.length, 'from' in options ? 0 : base, `${what}: a reader has what stands before it`);
      }
      // Nothing was changed by any of them: with the disk mounted again the log is whole.
      for (const name of filesOf(elsewhere, '')) {
        rmSync(join(dir, name));
        renameSync(join(elsewhere, name), join(dir, name));
      }
      const { log } = openLog(dir, 'js');
      t.strictSame([log.startOffset, log.durableOffset], [0, END], `${what}: nothing is lost`);
      log.close();
    }
  }
});

t.test('a checkpoint or an index that leads nowhere', async (t) => {
  const dir = copyOf(t, whole);
  rmSync(join(dir, indexName(bases[1])));
  symlinkSync('/nowhere/at/all', join(dir, indexName(bases[1])));
  t.match(verify(idle(), dir).problems, [{ file: indexName(bases[1]), message: /missing/ }]);
  t.equal(readBack(idle(), dir).records.length, END);
  openLog(dir, 'js').log.close();
  t.equal(verify(idle(), dir).ok, true, 'the index was made again');
  rmSync(join(dir, 'checkpoint'));
  symlinkSync('/nowhere/at/all', join(dir, 'checkpoint'));
  t.match(
    thrown(() => openLog(dir, idle())),
    { code: 'CORRUPT', details: { problems: [{ file: 'checkpoint' }] } },
  );
  t.match(verify(idle(), dir).problems, [{ file: 'checkpoint' }]);
  t.match(readBack(idle(), dir).error, { code: 'CORRUPT' });
});

t.test('a segment that somebody removes in the midst of it', async (t) => {
  for (const base of bases) {
    for (const at of [1, 2]) {
      const removed = (): [string, Acting] => {
        const dir = copyOf(t, whole);
        return [dir, new Acting(segmentName(base), at, () => rmSync(join(dir, segmentName(base))))];
      };
      const what = `segment ${base}, at its opening ${at}`;
      const [opened, openIo] = removed();
      if (at === 1)
        t.match(
          thrown(() => openLog(opened, openIo)),
          { code: 'CORRUPT' },
          `${what}: opening`,
        );
      const [verified, verifyIo] = removed();
      const { ok, problems } = verify(verifyIo, verified);
      t.ok(verifyIo.acted);
      t.equal(ok, false, `${what}: verify`);
      t.ok(
        problems.some((p) => p.firstOffset <= base && (p.lastOffset ?? Infinity) >= base),
        `${what}: verify says where`,
      );
      const [read, readIo] = removed();
      const { records, error } = readBack(readIo, read, { checkEnd: true });
      if (at === 1) t.match(error, { code: 'CORRUPT' }, `${what}: a reader`);
      t.equal(firstWrong(records), undefined);
    }
  }
});

t.test('a segment that a live writer truncates away in the midst of it is no damage', async (t) => {
  for (const upTo of bases.slice(1)) {
    for (const base of bases.filter((b) => b < upTo)) {
      for (const [at, name] of [
        [1, segmentName(base)],
        [2, segmentName(base)],
        [1, indexName(base)],
        [2, indexName(base)],
        [1, 'checkpoint'],
        [2, 'checkpoint'],
      ] as const) {
        const what = `${name}, at its opening ${at}, truncated to ${upTo}`;
        const live = (): { dir: string; log: ReturnType<typeof openLog>['log']; io: Acting } => {
          const dir = copyOf(t, whole);
          const { log } = openLog(dir, 'js');
          return { dir, log, io: new Acting(name, at, () => log.truncateBefore(upTo)) };
        };
        const a = live();
        t.strictSame(verify(a.io, a.dir).problems, [], `${what}: verify`);
        t.equal(verify(idle(), a.dir).ok, true);
        a.log.close();
        const b = live();
        t.strictSame(inspect(b.io, b.dir).found.problems, [], `${what}: inspect`);
        b.log.close();
        const c = live();
        const { records, error } = readBack(c.io, c.dir, { checkEnd: true });
        t.ok(error === undefined || error.code === 'OFFSET_OUT_OF_RANGE', `${what}: a reader: ${error?.message}`);
        t.equal(firstWrong(records), undefined);
        c.log.close();
      }
    }
  }
});

t.test('the newest segment is missing: a reader says so, whatever the checkpoint knows of its records', async (t) => {
  const dir = copyOf(t, whole);
  const { log } = openLog(dir, 'js');
  log.roll();
  fill(log, 3);
  // A kill: nothing more is written down.
  for (const also of [[], [indexName(bases[4])]]) {
    const copy = copyOf(t, dir);
    for (const name of [segmentName(END), ...also]) rmSync(join(copy, name));
    t.match(
      thrown(() => openLog(copy, idle())),
      { code: 'CORRUPT' },
    );
    t.equal(verify(idle(), copy).ok, false);
    for (const options of [{}, { stream: 's' }, { from: END }]) {
      const { error } = readBack(idle(), copy, { ...options, checkEnd: true });
      t.match(error, { code: 'CORRUPT' }, `a reader, ${JSON.stringify(options)}, also without ${also.join()}`);
    }
  }
  log.close();
});

t.test('an empty segment is replaced by a larger one under a reader that follows', async (t) => {
  const dir = directory(t);
  const small = { segmentBytes: 8 * KIB, window: { maxRecords: 1000, maxBytes: 3 * KIB, lingerMs: 0 } };
  openLog(dir, 'js', { ...small, maxRecordBytes: 2 * KIB }).log.close();
  const { log } = openLog(dir, 'js');
  const io = idle();
  const reader = new LogReader(io, dir, { stream: undefined, from: undefined });
  t.equal(reader.nextBatch(), undefined);
  fill(log, 3, { perBatch: 60 });
  const records = [];
  for (let i = 0; i < 10; i++) records.push(...(reader.nextBatch() ?? []));
  t.equal(records.length, 180);
  t.equal(firstWrong(records, 0), undefined);
  reader.close();
  log.close();
});

t.test('the last segment is sealed and too old: it is not freed before there is a next one', async (t) => {
  const dir = directory(t);
  const { log, clock } = openLog(dir, 'js');
  fill(log, (2 * PER_SEGMENT) / RECORDS);
  const end = log.durableOffset;
  // A roll that ends once its segment is sealed.
  const crashed = new FaultyIo();
  log.close();
  const second = openLog(dir, crashed, {}, clock).log;
  crashed.faults = [{ call: 'rename', path: /\d\.seg$/, errno: 'EIO' }];
  t.match(
    thrown(() => second.roll()),
    { code: 'IO_ERROR' },
  );
  clock.nowMs += 1_000_000;
  const io = new FaultyIo();
  io.faults = [{ call: 'rename', path: /\d\.seg$/, errno: 'EIO' }];
  t.match(
    thrown(() => openLog(dir, io, { retentionMs: 1000 }, clock)),
    { code: 'IO_ERROR' },
  );
  const { log: reopened } = openLog(dir, 'js', { retentionMs: 1000 }, clock);
  t.strictSame([reopened.startOffset, reopened.durableOffset, reopened.segments], [end, end, 1]);
  reopened.close();
  t.equal(verify(idle(), dir).ok, true);
});
