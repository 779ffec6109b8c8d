// Index and checkpoint by themselves, and a whole directory of segment, index and checkpoint as recovery, verify, inspect and a
// reader see it.
//
//     kind u8: 0 index, 1 checkpoint, 2 directory · how u8 · …
//
// how: 1 = magic and lengths of the index are put right, 2 = its checksum, 4 and 8 = the checksums of the checkpoint's two blocks,
// 16 = no index, 32 = no checkpoint.

import fc from 'fast-check';
import { getU64, setU64, viewOf } from '../../../src/base/bytes.ts';
import { BATCH_CRC_AT, BLOCK_BYTES } from '../../../src/base/limits.ts';
import { readCheckpoint } from '../../../src/log/checkpoint.ts';
import { readIndex } from '../../../src/log/index-file.ts';
import { CHECKPOINT_FILE, indexName, segmentName } from '../../../src/log/names.ts';
import { recover } from '../../../src/log/recovery.ts';
import { INDEX_HEADER_BYTES, SegmentIndex } from '../../../src/log/segment-index.ts';
import { inspect, verify } from '../../../src/log/verify.ts';
import { crc32cJs } from '../../../src/platform/js-bytes.ts';
import { readBack } from '../../support/log-plans.ts';
import { BASE, batchList, IDENTITY, imageOf } from '../log-image.ts';
import { MemoryIo } from '../memory-io.ts';
import { bytesOf, must, outcomeOf, Taker, type Target } from '../target.ts';

const DIR = '/log';
/** What stands in a checkpoint's block before its checksum. */
const CHECKPOINT_BYTES = 40;

function indexChecksum(bytes: Uint8Array): number {
  return crc32cJs(bytes.subarray(INDEX_HEADER_BYTES), crc32cJs(bytes.subarray(0, BATCH_CRC_AT)));
}

function indexOf(content: Uint8Array, how: number): Uint8Array {
  const bytes = new Uint8Array(content);
  if (bytes.length < INDEX_HEADER_BYTES) return bytes;
  const v = viewOf(bytes);
  if ((how & 1) !== 0) {
    v.setUint32(0, 0x584c5053, true);
    v.setUint16(4, 1, true);
    v.setUint32(44, bytes.length - INDEX_HEADER_BYTES, true);
  }
  if ((how & 2) !== 0) v.setUint32(BATCH_CRC_AT, indexChecksum(bytes), true);
  return bytes;
}

function tryIndex(bytes: Uint8Array): void {
  const io = new MemoryIo({ [indexName(BASE)]: bytes });
  const index = readIndex(io, DIR, BASE);
  must(io.left === 0, 'what was opened is closed');
  if ('invalid' in index) return;
  must(viewOf(bytes).getUint32(BATCH_CRC_AT, true) === indexChecksum(bytes), 'the checksum of an index is right');
  must(
    index.offsets.length * 8 <= bytes.length && index.positions.length === index.offsets.length,
    'batches are there',
  );
  const place = index.batchAt(index.baseOffset + 3);
  must(place >= 0 && place <= index.batches, 'a place in the index is one of its batches');
  const encoded = index.encode(io);
  const again = SegmentIndex.decode(io, encoded);
  if ('invalid' in again) return must(false, 'what was decoded is encoded to an index', () => again.invalid);
  const plain = (i: SegmentIndex): string => JSON.stringify([{ ...i }, [...i.streams]]);
  must(
    plain(again) === plain(index),
    'what was decoded is encoded to the same',
    () => `${plain(index)} ${plain(again)}`,
  );
}

function checkpointOf(t: Taker, how: number): Uint8Array {
  const bytes = new Uint8Array(2 * BLOCK_BYTES);
  for (const [block, bit] of [4, 8].entries()) {
    const at = block * BLOCK_BYTES;
    bytes.set(t.take(CHECKPOINT_BYTES), at);
    const part = bytes.subarray(at, at + BLOCK_BYTES);
    if ((how & bit) !== 0) viewOf(part).setUint32(BATCH_CRC_AT, crc32cJs(part.subarray(0, BATCH_CRC_AT)), true);
  }
  return bytes;
}

function tryCheckpoint(bytes: Uint8Array): void {
  const io = new MemoryIo({ [CHECKPOINT_FILE]: bytes });
  const found = readCheckpoint(io, DIR);
  must(io.left === 0, 'what was opened is closed');
  if ('invalid' in found) return;
  const generations: number[] = [];
  for (const at of [0, BLOCK_BYTES]) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const isRight = viewOf(block).getUint32(BATCH_CRC_AT, true) === crc32cJs(block.subarray(0, BATCH_CRC_AT));
    if (isRight && viewOf(block).getUint32(0, true) === 0x434c5053) generations.push(getU64(viewOf(block), 8));
  }
  must(generations.length > 0 && found.generation === Math.max(...generations), 'the newest whole block counts');
}

