// The index of a segment as a file.

import { join } from 'node:path';
import { isMissing } from '../base/errors.ts';
import type { FileIo } from '../platform/file-io.ts';
import type { Invalid } from './format.ts';
import { indexName } from './names.ts';
import { INDEX_HEADER_BYTES, indexBytes, SegmentIndex } from './segment-index.ts';

/**
 * The index, or why there is none that can be used. @throws IO_ERROR
 * @param only the one stream that matters; all where undefined
 */
export function readIndex(io: FileIo, dir: string, baseOffset: number, only?: string): SegmentIndex | Invalid {
  let fd: number;
  try {
    fd = io.open(join(dir, indexName(baseOffset)), 'read', false);
  } catch (error) {
    if (isMissing(error)) return { invalid: 'the index is missing' };
    throw error;
  }
  try {
    const size = io.size(fd);
    const head = new Uint8Array(INDEX_HEADER_BYTES);
    // Nothing is allocated for a length that the header does not confirm.
    if (io.read(fd, head, 0) < head.length || indexBytes(head) !== size) {
      return { invalid: 'the length of the index does not fit' };
    }
    const bytes = new Uint8Array(size);
    io.read(fd, bytes, 0);
    return SegmentIndex.decode(io, bytes, only);
  } finally {
    io.close(fd);
  }
}

/** Indexes that are remembered: some hundred KiB each. */
const RECENT = 4;

/** The last indexes that looks at the log went by: each look begins anew, and an index may be megabytes to read and check. */
export class RecentIndexes {
  readonly #recent: { readonly stream: string | undefined; readonly index: SegmentIndex }[] = [];

  /** As readIndex. An index that was read once is good for as long as its segment is there: neither changes. */
  of(
    io: FileIo,
    dir: string,
    baseOffset: number,
    stream: string | undefined,
  ): { index: SegmentIndex | Invalid; isNew: boolean } {
    const at = this.#recent.findIndex((r) => r.index.baseOffset === baseOffset && r.stream === stream);
    const [known] = at < 0 ? [] : this.#recent.splice(at, 1);
    const index = known?.index ?? readIndex(io, dir, baseOffset, stream);
    if ('invalid' in index) return { index, isNew: true };
    this.#recent.push({ stream, index });
    if (this.#recent.length > RECENT) this.#recent.shift();
    return { index, isNew: known === undefined };
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
