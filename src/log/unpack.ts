// The records of a checked batch, whatever its codec. A compressed batch is made what it was before (header, table, plain records), so
// that everything which reads records knows plain batches only.
//
// Promises: nothing larger than MAX_BATCH_RAW_BYTES is allocated for what a header says (format.ts has compared the two); what comes
// out is exactly as long as it says, or the batch is damaged; a codec that this process does not have is UNSUPPORTED_FORMAT, never
// damage. A batch without records of the stream that is asked for is not decompressed.

import { SpillwayError } from '../base/errors.ts';
import { BATCH_HEADER_BYTES, DECODE_WALK_FACTOR, READ_CHUNK_BYTES } from '../base/limits.ts';
import { codecs, type BatchDecoder, type LogRecord } from '../base/types.ts';
import {
  CODEC_NONE,
  decodeRecords,
  decodeStreamTable,
  type BatchHeader,
  type Invalid,
  type RecordFilter,
} from './format.ts';
import type { Batch } from './segment-file.ts';

/** For who was given none: compressed batches are refused, by name. */
const noDecoder: BatchDecoder = { lacks: () => 'a decoder, and was opened without one', decode: () => undefined };

export class Unpacker {
  readonly #decoder: BatchDecoder;
  readonly #keepsNothing: boolean;
  /** Of who keeps nothing: the batch that was decompressed last, so that several looks at one batch do it once. */
  #own: Uint8Array | undefined;
  #held: BatchHeader | undefined;
  /** What the last `records` took beside walking over the batch, as bytes walked over that take as long. */
  walkedBytes = 0;

  /** @param keepsNothing one buffer serves all batches: records are good until the next call */
  constructor(decoder: BatchDecoder = noDecoder, keepsNothing = false) {
    this.#decoder = decoder;
    this.#keepsNothing = keepsNothing;
  }

  /** Records that pass the filter. @throws UNSUPPORTED_FORMAT */
  records(batch: Batch, filter: RecordFilter, file: string): LogRecord[] | Invalid {
    this.walkedBytes = 0;
    if (filter.stream !== undefined) {
      const rows = decodeStreamTable(batch.bytes, batch.header);
      if (Array.isArray(rows) && !rows.some((r) => r.name === filter.stream)) return [];
    }
    const lacks = this.lacks(batch.header);
    if (lacks !== undefined) {
      const { codec, baseOffset } = batch.header;
      const message = `${file}: the batch at offset ${baseOffset} is compressed with ${codecs[codec]}: reading it needs ${lacks}`;
      throw new SpillwayError('UNSUPPORTED_FORMAT', message, { subject: codecs[codec] });
    }
    const plain = this.plain(batch);
    return 'invalid' in plain ? plain : decodeRecords(plain.bytes, plain.header, filter);
  }

  /** What this process needs to read the batch; undefined where it has it. */
  lacks({ codec }: BatchHeader): string | undefined {
    return codec === CODEC_NONE ? undefined : this.#decoder.lacks(codec);
  }

  /** The batch as it was before it was compressed; itself where it was not. */
  plain(batch: Batch): Batch | Invalid {
    const { header, bytes } = batch;
    if (header.codec === CODEC_NONE) return batch;
    const plain = { ...header, codec: CODEC_NONE, bodyBytes: header.rawBytes };
    if (this.#own !== undefined && this.#held !== undefined && isSame(this.#held, header)) {
      return { header: plain, bytes: this.#own };
    }
    this.#held = undefined;
    const recordsAt = BATCH_HEADER_BYTES + header.tableBytes;
    const into = this.#room(BATCH_HEADER_BYTES + header.rawBytes);
    into.set(bytes.subarray(0, recordsAt));
    const stored = bytes.subarray(recordsAt, BATCH_HEADER_BYTES + header.bodyBytes);
    const end = BATCH_HEADER_BYTES + header.rawBytes;
    const invalid = this.#decoder.decode(header.codec, stored, into.subarray(recordsAt, end));
    this.walkedBytes = DECODE_WALK_FACTOR * header.rawBytes;
    if (invalid !== undefined) return { invalid: `the batch cannot be decompressed: ${invalid}` };
    if (this.#keepsNothing) this.#held = header;
    return { header: plain, bytes: into };
  }

  /** A fresh buffer, since records that are handed out are views; the same again for one who keeps none. */
  #room(bytes: number): Uint8Array {
    if (!this.#keepsNothing) return Buffer.allocUnsafeSlow(bytes);
    if (this.#own === undefined || this.#own.length < bytes) {
      this.#own = Buffer.allocUnsafeSlow(Math.max(bytes, READ_CHUNK_BYTES));
    }
    return this.#own;
  }
}

/** Offset and life of a segment: what was acknowledged is never written again as something else. */
function isSame(a: BatchHeader, b: BatchHeader): boolean {
  return a.baseOffset === b.baseOffset && a.epoch === b.epoch && a.salt === b.salt;
}
