// Child of the proof `kills`: a short life that makes the same system calls each time, so that the n-th can be named.
// Opens, appends alone and in groups, rolls, truncates so that one segment is recycled and another removed, rolls into the
// recycled one, closes, opens again, appends, truncates, closes. argv: dir, io, run.

import { open, type SpillwayLog } from '../../src/index.ts';
import type { IoMode } from '../../src/base/types.ts';
import { callsOf, payloadOf, SCRIPT_LANE, scriptLog, streamOf, tell } from './kill-protocol.ts';

const [dir, io, run] = process.argv.slice(2);
let sequence = 0;
let calls = 0;

async function append(log: SpillwayLog, records: number): Promise<number> {
  const first = sequence;
  sequence += records;
  const payloads = Array.from({ length: records }, (_, i) =>
    payloadOf({ run: Number(run), lane: SCRIPT_LANE, sequence: first + i }),
  );
  const { firstOffset, lastOffset } = await log.appendMany(streamOf(SCRIPT_LANE), payloads);
  tell('a', firstOffset, lastOffset, SCRIPT_LANE, first, records);
  return firstOffset;
}

async function truncate(log: SpillwayLog, offset: number): Promise<void> {
  tell('t', offset);
  await log.truncateBefore(offset);
  tell('T', offset);
}

async function live(body: (log: SpillwayLog) => Promise<void>): Promise<void> {
  tell('o');
  const log = await open({ dir, io: io as IoMode, ...scriptLog });
  tell('O');
  await body(log);
  tell('c');
  await log.close();
  tell('C');
  calls += callsOf(log.stats());
}

await live(async (log) => {
  await append(log, 1);
  await append(log, 1);
  // Several batches each, so that one is written while the next is encoded.
  await append(log, 12);
  await append(log, 12);
  await append(log, 12);
  const kept = await append(log, 12);
  await truncate(log, kept);
  await append(log, 12);
  await append(log, 12);
});
await live(async (log) => {
  await append(log, 1);
  await truncate(log, await append(log, 2));
  await append(log, 12);
});
tell('z', calls);