function tryDirectory(files: Readonly<Record<string, Uint8Array>>): void {
  const io = new MemoryIo(files);
  const codes = ['UNSUPPORTED_FORMAT', 'CORRUPT', 'NOT_A_LOG', 'OFFSET_OUT_OF_RANGE'] as const;
  const recovered = outcomeOf(['UNSUPPORTED_FORMAT'], () => recover(io, DIR));
  const verified = outcomeOf(['UNSUPPORTED_FORMAT'], () => verify(io, DIR));
  must('refused' in recovered === 'refused' in verified, 'recovery and verify agree whether they can read it');
  outcomeOf(['UNSUPPORTED_FORMAT'], () => inspect(io, DIR));
  if ('value' in verified) {
    for (const p of verified.value.problems) {
      const isPlace =
        p.file !== '' && Number.isInteger(p.position) && Number.isInteger(p.firstOffset) && p.message !== '';
      must(isPlace, 'a problem says where it is', () => JSON.stringify(p));
    }
  }
  for (const stream of [undefined, 'orders']) {
    const { records, error } = readBack(io, DIR, { checkEnd: true, ...(stream === undefined ? {} : { stream }) });
    if (io.wrong !== undefined) throw io.wrong;
    must(error === undefined || (codes as readonly string[]).includes(error.code), 'a reader says what is wrong', () =>
      String(error?.code),
    );
    let last = -1;
    for (const r of records) {
      must(r.offset > last && (stream === undefined || r.stream === stream), 'records come in order, of their stream');
      last = r.offset;
    }
  }
  must(io.left === 0, 'what was opened is closed');
}

function run(input: Uint8Array): void {
  const t = new Taker(input);
  const kind = t.u8() % 3;
  const how = t.u8();
  if (kind === 0) return tryIndex(indexOf(t.rest(), how));
  if (kind === 1) return tryCheckpoint(checkpointOf(t, how));
  const checkpoint = checkpointOf(t, how);
  const index = indexOf(t.take(t.u16()), how);
  tryDirectory({
    [segmentName(BASE)]: imageOf(t, 0),
    ...((how & 16) === 0 ? { [indexName(BASE)]: index } : {}),
    ...((how & 32) === 0 ? { [CHECKPOINT_FILE]: checkpoint } : {}),
  });
}

const nothing = new MemoryIo({});
const names = fc.constantFrom('s', 'orders', 'a-b.c');
const index = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.uniqueArray(names, { minLength: 1 })), { maxLength: 6 })
  .map((batches) => {
    const i = new SegmentIndex(BASE, IDENTITY.epoch);
    for (const [records, streams] of batches) {
      const batch = { baseOffset: i.nextOffset, records, batchBytes: BLOCK_BYTES, committedAtMs: 5 };
      i.add(
        batch,
        streams.map((name) => ({ name, records })),
      );
    }
    return Buffer.from(i.encode(nothing));
  });
const block = fc.tuple(fc.nat(9), fc.nat(20), fc.nat(20), fc.nat(4)).map(([generation, durable, start, epoch]) => {
  const bytes = new Uint8Array(CHECKPOINT_BYTES);
  const v = viewOf(bytes);
  v.setUint32(0, 0x434c5053, true);
  v.setUint16(4, 1, true);
  setU64(v, 8, generation);
  setU64(v, 16, BASE + durable);
  setU64(v, 24, BASE + start);
  v.setUint32(32, epoch, true);
  return bytes;
});
const bits = fc.constantFrom(15, 15, 31, 47, 13, 14, 11, 7);
const lengthOf = (b: Buffer): Buffer => Buffer.of(b.length & 255, b.length >> 8);

export const indexes: Target = {
  name: 'index',
  promise:
    'index and checkpoint are what their checksums say or are refused, and a directory of them is read to an end',
  maxBytes: 2048,
  quick: 12_000,
  leastCovered: 430,
  dictionary: bytesOf(
    'SPLX',
    'SPLC',
    'SPLB',
    '\x01\0',
    '\xe8\x03\0\0\0\0\0\0',
    '\0\x10\0\0\0\0\0\0',
    '\x02\x0f',
    '\xff\xff\xff\xff',
  ),
  structured: fc.oneof(
    fc.tuple(bits, index).map(([how, i]) => Buffer.concat([Buffer.of(0, how), i])),
    fc.tuple(bits, block, block).map(([how, a, b]) => Buffer.concat([Buffer.of(1, how), a, b])),
    fc
      .tuple(bits, block, block, index, batchList)
      .map(([how, a, b, i, list]) => Buffer.concat([Buffer.of(2, how), a, b, lengthOf(i), i, list])),
  ),
  run,
};
