// The framed protocol's listeners of one accept thread: what their connections need of the host, and how they share its memory.
//
// Credit is set aside in the same budget that bodies of HTTP requests are read into: what a producer may send has room.

import { createServer, type Server, type Socket } from 'node:net';
import tls, { type TlsOptions } from 'node:tls';
import { SpillwayError } from '../base/errors.ts';
import { ALIVE_MS, KEEP_ALIVE_PROBE_MS } from '../base/limits.ts';
import { APPEND_HEADER_BYTES } from '../codec/frames.ts';
import { payloadBytesOf, recordBytes } from '../codec/append-frame.ts';
import { Credits } from '../flow/credits.ts';
import { tokenDigest } from './auth.ts';
import type { Host } from './host.ts';
import { Pulse } from './pulse.ts';
import { LargeReceiveBuffers } from './kernel-buffers.ts';
import { tcpLimits, type ConnectionCredits, type TcpHost } from './tcp-host.ts';
import { TcpConnection } from './tcp.ts';

/** Least credit of a connection, as far as there is room for all that may be open. */
const MAX_MIN_CREDIT_BYTES = 65_536;
/** Most that one connection may have under way, as a part of the budget. */
const MAX_SHARE = 1 / 4;

export class TcpListeners {
  readonly #host: Host;
  readonly #tcpHost: TcpHost;
  readonly #connections = new Map<TcpConnection, Pulse>();
  readonly #minCreditBytes: number;
  readonly #pulse: NodeJS.Timeout;

