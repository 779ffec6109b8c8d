// Finds the records in a decoded body: byte ranges into it, so that a record is stored as it came.
//
//   ndjson  a record per line. The newline, and one CR before it, are not part of it; a line that is empty or only CR, space and
//           tab is no record; the last newline may be missing (a CR at the very end is then part of the record)
//   json    the elements of an array, or the one value: their bytes without the white space around them
//   bytes   the body
//
// Promises: 8 bytes a record, no object; it stops at maxRecords + 1; a record that is too large is counted and, among the first
// BAD_RECORDS_SHOWN, described, and the others are found all the same. Lines are not parsed: that is the schema's (request.ts).

import { SpillwayError, type ErrorCode } from '../base/errors.ts';
import { BAD_RECORDS_SHOWN } from '../base/limits.ts';
import { show } from '../base/options.ts';
import { native, type NativeAddon } from '../platform/native.ts';
import { scanJson, skipSpace } from './json-scan.ts';

export type RecordShape = 'ndjson' | 'json' | 'bytes';

/** A record of the request that cannot be taken. */
export interface BadRecord {
  /** Its place among the records of the request, from 0. */
  readonly index: number;
  /** Where it begins in the decoded body. */
  readonly byteOffset: number;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface SplitLimits {
  readonly maxRecords: number;
  readonly maxRecordBytes: number;
}

/** The good records of a body, and what is known of the others. */
export interface Ranges {
  /** Good records: pairs in `ranges`. */
  readonly count: number;
  /** Pairs (from, to) into the body, in its order; may be longer than `count` pairs. */
  readonly ranges: Uint32Array<ArrayBuffer>;
  /** The first BAD_RECORDS_SHOWN of them, in the order of the body. */
  readonly bad: readonly BadRecord[];
  readonly badCount: number;
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;
/** Pairs that the first allocation has room for, by the body's length. V8 keeps the smallest on its heap: any more cost a malloc. */
const MIN_PAIRS = 8;
const MAX_PAIRS = 256;
const LIKELY_RECORD_BYTES = 64;

const shapes = new Map<string, RecordShape>([
  ['application/x-ndjson', 'ndjson'],
  // Other names of the same.
  ['application/ndjson', 'ndjson'],
  ['application/jsonl', 'ndjson'],
  ['application/x-jsonlines', 'ndjson'],
  ['application/json', 'json'],
  ['text/plain', 'bytes'],
  ['application/octet-stream', 'bytes'],
]);

/** A client that cannot set its Content-Type says `?as=ndjson`, `?as=json` or `?as=bytes`. */
const named: Readonly<Record<string, RecordShape>> = { ndjson: 'ndjson', json: 'json', bytes: 'bytes' };

/** @param as parameter `as` of the request; wins over the header @throws UNSUPPORTED_MEDIA_TYPE, BAD_REQUEST */
export function shapeOf(contentType: string | undefined, as: string | null = null): RecordShape {
  if (as !== null) {
    if (Object.hasOwn(named, as)) return named[as];
    throw new SpillwayError('BAD_REQUEST', `parameter 'as': expected ndjson, json or bytes, got ${show(as)}`);
  }
  // Hot: per request. As most write it.
  const exact = shapes.get(contentType ?? '');
  if (exact !== undefined) return exact;
  const [type, ...parameters] = (contentType ?? '').split(';').map((part) => part.trim().toLowerCase());
  const shape = shapes.get(type) ?? (/^application\/[^/]+\+json$/.test(type) ? 'json' : undefined);
  if (shape === undefined) {
    const came = type === '' ? 'none' : show(type);
    const hint = type === 'application/x-www-form-urlencoded' ? ' (curl sends it unless told otherwise by -H)' : '';
    throw new SpillwayError(
      'UNSUPPORTED_MEDIA_TYPE',
      `Content-Type: expected one of ${[...shapes.keys()].join(', ')}, got ${came}${hint}; or ?as=ndjson`,
    );
  }
  const charset = parameters
    .find((p) => p.startsWith('charset='))
    ?.slice('charset='.length)
    .replaceAll('"', '');
  // Newlines and brackets are looked for as single bytes.
  if (shape !== 'bytes' && charset !== undefined && charset !== 'utf-8' && charset !== 'us-ascii') {
    throw new SpillwayError('UNSUPPORTED_MEDIA_TYPE', `Content-Type: expected charset utf-8, got ${show(charset)}`);
  }
  return shape;
}

/** Collects ranges: pairs of numbers, grown geometrically. */
class Collector implements Ranges {
  readonly #maxRecords: number;
  readonly maxRecordBytes: number;
  count = 0;
  ranges: Uint32Array<ArrayBuffer>;
  readonly bad: BadRecord[] = [];
  badCount = 0;

