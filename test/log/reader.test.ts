import t from 'tap';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { counterSlots } from '../../src/base/limits.ts';
import { LogReader } from '../../src/log/reader.ts';
import { segmentName } from '../../src/log/names.ts';
import { NativeFileIo } from '../../src/platform/native-io.ts';
import { native } from '../../src/platform/native.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import type { FileIo } from '../../src/platform/file-io.ts';
import { directory } from '../support/log-support.ts';
import { bytesIn, filesOf, fill, firstWrong, KIB, openLog, readBack, thrown } from '../support/log-plans.ts';
import { workingModes } from '../support/modes.ts';

const RECORDS = 20;
const PER_SEGMENT = 15;

function readers(): Record<string, () => FileIo> {
  const js = { js: () => new JsIo() };
  return native === undefined ? js : { ...js, native: () => new NativeFileIo(native!, 'buffered') };
}

function drain(reader: LogReader): ReturnType<typeof readBack>['records'] {
  const records = [];
  for (let batch = reader.nextBatch(); batch !== undefined; batch = reader.nextBatch()) records.push(...batch);
  return records;
}

t.test('a segment that vanishes between listing and opening is not the end', async (t) => {
  const dir = directory(t);
  const { log } = openLog(dir, 'js');
  fill(log, 4 * PER_SEGMENT);
  const second = PER_SEGMENT * RECORDS;
  let truncated = false;
  class Racing extends JsIo {
    override open(...args: Parameters<JsIo['open']>): number {
      if (args[0].endsWith(segmentName(second)) && !truncated) {
        truncated = true;
        log.truncateBefore(2 * second);
      }
      return super.open(...args);
    }
  }
  const { records, error } = readBack(new Racing(), dir, { durableOffset: () => log.durableOffset });
  t.ok(truncated, 'the race took place');
  t.equal(records.length, second, 'what was read before');
  t.match(error, { code: 'OFFSET_OUT_OF_RANGE', message: /removed while it was to be read/ });
  log.close();
});

