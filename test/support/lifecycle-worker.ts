// Worker of the lifecycle proof: makes cells where the whole log lives in a worker, or produces until it is terminated.

import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { open, openLane } from '../../src/index.ts';
import { cellsIn } from './lifecycle-cells.ts';
import { produce, type WorkerTask } from './lifecycle-protocol.ts';

const task = workerData as WorkerTask;
const port = parentPort!;
switch (task.kind) {
  case 'cells':
    port.postMessage(await cellsIn(task.states, () => mkdtempSync(join(task.disk, 'worker-')), task.io));
    break;
  case 'produce':
    await produce(openLane(task.handle), task.who, (told) => port.postMessage(told));
    break;
  case 'open and produce':
    await produce(await open(task.options), task.who, (told) => port.postMessage(told));
    break;
  case 'fill a lane': {
    const lane = openLane(task.handle);
    for (let i = 0; i < task.records; i++) void lane.append('stuck', `${i}`);
    port.postMessage('filled');
    // Never reads an acknowledgement: its event loop does not turn again.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }
}
