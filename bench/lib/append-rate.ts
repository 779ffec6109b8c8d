// A producer as a process of its own: appends groups of records as fast as the target takes them, embedded or over a socket,
// and prints what it measured as one line of JSON.
//   append-rate.js (DIR|URL) SECONDS RECORD_BYTES GROUP_RECORDS

import { connect, open } from '../../src/index.ts';

const [target, secondsText, bytesText, groupText] = process.argv.slice(2);
const seconds = Number(secondsText);
const recordBytes = Number(bytesText);
const groupRecords = Number(groupText);
/** Groups under way: enough to keep both sides busy, well below maxWaitingBytes. */
const UNDER_WAY_BYTES = 8 * 1024 * 1024;
const WARM_UP_MS = 1000;

const isUrl = /^(?:tcp|unix|http):/.test(target);
const log = isUrl
  ? await connect(target)
  : await open({ dir: target, window: { lingerMs: 0 }, retentionBytes: '512MiB' });

const pool = Buffer.alloc(recordBytes * groupRecords * 8, 'x');
for (let i = 0; i < pool.length; i += 61) pool[i] = 33 + (i % 90);
const groups = Array.from({ length: 8 }, (_, g) =>
  Array.from({ length: groupRecords }, (_, i) => {
    const at = (g * groupRecords + i) * recordBytes;
    return pool.subarray(at, at + recordBytes);
  }),
);
const limit = Math.max(2, Math.floor(UNDER_WAY_BYTES / (groupRecords * (recordBytes + 256))));

let acked = 0;
let lastOffset = -1;
const underWay: Promise<void>[] = [];
const run = async (untilMs: number): Promise<void> => {
  for (let g = 0; performance.now() < untilMs; g++) {
    if (underWay.length >= limit) await underWay.shift();
    underWay.push(
      log.appendMany('bench', groups[g % groups.length]).then((r) => {
        acked += groupRecords;
        lastOffset = Math.max(lastOffset, r.lastOffset);
      }),
    );
  }
  await Promise.all(underWay.splice(0));
};
await run(performance.now() + WARM_UP_MS);
const before = acked;
const startedMs = performance.now();
const cpuBefore = process.cpuUsage();
await run(startedMs + seconds * 1000);
const tookMs = performance.now() - startedMs;
const cpu = process.cpuUsage(cpuBefore);
const records = acked - before;
await log.close();
console.log(
  JSON.stringify({
    recordsPerSecond: (records / tookMs) * 1000,
    records: acked,
    lastOffset,
    cpuUsPerRecord: (cpu.user + cpu.system) / records,
  }),
);
