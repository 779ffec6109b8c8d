// Thread entry: one more thread of a verify. What it is to check comes in a message.

import { parentPort } from 'node:worker_threads';
import { runVerifyThread } from '../src/pipeline/verify.ts';

runVerifyThread(parentPort!);