  constructor(host: Host) {
    this.#host = host;
    this.#pulse = setInterval(() => this.#beat(), ALIVE_MS).unref();
    const { options, maxRecordBytes, laneBytes, tokens, dedupe, counters, log } = host.parts;
    const share = Math.floor(options.ingressBytes / 2 / options.maxConnections);
    this.#minCreditBytes = Math.min(MAX_MIN_CREDIT_BYTES, Math.max(1, share));
    // A frame goes into the lane in one piece, behind padding if need be.
    const largest = APPEND_HEADER_BYTES + recordBytes(0, maxRecordBytes, true);
    const largeBuffers = new LargeReceiveBuffers(options.receiveBufferBytes);
    this.#tcpHost = {
      limits: {
        ...tcpLimits,
        maxFrameBytes: Math.min(Math.max(largest, 256 * 1024), laneBytes / 2),
        maxRecordBytes,
        maxRequestRecords: options.maxRequestRecords,
      },
      authenticate: (token, socket) => {
        const name = tokens === undefined ? (socket.remoteAddress ?? 'unix') : tokens.nameOf(token);
        if (name === undefined) return undefined;
        largeBuffers.give(socket);
        return tokens === undefined ? { name } : { name, digest: tokenDigest(token!).toString('hex') };
      },
      credits: (onRoom) => this.#credits(onRoom),
      append: async (stream, frames, records, identity, who) => {
        const refused = host.refusal();
        if (refused !== undefined) throw refused;
        // Checked in the decode stage, which frames do not pass: stored unchecked, they would make the schema a lie.
        if (host.schema(stream) !== undefined) {
          const message = `stream '${stream}' has a schema, which is checked over HTTP alone: send its records there`;
          throw new SpillwayError('SCHEMA_MISMATCH', message);
        }
        const waitMs = host.charge(who, records, frames.length);
        if (waitMs > 0) throw new RateLimited(who, waitMs);
        host.begin();
        try {
          return await host.append(
            records,
            frames.length,
            (lane) => lane.appendFrames(stream, frames, records, host.admission(stream), identity),
            () => payloadBytesOf(frames),
          );
        } finally {
          host.done();
        }
      },
      retryAfterMs: (error) => {
        if (error instanceof RateLimited) return Math.ceil(error.waitMs);
        return error.retryable ? host.retryAfter() * 1000 : 0;
      },
      dedupe: options.dedupeMs === 0 ? undefined : dedupe,
      counters,
      log,
    };
  }

  /** @param secure undefined for plain text, and for Unix sockets */
  createServer(secure: TlsOptions | undefined): Server {
    const onSocket = (socket: Socket): void => {
      const connection = new TcpConnection(socket, this.#tcpHost);
      this.#connections.set(connection, new Pulse(socket, () => connection.owes));
      void connection.ended.then(() => this.#connections.delete(connection));
      if (this.#host.draining) connection.drain();
    };
    // Without probes a peer that lost its power would keep its place: a connection may be idle for as long as it likes.
    const probes = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS };
    const options = { noDelay: true, allowHalfOpen: true, ...probes };
    return secure === undefined
      ? createServer(options, onSocket)
      : tls.createServer({ ...options, ...secure }, onSocket);
  }

  /** Resolves once all that connections had under way has settled. */
  async ended(): Promise<void> {
    await Promise.all([...this.#connections.keys()].map((connection) => connection.ended));
    clearInterval(this.#pulse);
  }

  #beat(): void {
    for (const pulse of this.#connections.values()) pulse.beat();
  }

  drain(): void {
    for (const connection of this.#connections.keys()) connection.drain();
  }

  /** Connections whose token is known no more are ended: they were asked when they came in, and not since. */
  endUnknown(): void {
    const { tokens, log } = this.#host.parts;
    const known = tokens?.digests;
    let connections = 0;
    for (const connection of this.#connections.keys()) {
      const { digest } = connection.who;
      if (known === undefined || digest === undefined || known.has(digest)) continue;
      connections++;
      connection.refuse(new SpillwayError('UNAUTHORIZED', 'the token is not known any more'));
    }
    if (connections > 0) log.info({ connections }, 'framed connections ended: their token is not known any more');
  }

  #credits(onRoom: () => void): ConnectionCredits {
    const { budget, options } = this.#host.parts;
    const host = this.#host;
    const maxBytes = Math.max(this.#minCreditBytes, Math.floor(options.ingressBytes * MAX_SHARE));
    const credits = new Credits({ minBytes: this.#minCreditBytes, maxBytes });
    const gone = new AbortController();
    /** Held of the budget: what is granted or has come, less what still waits for room there. */
    let takenBytes = 0;
    const settle = (): void => {
      const surplus = takenBytes - credits.outstandingBytes - credits.heldBytes;
      if (surplus <= 0) return;
      takenBytes -= surplus;
      budget.release(surplus);
      host.look();
    };
    return {
      grant: () => {
        const freeBytes = host.paused || host.parts.view.state !== 'open' ? 0 : budget.freeBytes;
        const bytes = credits.grant(freeBytes, options.maxConnections);
        // Never more than is free, so it is there.
        if (bytes > 0 && budget.tryAcquire(bytes)) {
          takenBytes += bytes;
          host.unspentBytes += bytes;
        } else if (credits.outstandingBytes === 0) host.whenRoom(onRoom);
        return bytes;
      },
      spent: (bytes) => {
        const excessBytes = credits.spent(bytes);
        host.unspentBytes -= bytes - excessBytes;
        if (excessBytes === 0) return undefined;
        return budget.acquire(excessBytes, { timeoutMs: Infinity, signal: gone.signal }).then((granted) => {
          if (granted) takenBytes += excessBytes;
          settle();
        });
      },
      returned: (bytes) => {
        credits.returned(bytes);
        settle();
      },
      close: () => {
        gone.abort();
        credits.returned(credits.heldBytes);
        host.unspentBytes -= credits.close();
        settle();
      },
    };
  }
}

class RateLimited extends SpillwayError {
  readonly waitMs: number;

  constructor(who: string, waitMs: number) {
    super('RATE_LIMITED', `'${who}' is over its rate limit for ${Math.ceil(waitMs)} ms`);
    this.waitMs = waitMs;
  }
}
