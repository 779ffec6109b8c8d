// spillway read: records to stdout, as lines or as JSON.

import { once } from 'node:events';
import { isUtf8 } from 'node:buffer';
import type { LogRecord } from '../base/types.ts';
import { read, type ReadOptions } from '../pipeline/read.ts';

export interface ReadCommandOptions {
  readonly dir: string;
  readonly read: ReadOptions;
  readonly count: number;
  readonly format: 'raw' | 'json';
}

const NEWLINE = Buffer.from('\n');
/** Output is handed to the kernel in pieces of this size, or as soon as there is nothing more to read. */
const FLUSH_BYTES = 64 * 1024;

/** Bytes as JSON: text where they are UTF-8, else base64 under another name. */
function asText(name: string, bytes: Uint8Array): Record<string, string> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return isUtf8(buffer) ? { [name]: buffer.toString('utf8') } : { [`${name}Base64`]: buffer.toString('base64') };
}

function asJson(record: LogRecord): Buffer {
  const { offset, stream, timestampMs, key, payload } = record;
  const keyText = key === null ? {} : asText('key', key);
  return Buffer.from(`${JSON.stringify({ offset, stream, timestampMs, ...keyText, ...asText('payload', payload) })}\n`);
}

/** Collects output, and waits for a slow reader of it. */
class Output {
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #scheduled = false;

  async add(...parts: Uint8Array[]): Promise<void> {
    for (const part of parts) {
      this.#parts.push(part);
      this.#bytes += part.length;
    }
    if (this.#bytes >= FLUSH_BYTES) {
      if (!this.flush()) await once(process.stdout, 'drain');
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => this.flush());
    }
  }

  /** False when the reader is behind. */
  flush(): boolean {
    this.#scheduled = false;
    if (this.#bytes === 0) return true;
    const whole = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return process.stdout.write(whole);
  }
}

/** @returns exit status 0 */
export async function readCommand(options: ReadCommandOptions): Promise<number> {
  const abort = new AbortController();
  const stop = (): void => abort.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  const output = new Output();
  let left = options.count;
  if (left > 0) {
    for await (const record of read({ dir: options.dir, ...options.read, signal: abort.signal })) {
      if (options.format === 'json') await output.add(asJson(record));
      else if (record.unterminated) await output.add(record.payload);
      else await output.add(record.payload, NEWLINE);
      if (--left === 0 || abort.signal.aborted) break;
    }
  }
  output.flush();
  process.removeListener('SIGINT', stop).removeListener('SIGTERM', stop);
  return 0;
}
