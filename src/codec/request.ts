// The CPU stage of one request as one pure function: undo the encoding, find the records, check them. It runs inline on the
// accept thread for small plain bodies and in a decode thread for the others (ingress/decode-pool.ts), the same code.

import { BAD_RECORDS_SHOWN } from '../base/limits.ts';
import { giveBack } from '../platform/give-back.ts';
import { crc32cJs } from '../platform/js-bytes.ts';
import { native } from '../platform/native.ts';
import { decodeContent, type Encoding } from './decode.ts';
import { checkRecord, compileSchema, type Schema } from './schema.ts';
import { splitRecords, type BadRecord, type Ranges, type RecordShape, type SplitLimits } from './split.ts';

export interface DecodeTask {
  /** As it came over the wire. */
  readonly body: Uint8Array;
  readonly encoding: Encoding;
  readonly shape: RecordShape;
  readonly limits: SplitLimits & {
    /** Once decoded. */
    readonly maxBytes: number;
  };
  /** File of the JSON Schema that each record has to match. */
  readonly schema?: string;
  readonly wantCrc32c?: boolean;
}

export interface DecodedRequest extends Ranges {
  /** Decoded; the body of the task itself where its encoding is identity. Empty once it was let go. */
  body: Uint8Array;
  /** Empty once it was let go. */
  ranges: Uint32Array<ArrayBuffer>;
  /** CRC-32C of it and of its shape, where the task asked: the same bytes are other records as text and as JSON. */
  readonly crc32c: number | undefined;
}

const noBytes = new Uint8Array(0);
const noRanges = new Uint32Array(0);

/** Its counts stay; its memory does not: nobody may look at the body of the task any more. */
export function letGo(decoded: DecodedRequest): void {
  giveBack(decoded.body);
  giveBack(decoded.ranges);
  decoded.body = noBytes;
  decoded.ranges = noRanges;
}

const crc32c = native?.crc32c ?? crc32cJs;
const shapeSeeds: Readonly<Record<RecordShape, number>> = { ndjson: 1, json: 2, bytes: 3 };

/**
 * Whatever is wrong with single records is in `bad`; what is wrong with the request is thrown.
 * @throws BODY_TOO_LARGE, BAD_ENCODING, UNSUPPORTED_ENCODING, INVALID_JSON, TOO_MANY_RECORDS, EMPTY_REQUEST, and INVALID_OPTION for a schema
 */
export function decodeRequest(task: DecodeTask): DecodedRequest {
  const body = decodeContent(task.body, task.encoding, task.limits.maxBytes);
  const split = splitRecords(body, task.shape, task.limits);
  const checked = task.schema === undefined ? split : withoutMismatches(body, split, compileSchema(task.schema));
  const { count, ranges, bad, badCount } = checked;
  const checksum = task.wantCrc32c === true ? crc32c(body, shapeSeeds[task.shape]) : undefined;
  return { count, ranges, bad, badCount, body, crc32c: checksum };
}

/** Takes out of `split` what does not match. Order and places are those of the request. */
function withoutMismatches(body: Uint8Array, split: Ranges, schema: Schema): Ranges {
  const { ranges } = split;
  const bad: BadRecord[] = [];
  let { badCount } = split;
  let count = 0;
  /** Bad records of the split that lie before the record being looked at: exact while `bad` is not full. */
  let before = 0;
  for (let i = 0; i < split.count; i++) {
    const from = ranges[2 * i];
    const to = ranges[2 * i + 1];
    while (before < split.bad.length && split.bad[before].byteOffset < from) bad.push(split.bad[before++]);
    const refused = checkRecord(schema, body.subarray(from, to));
    if (refused === undefined) {
      ranges[2 * count] = from;
      ranges[2 * count + 1] = to;
      count++;
      continue;
    }
    badCount++;
    if (bad.length < BAD_RECORDS_SHOWN) bad.push({ index: i + before, byteOffset: from, ...refused });
  }
  bad.push(...split.bad.slice(before));
  return { count, ranges, bad: bad.slice(0, BAD_RECORDS_SHOWN), badCount };
}
