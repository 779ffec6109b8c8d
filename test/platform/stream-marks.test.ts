// The marks that wake readers: odd while the durable offset is published, even and another afterwards, untouched for streams that
// have no part in it.

import t from 'tap';
import { STREAM_MARKS } from '../../src/base/limits.ts';
import { STREAM_MARKS_BYTES, StreamMarks } from '../../src/platform/stream-marks.ts';

/** Twice as many names as there are groups: some share one. */
const names = Array.from({ length: 2 * STREAM_MARKS }, (_, i) => `stream-${i}`);

t.test('a mark is odd while its streams are published, and another one afterwards', async (t) => {
  const buffer = new SharedArrayBuffer(64 + STREAM_MARKS_BYTES);
  const writer = new StreamMarks(buffer, 64);
  const reader = new StreamMarks(buffer, 64);
  const before = names.map((name) => reader.of(name));
  t.ok(
    before.every((mark) => mark === 0),
    'at first',
  );
  const batch = [0, 1, 2];
  writer.written(10, batch, names);
  writer.written(20, [3], names);
  writer.published(9, () => undefined);
  t.equal(reader.of(names[0]), 0, 'written is not published');
  const woken = reader.changed(names[0], 0, 5000).then(() => reader.of(names[0]));
  let offset = 0;
  writer.published(10, () => {
    offset = 10;
    for (const i of batch) t.equal(reader.of(names[i]) & 1, 1, `${names[i]}: odd before the offset is known`);
  });
  t.equal(offset, 10);
  for (const i of batch) t.ok(reader.of(names[i]) > 0 && (reader.of(names[i]) & 1) === 0, `${names[i]}: even`);
  t.equal(await woken, reader.of(names[0]), 'who waited is woken');
  const moved = names.filter((name) => reader.of(name) > 0).length;
  t.ok(moved < 30, `${moved} of ${names.length} streams have moved`);
  const third = reader.of(names[3]);
  writer.published(20, () => t.equal(reader.of(names[3]), third | 1));
  t.equal(reader.of(names[3]), third + 2, 'the next batch, once');
  writer.published(20, () => undefined);
  t.equal(reader.of(names[3]), third + 2, 'nothing new');
});

t.test('streams that share a mark leave it even', async (t) => {
  const marks = new StreamMarks(new SharedArrayBuffer(STREAM_MARKS_BYTES), 0);
  const all = names.map((_, i) => i);
  for (let round = 1; round <= 3; round++) {
    marks.written(round, all, names);
    marks.published(round, () => undefined);
    t.ok(
      names.every((name) => marks.of(name) === 2 * round),
      `round ${round}`,
    );
  }
});
