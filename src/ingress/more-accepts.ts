// More than one new connection in each turn of the event loop.
//
// Of a listener node takes one in a turn (since libuv 1.46), and under load a turn has work of hundreds of connections: whoever came then
// waited for as many turns as there were others before it. Beside a flood on 900 connections that was more than 10 s.
//
//     kernel's queue ──┬─▶ the listener      one in a turn
//                      ├─▶ a helper          one in a turn; hands it over as if the listener had taken it
//                      └─▶ …                 each by a descriptor of its own of the same socket
//
// Rejected: more sockets on the port (SO_REUSEPORT). Node 20 has none, and the kernel deals connections out before anybody takes them.

import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { ACCEPTS_PER_TURN } from '../base/limits.ts';
import { native } from '../platform/native.ts';
import { descriptor } from './kernel-buffers.ts';

/** What node keeps of a server's options, and does not name in its types. */
interface Told {
  readonly allowHalfOpen?: boolean;
  readonly noDelay?: boolean;
}

/** @returns the helpers of a server that listens: to be closed with it. None without the addon */
export async function acceptMore(server: Server | HttpServer, backlog: number): Promise<Server[]> {
  if (native === undefined) return [];
  const { allowHalfOpen = false, noDelay = false } = server as Told;
  const helpers: Server[] = [];
  for (let i = 1; i < ACCEPTS_PER_TURN; i++) {
    const helper = createServer({ allowHalfOpen, noDelay }, (socket) => server.emit('connection', socket));
    helpers.push(helper);
    // It tells the kernel to listen once more, and with this backlog.
    helper.listen({ fd: native.duplicate(descriptor(server)), backlog });
    await once(helper, 'listening');
  }
  return helpers;
}
