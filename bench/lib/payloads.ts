// Records to append: views into one buffer of seeded random bytes, cut before any timing, so that the bench's own cost
// per record is an array access. Producer and verifier make the same bytes from the same seed.

import { seededRandom32 } from '../../src/base/clock.ts';
import { createHash } from 'node:crypto';
import type { LogRecord } from '../../src/index.ts';
import { BenchError } from './experiment.ts';

export const SEED = 20_261_103;
/** Small enough to stay in a core's cache, as records that have just come off a socket are. */
export const POOL_BYTES = 1024 * 1024;

const GROUPS = 4;

export function randomBytes(bytes: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  const next = seededRandom32(seed);
  for (let i = 0; i < words.length; i++) words[i] = next();
  return Buffer.from(words.buffer, 0, bytes);
}

/** An endless sequence of payloads, `groupRecords` at a time, repeating after GROUPS groups. */
export class PayloadCycle {
  readonly recordBytes: number;
  readonly groupRecords: number;
  readonly #groups: Buffer[][];

  /** @param alignBytes records begin at multiples of it in their buffer; 1: anywhere, as lines of a text do */
  constructor(recordBytes: number, groupRecords: number, seed: number, alignBytes = 1) {
    this.recordBytes = recordBytes;
    this.groupRecords = groupRecords;
    const pool = randomBytes(POOL_BYTES, seed);
    const next = seededRandom32(seed ^ 0x5eed);
    const view = (): Buffer => {
      const at = Math.floor((next() % (POOL_BYTES - recordBytes + 1)) / alignBytes) * alignBytes;
      return pool.subarray(at, at + recordBytes);
    };
    this.#groups = Array.from({ length: GROUPS }, () => Array.from({ length: groupRecords }, view));
  }

  group(number: number): readonly Buffer[] {
    return this.#groups[number % this.#groups.length];
  }

  /** The payload of the sequence's n-th record. */
  at(n: number): Buffer {
    return this.group(Math.floor(n / this.groupRecords))[n % this.groupRecords];
  }
}

export interface Sample {
  readonly records: number;
  readonly sha256: string;
}

/**
 * Reads records from `from` to the end and compares them with what was appended: of each stream, the last records in the
 * log must be the last of its sequence. Throws where one byte differs.
 */
export async function verifyTail(
  read: AsyncIterable<LogRecord>,
  sequences: ReadonlyMap<string, { readonly cycle: PayloadCycle; readonly count: number }>,
): Promise<Sample> {
  const found = new Map<string, Uint8Array[]>();
  for await (const { stream, payload } of read) {
    const list = found.get(stream) ?? [];
    list.push(payload);
    found.set(stream, list);
  }
  const hash = createHash('sha256');
  let records = 0;
  for (const [stream, payloads] of found) {
    const sequence = sequences.get(stream);
    if (sequence === undefined) throw new BenchError(`read back: stream '${stream}' was never appended to`);
    const first = sequence.count - payloads.length;
    payloads.forEach((payload, i) => {
      if (Buffer.compare(payload, sequence.cycle.at(first + i)) !== 0) {
        throw new BenchError(`read back: record ${first + i} of stream '${stream}' differs from what was appended`);
      }
      hash.update(payload);
    });
    records += payloads.length;
  }
  if (records === 0) throw new BenchError('read back: no record was found');
  return { records, sha256: hash.digest('hex') };
}
