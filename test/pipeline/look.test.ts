// A look at the log through a view: bounded in records, bytes and what it walks over, and on its way whatever the segment holds.

import t, { type Test } from 'tap';
import { READ_LOOK_RECORDS, READ_PIECE_BYTES } from '../../src/base/limits.ts';
import { open, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import type { Look } from '../../src/pipeline/view.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** So many that one index of them is half a megabyte. */
const OTHERS = 13_000;

async function openIn(t: Test, options: Partial<LogOptionsInput>): Promise<SpillwayLog> {
  const log = await open({ dir: t.testdir(), segmentBytes: 4 * MIB, window: { lingerMs: 0 }, ...options });
  t.teardown(() => log.close());
  return log;
}

/** Looks, one after the other, until `records` of a stream have come. */
function lookFor(
  log: SpillwayLog,
  stream: string,
  records: number,
): { readonly looks: Look[]; readonly offsets: number[] } {
  const looks: Look[] = [];
  const offsets: number[] = [];
  for (let from = 0; offsets.length < records && looks.length < 1000; from = looks.at(-1)!.nextOffset) {
    looks.push(log.view.look(stream, from, ({ offset }) => offsets.push(offset) > 0));
  }
  return { looks, offsets };
}

async function fill(log: SpillwayLog): Promise<void> {
  for (const { rolls } = log.stats(); log.stats().rolls === rolls;) await log.append('filler', Buffer.alloc(512 * KIB));
}

t.test('a sealed segment with many batches: each look takes as many records as it may', async (t) => {
  const log = await openIn(t, {});
  for (let i = 0; i < 500; i++) await log.append('s', String(i));
  await fill(log);
  t.ok(log.stats().batches > 500, 'a batch for each record');
  const { looks, offsets } = lookFor(log, 's', 500);
  t.strictSame(
    offsets,
    Array.from({ length: 500 }, (_, i) => i),
  );
  t.equal(looks.length, Math.ceil(500 / READ_LOOK_RECORDS));
});

t.test(
  `a sealed segment with ${OTHERS} other streams: each look but the first takes as many records as it may`,
  async (t) => {
    const log = await openIn(t, { segmentBytes: 8 * MIB });
    await Promise.all(Array.from({ length: OTHERS }, (_, i) => log.append(`other-${i}`, '')));
    for (let i = 0; i < 500; i++) await log.append('s', '');
    await fill(log);
    const { looks, offsets } = lookFor(log, 's', 500);
    t.strictSame(
      offsets,
      Array.from({ length: 500 }, (_, i) => OTHERS + i),
    );
    t.ok(looks.length <= Math.ceil(500 / READ_LOOK_RECORDS) + 1, `${looks.length} looks`);
  },
);

t.test('a look ends with the record that fills READ_PIECE_BYTES', async (t) => {
  const log = await openIn(t, { window: { lingerMs: 1000 } });
  const payload = Buffer.alloc(READ_PIECE_BYTES / 4 + 1);
  await log.appendMany(
    's',
    Array.from({ length: 10 }, () => payload),
  );
  const { looks } = lookFor(log, 's', 10);
  t.strictSame(
    looks.map((look) => [look.begunAt, look.nextOffset, look.stop]),
    [
      [0, 4, 'taken'],
      [4, 8, 'taken'],
      [8, 10, 'end'],
    ],
  );
});

t.test('what is sealed meanwhile, and truncated, is not remembered for what comes behind it', async (t) => {
  const log = await openIn(t, {});
  for (let round = 0; round < 6; round++) {
    const first = log.stats().durableOffset;
    await log.append('s', `round ${round}`);
    await fill(log);
    const seen: string[] = [];
    log.view.look('s', first, ({ payload }) => seen.push(Buffer.from(payload).toString()) > 0);
    t.strictSame(seen, [`round ${round}`]);
    await log.truncateBefore(log.stats().durableOffset);
    t.throws(() => log.view.look('s', first, () => true), { code: 'OFFSET_OUT_OF_RANGE' });
  }
});
