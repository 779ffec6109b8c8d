// One life of a log under whatever Node runs this: child of test/proof/matrix.ts. Two lanes on two threads append while a
// reader follows; segments roll; the oldest are truncated away; closed, opened again, verified. argv: dir, io, records of each
// producer. Prints what the parent judges, or { failed } with the error's code and message.

import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { open, SpillwayError, type IoMode, type LogOptionsInput } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { readerIo } from '../../src/platform/choose-io.ts';
import type { LaneWorkerData } from './pipeline-lane-worker.ts';
import { smallLog } from './pipeline-logs.ts';

export interface MatrixResult {
  readonly version: string;
  readonly io: IoMode;
  readonly nativeMissing: string | null;
  readonly systemCalls: Record<string, number>;
  readonly batches: number;
  readonly rolls: number;
  readonly lanes: number;
  /** Records that the following reader saw in order, of each stream. */
  readonly followed: Record<string, number>;
  readonly startOffset: number;
  readonly durableOffset: number;
  /** After opening again. */
  readonly reopenedAt: number;
  readonly readAgain: number;
  readonly refusedRead: string;
  readonly verified: boolean;
}

async function live(dir: string, io: NonNullable<LogOptionsInput['io']>, records: number): Promise<MatrixResult> {
  const log = await open({ dir, io, ...smallLog });
  const followed: Record<string, number> = { own: 0, other: 0 };
  const following = (async () => {
    for await (const { offset, stream, payload } of log.read({ follow: true })) {
      const text = Buffer.from(payload).toString();
      const expected = `${stream}:${followed[stream]++}`;
      if (text.split(' ')[0] !== expected)
        throw new Error(`offset ${offset}: '${text.slice(0, 40)}', expected ${expected}`);
      if (followed.own + followed.other === 2 * records) return;
    }
  })();
  const data: LaneWorkerData = { handle: log.lane(), who: 'other', task: 'count', count: records };
  const worker = new Worker(new URL('./pipeline-lane-worker.js', import.meta.url), { workerData: data });
  const done = once(worker, 'message');
  const ended = once(worker, 'exit');
  for (let i = 0; i < records; i += 100) {
    const group = Array.from({ length: 100 }, (_, n) => `own:${i + n} ${'x'.repeat(150)}`);
    await log.appendMany('own', group);
  }
  await done;
  const { lanes } = log.stats();
  await ended;
  await following;
  const start = Math.floor(log.stats().durableOffset / 2);
  await log.truncateBefore(start);
  const { nativeMissing, systemCalls, batches, rolls, startOffset, durableOffset, io: mode } = log.stats();
  await log.close();

  const again = await open({ dir, io, ...smallLog });
  const reopenedAt = again.stats().durableOffset;
  let readAgain = 0;
  for await (const { offset } of again.read()) if (offset === start + readAgain) readAgain++;
  const refusedRead = await again
    .read({ from: 0 })
    .next()
    .then(
      () => 'nothing',
      (error: { code: string }) => error.code,
    );
  await again.close();
  const disk = readerIo();
  const verified = verify(disk, dir).ok;
  disk.destroy();
  return {
    version: process.version,
    io: mode,
    nativeMissing,
    systemCalls,
    batches,
    rolls,
    lanes,
    followed,
    startOffset,
    durableOffset,
    reopenedAt,
    readAgain,
    refusedRead,
    verified,
  };
}

const [dir, io, records] = process.argv.slice(2);
const result = await live(dir, io as NonNullable<LogOptionsInput['io']>, Number(records)).catch((error: unknown) => {
  if (error instanceof SpillwayError) return { failed: `${error.code} ${error.message}` };
  throw error;
});
process.stdout.write(JSON.stringify(result));
