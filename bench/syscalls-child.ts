// The traced half of bench:syscalls: one log, one mode, one window; counters as JSON on stdout, after the log is closed.
// Arguments: dir, mode, records per batch, records, segmentBytes.

import { open } from '../src/index.ts';
import type { Io } from './lib/bench.ts';
import { PayloadCycle, SEED } from './lib/payloads.ts';

const [dir, mode, perBatch, total, segmentBytes] = process.argv.slice(2);
const windowRecords = Number(perBatch);
const records = Number(total);
const cycle = new PayloadCycle(256, 500, SEED);

try {
  const log = await open({
    dir,
    io: mode as Io,
    // Only the number of records may close a batch.
    window: { maxRecords: windowRecords, maxBytes: '8MiB', lingerMs: 60_000 },
    laneBytes: '32MiB',
    segmentBytes: Number(segmentBytes),
  });
  const underWay: Promise<unknown>[] = [];
  for (let n = 0; n < records; n += cycle.groupRecords) {
    underWay.push(log.appendMany('bench', cycle.group(n / cycle.groupRecords).slice(0, records - n)));
  }
  await Promise.all(underWay);
  await log.close();
  const { io, systemCalls, batches, checkpoints, durableOffset, diskBytes, fillBytes } = log.stats();
  process.stdout.write(JSON.stringify({ io, systemCalls, batches, checkpoints, durableOffset, diskBytes, fillBytes }));
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  process.stdout.write(JSON.stringify({ refused: { code, message } }));
}
