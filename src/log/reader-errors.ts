// Why a reader cannot go on.

import { SpillwayError } from '../base/errors.ts';

/** Waiting silently for an offset far ahead would look like an empty log. */
export function notYetThere(wanted: number, end: number): SpillwayError {
  const message = `offset ${wanted} does not exist yet: the log ends at ${end}`;
  return new SpillwayError('OFFSET_OUT_OF_RANGE', message, { subject: String(wanted) });
}

/** @param begunAt the offset that was asked for, where one was */
export function overtaken(next: number, begunAt: number | undefined, start: number): SpillwayError {
  const asked = begunAt === undefined ? '' : ` (reading began at ${begunAt})`;
  const message = `offset ${next} was removed while it was to be read${asked}: the log starts at ${start}`;
  return new SpillwayError('OFFSET_OUT_OF_RANGE', message, { subject: String(next) });
}

/** @param last offset lost; null where nobody knows */
export function damaged(
  dir: string,
  file: string,
  position: number,
  offset: number,
  message: string,
  last: number | null,
): SpillwayError {
  const problem = { file, position, firstOffset: offset, lastOffset: last, message };
  return new SpillwayError('CORRUPT', `${dir}/${file} at byte ${position}, from offset ${offset}: ${message}`, {
    subject: file,
    problems: [problem],
  });
}
