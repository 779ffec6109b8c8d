// What an accept thread counts, in shared memory: a row per thread, written by that thread alone and summed by whoever answers
// /metrics. Plain f64 with one writer each: a reader may be a few counts behind.

export const counterNames = [
  'requests', // HTTP requests answered
  'answers2xx',
  'answers4xx',
  'answers5xx',
  'aborted', // requests whose client went away before it was answered
  'records', // acknowledged to clients, all protocols
  'recordBytes',
  'arrivalsLost', // requests and frames that --record-arrivals has no row of, as the file could not keep up
  'duplicates', // records that were there already
  'frames', // APPEND frames of the framed protocol
  'connections', // open now
  'connectionsTotal',
  'connectionsRefused', // more than maxConnections
  'droppedNewest', // records, by cause
  'droppedOldest',
  'droppedBlockedTooLong',
  'droppedBacklog',
  'refusedBodies', // requests whose body found no room within maxBlockMs
  'tooManyStreams', // requests and frames for a new stream where no more names can be taken
  'shed', // requests
  'rateLimited', // requests
  'unauthorized', // requests and connections
  'protocolErrors', // connections of the framed protocol, closed for one
  'timedOut', // connections closed as a head, a body, a HELLO or a frame did not come in time
  'fenced', // connections cut by a newer one of their producer
  'stalled', // connections cut because the client did not read its answers
  'decodedBytes', // out of compressed bodies
  'refusedDecodedBytes', // the same of bodies that were refused for it: too large, or damaged
  'bodyBytes', // on the wire
  'ingressBytes', // held now
  'answerBytes', // held for readers, now
  'queuedBytes', // in the lane and waiting for it, now
  'oldestAgeMs', // of what is not yet acknowledged, now
  'paused', // 1 while nothing is read
  'eventLoopDelayMs', // of the last second
  'eventLoopDelayMaxMs',
] as const;
export type CounterName = (typeof counterNames)[number];

/** Values that say how it is now; the others only ever count up. */
const gauges: ReadonlySet<CounterName> = new Set([
  'connections',
  'ingressBytes',
  'answerBytes',
  'queuedBytes',
  'oldestAgeMs',
  'paused',
  'eventLoopDelayMs',
  'eventLoopDelayMaxMs',
]);
/** Of these the largest of all threads counts, not the sum. */
const maxima: ReadonlySet<CounterName> = new Set(['oldestAgeMs', 'paused', 'eventLoopDelayMs', 'eventLoopDelayMaxMs']);

const slotOf = Object.fromEntries(counterNames.map((name, i) => [name, i])) as Record<CounterName, number>;

export function isGauge(name: CounterName): boolean {
  return gauges.has(name);
}

/** Memory for the rows of that many threads. */
export function createCounters(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer(threads * counterNames.length * 8);
}

/** The row of one thread. */
export class Counters {
  readonly #row: Float64Array;

  constructor(buffer: SharedArrayBuffer, thread: number) {
    this.#row = new Float64Array(buffer, thread * counterNames.length * 8, counterNames.length);
  }

  add(name: CounterName, amount = 1): void {
    this.#row[slotOf[name]] += amount;
  }

  set(name: CounterName, value: number): void {
    this.#row[slotOf[name]] = value;
  }

  get(name: CounterName): number {
    return this.#row[slotOf[name]];
  }
}

/** All threads together. */
export function readCounters(buffer: SharedArrayBuffer): Record<CounterName, number> {
  const all = new Float64Array(buffer);
  const result = {} as Record<CounterName, number>;
  for (const name of counterNames) {
    let value = 0;
    for (let i = slotOf[name]; i < all.length; i += counterNames.length) {
      value = maxima.has(name) ? Math.max(value, all[i]) : value + all[i];
    }
    result[name] = value;
  }
  return result;
}
