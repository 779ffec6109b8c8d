// Worker of test/pipeline/lanes.test.ts: appends through a lane that was handed to it.
//
//   'count'  appends `count` records, many at a time, then closes the lane and posts { done, offsets }
//   'tell'   appends for ever, posts each acknowledgement { i, offset }
//   'flood'  keeps hundreds in flight for ever, without waiting for any; posts { code } when one is refused
//   'stuck'  appends `count` records without ever giving way to its event loop, posts { put }, and blocks for ever

import { parentPort, workerData } from 'node:worker_threads';
import { openLane, type LaneHandle } from '../../src/index.ts';

export interface LaneWorkerData {
  readonly handle: LaneHandle;
  readonly who: string;
  readonly task: 'count' | 'tell' | 'flood' | 'stuck';
  readonly count: number;
}

const { handle, who, task, count } = workerData as LaneWorkerData;
const lane = openLane(handle);
const port = parentPort!;

if (task === 'count') {
  const offsets: number[] = [];
  for (let i = 0; i < count;) {
    const group = Array.from({ length: Math.min(50, count - i) }, () => lane.append(who, `${who}:${i++}`));
    for (const { offset } of await Promise.all(group)) offsets.push(offset);
  }
  await lane.close();
  port.postMessage({ done: who, offsets });
} else if (task === 'tell') {
  let i = 0;
  const one = async (): Promise<void> => {
    for (;;) {
      const mine = i++;
      const { offset } = await lane.append(who, `${who}:${mine}`);
      port.postMessage({ i: mine, offset });
    }
  };
  await Promise.all(Array.from({ length: 20 }, one));
} else if (task === 'flood') {
  let refused: string | undefined;
  let acked = 0;
  for (let i = 0; refused === undefined; i++) {
    lane.append(who, `${who}:${i}`).then(
      () => {
        if (++acked === 1) port.postMessage({ flooding: true });
      },
      (error: { code: string }) => (refused ??= error.code === 'BACKLOG_FULL' ? undefined : error.code),
    );
    if (i % 200 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  port.postMessage({ code: refused });
} else {
  for (let i = 0; i < count; i++) void lane.append(who, `${who}:${i}`);
  port.postMessage({ put: count });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
