// Walking a whole segment batch by batch, and telling a torn tail from damage. Shared by recovery and verify.
//
// Only one durable write is ever under way, and the next begins after it has returned. So where the batches end:
//  - nothing valid behind, and the end is not below the durable end that was written down: the write under way at the
//    crash was torn. Never acknowledged; cut.
//  - a valid batch of the same life of the segment stands further on, or the durable end lies beyond: damage;
//  - the file is shorter than its header says: damage. It had its length before it had its name.

import { BLOCK_BYTES } from '../base/limits.ts';
import type { Problem } from '../base/errors.ts';
import { decodeStreamTable, type Invalid } from './format.ts';
import type { Batch, SegmentFile } from './segment-file.ts';
import { SegmentIndex } from './segment-index.ts';

export interface Scan {
  /** What was found up to the first thing that is not a valid batch. */
  readonly index: SegmentIndex;
  /** Bytes of a batch that began to be written behind the end and is not whole. */
  readonly tornBytes: number;
  readonly problem: Problem | undefined;
  readonly newer: boolean;
  /** Where the next valid batch stands, when `problem` is in the midst of others. */
  readonly resumeAt: { position: number; offset: number } | undefined;
}

/**
 * @param from where to begin; the segment's first batch by default
 * @param durableOffset known durable end of the log; batches below it must be there
 * @param onBatch called for each valid batch; may return why its inside is wrong
 */
export function scanSegment(
  file: SegmentFile,
  durableOffset: number,
  onBatch: (batch: Batch) => Invalid | undefined = () => undefined,
  from: { position: number; offset: number } = { position: BLOCK_BYTES, offset: file.baseOffset },
): Scan {
  const index = new SegmentIndex(from.offset, file.header.epoch);
  index.endPosition = from.position;
  for (;;) {
    const batch = file.batchAt(index.endPosition, index.nextOffset);
    const rows = 'invalid' in batch ? batch : decodeStreamTable(batch.bytes, batch.header);
    const wrong = 'invalid' in rows ? rows : onBatch(batch as Batch);
    if (wrong === undefined) {
      index.add((batch as Batch).header, rows as { name: string; records: number }[]);
      continue;
    }
    const end = endOf(file, index, durableOffset, wrong);
    // A live writer may have written this batch, and one behind it, while that was looked for.
    const cameSince =
      end.resumeAt !== undefined &&
      'invalid' in batch &&
      !('invalid' in file.batchAt(index.endPosition, index.nextOffset));
    if (!cameSince) return end;
  }
}

function endOf(file: SegmentFile, index: SegmentIndex, durableOffset: number, wrong: Invalid): Scan {
  const position = index.endPosition;
  const offset = index.nextOffset;
  const resumeAt = nextValidBatch(file, position + BLOCK_BYTES, offset);
  const { isCut } = file;
  const damaged = resumeAt !== undefined || durableOffset > offset || wrong.newer === true || isCut;
  const cut = `the file ends at byte ${file.fileBytes}, its header says ${file.header.segmentBytes}`;
  const problem: Problem | undefined = damaged
    ? {
        file: file.name,
        position,
        firstOffset: offset,
        lastOffset: resumeAt !== undefined ? resumeAt.offset - 1 : durableOffset > offset ? durableOffset - 1 : null,
        message: isCut && resumeAt === undefined ? cut : wrong.invalid,
      }
    : undefined;
  return {
    index,
    problem,
    newer: wrong.newer === true,
    resumeAt,
    tornBytes: damaged ? 0 : file.claimedBytesAt(position),
  };
}

/** First valid batch of this life of the segment at or behind `position` whose offset is beyond `offset`. */
export function nextValidBatch(
  file: SegmentFile,
  position: number,
  offset: number,
): { position: number; offset: number } | undefined {
  for (let at = position; at < file.fileBytes; at += BLOCK_BYTES) {
    const found = file.anyBatchAt(at);
    if (found !== undefined && found.baseOffset > offset) return { position: at, offset: found.baseOffset };
  }
  return undefined;
}
