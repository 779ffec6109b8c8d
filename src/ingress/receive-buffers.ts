// How much the kernel may hold of connections that are not read. Left alone it takes 128 KiB of each, and of one that was read
// fast up to tcp_rmem's 6 MiB and more, charged to the container: no sum could hold it.
//
// Promises: connections have receiveBufferBytes, inherited from their listener. It grows for the first LARGE_RECEIVE_CONNECTIONS that
// speak the framed protocol, once they have said who they are: a frame of theirs is larger, and would come piece by piece.
// Rejected: less for all, and more for a connection while it sends a large body. What had been announced to its client before then
// finds no room and is dropped, and is sent again 200 ms later: a fifth of the requests with 64 clients of 64 KiB.
// Limits: without the addon nothing is limited. A Unix socket needs none: what is not read is booked on its sender.

import type { Server as HttpServer } from 'node:http';
import type { Server, Socket } from 'node:net';
import type { Logger } from 'pino';
import { reasonOf } from '../base/errors.ts';
import { LARGE_RECEIVE_BYTES, LARGE_RECEIVE_CONNECTIONS } from '../base/limits.ts';
import { native } from '../platform/native.ts';

/** @throws Error where there is no addon, or no descriptor */
function setReceiveBuffer(owner: Server | HttpServer | Socket, bytes: number): void {
  // Not in node's interface; where there is none, the addon refuses the descriptor.
  const { fd = -1 } = (owner as { readonly _handle?: { readonly fd?: number } | null })._handle ?? {};
  if (native === undefined) throw new Error('it needs the addon');
  native.limitReceiveBuffer(fd, bytes);
}

/** Limits what a listening server accepts from now on. */
export function limitUnread(server: Server | HttpServer, bytes: number, log: Logger): void {
  try {
    setReceiveBuffer(server, bytes);
  } catch (error) {
    log.warn(`receiveBufferBytes has no effect: ${reasonOf(error)}`);
  }
}

/** The larger buffers of one accept thread. */
export class LargeReceiveBuffers {
  readonly #ownBytes: number;
  #left = LARGE_RECEIVE_CONNECTIONS;

  /** @param ownBytes what each connection has */
  constructor(ownBytes: number) {
    this.#ownBytes = ownBytes;
  }

  /** Gives a connection one until it closes, where one is left. */
  give(socket: Socket): void {
    const isUnix = socket.remoteAddress === undefined;
    if (this.#left === 0 || isUnix || this.#ownBytes >= LARGE_RECEIVE_BYTES) return;
    try {
      setReceiveBuffer(socket, LARGE_RECEIVE_BYTES);
    } catch {
      // It goes on with what it has.
      return;
    }
    this.#left--;
    socket.once('close', () => this.#left++);
  }
}
