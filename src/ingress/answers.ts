// Answers to readers: how many bytes of them an accept thread holds, how many looks for them it takes, and how they are sent.
//
// Promises: what readers do holds up no producer. Bytes held ≤ max(READ_ANSWERS_BYTES, the longest text of one record), in a budget that
// is theirs alone; one look at the log per turn of the event loop, and while producers send or clients come, one part in READ_REST + 1 of
// the time; what is held is given back piece by piece, each when the client has taken it or the next is in the kernel, and
// at once when the connection closes; a reader that does not take a piece within READ_STALL_MS is cut.

import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import { READ_ANSWERS_BYTES, READ_REST, READ_REST_BEHIND_MS, READ_STALL_MS } from '../base/limits.ts';
import { ByteBudget } from '../flow/budget.ts';
import type { Host } from './host.ts';
import { acknowledgedBytes } from './kernel-buffers.ts';
import { longestLine } from './page-text.ts';

/** Bytes of answers that one accept thread holds. */
export function answersBytes(maxRecordBytes: number): number {
  return Math.max(READ_ANSWERS_BYTES, longestLine(maxRecordBytes));
}

export class Answers {
  readonly capacityBytes: number;
  readonly budget: ByteBudget;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #producersWait: () => boolean;
  readonly #waiting: (() => void)[] = [];
  #taken = false;
  /** A connection was accepted since the last look, and there may be more. */
  #isSomebodyNew = false;
  /** Producers are taken to send until then: between two of their requests nothing may wait for a moment. */
  #producersUntilMs = -Infinity;
  /** Rest that is due, and too short for a timer so far. */
  #restMs = 0;

  /** @param producersWait whether a record of a producer waits to be durable */
  constructor(maxRecordBytes: number, clock: Pick<Clock, 'monotonicMs'>, producersWait: () => boolean) {
    this.capacityBytes = answersBytes(maxRecordBytes);
    this.budget = new ByteBudget(this.capacityBytes);
    this.#clock = clock;
    this.#producersWait = producersWait;
  }

