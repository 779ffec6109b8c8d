// The commit loop run by hand over a disk that fails at chosen calls, and what every append was told.

import type { LogRecord } from '../../src/base/types.ts';
import type { Log } from '../../src/log/log.ts';
import type { Lane } from '../../src/pipeline/lane.ts';
import { directory, within } from './log-support.ts';
import { FaultyIo, type Fault } from './log-faulty-io.ts';
import { openLog } from './log-plans.ts';
import { LoopByHand } from './pipeline-loop.ts';
import { text } from './pipeline-logs.ts';

export interface Ran {
  readonly dir: string;
  readonly io: FaultyIo;
  readonly log: Log;
  readonly loop: LoopByHand;
  readonly lane: Lane;
  /** Offset that each append resolved with, or the code it was rejected with. */
  readonly results: (number | string)[];
}

/** Appends `count` records of 100 bytes, runs the loop over a disk with these faults, then closes it. */
export async function ran(
  t: { teardown(f: () => unknown): unknown },
  faults: (loop: LoopByHand) => Fault[],
  count = 100,
  payloadBytes = 100,
): Promise<Ran> {
  const dir = directory(t);
  const io = new FaultyIo();
  const { log } = openLog(dir, io);
  const loop = new LoopByHand();
  const { lane } = loop.lane(256 * 1024);
  const promises = Array.from({ length: count }, (_, i) => lane.append('s', `${i}:`.padEnd(payloadBytes, 'x')));
  const settled = Promise.allSettled(promises);
  loop.flush();
  io.faults = faults(loop);
  loop.run(log);
  const results = (await within(settled, 'every append has an answer')).map((r) =>
    r.status === 'fulfilled' ? r.value.offset : ((r.reason as { code?: string }).code ?? String(r.reason)),
  );
  return { dir, io, log, loop, lane, results };
}

export function numbered(records: readonly LogRecord[]): boolean {
  return records.every((r, i) => text(r).startsWith(`${i}:`));
}
