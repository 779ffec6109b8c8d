// What a connection of the framed protocol needs from outside: all of it, so that a test can be the outside.

import type { Socket } from 'node:net';
import { SpillwayError } from '../base/errors.ts';
import type { Identity } from '../base/types.ts';
import type { Append } from '../codec/append-frame.ts';
import { protocolError } from '../codec/frames.ts';
import type { Dedupe } from '../flow/dedupe.ts';
import type { AppendedMany } from '../pipeline/job.ts';

export interface TcpLimits {
  /** Longest APPEND, header included: larger than the largest record with its key and headers. */
  readonly maxFrameBytes: number;
  readonly maxRecordBytes: number;
  readonly maxRequestRecords: number;
  /** Time for a HELLO to arrive. */
  readonly helloMs: number;
  /** Time for the rest of a frame to arrive, from its first byte. */
  readonly frameMs: number;
  /** How long a client may leave more than `maxUnreadBytes` unread, or a connection take to close after BYE. */
  readonly stallMs: number;
  /** Answers waiting for the client to read them, from which on it is not read from either. */
  readonly maxUnreadBytes: number;
  /** APPENDs without an answer, from which on no more are read. */
  readonly maxUnsettledFrames: number;
}

/** The numbers of docs/protocol.md. */
export const tcpLimits = {
  helloMs: 10_000,
  frameMs: 30_000,
  stallMs: 30_000,
  maxUnreadBytes: 128 * 1024,
  maxUnsettledFrames: 4096,
} as const;

/** Who was let in. */
export interface Who {
  readonly name: string;
  /** Of its token, in hex; undefined where none was needed. */
  readonly digest?: string;
}

/** What one connection may send. Bytes are those of APPEND frames, header included. */
export interface ConnectionCredits {
  /** Bytes to tell the client now that it may send beyond what it was told before; 0 for none. */
  grant(): number;
  /**
   * An APPEND of that many bytes has begun to arrive. @returns a promise where that is more than was granted, as it may be while
   * nothing else is held: resolves once room is found or the connection is closed, and nothing is read until then
   */
  spent(bytes: number): Promise<void> | undefined;
  /** That much of what was spent has been answered, and is not held any more. */
  returned(bytes: number): void;
  /** The connection is over: what was granted, spent or not, is free again. */
  close(): void;
}

export type TcpCounter =
  | 'frames'
  | 'duplicates'
  | 'unauthorized'
  | 'protocolErrors'
  | 'timedOut'
  | 'fenced'
  | 'stalled';

export interface TcpHost {
  readonly limits: TcpLimits;
  /** Who holds this token, or connects from there without one; undefined: not let in. */
  authenticate(token: Uint8Array | undefined, socket: Socket): Who | undefined;
  /** Credit of a new connection. @param onRoom called when `grant` may have more to give than the last time it was asked */
  credits(onRoom: () => void): ConnectionCredits;
  /**
   * Appends checked record frames. Resolves once all are durable; rejects, and does not throw. The bytes are not changed afterwards, and may be kept
   * until then. @param who name from `authenticate`
   */
  append(
    stream: string,
    frames: Uint8Array,
    records: number,
    identity: Identity | undefined,
    who: string,
  ): Promise<AppendedMany>;
  /** For the ERROR of a refused range; 0 where nobody knows. */
  retryAfterMs(error: SpillwayError): number;
  /** Undefined: no producer is remembered. */
  readonly dedupe: Dedupe | undefined;
  readonly counters: { add(name: TcpCounter, amount?: number): void };
  readonly log: {
    debug(fields: object, message: string): void;
    warn(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
}

/** An ERROR that ends a connection. */
export function countEnd(counters: TcpHost['counters'], code: string): void {
  if (code === 'UNAUTHORIZED') counters.add('unauthorized');
  if (code === 'PROTOCOL_ERROR') counters.add('protocolErrors');
  if (code === 'REQUEST_TIMEOUT') counters.add('timedOut');
}

export function timedOut(message: string): SpillwayError {
  return new SpillwayError('REQUEST_TIMEOUT', message);
}

/** @param skips whether it may leave sequences out @throws PROTOCOL_ERROR */
export function checkSequence({ firstSequence }: Append, skips: boolean, next: number): void {
  if (skips ? firstSequence >= next : firstSequence === next) return;
  throw protocolError(`APPEND: expected sequence ${next}${skips ? ' or later' : ''}, got ${firstSequence}`);
}

/** Why an APPEND is refused for what it holds. */
export function tooMuch({ records, largestBytes }: Append, limits: TcpLimits): SpillwayError | undefined {
  const { maxRequestRecords, maxRecordBytes } = limits;
  if (records > maxRequestRecords) {
    const message = `APPEND: expected at most maxRequestRecords (${maxRequestRecords}), got ${records}`;
    return new SpillwayError('TOO_MANY_RECORDS', message);
  }
  if (largestBytes > maxRecordBytes) {
    const message = `APPEND: expected records of at most maxRecordBytes (${maxRecordBytes}), got one of ${largestBytes}`;
    return new SpillwayError('RECORD_TOO_LARGE', message);
  }
  return undefined;
}
