// One policy of lab:overflow in one process: a producer that offers four times what the disk takes, and what becomes of it. Prints
// depth, resident memory and drops each 250 ms: for people, or with --json for the lab.
//
// Limits: `seconds` and rate × seconds records; without a memory limit around it `unbounded` ends at OWN_CAP_BYTES.

import { readdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { overflowPolicies, type OverflowPolicy } from '../../src/base/gateway-options.ts';
import { read } from '../../src/index.ts';
import { limitOf } from '../../src/ingress/memory.ts';
import { Histogram } from '../../src/platform/histogram.ts';
import { disagreements, type Ledger } from './ledger.ts';
import { SlowLog } from './slow-log.ts';

/** What people write first: an array, and a loop that takes from its front. */
export const labPolicies = [...overflowPolicies, 'unbounded'] as const;
export type LabPolicy = (typeof labPolicies)[number];

const MIB = 1024 * 1024;
export const FACTOR = 4;
export const SAMPLE_MS = 250;
const TICK_MS = 5;
/** Records handed over in one turn of the event loop, also where the producer itself was held up: others get their turn. */
const MAX_PER_TICK = 512;
/** Memory of the lane, and of what may wait for it. */
const LANE_BYTES = 8 * MIB;
const WAITING_BYTES = 8 * MIB;
/** Records that a producer with policy `block` has under way: they fill the lane, and some wait. */
const BLOCK_UNDER_WAY_BYTES = 12 * MIB;
export const OWN_CAP_BYTES = 1024 * MIB;
/** How long answers may take once nothing more is offered. */
const DRAIN_MS = 15_000;
const STREAM = 'lab';

export interface Setting {
  readonly policy: LabPolicy;
  readonly seconds: number;
  readonly recordBytes: number;
  readonly diskBytesPerSecond: number;
  readonly dir: string;
}

export interface Sample {
  readonly ms: number;
  /** Records that were due by then, at four times the rate of the disk. */
  readonly wanted: number;
  readonly offered: number;
  readonly accepted: number;
  readonly dropped: number;
  /** Records handed over and neither accepted nor dropped. */
  readonly depth: number;
  readonly rssBytes: number;
  /** Of all records accepted so far. */
  readonly p99Ms: number;
}

export interface Outcome extends Ledger {
  readonly wanted: number;
  readonly io: string;
  /** From handing over to durable, of accepted records. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly peakRssBytes: number;
  /** What does not add up. */
  readonly wrong: readonly string[];
  readonly cappedBytes: number | null;
}

export const recordsPerSecond = (s: Setting): number => Math.floor(s.diskBytesPerSecond / s.recordBytes);

/** Where nothing else ends it: no limit, or one beyond what a demonstration may take of a machine. */
function ownCap(policy: LabPolicy): number | undefined {
  const limit = limitOf(0)?.bytes ?? Infinity;
  return policy === 'unbounded' && limit > OWN_CAP_BYTES ? OWN_CAP_BYTES : undefined;
}

class Run {
  readonly #setting: Setting;
  readonly #log: SlowLog;
  readonly #latencyUs = new Histogram();
  /** Of policy unbounded: all that was made and is not yet given to the log. */
  readonly #pending: { readonly payload: Buffer; readonly madeMs: number }[] = [];
  #offered = 0;
  #accepted = 0;
  #refused = 0;
  #failure: unknown;
  #peakRssBytes = 0;
  #over = false;

  constructor(setting: Setting, log: SlowLog) {
    this.#setting = setting;
    this.#log = log;
  }

  get #dropped(): number {
    const { newest, oldest, blockedTooLong, backlog } = this.#log.lane.drops;
    return newest + oldest + blockedTooLong + backlog;
  }

  get #depth(): number {
    return this.#offered - this.#accepted - this.#dropped;
  }

  async go(tell: (sample: Sample) => void): Promise<Omit<Outcome, 'wrong'> & { refused: number }> {
    const { seconds, recordBytes, policy } = this.#setting;
    const rate = FACTOR * recordsPerSecond(this.#setting);
    const total = Math.floor(rate * seconds);
    const mostUnderWay = policy === 'block' ? Math.floor(BLOCK_UNDER_WAY_BYTES / recordBytes) : Infinity;
    const cap = ownCap(policy);
    let capped = false;
    const startMs = performance.now();
    let wanted = 0;
    const sample = (): void => {
      const rssBytes = process.memoryUsage.rss();
      this.#peakRssBytes = Math.max(this.#peakRssBytes, rssBytes);
      capped ||= cap !== undefined && rssBytes > cap;
      const [offered, accepted, dropped, depth] = [this.#offered, this.#accepted, this.#dropped, this.#depth];
      tell({
        ms: performance.now() - startMs,
        wanted,
        offered,
        accepted,
        dropped,
        depth,
        rssBytes,
        p99Ms: this.#latencyUs.quantile(0.99) / 1000,
      });
    };
    const timer = setInterval(sample, SAMPLE_MS);
    const consuming = policy === 'unbounded' ? this.#consume() : undefined;
    try {
      for (let ms = 0; ms < seconds * 1000; ms = performance.now() - startMs) {
        if (this.#failure !== undefined || capped) break;
        wanted = Math.min(total, Math.floor((rate * ms) / 1000) + 1);
        const until = Math.min(wanted, this.#offered + MAX_PER_TICK);
        while (this.#offered < until && this.#depth < mostUnderWay) this.#offer();
        await delay(TICK_MS);
      }
      // What the array holds would take three times as long again.
      const untilMs = performance.now() + (consuming === undefined ? DRAIN_MS : 0);
      while (this.#depth > 0 && this.#failure === undefined && performance.now() < untilMs) await delay(TICK_MS);
      this.#over = true;
      await consuming;
      sample();
    } finally {
      clearInterval(timer);
    }
    if (this.#failure !== undefined) throw this.#failure;
    const ms = (q: number): number => this.#latencyUs.quantile(q) / 1000;
    return {
      wanted,
      offered: this.#offered,
      accepted: this.#accepted,
      dropped: this.#dropped,
      pending: this.#pending.length,
      refused: this.#refused,
      io: this.#log.io,
      p50Ms: ms(0.5),
      p99Ms: ms(0.99),
      peakRssBytes: this.#peakRssBytes,
      cappedBytes: capped ? cap! : null,
    };
  }

  #offer(): void {
    const { policy, recordBytes } = this.#setting;
    // Made when it is due, as what comes off a socket is; outside of V8's heap.
    const payload = Buffer.allocUnsafeSlow(recordBytes).fill(this.#offered & 0xff);
    const madeMs = performance.now();
    this.#offered++;
    if (policy === 'unbounded') this.#pending.push({ payload, madeMs });
    else this.#append(policy, payload, madeMs);
  }

  #append(overflow: OverflowPolicy, payload: Buffer, madeMs: number): void {
    this.#log.lane.append(STREAM, payload, { overflow }).then(
      () => this.#accept(1, madeMs),
      (error: { code?: string }) => {
        if (error.code === 'DROPPED' || error.code === 'BACKLOG_FULL') this.#refused++;
        else this.#failure ??= error;
      },
    );
  }

  #accept(records: number, madeMs: number): void {
    this.#accepted += records;
    this.#latencyUs.record((performance.now() - madeMs) * 1000, records);
  }

  /** The consumer that such an array has: takes what is in front, waits until it is stored, comes again. */
  async #consume(): Promise<void> {
    const most = Math.max(1, Math.floor((256 * 1024) / this.#setting.recordBytes));
    while (!this.#over && this.#failure === undefined) {
      const batch = this.#pending.splice(0, most);
      if (batch.length === 0) {
        await delay(TICK_MS);
        continue;
      }
      try {
        await this.#log.lane.appendMany(
          STREAM,
          batch.map((record) => record.payload),
        );
        for (const { madeMs } of batch) this.#accept(1, madeMs);
      } catch (error) {
        this.#failure = error;
      }
    }
  }
}

/** Folders of earlier runs that were killed. */
function sweep(dir: string): void {
  for (const name of readdirSync(dirname(dir))) {
    const pid = /^spillway-lab-overflow-(\d+)$/.exec(name)?.[1];
    if (pid === undefined || Number(pid) === process.pid) continue;
    try {
      process.kill(Number(pid), 0);
    } catch (error) {
      const gone = (error as NodeJS.ErrnoException).code === 'ESRCH';
      if (gone) rmSync(`${dirname(dir)}/${name}`, { recursive: true, force: true });
    }
  }
}

/** Runs one policy to its end: the log is closed, and read back. */
export async function runPolicy(setting: Setting, tell: (sample: Sample) => void): Promise<Outcome> {
  sweep(setting.dir);
  const log = await SlowLog.open(
    {
      dir: `${setting.dir}/log`,
      laneBytes: LANE_BYTES,
      maxWaitingBytes: WAITING_BYTES,
      segmentBytes: 16 * MIB,
      window: { maxRecords: 1000, maxBytes: 256 * 1024, lingerMs: 0 },
    },
    setting.diskBytesPerSecond,
  );
  const { refused, ...counted } = await new Run(setting, log).go(tell);
  await log.close();
  let readBack = 0;
  for await (const record of read({ dir: `${setting.dir}/log`, stream: STREAM })) if (record.offset >= 0) readBack++;
  return { ...counted, wrong: disagreements(counted, { refused, logRecords: log.records, readBack }) };
}
