// A process of the lifecycle proof: carries out one task and sends what came of it.

import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { cellsIn, type Cell } from './lifecycle-cells.ts';
import type { Done, Task, WorkerTask } from './lifecycle-protocol.ts';
import { terminateOpeners, terminateProducers, terminateWithFullLane } from './lifecycle-terminate.ts';

async function carryOut(task: Task): Promise<Done> {
  const { io, disk } = task;
  if (task.kind !== 'cells') {
    if (task.kind === 'terminate producers') return terminateProducers(io, disk, task.times, task.seed);
    if (task.kind === 'terminate openers') return terminateOpeners(io, disk, task.times, task.seed);
    return terminateWithFullLane(io, disk);
  }
  const { states, inWorker } = task;
  let cells: Cell[];
  if (inWorker) {
    const workerData: WorkerTask = { kind: 'cells', io, states, disk };
    const worker = new Worker(new URL('./lifecycle-worker.js', import.meta.url), { workerData });
    [cells] = (await once(worker, 'message')) as [Cell[]];
  } else {
    cells = await cellsIn(states, () => mkdtempSync(join(disk, 'main-')), io);
  }
  return { tried: cells.length, violations: [], cells };
}

process.once('message', (task: Task) => {
  void carryOut(task).then(
    (done) => process.send!(done),
    (error: unknown) => process.send!({ tried: 0, violations: [String((error as Error).stack)] } satisfies Done),
  );
});
process.on('disconnect', () => process.exit());
