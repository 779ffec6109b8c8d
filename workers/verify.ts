// Thread entry: one more thread of a verify. Everything it needs comes in workerData.

import { parentPort, workerData } from 'node:worker_threads';
import { runVerifyThread, type VerifyThreadData } from '../src/pipeline/verify.ts';

runVerifyThread(workerData as VerifyThreadData, parentPort!);
