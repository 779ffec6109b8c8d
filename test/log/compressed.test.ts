// Logs with compressed batches: read, verified, recovered, torn, damaged, mixed with plain ones; and what cannot be read here is
// never called damage.

import t from 'tap';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BATCH_HEADER_BYTES, BLOCK_BYTES } from '../../src/base/limits.ts';
import { codecs, type BatchDecoder, type Codec } from '../../src/base/types.ts';
import { batchDecoder } from '../../src/codec/batch-codec.ts';
import { LogReader } from '../../src/log/reader.ts';
import { segmentName } from '../../src/log/names.ts';
import { recover } from '../../src/log/recovery.ts';
import { inspect, verify } from '../../src/log/verify.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { compressing, here, needs } from '../support/codecs.ts';
import { copyOf, directory } from '../support/log-support.ts';
import { fill, firstWrong, openLog, planOf, readBack, thrown } from '../support/log-plans.ts';

/** About 14 KiB of records: four blocks plain, one compressed. */
const PER_BATCH = 20;
const filled = { perBatch: PER_BATCH, payloadBytes: 700, streamOf: (o: number) => (o % 2 === 0 ? 'even' : 'odd') };
const active = segmentName(0);
const at = (block: number): number => block * BLOCK_BYTES;

function check(dir: string): ReturnType<typeof verify> {
  return verify(new JsIo(), dir, undefined, batchDecoder);
}

function made(t: Parameters<typeof directory>[0], codec: Codec, batches: number): string {
  const dir = directory(t);
  const { log } = openLog(dir, 'js', {}, undefined, codec);
  fill(log, batches, filled);
  log.close();
  return dir;
}

/** Changes a batch of one block, and makes its checksum right again: as a program would that means it. */
function forged(dir: string, block: number, change: (batch: Buffer) => void): void {
  const path = join(dir, active);
  const bytes = readFileSync(path);
  const batch = bytes.subarray(at(block), at(block + 1));
  change(batch);
  const body = batch.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + batch.readUInt32LE(12));
  batch.writeUInt32LE(crc32cJs(body, crc32cJs(batch.subarray(0, 60))), 60);
  writeFileSync(path, bytes);
}

for (const codec of compressing) {
  t.test(`${codec}: written by every way, reopened, read by every way`, needs(codec), async (t) => {
    for (const io of ['js', 'buffered'] as const) {
      const dir = directory(t);
      const { log } = openLog(dir, io, {}, undefined, codec);
      fill(log, 30, { ...filled, overlap: io === 'buffered' });
      const { compression, batchBytesWritten } = log;
      t.equal(compression.batches, 30, 'every batch was compressed');
      t.equal(compression.rawBytes, 30 * PER_BATCH * 720);
      t.ok(compression.storedBytes < compression.rawBytes / 4, `${compression.storedBytes} of ${compression.rawBytes}`);
      t.equal(batchBytesWritten, 30 * BLOCK_BYTES);
      t.ok(log.rolls > 0, 'rolled');
      log.close();
      for (const durable of [undefined, () => 30 * PER_BATCH]) {
        const options = durable === undefined ? { checkEnd: true } : { durableOffset: durable };
        const back = readBack(new JsIo(), dir, options);
        t.equal(back.error, undefined);
        t.equal(back.records.length, 30 * PER_BATCH);
        t.equal(firstWrong(back.records, 0, filled), undefined);
      }
      const odd = readBack(new JsIo(), dir, { stream: 'odd', from: 3 * PER_BATCH + 5 });
      t.equal(odd.records.length, 27 * (PER_BATCH / 2) - 2);
      t.ok(odd.records.every((r) => r.stream === 'odd' && firstWrong([r], r.offset, filled) === undefined));
      t.match(check(dir), { ok: true, records: 30 * PER_BATCH, bytes: 30 * PER_BATCH * 700, unreadBatches: 0 });
      const again = openLog(dir, io, {}, undefined, codec);
      t.equal(again.log.durableOffset, 30 * PER_BATCH);
      again.log.close();
    }
  });
}

t.test('one log of every codec: mixed in one segment, after reopening, and read as one', async (t) => {
  const dir = directory(t);
  const order: Codec[] = ['none', ...here, 'none', ...here];
  for (const codec of order) {
    const { log } = openLog(dir, 'js', { segmentBytes: 256 * 1024 }, undefined, codec);
    fill(log, 2, filled);
    fill(log, 1, { ...filled, perBatch: 1, payloadBytes: 10 });
    t.equal(log.compression.batches, codec === 'none' ? 0 : 2, `${codec}: filled batches, not the tiny one`);
    log.close();
  }
  const end = order.length * (2 * PER_BATCH + 1);
  const { records, error } = readBack(new JsIo(), dir, { checkEnd: true });
  t.equal(error, undefined);
  t.equal(records.length, end);
  t.equal(firstWrong(records, 0, { streamOf: filled.streamOf }), undefined);
  t.match(check(dir), { ok: true, records: end, batches: 3 * order.length, segments: 1 });
  const bytes = readFileSync(join(dir, active));
  const seen = new Set<number>();
  for (let position = BLOCK_BYTES; bytes.toString('latin1', position, position + 4) === 'SPLB';) {
    seen.add(bytes[position + 5]);
    position += bytes.readUInt32LE(position + 8);
  }
  t.same(
    [...seen].sort((a, b) => a - b),
    ['none', ...here].map((c) => codecs.indexOf(c as Codec)),
    'each codec is there',
  );
});

