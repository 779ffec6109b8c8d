// Child of test/cli/kill.test.ts: appends under load until it is killed, and tells the parent of every acknowledgement
// through a pipe that outlives it. argv: dir, io, run number.

import { writeSync } from 'node:fs';
import { open } from '../../src/index.ts';
import { payloadOf } from './kill-payload.ts';

const [dir, io, run] = process.argv.slice(2);
const log = await open({
  dir,
  io: io as 'direct',
  segmentBytes: '512KiB',
  window: { maxRecords: 200, maxBytes: '64KiB', lingerMs: 1 },
  maxRecordBytes: '16KiB',
  laneBytes: '256KiB',
});
let sequence = 0;

/** One producer of eight: appends one after the other, alone or as a group. */
async function produce(): Promise<void> {
  for (;;) {
    const first = sequence;
    const count = first % 7 === 0 ? 1 + (first % 40) : 1;
    sequence += count;
    const payloads = Array.from({ length: count }, (_, i) => payloadOf(Number(run), first + i));
    const { firstOffset, lastOffset } = await log.appendMany('kill', payloads);
    writeSync(1, `${firstOffset} ${lastOffset} ${first}\n`);
  }
}

await Promise.all(Array.from({ length: 8 }, produce));
