// The batches of a segment: what a scan takes for valid, and what is read out of it.
//
//     flags u8 · durable offset u8 · bytes missing u16 · batches (log-image.ts)
//
// Judged by a checksum computed by hand over the image, and by the two ways to read records against each other.

import fc from 'fast-check';
import { BATCH_CRC_AT, BATCH_HEADER_BYTES, BLOCK_BYTES } from '../../../src/base/limits.ts';
import { viewOf } from '../../../src/base/bytes.ts';
import * as format from '../../../src/log/format.ts';
import { batchDecoder } from '../../../src/codec/batch-codec.ts';
import { Unpacker } from '../../../src/log/unpack.ts';
import { segmentName } from '../../../src/log/names.ts';
import { scanSegment, type Scan } from '../../../src/log/scan.ts';
import { SegmentFile, type Batch } from '../../../src/log/segment-file.ts';
import { BASE, batchChecksum, batchList, IDENTITY, imageOf } from '../log-image.ts';
import { MemoryIo } from '../memory-io.ts';
import { bytesOf, must, Taker, type Target } from '../target.ts';

const ONE_BUFFER = 1;
const CHECKS_RECORDS = 2;
const own = new Uint8Array(256 * 1024);

function isIn(part: Uint8Array | null, batch: Batch): boolean {
  const { bytes, header } = batch;
  const from = bytes.byteOffset + BATCH_HEADER_BYTES + header.tableBytes;
  const to = bytes.byteOffset + BATCH_HEADER_BYTES + header.bodyBytes;
  return (
    part === null || (part.buffer === bytes.buffer && part.byteOffset >= from && part.byteOffset + part.length <= to)
  );
}

/** @returns why the records of a valid batch are not, by both ways to read them */
function readRecords(stored: Batch): format.Invalid | undefined {
  const batch = new Unpacker(batchDecoder).plain(stored);
  if ('invalid' in batch) return batch;
  const { bytes, header } = batch;
  must(stored === batch || bytes.length === BATCH_HEADER_BYTES + stored.header.rawBytes, 'as long as it said');
  const rows = format.decodeStreamTable(bytes, header);
  const records = format.decodeRecords(bytes, header, { from: 0, stream: undefined });
  if ('invalid' in rows) return (must('invalid' in records, 'a wrong stream table has no records'), rows);
  const counted = format.countRecords(bytes, header, rows, 0);
  must('invalid' in records === 'invalid' in counted, 'what is counted is what is read', () =>
    JSON.stringify([counted, 'invalid' in records ? records : records.length]),
  );
  if ('invalid' in records) return records;
  if ('invalid' in counted) return counted;
  const payloadBytes = records.reduce((sum, r) => sum + r.payload.length, 0);
  must(counted.records === records.length && counted.bytes === payloadBytes, 'as many are counted as are read');
  records.forEach((r, i) => {
    must(r.offset === header.baseOffset + i, 'offsets are dense');
    must(
      rows.some((row) => row.name === r.stream),
      'a record is of a stream of its batch',
    );
    must(isIn(r.payload, batch) && isIn(r.key, batch), 'a record lies in its batch');
  });
  return undefined;
}

/** Walks through the whole segment as verify does. @returns what was found, as text */
function walk(image: Uint8Array, flags: number, durableOffset: number): string {
  const io = new MemoryIo({ [segmentName(BASE)]: image });
  const file = SegmentFile.open(io, '/log', BASE);
  if ('invalid' in file) return file.invalid;
  if ((flags & ONE_BUFFER) !== 0) file.keepNothing(own);
  const found: unknown[] = [];
  let from: Scan['resumeAt'];
  let position = BLOCK_BYTES;
  let offset = BASE;
  do {
    if (from !== undefined) {
      must(from.position > position && from.offset > offset, 'a scan goes on further on', () => `${from?.position}`);
      ({ position, offset } = from);
    }
    const scan = scanSegment(
      file,
      durableOffset,
      (batch) => {
        const { header, bytes } = batch;
        const there = image.subarray(position, position + header.batchBytes);
        must(there.length === header.batchBytes, 'a batch lies in the file');
        must(Buffer.compare(there, bytes.subarray(0, there.length)) === 0, 'a batch is what stands in the file');
        const stored = viewOf(there).getUint32(BATCH_CRC_AT, true);
        must(stored === batchChecksum(there), 'the checksum of a batch is right');
        must(viewOf(there).getUint32(28, true) === IDENTITY.epoch, 'a batch is of this life of the segment');
        must(viewOf(there).getUint32(56, true) === IDENTITY.salt, 'a batch is of this life of the segment');
        must(header.baseOffset === offset, 'a batch begins where the last one ended');
        const wrong = readRecords(batch);
        if ((flags & CHECKS_RECORDS) !== 0 && wrong !== undefined) return wrong;
        found.push([header, wrong?.invalid]);
        position += header.batchBytes;
        offset += header.records;
        return undefined;
      },
      from,
    );
    must(scan.index.endPosition === position && scan.index.nextOffset === offset, 'a scan ends behind its last batch');
    must(scan.tornBytes <= Math.max(0, image.length - position), 'what is torn lies in the file');
    must(
      scan.problem !== undefined || (scan.resumeAt === undefined && offset >= durableOffset),
      'what is missing is told',
    );
    const { problem } = scan;
    must(problem === undefined || problem.position === position, 'a problem is where the batches end');
    found.push([scan.index.batches, problem, scan.tornBytes, scan.newer]);
    from = scan.resumeAt;
  } while (from !== undefined);
  file.close();
  must(io.left === 0, 'what was opened is closed');
  return JSON.stringify(found);
}

function run(input: Uint8Array): void {
  const t = new Taker(input);
  const flags = t.u8();
  const durableOffset = BASE + (t.u8() % 32);
  const image = imageOf(t, t.u16() % (2 * BLOCK_BYTES));
  if (image.length < BLOCK_BYTES) return;
  const one = walk(image, flags, durableOffset);
  must(walk(image, flags ^ ONE_BUFFER, durableOffset) === one, 'the same is found however it is read');
}

export const batches: Target = {
  name: 'batches',
  promise:
    'no batch whose checksum is wrong, no record outside of its batch, an end, and the same by every way of reading',
  maxBytes: 2048,
  quick: 8000,
  leastCovered: 145,
  dictionary: bytesOf(
    'SPLB',
    '\x01\0',
    '\x40\0\0\0',
    '\0\x10\0\0',
    '\x18\0\0\0',
    '\xe8\x03\0\0\0\0\0\0',
    '\x07\x40\0',
    '\x02\0',
  ),
  structured: fc
    .tuple(fc.nat(3), fc.nat(12), fc.oneof(fc.constant(0), fc.nat(8192)), batchList)
    .map(([flags, durable, less, list]) => Buffer.concat([Buffer.of(flags, durable, less & 255, less >> 8), list])),
  run,
};
