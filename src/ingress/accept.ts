// One accept thread: the listeners, and the host they share, over one lane. Runs in the main thread where there is one, else in
// workers/accept.ts: everything it is made of is structured-cloneable, but the table of idempotent producers and the log lines.
//
// Promises: what a client was answered 200 (or ACKed) for is durable; body bytes under way ≤ ingressBytes; connections ≤
// maxConnections; after `drain` every request that was accepted has been answered, or is counted as left.

import { rmSync, statSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import { connect, type Server, type Socket } from 'node:net';
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks';
import type { ResourceLimits } from 'node:worker_threads';
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import { errnoOf, reasonOf, SpillwayError } from '../base/errors.ts';
import type { Address, GatewayOptions } from '../base/gateway-options.ts';
import { BODY_PIECE_BYTES } from '../base/limits.ts';
import { ByteBudget } from '../flow/budget.ts';
import type { Dedupe } from '../flow/dedupe.ts';
import { DrainRate } from '../flow/drain-rate.ts';
import { Shed } from '../flow/shed.ts';
import { TokenBuckets } from '../flow/token-bucket.ts';
import { Watermark } from '../flow/watermark.ts';
import { Lane, type LaneHandle } from '../pipeline/lane.ts';
import { LogView, type LogViewHandle } from '../pipeline/view.ts';
import { Answers } from './answers.ts';
import { ArrivalRing } from './arrival-ring.ts';
import { Tokens } from './auth.ts';
import { Counters } from './counters.ts';
import { DecodePool } from './decode-pool.ts';
import { checkSchemas, tlsOf } from './files.ts';
import { Host } from './host.ts';
import { createHttpServer } from './http.ts';
import { Report } from './metrics.ts';
import { limitKernel } from './kernel-buffers.ts';
import { acceptMore } from './more-accepts.ts';
import { TcpListeners } from './tcp-listener.ts';

/** How often levels, ages and the event loop's delay are looked at while nothing happens. */
const TICK_MS = 250;
/** New connections that the kernel keeps until they are accepted, at least: node's default. */
const LISTEN_BACKLOG = 511;
/** Clients whose rate is remembered. */
const RATE_KEYS = 10_000;
const DRAIN_HALF_LIFE_MS = 2000;

export interface AcceptData {
  readonly options: GatewayOptions;
  readonly maxRecordBytes: number;
  readonly laneBytes: number;
  readonly view: LogViewHandle;
  readonly lane: LaneHandle;
  readonly counters: SharedArrayBuffer;
  /** Where it records arrivals, if it does. */
  readonly arrivals?: SharedArrayBuffer;
  /** Heap of an accept thread that is not the main one, and of one that decodes. */
  readonly heapLimits: ResourceLimits;
  readonly decodeLimits: ResourceLimits;
  /** Number of this thread, from 0: its row of the counters. */
  readonly thread: number;
  /** Several threads listen on the same port. */
  readonly reusePort: boolean;
}

/** Where it listens in the end: a port 0 has become a real one. */
export interface Listening {
  readonly http: Address | undefined;
  readonly tcp: Address | undefined;
  readonly unix: string | undefined;
}

/** What a drain could not finish within its time. */
export interface Left {
  readonly requests: number;
  readonly connections: number;
}

/** Part of ingressBytes that bodies may hold which wait for a decode thread. */
const THREAD_SHARE = 1 / 2;

function buckets(perSecond: number): TokenBuckets | undefined {
  return perSecond === 0 ? undefined : new TokenBuckets({ perSecond, burst: perSecond, maxKeys: RATE_KEYS });
}

/**
 * A socket file of a process that is gone keeps its name: one that nobody listens on (ECONNREFUSED) is removed. Any other error
 * may come from one that lives: EAGAIN has a full queue, EACCES another user.
 */
export async function removeStaleSocket(path: string): Promise<void> {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('error', (error) => resolve(errnoOf(error) !== 'ECONNREFUSED' && errnoOf(error) !== 'ENOENT'));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
  });
  if (!alive) rmSync(path, { force: true });
}

