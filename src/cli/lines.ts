// Cuts a byte stream into lines without copying: one record per line, bytes as they are. A line ends with '\n', which is
// not part of it; '\r' is. The end of the input ends a last line that has no newline; an empty rest is no line.
// Memory: what is read at a time, and at most maxLineBytes of a line that spans reads. A longer line is dropped whole.

const NEWLINE = 0x0a;

/** A line that is longer than allowed. */
export interface LongLine {
  /** From 1. */
  readonly line: number;
  readonly bytes: number;
}

export class LineSplitter {
  readonly #maxLineBytes: number;
  readonly #onLong: (line: LongLine) => void;
  /** Beginning of a line whose end has not been read yet. */
  #rest: Uint8Array[] = [];
  #restBytes = 0;
  #line = 1;

  constructor(maxLineBytes: number, onLong: (line: LongLine) => void) {
    this.#maxLineBytes = maxLineBytes;
    this.#onLong = onLong;
  }

  /** The lines that end in `chunk`; views into it, except for one that began earlier. */
  push(chunk: Uint8Array): Uint8Array[] {
    const lines: Uint8Array[] = [];
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      const line = this.#finish(chunk.subarray(from, end));
      if (line !== undefined) lines.push(line);
      from = end + 1;
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
    return lines;
  }

  /** The last line, where the input did not end with a newline. */
  end(): Uint8Array | undefined {
    return this.#restBytes === 0 ? undefined : this.#finish(new Uint8Array(0));
  }

  #keep(part: Uint8Array): void {
    this.#restBytes += part.length;
    if (this.#restBytes <= this.#maxLineBytes) this.#rest.push(part);
    else this.#rest = [];
  }

  #finish(last: Uint8Array): Uint8Array | undefined {
    const bytes = this.#restBytes + last.length;
    const line = this.#line++;
    const parts = this.#rest;
    this.#rest = [];
    this.#restBytes = 0;
    if (bytes > this.#maxLineBytes) {
      this.#onLong({ line, bytes });
      return undefined;
    }
    return parts.length === 0 ? last : Buffer.concat([...parts, last]);
  }
}
