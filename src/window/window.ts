// The window decides when a batch closes. A pure function of what it is told: no clock, no lanes, no timers.
//
// While records wait, the first of these that holds closes the batch:
//
//     records   maxRecords are there
//     bytes     maxBytes are there
//     flush     somebody asked for everything to be durable now
//     idle      lingerMs is 0: whatever is there goes as soon as the previous write has returned
//     linger    the oldest record has waited lingerMs

import type { WindowOptions } from '../base/options.ts';
import type { CloseReason } from '../base/types.ts';

/** What waits, and for how long. */
export interface Waiting {
  readonly records: number;
  readonly bytes: number;
  /** How long the oldest record has waited, in ms. */
  readonly ageMs: number;
  readonly flush: boolean;
}

/** The bound of the window that is reached, whatever the time. */
export function fullBy(window: WindowOptions, records: number, bytes: number): 'records' | 'bytes' | undefined {
  if (records >= window.maxRecords) return 'records';
  return bytes >= window.maxBytes ? 'bytes' : undefined;
}

/** Why the batch closes now, or undefined to go on waiting, at most `remainingMs`. */
export function closeReason(window: WindowOptions, waiting: Waiting): CloseReason | undefined {
  if (waiting.records === 0) return undefined;
  const full = fullBy(window, waiting.records, waiting.bytes);
  if (full !== undefined) return full;
  if (waiting.flush) return 'flush';
  if (window.lingerMs === 0) return 'idle';
  return waiting.ageMs >= window.lingerMs ? 'linger' : undefined;
}

/** How long until the linger is over; Infinity while nothing waits. */
export function remainingMs(window: WindowOptions, waiting: Waiting): number {
  return waiting.records === 0 ? Infinity : Math.max(0, window.lingerMs - waiting.ageMs);
}
