// Records as bodies of HTTP requests. NDJSON carries many in one, but none that holds a newline, ends with a CR (it would be taken for
// the line's) or is blank; such a record goes alone, as application/octet-stream, and the call takes several requests. An empty
// record has no body at all: HTTP does not carry it.

import { SpillwayError } from '../base/errors.ts';
import type { Payload } from '../pipeline/job.ts';
import { bytesOf } from './check.ts';

/** Bounds of one NDJSON body, unless its one record is larger: a part of wireBodyBytes, and maxRequestRecords, where nobody set them. */
const MAX_BODY_BYTES = 1024 * 1024;
const MAX_BODY_RECORDS = 10_000;

const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** What one request carries. */
export interface Piece {
  readonly contentType: 'application/x-ndjson' | 'application/octet-stream';
  readonly body: Buffer;
  readonly records: number;
}

/** Whether NDJSON gives back the same bytes. */
export function fitsLine(payload: Payload): boolean {
  if (typeof payload === 'string')
    return !payload.includes('\n') && !payload.endsWith('\r') && /[^ \t\r]/.test(payload);
  if (payload.length === 0 || payload.at(-1) === RETURN || payload.includes(NEWLINE)) return false;
  return payload[0] > 0x20 || payload.some((b) => b !== 0x20 && b !== 0x09 && b !== RETURN);
}

function put(body: Buffer, payload: Payload, at: number): number {
  if (typeof payload === 'string') return at + body.write(payload, at, 'utf8');
  body.set(payload, at);
  return at + payload.length;
}

function alone(payload: Payload, bytes: number): Piece {
  const body = Buffer.allocUnsafeSlow(bytes);
  put(body, payload, 0);
  return { contentType: 'application/octet-stream', body, records: 1 };
}

function lines(payloads: readonly Payload[], bytes: number): Piece {
  const body = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const payload of payloads) {
    at = put(body, payload, at);
    body[at++] = NEWLINE;
  }
  return { contentType: 'application/x-ndjson', body, records: payloads.length };
}

/** Bytes of each payload. @throws INVALID_RECORD */
function sizesOf(payloads: readonly Payload[]): number[] {
  return payloads.map((payload, i) => {
    const bytes = bytesOf(payload, 'payload', i);
    if (bytes > 0) return bytes;
    const message = `payload ${i}: it is empty, which HTTP does not carry; tcp: and unix: do`;
    throw new SpillwayError('INVALID_RECORD', message, { subject: String(i) });
  });
}

/** The body of an `append`. Copies. @throws INVALID_RECORD */
export function pieceOf(payload: Payload): Piece {
  return alone(payload, sizesOf([payload])[0]);
}

/** The bodies of an `appendMany`, in order; one, wherever possible. Copies. @throws INVALID_RECORD */
export function piecesOf(payloads: readonly Payload[]): Piece[] {
  const sizes = sizesOf(payloads);
  const pieces: Piece[] = [];
  let from = 0;
  let bytes = 0;
  const close = (to: number): void => {
    if (to > from) pieces.push(lines(payloads.slice(from, to), bytes));
    from = to;
    bytes = 0;
  };
  payloads.forEach((payload, i) => {
    if (!fitsLine(payload)) {
      close(i);
      pieces.push(alone(payload, sizes[i]));
      from = i + 1;
      return;
    }
    if (bytes + sizes[i] + 1 > MAX_BODY_BYTES || i - from === MAX_BODY_RECORDS) close(i);
    bytes += sizes[i] + 1;
  });
  close(payloads.length);
  return pieces;
}
