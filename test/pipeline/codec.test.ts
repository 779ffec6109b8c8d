// A log that compresses, through the public interface: what it counts, how its readers fare, and what is refused.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { READ_LOOK_RECORDS } from '../../src/base/limits.ts';
import { batchDecoder, codecLacks } from '../../src/codec/batch-codec.ts';
import { open, read, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import { verifyOnThreads } from '../../src/pipeline/verify.ts';
import { compressing, here, needs } from '../support/codecs.ts';
import { codeOf } from '../support/log-support.ts';
import { recordsOf, text } from '../support/pipeline-logs.ts';

const RECORDS = 1000;
const line = (i: number): string => `2026-11-22T00:00:00Z request ${i} took ${i % 13} ms and was answered with 200`;
const lines = Array.from({ length: RECORDS }, (_, i) => line(i));
/** One batch of all of them, and none before. */
const window = { maxRecords: RECORDS, maxBytes: '1MiB', lingerMs: 10_000 };

async function openIn(t: Test, options: Partial<LogOptionsInput>): Promise<SpillwayLog> {
  const log = await open({ dir: t.testdir(), segmentBytes: '4MiB', window, ...options });
  t.teardown(() => log.close());
  return log;
}

for (const codec of compressing) {
  t.test(
    `${codec}: appended, counted, read, followed, verified; and reopened without a codec`,
    needs(codec),
    async (t) => {
      const log = await openIn(t, { codec });
      const { dir } = log.options;
      await log.appendMany('s', lines);
      const { batches, compression, recordBytes, diskBytes } = log.stats();
      t.equal(batches, 1);
      t.match(compression, { batches: 1, rawBytes: recordBytes });
      t.ok(compression.storedBytes * 4 < recordBytes, `${compression.storedBytes} of ${recordBytes}`);
      t.ok(diskBytes < compression.storedBytes + 2 * 4096, `${diskBytes} on disk`);
      t.ok(compression.us > 0, `${compression.us} µs`);
      t.same((await recordsOf(log)).map(text), lines);
      t.same((await recordsOf(log, { from: 990 })).map(text), lines.slice(990));
      const followed: string[] = [];
      for await (const record of log.read({ follow: true, from: 995 })) {
        followed.push(text(record));
        if (followed.length === 5) void log.appendMany('s', lines);
        if (followed.length === 10) break;
      }
      t.same(followed, [...lines.slice(995), ...lines.slice(0, 5)]);
      await log.close();
      const plain = await open({ dir, segmentBytes: '4MiB', window });
      await plain.appendMany('s', lines);
      t.equal(plain.stats().compression.batches, 0);
      await plain.close();
      const elsewhere: string[] = [];
      for await (const record of read({ dir })) elsewhere.push(text(record));
      t.same(elsewhere, [...lines, ...lines, ...lines]);
      t.match(await verifyOnThreads(dir, { threads: 2 }), { ok: true, records: 3 * RECORDS, unreadBatches: 0 });
    },
  );
}

t.test('a codec that this process does not have: open refuses, by name', async (t) => {
  const missing = compressing.filter((codec) => codecLacks(codec) !== undefined);
  for (const codec of missing) {
    const dir = join(t.testdir(), 'log');
    t.equal(await codeOf(open({ dir, codec })), 'INVALID_OPTION');
    t.equal(existsSync(dir), false, 'nothing was made');
    await t.rejects(open({ dir: t.testdir(), codec }), {
      message: `option 'codec': ${codec} needs ${codecLacks(codec)}; gzip works everywhere`,
    });
  }
  await t.rejects(open({ dir: t.testdir(), codec: 'snappy' as never }), {
    code: 'INVALID_OPTION',
    message: "option 'codec': expected one of none, lz4, zstd, gzip, got 'snappy'",
  });
});

t.test('batches of one record cost nothing: they are not even tried', async (t) => {
  const log = await openIn(t, { codec: 'gzip', window: { lingerMs: 0 } });
  for (let i = 0; i < 50; i++) await log.append('s', line(i));
  t.match(log.stats(), { batches: 50, diskBytes: 50 * 4096, compression: { batches: 0, us: 0 } });
});

t.test('looks at one large batch decompress it once; a look that finds nothing of its stream not at all', async (t) => {
  for (const codec of here) {
    const log = await openIn(t, { codec });
    await log.appendMany('s', lines);
    t.equal(log.stats().compression.batches, 1);
    const { decode } = batchDecoder;
    let decoded = 0;
    const counting = batchDecoder as { decode: typeof decode };
    counting.decode = (...args) => (decoded++, decode(...args));
    t.teardown(() => (counting.decode = decode));
    t.equal(log.view.look('nobody', 0, () => true).nextOffset, log.stats().durableOffset);
    t.equal(decoded, 0, 'nothing of that stream is in it');
    const seen: string[] = [];
    let looks = 0;
    for (let from = 0; seen.length < RECORDS && looks < 100; looks++) {
      from = log.view.look('s', from, (record) => seen.push(text(record)) > 0).nextOffset;
    }
    t.same(seen, lines);
    t.ok(looks >= RECORDS / READ_LOOK_RECORDS, `${looks} looks`);
    t.equal(decoded, 1, `${codec}: decompressed`);
    counting.decode = decode;
  }
});
