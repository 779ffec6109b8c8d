// One run of bench:instrumentation, in whichever build it stands: appends for a time, and prints what that took as JSON.
//   instrumentation-child.js DIR SECONDS RECORD_BYTES GROUP_RECORDS

import { open } from '../src/index.ts';
import { PayloadCycle, SEED } from './lib/payloads.ts';
import { produce } from './lib/producer.ts';

export interface Measured {
  readonly io: string;
  readonly recordsPerSecond: number;
  /** Of all threads, user and system. */
  readonly cpuUsPerRecord: number;
  readonly records: number;
  /** Of the latency histogram. */
  readonly samples: number;
}

const WARM_UP_MS = 1000;
/** Records appended between two looks at the clock. */
const TURN_RECORDS = 50_000;

const [dir, secondsText, bytesText, groupText] = process.argv.slice(2);
const groupRecords = Number(groupText);
// Few segments, which go round: zeros are written in the warm-up alone.
const log = await open({ dir, window: { lingerMs: 0 }, segmentBytes: '16MiB', retentionBytes: '48MiB' });
const cycle = new PayloadCycle(Number(bytesText), groupRecords, SEED);
const groups = Math.ceil(TURN_RECORDS / groupRecords);
let from = 0;

async function appendFor(ms: number): Promise<void> {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs) {
    await produce(log, 'p0', cycle, from, groups);
    from += groups;
  }
}

await appendFor(WARM_UP_MS);
const warm = from;
const startedMs = performance.now();
const cpuBefore = process.cpuUsage();
await appendFor(Number(secondsText) * 1000);
const { user, system } = process.cpuUsage(cpuBefore);
const tookMs = performance.now() - startedMs;
const measured = (from - warm) * groupRecords;
const { io, latency } = log.stats();
await log.close();
const result: Measured = {
  io,
  recordsPerSecond: (measured / tookMs) * 1000,
  cpuUsPerRecord: (user + system) / measured,
  records: from * groupRecords,
  samples: latency.count,
};
process.stdout.write(JSON.stringify(result));
