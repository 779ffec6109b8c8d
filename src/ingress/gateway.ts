// The gateway: one log, its accept threads, what they share. Order of a start: memory sum, log (which recovers), memory of
// idempotent producers from the end of the log, listeners. Order of an end: nothing new, what was accepted is answered, log
// closed. So nobody is listened to before what they were told is known, and nothing is closed under a request.

import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import type { GatewayOptions } from '../base/gateway-options.ts';
import type { LogOptionsInput } from '../base/options.ts';
import { DedupeTable } from '../flow/dedupe.ts';
import { SpillwayLog } from '../pipeline/open.ts';
import type { LogView } from '../pipeline/view.ts';
import { Accept, type AcceptData, type Left, type Listening } from './accept.ts';
import { AcceptThread, type Acceptor } from './accept-thread.ts';
import { ArrivalFile, createArrivalFile } from './arrival-file.ts';
import { ArrivalRing, createArrivalRing } from './arrival-ring.ts';
import { createCounters } from './counters.ts';
import { LogStateLines, STATE_LOOK_MS, WindowLines } from './log-state.ts';
import { heapCaps } from './memory.ts';
import { Report } from './metrics.ts';

/** `reusePort` is in node:net from here on. */
const REUSE_PORT_SINCE = [22, 12] as const;

function canReusePort(): boolean {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major > REUSE_PORT_SINCE[0] || (major === REUSE_PORT_SINCE[0] && minor >= REUSE_PORT_SINCE[1]);
}

/** What the log remembers of idempotent producers. @returns records that carried an identity */
function restore(view: LogView, table: DedupeTable, options: GatewayOptions): number {
  let found = 0;
  const sinceMs = systemClock.wallMs() - options.dedupeMs;
  view.walkEnd(options.dedupeBytes, ({ identity, offset, timestampMs }) => {
    if (identity === undefined || timestampMs < sinceMs) return;
    found++;
    const id = Buffer.from(identity.id.buffer, identity.id.byteOffset, identity.id.length);
    // The first bit of an id tells a producer of the framed protocol from an Idempotency-Key.
    const isKey = id[0] >= 0x80;
    const sequence = isKey ? identity.low : identity.low + identity.high * 2 ** 32;
    table.restore(id.toString('latin1'), sequence, isKey ? identity.high : 0, offset, timestampMs);
  });
  return found;
}

/** The main thread as its own accept thread. */
function own(accept: Accept): Acceptor {
  return {
    listen: () => accept.listen(),
    reloadTokens: async () => accept.reloadTokens(),
    drain: (withinMs) => accept.drain(withinMs),
    close: () => accept.close(),
  };
}

export class Gateway {
  readonly log: SpillwayLog;
  readonly #options: GatewayOptions;
  readonly #acceptors: readonly Acceptor[];
  readonly #report: Report;
  readonly #logger: Logger;
  readonly #stateTimer: NodeJS.Timeout;
  readonly #arrivals: ArrivalFile | undefined;
  readonly listening: Listening;
  #ending: Promise<Left> | undefined;

