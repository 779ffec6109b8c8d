// Reading as an async iterator, and reading a directory that this process does not write.

import { setTimeout as delay } from 'node:timers/promises';
import { SpillwayError } from '../base/errors.ts';
import { FOLLOW_POLL_MS } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import { checkKeys } from '../base/options.ts';
import type { LogRecord } from '../base/types.ts';
import { LogReader } from '../log/reader.ts';
import { readerIo } from '../platform/choose-io.ts';

export interface ReadOptions {
  /** Only records of this stream. */
  readonly stream?: string;
  /** First offset; the oldest there is by default. */
  readonly from?: number;
  /** Go on with what comes. */
  readonly follow?: boolean;
}

/** @throws INVALID_OPTION, INVALID_STREAM */
export function checkReadOptions(options: ReadOptions): {
  stream: string | undefined;
  from: number | undefined;
  follow: boolean;
} {
  checkKeys(options, ['stream', 'from', 'follow'], 'read options');
  const { stream, from, follow: follows = false } = options;
  if (stream !== undefined) checkStreamName(stream);
  if (from !== undefined && (!Number.isSafeInteger(from) || from < 0)) {
    throw new SpillwayError(
      'INVALID_OPTION',
      `option 'from': expected an offset (a whole number from 0), got ${String(from)}`,
      { subject: 'from' },
    );
  }
  if (typeof follows !== 'boolean') {
    throw new SpillwayError('INVALID_OPTION', `option 'follow': expected true or false, got ${String(follows)}`, {
      subject: 'follow',
    });
  }
  return { stream, from, follow: follows };
}

/** Drives a reader. `more` waits for news at the end and says whether there may be any. */
export async function* follow(
  reader: LogReader,
  follows: boolean,
  more: () => Promise<boolean>,
): AsyncGenerator<LogRecord, void, undefined> {
  try {
    for (;;) {
      const records = reader.nextBatch();
      if (records !== undefined) yield* records;
      else if (!follows) return reader.checkEnd();
      else if (!(await more())) return;
    }
  } finally {
    reader.close();
  }
}

/**
 * Reads a log that another process may be writing; needs no lock. `signal` ends a following read.
 * @throws INVALID_OPTION, INVALID_STREAM, DIR_UNUSABLE, NOT_A_LOG, OFFSET_OUT_OF_RANGE, CORRUPT, UNSUPPORTED_FORMAT
 */
export async function* read(
  options: ReadOptions & { readonly dir: string; readonly signal?: AbortSignal },
): AsyncGenerator<LogRecord, void, undefined> {
  const { dir, signal, ...rest } = options;
  const { stream, from, follow: follows } = checkReadOptions(rest);
  const io = readerIo();
  try {
    const reader = new LogReader(io, dir, { stream, from });
    yield* follow(reader, follows, async () => {
      await delay(FOLLOW_POLL_MS, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      return signal?.aborted !== true;
    });
  } finally {
    io.destroy();
  }
}
