import t from 'tap';
import fc from 'fast-check';
import { BATCH_HEADER_BYTES, BLOCK_BYTES, MAX_BATCH_RAW_BYTES } from '../../src/base/limits.ts';
import { codecs } from '../../src/base/types.ts';
import {
  checksumMatches,
  decodeBatchHeader,
  decodeRecords,
  decodeSegmentHeader,
  decodeStreamTable,
  encodeBatchPrefix,
  encodeSegmentHeader,
  planBatchBytes,
  type BatchHeader,
} from '../../src/log/format.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { crc32cJs, jsBytes } from '../../src/platform/js-bytes.ts';
import type { ByteOps } from '../../src/platform/file-io.ts';
import { native } from '../../src/platform/native.ts';
import { planOf, type PlannedRecord } from '../support/log-plans.ts';
import { SegmentIndex } from '../../src/log/segment-index.ts';

const segment = { epoch: 7, salt: 0xdeadbeef };
const all = { from: 0, stream: undefined };
const implementations: Record<string, ByteOps> = native === undefined ? { js: jsBytes } : { js: jsBytes, native };

function sealed(ops: ByteOps, records: readonly PlannedRecord[], baseOffset = 1000): Uint8Array {
  const plan = planOf(records);
  const staging = new Uint8Array(planBatchBytes(plan));
  const prefix = encodeBatchPrefix(staging, plan, { ...segment, baseOffset, committedAtMs: 2 ** 41 + 5 });
  const bytes = ops.seal(staging, prefix, plan.sources, plan.ranges, plan.rangeCount);
  return staging.subarray(0, bytes);
}

function headerOf(batch: Uint8Array): BatchHeader {
  const header = decodeBatchHeader(batch, segment, batch.length);
  if ('invalid' in header) throw new Error(header.invalid);
  return header;
}

/** Valid as a reader sees it: header, checksum, records. */
function accepted(batch: Uint8Array): boolean {
  const header = decodeBatchHeader(batch, segment, batch.length);
  return (
    !('invalid' in header) &&
    checksumMatches(batch, header, crc32cJs) &&
    Array.isArray(decodeRecords(batch, header, all))
  );
}

/** Sets a field and makes the checksum right again, as another program would have written it. */
function patched(batch: Uint8Array, change: (v: DataView) => void): Uint8Array {
  const copy = batch.slice();
  const v = new DataView(copy.buffer);
  change(v);
  const bodyBytes = Math.min(v.getUint32(12, true), copy.length - BATCH_HEADER_BYTES);
  v.setUint32(60, crc32cJs(copy.subarray(64, 64 + bodyBytes), crc32cJs(copy.subarray(0, 60))), true);
  return copy;
}

t.test('CRC-32C: the known answer', async (t) => {
  for (const [name, ops] of Object.entries(implementations)) {
    t.equal(ops.crc32c(Buffer.from('123456789')), 0xe3069283, name);
    t.equal(ops.crc32c(Buffer.from('6789'), ops.crc32c(Buffer.from('12345'))), 0xe3069283, `${name}, in two parts`);
  }
});

t.test('segment header: round trip, and every bit counts', async (t) => {
  const block = new Uint8Array(BLOCK_BYTES).fill(0xaa);
  const header = {
    baseOffset: 2 ** 40 + 3,
    epoch: 2 ** 32 - 1,
    salt: 0x80000001,
    segmentBytes: 2 ** 30,
    createdAtMs: 2 ** 41,
  };
  encodeSegmentHeader(block, header, crc32cJs);
  t.same(decodeSegmentHeader(block, crc32cJs), header);
  t.ok(
    block.subarray(64).every((b) => b === 0),
    'the rest of the block is zeros',
  );
  let undetected = 0;
  for (let bit = 0; bit < 64 * 8; bit++) {
    const copy = block.slice();
    copy[bit >> 3] ^= 1 << (bit & 7);
    const decoded = decodeSegmentHeader(copy, crc32cJs);
    if (!('invalid' in decoded) || decoded.newer === true) undetected++;
  }
  t.equal(undetected, 0, 'single-bit flips not called damage');
  t.match(decodeSegmentHeader(block.subarray(0, 40), crc32cJs), { invalid: /shorter/ });
  t.match(decodeSegmentHeader(new Uint8Array(0), crc32cJs), { invalid: /shorter/ });
});