  private constructor(
    log: SpillwayLog,
    options: GatewayOptions,
    acceptors: readonly Acceptor[],
    report: Report,
    logger: Logger,
    listening: Listening,
    arrivals: ArrivalFile | undefined,
  ) {
    this.log = log;
    this.#options = options;
    this.#acceptors = acceptors;
    this.#report = report;
    this.#logger = logger;
    const lines = new LogStateLines(log.view, logger);
    const windowLines = new WindowLines(log.view, logger);
    this.#stateTimer = setInterval(() => {
      lines.look();
      windowLines.look();
    }, STATE_LOOK_MS).unref();
    this.listening = listening;
    this.#arrivals = arrivals;
  }

  /**
   * Opens the log and listens.
   * @param onDeath called when an accept thread ends by itself: the gateway is to be ended then
   * @throws as `open` of the package; INVALID_OPTION for an address or a file that cannot be used
   */
  static async start(
    logOptions: LogOptionsInput,
    options: GatewayOptions,
    logger: Logger,
    onDeath: (reason: string) => void = () => undefined,
  ): Promise<Gateway> {
    let threads = options.acceptThreads;
    if (threads > 1 && !canReusePort()) {
      logger.warn(`acceptThreads ${threads}: this needs Node ${REUSE_PORT_SINCE.join('.')}; one accept thread is used`);
      threads = 1;
    }
    const maxLanes = Math.max(logOptions.maxLanes ?? 0, threads + 1);
    const log = await SpillwayLog.open({ ...logOptions, maxLanes });
    const acceptors: Acceptor[] = [];
    let arrivals: ArrivalFile | undefined;
    try {
      const table = new DedupeTable({ maxKeys: options.dedupeKeys, maxAgeMs: options.dedupeMs }, () =>
        systemClock.wallMs(),
      );
      if (options.dedupeMs > 0) {
        const startedMs = systemClock.monotonicMs();
        const records = restore(log.view, table, options);
        const tookMs = Math.round(systemClock.monotonicMs() - startedMs);
        logger.info({ records, keys: table.size, tookMs }, 'idempotent producers remembered from the log');
      }
      const caps = heapCaps(log.options, options);
      const counters = createCounters(threads);
      const lanes = Array.from({ length: threads }, () => log.lane());
      const { recordArrivals: path } = options;
      const rings = path === undefined ? [] : lanes.map(() => createArrivalRing());
      if (path !== undefined) {
        const file = await createArrivalFile(path);
        const readers = rings.map((ring) => new ArrivalRing(ring));
        arrivals = new ArrivalFile(path, file, readers, logger);
      }
      const dataOf = (thread: number, at: GatewayOptions): AcceptData => ({
        options: at,
        maxRecordBytes: log.options.maxRecordBytes,
        laneBytes: log.options.laneBytes,
        view: log.view.handle,
        lane: lanes[thread],
        counters,
        ...(path === undefined ? {} : { arrivals: rings[thread] }),
        heapLimits: caps.accept,
        decodeLimits: caps.decode,
        thread,
        reusePort: threads > 1,
      });
      let listening: Listening | undefined;
      for (let thread = 0; thread < threads; thread++) {
        // A port 0 is chosen by the first thread, and shared by the others. Only one can own a path.
        const at =
          listening === undefined ? options : { ...options, http: listening.http, tcp: listening.tcp, unix: undefined };
        const data = dataOf(thread, at);
        const acceptor = threads === 1 ? own(new Accept(data, table, logger)) : new AcceptThread(data, table, onDeath);
        acceptors.push(acceptor);
        const where = await acceptor.listen();
        listening ??= where;
      }
      return new Gateway(
        log,
        options,
        acceptors,
        new Report(log.view, counters, options.sloP99Ms),
        logger,
        listening!,
        arrivals,
      );
    } catch (error) {
      await Promise.allSettled(acceptors.map((a) => a.close()));
      await arrivals?.discard();
      await log.close().catch(() => undefined);
      throw error;
    }
  }

  stats(): ReturnType<Report['stats']> {
    return this.#report.stats();
  }

  /** Reads the token file again, also while draining. @throws INVALID_OPTION; then those from before stay */
  async reloadTokens(): Promise<void> {
    for (const acceptor of this.#acceptors) await acceptor.reloadTokens();
  }

  /**
   * Takes nothing new, answers what was accepted, closes the log. Ending twice is ending once.
   * @returns what was not answered within drainMs
   * @throws what closing the log throws (POISONED, DISK_FULL, WORKER_DIED)
   */
  end(): Promise<Left> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<Left> {
    const left = { requests: 0, connections: 0 };
    const drained = await Promise.allSettled(this.#acceptors.map((a) => a.drain(this.#options.drainMs)));
    for (const result of drained) {
      if (result.status === 'rejected') continue;
      left.requests += result.value.requests;
      left.connections += result.value.connections;
    }
    // Now, as closing the log may fail: on a full disk it does.
    if (left.requests > 0 || left.connections > 0) {
      const { drainMs } = this.#options;
      this.#logger[left.requests > 0 ? 'error' : 'warn'](left, `drainMs ${drainMs} is over: what is left is cut`);
    }
    clearInterval(this.#stateTimer);
    // What still waits would wait for ever on a full disk: closing the log rejects it.
    const closed = Promise.allSettled(this.#acceptors.map((a) => a.close()));
    try {
      await this.log.close();
      await closed;
    } finally {
      await this.#arrivals?.close();
    }
    return left;
  }
}

/** As in a URL: an IPv6 address stands in brackets. */
function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** For a message: where a gateway can be reached. */
export function describe(listening: Listening, secure: boolean): string[] {
  const s = secure ? 's' : '';
  const lines: string[] = [];
  if (listening.http !== undefined) lines.push(`http${s}://${inUrl(listening.http.host)}:${listening.http.port}`);
  if (listening.tcp !== undefined) lines.push(`tcp${s}://${inUrl(listening.tcp.host)}:${listening.tcp.port}`);
  if (listening.unix !== undefined) lines.push(`unix:${listening.unix}`);
  return lines;
}
