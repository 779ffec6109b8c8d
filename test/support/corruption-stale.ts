// Batches that an earlier life of a segment's file left, and that nothing but epoch or salt tells from valid ones: at a place
// where a batch is looked for, with the offset that is expected there, and with a right checksum. They are made of a batch of
// the log itself; its payload is changed, so that it shows where one of them is read.

import { BATCH_CRC_AT, BATCH_HEADER_BYTES, BLOCK_BYTES, RECORD_HEADER_BYTES } from '../../src/base/limits.ts';
import { setU64, viewOf } from '../../src/base/bytes.ts';
import type { SegmentIdentity } from '../../src/log/format.ts';
import { scanSegment } from '../../src/log/scan.ts';
import { SegmentFile } from '../../src/log/segment-file.ts';
import { baseOf, DIR, nameOf, type Damage, type Subject } from './corruption-subject.ts';
import type { SimDisk } from './sim-disk.ts';

const EPOCH_AT = 28;
const SALT_AT = 56;
/** What of a torn write got through. */
const TORN_BYTES = 512;

interface Life {
  readonly name: string;
  readonly of: (segment: SegmentIdentity) => SegmentIdentity;
}

/** The life before, and each that differs in one bit: no part of epoch or salt may be left out of the comparison. */
function otherLives(): Life[] {
  const bits = Array.from({ length: 32 }, (_, bit) => bit);
  const flipped = (n: number, bit: number): number => (n ^ (1 << bit)) >>> 0;
  return [
    { name: 'epoch before', of: ({ epoch, salt }) => ({ epoch: epoch - 1, salt }) },
    { name: 'epoch and salt before', of: ({ epoch, salt }) => ({ epoch: epoch - 1, salt: flipped(salt, 7) }) },
    ...bits.map((b) => ({
      name: `epoch bit ${b}`,
      of: (s: SegmentIdentity) => ({ ...s, epoch: flipped(s.epoch, b) }),
    })),
    ...bits.map((b) => ({ name: `salt bit ${b}`, of: (s: SegmentIdentity) => ({ ...s, salt: flipped(s.salt, b) }) })),
  ];
}

interface Segment {
  readonly path: string;
  readonly identity: SegmentIdentity;
  readonly offsets: readonly number[];
  /** Of the batches, and where the next would stand. */
  readonly positions: readonly number[];
  readonly endOffset: number;
}

function segmentOf(disk: SimDisk, path: string): Segment {
  const file = SegmentFile.open(disk, DIR, baseOf(path));
  if ('invalid' in file) throw new Error(`${path}: ${file.invalid}`);
  const { index } = scanSegment(file, 0);
  file.close();
  const positions = [...index.positions.slice(0, index.batches), index.endPosition];
  return {
    path,
    identity: file.header,
    offsets: index.offsets.slice(0, index.batches),
    positions,
    endOffset: index.nextOffset,
  };
}

/** A batch with another payload, identity and offset, and the checksum that is right for them. */
function restamped(disk: SimDisk, batch: Uint8Array, { epoch, salt }: SegmentIdentity, baseOffset: number): Uint8Array {
  const bytes = batch.slice();
  const v = viewOf(bytes);
  const bodyBytes = v.getUint32(12, true);
  const tableBytes = v.getUint32(20, true);
  bytes[BATCH_HEADER_BYTES + tableBytes + RECORD_HEADER_BYTES] ^= 0xff;
  v.setUint32(EPOCH_AT, epoch, true);
  v.setUint32(SALT_AT, salt, true);
  setU64(v, 32, baseOffset);
  const { crc32c } = disk.bytes;
  const body = bytes.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + bodyBytes);
  v.setUint32(BATCH_CRC_AT, crc32c(body, crc32c(bytes.subarray(0, BATCH_CRC_AT))), true);
  return bytes;
}

interface Place {
  readonly name: string;
  readonly path: string;
  readonly expected: 'whole' | 'reported';
  /** What becomes of the same batch with epoch and salt of the segment itself: nothing else may tell it. */
  readonly control: 'fooled' | 'reported';
  readonly put: (disk: SimDisk, life: SegmentIdentity) => void;
  readonly identity: SegmentIdentity;
}

function batchOf(disk: SimDisk, { path, positions }: Segment, i: number): Uint8Array {
  return disk.fileBytes(path).slice(positions[i], positions[i + 1]);
}

function write(disk: SimDisk, path: string, bytes: Uint8Array, position: number): void {
  disk.damage(path, (b) => (b.set(bytes, position), b));
}

/** In place of each batch: one that the disk never wrote, though it said so. */
function inPlace(segment: Segment): Place[] {
  const { path, identity, offsets, positions } = segment;
  return offsets.map((offset, i) => ({
    name: `in place of batch ${i}`,
    path,
    identity,
    expected: 'reported',
    control: 'fooled',
    put: (disk, life) => write(disk, path, restamped(disk, batchOf(disk, segment, i), life, offset), positions[i]),
  }));
}

/** Where the next batch would stand, and behind one of which only the first sector was written. */
function behindEnd(segment: Segment, batches: { one: number; two: number }): Place[] {
  const { path, identity, positions, endOffset } = segment;
  const end = positions.at(-1)!;
  const common = { path, identity, expected: 'whole' } as const;
  return [
    {
      ...common,
      name: 'at the end',
      control: 'fooled',
      put: (disk, life) =>
        write(disk, path, restamped(disk, batchOf(disk, segment, batches.one), life, endOffset), end),
    },
    ...[BLOCK_BYTES, 2 * BLOCK_BYTES].map((behind) => ({
      ...common,
      name: `${behind} bytes behind a torn end`,
      // A valid batch of this life there means that the torn one was damaged, not cut short.
      control: 'reported' as const,
      put: (disk: SimDisk, life: SegmentIdentity): void => {
        const torn = restamped(disk, batchOf(disk, segment, batches.two), identity, endOffset);
        const next = endOffset + viewOf(torn).getUint32(24, true);
        write(disk, path, torn.subarray(0, TORN_BYTES), end);
        write(disk, path, restamped(disk, batchOf(disk, segment, batches.one), life, next), end + behind);
      },
    })),
  ];
}

/** In a closed log, where even damage to the last batch is known as such, also in place of each batch. */
export function staleBatches(ending: 'closed' | 'killed', { disk, active, sealed }: Subject): Damage[] {
  const last = segmentOf(disk, active);
  const blocks = last.offsets.map((_, i) => (last.positions[i + 1] - last.positions[i]) / BLOCK_BYTES);
  const places = behindEnd(last, { one: blocks.indexOf(1), two: blocks.indexOf(2) });
  if (ending === 'closed') places.push(...inPlace(last), ...inPlace(segmentOf(disk, sealed)));
  return places.flatMap(({ name, path, put, identity, expected, control }, place) => {
    const at = `${ending} ${nameOf(path)} ${name}`;
    // Every bit where batches end; in place of batches, of which there are many, a fourth of them by turns.
    const some = otherLives().filter((_, i) => i < 2 || expected === 'whole' || i % 4 === place % 4);
    const lives = some.map((life) => ({
      name: `${at}: ${life.name}`,
      apply: (d: SimDisk) => put(d, life.of(identity)),
      expected,
    }));
    return [...lives, { name: `${at}: control`, apply: (d: SimDisk) => put(d, identity), expected: control }];
  });
}