t.test('segment header of a newer version is said to be newer', async (t) => {
  const block = new Uint8Array(BLOCK_BYTES);
  encodeSegmentHeader(block, { baseOffset: 0, epoch: 1, salt: 1, segmentBytes: 65536, createdAtMs: 1 }, crc32cJs);
  const v = new DataView(block.buffer);
  v.setUint16(4, 2, true);
  v.setUint32(60, crc32cJs(block.subarray(0, 60)), true);
  t.match(decodeSegmentHeader(block, crc32cJs), { invalid: /version 2/, newer: true });
});

for (const [name, ops] of Object.entries(implementations)) {
  t.test(`${name}: batch round trip: keys, 0 bytes, large timestamps, unterminated, streams`, async (t) => {
    const records: PlannedRecord[] = [
      { stream: 'a', payload: 'first', timestampMs: 2 ** 32 - 1 },
      { stream: 'b.b-b_b', payload: '', timestampMs: 2 ** 32 },
      { stream: 'a', payload: Buffer.from([0, 255, 1]), key: 'k', timestampMs: 2 ** 48 - 1 },
      { stream: 'c'.repeat(200), payload: 'x'.repeat(5000), key: Buffer.alloc(300, 7), timestampMs: 1_790_000_000_123 },
      { stream: 'a', payload: '', key: 'only a key', timestampMs: 0 },
      { stream: 'b.b-b_b', payload: 'last line', unterminated: true, timestampMs: 5 },
    ];
    const batch = sealed(ops, records);
    const header = headerOf(batch);
    t.equal(batch.length % BLOCK_BYTES, 0);
    t.match(header, {
      records: 6,
      baseOffset: 1000,
      epoch: 7,
      salt: 0xdeadbeef,
      codec: 0,
      streams: 3,
      batchBytes: batch.length,
    });
    t.equal(header.firstTimestampMs, 2 ** 32 - 1);
    t.equal(header.committedAtMs, 2 ** 41 + 5);
    t.ok(checksumMatches(batch, header, crc32cJs));
    t.same(decodeStreamTable(batch, header), [
      { id: 1, name: 'a', records: 3 },
      { id: 2, name: 'b.b-b_b', records: 2 },
      { id: 3, name: 'c'.repeat(200), records: 1 },
    ]);
    const back = decodeRecords(batch, header, all);
    if (!Array.isArray(back)) throw new Error(back.invalid);
    back.forEach((r, i) => {
      const w = records[i];
      t.equal(r.offset, 1000 + i);
      t.equal(r.stream, w.stream);
      t.equal(r.timestampMs, w.timestampMs);
      t.ok(Buffer.from(w.payload).equals(r.payload), `payload ${i}`);
      t.ok(w.key === undefined ? r.key === null : Buffer.from(w.key).equals(r.key!), `key ${i}`);
      t.equal(r.unterminated, w.unterminated ?? false);
    });
    const some = decodeRecords(batch, header, { from: 1002, stream: 'a' });
    t.same(Array.isArray(some) && some.map((r) => r.offset), [1002, 1004], 'filter by stream and offset');
    const one = decodeRecords(batch, header, { from: 1002, stream: 'a', most: 1 });
    t.same(Array.isArray(one) && one.map((r) => r.offset), [1002], 'and no more than so many');
  });
}

