// Remembers what writers were told through many deaths of one directory, and compares a recovered log with it:
//  - every acknowledged record is at its offset, byte for byte, and what survived one recovery survives the next;
//  - every record is one that its lane appended, and each lane's records stand in order without a gap;
//  - the start is where the last finished truncation put it, or where an unfinished one or retention may have;
//  - recovering again changes nothing, `verify` finds nothing, and the log can be appended to.

import { cpSync, existsSync, rmSync } from 'node:fs';
import { open, type SpillwayLog } from '../../src/index.ts';
import type { IoMode } from '../../src/base/types.ts';
import { batchDecoder } from '../../src/codec/batch-codec.ts';
import { verify } from '../../src/log/verify.ts';
import { readerIo } from '../../src/platform/choose-io.ts';
import { originOf, payloadOf, streamOf, type scriptLog, type smallLog } from './kill-protocol.ts';

/** Lane of the record that the check itself appends to a recovered log. */
const CHECK_LANE = 2000;

export interface Checked {
  readonly violations: readonly string[];
  readonly tornBytes: number;
  readonly segments: number;
}

interface Content {
  readonly start: number;
  readonly end: number;
  readonly tornBytes: number;
  readonly segments: number;
  /** `run:lane:sequence`, or undefined where the bytes are no such record; from `start` on. */
  readonly origins: readonly (string | undefined)[];
}

export class Witness {
  /** What must be there: `run:lane:sequence` by offset. */
  readonly #known = new Map<number, string>();
  /** Start of the last truncation that was said to be done / of the furthest that was asked for. */
  #truncated = 0;
  #mayBeTruncated = 0;
  readonly #options: typeof smallLog | typeof scriptLog;
  readonly #retentionBytes: number;
  #run = 0;
  /** Records, truncations and closes told so far. */
  acknowledged = 0;
  truncations = 0;
  closes = 0;

  /** @param retentionBytes of the writers, 0 where they have none */
  constructor(options: typeof smallLog | typeof scriptLog, retentionBytes = 0) {
    this.#options = options;
    this.#retentionBytes = retentionBytes;
  }

  /** @returns what the lines themselves contradict */
  hear(run: number, lines: readonly string[]): string[] {
    this.#run = run;
    const violations: string[] = [];
    const rejectedFrom = new Map<number, number>();
    for (const line of lines) {
      const [kind, ...words] = line.split(' ');
      const [a, b, lane, sequence, records] = words.map(Number);
      if (kind === 't') this.#mayBeTruncated = Math.max(this.#mayBeTruncated, a);
      if (kind === 'T') this.#truncated = Math.max(this.#truncated, a);
      if (kind === 'T') this.truncations++;
      if (kind === 'C') this.closes++;
      if (kind === 'r') rejectedFrom.set(a, Math.min(b, rejectedFrom.get(a) ?? Infinity));
      if (kind !== 'a') continue;
      if (sequence > (rejectedFrom.get(lane) ?? Infinity))
        violations.push(`lane ${lane}: ${sequence} was acknowledged after ${rejectedFrom.get(lane)} had failed`);
      if (!(b - a + 1 >= records)) violations.push(`${records} records cannot be at offsets ${a} to ${b}`);
      this.acknowledged += records;
      // Records of another lane may stand between; those of this one do too, since a lane's records have no gap.
      this.#know(a, `${run}:${lane}:${sequence}`, violations);
      this.#know(b, `${run}:${lane}:${sequence + records - 1}`, violations);
    }
    return violations;
  }

  /**
   * Recovers the directory, or a copy of it, so that the next life meets it as the crash left it; and compares.
   * Once after each `hear`, at most.
   */
  async check(dir: string, io: IoMode, onCopy: boolean): Promise<Checked> {
    const at = onCopy ? `${dir}.copy` : dir;
    try {
      // A writer that died early may not have made it.
      if (onCopy && existsSync(dir)) cpSync(dir, at, { recursive: true });
      return await this.#check(at, io, onCopy);
    } catch (error) {
      return { violations: [`recovery: ${(error as Error).message}`], tornBytes: 0, segments: 0 };
    } finally {
      if (onCopy) rmSync(at, { recursive: true, force: true });
    }
  }

  async #check(dir: string, io: IoMode, onCopy: boolean): Promise<Checked> {
    const violations: string[] = [];
    const first = await this.#recover(dir, io);
    this.#compare(first, violations);

