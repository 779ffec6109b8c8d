// One process of bench:instrumentation, in its copy of the build: appends by turns with the instrumentation on and off, and prints
// what that took as JSON.
//   instrumentation-child.js DIR PAIRS RECORD_BYTES GROUP_RECORDS TURN_RECORDS

import { open } from '../src/index.ts';
import { PayloadCycle, SEED } from './lib/payloads.ts';
import { produce } from './lib/producer.ts';
import { median } from './lib/stats.ts';

interface Side {
  /** Of all threads, user and system: median over the turns. */
  readonly cpuUsPerRecord: number;
  readonly recordsPerSecond: number;
}

export interface Measured {
  readonly io: string;
  readonly on: Side;
  readonly off: Side;
  /** CPU per record with it on over that with it off, less 1: median over the pairs. */
  readonly cost: number;
  /** Appended while it was on, and what the latency histogram has of them. */
  readonly recordsOn: number;
  readonly samples: number;
}

interface Turn {
  readonly cpuUs: number;
  readonly tookMs: number;
}

/** For segments that go round, and code that is compiled. */
const WARM_UP_RECORDS = 2_000_000;

const [dir, ...numbers] = process.argv.slice(2);
const [pairs, recordBytes, groupRecords, turnRecords] = numbers.map(Number);
const cycle = new PayloadCycle(recordBytes, groupRecords, SEED);
const groups = turnRecords / groupRecords;
// Few segments: zeros are written in the warm-up alone.
const log = await open({ dir, window: { lingerMs: 0 }, segmentBytes: '16MiB', retentionBytes: '48MiB' });
const on: Turn[] = [];
const off: Turn[] = [];
let from = 0;
let recordsOn = 0;

async function turn(isOff: boolean): Promise<void> {
  Object.assign(globalThis, { instrumentationIsOff: isOff });
  const startedMs = performance.now();
  const before = process.cpuUsage();
  await produce(log, 'p0', cycle, from, groups);
  const { user, system } = process.cpuUsage(before);
  (isOff ? off : on).push({ cpuUs: user + system, tookMs: performance.now() - startedMs });
  from += groups;
  if (!isOff) recordsOn += turnRecords;
}

const warmUpPairs = Math.ceil(WARM_UP_RECORDS / turnRecords / 2);
for (let p = -warmUpPairs; p < pairs; p++) {
  if (p === 0) on.length = off.length = 0;
  await turn(p % 2 === 0);
  await turn(p % 2 !== 0);
}
const side = (turns: readonly Turn[]): Side => ({
  cpuUsPerRecord: median(turns.map(({ cpuUs }) => cpuUs)) / turnRecords,
  recordsPerSecond: (turnRecords / median(turns.map(({ tookMs }) => tookMs))) * 1000,
});
const { io, latency } = log.stats();
await log.close();
const result: Measured = {
  io,
  on: side(on),
  off: side(off),
  cost: median(on.map(({ cpuUs }, i) => cpuUs / off[i].cpuUs)) - 1,
  recordsOn,
  samples: latency.count,
};
process.stdout.write(JSON.stringify(result));
