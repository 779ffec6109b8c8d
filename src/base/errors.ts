// Every error that Spillway can hand to a caller: one closed table of code → meaning. `code` is the contract;
// messages may improve. The table is what docs/errors.md is printed from, and what the tests walk through.

interface ErrorKind {
  /** True where the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  /** Exit status of the command line: 2 usage or configuration, 3 corruption, 1 anything else. */
  readonly exit: 1 | 2 | 3;
  /** Status of the gateway's HTTP answer. */
  readonly status: number;
  /** One sentence for the documentation. */
  readonly meaning: string;
}

export const errorKinds = {
  INVALID_OPTION: {
    retryable: false,
    exit: 2,
    status: 400,
    meaning: 'An option is unknown, of the wrong type or out of its bounds; the message names it.',
  },
  INVALID_STREAM: {
    retryable: false,
    exit: 2,
    status: 400,
    meaning: 'A stream name is outside the allow-list [A-Za-z0-9][A-Za-z0-9._-]{0,199}.',
  },
  INVALID_RECORD: {
    retryable: false,
    exit: 1,
    status: 422,
    meaning: 'A payload is neither bytes nor a string, or a key is longer than 65,535 bytes.',
  },
  RECORD_TOO_LARGE: {
    retryable: false,
    exit: 1,
    status: 422,
    meaning: 'A record (key and payload) is larger than maxRecordBytes; nothing of the call was appended.',
  },
  TOO_MANY_STREAMS: {
    retryable: false,
    exit: 1,
    status: 409,
    meaning: 'More (lane, stream) pairs were used since the log was opened than fit the stream table.',
  },
  TOO_MANY_LANES: {
    retryable: true,
    exit: 1,
    status: 503,
    meaning: 'All lanes of this log are taken; close one, or open the log with more.',
  },
  LANE_TAKEN: {
    retryable: false,
    exit: 1,
    status: 500,
    meaning: 'This lane already has a producer, or was closed: a lane belongs to one thread.',
  },
  BACKLOG_FULL: {
    retryable: true,
    exit: 1,
    status: 429,
    meaning:
      'The lane is full and appends worth maxWaitingBytes already wait for it: await the promises. From the gateway: no room, ' +
      'or no decode thread, within maxBlockMs.',
  },
  CLOSED: {
    retryable: false,
    exit: 1,
    status: 503,
    meaning:
      'The log is closed or closing; the record was not appended. Of an `appendMany` that waited for room in a full lane when the log was closed, a prefix may have been.',
  },
  POISONED: {
    retryable: false,
    exit: 1,
    status: 503,
    meaning:
      'A durable write failed. Nothing is acknowledged any more; reading still works; only reopening recovers. ' +
      'Records whose append was rejected with this code may or may not be in the log.',
  },
  WORKER_DIED: {
    retryable: false,
    exit: 1,
    status: 503,
    meaning:
      'A thread ended unexpectedly. Where it was the commit worker: reopen the log; records whose append was rejected ' +
      'with this code may or may not be in it.',
  },
  DISK_FULL: {
    retryable: true,
    exit: 1,
    status: 503,
    meaning:
      'No space for the next segment. Appends wait until there is space; a close in this state gives this error.',
  },
  IO_ERROR: {
    retryable: false,
    exit: 1,
    status: 500,
    meaning: 'The operating system refused a file operation; the message names call, file and reason.',
  },
  DIR_UNUSABLE: {
    retryable: false,
    exit: 2,
    status: 500,
    meaning: 'The directory is missing, not a directory, or may not be read or written.',
  },
  NOT_A_LOG: {
    retryable: false,
    exit: 2,
    status: 500,
    meaning: 'The directory holds files of somebody else and no log; nothing was touched.',
  },
  LOCKED: {
    retryable: true,
    exit: 2,
    status: 503,
    meaning: 'Another process, or this one, has the log open for writing; the message names the holder.',
  },
  UNSUPPORTED_FORMAT: {
    retryable: false,
    exit: 2,
    status: 500,
    meaning: 'The log was written by a newer format version, or with a codec this version does not have.',
  },
  CORRUPT: {
    retryable: false,
    exit: 3,
    status: 500,
    meaning: 'Damage inside the durable range: file, byte position and offset range are given. Nothing is skipped.',
  },
  OFFSET_OUT_OF_RANGE: {
    retryable: false,
    exit: 2,
    status: 416,
    meaning: 'The offset asked for was removed by truncation or retention, or does not exist yet.',
  },
  DROPPED: {
    retryable: true,
    exit: 1,
    status: 429,
    meaning: 'The overflow policy of the stream dropped the records: they were not appended.',
  },
  SHED: {
    retryable: true,
    exit: 1,
    status: 503,
    meaning: 'The oldest waiting record is older than shedAgeMs: new ones are refused until the queue is young again.',
  },
  RATE_LIMITED: {
    retryable: true,
    exit: 1,
    status: 429,
    meaning: 'The token or address has used up its rate limit; Retry-After says when there is room.',
  },
  DRAINING: {
    retryable: true,
    exit: 1,
    status: 503,
    meaning: 'The gateway is shutting down and takes nothing new.',
  },
  UNAUTHORIZED: {
    retryable: false,
    exit: 2,
    status: 401,
    meaning: 'The token is missing or not known.',
  },
  BAD_REQUEST: {
    retryable: false,
    exit: 1,
    status: 400,
    meaning: 'The request is not well-formed: a header, the target or the framing; the message says which.',
  },
  NOT_FOUND: {
    retryable: false,
    exit: 1,
    status: 404,
    meaning: 'There is nothing at this path.',
  },
  METHOD_NOT_ALLOWED: {
    retryable: false,
    exit: 1,
    status: 405,
    meaning: 'The path exists, the method does not; the Allow header names those that do.',
  },
  UNSUPPORTED_MEDIA_TYPE: {
    retryable: false,
    exit: 1,
    status: 415,
    meaning: 'The Content-Type is none of those that hold records.',
  },
  UNSUPPORTED_ENCODING: {
    retryable: false,
    exit: 1,
    status: 415,
    meaning: 'The Content-Encoding is unknown, more than one, or not available on this Node.',
  },
  BODY_TOO_LARGE: {
    retryable: false,
    exit: 1,
    status: 413,
    meaning: 'The body is larger than wireBodyBytes on the wire, or larger than decodedBodyBytes once decoded.',
  },
  BAD_ENCODING: {
    retryable: false,
    exit: 1,
    status: 400,
    meaning: 'The body is not what its Content-Encoding says: damaged, truncated, or followed by other bytes.',
  },
  INVALID_JSON: {
    retryable: false,
    exit: 1,
    status: 422,
    meaning: 'A body or record that has to be JSON is not; the message has the byte position.',
  },
  SCHEMA_MISMATCH: {
    retryable: false,
    exit: 1,
    status: 422,
    meaning:
      'Records do not match the JSON Schema of their stream, and the first 20 are named; or the check took longer than 10 s, as a ' +
      'pattern can make it, and was ended.',
  },
  TOO_MANY_RECORDS: {
    retryable: false,
    exit: 1,
    status: 413,
    meaning: 'A request holds more than maxRequestRecords records.',
  },
  EMPTY_REQUEST: {
    retryable: false,
    exit: 1,
    status: 400,
    meaning: 'A request holds no record.',
  },
  IDEMPOTENCY_MISMATCH: {
    retryable: false,
    exit: 1,
    status: 422,
    meaning: 'The Idempotency-Key was used for other records before.',
  },
  PROTOCOL_ERROR: {
    retryable: false,
    exit: 1,
    status: 400,
    meaning: 'A frame breaks the protocol (docs/protocol.md); the connection is closed.',
  },
  DISCONNECTED: {
    retryable: true,
    exit: 1,
    status: 503,
    meaning:
      'The client gave up reaching the gateway; records whose append was rejected with this code may or may not be in the log.',
  },
  REQUEST_TIMEOUT: {
    retryable: true,
    exit: 1,
    status: 408,
    meaning: 'The request did not arrive in time.',
  },
  HEADERS_TOO_LARGE: {
    retryable: false,
    exit: 1,
    status: 431,
    meaning: 'More than 64 headers, or more than 8 KiB of them.',
  },
  MEMORY_LIMIT: {
    retryable: false,
    exit: 2,
    status: 500,
    meaning: 'The memory that the options add up to exceeds memoryLimit or the limit of the container.',
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorKinds;

/** Where damage was found. Offsets are inclusive; `lastOffset` is null where the extent is unknown. */
export interface Problem {
  readonly file: string;
  /** Byte position in the file. */
  readonly position: number;
  readonly firstOffset: number;
  readonly lastOffset: number | null;
  readonly message: string;
}

export interface ErrorDetails {
  /** The option, stream, file or call that the error is about. */
  readonly subject?: string;
  /** errno name of the operating system, such as `ENOSPC`. */
  readonly errno?: string;
  readonly problems?: readonly Problem[];
  /** Bytes that came out of a compressed body before it was refused; of a damaged one at most. */
  readonly decodedBytes?: number;
  readonly cause?: unknown;
}

/** The only error class that Spillway's public functions throw or reject with. */
export class SpillwayError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'SpillwayError';
    this.code = code;
    this.retryable = errorKinds[code].retryable;
    this.details = details;
  }
}

/** What crosses a thread boundary: structured clone keeps neither class nor `code` of an error. */
export interface ErrorMessage {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: ErrorDetails;
}

/** Flattens any thrown value for another thread; what is not ours becomes `fallback`. */
export function toErrorMessage(error: unknown, fallback: ErrorCode = 'IO_ERROR'): ErrorMessage {
  if (error instanceof SpillwayError) {
    const { cause: _dropped, ...details } = error.details;
    return { code: error.code, message: error.message, details };
  }
  const message = error instanceof Error ? error.message : String(error);
  const errno = errnoOf(error);
  return { code: fallback, message, details: errno === undefined ? {} : { errno } };
}

export function fromErrorMessage(m: ErrorMessage): SpillwayError {
  return new SpillwayError(m.code, m.message, m.details);
}

/** The message of anything thrown, for wrapping into a sentence. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** errno name (`ENOSPC`) of a file-system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof SpillwayError) return error.details.errno;
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/** True for "no such file", also where a name leads nowhere. */
export function isMissing(error: unknown): boolean {
  return error instanceof SpillwayError && error.details.errno === 'ENOENT';
}

/** True for "no room on the device": back-pressure, not damage. */
export function isDiskFull(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}