export class Accept {
  readonly #data: AcceptData;
  readonly #host: Host;
  readonly #tcp: TcpListeners;
  readonly #servers: (Server | HttpServer)[] = [];
  readonly #sockets = new Set<Socket>();
  /** Connections of HTTP that have not asked for anything yet. */
  readonly #silent = new Set<Socket>();
  readonly #tick: NodeJS.Timeout;
  readonly #delay: IntervalHistogram;
  listening: Listening = { http: undefined, tcp: undefined, unix: undefined };

  /** @throws INVALID_OPTION for a file that cannot be used */
  constructor(data: AcceptData, dedupe: Dedupe, log: Logger) {
    const { options } = data;
    const view = new LogView(data.view);
    const counters = new Counters(data.counters, data.thread);
    this.#data = data;
    // What cannot be used is told now, not to the first client.
    checkSchemas(options);
    const lane = new Lane(data.lane, systemClock, true);
    this.#host = new Host({
      options,
      maxRecordBytes: data.maxRecordBytes,
      laneBytes: data.laneBytes,
      lane,
      view,
      budget: new ByteBudget(options.ingressBytes),
      threadShare: new ByteBudget(Math.max(BODY_PIECE_BYTES, options.ingressBytes * THREAD_SHARE)),
      elder: new ByteBudget(1),
      answers: new Answers(data.maxRecordBytes, systemClock, () => !lane.isIdle),
      decodeSlots: new ByteBudget(options.decodeThreads + 1),
      mark: new Watermark(options.highWater, options.lowWater),
      shed: new Shed(options.shedAgeMs),
      drainRate: new DrainRate({ halfLifeMs: DRAIN_HALF_LIFE_MS }),
      recordBuckets: buckets(options.rateRecords),
      byteBuckets: buckets(options.rateBytes),
      decode: new DecodePool({
        threads: options.decodeThreads,
        resourceLimits: data.decodeLimits,
        maxWaitingBytes: options.ingressBytes,
        maxWaitMs: options.maxBlockMs,
      }),
      dedupe,
      tokens: options.tokens === undefined ? undefined : new Tokens(options.tokens),
      counters,
      arrivals: data.arrivals === undefined ? undefined : new ArrivalRing(data.arrivals),
      report: new Report(view, data.counters, options.sloP99Ms),
      log,
      clock: systemClock,
    });
    this.#tcp = new TcpListeners(this.#host);
    this.#delay = monitorEventLoopDelay({ resolution: 10 });
    this.#delay.enable();
    let ticks = 0;
    this.#tick = setInterval(() => {
      this.#host.look();
      this.#host.sample();
      if (++ticks % (1000 / TICK_MS) !== 0) return;
      counters.set('eventLoopDelayMs', this.#delay.percentile(99) / 1e6);
      counters.set('eventLoopDelayMaxMs', this.#delay.max / 1e6);
      this.#delay.reset();
    }, TICK_MS);
  }

  /** Opens the listeners. @throws INVALID_OPTION for an address that is taken or not there */
  async listen(): Promise<Listening> {
    const { options, reusePort } = this.#data;
    const secure = tlsOf(options);
    if (options.http !== undefined) {
      const server = createHttpServer(this.#host, secure);
      const port = await this.#open('http', server, { ...options.http, reusePort }, secure !== undefined);
      this.listening = { ...this.listening, http: { host: options.http.host, port } };
    }
    if (options.tcp !== undefined) {
      const server = this.#tcp.createServer(secure);
      const port = await this.#open('tcp', server, { ...options.tcp, reusePort }, secure !== undefined);
      this.listening = { ...this.listening, tcp: { host: options.tcp.host, port } };
    }
    if (options.unix !== undefined) {
      await removeStaleSocket(options.unix);
      await this.#open('unix', this.#tcp.createServer(undefined), { path: options.unix }, false);
      this.listening = { ...this.listening, unix: options.unix };
    }
    return this.listening;
  }

  /** Reads the token file again, and ends who came in with a token that is gone. @throws INVALID_OPTION; then those from before stay */
  reloadTokens(): void {
    this.#host.parts.tokens?.reload();
    this.#tcp.endUnknown();
  }

  /** Takes nothing new, and waits until what was accepted is answered. */
  async drain(withinMs: number): Promise<Left> {
    this.#host.draining = true;
    this.#tcp.drain();
    const closed = this.#servers.map((s) => new Promise<void>((resolve) => s.close(() => resolve())));
    for (const s of this.#servers) if ('closeIdleConnections' in s) s.closeIdleConnections();
    // For node:http these are not idle: it waits for their first request until a timeout that a closed server has no more.
    for (const socket of this.#silent) if ('encrypted' in socket || socket.bytesRead === 0) socket.destroy();
    const timer = new AbortController();
    const late = new Promise<void>((resolve) => {
      const t = setTimeout(resolve, withinMs);
      timer.signal.addEventListener('abort', () => clearTimeout(t));
    });
    let over = false;
    const done = Promise.all(closed).then(() => this.#host.allDone());
    await Promise.race([done.then(() => (over = true)), late]);
    timer.abort();
    // A server says that it is closed before its last socket does.
    return { requests: this.#host.underWay, connections: over ? 0 : this.#sockets.size };
  }

  /** Ends everything, and gives the lane back. */
  async close(): Promise<void> {
    clearInterval(this.#tick);
    this.#delay.disable();
    for (const socket of this.#sockets) socket.destroy();
    await this.#tcp.ended();
    for (const s of this.#servers) s.close();
    await this.#host.parts.decode.close();
    await this.#host.parts.lane.close();
  }

  /** @returns the port, 0 for a path */
  async #open(
    name: 'http' | 'tcp' | 'unix',
    server: Server | HttpServer,
    where: { host: string; port: number; reusePort: boolean } | { path: string },
    secure: boolean,
  ): Promise<number> {
    const { counters, options } = this.#host.parts;
    server.on('connection', (socket: Socket) => {
      if (this.#sockets.size >= options.maxConnections) {
        counters.add('connectionsRefused');
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      this.#host.parts.answers.newcomer();
      counters.add('connectionsTotal');
      counters.set('connections', this.#sockets.size);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        counters.set('connections', this.#sockets.size);
      });
      // Resets of a peer are its own affair.
      socket.on('error', () => undefined);
    });
    // Node says that a handshake took too long, and leaves the socket open.
    if (secure) server.on('tlsClientError', (_error, socket: Socket) => void socket.destroy());
    if ('closeIdleConnections' in server) {
      server.on(secure ? 'secureConnection' : 'connection', (socket: Socket) => {
        this.#silent.add(socket);
        socket.once('close', () => this.#silent.delete(socket));
      });
      for (const event of ['request', 'checkContinue', 'checkExpectation'] as const) {
        server.on(event, (req) => this.#silent.delete(req.socket));
      }
    }
    // What finds the kernel's queue full is dropped, and comes again a second later.
    const backlog = Math.max(LISTEN_BACKLOG, options.maxConnections);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const place = 'path' in where ? where.path : `${where.host}:${where.port}`;
        const taken = error.code === 'EADDRINUSE' ? 'it is taken' : reasonOf(error);
        reject(
          new SpillwayError('INVALID_OPTION', `option '${name}': cannot listen on ${place}: ${taken}`, {
            subject: name,
          }),
        );
      });
      server.listen({ ...where, backlog }, resolve);
    });
    if (!('path' in where)) {
      limitKernel(server, options.receiveBufferBytes, this.#host.parts.log);
      this.#servers.push(...(await acceptMore(server, backlog)));
    }
    server.removeAllListeners('error');
    server.on('error', (error) => this.#host.parts.log.error({ listener: name }, reasonOf(error)));
    this.#servers.push(server);
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }
}
