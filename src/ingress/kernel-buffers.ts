// How much the kernel may hold of connections: what has come and was not read, and what was written and the client does not take.
//
// Unread    Left alone it takes 128 KiB of each, and of one that was read fast up to tcp_rmem's 6 MiB and more, charged to the container:
//           no sum could hold it. Connections have receiveBufferBytes, inherited from their listener. It grows for the first
//           LARGE_RECEIVE_CONNECTIONS that speak the framed protocol, once they have said who they are: a frame of theirs is larger, and
//           would come piece by piece.
// Unsent    Left alone it takes 4 MiB for a client that reads nothing (tcp_wmem). It takes UNSENT_BYTES, and about as many again as one
//           write brings; what of answers to readers lies there is held in their budget until it is acknowledged (answers.ts).
// Rejected  A smaller receive buffer for all, and a larger one while a connection sends a large body. What had been announced to its
//           client before then finds no room and is dropped, and is sent again 200 ms later: a fifth of the requests with 64 clients
//           of 64 KiB.
// Limits    Without the addon nothing is limited. A Unix socket needs none: what is not read is booked on its sender.

import type { Server as HttpServer } from 'node:http';
import type { Server, Socket } from 'node:net';
import type { Logger } from 'pino';
import { reasonOf } from '../base/errors.ts';
import { LARGE_RECEIVE_BYTES, LARGE_RECEIVE_CONNECTIONS, UNSENT_BYTES } from '../base/limits.ts';
import { native } from '../platform/native.ts';

type Owner = Server | HttpServer | Socket;

/** Not in node's interface; where there is none, the addon refuses the descriptor. */
export function descriptor(owner: Owner): number {
  return (owner as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd ?? -1;
}

/** @throws Error where there is no addon */
function addon(): NonNullable<typeof native> {
  if (native === undefined) throw new Error('it needs the addon');
  return native;
}

/** Limits what a listening server accepts from now on. @param bytes receive buffer */
export function limitKernel(server: Server | HttpServer, bytes: number, log: Logger): void {
  try {
    addon().limitReceiveBuffer(descriptor(server), bytes);
    addon().limitUnsent(descriptor(server), UNSENT_BYTES);
  } catch (error) {
    log.warn(`receiveBufferBytes has no effect: ${reasonOf(error)}`);
  }
}

/** How much of what was written to a connection its client has taken, in bytes from its beginning; Infinity where nobody can tell. */
export function acknowledgedBytes(socket: Socket): number {
  try {
    return socket.bytesWritten - socket.writableLength - addon().unsentBytes(descriptor(socket));
  } catch {
    return Infinity;
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
      addon().limitReceiveBuffer(descriptor(socket), LARGE_RECEIVE_BYTES);
    } catch {
      // It goes on with what it has.
      return;
    }
    this.#left--;
    socket.once('close', () => this.#left++);
  }
}
