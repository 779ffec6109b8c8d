// The last batch of a segment that was never sealed. Only one write is ever under way, so every batch before it was on
// stable storage when it began; of the last one nobody knows: the process may have been killed between write and sync, or
// the sync may have failed. After a failed sync the kernel calls the pages clean, and another sync reports success and saves
// nothing. What readers are going to see must be on stable storage, so the batch is written once more.
// Those clean pages may also leave the cache at any moment: then the file holds what is on the disk, which is what was
// there before. So what is written is what was checked.

import { SpillwayError } from '../base/errors.ts';
import type { FileIo } from '../platform/file-io.ts';
import { checksumMatches, decodeBatchHeader } from './format.ts';
import type { SegmentIndex } from './segment-index.ts';

/**
 * Makes the last batch durable, from what the caches hold of it. A power cut in the midst may tear it: it was never
 * acknowledged then, or is on the disk already, and the same bytes are written over it.
 * @param fd the segment, open for writing
 * @param salt of the segment
 * @throws IO_ERROR, also where what recovery has found is not there any more: the next opening finds what is
 */
export function rewriteLastBatch(io: FileIo, fd: number, path: string, index: SegmentIndex, salt: number): void {
  const position = index.positions.at(-1);
  if (position === undefined) return;
  const batch = io.alignedBuffer(index.endPosition - position);
  // Through the cache, where recovery has read and checked it: `fd` may go past the cache to what the device holds.
  const cached = io.open(path, 'read', false);
  try {
    io.read(cached, batch, position);
  } finally {
    io.close(cached);
  }
  const header = decodeBatchHeader(batch, { epoch: index.epoch, salt }, batch.length);
  const isFound =
    !('invalid' in header) &&
    header.batchBytes === batch.length &&
    header.baseOffset === index.offsets.at(-1) &&
    header.baseOffset + header.records === index.nextOffset &&
    checksumMatches(batch, header, io.bytes.crc32c);
  if (!isFound) {
    const message = `${path} at byte ${position}: the last batch was there a moment ago, and is not any more; open again`;
    throw new SpillwayError('IO_ERROR', message, { subject: path });
  }
  io.write(fd, batch, position);
  io.sync(fd);
}
