// Reading as an async iterator, and reading a directory that this process does not write.

import { setTimeout as delay } from 'node:timers/promises';
import { SpillwayError } from '../base/errors.ts';
import { FOLLOW_POLL_MS } from '../base/limits.ts';
import { checkStreamName } from '../base/names.ts';
import { checkKeys, checkOption, logOptionTable, show } from '../base/options.ts';
import type { LogRecord } from '../base/types.ts';
import { batchDecoder } from '../codec/batch-codec.ts';
import { LogReader } from '../log/reader.ts';
import { readerIo } from '../platform/choose-io.ts';

export interface ReadOptions {
  /** Only records of this stream. */
  readonly stream?: string;
  /** First offset; the oldest there is by default. */
  readonly from?: number;
  /** Go on with what comes. */
  readonly follow?: boolean;
  /** Ends a following read that waits. */
  readonly signal?: AbortSignal;
}

interface CheckedReadOptions {
  readonly stream: string | undefined;
  readonly from: number | undefined;
  readonly follow: boolean;
  readonly signal: AbortSignal | undefined;
}

function refuse(name: string, expected: string, came: unknown): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': expected ${expected}, got ${show(came)}`, {
    subject: name,
  });
}

/** @throws INVALID_OPTION, INVALID_STREAM */
export function checkReadOptions(options: ReadOptions): CheckedReadOptions {
  checkKeys(options, ['stream', 'from', 'follow', 'signal'], 'read options');
  const { stream, from, follow: follows = false, signal } = options;
  if (stream !== undefined) checkStreamName(stream);
  if (from !== undefined && (!Number.isSafeInteger(from) || from < 0))
    refuse('from', 'an offset (a whole number from 0)', from);
  if (typeof follows !== 'boolean') refuse('follow', 'true or false', follows);
  if (signal !== undefined && !(signal instanceof AbortSignal)) refuse('signal', 'an AbortSignal', signal);
  return { stream, from, follow: follows, signal };
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
 * Reads a log that another process may be writing; needs no lock.
 * @throws INVALID_OPTION, INVALID_STREAM, DIR_UNUSABLE, NOT_A_LOG, OFFSET_OUT_OF_RANGE, CORRUPT, UNSUPPORTED_FORMAT
 */
export async function* read(
  options: ReadOptions & { readonly dir: string },
): AsyncGenerator<LogRecord, void, undefined> {
  checkKeys(options, ['dir', 'stream', 'from', 'follow', 'signal'], 'read options');
  const { dir, ...rest } = options;
  checkOption(logOptionTable[0], dir);
  const { stream, from, follow: follows, signal } = checkReadOptions(rest);
  const io = readerIo();
  try {
    const reader = new LogReader(io, dir, { stream, from, decoder: batchDecoder });
    yield* follow(reader, follows, async () => {
      await delay(FOLLOW_POLL_MS, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      return signal?.aborted !== true;
    });
  } finally {
    io.destroy();
  }
}
