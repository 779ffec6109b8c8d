// Child of the proofs `kills` and `power`: lives under load until somebody ends it. Opens, appends from one or two threads,
// truncates, flushes, closes while appends are under way, opens again, and so on. argv: one WriterTask as JSON.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { open, type SpillwayLog } from '../../src/index.ts';
import { seededRandom } from '../../src/base/clock.ts';
import type { Codec, IoMode } from '../../src/base/types.ts';
import type { KillLaneData } from './kill-lane.ts';
import { produce } from './kill-produce.ts';
import { smallLog, tell } from './kill-protocol.ts';

export interface WriterTask {
  readonly dir: string;
  readonly io: IoMode;
  /** Tells the records of this process from those of others; also its seed. */
  readonly run: number;
  readonly threads: 1 | 2;
  /** 0: the writer truncates by itself instead. */
  readonly retentionBytes: number;
  readonly codec: Codec;
}

/** Enough for several full batches at a time. */
const PRODUCERS = 24;

const task = JSON.parse(process.argv[2]) as WriterTask;
const random = seededRandom(task.run + 1);
const below = (n: number): number => Math.floor(random() * n);

async function truncate(log: SpillwayLog, offset: number): Promise<void> {
  tell('t', offset);
  await log.truncateBefore(offset);
  tell('T', offset);
}

async function secondThread(log: SpillwayLog, lane: number): Promise<string> {
  const data: KillLaneData = { handle: log.lane(), run: task.run, lane };
  const worker = new Worker(new URL('./kill-lane.js', import.meta.url), { workerData: data });
  // Both at once: the exit may be told in the same breath as the last message.
  const [[ended]] = await Promise.all([once(worker, 'message') as Promise<[string]>, once(worker, 'exit')]);
  return ended;
}

/** From open to close. */
async function live(life: number): Promise<void> {
  tell('o');
  const { dir, io, retentionBytes, codec } = task;
  const log = await open({ dir, io, retentionBytes, codec, ...smallLog });
  tell('O');
  const closeAfter = 60 + below(300);
  const chores: Promise<void>[] = [];
  let acks = 0;
  const close = async (): Promise<void> => {
    tell('c');
    await log.close();
    tell('C');
  };
  const onAck = (lastOffset: number): void => {
    acks++;
    if (acks === closeAfter) {
      const closing = close();
      closing.catch(() => undefined); // awaited below
      chores.push(closing);
    }
    if (acks >= closeAfter) return;
    // Rejected with CLOSED where the close comes first; every other failure shows in the appends too.
    if (acks % 60 === 0 && task.retentionBytes === 0)
      chores.push(truncate(log, Math.max(0, lastOffset - below(900))).catch(() => undefined));
    if (acks % 45 === 0) chores.push(log.flush().catch(() => undefined));
  };
  const lanes = [produce(log, task.run, 2 * life, PRODUCERS, onAck)];
  if (task.threads === 2) lanes.push(secondThread(log, 2 * life + 1));
  const ends = await Promise.all(lanes);
  const failed = ends.find((code) => code !== 'CLOSED');
  // A failed log closes too, and says why.
  if (failed !== undefined) await log.close();
  await Promise.all(chores);
}

try {
  for (let life = 0; ; life++) await live(life);
} catch (error) {
  tell('e', (error as { code?: string }).code ?? String(error));
}
