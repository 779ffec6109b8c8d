// The index of a segment as a file.

import { join } from 'node:path';
import type { FileIo } from '../platform/file-io.ts';
import type { Invalid } from './format.ts';
import { indexName } from './names.ts';
import { SegmentIndex } from './segment-index.ts';

/** @throws IO_ERROR, with details.errno ENOENT where there is none */
export function readIndex(io: FileIo, dir: string, baseOffset: number): SegmentIndex | Invalid {
  const fd = io.open(join(dir, indexName(baseOffset)), 'read', false);
  try {
    // An index is smaller than its segment: 8 bytes per 4 KiB batch, and less per stream of a batch than its records.
    const bytes = new Uint8Array(Math.min(io.size(fd), 2 ** 30));
    io.read(fd, bytes, 0);
    return SegmentIndex.decode(io, bytes);
  } finally {
    io.close(fd);
  }
}

/** Writes it so that it is there whole or not at all, and durable on return. May be repeated after an error. @throws IO_ERROR */
export function writeIndex(io: FileIo, dir: string, index: SegmentIndex): void {
  const path = join(dir, indexName(index.baseOffset));
  const temporary = `${path}.tmp`;
  if (io.exists(temporary)) io.unlink(temporary);
  const fd = io.open(temporary, 'create', false);
  try {
    io.write(fd, index.encode(io), 0);
    io.sync(fd);
  } finally {
    io.close(fd);
  }
  io.rename(temporary, path);
}
