// Worker of kill-writer.ts: a second producing thread, with a lane of its own. Posts the code that ended it.

import { parentPort, workerData } from 'node:worker_threads';
import { openLane, type LaneHandle } from '../../src/index.ts';
import { produce } from './kill-produce.ts';

export interface KillLaneData {
  readonly handle: LaneHandle;
  readonly run: number;
  readonly lane: number;
}

const { handle, run, lane } = workerData as KillLaneData;
const to = openLane(handle);
const ended = await produce(to, run, lane, 8);
await to.close();
parentPort!.postMessage(ended);
