// A gateway through our client, or a log in this process: anything with `appendMany`. Many requests may be under way on one
// connection; they take turns among the connections.

import { WAITER_OVERHEAD_BYTES } from '../base/limits.ts';
import type { Target } from './generator.ts';
import { recordPool, type RecordSize } from './records.ts';

/** The verbs that client and log share. */
export interface Appender {
  appendMany(stream: string, payloads: readonly Uint8Array[]): Promise<unknown>;
  close(): Promise<void>;
}

/** Requests under way at most, in count and in bytes as maxWaitingBytes counts: well below where an appender refuses. */
const MAX_UNDER_WAY = 10_000;
const UNDER_WAY_BYTES = 32 * 1024 * 1024;

/** Requests that may be under way at so many appenders. */
export function maxUnderWay({ perRequest, recordBytes }: RecordSize, appenders: number): number {
  const cost = perRequest * (recordBytes + WAITER_OVERHEAD_BYTES);
  const each = Math.max(1, Math.min(MAX_UNDER_WAY, Math.floor(UNDER_WAY_BYTES / cost)));
  return Math.min(MAX_UNDER_WAY, each * appenders);
}

export function appendTarget(
  appenders: readonly Appender[],
  options: RecordSize & { readonly stream: string; readonly seed: number },
): Target {
  const { perRequest, stream } = options;
  const next = recordPool(options, options.seed);
  let turn = 0;
  return {
    maxUnderWay: maxUnderWay(options, appenders.length),
    send: async () => {
      await appenders[turn++ % appenders.length].appendMany(stream, next());
      return perRequest;
    },
    close: async () => {
      // What was not answered in time has been counted as that already.
      await Promise.allSettled(appenders.map((appender) => appender.close()));
    },
  };
}
