// Thread entry: the commit worker of one log. Everything it needs comes in workerData.

import { workerData } from 'node:worker_threads';
import { runCommitThread, type CommitThreadData } from '../src/pipeline/commit-thread.ts';

runCommitThread(workerData as CommitThreadData);
