// Reads a request body into memory that the budget has room for. What finds none is not read: its socket waits.
//
// A body takes room as its bytes come, not when they are announced: who announces and does not send holds a piece. Bodies that have
// some and need more would wait for each other, were it not for the elder: one at a time may grow beside the budget, into memory
// of wireBodyBytes that is kept for it. So there is always one that comes to its end.
//
// Bodies that wait for a decode thread stay longer than others: they have a share of the room, so that compressed ones, bombs among
// them, do not keep plain ones out.

import type { IncomingMessage } from 'node:http';
import { SpillwayError } from '../base/errors.ts';
import { BODY_PIECE_BYTES } from '../base/limits.ts';
import type { ByteBudget } from '../flow/budget.ts';
import { giveBack } from '../platform/give-back.ts';
import type { Host } from './host.ts';
import type { Patience } from './patience.ts';
import { Refusal } from './reply.ts';

function tooLarge(wireBodyBytes: number, came: string): Refusal {
  const message = `body: expected at most wireBodyBytes (${wireBodyBytes}) on the wire, got ${came}`;
  return new Refusal(new SpillwayError('BODY_TOO_LARGE', message), { close: true });
}

/** Length that the request announces; undefined for a chunked body. @throws BODY_TOO_LARGE */
export function announcedBytes(req: IncomingMessage, wireBodyBytes: number): number | undefined {
  const text = req.headers['content-length'];
  if (text === undefined) return req.headers['transfer-encoding'] === undefined ? 0 : undefined;
  const bytes = Number(text);
  if (bytes > wireBodyBytes) throw tooLarge(wireBodyBytes, text);
  return bytes;
}

function wentAway(): SpillwayError {
  return new SpillwayError('DISCONNECTED', 'the client went away');
}

/** The room of one body. */
class Room {
  readonly #host: Host;
  readonly #patience: Patience;
  /** The largest that it can become. */
  readonly #mostBytes: number;
  /** Those that it takes its bytes from: the share of its kind, where that has one, and what all have together. */
  readonly #budgets: readonly ByteBudget[];
  #heldBytes = 0;
  #isElder = false;
  #left = false;

  constructor(host: Host, patience: Patience, mostBytes: number, waitsForThread: boolean) {
    const { budget, threadShare } = host.parts;
    this.#host = host;
    this.#patience = patience;
    this.#mostBytes = mostBytes;
    this.#budgets = waitsForThread ? [threadShare, budget] : [budget];
  }

  /** Bytes that there is room for. */
  get bytes(): number {
    return this.#isElder ? this.#mostBytes : this.#heldBytes;
  }

