// A batch plan becomes the bytes of a batch in the staging buffer: plain, or with its records compressed as a whole.
//
//     lanes ──seal──────────────────────────────────▶ staging: header · table · records             · zeros      plain
//     lanes ──gather──▶ scratch ──compress──▶ staging: header · table · compressed ──seal──▶ checksum · zeros    with a codec
//
// What is compressed must be a block of 4,096 bytes shorter on the disk, or the batch is stored plain: a batch of one block is not
// even tried, so that tiny batches cost nothing, and reading back what would not compress costs nothing either.
// Runs on the commit thread, synchronously: while a batch is compressed, the write before it is under way.
// Limit: the compressor is given no more room than a batch that pays would take; the scratch is as large as the largest batch.

import type { Clock } from '../base/clock.ts';
import { BATCH_HEADER_BYTES, BLOCK_BYTES } from '../base/limits.ts';
import type { BatchCompressor, BatchPlan } from '../base/types.ts';
import type { ByteOps } from '../platform/file-io.ts';
import { encodeBatchPrefix, encodeCompressed, planBatchBytes, type BatchStamp } from './format.ts';

/** Figures since the log was opened. */
export interface Compression {
  /** Batches that are stored compressed. */
  batches: number;
  /** Their records with frame headers, and as stored. */
  rawBytes: number;
  storedBytes: number;
  /**
   * Spent compressing on the commit thread, also where it did not pay. By the clock, which is CPU time unless the thread was taken off
   * its processor: the kernel's own account of a thread goes by ticks, and has none for a millisecond of work.
   */
  us: number;
}

export class BatchPacker {
  readonly compression: Compression = { batches: 0, rawBytes: 0, storedBytes: 0, us: 0 };
  readonly #bytes: ByteOps;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #compressor: BatchCompressor | undefined;
  readonly #scratch: Uint8Array;

  /** @param maxBytes of the largest batch */
  constructor(
    bytes: ByteOps,
    clock: Pick<Clock, 'monotonicMs'>,
    compressor: BatchCompressor | undefined,
    maxBytes: number,
  ) {
    this.#bytes = bytes;
    this.#clock = clock;
    this.#compressor = compressor;
    this.#scratch = compressor === undefined ? new Uint8Array(0) : Buffer.allocUnsafeSlow(maxBytes);
  }

  /** @returns length of the batch on disk: that of its plan, or less */
  pack(staging: Uint8Array, plan: BatchPlan, stamp: BatchStamp): number {
    const prefixBytes = encodeBatchPrefix(staging, plan, stamp);
    const storedBytes = this.#compress(staging, plan, prefixBytes);
    if (storedBytes === 0) return this.#bytes.seal(staging, prefixBytes, plan.sources, plan.ranges, plan.rangeCount);
    return this.#bytes.seal(staging, prefixBytes + storedBytes, plan.sources, plan.ranges, 0);
  }

  /** @returns bytes of the compressed records in `staging`; 0 where the batch is to be stored plain */
  #compress(staging: Uint8Array, plan: BatchPlan, prefixBytes: number): number {
    const roomBytes = planBatchBytes(plan) - BLOCK_BYTES - prefixBytes;
    if (this.#compressor === undefined || roomBytes <= 0) return 0;
    const begunMs = this.#clock.monotonicMs();
    const raw = this.#gather(plan);
    const storedBytes = this.#compressor.compress(raw, staging.subarray(prefixBytes, prefixBytes + roomBytes));
    const { compression } = this;
    compression.us += (this.#clock.monotonicMs() - begunMs) * 1000;
    if (storedBytes === 0) return 0;
    encodeCompressed(staging, this.#compressor.codec, prefixBytes - BATCH_HEADER_BYTES, storedBytes);
    compression.batches++;
    compression.rawBytes += raw.length;
    compression.storedBytes += storedBytes;
    return storedBytes;
  }

  #gather({ sources, ranges, rangeCount }: BatchPlan): Uint8Array {
    let end = 0;
    for (let r = 0; r < rangeCount * 3; r += 3) {
      const part = sources[ranges[r]].subarray(ranges[r + 1], ranges[r + 2]);
      this.#scratch.set(part, end);
      end += part.length;
    }
    return this.#scratch.subarray(0, end);
  }
}
