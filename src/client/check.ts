// What a caller gave `append` or `appendMany`, checked before anything is done with it: same codes and sentences as the embedded
// log (pipeline/job.ts), which checks and converts in one go; here nothing is converted, as text is encoded where it goes.

import { isDetached } from '../base/bytes.ts';
import { errorKinds, SpillwayError, type ErrorCode } from '../base/errors.ts';
import { IDENTITY_BYTES, MAX_KEY_BYTES } from '../base/limits.ts';
import { checkKeys } from '../base/options.ts';
import type { AppendOptions, Payload } from '../pipeline/job.ts';

// Hot: per record. The message is only put together when it is needed.
/** Bytes of a payload once it is encoded. @throws INVALID_RECORD */
export function bytesOf(payload: unknown, name: string, index?: number): number {
  if (typeof payload === 'string') return Buffer.byteLength(payload, 'utf8');
  if (payload instanceof Uint8Array) {
    if (payload.length > 0 || !isDetached(payload)) return payload.length;
    throw new SpillwayError('INVALID_RECORD', `${name}: its ArrayBuffer was transferred away`, { subject: name });
  }
  const what = index === undefined ? name : `${name} ${index}`;
  throw new SpillwayError(
    'INVALID_RECORD',
    `${what}: expected a Uint8Array or a string, got ${payload === null ? 'null' : typeof payload}`,
    { subject: what },
  );
}

/** @throws INVALID_RECORD */
export function checkPayloads(payloads: readonly Payload[]): void {
  if (!Array.isArray(payloads)) throw new SpillwayError('INVALID_RECORD', 'appendMany: expected an array of payloads');
  if (payloads.length === 0) {
    throw new SpillwayError('INVALID_RECORD', 'appendMany: expected at least one payload, got none');
  }
}

/** @throws RECORD_TOO_LARGE */
export function checkRecordBytes(bytes: number, maxRecordBytes: number, index: number): void {
  if (bytes <= maxRecordBytes) return;
  throw new SpillwayError(
    'RECORD_TOO_LARGE',
    `payload ${index}: expected at most maxRecordBytes (${maxRecordBytes}) with its key, got ${bytes}`,
    { subject: String(index) },
  );
}

/** The key of an append over the framed protocol, where the identity takes a part of its room. @throws INVALID_RECORD */
export function keyOf({ key }: AppendOptions): Uint8Array | null {
  if (key === undefined) return null;
  const bytes = bytesOf(key, 'key');
  if (bytes > MAX_KEY_BYTES - IDENTITY_BYTES) {
    const message = `key: expected at most ${MAX_KEY_BYTES - IDENTITY_BYTES} bytes, got ${bytes}`;
    throw new SpillwayError('INVALID_RECORD', message, { subject: 'key' });
  }
  return typeof key === 'string' ? Buffer.from(key, 'utf8') : key;
}

/** Options of an append that the embedded log takes, and a gateway decides for itself. */
const decidedThere = ['overflow', 'maxBlockMs'] as const;

/** @param carried options that the connection can carry. @throws INVALID_OPTION */
export function checkAppendOptions(options: AppendOptions, carried: readonly string[], scheme: string): void {
  checkKeys(options, ['key', 'unterminated', ...decidedThere], 'append options');
  for (const name of ['key', 'unterminated', ...decidedThere] as const) {
    if (options[name] === undefined || carried.includes(name)) continue;
    const why = (decidedThere as readonly string[]).includes(name)
      ? `the gateway decides, by its own option '${name}'`
      : `${scheme} does not carry it; tcp: and unix: do`;
    throw new SpillwayError('INVALID_OPTION', `append option '${name}': ${why}`, { subject: name });
  }
}

/** The error that a gateway named; one of a newer version keeps its meaning as far as there is a code for it. */
export function gatewayError(code: string, message: string, retryable: boolean): SpillwayError {
  if (Object.hasOwn(errorKinds, code)) return new SpillwayError(code as ErrorCode, message);
  return new SpillwayError(retryable ? 'DROPPED' : 'BAD_REQUEST', `${code}: ${message}`, { subject: code });
}

/**
 * Whether a refusal ends by itself, so that the same records are sent again. Not where they were dropped on purpose, by the overflow
 * policy of their stream, and not where nobody knows whether they are in the log.
 */
export function passesByItself({ code, retryable }: SpillwayError): boolean {
  return retryable && code !== 'DROPPED' && code !== 'DISCONNECTED';
}