  /** Waits for a first piece. @throws BACKLOG_FULL */
  async enter(waitsForLane: boolean): Promise<void> {
    const first = Math.min(this.#mostBytes, BODY_PIECE_BYTES);
    if (waitsForLane && this.#host.paused && !(await this.#patience.spend((ms) => this.#host.readable(ms)))) {
      throw this.#refusal('within maxBlockMs');
    }
    if (!this.#tryTake(first) && !(await this.#take(first))) throw this.#refusal('within maxBlockMs');
    this.#heldBytes = first;
  }

  /** Makes room for that many bytes in all, or for twice as many as there is room for. @throws BACKLOG_FULL */
  async grow(bytes: number): Promise<void> {
    if (this.#tryGrow(bytes)) return;
    const { elder } = this.#host.parts;
    if (!(await this.#patience.spend((timeoutMs) => elder.acquire(1, { timeoutMs })))) {
      throw this.#refusal('beside those of others');
    }
    if (this.#left || this.#tryGrow(bytes)) elder.release(1);
    else this.#isElder = true;
  }

  #tryGrow(bytes: number): boolean {
    const more = Math.max(bytes, Math.min(2 * this.#heldBytes, this.#mostBytes)) - this.#heldBytes;
    if (!this.#tryTake(more)) return false;
    this.#heldBytes += more;
    return true;
  }

  /** Takes bytes from all budgets, or from none. */
  #tryTake(bytes: number): boolean {
    for (let i = 0; i < this.#budgets.length; i++) {
      if (this.#budgets[i].tryAcquire(bytes)) continue;
      while (i-- > 0) this.#budgets[i].release(bytes);
      return false;
    }
    return true;
  }

  /** The same, waiting for each in turn: who waits for its share is not in the way of those who need none. */
  async #take(bytes: number): Promise<boolean> {
    for (let i = 0; i < this.#budgets.length; i++) {
      if (await this.#patience.spend((timeoutMs) => this.#budgets[i].acquire(bytes, { timeoutMs }))) continue;
      while (i-- > 0) this.#budgets[i].release(bytes);
      return false;
    }
    return true;
  }

  /** Gives all of it back. Leaving twice is fine. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    for (const budget of this.#budgets) budget.release(this.#heldBytes);
    if (this.#isElder) this.#host.parts.elder.release(1);
  }

  #refusal(when: string): Refusal {
    this.#host.parts.counters.add('refusedBodies');
    const message = `no room for the body ${when}: lane or ingressBytes are full`;
    // It has waited that long already; how fast the lane drains says nothing about bodies that others are sending.
    const retryAfter = Math.max(this.#host.retryAfter(), Math.ceil(this.#host.parts.options.maxBlockMs / 1000));
    return new Refusal(new SpillwayError('BACKLOG_FULL', message), { close: true, retryAfter });
  }
}

const noBytes = new Uint8Array(0);

/** A body that has come, in memory that was made for it. */
export class Body {
  bytes: Uint8Array;
  readonly #room: Room;

  constructor(bytes: Uint8Array, room: Room) {
    this.bytes = bytes;
    this.#room = room;
  }

  /** Lets go of the bytes, and gives their room to others. Doing so twice is fine. */
  release(): void {
    giveBack(this.bytes);
    this.bytes = noBytes;
    this.#room.leave();
  }
}

/**
 * Waits for room, then reads.
 * @param waitsForLane false: what does not fit the lane is dropped there, and does not wait for its level here
 * @param waitsForThread whether it is held until a decode thread is free: such bodies have a share of the room, and leave the rest
 * @param askForIt called once it will be read: for a client that waits to be asked
 * @throws BODY_TOO_LARGE, BACKLOG_FULL, DISCONNECTED
 */
export async function readBody(
  host: Host,
  req: IncomingMessage,
  announced: number | undefined,
  patience: Patience,
  waitsForLane: boolean,
  waitsForThread: boolean,
  askForIt: () => void,
): Promise<Body> {
  const { options, counters } = host.parts;
  const room = new Room(host, patience, announced ?? options.wireBodyBytes, waitsForThread);
  await room.enter(waitsForLane);
  try {
    // While it waited for room: its 'close' has been, and comes no more.
    if (req.destroyed) throw wentAway();
    askForIt();
    const bytes = await collect(req, announced, options.wireBodyBytes, room);
    counters.add('bodyBytes', bytes.length);
    return new Body(bytes, room);
  } catch (error) {
    room.leave();
    throw error;
  }
}

/** All chunks in one piece. Copied as they come: thousands of small ones would cost far more than their bytes. */
function collect(
  req: IncomingMessage,
  announced: number | undefined,
  wireBodyBytes: number,
  room: Room,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    /** The first chunk as it came, until there is a second. */
    let whole: Buffer | undefined;
    let total = 0;
    let growing = false;
    let cameAll = false;
    let stopped = false;
    const keep = (chunk: Buffer): void => {
      const before = total;
      total += chunk.length;
      if (whole === undefined) whole = chunk;
      else {
        if (whole.length < total) {
          const larger = Buffer.allocUnsafeSlow(announced ?? room.bytes);
          whole.copy(larger, 0, 0, before);
          giveBack(whole);
          whole = larger;
        }
        chunk.copy(whole, before);
        giveBack(chunk);
      }
    };
    const finish = (): void => {
      resolve(whole === undefined || whole.length === total ? (whole ?? noBytes) : whole.subarray(0, total));
    };
    const stop = (error: Error): void => {
      stopped = true;
      req.off('data', onData);
      req.pause();
      reject(error);
    };
    const onData = (chunk: Buffer): void => {
      const needed = total + chunk.length;
      if (needed > wireBodyBytes) return stop(tooLarge(wireBodyBytes, `${needed} so far`));
      if (needed <= room.bytes) return keep(chunk);
      // Nothing more comes until there is room: its socket is not read. But 'end' does, where this was all.
      growing = true;
      req.pause();
      room.grow(needed).then(() => {
        if (stopped) return;
        growing = false;
        keep(chunk);
        if (cameAll) finish();
        else req.resume();
      }, stop);
    };
    req.on('data', onData);
    req.once('end', () => {
      cameAll = true;
      if (!growing) finish();
    });
    // Without a listener for it, node:http tells no 'error' of a request, but always 'close'.
    req.once('close', () => {
      if (!cameAll) stop(wentAway());
    });
  });
}
