// Damage of every kind on a small closed log of two sealed segments and an active one. For each: opening refuses with
// file, position and offset range, or recovers without loss; verify says the same; and whatever happens, a reader hands
// out nothing that was not written, and does not take damage for the end of the log.

import t from 'tap';
import { closeSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { errorKinds, type Problem } from '../../src/base/errors.ts';
import { BLOCK_BYTES } from '../../src/base/limits.ts';
import { codecs } from '../../src/base/types.ts';
import { Log } from '../../src/log/log.ts';
import { indexName, segmentName } from '../../src/log/names.ts';
import { verify } from '../../src/log/verify.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { copyOf, directory } from '../support/log-support.ts';
import { fill, firstWrong, openLog, readBack, thrown } from '../support/log-plans.ts';

const RECORDS = 20;
const PER_SEGMENT = 15;
const BATCHES = 2 * PER_SEGMENT + 4;
const END = BATCHES * RECORDS;
const SECOND = PER_SEGMENT * RECORDS;
const ACTIVE = 2 * SECOND;

function edit(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  change(bytes);
  writeFileSync(path, bytes);
}

/** Byte position of a batch, counted within its segment. */
function at(batch: number): number {
  return (1 + batch) * BLOCK_BYTES;
}

const dir = directory(t);
{
  const { log } = openLog(dir, 'js');
  fill(log, BATCHES);
  log.close();
}

interface Outcome {
  readonly openCode: string | undefined;
  readonly openProblems: readonly Problem[];
  readonly verified: ReturnType<typeof verify> | undefined;
  readonly read: ReturnType<typeof readBack>;
  readonly live: ReturnType<typeof readBack>;
}

function outcomeOf(copy: string): Outcome {
  const io = new JsIo();
  let verified: ReturnType<typeof verify> | undefined;
  try {
    verified = verify(io, copy);
  } catch {
    verified = undefined;
  }
  // In "another process", then as in the writer's own, which knows how far the log is durable.
  const read = readBack(io, copy);
  const live = readBack(io, copy, { durableOffset: () => END });
  let openCode: string | undefined;
  let openProblems: readonly Problem[] = [];
  let log: Log | undefined;
  try {
    log = openLog(copy, io).log;
  } catch (error) {
    const { code, details } = error as { code: string; details: { problems?: readonly Problem[] } };
    openCode = code;
    openProblems = details.problems ?? [];
  }
  log?.close();
  return { openCode, openProblems, verified, read, live };
}

/** One sector or bit that is hit, and the offsets that are in doubt by it. */
interface Case {
  readonly what: string;
  readonly segment: number;
  readonly damage: (copy: string) => void;
  readonly position: number;
  readonly first: number;
  readonly last: number;
  /** A sealed segment is not read again at open: its damage shows to verify and readers. */
  readonly opens: boolean;
}

const cases: Case[] = [];
for (const [name, segment, batches] of [
  ['first segment', 0, [0, 7, PER_SEGMENT - 1]],
  ['second segment', SECOND, [0, 7, PER_SEGMENT - 1]],
  ['active segment', ACTIVE, [0, 1, 3]],
] as const) {
  for (const batch of batches) {
    const first = segment + batch * RECORDS;
    const hit = (what: string, change: (bytes: Buffer, from: number) => void): void => {
      cases.push({
        what: `${name}, batch ${batch}: ${what}`,
        segment,
        damage: (copy) => edit(join(copy, segmentName(segment)), (bytes) => change(bytes, at(batch))),
        position: at(batch),
        first,
        last: first + RECORDS - 1,
        opens: segment !== ACTIVE,
      });
    };
    hit('bit in the magic', (b, p) => (b[p] ^= 1));
    hit('bit in the version', (b, p) => (b[p + 4] ^= 2));
    hit('bit in bodyBytes', (b, p) => (b[p + 12] ^= 8));
    hit('bit in the number of records', (b, p) => (b[p + 24] ^= 4));
    hit('bit in the epoch', (b, p) => (b[p + 28] ^= 1));
    hit('bit in baseOffset', (b, p) => (b[p + 32] ^= 1));
    hit('bit in the checksum', (b, p) => (b[p + 63] ^= 128));
    hit('bit in the stream table', (b, p) => (b[p + 72] ^= 1));
    hit('bit in a payload', (b, p) => (b[p + 200] ^= 16));
    hit('bit in a record header', (b, p) => (b[p + 80] ^= 1));
    hit('first sector zeroed', (b, p) => b.fill(0, p, p + 512));
    hit('a sector in the middle zeroed', (b, p) => b.fill(0, p + 1024, p + 1536));
    hit('the whole block zeroed', (b, p) => b.fill(0, p, p + BLOCK_BYTES));
  }
}

for (const c of cases) {
  t.test(c.what, async (t) => {
    const copy = copyOf(t, dir);
    c.damage(copy);
    const { openCode, openProblems, verified, read, live } = outcomeOf(copy);
    const place = { file: segmentName(c.segment), position: c.position, firstOffset: c.first, lastOffset: c.last };
    if (c.opens) t.equal(openCode, undefined, 'a sealed segment is not read again at open');
    else {
      t.equal(openCode, 'CORRUPT');
      t.match(openProblems, [place]);
    }
    t.equal(verified?.ok, false);
    t.match(verified?.problems, [place], 'verify: file, position and offset range');
    t.same(
      verified?.problems.length,
      1,
      `told once, and nothing else is blamed: ${JSON.stringify(verified?.problems)}`,
    );
    t.equal(verified?.records, END - RECORDS, 'the damaged batch is not counted, all others are');
    for (const [who, { records, error }] of [
      ['elsewhere', read],
      ['here', live],
    ] as const) {
      t.equal(firstWrong(records, 0), undefined, `${who}: nothing read that was not written`);
      t.equal(records.length, c.first, `${who}: reading stops at the damage`);
      t.equal(error?.code, 'CORRUPT', `${who}: and says so`);
      t.match(error?.details.problems ?? [], [{ file: place.file, position: c.position, firstOffset: c.first }]);
    }
    // Behind the damage everything can be read.
    t.equal(firstWrong(readBack(new JsIo(), copy, { from: c.last + 1 }).records, c.last + 1), undefined);
  });
}

t.equal(errorKinds.CORRUPT.exit, 3);

t.test('two batches swapped', async (t) => {
  for (const [segment, a, b] of [
    [SECOND, 3, 4],
    [ACTIVE, 0, 1],
    [ACTIVE, 1, 3],
  ]) {
    const copy = copyOf(t, dir);
    edit(join(copy, segmentName(segment)), (bytes) => {
      const one = Buffer.from(bytes.subarray(at(a), at(a) + BLOCK_BYTES));
      bytes.copyWithin(at(a), at(b), at(b) + BLOCK_BYTES);
      one.copy(bytes, at(b));
    });
    const { openCode, verified, read, live } = outcomeOf(copy);
    const first = segment + a * RECORDS;
    t.equal(openCode, segment === ACTIVE ? 'CORRUPT' : undefined);
    t.match(verified?.problems, [{ file: segmentName(segment), position: at(a), firstOffset: first }]);
    for (const { records, error } of [read, live]) {
      t.equal(firstWrong(records, 0), undefined);
      t.equal(records.length, first);
      t.equal(error?.code, 'CORRUPT');
    }
  }
});

t.test('a batch of one segment in the place of another’s', async (t) => {
  const copy = copyOf(t, dir);
  const stale = readFileSync(join(dir, segmentName(0))).subarray(at(3), at(4));
  edit(join(copy, segmentName(ACTIVE)), (bytes) => stale.copy(bytes, at(2)));
  const { openCode, openProblems, read } = outcomeOf(copy);
  t.equal(openCode, 'CORRUPT');
  t.match(openProblems, [{ position: at(2), firstOffset: ACTIVE + 2 * RECORDS, lastOffset: ACTIVE + 3 * RECORDS - 1 }]);
  t.equal(read.records.length, ACTIVE + 2 * RECORDS);
});

t.test('the active segment cut at every multiple of 4 KiB', async (t) => {
  for (let bytes = 0; bytes < 64 * 1024; bytes += BLOCK_BYTES) {
    const copy = copyOf(t, dir);
    truncateSync(join(copy, segmentName(ACTIVE)), bytes);
    const { openCode, verified, read, live } = outcomeOf(copy);
    const lost = bytes < at(4);
    // Where nothing of what is known to be durable is missing, something younger may be.
    t.equal(openCode, 'CORRUPT', `${bytes} bytes left`);
    t.equal(verified?.ok, false);
    const whole = ACTIVE + Math.max(0, Math.min(4, bytes / BLOCK_BYTES - 1)) * RECORDS;
    t.equal(verified?.records, whole);
    const lastOffset = lost ? END - 1 : null;
    t.match(verified?.problems, [{ file: segmentName(ACTIVE), firstOffset: whole, lastOffset }]);
    for (const { records, error } of [read, live]) {
      t.equal(firstWrong(records, 0), undefined);
      t.equal(records.length, whole);
      // In the writer's process it is known where the end is.
      t.equal(error?.code, lost || error === read.error ? 'CORRUPT' : undefined, `${bytes} bytes left: the reader`);
    }
  }
});

t.test('a log that was killed, and cut at every multiple of 4 KiB: no end is taken for its own', async (t) => {
  const killed = directory(t);
  const { log } = openLog(killed, 'js');
  fill(log, 4);
  // Not closed: nothing says how far it was durable.
  const copied = copyOf(t, killed);
  log.close();
  for (let bytes = 0; bytes < 64 * 1024; bytes += BLOCK_BYTES) {
    const copy = copyOf(t, copied);
    truncateSync(join(copy, segmentName(0)), bytes);
    const { openCode, verified } = outcomeOf(copy);
    t.equal(openCode, 'CORRUPT', `${bytes} bytes left`);
    t.equal(verified?.ok, false);
  }
});

t.test('a sealed segment cut at every multiple of 4 KiB', async (t) => {
  for (let bytes = 0; bytes < 64 * 1024; bytes += BLOCK_BYTES) {
    const copy = copyOf(t, dir);
    truncateSync(join(copy, segmentName(0)), bytes);
    const { openCode, openProblems, verified, read, live } = outcomeOf(copy);
    const whole = Math.max(0, bytes / BLOCK_BYTES - 1) * RECORDS;
    t.equal(openCode, 'CORRUPT', `${bytes} bytes left`);
    t.match(
      openProblems,
      [{ file: segmentName(0), firstOffset: whole, lastOffset: SECOND - 1 }],
      `${bytes} bytes left`,
    );
    t.match(verified?.problems, [{ file: segmentName(0), firstOffset: whole, lastOffset: SECOND - 1 }]);
    for (const { records, error } of [read, live]) {
      t.equal(firstWrong(records, 0), undefined);
      t.ok(records.length <= whole);
      t.equal(error?.code, 'CORRUPT', `${bytes} bytes left: the reader`);
    }
  }
});

t.test('a damaged segment header', async (t) => {
  for (const [segment, last] of [
    [0, SECOND - 1],
    [SECOND, ACTIVE - 1],
    [ACTIVE, END - 1],
  ]) {
    for (const byte of [0, 4, 8, 16, 20, 24, 60]) {
      const copy = copyOf(t, dir);
      edit(join(copy, segmentName(segment)), (b) => (b[byte] ^= 1));
      const { openCode, openProblems, verified, read } = outcomeOf(copy);
      t.equal(openCode, 'CORRUPT', `${segmentName(segment)} byte ${byte}`);
      t.match(openProblems, [{ file: segmentName(segment), position: 0, firstOffset: segment, lastOffset: last }]);
      t.match(verified?.problems, [
        { file: segmentName(segment), position: 0, firstOffset: segment, lastOffset: last },
      ]);
      t.equal(verified?.records, END - (last + 1 - segment));
      t.equal(read.records.length, segment);
      t.equal(read.error?.code, 'CORRUPT');
    }
  }
});

t.test('a segment file under the name of another offset', async (t) => {
  const copy = copyOf(t, dir);
  writeFileSync(join(copy, segmentName(SECOND)), readFileSync(join(dir, segmentName(0))));
  t.equal(outcomeOf(copy).openCode, 'CORRUPT');
});

t.test('the checkpoint: one copy damaged is no loss, both or none is said', async (t) => {
  const flip = (copy: string, slots: number[]): void =>
    edit(join(copy, 'checkpoint'), (b) => slots.forEach((s) => (b[s * BLOCK_BYTES + 16] ^= 1)));
  for (const slot of [0, 1]) {
    const copy = copyOf(t, dir);
    flip(copy, [slot]);
    const { openCode, verified, read } = outcomeOf(copy);
    t.equal(openCode, undefined, `slot ${slot}`);
    t.equal(verified?.ok, true);
    t.equal(read.records.length, END);
    const again = openLog(copy, 'js');
    t.equal(again.log.durableOffset, END);
    again.log.close();
    // Written twice since: both copies are whole again.
    edit(join(copy, 'checkpoint'), (b) => (b[(1 - slot) * BLOCK_BYTES + 16] ^= 1));
    t.equal(outcomeOf(copy).openCode, undefined, `slot ${slot} was written again`);
  }
  const both = copyOf(t, dir);
  flip(both, [0, 1]);
  t.match(outcomeOf(both), {
    openCode: 'CORRUPT',
    openProblems: [{ file: 'checkpoint', message: /both copies/ }],
    verified: { ok: false, problems: [{ file: 'checkpoint' }] },
    read: { error: { code: 'CORRUPT' } },
  });
  const missing = copyOf(t, dir);
  rmSync(join(missing, 'checkpoint'));
  t.match(outcomeOf(missing), {
    openCode: 'CORRUPT',
    openProblems: [{ file: 'checkpoint', message: /missing/ }],
    verified: { ok: false },
  });
  const indexes = copyOf(t, dir);
  for (const name of ['checkpoint', segmentName(0), segmentName(SECOND), segmentName(ACTIVE)]) {
    rmSync(join(indexes, name));
  }
  t.match(
    outcomeOf(indexes),
    { openCode: 'CORRUPT', verified: { ok: false }, read: { error: { code: 'CORRUPT' } } },
    'of a log that left its indexes alone',
  );
});

t.test('a checkpoint of a newer version is refused, even where the older copy could be read', async (t) => {
  for (const slots of [[0], [1], [0, 1]]) {
    const copy = copyOf(t, dir);
    edit(join(copy, 'checkpoint'), (b) => {
      for (const s of slots) {
        const block = b.subarray(s * BLOCK_BYTES, s * BLOCK_BYTES + 64);
        block.writeUInt16LE(2, 4);
        block.writeUInt32LE(crc32cJs(block.subarray(0, 60)), 60);
      }
    });
    t.equal(outcomeOf(copy).openCode, 'UNSUPPORTED_FORMAT', `slots ${slots.join(' and ')}`);
  }
});

t.test('a codec that this version does not have is not read as if it were none', async (t) => {
  const copy = copyOf(t, dir);
  edit(join(copy, segmentName(ACTIVE)), (bytes) => {
    const batch = bytes.subarray(at(1), at(2));
    batch[5] = codecs.length;
    batch.writeUInt32LE(crc32cJs(batch.subarray(64, 64 + batch.readUInt32LE(12)), crc32cJs(batch.subarray(0, 60))), 60);
  });
  const { openCode, read } = outcomeOf(copy);
  t.equal(openCode, 'UNSUPPORTED_FORMAT');
  t.equal(read.error?.code, 'UNSUPPORTED_FORMAT');
  t.equal(read.records.length, ACTIVE + RECORDS);
});

t.test('a missing segment', async (t) => {
  for (const [what, segment, problem] of [
    ['first', 0, { firstOffset: 0, lastOffset: SECOND - 1 }],
    ['middle', SECOND, { firstOffset: SECOND, lastOffset: ACTIVE - 1 }],
    ['last', ACTIVE, { firstOffset: ACTIVE, lastOffset: END - 1 }],
  ] as const) {
    for (const withIndex of [false, true]) {
      const copy = copyOf(t, dir);
      rmSync(join(copy, segmentName(segment)));
      if (withIndex) rmSync(join(copy, indexName(segment)), { force: true });
      const { openCode, openProblems, verified, read, live } = outcomeOf(copy);
      t.equal(openCode, 'CORRUPT', what);
      t.match(openProblems, [problem], what);
      t.equal(verified?.ok, false, what);
      t.ok(
        verified?.problems.some((p) => p.firstOffset === problem.firstOffset && p.lastOffset === problem.lastOffset),
        what,
      );
      for (const { records, error } of [read, live]) {
        t.equal(firstWrong(records, 0), undefined, `${what}: no gap in what is read`);
        t.equal(records.length, segment, what);
        t.ok(error !== undefined, `${what}: the reader says that offsets are missing`);
      }
    }
  }
});

t.test('an index without its segment, and an index that lies', async (t) => {
  const copy = copyOf(t, dir);
  writeFileSync(join(copy, indexName(99_999)), readFileSync(join(dir, indexName(0))));
  t.match(verify(new JsIo(), copy), { ok: false, problems: [{ file: indexName(99_999), message: /no segment/ }] });
  const bad = copyOf(t, dir);
  edit(join(bad, indexName(SECOND)), (b) => (b[80] ^= 1));
  t.match(outcomeOf(bad), { openCode: undefined, verified: { ok: false, records: END }, read: { error: undefined } });
});

t.test('damage in two places is told twice, with the batches between them counted', async (t) => {
  const copy = copyOf(t, dir);
  for (const batch of [2, 3, 9]) edit(join(copy, segmentName(0)), (b) => (b[at(batch) + 300] ^= 1));
  edit(join(copy, segmentName(ACTIVE)), (b) => (b[at(1) + 300] ^= 1));
  const found = verify(new JsIo(), copy);
  t.match(
    found.problems.filter((p) => p.file.endsWith('.seg') && p.file === segmentName(0)),
    [
      { position: at(2), firstOffset: 40, lastOffset: 79 },
      { position: at(9), firstOffset: 180, lastOffset: 199 },
    ],
  );
  t.equal(found.records, END - 4 * RECORDS);
  const error = thrown(() => openLog(copy, 'js'));
  t.equal(error.code, 'CORRUPT');
  t.match(
    error.message,
    new RegExp(`${segmentName(ACTIVE)} at byte ${at(1)}, offsets ${ACTIVE + RECORDS} to ${ACTIVE + 2 * RECORDS - 1}`),
  );
});

t.test('a hostile length in the file allocates nothing', async (t) => {
  const copy = copyOf(t, dir);
  edit(join(copy, segmentName(ACTIVE)), (b) => {
    b.writeUInt32LE(0xbfffffc0, at(1) + 12);
    b.writeUInt32LE(0xc0000000, at(1) + 8);
  });
  const io = new JsIo();
  t.equal(thrown(() => openLog(copy, io)).code, 'CORRUPT');
  t.ok(io.bytesRead < 4 * statSync(join(copy, segmentName(ACTIVE))).size, `${io.bytesRead} bytes read`);
  // An index as long as a disk: its header says otherwise.
  const fd = openSync(join(copy, indexName(0)), 'r+');
  writeSync(fd, Buffer.from([0]), 0, 1, 300 * 1024 * 1024);
  closeSync(fd);
  const before = process.memoryUsage().arrayBuffers;
  const reader = new JsIo();
  readBack(reader, copy);
  t.ok(
    reader.bytesRead < 2 ** 20 && process.memoryUsage().arrayBuffers - before < 2 ** 26,
    `${reader.bytesRead} bytes read for an index`,
  );
});
