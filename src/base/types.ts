// The shapes that more than one floor-2 folder speaks of.

/** How a batch is made durable; chosen once when the log opens. See docs/architecture.md, "Durable write". */
export type IoMode = 'direct' | 'buffered' | 'portable' | 'js';

/** Why a batch closed. */
export const closeReasons = ['records', 'bytes', 'linger', 'flush', 'idle'] as const;
export type CloseReason = (typeof closeReasons)[number];

/**
 * Who sent a record, and as which of its records: stored with it, so that a retry is told from a new record also after
 * a restart. 24 bytes in front of the key (docs/format.md).
 */
export interface Identity {
  /** 16 bytes, chosen by the producer or derived from its Idempotency-Key. */
  readonly id: Uint8Array;
  /** Both u32. A gateway counts records in `low` (framed protocol: u64 with `high`); HTTP keeps a checksum in `high`. */
  readonly low: number;
  readonly high: number;
}

/** One record as a reader sees it. */
export interface LogRecord {
  /** Dense number of the record in the log, from 0. */
  readonly offset: number;
  readonly stream: string;
  /** Milliseconds since the epoch, from the producer's clock at append. */
  readonly timestampMs: number;
  readonly key: Uint8Array | null;
  /** The bytes as they were appended. A view: it keeps the chunk it was read in alive. */
  readonly payload: Uint8Array;
  /** True for a last line that its input ended without a newline, so that a text can be given back byte for byte. */
  readonly unterminated: boolean;
  /** Where its producer resends idempotently. */
  readonly identity?: Identity;
}

/** Records that are about to share one durable write: byte ranges in the lanes, and what is known of them. */
export interface BatchPlan {
  /** The data parts of the lanes; a range names one by index. */
  readonly sources: readonly Uint8Array[];
  /** Triples (source, from, to) of whole record frames, in log order. */
  readonly ranges: Float64Array;
  rangeCount: number;
  records: number;
  /** Sum of the ranges: frames with their headers. */
  recordBytes: number;
  /** Stream ids that occur, in the order of their first record. */
  readonly streamIds: number[];
  /** Records of each of `streamIds`. */
  readonly streamRecords: number[];
  /** Name of every stream id declared so far. */
  readonly streamNames: readonly string[];
}

/** How the records of a batch are compressed; the place in this list is the codec byte of the batch header. */
export const codecs = ['none', 'lz4', 'zstd', 'gzip'] as const;
export type Codec = (typeof codecs)[number];

/** Made where log and codec meet (pipeline): neither folder knows the other. */
export interface BatchCompressor {
  /** Byte in the batch header. */
  readonly codec: number;
  /** @returns bytes written to the front of `into`; 0 where they would not fit */
  compress(raw: Uint8Array, into: Uint8Array): number;
}

export interface BatchDecoder {
  /** What this process would need to read batches of a codec; undefined where it has it. */
  lacks(codec: number): string | undefined;
  /** Fills `into` to its end, and no further. @returns why that cannot be: the bytes are damaged */
  decode(codec: number, stored: Uint8Array, into: Uint8Array): string | undefined;
}

/** Life of a log as its callers see it. Diagram: docs/architecture.md, "Lifecycle". */
export type LogState = 'opening' | 'open' | 'full' | 'draining' | 'closed' | 'poisoned';