t.test('what would not be a block shorter is stored plain', async (t) => {
  for (const codec of here) {
    const dir = directory(t);
    const { log } = openLog(dir, 'js', {}, undefined, codec);
    const append = (payloads: readonly Uint8Array[]): void => {
      const plan = planOf(payloads.map((payload) => ({ payload })));
      if (!log.hasRoomFor(plan)) log.roll();
      log.append(plan, false);
    };
    const noise = randomBytes(8000);
    append([noise]);
    t.equal(log.compression.batches, 0, `${codec}: noise`);
    t.ok(log.compression.us >= 0, 'it was tried');
    append([Buffer.alloc(3000)]);
    t.equal(log.compression.batches, 0, `${codec}: one block is one block`);
    // Two blocks of which 100 bytes could go: they would be two blocks still.
    append([randomBytes(7000), Buffer.alloc(150)]);
    t.equal(log.compression.batches, 0, `${codec}: nothing to gain`);
    append([randomBytes(2000), Buffer.alloc(6000)]);
    t.equal(log.compression.batches, 1, `${codec}: a block to gain`);
    log.close();
    const { records } = readBack(new JsIo(), dir);
    t.ok(noise.equals(records[0].payload));
    t.equal(records.length, 6);
    t.equal(check(dir).ok, true);
  }
});

t.test(
  'a torn compressed batch is cut without being decompressed; the log goes on behind the last whole one',
  async (t) => {
    const dir = directory(t);
    const { log } = openLog(dir, 'js', {}, undefined, 'gzip');
    fill(log, 4, filled);
    // A batch that stays two blocks, though it is compressed.
    log.append(planOf([{ payload: randomBytes(5000) }, { payload: Buffer.alloc(7000) }]), false);
    t.equal(log.compression.batches, 5);
    const killed = copyOf(t, dir);
    log.close();
    for (const cutAt of [8, 64, 512, BLOCK_BYTES, BLOCK_BYTES + 512]) {
      const copy = copyOf(t, killed);
      const path = join(copy, active);
      const bytes = readFileSync(path);
      bytes.fill(0, at(5) + cutAt, at(7));
      writeFileSync(path, bytes);
      const found = recover(new JsIo(), copy);
      t.same(found.problems, []);
      t.equal(found.endOffset, 4 * PER_BATCH, `torn at byte ${cutAt}`);
      t.ok(cutAt < 64 || found.tornBytes === 2 * BLOCK_BYTES, `${found.tornBytes} torn bytes`);
      const again = openLog(copy, 'js', {}, undefined, 'gzip');
      fill(again.log, 1, filled);
      again.log.close();
      const { records, error } = readBack(new JsIo(), copy, { checkEnd: true });
      t.equal(error, undefined);
      t.equal(records.length, 5 * PER_BATCH);
      t.equal(firstWrong(records, 0, filled), undefined);
    }
  },
);

t.test('a flipped bit anywhere in a compressed batch: reported with its place and its offsets', async (t) => {
  for (const codec of here) {
    const dir = made(t, codec, 3);
    const whole = readFileSync(join(dir, active));
    const used = BATCH_HEADER_BYTES + whole.readUInt32LE(at(2) + 12);
    let tried = 0;
    // Each byte, the bit in turn.
    for (let byte = 0; byte < used; byte++, tried++) {
      const bytes = Buffer.from(whole);
      bytes[at(2) + byte] ^= 1 << (byte & 7);
      writeFileSync(join(dir, active), bytes);
      const place = { file: active, position: at(2), firstOffset: PER_BATCH, lastOffset: 2 * PER_BATCH - 1 };
      const { records, error } = readBack(new JsIo(), dir);
      const { ok, problems } = check(dir);
      const right =
        records.length === PER_BATCH &&
        firstWrong(records, 0, filled) === undefined &&
        error?.code === 'CORRUPT' &&
        !ok &&
        problems.length === 1 &&
        Object.entries(place).every(([key, value]) => problems[0][key as keyof typeof place] === value);
      if (!right)
        t.fail(`${codec}: byte ${byte}: ${records.length} records, ${error?.code}, ${JSON.stringify(problems)}`);
    }
    t.ok(tried > 100, `${codec}: ${tried} bytes`);
  }
});

