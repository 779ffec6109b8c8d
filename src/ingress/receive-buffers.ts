// How much the kernel may hold of connections that are not read. Left alone it takes 128 KiB of each, and of one that was read
// fast up to tcp_rmem's 6 MiB and more, charged to the container: no sum could hold it.
//
// Promises: connections have receiveBufferBytes, inherited from their listener, and it does not grow.
// Rejected: less for all, and more for a connection while it sends a large body. What had been announced to its client before then
// finds no room and is dropped, and is sent again 200 ms later: a fifth of the requests with 64 clients of 64 KiB.
// Limits: without the addon nothing is limited. A Unix socket needs none: what is not read is booked on its sender.

import type { Server as HttpServer } from 'node:http';
import type { Server } from 'node:net';
import type { Logger } from 'pino';
import { reasonOf } from '../base/errors.ts';
import { native } from '../platform/native.ts';

/** Limits what a listening server accepts from now on. */
export function limitUnread(server: Server | HttpServer, bytes: number, log: Logger): void {
  // Not in node's interface; where there is none, the addon refuses the descriptor.
  const { fd = -1 } = (server as { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  try {
    if (native === undefined) throw new Error('it needs the addon');
    native.limitReceiveBuffer(fd, bytes);
  } catch (error) {
    log.warn(`receiveBufferBytes has no effect: ${reasonOf(error)}`);
  }
}
