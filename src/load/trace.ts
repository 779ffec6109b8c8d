// Arrival times out of a CSV file, in order. The column is the one whose header is `timestamp`, `time`, `ts` or `at`; without a header
// the first; a value is a date and time (`2023-11-16 18:17:03.9799600`, `2023-11-16T18:17:03Z`) or a number, since the epoch or since any
// other moment: seconds, or by its size milli-, micro- or nanoseconds. Only differences count. A header
// without such a name, and a row earlier than the one before it, are refused: the column may be the wrong one, and any numbers would
// do as times. Limits: MAX_TRACE_BYTES; no line breaks in quoted fields.

import { SpillwayError, reasonOf } from '../base/errors.ts';
import { MAX_TRACE_BYTES } from '../base/limits.ts';
import { show } from '../base/options.ts';
import { readBounded } from '../platform/bounded-file.ts';

const timeColumn = /^(?:timestamp|time|ts|at)$/i;
const dateTime = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))?\s*(Z|[+-]\d\d:?\d\d)?$/i;

/** Milliseconds in two parts: together they would lose the 100 ns of a date. */
interface Moment {
  readonly wholeMs: number;
  readonly partMs: number;
}

function refuse(where: string, message: string): never {
  throw new SpillwayError('INVALID_OPTION', `${where}: option 'trace': ${message}`, { subject: 'trace' });
}

function momentOf(text: string): Moment | undefined {
  const match = dateTime.exec(text);
  if (match !== null) {
    const [, year, month, day, hour, minute, second, fraction = '', zone = 'Z'] = match;
    const wholeMs = Date.UTC(+year, +month - 1, +day, +hour, +minute, +second);
    const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(zone) ?? [undefined, '+', '0', '0'];
    const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000 * (sign === '-' ? -1 : 1);
    return { wholeMs: wholeMs - offsetMs, partMs: Number(`0.${fraction || '0'}`) * 1000 };
  }
  if (!/^\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i.test(text)) return undefined;
  const number = Number(text);
  // Seconds since 1970 are below 1e11 until the year 5138.
  const perMs = number < 1e11 ? 1e-3 : number < 1e14 ? 1 : number < 1e17 ? 1e3 : 1e6;
  const wholeMs = Math.trunc(number / perMs);
  return Number.isFinite(number) ? { wholeMs, partMs: number / perMs - wholeMs } : undefined;
}

function isBefore(a: Moment, b: Moment): boolean {
  return a.wholeMs < b.wholeMs || (a.wholeMs === b.wholeMs && a.partMs < b.partMs);
}

function fieldsOf(line: string): string[] {
  const fields = [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)];
  return fields.map((m) => (m[1]?.replaceAll('""', '"') ?? m[2]).trim());
}

/** Arrival times in order, the first 0. @throws INVALID_OPTION with the line */
export function parseTrace(text: string, path: string): Float64Array {
  const lines = text.split('\n');
  const first = fieldsOf(lines[0].replace(/^\uFEFF/, ''));
  const named = first.findIndex((name) => timeColumn.test(name));
  const hasHeader = named >= 0 || momentOf(first[0]) === undefined;
  if (lines.every((line) => line.trim() === '')) refuse(path, 'expected at least one row, got an empty file');
  if (hasHeader && named < 0) {
    refuse(`${path}:1`, `expected a column timestamp, time, ts or at, got ${first.slice(0, 8).map(show).join(', ')}`);
  }
  const column = Math.max(named, 0);
  const moments: Moment[] = [];
  for (let i = hasHeader ? 1 : 0; i < lines.length; i++) {
    if (lines[i].trim() === '') continue;
    const value = fieldsOf(lines[i])[column] ?? '';
    const moment = momentOf(value);
    if (moment === undefined) refuse(`${path}:${i + 1}`, `expected a time, got ${show(value)}`);
    const before = moments.at(-1);
    if (before !== undefined && isBefore(moment, before)) {
      refuse(`${path}:${i + 1}`, `expected times in order, got ${show(value)}, which is before the row above it`);
    }
    moments.push(moment);
  }
  if (moments.length === 0) refuse(path, 'expected at least one row');
  const [{ wholeMs: firstMs, partMs: firstPartMs }] = moments;
  return Float64Array.from(moments, ({ wholeMs, partMs }) => wholeMs - firstMs + (partMs - firstPartMs));
}

/** @throws INVALID_OPTION */
export function readTrace(path: string): Float64Array {
  let bytes: Buffer | undefined;
  try {
    bytes = readBounded(path, MAX_TRACE_BYTES);
  } catch (error) {
    return refuse(path, `expected a readable file, got: ${reasonOf(error)}`);
  }
  if (bytes === undefined) return refuse(path, `expected at most ${MAX_TRACE_BYTES} bytes`);
  return parseTrace(bytes.toString('utf8'), path);
}