t.test('round trip of anything (property)', async (t) => {
  const record = fc.record({
    stream: fc.constantFrom('a', 'b', 'long-stream-name_0123456789', 'Z'),
    payload: fc.uint8Array({ maxLength: 90 }),
    key: fc.option(fc.uint8Array({ minLength: 1, maxLength: 20 }), { nil: undefined }),
    timestampMs: fc.nat({ max: 2 ** 31 - 1 }).map((n) => n * 131071),
    unterminated: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 60 }), fc.nat({ max: 2 ** 30 }), (records, base) => {
      const written = records as PlannedRecord[];
      const batch = sealed(jsBytes, written, base);
      const header = headerOf(batch);
      const back = decodeRecords(batch, header, all);
      if (!Array.isArray(back) || back.length !== written.length || !checksumMatches(batch, header, crc32cJs))
        return false;
      return back.every((r, i) => {
        const w = written[i];
        const sameKey = w.key === undefined ? r.key === null : Buffer.from(w.key).equals(r.key ?? Buffer.alloc(0));
        return (
          r.offset === base + i &&
          r.stream === w.stream &&
          r.timestampMs === w.timestampMs &&
          r.unterminated === w.unterminated &&
          Buffer.from(w.payload).equals(r.payload) &&
          sameKey
        );
      });
    }),
    { numRuns: 200, seed: 42 },
  );
  t.pass('200 runs');
});

t.test('every single-bit flip of header and body is rejected; padding is nobody’s', async (t) => {
  const batch = sealed(jsBytes, [
    { stream: 'ab', payload: 'hello', key: 'k' },
    { stream: 'c', payload: '', unterminated: true },
    { stream: 'ab', payload: Buffer.alloc(40, 3) },
  ]);
  const header = headerOf(batch);
  const used = BATCH_HEADER_BYTES + header.bodyBytes;
  const passed: number[] = [];
  for (let bit = 0; bit < used * 8; bit++) {
    const copy = batch.slice();
    copy[bit >> 3] ^= 1 << (bit & 7);
    if (accepted(copy)) passed.push(bit);
  }
  t.same(passed, [], `accepted of ${used * 8} flips`);
  t.ok(accepted(batch), 'the untouched batch is accepted');
  const padding = batch.slice();
  padding[used] ^= 1;
  t.ok(accepted(padding));
});

t.test('lengths are not believed, even under a right checksum, before anything is allocated', async (t) => {
  const batch = sealed(jsBytes, [{ payload: 'x'.repeat(50) }]);
  const size = batch.length;
  const cases: [string, (v: DataView) => void][] = [
    ['bodyBytes 4 GiB', (v) => v.setUint32(12, 0xffffffff, true)],
    ['bodyBytes and batchBytes 3 GiB', (v) => (v.setUint32(12, 0xbfffffc0, true), v.setUint32(8, 0xc0000000, true))],
    ['batchBytes not what bodyBytes needs', (v) => v.setUint32(8, size + BLOCK_BYTES, true)],
    ['batchBytes 0', (v) => v.setUint32(8, 0, true)],
    ['tableBytes beyond the body', (v) => v.setUint32(20, v.getUint32(12, true) + 8, true)],
    ['tableBytes 4 GiB', (v) => v.setUint32(20, 0xfffffff8, true)],
    ['tableBytes odd', (v) => v.setUint32(20, 15, true)],
    ['rawBytes of a plain batch not those of its body', (v) => v.setUint32(16, v.getUint32(12, true) + 8, true)],
    ['rawBytes of a compressed batch no more than it stores', (v) => v.setUint8(5, 3)],
    [
      'rawBytes of a compressed batch beyond the largest',
      (v) => (v.setUint8(5, 3), v.setUint32(16, MAX_BATCH_RAW_BYTES + 1, true)),
    ],
    ['records 0', (v) => v.setUint32(24, 0, true)],
    ['records more than bytes for them', (v) => v.setUint32(24, 0xffffffff, true)],
    ['baseOffset beyond 2^53', (v) => v.setUint32(36, 0x00200000, true)],
  ];
  for (const [what, change] of cases) {
    t.match(decodeBatchHeader(patched(batch, change), segment, size), { invalid: /lengths/ }, what);
  }
  t.match(decodeBatchHeader(batch, segment, size - 1), { invalid: /lengths/ }, 'longer than the file has room');
  t.match(decodeBatchHeader(batch.subarray(0, 63), segment, size), { invalid: /inside a batch header/ });
  const wrongFrame = patched(batch, (v) => v.setUint32(64 + 16, 0x7fffffff, true));
  t.match(
    decodeRecords(wrongFrame, headerOf(wrongFrame), all),
    { invalid: /record 0 of 1/ },
    'payloadBytes beyond the batch',
  );
  const wrongName = patched(batch, (v) => v.setUint16(64 + 2, 60_000, true));
  t.match(decodeStreamTable(wrongName, headerOf(wrongName)), { invalid: /stream table/ });
  const moreStreams = patched(batch, (v) => v.setUint16(6, 65_535, true));
  t.match(decodeStreamTable(moreStreams, headerOf(moreStreams)), { invalid: /stream table/ });
  const fewerRecords = sealed(jsBytes, [{ payload: 'a' }, { payload: 'b' }]);
  const lies = patched(fewerRecords, (v) => v.setUint32(24, 1, true));
  t.match(decodeRecords(lies, headerOf(lies), all), { invalid: /more bytes/ });
});

