// Two facts that the segments alone cannot tell: how far the log was known to be durable (so that a damaged end is
// told from a torn tail), and where it starts after truncation. Written at close, roll and truncation, and at most a
// second after a batch, never per batch.
//
// One file of two blocks, written in turn: block `generation & 1`. A torn write damages one block at most, and the other
// holds the state before. Block: magic "SPLC" u32 · version u16 · 0 u16 · generation u64 · durableOffset u64 ·
// startOffset u64 · epoch u32 · 0 … · crc32c u32 at 60.

import { getU64, setU64, viewOf } from '../base/bytes.ts';
import { join } from 'node:path';
import { BATCH_CRC_AT, BLOCK_BYTES } from '../base/limits.ts';
import type { FileIo } from '../platform/file-io.ts';
import { FORMAT_VERSION, type Invalid } from './format.ts';
import { CHECKPOINT_FILE } from './names.ts';

const MAGIC = 0x434c5053; // "SPLC"

export interface Checkpoint {
  readonly generation: number;
  /** Everything below was on stable storage when this was written. */
  readonly durableOffset: number;
  /** Everything below is gone for readers. */
  readonly startOffset: number;
  /** Highest segment epoch used. */
  readonly epoch: number;
}

function encode(io: FileIo, c: Checkpoint): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const v = viewOf(block);
  v.setUint32(0, MAGIC, true);
  v.setUint16(4, FORMAT_VERSION, true);
  setU64(v, 8, c.generation);
  setU64(v, 16, c.durableOffset);
  setU64(v, 24, c.startOffset);
  v.setUint32(32, c.epoch, true);
  v.setUint32(BATCH_CRC_AT, io.bytes.crc32c(block.subarray(0, BATCH_CRC_AT)), true);
  return block;
}

function decode(io: FileIo, block: Uint8Array): Checkpoint | Invalid {
  const v = viewOf(block);
  if (v.getUint32(0, true) !== MAGIC) return { invalid: 'this is not a checkpoint' };
  if (v.getUint32(BATCH_CRC_AT, true) !== io.bytes.crc32c(block.subarray(0, BATCH_CRC_AT))) {
    return { invalid: 'its checksum does not match' };
  }
  const version = v.getUint16(4, true);
  if (version !== FORMAT_VERSION)
    return { invalid: `format version ${version}, this program reads ${FORMAT_VERSION}`, newer: true };
  return {
    generation: getU64(v, 8),
    durableOffset: getU64(v, 16),
    startOffset: getU64(v, 24),
    epoch: v.getUint32(32, true),
  };
}

/** The newer of the two valid blocks, or why there is none. */
export function readCheckpoint(io: FileIo, dir: string): Checkpoint | Invalid {
  const fd = io.open(join(dir, CHECKPOINT_FILE), 'read', false);
  try {
    const both = new Uint8Array(2 * BLOCK_BYTES);
    io.read(fd, both, 0);
    const blocks = [decode(io, both.subarray(0, BLOCK_BYTES)), decode(io, both.subarray(BLOCK_BYTES))];
    const valid = blocks.filter((b): b is Checkpoint => !('invalid' in b));
    const newer = blocks.find((b) => 'newer' in b);
    // One newer block is enough: a newer program has written here since.
    if (newer !== undefined || valid.length === 0) return newer ?? blocks[0];
    return valid.reduce((a, b) => (b.generation > a.generation ? b : a));
  } finally {
    io.close(fd);
  }
}

/** The file, open for writing. */
export class CheckpointFile {
  readonly #io: FileIo;
  readonly #fd: number;
  last: Checkpoint;

  private constructor(io: FileIo, fd: number, last: Checkpoint) {
    this.#io = io;
    this.#fd = fd;
    this.last = last;
  }

  static create(io: FileIo, dir: string): CheckpointFile {
    const first: Checkpoint = { generation: 0, durableOffset: 0, startOffset: 0, epoch: 0 };
    const path = join(dir, CHECKPOINT_FILE);
    const fd = io.open(`${path}.tmp`, 'create', false);
    io.write(fd, encode(io, first), 0);
    io.write(fd, encode(io, first), BLOCK_BYTES);
    io.sync(fd);
    io.rename(`${path}.tmp`, path);
    return new CheckpointFile(io, fd, first);
  }

  static open(io: FileIo, dir: string, last: Checkpoint): CheckpointFile {
    return new CheckpointFile(io, io.open(join(dir, CHECKPOINT_FILE), 'write', false), last);
  }

  /** Durable when it returns. */
  write(durableOffset: number, startOffset: number, epoch: number): void {
    const next: Checkpoint = { generation: this.last.generation + 1, durableOffset, startOffset, epoch };
    this.#io.write(this.#fd, encode(this.#io, next), (next.generation & 1) * BLOCK_BYTES);
    this.#io.sync(this.#fd);
    this.last = next;
  }

  close(): void {
    this.#io.close(this.#fd);
  }
}
