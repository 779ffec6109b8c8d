// One side of bench:instrumentation, in whichever build it stands: appends a turn of records each time it is told to, and says what
// that took. Over the channel of node:child_process: 'turn' → Turn, 'end' → Total.
//   instrumentation-child.js DIR RECORD_BYTES GROUP_RECORDS TURN_RECORDS

import { open } from '../src/index.ts';
import { PayloadCycle, SEED } from './lib/payloads.ts';
import { produce } from './lib/producer.ts';

export interface Turn {
  /** Of all threads, user and system. */
  readonly cpuUs: number;
  readonly tookMs: number;
}

export interface Total {
  readonly io: string;
  readonly records: number;
  /** Of the latency histogram. */
  readonly samples: number;
}

const [dir, ...numbers] = process.argv.slice(2);
const [recordBytes, groupRecords, turnRecords] = numbers.map(Number);
const cycle = new PayloadCycle(recordBytes, groupRecords, SEED);
const groups = turnRecords / groupRecords;
// Few segments, which go round: zeros are written in the warm-up alone.
const log = await open({ dir, window: { lingerMs: 0 }, segmentBytes: '8MiB', retentionBytes: '24MiB' });
let from = 0;

async function turn(): Promise<Turn> {
  const startedMs = performance.now();
  const before = process.cpuUsage();
  await produce(log, 'p0', cycle, from, groups);
  const { user, system } = process.cpuUsage(before);
  from += groups;
  return { cpuUs: user + system, tookMs: performance.now() - startedMs };
}

async function end(): Promise<Total> {
  const { io, latency } = log.stats();
  await log.close();
  return { io, records: from * groupRecords, samples: latency.count };
}

// A rejection is unhandled here: it ends this process with an error, and with that the bench.
process.on('message', (word: 'turn' | 'end') => {
  void (word === 'turn' ? turn() : end()).then((answer) => {
    process.send!(answer);
    if (word === 'end') process.disconnect();
  });
});
