// Batches that an earlier life of a segment's file left, and that nothing but epoch or salt tells from valid ones: at a place
// where a batch is looked for, with the offset that is expected there, and with a right checksum. They are made of a batch of
// the log itself; its payload is changed, so that it shows where one of them is read.

import { BATCH_HEADER_BYTES, BLOCK_BYTES, RECORD_HEADER_BYTES } from '../../src/base/limits.ts';
import { setU64, viewOf } from '../../src/base/bytes.ts';
import type { SegmentIdentity } from '../../src/log/format.ts';
import { scanSegment } from '../../src/log/scan.ts';
import { SegmentFile } from '../../src/log/segment-file.ts';
import { FLAG_UNTERMINATED } from '../../src/platform/lane-memory.ts';
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
  bytes[firstRecordIn(bytes) + RECORD_HEADER_BYTES] ^= 0xff;
  v.setUint32(EPOCH_AT, epoch, true);
  v.setUint32(SALT_AT, salt, true);
  setU64(v, 32, baseOffset);
  seal(disk, bytes);
  return bytes;
}

function firstRecordIn(batch: Uint8Array): number {
  return BATCH_HEADER_BYTES + viewOf(batch).getUint32(20, true);
}

/** Gives a changed batch the checksum that the writer would give it. */
function seal(disk: SimDisk, batch: Uint8Array): void {
  const at = firstRecordIn(batch);
  const records = batch.slice(at, BATCH_HEADER_BYTES + viewOf(batch).getUint32(12, true));
  disk.bytes.seal(batch, at, [records], Float64Array.of(0, 0, records.length), 1);
}

/** Each changes the first record of a batch in one respect, and the place and length of no other. */
const forgeries: Record<string, (batch: Uint8Array, v: DataView, record: number) => void> = {
  'the name of its stream': (batch) => (batch[BATCH_HEADER_BYTES + 8] ^= 1),
  'a timestamp': (batch, _, record) => (batch[record + 8] ^= 1),
  'a flag': (batch, _, record) => (batch[record + 6] ^= FLAG_UNTERMINATED),
  'the length of a payload': (_, v, record) => v.setUint32(record, v.getUint32(record, true) - 1, true),
  // Where else are zeros: payloads of 500 and 900 bytes leave four.
  'a key where there was none': (batch, v, record) => {
    const payload = record + RECORD_HEADER_BYTES;
    batch.copyWithin(payload + 4, payload, payload + v.getUint32(record, true));
    v.setUint16(record + 14, 4, true);
  },
};

/** Batches that only who knows what was appended tells from right ones. Whoever judges must not be content with them. */
export function forgedBatches({ disk, active, sealed }: Subject): Damage[] {
  return [active, sealed].flatMap((path) => {
    const segment = segmentOf(disk, path);
    return segment.offsets.flatMap((_, i) =>
      Object.entries(forgeries).map(([what, forge]): Damage => {
        const batch = batchOf(disk, segment, i);
        forge(batch, viewOf(batch), firstRecordIn(batch));
        seal(disk, batch);
        return {
          name: `${nameOf(path)} batch ${i}, changed and sealed again: ${what}`,
          apply: (d) => write(d, path, batch, segment.positions[i]),
          expected: 'fooled',
        };
      }),
    );
  });
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
