// A segment file out of few bytes: most of a real one are zeros, and a change of one byte almost always ends at a checksum.
//
//     per batch:  how u8 · bytes u16 · the bytes
//
// how: 1 = magic, epoch and salt are put right, 2 = batchBytes fits bodyBytes, 4 = the checksum is put right; then, shifted by 3, the
// number of blocks that are left out before it. The rest of its blocks is zero.

import fc from 'fast-check';
import { viewOf } from '../../src/base/bytes.ts';
import { BATCH_CRC_AT, BATCH_HEADER_BYTES, BLOCK_BYTES } from '../../src/base/limits.ts';
import { systemClock } from '../../src/base/clock.ts';
import { compressorFor } from '../../src/codec/batch-codec.ts';
import { encodeBatchPrefix, encodeSegmentHeader, planBatchBytes } from '../../src/log/format.ts';
import { BatchPacker } from '../../src/log/pack.ts';
import { crc32cJs, jsBytes } from '../../src/platform/js-bytes.ts';
import { FLAG_IDENTITY, frameBytes } from '../../src/platform/lane-memory.ts';
import { planOf } from '../support/log-plans.ts';
import type { Taker } from './target.ts';

export const BASE = 1000;
export const IDENTITY = { epoch: 3, salt: 0x1234_5678 };
const MOST_BLOCKS = 24;
const BATCH_MAGIC = 0x424c5053;

export const RIGHT = 7;

/** Checksum of a batch, by hand: header without its last word, then as much body as the header says and there is. */
export function batchChecksum(batch: Uint8Array): number {
  const bodyBytes = viewOf(batch).getUint32(12, true);
  const body = batch.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + bodyBytes);
  return crc32cJs(body, crc32cJs(batch.subarray(0, BATCH_CRC_AT)));
}

/** @param lessBytes what the file is shorter than its blocks */
export function imageOf(t: Taker, lessBytes: number): Uint8Array {
  const bytes = new Uint8Array(MOST_BLOCKS * BLOCK_BYTES);
  const header = { ...IDENTITY, baseOffset: BASE, segmentBytes: bytes.length, createdAtMs: 1 };
  encodeSegmentHeader(bytes, header, crc32cJs);
  let at = BLOCK_BYTES;
  while (t.left > 0) {
    const how = t.u8();
    const content = t.take(t.u16());
    at += (how >> 3) * BLOCK_BYTES;
    if (at + Math.max(content.length, BLOCK_BYTES) > bytes.length) break;
    bytes.set(content, at);
    const v = viewOf(bytes.subarray(at));
    if ((how & 1) !== 0) {
      v.setUint32(0, BATCH_MAGIC, true);
      v.setUint32(28, IDENTITY.epoch, true);
      v.setUint32(56, IDENTITY.salt, true);
    }
    const needed = Math.ceil((BATCH_HEADER_BYTES + v.getUint32(12, true)) / BLOCK_BYTES);
    if ((how & 2) !== 0) v.setUint32(8, (needed * BLOCK_BYTES) % 2 ** 32, true);
    if ((how & 4) !== 0) v.setUint32(BATCH_CRC_AT, batchChecksum(bytes.subarray(at)), true);
    const blocks = (how & 2) !== 0 ? Math.min(needed, MOST_BLOCKS) : 1;
    at += Math.max(blocks, Math.ceil(content.length / BLOCK_BYTES)) * BLOCK_BYTES;
  }
  return bytes.subarray(0, Math.max(0, Math.min(at, bytes.length) - lessBytes));
}

/** Of what is two blocks long it makes one. */
const gzip = compressorFor('gzip')!;
const small = fc.uint8Array({ maxLength: 20 });
const record = fc.record({
  stream: fc.constantFrom('s', 'orders', 'a-b.c'),
  payload: fc.oneof({ weight: 9, arbitrary: small }, { weight: 2, arbitrary: fc.constant(new Uint8Array(1500)) }),
  key: fc.oneof(small, fc.constant(new Uint8Array(30).fill(7))),
  /** Says that its key begins with an identity, whatever that is long. */
  identified: fc.boolean(),
  timestampMs: fc.nat(2 ** 31),
  unterminated: fc.boolean(),
});

type Made = typeof record extends fc.Arbitrary<infer T> ? T : never;

/** A batch as its bytes without the zeros at the end; its checksum is still to be put right. */
function encoded(records: readonly Made[], baseOffset: number, isCompressed: boolean): Buffer {
  const plan = planOf(records);
  const staging = new Uint8Array(planBatchBytes(plan));
  const stamp = { ...IDENTITY, baseOffset, committedAtMs: 5 };
  if (isCompressed) {
    const packer = new BatchPacker(jsBytes, systemClock, gzip, staging.length);
    packer.pack(staging, plan, stamp);
    if (packer.compression.batches === 1) {
      return Buffer.from(staging.subarray(0, BATCH_HEADER_BYTES + viewOf(staging).getUint32(12, true)));
    }
  }
  const prefix = encodeBatchPrefix(staging, plan, stamp);
  jsBytes.seal(staging, prefix, plan.sources, plan.ranges, plan.rangeCount);
  let end = prefix;
  for (const { identified, key, payload } of records) {
    if (identified) staging[end + 6] |= FLAG_IDENTITY;
    end += frameBytes(key.length, payload.length);
  }
  return Buffer.from(staging.subarray(0, end));
}

/** Batches one behind the other, a few of them with a hole before them or as they are. */
export const batchList = fc
  .array(
    fc.tuple(
      fc.array(record, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(RIGHT, RIGHT, RIGHT, 0, RIGHT + 8),
      fc.boolean(),
    ),
    {
      maxLength: 4,
    },
  )
  .map((list) => {
    const parts: Buffer[] = [];
    let offset = BASE;
    for (const [records, how, isCompressed] of list) {
      const bytes = encoded(records, offset, isCompressed);
      parts.push(Buffer.of(how, bytes.length & 255, bytes.length >> 8), bytes);
      offset += records.length;
    }
    return Buffer.concat(parts);
  });
