// What one durable write takes on this disk, and what stands around it: measured in a directory, in a few seconds, for the model of
// src/window/model.ts.
//
//  1. Durable writes of 4 KiB to 4 MiB, through the FileIo and in the mode that a log there would use, into a file that is
//     preallocated and filled once, as a segment is. Sizes take turns, so that a slow second is everybody's; half of the small ones come after a
//     pause, as with a linger, half at once.
//  2. Two logs with the production threads, linger 0 and 1 ms, and a record every 5 ms: what is not write and not linger is wake-up,
//     timer and the way back. Then many records, for what one costs the producer's thread.
//
// Limits: WRITE_MS and WRITE_BYTES for 1., about 3 s for 2.; SCRATCH_BYTES and two small logs of disk. The caller makes the directory,
// and removes it.

import { join } from 'node:path';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import { BATCH_HEADER_BYTES, BLOCK_BYTES, COUNTER_SLOTS, FILL_BYTES } from '../base/limits.ts';
import type { IoMode } from '../base/types.ts';
import { SpillwayLog } from '../pipeline/open.ts';
import { chooseIo } from '../platform/choose-io.ts';
import type { FileIo } from '../platform/file-io.ts';
import { Histogram } from '../platform/histogram.ts';
import { distributionOf, quantileOf, type Costs, type Distribution, type WriteCost } from '../window/costs.ts';
import { appendTarget } from './append-target.ts';
import { constantArrivals, upTo } from './arrivals.ts';
import { offer, type Tally, type Target } from './generator.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SCRATCH_BYTES = 32 * MIB;
const WRITE_MS = 3000;
const WRITE_BYTES = 1024 * MIB;
/** Writes of each size in one round; the largest take the most of its time. */
const round = [
  { bytes: 4 * KIB, times: 6 },
  { bytes: 16 * KIB, times: 4 },
  { bytes: 64 * KIB, times: 3 },
  { bytes: 256 * KIB, times: 2 },
  { bytes: MIB, times: 1 },
  { bytes: 4 * MIB, times: 1 },
] as const;
/** Even where the disk takes longer than WRITE_MS for them. */
const LEAST_ROUNDS = 8;
const PAUSE_MS = 2;
/** Writes up to this size are also made after a pause. */
const PAUSED_BYTES = 64 * KIB;
const TIMER_SAMPLES = 100;
const POINTS = 200;
const PING_SECONDS = 1.2;
const WARM_UP_SECONDS = 0.3;
const PING_RATE = 200;
const DENSE_RATE = 20_000;
const DENSE_SECONDS = 0.4;
const PING_BYTES = 256;

