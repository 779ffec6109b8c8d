// POST /v1/streams/{stream}/records: a body of records in, one durable answer out.
//
//     refuse early (full, old, draining) → read within the budget → decode, split, check → rate → idempotency → lane → 200
//
// All or nothing: one bad record refuses the request, unless it asked for `?partial=1`. The answer is written after the durable
// write of the last record.

import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { SpillwayError } from '../base/errors.ts';
import { IDENTITY_BYTES } from '../base/limits.ts';
import type { Identity } from '../base/types.ts';
import { parseContentEncoding } from '../codec/decode.ts';
import { letGo, type DecodedRequest } from '../codec/request.ts';
import { shapeOf } from '../codec/split.ts';
import { addRun, offsetOf, type Remembered } from '../flow/dedupe.ts';
import type { Admission, AppendedMany } from '../pipeline/job.ts';
import type { Lane } from '../pipeline/lane.ts';
import { encodeFrames, framesBytes } from '../platform/frames.ts';
import { announcedBytes, readBody } from './body.ts';
import type { Host } from './host.ts';
import { Patience } from './patience.ts';
import { answerJson, describeBad, Refusal } from './reply.ts';

interface Accepted {
  readonly firstOffset: number;
  readonly lastOffset: number;
  readonly duplicate: boolean;
}

/** @throws SpillwayError for whatever refuses the request */
export async function postRecords(
  host: Host,
  req: IncomingMessage,
  res: ServerResponse,
  stream: string,
  query: URLSearchParams | undefined,
  who: string,
): Promise<void> {
  const { options, decodeSlots, decode, maxRecordBytes, counters, clock } = host.parts;
  const refused = host.refusal();
  if (refused !== undefined) throw new Refusal(refused, { close: true });
  const encoding = parseContentEncoding(req.headers['content-encoding']);
  const shape = shapeOf(req.headers['content-type'], query?.get('as') ?? null);
  const key = idempotencyKey(req);
  const partial = query?.get('partial') === '1';
  const announced = announcedBytes(req, options.wireBodyBytes);
  throttle(host, who, 0, announced ?? 0, true);

  const { overflow, maxBlockMs } = host.admission(stream);
  const patience = new Patience(maxBlockMs, clock);
  const schema = host.schema(stream);
  const waitsForThread = encoding !== 'identity' || schema !== undefined;
  const body = await readBody(host, req, announced, patience, overflow === 'block', waitsForThread, () => {
    if (req.headers.expect !== undefined) res.writeContinue();
  });
  let slots = 0;
  try {
    if (announced === undefined) throttle(host, who, 0, body.bytes.length, false);
    if (encoding !== 'identity') {
      if (!(await patience.spend((timeoutMs) => decodeSlots.acquire(1, { timeoutMs })))) {
        throw new SpillwayError('BACKLOG_FULL', 'no thread to decode the body within maxBlockMs');
      }
      slots = 1;
    }
    const decoded = await decode.decode(
      {
        body: body.bytes,
        encoding,
        shape,
        limits: { maxRecords: options.maxRequestRecords, maxRecordBytes, maxBytes: options.decodedBodyBytes },
        wantCrc32c: key !== undefined,
        ...(schema === undefined ? {} : { schema }),
      },
      patience.leftMs,
    );
    if (encoding !== 'identity') counters.add('decodedBytes', decoded.body.length);
    if (decoded.badCount > 0 && (!partial || decoded.count === 0)) throw badRecords(req, decoded);
    throttle(host, who, decoded.count, 0, false);
    // What is in the lane, or copied while it waits for it, is in memory there: others may have the room of the body meanwhile.
    const taken = (): void => {
      letGo(decoded);
      body.release();
      decodeSlots.release(slots);
      slots = 0;
      host.look();
    };
    const accepted = await store(host, stream, decoded, key, { overflow, maxBlockMs: patience.leftMs }, taken);
    if (accepted.duplicate) counters.add('duplicates', decoded.count);
    answerJson(host, res, 200, bodyOf(req, accepted, decoded));
  } catch (error) {
    if (error instanceof SpillwayError) counters.add('refusedDecodedBytes', error.details.decodedBytes ?? 0);
    throw error;
  } finally {
    body.release();
    decodeSlots.release(slots);
    host.look();
  }
}

function bodyOf(
  req: IncomingMessage,
  { firstOffset, lastOffset, duplicate }: Accepted,
  decoded: DecodedRequest,
): string {
  const rest = duplicate ? ',"duplicate":true' : '';
  const bad =
    decoded.badCount === 0 ? '' : `,${JSON.stringify(describeBad(req, decoded.bad, decoded.badCount)).slice(1, -1)}`;
  return `{"accepted":${decoded.count},"firstOffset":${firstOffset},"lastOffset":${lastOffset},"durable":true${rest}${bad}}`;
}