for (const [who, makeIo] of Object.entries(readers())) {
  t.test(`${who}: all, from an offset, one stream, both`, async (t) => {
    const dir = directory(t);
    const { log } = openLog(dir, 'js');
    const streamOf = (o: number): string => (o % 3 === 0 ? 'third' : 'rest');
    fill(log, 3 * PER_SEGMENT + 4, { streamOf });
    const end = log.durableOffset;
    const io = makeIo();
    t.teardown(() => io.destroy());
    for (const live of [false, true]) {
      const options = live ? { durableOffset: () => end } : {};
      t.equal(firstWrong(readBack(io, dir, options).records, 0, { streamOf }), undefined);
      t.equal(readBack(io, dir, options).records.length, end);
      for (const from of [0, 1, 19, 20, 299, 300, 301, 599, 600, 905, end - 1, end]) {
        const { records, error } = readBack(io, dir, { ...options, from });
        t.equal(error, undefined);
        t.equal(records.length, end - from, `from ${from}`);
        t.equal(firstWrong(records, from, { streamOf }), undefined, `from ${from}`);
        const third = readBack(io, dir, { ...options, from, stream: 'third' }).records;
        const wanted = Array.from({ length: end - from }, (_, i) => from + i).filter((o) => o % 3 === 0);
        t.same(
          third.map((r) => r.offset),
          wanted,
          `stream from ${from}`,
        );
        t.ok(third.every((r) => r.stream === 'third'));
      }
      t.same(readBack(io, dir, { ...options, stream: 'unknown' }), { records: [], error: undefined });
    }
    log.close();
  });

  for (const [what, truncated] of [
    ['checkpoint', false],
    ['oldest segment', false],
    ['oldest segment', true],
  ] as const) {
    t.test(
      `${who}: ${what} deleted${truncated ? ' behind a truncation' : ''}: damage, from wherever it is read`,
      async (t) => {
        const dir = directory(t);
        const { log } = openLog(dir, 'js');
        fill(log, 4 * PER_SEGMENT);
        if (truncated) log.truncateBefore(PER_SEGMENT * RECORDS + 5);
        const start = log.startOffset;
        log.close();
        const [oldest] = filesOf(dir, '.seg').sort();
        rmSync(join(dir, what === 'checkpoint' ? 'checkpoint' : oldest));
        const io = makeIo();
        t.teardown(() => io.destroy());
        for (const from of [undefined, start, start + 1]) {
          const { records, error } = readBack(io, dir, from === undefined ? {} : { from });
          t.equal(records.length, 0);
          t.match(error, { code: 'CORRUPT' }, `from ${from}: ${error?.message}`);
          t.match(error?.details.problems?.[0], { message: /missing/ });
        }
      },
    );
  }

  t.test(`${who}: one rare stream, and a late offset, read a small part of the log`, async (t) => {
    const dir = directory(t);
    const { log } = openLog(dir, 'js');
    const rare = new Set([5, 1000, 1001, 2500, 4100]);
    fill(log, 30 * PER_SEGMENT + 1, { streamOf: (o) => (rare.has(o) ? 'rare' : 'common') });
    log.close();
    const size = filesOf(dir, '.seg').length * 64 * KIB;
    const io = makeIo();
    t.teardown(() => io.destroy());
    const before = io.bytesRead;
    t.same(
      readBack(io, dir, { stream: 'rare' }).records.map((r) => r.offset),
      [...rare],
    );
    const read = io.bytesRead - before;
    t.ok(read < 0.2 * size, `rare stream: ${read} of ${size} bytes read`);
    const from = 30 * PER_SEGMENT * RECORDS - 10;
    const beforeFrom = io.bytesRead;
    t.equal(readBack(io, dir, { from }).records.length, 10 + RECORDS);
    const readFrom = io.bytesRead - beforeFrom;
    t.ok(readFrom < 3 * 64 * KIB, `from ${from}: ${readFrom} bytes read of ${size}`);
    const beforeAll = io.bytesRead;
    readBack(io, dir);
    t.ok(io.bytesRead - beforeAll >= 0.8 * (30 * PER_SEGMENT + 1) * 4096, 'reading all reads all: the measure works');
    t.ok(bytesIn(dir) >= size);
  });

  for (const mode of workingModes) {
    t.test(`${who} reader, ${mode} writer: following while it is appended, over rolls`, async (t) => {
      const dir = directory(t);
      const { log } = openLog(dir, mode);
      const io = makeIo();
      t.teardown(() => io.destroy());
      const streamOf = (o: number): string => (o % 7 === 0 ? 'rare' : 'common');
      const here = new LogReader(io, dir, {
        stream: undefined,
        from: undefined,
        durableOffset: () => log.durableOffset,
      });
      const elsewhere = new LogReader(io, dir, { stream: undefined, from: undefined });
      const rare = new LogReader(io, dir, { stream: 'rare', from: 3 });
      const seen = { here: [], elsewhere: [], rare: [] } as Record<string, ReturnType<typeof drain>>;
      for (let step = 0; step < 60; step++) {
        fill(log, 1 + (step % 3), { streamOf });
        if (step % 13 === 5) log.roll();
        seen.here.push(...drain(here));
        t.equal(here.nextOffset, log.durableOffset, `step ${step}: nothing durable is held back`);
        if (step % 2 === 0) seen.elsewhere.push(...drain(elsewhere));
        if (step % 5 === 0) seen.rare.push(...drain(rare));
      }
      for (const [name, reader] of Object.entries({ here, elsewhere, rare })) {
        seen[name].push(...drain(reader));
        reader.close();
      }
      const end = log.durableOffset;
      t.ok(log.rolls >= 8);
      t.equal(firstWrong(seen.here, 0, { streamOf }), undefined);
      t.equal(seen.here.length, end);
      t.equal(firstWrong(seen.elsewhere, 0, { streamOf }), undefined);
      t.equal(seen.elsewhere.length, end);
      t.same(
        seen.rare.map((r) => r.offset),
        Array.from({ length: end }, (_, i) => i).filter((o) => o % 7 === 0 && o >= 3),
      );
      log.close();
    });
  }

  t.test(`${who}: in another process the newest batch is synced before it is handed out`, async (t) => {
    const dir = directory(t);
    const { log } = openLog(dir, 'js');
    fill(log, 3);
    const io = makeIo();
    t.teardown(() => io.destroy());
    const syncs = (): number => io.counters[counterSlots.fdatasync];
    const reader = new LogReader(io, dir, { stream: undefined, from: undefined });
    t.equal(syncs(), 0);
    t.equal(reader.nextBatch()?.length, RECORDS);
    t.equal(syncs(), 1, 'one sync before the first');
    reader.nextBatch();
    reader.nextBatch();
    t.equal(syncs(), 1, 'it serves all that was there');
    t.equal(reader.nextBatch(), undefined);
    t.equal(syncs(), 1, 'nothing new, no sync');
    fill(log, 1);
    t.equal(reader.nextBatch()?.length, RECORDS);
    t.equal(syncs(), 2, 'one more for the new batch');
    reader.close();
    const inside = new LogReader(io, dir, {
      stream: undefined,
      from: undefined,
      durableOffset: () => log.durableOffset,
    });
    t.equal(drain(inside).length, 4 * RECORDS);
    t.equal(syncs(), 2, 'the writer’s process knows without');
    inside.close();
    log.close();
  });

  t.test(`${who}: a batch under way is not handed out in the writer’s process`, async (t) => {
    const dir = directory(t);
    const { log } = openLog(dir, 'js');
    fill(log, 2);
    let durable = RECORDS;
    const io = makeIo();
    t.teardown(() => io.destroy());
    const reader = new LogReader(io, dir, { stream: undefined, from: undefined, durableOffset: () => durable });
    t.equal(drain(reader).length, RECORDS, 'the second batch is in the file, and not durable');
    durable = 2 * RECORDS;
    t.equal(drain(reader).length, RECORDS);
    reader.close();
    log.close();
  });

  t.test(`${who}: truncation overtakes a reader, and its file is recycled under it`, async (t) => {
    for (const live of [true, false]) {
      for (const stream of [undefined, 's']) {
        for (const readFirst of [0, 1, PER_SEGMENT - 1, PER_SEGMENT]) {
          const dir = directory(t);
          const { log } = openLog(dir, 'js');
          fill(log, 3 * PER_SEGMENT);
          const io = makeIo();
          const reader = new LogReader(io, dir, {
            stream,
            from: undefined,
            ...(live ? { durableOffset: () => log.durableOffset } : {}),
          });
          const records = [];
          for (let i = 0; i < readFirst; i++) records.push(...(reader.nextBatch() ?? []));
          log.truncateBefore(2 * PER_SEGMENT * RECORDS);
          // The freed file becomes the spare, then the next segment, with new batches over the old.
          log.roll();
          fill(log, 5);
          t.ok(filesOf(dir, '.seg')[0] > segmentName(0));
          const what = `${live ? 'live' : 'elsewhere'}, stream ${stream}, ${readFirst} batches read before`;
          let error;
          try {
            for (let i = 0; i < 100; i++) records.push(...(reader.nextBatch() ?? []));
          } catch (e) {
            error = e as { code: string };
          }
          t.equal(error?.code, 'OFFSET_OUT_OF_RANGE', what);
          t.equal(firstWrong(records, 0), undefined, `${what}: never garbage`);
          reader.close();
          io.destroy();
          log.close();
        }
      }
    }
  });

  t.test(`${who}: bounds and directories`, async (t) => {
    const dir = directory(t);
    const io = makeIo();
    t.teardown(() => io.destroy());
    t.match(
      thrown(() => new LogReader(io, join(dir, 'none'), { stream: undefined, from: undefined })),
      { code: 'DIR_UNUSABLE' },
    );
    const { log } = openLog(dir, 'js');
    fill(log, 1);
    log.truncateBefore(5);
    t.match(
      thrown(() => new LogReader(io, dir, { stream: undefined, from: 4 })),
      { code: 'OFFSET_OUT_OF_RANGE', message: /starts at 5/ },
    );
    const reader = new LogReader(io, dir, { stream: undefined, from: RECORDS });
    t.equal(reader.nextBatch(), undefined, 'at the end: nothing yet');
    fill(log, 1);
    t.equal(reader.nextBatch()?.[0].offset, RECORDS);
    reader.close();
    log.close();
  });
}
