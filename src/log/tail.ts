// The last batch of a segment that was never sealed. Only one write is ever under way, so every batch before it was on
// stable storage when it began; of the last one nobody knows: the process may have been killed between write and sync, or
// the sync may have failed. After a failed sync the kernel calls the pages clean, and another sync reports success and saves
// nothing. What readers are going to see must be on stable storage, so the batch is written once more.

import type { FileIo } from '../platform/file-io.ts';
import type { SegmentIndex } from './segment-index.ts';

/**
 * Makes the last batch durable, from what the caches hold of it. A power cut in the midst may tear it: it was never
 * acknowledged then, or is on the disk already, and the same bytes are written over it.
 * @param fd the segment, open for writing
 * @throws IO_ERROR
 */
export function rewriteLastBatch(io: FileIo, fd: number, path: string, index: SegmentIndex): void {
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
  io.write(fd, batch, position);
  io.sync(fd);
}
