// Worker of the model's child (model-child.ts): carries out the calls it is sent on a lane of its own, in a thread of its
// own, and posts what became of each.

import { parentPort, workerData } from 'node:worker_threads';
import { openLane, type LaneHandle } from '../../src/index.ts';
import { carryOut, type CallSpec } from './model-protocol.ts';

const port = parentPort!;
const lane = openLane(workerData as LaneHandle);
port.on('message', (spec: CallSpec | 'close') => {
  if (spec !== 'close') void carryOut(lane, spec).then((settled) => port.postMessage(settled));
  else void lane.close().then(() => port.close());
});
port.postMessage('ready');
