// Reads a request body into memory that the budget has room for. What finds none is not read: its socket waits.

import type { IncomingMessage } from 'node:http';
import { SpillwayError } from '../base/errors.ts';
import { BODY_PIECE_BYTES } from '../base/limits.ts';
import type { Host } from './host.ts';
import type { Patience } from './patience.ts';
import { Refusal } from './reply.ts';

export interface Body {
  readonly bytes: Uint8Array;
  /** Taken from the budget; whoever has the body gives them back. */
  readonly heldBytes: number;
}

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

function noRoom(when: string): Refusal {
  const message = `no room for the body ${when}: lane or ingressBytes are full`;
  return new Refusal(new SpillwayError('BACKLOG_FULL', message), { close: true });
}

/**
 * Waits for room, then reads. A body of unknown length takes room piece by piece, and never waits for it while it holds some: two
 * that did would wait for each other.
 * @param waitsForLane false: what does not fit the lane is dropped there, and does not wait for its level here
 * @param askForIt called once it will be read: for a client that waits to be asked
 * @throws BODY_TOO_LARGE, BACKLOG_FULL, DISCONNECTED
 */
export async function readBody(
  host: Host,
  req: IncomingMessage,
  announced: number | undefined,
  patience: Patience,
  waitsForLane: boolean,
  askForIt: () => void,
): Promise<Body> {
  const { budget, options, counters } = host.parts;
  const first = announced ?? Math.min(BODY_PIECE_BYTES, options.wireBodyBytes);
  if (waitsForLane && host.paused && !(await patience.spend((ms) => host.readable(ms)))) {
    throw noRoom('within maxBlockMs');
  }
  if (!budget.tryAcquire(first)) {
    const acquired = await patience.spend((ms) => budget.acquire(first, { timeoutMs: ms }));
    if (!acquired) throw noRoom('within maxBlockMs');
  }
  let heldBytes = first;
  try {
    // While it waited for room: its 'close' has been, and comes no more.
    if (req.destroyed) throw wentAway();
    askForIt();
    const bytes = await collect(req, announced, (total) => {
      if (total > options.wireBodyBytes) throw tooLarge(options.wireBodyBytes, `${total} so far`);
      if (total <= heldBytes) return;
      const more = Math.min(Math.max(BODY_PIECE_BYTES, heldBytes), options.wireBodyBytes - heldBytes);
      if (!budget.tryAcquire(more)) throw noRoom('beside those of others');
      heldBytes += more;
    });
    counters.add('bodyBytes', bytes.length);
    return { bytes, heldBytes };
  } catch (error) {
    budget.release(heldBytes);
    throw error;
  }
}

/** @param onTotal called with the bytes so far; what it throws ends the reading */
function collect(
  req: IncomingMessage,
  announced: number | undefined,
  onTotal: (total: number) => void,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let whole: Buffer | undefined;
    const chunks: Buffer[] = [];
    let total = 0;
    const onData = (chunk: Buffer): void => {
      const at = total;
      total += chunk.length;
      try {
        onTotal(total);
      } catch (error) {
        req.off('data', onData);
        req.pause();
        reject(error);
        return;
      }
      // In one piece at once where the length is known: joining chunks would hold the body twice.
      if (announced === undefined || chunk.length === announced) chunks.push(chunk);
      else chunk.copy((whole ??= Buffer.allocUnsafeSlow(announced)), at);
    };
    req.on('data', onData);
    let ended = false;
    req.once('end', () => {
      ended = true;
      resolve(whole ?? (chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
    });
    // Without a listener for it, node:http tells no 'error' of a request, but always 'close'.
    req.once('close', () => {
      if (!ended) reject(wentAway());
    });
  });
}