export interface CurvePoint {
  readonly bytes: number;
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface Calibration {
  readonly io: IoMode;
  readonly curve: readonly CurvePoint[];
  readonly costs: Costs;
}

/** How busy it was is no matter here: ascending samples, at `POINTS` quantiles. */
function pointsOf(us: Histogram): Distribution {
  return distributionOf(Array.from({ length: POINTS }, (_, i) => us.quantile((i + 0.5) / POINTS) / 1000));
}

interface DiskCosts {
  readonly writes: WriteCost[];
  readonly checkpointMs: Distribution;
  readonly fillMs: Distribution;
  readonly encodeMsPerByte: number;
}

/** How long it takes, in ms. */
function timed(work: () => void): number {
  const beforeMs = performance.now();
  work();
  return performance.now() - beforeMs;
}

/** @throws IO_ERROR; what `signal` was aborted with */
async function measureWrites(io: FileIo, path: string, signal: AbortSignal | undefined): Promise<DiskCosts> {
  const largest = Math.max(...round.map((r) => r.bytes));
  const staging = io.alignedBuffer(largest + BLOCK_BYTES);
  const source = Buffer.alloc(largest, 'spillway ');
  const samples = new Map<number, number[]>(round.map(({ bytes }) => [bytes, []]));
  const fillMs: number[] = [];
  const checkpointMs: number[] = [];
  const fd = io.open(path, 'create', true);
  const checkpoint = io.open(`${path}.checkpoint`, 'create', false);
  try {
    io.allocate(fd, SCRATCH_BYTES);
    const zeros = io.alignedBuffer(FILL_BYTES);
    for (let at = 0; at < SCRATCH_BYTES; at += FILL_BYTES) {
      fillMs.push(timed(() => io.write(fd, zeros, at)));
      await turn();
      signal?.throwIfAborted();
    }
    io.sync(fd);
    // Also warms the code up.
    const range = Float64Array.from([0, 0, largest]);
    const sealMs = Array.from({ length: 5 }, () =>
      timed(() => io.bytes.seal(staging, BATCH_HEADER_BYTES, [source], range, 1)),
    );
    let position = 0;
    let written = 0;
    const untilMs = performance.now() + WRITE_MS;
    for (let n = 0; n < LEAST_ROUNDS || (performance.now() < untilMs && written < WRITE_BYTES); n++) {
      // As log/checkpoint.ts does it.
      checkpointMs.push(
        timed(() => {
          io.write(checkpoint, staging.subarray(0, BLOCK_BYTES), (n & 1) * BLOCK_BYTES);
          io.sync(checkpoint);
        }),
      );
      for (const { bytes, times } of round) {
        for (let i = 0; i < times; i++) {
          signal?.throwIfAborted();
          if (bytes <= PAUSED_BYTES && i % 2 === 0) await delay(PAUSE_MS);
          else await turn();
          if (position + bytes > SCRATCH_BYTES) position = 0;
          samples.get(bytes)!.push(timed(() => io.durableWrite(fd, staging.subarray(0, bytes), position)));
          position += bytes;
          written += bytes;
        }
      }
    }
    return {
      writes: [...samples].map(([bytes, ms]) => ({ bytes, ms: distributionOf(ms) })),
      checkpointMs: distributionOf(checkpointMs),
      fillMs: distributionOf(fillMs),
      encodeMsPerByte: quantileOf(distributionOf(sealMs), 0.5) / largest,
    };
  } finally {
    io.close(fd);
    io.close(checkpoint);
  }
}

/** Offers singles at a constant rate. */
async function offered(target: Target, rate: number, seconds: number, signal?: AbortSignal): Promise<Tally> {
  const endMs = seconds * 1000;
  const arrivals = upTo(constantArrivals(rate), endMs, Infinity);
  const tally = await offer(target, { arrivals, endMs, graceMs: 10_000 }, undefined, signal);
  signal?.throwIfAborted();
  return tally;
}

interface Pinged {
  readonly age: Distribution;
  readonly back: Distribution;
  /** Median of the write stage beyond the durable write. */
  readonly batchMs: number;
  readonly sendMs: number;
  readonly answerMs: number;
}

/** A log of its own with this linger, as a producer in this process sees it. */
async function ping(dir: string, lingerMs: number, signal?: AbortSignal): Promise<Pinged> {
  const log = await SpillwayLog.open({ dir, window: { lingerMs }, segmentBytes: '8MiB' });
  const target = appendTarget([log], { stream: 'tune', seed: 1, perRequest: 1, recordBytes: PING_BYTES });
  try {
    await offered(target, DENSE_RATE / 10, WARM_UP_SECONDS, signal);
    const before = log.view.images();
    await offered(target, PING_RATE, PING_SECONDS, signal);
    const after = log.view.images();
    const between = (name: keyof typeof after): Histogram => Histogram.between(before[name], after[name]);
    const medianMs = (name: keyof typeof after): number => between(name).quantile(0.5) / 1000;
    let sendMs = 0;
    const send = (): Promise<number> => {
      const atMs = performance.now();
      const sent = target.send();
      sendMs += performance.now() - atMs;
      return sent;
    };
    const dense = await offered({ ...target, send }, DENSE_RATE, DENSE_SECONDS, signal);
    const eachMs = (dense.busy * dense.offeredMs) / Math.max(1, dense.accepted);
    const sendEachMs = Math.min(eachMs, sendMs / Math.max(1, dense.sent));
    return {
      age: pointsOf(between('batchAge')),
      back: pointsOf(between('back')),
      batchMs: Math.max(0, medianMs('write') - medianMs('durableWrite')),
      sendMs: sendEachMs,
      answerMs: eachMs - sendEachMs,
    };
  } finally {
    await target.close();
  }
}

async function timerLate(signal?: AbortSignal): Promise<Distribution> {
  const late: number[] = [];
  for (let i = 0; i < TIMER_SAMPLES; i++) {
    const beforeMs = performance.now();
    await delay(1);
    late.push(Math.max(0, performance.now() - beforeMs - 1));
    signal?.throwIfAborted();
  }
  return distributionOf(late);
}

/**
 * Measures in `dir`, which exists and is the caller's to remove. @param progress what it is about to do
 * @throws IO_ERROR, and what `signal` was aborted with
 */
export async function calibrate(
  dir: string,
  progress: (doing: string) => void,
  signal?: AbortSignal,
): Promise<Calibration> {
  progress('measuring durable writes');
  const io = chooseIo(dir, 'auto', new Float64Array(COUNTER_SLOTS));
  let disk: DiskCosts;
  try {
    disk = await measureWrites(io, join(dir, 'scratch'), signal);
  } finally {
    io.destroy();
  }
  progress('measuring what stands around them');
  const lateMs = await timerLate(signal);
  const atOnce = await ping(join(dir, 'ping-0'), 0, signal);
  const lingering = await ping(join(dir, 'ping-1'), 1, signal);
  const costs: Costs = {
    ...disk,
    batchMs: atOnce.batchMs,
    wakeMs: atOnce.age,
    timerLateMs: distributionOf(lingering.age.map((ageMs, i) => Math.max(0, ageMs - 1 - atOnce.age[i]))),
    backMs: atOnce.back,
    producer: {
      sendMs: lingering.sendMs,
      answerMs: lingering.answerMs,
      timerMs: 1,
      lateMs,
    },
  };
  const curve = disk.writes.map(({ bytes, ms }) => ({
    bytes,
    samples: ms.length,
    p50Ms: quantileOf(ms, 0.5),
    p99Ms: quantileOf(ms, 0.99),
    maxMs: ms[ms.length - 1],
  }));
  return { io: io.mode, curve, costs };
}