  /** Takes a look when its turn has come: at once where none was in this turn of the event loop, and no rest is due. */
  async look<T>(take: () => T): Promise<T> {
    if (this.#taken) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#taken = true;
    const begunMs = this.#clock.monotonicMs();
    try {
      return take();
    } finally {
      const nowMs = this.#clock.monotonicMs();
      if (this.#producersWait()) this.#producersUntilMs = nowMs + READ_REST_BEHIND_MS;
      const restMs = READ_REST * (nowMs - begunMs);
      this.#restMs = nowMs < this.#producersUntilMs ? this.#restMs + restMs : 0;
      if (this.#restMs < 1) setImmediate(this.#afterNewcomers, nowMs + restMs);
      else {
        setTimeout(this.#next, this.#restMs);
        this.#restMs = 0;
      }
    }
  }

  /** A connection was accepted. There may be more: each turn of the event loop takes a few (more-accepts.ts), however long the turn. */
  newcomer(): void {
    this.#isSomebodyNew = true;
  }

  /** The next look, once a turn has passed in which nobody came. */
  readonly #afterNewcomers = (latestMs: number): void => {
    if (!this.#isSomebodyNew || this.#clock.monotonicMs() >= latestMs) return this.#next();
    this.#isSomebodyNew = false;
    setImmediate(this.#afterNewcomers, latestMs);
  };

  readonly #next = (): void => {
    const go = this.#waiting.shift();
    this.#taken = go !== undefined;
    go?.();
  };
}

/** The connection of a response. A response that is queued behind another never hears that its connection has closed. */
export class Peer {
  readonly #res: ServerResponse;
  readonly #closed: Promise<void>;
  #stop: () => void = () => undefined;

  constructor(res: ServerResponse) {
    const { socket } = res.req;
    this.#res = res;
    // One each of as many requests as a client sends ahead.
    socket.setMaxListeners(0);
    this.#closed = new Promise((resolve) => {
      socket.once('close', resolve);
      this.#stop = () => socket.off('close', resolve);
    });
  }

  /** Nobody is there. */
  get isClosed(): boolean {
    return this.#res.destroyed || this.#res.req.socket.destroyed;
  }

  /** It has closed its side: it has gone, or wants its answer. */
  get hasSaidAll(): boolean {
    return this.#res.req.socket.readableEnded;
  }

  /** Resolves once those before have been answered on this connection, or it has closed. */
  async ownTurn(): Promise<void> {
    if (this.#res.socket !== null || this.isClosed) return;
    await Promise.race([this.#closed, new Promise((resolve) => this.#res.once('socket', resolve))]);
  }

  /** Sends a piece. Resolves when the kernel has it, or the connection has closed. */
  async send(piece: Uint8Array, isLast: boolean): Promise<void> {
    const taken = new Promise<void>((resolve) => {
      if (isLast) this.#res.end(piece, resolve);
      else this.#res.write(piece, () => resolve());
    });
    await Promise.race([this.#closed, taken]);
  }

  /** Forgets about the connection. */
  leave(): void {
    this.#stop();
  }
}

/** How often it is asked whether a client has taken the end of its answer, at first and at most. */
const DRAIN_POLL_MS = 5;
const MAX_DRAIN_POLL_MS = 200;

/** Resolves once the client has taken all that was written so far, or the connection has closed. @returns false where it took nothing for `stallMs` */
async function drained(socket: Socket, stallMs: number): Promise<boolean> {
  const end = socket.bytesWritten;
  let taken = acknowledgedBytes(socket);
  let idleMs = 0;
  for (let pollMs = DRAIN_POLL_MS; !socket.destroyed && taken < end; pollMs = Math.min(2 * pollMs, MAX_DRAIN_POLL_MS)) {
    await delay(pollMs, undefined, { ref: false });
    const now = acknowledgedBytes(socket);
    idleMs = now > taken ? 0 : idleMs + pollMs;
    if (idleMs >= stallMs) return false;
    taken = now;
  }
  return true;
}

/**
 * Sends an answer, each piece once the one before is taken, so that next to nothing of it is held twice. Resolves when the kernel has
 * all of it, or the connection has closed.
 * @param release told of each piece that need not be held any more, at the latest when the connection closes: of all of them together
 */
export async function deliver(
  host: Host,
  res: ServerResponse,
  peer: Peer,
  headers: readonly string[],
  pieces: readonly Uint8Array[],
  release: (bytes: number) => void,
  stallMs = READ_STALL_MS,
): Promise<void> {
  const { counters } = host.parts;
  const { socket } = res.req;
  const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
  let heldBytes = bytes;
  const give = (taken: number): void => {
    heldBytes -= taken;
    release(taken);
  };
  const cut = (): void => {
    counters.add('stalled');
    socket.destroy();
  };
  let stalled: NodeJS.Timeout | undefined;
  try {
    if (peer.isClosed) return counters.add('aborted');
    counters.add('requests');
    counters.add('answers2xx');
    const all = [...headers, 'content-length', String(bytes)];
    if (host.draining) all.push('connection', 'close');
    res.writeHead(200, all);
    if (pieces.length === 0) return void res.end();
    stalled = setTimeout(cut, stallMs).unref();
    let before = 0;
    for (const [i, piece] of pieces.entries()) {
      if (peer.isClosed) return;
      await peer.send(piece, i === pieces.length - 1);
      stalled.refresh();
      give(before);
      before = piece.length;
    }
    const last = heldBytes;
    heldBytes = 0;
    void drained(socket, stallMs).then((isTaken) => {
      if (!isTaken) cut();
      release(last);
    });
  } finally {
    clearTimeout(stalled);
    if (heldBytes > 0) give(heldBytes);
  }
}
