// The saturated half of bench:memory: one log with one lane, appended to for a number of seconds in one of two ways, with
// figures as JSON on stdout at the end. Arguments: dir, mode, seconds, record bytes (or 'mixed'), way:
//
//   'lane'     as fast as it is acknowledged: as many groups under way as the lane takes, the oldest awaited
//   'waiting'  until the log refuses (BACKLOG_FULL): the lane is full, and as much waits for it as maxWaitingBytes lets

import { getHeapStatistics } from 'node:v8';
import { open, type AppendedMany, type SpillwayError } from '../src/index.ts';
import { seededRandom32 } from '../src/base/clock.ts';
import { frameBytes } from '../src/platform/lane-memory.ts';
import type { Io } from './lib/bench.ts';
import { POOL_BYTES, randomBytes, SEED } from './lib/payloads.ts';

const MIB = 1024 * 1024;
export const settings = {
  laneBytes: 16 * MIB,
  maxWaitingBytes: MIB,
  segmentBytes: 64 * MIB,
  retentionBytes: 192 * MIB,
  groupPayloadBytes: 128 * 1024,
  mixedBytes: [16, 64, 256, 1024, 4096, 65_536],
  /** Held back or not is asked for each of these spans of the run. */
  spanMs: 250,
} as const;

export type RecordBytes = number | 'mixed';
export type Way = 'lane' | 'waiting';

export interface MemoryResult {
  readonly io: string;
  readonly seconds: number;
  readonly records: number;
  readonly payloadBytes: number;
  readonly durableOffset: number;
  readonly batches: number;
  readonly calls: number;
  /** Calls refused with BACKLOG_FULL, and issued again later. */
  readonly refused: number;
  /** Share of the spans of the run in which the producer had to stand still because of the log. */
  readonly heldBackShare: number;
  readonly heapTotalBytes: number;
  readonly heapUsedBytes: number;
  readonly externalBytes: number;
  readonly mallocedBytes: number;
}

interface Group {
  readonly payloads: readonly Buffer[];
  readonly payloadBytes: number;
  readonly frameBytes: number;
}

/** Cut before the clock runs, so that the producer itself allocates nothing per record. */
function makeGroups(recordBytes: RecordBytes): Group[] {
  const pool = randomBytes(POOL_BYTES, SEED);
  const next = seededRandom32(SEED ^ 0x5eed);
  return Array.from({ length: 8 }, () => {
    const payloads: Buffer[] = [];
    let [payloadBytes, frames] = [0, 0];
    while (payloadBytes < settings.groupPayloadBytes) {
      const length = recordBytes === 'mixed' ? settings.mixedBytes[next() % settings.mixedBytes.length] : recordBytes;
      const at = next() % (POOL_BYTES - length + 1);
      payloads.push(pool.subarray(at, at + length));
      payloadBytes += length;
      frames += frameBytes(0, length);
    }
    return { payloads, payloadBytes, frameBytes: frames };
  });
}

/** In which spans of the run the producer stood still. */
class HeldBack {
  readonly #startMs = performance.now();
  readonly #spans = new Set<number>();

  span(): number {
    return Math.floor((performance.now() - this.#startMs) / settings.spanMs);
  }

  async wait(promise: Promise<unknown> | undefined): Promise<void> {
    const from = this.span();
    await promise;
    for (let s = from; s <= this.span(); s++) this.#spans.add(s);
  }

  get share(): number {
    return this.#spans.size / (this.span() + 1);
  }
}

interface UnderWay {
  readonly frameBytes: number;
  readonly settled: Promise<void>;
  done: boolean;
}

async function saturate(
  dir: string,
  io: Io,
  seconds: number,
  recordBytes: RecordBytes,
  way: Way,
): Promise<MemoryResult> {
  const groups = makeGroups(recordBytes);
  const { laneBytes, maxWaitingBytes, segmentBytes, retentionBytes } = settings;
  const log = await open({
    dir,
    io,
    laneBytes,
    maxWaitingBytes,
    segmentBytes,
    retentionBytes,
    window: { lingerMs: 0 },
  });
  const mostUnderWay = way === 'lane' ? laneBytes - Math.max(...groups.map((g) => g.frameBytes)) : Infinity;
  const underWay: UnderWay[] = [];
  const now = { refused: false, failure: undefined as SpillwayError | undefined, records: 0 };
  let [calls, refused, payloadBytes, bytesUnderWay] = [0, 0, 0, 0];
  const issue = (group: Group): UnderWay => {
    const settled = log.appendMany('bench', group.payloads).then(
      ({ firstOffset, lastOffset }: AppendedMany) => {
        now.records += lastOffset - firstOffset + 1;
        mine.done = true;
      },
      (error: SpillwayError) => {
        if (error.code === 'BACKLOG_FULL') now.refused = true;
        else now.failure ??= error;
      },
    );
    const mine: UnderWay = { frameBytes: group.frameBytes, settled, done: false };
    return mine;
  };
  const held = new HeldBack();
  const oldest = async (): Promise<void> => {
    const first = underWay.shift();
    if (first === undefined) return;
    // What is done already holds nobody back.
    if (first.done) await first.settled;
    else await held.wait(first.settled);
    bytesUnderWay -= first.frameBytes;
  };
  const startedMs = performance.now();
  for (let g = 0; now.failure === undefined && performance.now() - startedMs < seconds * 1000; g++) {
    const group = groups[g % groups.length];
    while (bytesUnderWay + group.frameBytes > mostUnderWay) await oldest();
    for (;;) {
      now.refused = false;
      calls++;
      const issued = issue(group);
      // A refusal is there at once: its handler runs before this goes on.
      await Promise.resolve();
      if (!now.refused) {
        underWay.push(issued);
        bytesUnderWay += issued.frameBytes;
        break;
      }
      refused++;
      await oldest();
    }
    payloadBytes += group.payloadBytes;
  }
  while (underWay.length > 0) await underWay.shift()!.settled;
  if (now.failure !== undefined) throw now.failure;
  const elapsed = (performance.now() - startedMs) / 1000;
  const { heapTotal, heapUsed, external } = process.memoryUsage();
  const { durableOffset, batches, io: mode } = log.stats();
  await log.close();
  return {
    io: mode,
    seconds: elapsed,
    records: now.records,
    payloadBytes,
    durableOffset,
    batches,
    calls,
    refused,
    heldBackShare: held.share,
    heapTotalBytes: heapTotal,
    heapUsedBytes: heapUsed,
    externalBytes: external,
    mallocedBytes: getHeapStatistics().malloced_memory,
  };
}

// The bench imports this file for its settings.
if (process.argv.length === 7) {
  const [dir, io, seconds, recordBytes, way] = process.argv.slice(2);
  const bytes = recordBytes === 'mixed' ? 'mixed' : Number(recordBytes);
  process.stdout.write(JSON.stringify(await saturate(dir, io as Io, Number(seconds), bytes, way as Way)));
}
