// The text of one page of records: NDJSON, as pieces that are made once and given to the socket as they are. Limits: READ_PAGE_BYTES,
// or the first record where that alone is longer; of a record a slice at a time is on the heap.

import { isUtf8 } from 'node:buffer';
import { READ_PAGE_BYTES, READ_PIECE_BYTES } from '../base/limits.ts';
import type { LogRecord } from '../base/types.ts';

/** Payload that is made text at once: a multiple of 3, so that slices of base64 join. */
const SLICE_BYTES = 48 * 1024;
/** Names, numbers and punctuation of one line, at their longest. */
const LINE_OVERHEAD_BYTES = 128;
/** A control character is `\u0001` as text; base64, of a key or of what is no text, is less. */
const WORST_FACTOR = 6;

/** The longest text of one record. */
export function longestLine(maxRecordBytes: number): number {
  return LINE_OVERHEAD_BYTES + WORST_FACTOR * maxRecordBytes;
}

/** Where the characters that are whole end, at or before a place in UTF-8. */
function characterEnd(text: Uint8Array, most: number): number {
  let end = most;
  while (end < text.length && (text[end] & 0xc0) === 0x80) end--;
  return end;
}

/** The line of a record, in parts. */
function* partsOf(record: LogRecord): Generator<string> {
  const payload = Buffer.from(record.payload.buffer, record.payload.byteOffset, record.payload.byteLength);
  const isText = isUtf8(payload);
  const name = isText ? 'payload' : 'payloadBase64';
  let part = `{"offset":${record.offset},"timestampMs":${record.timestampMs},"${name}":"`;
  for (let at = 0; at < payload.length;) {
    const most = Math.min(at + SLICE_BYTES, payload.length);
    const end = isText ? characterEnd(payload, most) : most;
    part += isText
      ? JSON.stringify(payload.toString('utf8', at, end)).slice(1, -1)
      : payload.toString('base64', at, end);
    at = end;
    if (at === payload.length) break;
    yield part;
    part = '';
  }
  const key = record.key === null ? '' : `,"keyBase64":"${Buffer.from(record.key).toString('base64')}"`;
  yield `${part}"${key}}\n`;
}

export class PageText {
  readonly #maxRecords: number;
  readonly #firstBytes: number;
  readonly #pieces: Buffer[] = [];
  #text = '';
  #records = 0;
  #bytes = 0;
  #neededBytes: number | undefined;
  #isFull = false;

  /** @param firstBytes what the first record may take, where it is more than a page */
  constructor(maxRecords: number, firstBytes: number) {
    this.#maxRecords = maxRecords;
    this.#firstBytes = firstBytes;
  }

  get records(): number {
    return this.#records;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A record was not taken. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Text of the first record, where it did not fit. */
  get neededBytes(): number | undefined {
    return this.#neededBytes;
  }

  /** @returns false where the record was not taken: the page is full */
  add(record: LogRecord): boolean {
    this.#isFull = this.#records === this.#maxRecords;
    if (this.#isFull) return false;
    const isFirst = this.#records === 0;
    const endBytes = isFirst ? this.#firstBytes : READ_PAGE_BYTES;
    const before = { text: this.#text, pieces: this.#pieces.length, bytes: this.#bytes };
    // Text is never shorter than the payload.
    let fits = before.bytes + record.payload.length <= endBytes;
    if (fits) {
      for (const part of partsOf(record)) {
        this.#bytes += Buffer.byteLength(part);
        fits = this.#bytes <= endBytes;
        if (!fits) break;
        this.#text += part;
        if (this.#text.length >= READ_PIECE_BYTES) this.#flush();
      }
    }
    if (fits) {
      this.#records++;
      return true;
    }
    this.#isFull = true;
    this.#text = before.text;
    this.#pieces.length = before.pieces;
    this.#bytes = before.bytes;
    if (isFirst) {
      this.#neededBytes = 0;
      for (const part of partsOf(record)) this.#neededBytes += Buffer.byteLength(part);
    }
    return false;
  }

  /** What there is to send; nothing can be added any more. */
  pieces(): readonly Buffer[] {
    if (this.#text !== '') this.#flush();
    return this.#pieces;
  }

  #flush(): void {
    this.#pieces.push(Buffer.from(this.#text));
    this.#text = '';
  }
}