    await using log = await open({ dir, io, ...this.#options });
    const again = await contentOf(log);
    // A torn tail stays until the next batch is written over it: it may be found again, but no more than that.
    if (again.tornBytes > first.tornBytes)
      violations.push(`recovering again: a torn tail of ${again.tornBytes} bytes, after ${first.tornBytes}`);
    if (again.start !== first.start || again.end !== first.end || again.origins.join() !== first.origins.join())
      violations.push(`recovering again: ${again.start} … ${again.end}, after ${first.start} … ${first.end}`);
    const origin = { run: this.#run, lane: CHECK_LANE, sequence: 0 };
    const { offset } = await log.append(streamOf(CHECK_LANE), payloadOf(origin));
    if (offset !== first.end) violations.push(`the next record got offset ${offset}, expected ${first.end}`);
    await log.close();

    const reader = readerIo();
    const found = verify(reader, dir, undefined, batchDecoder);
    reader.destroy();
    for (const p of found.problems) violations.push(`verify: ${p.file} at ${p.position}: ${p.message}`);
    if (found.records !== first.end + 1 - first.start)
      violations.push(`verify: ${found.records} records, expected ${first.end + 1 - first.start}`);

    if (!onCopy) {
      first.origins.forEach((o, i) => o !== undefined && this.#known.set(first.start + i, o));
      this.#known.set(offset, `${origin.run}:${origin.lane}:${origin.sequence}`);
      this.#truncated = Math.max(this.#truncated, first.start);
      this.#mayBeTruncated = this.#truncated;
      for (const known of this.#known.keys()) if (known < first.start) this.#known.delete(known);
    }
    return { violations, tornBytes: first.tornBytes, segments: first.segments };
  }

  async #recover(dir: string, io: IoMode): Promise<Content> {
    await using log = await open({ dir, io, ...this.#options });
    return await contentOf(log);
  }

  #compare(found: Content, violations: string[]): void {
    const { start, end, origins, segments } = found;
    if (start < this.#truncated) violations.push(`starts at ${start}, was truncated before ${this.#truncated}`);
    if (start > this.#mayBeTruncated) {
      // Retention frees a segment only while the log is larger than it may be.
      const kept = segments * this.#options.segmentBytes;
      if (this.#retentionBytes === 0 || kept <= this.#retentionBytes - this.#options.segmentBytes)
        violations.push(`starts at ${start}, was truncated at most before ${this.#mayBeTruncated}; ${kept} bytes left`);
    }
    if (end - start !== origins.length) violations.push(`${origins.length} records from ${start} to ${end}`);
    let lost = 0;
    let firstLost = '';
    for (const [offset, known] of this.#known) {
      if (offset < start || origins[offset - start] === known) continue;
      if (lost++ === 0) firstLost = `offset ${offset}: expected ${known}, came ${origins[offset - start] ?? 'nothing'}`;
    }
    if (lost > 0) violations.push(`${lost} acknowledged records are lost or wrong; ${firstLost}`);
    const next = new Map<string, number>();
    origins.forEach((origin, i) => {
      if (origin === undefined) return violations.push(`offset ${start + i} holds bytes that nobody appended`);
      const [run, lane, sequence] = origin.split(':').map(Number);
      const expected = next.get(`${run}:${lane}`) ?? (start > 0 ? sequence : 0);
      if (sequence !== expected || run > this.#run)
        violations.push(`offset ${start + i}: lane ${run}:${lane} has ${sequence} where ${expected} was next`);
      next.set(`${run}:${lane}`, sequence + 1);
      return undefined;
    });
  }

  #know(offset: number, origin: string, violations: string[]): void {
    const before = this.#known.get(offset);
    if (before !== undefined && before !== origin)
      violations.push(`offset ${offset} was given to ${before} and to ${origin}`);
    this.#known.set(offset, origin);
  }
}

async function contentOf(log: SpillwayLog): Promise<Content> {
  const { startOffset, durableOffset, tornBytes, segments } = log.stats();
  const origins: (string | undefined)[] = [];
  for await (const record of log.read()) {
    const origin = originOf(record.payload);
    const fits = origin !== undefined && record.stream === streamOf(origin.lane);
    origins.push(
      fits && record.offset === startOffset + origins.length
        ? `${origin.run}:${origin.lane}:${origin.sequence}`
        : undefined,
    );
  }
  return { start: startOffset, end: durableOffset, tornBytes, segments, origins };
}
