// What `connect` gives: the verbs of the embedded log that append, so that such code moves by changing one line. Reading, truncating and
// lanes are the log's alone.

import type { Appended, AppendedMany, AppendOptions, Payload } from '../pipeline/job.ts';
import type { LatencyStats } from '../platform/histogram.ts';

/**
 *     connecting ⇄ open → draining → closed
 *
 * connecting: there is no connection now, and one is being made, or will be for the next append. draining: `close` was called.
 */
export type ClientState = 'connecting' | 'open' | 'draining' | 'closed';

/** Figures since `connect`. */
export interface ClientStats {
  readonly state: ClientState;
  /** Records acknowledged: on stable storage. */
  readonly records: number;
  /** Of these, those that were there already when they were sent again. */
  readonly duplicateRecords: number;
  /** Records whose append was rejected after they had been queued. */
  readonly rejectedRecords: number;
  /** Records sent again after a connection was lost, or a request refused for the time being. */
  readonly resentRecords: number;
  /** Offset after the highest acknowledged one. */
  readonly durableOffset: number;
  readonly waitingRecords: number;
  /** What maxWaitingBytes bounds. */
  readonly waitingBytes: number;
  /** Bytes that the gateway lets this client send now; 0 over HTTP, which has no credit. */
  readonly creditBytes: number;
  /** Frames with their headers, or bodies of requests. */
  readonly sentBytes: number;
  /** Frames with records, or requests. */
  readonly sends: number;
  /** Connections that the gateway welcomed; over HTTP, times that it was reached again. */
  readonly connections: number;
  /** From append to acknowledgement, per record. */
  readonly latency: LatencyStats;
}

export interface Client extends AsyncDisposable {
  /**
   * Appends one record; resolves with its offset once it is on stable storage of the gateway.
   * Rejects with INVALID_STREAM, INVALID_OPTION, INVALID_RECORD, RECORD_TOO_LARGE, BACKLOG_FULL, CLOSED, with what the gateway
   * refuses (DROPPED, SHED, RATE_LIMITED, …): not appended; with DISCONNECTED, POISONED, WORKER_DIED, PROTOCOL_ERROR: it may or
   * may not be in the log.
   */
  append(stream: string, payload: Payload, options?: AppendOptions): Promise<Appended>;
  /**
   * Appends records in order; resolves once all are on stable storage. If one is refused here, none is appended; a call that takes
   * several frames or requests may be refused by the gateway in part, and the message then says how much of it was appended.
   */
  appendMany(stream: string, payloads: readonly Payload[], options?: AppendOptions): Promise<AppendedMany>;
  /** Resolves once all that was appended before the call is settled. Rejects with what took the connection away for good, CLOSED. */
  flush(): Promise<void>;
  /** Refuses new records, waits for those under way, and leaves. Closing twice is fine. Rejects as `flush` does. */
  close(): Promise<void>;
  /** Works in every state. */
  stats(): ClientStats;
}
