// Segments of the logs in log-plans.ts: how much fills one, and what its header says.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BLOCK_BYTES } from '../../src/base/limits.ts';
import { decodeSegmentHeader } from '../../src/log/format.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';

/** Batches of 20 records of 100 bytes take one block of 4 KiB; 15 of them fill a segment of 64 KiB. */
export const PER_SEGMENT = 15;
/** Of a batch. */
export const RECORDS = 20;

export function headerOf(
  dir: string,
  file: string,
): { epoch: number; salt: number; segmentBytes: number; baseOffset: number } {
  const header = decodeSegmentHeader(readFileSync(join(dir, file)), crc32cJs);
  if ('invalid' in header) throw new Error(`${file}: ${header.invalid}`);
  return header;
}

/** Batches in the segments of a directory whose header says a codec, of whatever life: by a look at each block. */
export function compressedIn(dir: string): number {
  let count = 0;
  for (const name of readdirSync(dir).filter((file) => file.endsWith('.seg'))) {
    const bytes = readFileSync(join(dir, name));
    for (let at = BLOCK_BYTES; at < bytes.length; at += BLOCK_BYTES) {
      if (bytes.toString('latin1', at, at + 4) === 'SPLB' && bytes[at + 5] !== 0) count++;
    }
  }
  return count;
}
