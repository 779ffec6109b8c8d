// The durable end is written down at most CHECKPOINT_MS after a batch, however records come: what a damaged end is told by.

import t from 'tap';
import { CHECKPOINT_MS } from '../../src/base/limits.ts';
import { readCheckpoint, type Checkpoint } from '../../src/log/checkpoint.ts';
import { openLog } from '../support/log-plans.ts';
import { directory } from '../support/log-support.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';

const STEP_MS = 10;
const LASTS_MS = 10 * CHECKPOINT_MS;

for (const [name, everyMs, lingerMs] of [
  ['without a pause', STEP_MS, 0],
  ['a record now and then, never a second of silence', 400, 0],
  ['a record every two seconds', 2000, 0],
  ['records that wait for others', 3000, 2500],
] as const) {
  t.test(name, async (t) => {
    const dir = directory(t);
    const { log, io } = openLog(dir, 'js');
    const loop = new LoopByHand();
    const { lane } = loop.lane();
    const appended: Promise<unknown>[] = [];
    /** What was durable, and when. */
    const seen: { readonly atMs: number; readonly durableOffset: number }[] = [];
    let nowMs = 1;
    let nextMs = 0;
    let latest = 0;
    const monotonicMs = (): number => {
      nowMs += STEP_MS;
      // Nobody sleeps for long: the bell has always been rung.
      Atomics.add(loop.shared.words, loop.shared.doorbell, 1);
      if (nowMs >= nextMs && nowMs < LASTS_MS) {
        nextMs = nowMs + everyMs;
        appended.push(lane.append('a', 'x'));
      }
      seen.push({ atMs: nowMs, durableOffset: log.durableOffset });
      const { durableOffset } = readCheckpoint(io, dir) as Checkpoint;
      // The clock is asked several times in a turn, and each time is later.
      const due = seen.findLast((s) => s.atMs < nowMs - CHECKPOINT_MS - 10 * STEP_MS)?.durableOffset ?? 0;
      latest = Math.max(latest, due - durableOffset);
      if (nowMs >= LASTS_MS + 2 * CHECKPOINT_MS && appended.length > 0 && !closing) {
        closing = true;
        loop.close();
      }
      return nowMs;
    };
    let closing = false;
    loop.run(log, { maxRecords: 1000, maxBytes: 64 * 1024, lingerMs }, { monotonicMs, wallMs: () => nowMs });
    await Promise.all(appended);
    t.ok(appended.length >= LASTS_MS / everyMs / 3, `${appended.length} records`);
    t.equal(latest, 0, 'records that were durable for longer and are not written down');
    t.ok(log.checkpoints <= 3 + LASTS_MS / CHECKPOINT_MS + 3, `${log.checkpoints} checkpoints`);
    await lane.close().catch(() => undefined);
  });
}