  constructor(limits: SplitLimits, bodyBytes: number) {
    const pairs = Math.min(Math.max(Math.ceil(bodyBytes / LIKELY_RECORD_BYTES), MIN_PAIRS), MAX_PAIRS);
    this.ranges = new Uint32Array(pairs * 2);
    this.#maxRecords = limits.maxRecords;
    this.maxRecordBytes = limits.maxRecordBytes;
  }

  // Hot: per record. No allocation but the growth, no closure.
  add(from: number, to: number): void {
    if (this.count + this.badCount === this.#maxRecords) tooMany(this.#maxRecords);
    if (to - from > this.maxRecordBytes) {
      this.#refuse(from, to);
      return;
    }
    this.grewWhenFull();
    const at = this.count++ * 2;
    this.ranges[at] = from;
    this.ranges[at + 1] = to;
  }

  /** Pairs have been written into `ranges`, up to `count` of them. */
  took(count: number): void {
    this.count = count;
    if (count + this.badCount > this.#maxRecords) tooMany(this.#maxRecords);
  }

  grewWhenFull(): boolean {
    if (this.count * 2 < this.ranges.length) return false;
    const larger = new Uint32Array(this.ranges.length * 2);
    larger.set(this.ranges);
    this.ranges = larger;
    return true;
  }

  #refuse(from: number, to: number): void {
    const index = this.count + this.badCount++;
    if (this.bad.length === BAD_RECORDS_SHOWN) return;
    const message = `expected at most ${this.maxRecordBytes} bytes, got ${to - from}`;
    this.bad.push({ index, byteOffset: from, code: 'RECORD_TOO_LARGE', message });
  }
}

function tooMany(maxRecords: number): never {
  throw new SpillwayError('TOO_MANY_RECORDS', `request: expected at most ${maxRecords} records, got more`);
}

function isBlank(bytes: Uint8Array, from: number, to: number): boolean {
  for (; from < to; from++) {
    const c = bytes[from];
    if (c !== SPACE && c !== TAB && c !== RETURN) return false;
  }
  return true;
}

/** Takes one line. Returns where the next begins. */
function takeLine(bytes: Buffer, from: number, records: Collector): number {
  const newline = bytes.indexOf(NEWLINE, from);
  let to = newline;
  if (newline === -1) to = bytes.length;
  else if (newline > from && bytes[newline - 1] === RETURN) to--;
  // Only a line that begins with white space is looked at for being blank.
  if (bytes[from] > SPACE || !isBlank(bytes, from, to)) records.add(from, to);
  return newline === -1 ? bytes.length : newline + 1;
}

// Hot: per record, where there is no addon.
function splitLines(bytes: Buffer, records: Collector): void {
  for (let from = 0; from < bytes.length;) from = takeLine(bytes, from, records);
}

/** All lines in one call, but for those that are refused. */
function splitLinesNative({ findLines }: NativeAddon, bytes: Buffer, records: Collector): void {
  const place = new Uint32Array(2);
  while (place[0] < bytes.length) {
    place[1] = records.count;
    findLines(bytes, place, records.ranges, records.maxRecordBytes);
    records.took(place[1]);
    if (place[0] < bytes.length && !records.grewWhenFull()) place[0] = takeLine(bytes, place[0], records);
  }
}

/** @throws INVALID_JSON with the byte position, TOO_MANY_RECORDS, EMPTY_REQUEST */
export function splitRecords(
  body: Uint8Array,
  shape: RecordShape,
  limits: SplitLimits,
  addon: NativeAddon | null = native ?? null,
): Ranges {
  const records = new Collector(limits, shape === 'bytes' ? 0 : body.length);
  switch (shape) {
    case 'ndjson': {
      const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
      if (addon === null) splitLines(bytes, records);
      else splitLinesNative(addon, bytes, records);
      break;
    }
    case 'json':
      if (skipSpace(body, 0) < body.length) scanJson(body, (from, to) => records.add(from, to));
      break;
    case 'bytes':
      if (body.length > 0) records.add(0, body.length);
      break;
  }
  if (records.count + records.badCount === 0) throw new SpillwayError('EMPTY_REQUEST', 'request: it holds no record');
  const { count, ranges, bad, badCount } = records;
  return { count, ranges, bad, badCount };
}
