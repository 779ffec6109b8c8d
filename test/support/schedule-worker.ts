// Thread entry for test/proof/ring.ts: explores the scenarios that it is sent, one after the other. A thread of its own
// because it replaces the global Atomics, and because code that never comes back must be ended from outside.

import { parentPort, workerData } from 'node:worker_threads';
import { explore } from './schedule-explore.ts';
import { scenarios } from './schedule-scenarios.ts';

export interface ScheduleWorkerData {
  /** What is being tried: see `Progress` in schedule-explore.ts. */
  readonly progress: SharedArrayBuffer;
}

export interface ScheduleTask {
  readonly scenario: string;
  readonly preemptions: number;
  /** The choices of one schedule; undefined tries all. */
  readonly only: string | undefined;
}

const { progress } = workerData as ScheduleWorkerData;
parentPort!.on('message', ({ scenario: name, preemptions, only }: ScheduleTask) => {
  const scenario = scenarios.find((s) => s.name === name)!;
  parentPort!.postMessage(explore(scenario, preemptions, only, new Int32Array(progress)));
});