t.test('a batch of another life of the segment is not one of this', async (t) => {
  const batch = sealed(jsBytes, [{ payload: 'x' }]);
  t.match(decodeBatchHeader(batch, { ...segment, epoch: 8 }, batch.length), { invalid: /another life/ });
  t.match(decodeBatchHeader(batch, { ...segment, salt: 1 }, batch.length), { invalid: /another life/ });
  const stale = patched(batch, (v) => v.setUint32(28, 8, true));
  t.match(decodeBatchHeader(stale, segment, batch.length), { invalid: /another life/ });
});

t.test('a newer version or an unknown codec is said to be newer', async (t) => {
  const batch = sealed(jsBytes, [{ payload: 'x' }]);
  t.match(
    decodeBatchHeader(
      patched(batch, (v) => v.setUint8(4, 2)),
      segment,
      batch.length,
    ),
    { invalid: /version 2/, newer: true },
  );
  // UNSUPPORTED_FORMAT is documented for "a codec this version does not have" too.
  t.match(
    decodeBatchHeader(
      patched(batch, (v) => v.setUint8(5, codecs.length)),
      segment,
      batch.length,
    ),
    { newer: true },
    'the first codec that is not in the list',
  );
});

t.test('index: round trip; every flip and every cut is rejected', async (t) => {
  const io = new JsIo();
  const index = new SegmentIndex(500, 9);
  index.add({ baseOffset: 500, records: 10, batchBytes: 4096, committedAtMs: 77 }, [{ name: 'a', records: 10 }]);
  index.add({ baseOffset: 510, records: 3, batchBytes: 8192, committedAtMs: 78 }, [
    { name: 'bcd', records: 2 },
    { name: 'a', records: 1 },
  ]);
  const bytes = index.encode(io);
  const back = SegmentIndex.decode(io, bytes);
  if ('invalid' in back) throw new Error(back.invalid);
  t.same(
    [back.offsets, back.positions, back.nextOffset, back.endPosition, back.epoch, back.lastCommitMs],
    [[500, 510], [4096, 8192], 513, 16384, 9, 78],
  );
  t.same(
    [...back.streams],
    [
      ['a', { records: 11, batches: [0, 1] }],
      ['bcd', { records: 2, batches: [1] }],
    ],
  );
  t.same(
    [499, 500, 509, 510, 512, 513].map((o) => back.batchAt(o)),
    [0, 0, 0, 1, 1, 2],
  );
  const one = SegmentIndex.decode(io, bytes, 'bcd');
  t.same('invalid' in one || [[...one.streams], one.offsets], [[['bcd', { records: 2, batches: [1] }]], [500, 510]]);
  const none = SegmentIndex.decode(io, bytes, 'abc');
  t.same('invalid' in none || [...none.streams], [], 'of a stream that it does not hold');
  let undetected = 0;
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const copy = bytes.slice();
    copy[bit >> 3] ^= 1 << (bit & 7);
    if (!('invalid' in SegmentIndex.decode(io, copy))) undetected++;
  }
  for (let n = 0; n < bytes.length; n++)
    if (!('invalid' in SegmentIndex.decode(io, bytes.subarray(0, n)))) undetected++;
  t.equal(undetected, 0);
});
