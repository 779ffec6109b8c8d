// Thread entry: one accept thread of a gateway that has several. Everything it needs comes in workerData.

import { workerData } from 'node:worker_threads';
import { runAcceptThread, type AcceptThreadData } from '../src/ingress/accept-thread.ts';

runAcceptThread(workerData as AcceptThreadData);
