// An open-loop generator: record i is due at start + i / rate, whatever the log does, and its latency counts from then
// (no coordinated omission: a slow log is charged for all who would have waited). Each turn everything due goes out with
// one appendMany; between turns a short timer, so that the generator leaves the CPU to the log.

import { setTimeout as delay } from 'node:timers/promises';
import type { SpillwayLog } from '../../src/index.ts';
import { Histogram } from '../../src/platform/histogram.ts';
import { randomBytes } from './payloads.ts';

const TURN_MS = 1;
/** Records that one call may carry after the generator itself was held up. */
const MAX_PER_CALL = 32_768;

/** Payloads that say which they are: the first four bytes of each are its number. */
export class NumberedPayloads {
  readonly recordBytes: number;
  readonly count: number;
  readonly #list: Buffer[];

  constructor(recordBytes: number, count: number, seed: number) {
    this.recordBytes = recordBytes;
    this.count = count;
    const pool = randomBytes(recordBytes * count, seed);
    for (let i = 0; i < count; i++) pool.writeUInt32LE(i, i * recordBytes);
    const once = Array.from({ length: count }, (_, i) => pool.subarray(i * recordBytes, (i + 1) * recordBytes));
    // Twice, so that a slice from anywhere needs no second half.
    this.#list = [...once, ...once];
  }

  slice(from: number, records: number): readonly Buffer[] {
    const at = from % this.count;
    return this.#list.slice(at, at + records);
  }

  /** True when these are the bytes of the payload that they say they are. */
  isWhole(payload: Uint8Array): boolean {
    if (payload.length !== this.recordBytes) return false;
    const number = Buffer.from(payload.buffer, payload.byteOffset, 4).readUInt32LE();
    return number < this.count && Buffer.compare(payload, this.#list[number]) === 0;
  }
}

export interface Load {
  readonly ratePerSecond: number;
  readonly seconds: number;
  /** After the last record is issued, so long may what is under way take; later it does not count as durable. */
  readonly drainSeconds: number;
}

export interface LoadResult {
  readonly offered: number;
  readonly durable: number;
  /** BACKLOG_FULL. */
  readonly refused: number;
  /** Accepted, and not durable when the drain was over. */
  readonly late: number;
  /** From the first intended start to the last record that became durable, at least the seconds of the load. */
  readonly seconds: number;
  readonly durablePerSecond: number;
  /** Durable time − intended time of the records that became durable. */
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly p999: number; readonly max: number };
  /** The same of ALL records offered; null where that quantile never became durable. */
  readonly offeredLatencyMs: { readonly p50: number | null; readonly p99: number | null; readonly p999: number | null };
  /** Issue time − intended time: how far the generator itself was behind. */
  readonly issueLagMs: { readonly p99: number; readonly max: number };
}

function ms(us: Histogram, q: number): number {
  return us.quantile(q) / 1000;
}

export async function offerLoad(
  log: SpillwayLog,
  stream: string,
  payloads: NumberedPayloads,
  load: Load,
): Promise<LoadResult> {
  const perMs = load.ratePerSecond / 1000;
  const total = Math.round(load.ratePerSecond * load.seconds);
  const latencyUs = new Histogram();
  const lagUs = new Histogram();
  let issued = 0;
  // What the promises' callbacks change.
  const now = { underWay: 0, refused: 0, lastDurableMs: 0, over: false, failure: undefined as unknown };
  const startMs = performance.now();
  const intendedMs = (i: number): number => startMs + i / perMs;

  const issue = (first: number, records: number): void => {
    const nowMs = performance.now();
    for (let i = first; i < first + records; i++) lagUs.record(Math.max(0, nowMs - intendedMs(i)) * 1000);
    now.underWay += records;
    log.appendMany(stream, payloads.slice(first, records)).then(
      () => {
        if (now.over) return;
        now.underWay -= records;
        now.lastDurableMs = performance.now();
        for (let i = first; i < first + records; i++) latencyUs.record((now.lastDurableMs - intendedMs(i)) * 1000);
      },
      (error: { code?: string }) => {
        if (now.over) return;
        now.underWay -= records;
        if (error.code === 'BACKLOG_FULL') now.refused += records;
        else now.failure ??= error;
      },
    );
  };

  while (issued < total && now.failure === undefined) {
    const due = Math.min(total, Math.floor((performance.now() - startMs) * perMs) + 1);
    while (issued < due) {
      const records = Math.min(due - issued, MAX_PER_CALL);
      issue(issued, records);
      issued += records;
    }
    await delay(TURN_MS);
  }
  const deadlineMs = performance.now() + load.drainSeconds * 1000;
  while (now.underWay > 0 && now.failure === undefined && performance.now() < deadlineMs) await delay(TURN_MS);
  now.over = true;
  if (now.failure !== undefined) throw now.failure;

  const durable = latencyUs.count;
  const seconds = Math.max(load.seconds, (now.lastDurableMs - startMs) / 1000);
  const ofOffered = (q: number): number | null => {
    const rank = Math.ceil(q * issued);
    return rank > durable ? null : ms(latencyUs, rank / durable);
  };
  return {
    offered: issued,
    durable,
    refused: now.refused,
    late: now.underWay,
    seconds,
    durablePerSecond: durable / seconds,
    latencyMs: {
      p50: ms(latencyUs, 0.5),
      p99: ms(latencyUs, 0.99),
      p999: ms(latencyUs, 0.999),
      max: latencyUs.max / 1000,
    },
    offeredLatencyMs: { p50: ofOffered(0.5), p99: ofOffered(0.99), p999: ofOffered(0.999) },
    issueLagMs: { p99: ms(lagUs, 0.99), max: lagUs.max / 1000 },
  };
}
