// Calls whose records are in the lane and not yet acknowledged, oldest first: acknowledgements come in the same order, so each
// run of them is dealt out from the front. What is settled stands at the front until it is cut off, at most FORGET_JOBS of it:
// `shift` would move all that is behind it for each call.

import type { Acknowledgement } from '../platform/lane-memory.ts';
import { acknowledgeRun, type Job } from './job.ts';
import type { Stages } from './stages.ts';

/** Settled calls that may stand at the front before they are cut off. */
const FORGET_JOBS = 256;

export class PendingJobs {
  readonly #stages: Stages;
  #jobs: Job[] = [];
  /** Settled ones at the front. */
  #head = 0;

  constructor(stages: Stages) {
    this.#stages = stages;
  }

  get length(): number {
    return this.#jobs.length - this.#head;
  }

  get first(): Job | undefined {
    return this.#jobs[this.#head];
  }

  push(job: Job): void {
    this.#jobs.push(job);
  }

  /** Deals a run out, resolves the calls that are complete with it, and records what they took. The run is used up by that. */
  acknowledge(run: Acknowledgement, nowMs: number): void {
    this.#stages.begin(run, nowMs);
    while (run.records > 0) {
      const job = this.#jobs[this.#head];
      const taken = Math.min(run.records, job.put - job.acked);
      acknowledgeRun(job, run.firstOffset, taken);
      run.firstOffset += taken;
      run.records -= taken;
      this.#stages.add(job.startedMs, taken);
      if (job.acked < job.records) break;
      const { firstOffset, runs } = job;
      const lastOffset = run.firstOffset - 1;
      job.resolve(runs === undefined ? { firstOffset, lastOffset } : { firstOffset, lastOffset, runs });
      this.#head++;
    }
    this.#stages.end();
  }

  /** Lets settled calls go, where there are enough of them. */
  forget(): void {
    if (this.#head === this.#jobs.length) {
      this.#jobs.length = 0;
      this.#head = 0;
    } else if (this.#head > FORGET_JOBS) {
      this.#jobs = this.#jobs.slice(this.#head);
      this.#head = 0;
    }
  }

  /** All of them; none is left. */
  takeAll(): Job[] {
    const jobs = this.#jobs.slice(this.#head);
    this.#jobs = [];
    this.#head = 0;
    return jobs;
  }
}
