// One producing thread of bench:append: takes a lane, then appends as many groups as each message says.

import { parentPort, workerData } from 'node:worker_threads';
import { openLane, type LaneHandle } from '../src/index.ts';
import { PayloadCycle } from './lib/payloads.ts';
import { produce } from './lib/producer.ts';

export interface AppendWorkerData {
  readonly lane: LaneHandle;
  readonly stream: string;
  readonly recordBytes: number;
  readonly groupRecords: number;
  readonly seed: number;
  readonly alignBytes: number;
}

export type AppendWorkerMessage = { readonly groups: number } | 'close';

const { lane: handle, stream, recordBytes, groupRecords, seed, alignBytes } = workerData as AppendWorkerData;
const port = parentPort!;
const lane = openLane(handle);
const cycle = new PayloadCycle(recordBytes, groupRecords, seed, alignBytes);
let from = 0;

async function obey(message: AppendWorkerMessage): Promise<void> {
  if (message === 'close') {
    await lane.close();
    port.close();
    return;
  }
  await produce(lane, stream, cycle, from, message.groups);
  from += message.groups;
  port.postMessage('done');
}

// A rejection is unhandled here: it ends this thread with an error event, and with that the bench.
port.on('message', (message: AppendWorkerMessage) => void obey(message));
port.postMessage('ready');