t.test('what does not decompress to what the header says is damage, under a right checksum too', async (t) => {
  const recordsAt = (b: Buffer): number => BATCH_HEADER_BYTES + b.readUInt32LE(20);
  const cases: [string, (b: Buffer) => void, RegExp][] = [
    ['rawBytes too small', (b) => b.writeUInt32LE(b.readUInt32LE(16) - 8, 16), /decompressed: /],
    ['rawBytes too large', (b) => b.writeUInt32LE(b.readUInt32LE(16) + 8, 16), /decompressed: /],
    ['rawBytes 60 MiB', (b) => b.writeUInt32LE(60 * 1024 * 1024, 16), /decompressed: /],
    ['rawBytes beyond the largest batch', (b) => b.writeUInt32LE(0x7fff_ffff, 16), /lengths/],
    ['other bytes', (b) => randomBytes(200).copy(b, recordsAt(b) + 20), /decompressed: /],
    ['another codec', (b) => (b[5] = 1), /decompressed: /],
  ];
  for (const [what, change, message] of cases) {
    if (what === 'another codec' && !here.includes('lz4')) continue;
    const dir = made(t, 'gzip', 3);
    forged(dir, 2, change);
    const before = process.memoryUsage().arrayBuffers;
    const { records, error } = readBack(new JsIo(), dir);
    const more = process.memoryUsage().arrayBuffers - before;
    t.ok(more < 130 * 1024 * 1024, `${what}: ${more} bytes`);
    t.ok(records.length <= 2 * PER_BATCH, what);
    t.equal(error?.code, 'CORRUPT', `${what}: ${error?.message}`);
    t.match(error?.message, message, what);
    const [problem] = error?.details.problems ?? [];
    t.equal(problem?.file, active);
    t.equal(problem.position, at(2), what);
    const verified = check(dir);
    t.equal(verified.ok, false, `${what}: verify`);
    t.match(verified.problems[0], { file: active, firstOffset: problem.firstOffset }, what);
  }
});

t.test('a codec that is not here: one clear line, never damage; recovery and verify go by the checksums', async (t) => {
  const dir = made(t, 'gzip', 4);
  const io = new JsIo();
  const without: BatchDecoder = { lacks: () => 'Node 99', decode: () => 'never called' };
  const reader = new LogReader(io, dir, { stream: undefined, from: undefined, decoder: without });
  const { code, message } = thrown(() => reader.nextBatch());
  reader.close();
  t.equal(code, 'UNSUPPORTED_FORMAT');
  t.match(message, new RegExp(`${active}: the batch at offset 0 is compressed with gzip: reading it needs Node 99`));
  const other = new LogReader(io, dir, { stream: 'nobody', from: undefined, decoder: without });
  t.equal(other.nextBatch(), undefined, 'a batch that holds nothing wanted is not decompressed');
  other.close();
  const found = verify(io, dir, undefined, without);
  t.match(found, { ok: true, records: 4 * PER_BATCH, bytes: 0, batches: 4, unreadBatches: 4, unreadFor: 'Node 99' });
  t.equal(inspect(io, dir).segments[0].nextOffset, 4 * PER_BATCH);
  const bytes = readFileSync(join(dir, active));
  bytes[at(3) + 200] ^= 1;
  const damaged = copyOf(t, dir);
  writeFileSync(join(damaged, active), bytes);
  t.match(verify(io, damaged, undefined, without), { ok: false, problems: [{ position: at(3) }] });
  // Opening for writing needs no codec either.
  const { log } = openLog(dir, 'js');
  t.equal(log.durableOffset, 4 * PER_BATCH);
  log.close();
});

t.test('truncated into the midst of a compressed batch: what is below the start is not counted', async (t) => {
  const dir = directory(t);
  const { log } = openLog(dir, 'js', {}, undefined, 'gzip');
  fill(log, 3, filled);
  log.truncateBefore(7);
  log.close();
  t.match(check(dir), { ok: true, records: 3 * PER_BATCH - 7, bytes: (3 * PER_BATCH - 7) * 700 });
  const without: BatchDecoder = { lacks: () => 'Node 99', decode: () => 'never called' };
  t.match(verify(new JsIo(), dir, undefined, without), { ok: true, records: 3 * PER_BATCH - 7 });
  const { records } = readBack(new JsIo(), dir);
  t.equal(firstWrong(records, 7, filled), undefined);
  t.equal(records.length, 3 * PER_BATCH - 7);
});

t.test('the index of a segment of compressed batches is made again from the segment alone', async (t) => {
  const dir = made(t, 'gzip', 20);
  const index = join(dir, active.replace('.seg', '.idx'));
  const before = readFileSync(index);
  const copy = copyOf(t, dir);
  writeFileSync(join(copy, active.replace('.seg', '.idx')), Buffer.alloc(10));
  openLog(copy, 'js').log.close();
  t.ok(readFileSync(join(copy, active.replace('.seg', '.idx'))).equals(before));
});