function badRecords(req: IncomingMessage, decoded: DecodedRequest): Refusal {
  const [first] = decoded.bad;
  const more = decoded.badCount > 1 ? `, and ${decoded.badCount - 1} more` : '';
  const error = new SpillwayError(
    first.code,
    `record ${first.index} at byte ${first.byteOffset}: ${first.message}${more}`,
  );
  return new Refusal(error, { also: describeBad(req, decoded.bad, decoded.badCount) });
}

function throttle(host: Host, who: string, records: number, bytes: number, close: boolean): void {
  const waitMs = host.charge(who, records, bytes);
  if (waitMs === 0) return;
  const error = new SpillwayError('RATE_LIMITED', `'${who}' is over its rate limit for ${Math.ceil(waitMs)} ms`);
  throw new Refusal(error, { retryAfter: Math.max(1, Math.ceil(waitMs / 1000)), close });
}

function idempotencyKey(req: IncomingMessage): string | undefined {
  const key = req.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new SpillwayError('BAD_REQUEST', 'header Idempotency-Key: expected 1 to 255 printable ASCII characters');
}

/** Records from number `from` on: as frames in one piece, or as views: one alone, and too much for one piece of the lane. */
function appendTo(
  host: Host,
  lane: Lane,
  stream: string,
  { body, ranges, count }: DecodedRequest,
  from: number,
  identity: Identity | undefined,
  admission: Admission,
): Promise<AppendedMany> {
  const keyBytes = identity === undefined ? 0 : IDENTITY_BYTES;
  const wanted = from === 0 ? ranges : ranges.subarray(2 * from);
  const bytes = framesBytes(wanted, count - from, keyBytes);
  // Of one record there is nothing to gain by frames.
  if (count - from > 1 && bytes <= host.parts.laneBytes / 4) {
    const write = (out: Uint8Array): void => void encodeFrames(out, body, wanted, count - from, keyBytes);
    return lane.appendFrames(stream, { length: bytes, write }, count - from, admission, identity);
  }
  const payloads: Uint8Array[] = [];
  for (let i = from; i < count; i++) payloads.push(body.subarray(ranges[2 * i], ranges[2 * i + 1]));
  return lane.appendMany(stream, payloads, admission, identity);
}

function recordBytes({ ranges, count }: DecodedRequest, from: number): number {
  let bytes = 0;
  for (let i = from; i < count; i++) bytes += ranges[2 * i + 1] - ranges[2 * i];
  return bytes;
}

/** @param taken called once nothing of the body is needed any more: the records are in the lane, or copied */
async function store(
  host: Host,
  stream: string,
  decoded: DecodedRequest,
  key: string | undefined,
  admission: Admission,
  taken: () => void,
): Promise<Accepted> {
  const append = (from: number, identity?: Identity): Promise<AppendedMany> => {
    const appended = host.append(decoded.count - from, recordBytes(decoded, from), (lane) =>
      appendTo(host, lane, stream, decoded, from, identity, admission),
    );
    taken();
    return appended;
  };
  if (key === undefined) {
    const { firstOffset, lastOffset } = await append(0);
    return { firstOffset, lastOffset, duplicate: false };
  }

  const { dedupe } = host.parts;
  const id = createHash('sha256').update(`${stream}\0${key}`).digest().subarray(0, 16);
  // Tells it from a producer of the framed protocol, where a restart reads the log.
  id[0] |= 0x80;
  const high = decoded.crc32c!;
  const name = id.toString('latin1');
  const known = await dedupe.claim(name);
  let remembered: Remembered | undefined;
  try {
    const there = known?.nextSequence ?? 0;
    if (known !== undefined && (known.tag !== high || there > decoded.count)) {
      const message = `Idempotency-Key: it was used for ${there} other records of stream '${stream}'`;
      throw new SpillwayError('IDEMPOTENCY_MISMATCH', message);
    }
    const runs = known?.runs ?? [];
    // A crash may have kept a prefix of the request: what is missing goes behind it.
    if (there < decoded.count) {
      const { firstOffset, runs: parts } = await append(there, { id, low: there, high });
      let sequence = there;
      for (const part of parts ?? [{ firstOffset, records: decoded.count - there }]) {
        addRun(runs, sequence, part.firstOffset, part.records);
        sequence += part.records;
      }
      remembered = { nextSequence: decoded.count, tag: high, runs };
    }
    const lastOffset = offsetOf(runs, decoded.count - 1) ?? -1;
    return { firstOffset: offsetOf(runs, 0) ?? -1, lastOffset, duplicate: there === decoded.count };
  } finally {
    dedupe.release(name, remembered);
  }
}
