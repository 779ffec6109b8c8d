// One request of a connection at a time. node:http parses what is pipelined and would hand out all of it at once: a client could
// have as many requests under way as it cares to send, and what stands behind an answer that closes the connection would be
// carried out, and never answered.
//
//     request ─▶ its turn? ──yes──▶ handled ──answered──▶ the next, or the socket is read on
//                   │ no
//                   └─▶ waits; the socket is not read meanwhile; more than MAX_PIPELINED: the connection is cut

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { MAX_PIPELINED } from '../base/limits.ts';

type Handle = (req: IncomingMessage, res: ServerResponse) => Promise<void>;

interface Line {
  /** The request that has its turn, and its answer. */
  current: { readonly req: IncomingMessage; readonly res: ServerResponse } | undefined;
  /** The last one that was answered, where its body had not come whole: the rest is parsed and thrown away. */
  unread: IncomingMessage | undefined;
  /** The socket is not read, as requests wait. */
  paused: boolean;
  /** Nothing more is taken: the connection ends behind the last answer. */
  ending: boolean;
  readonly waiting: { readonly req: IncomingMessage; readonly res: ServerResponse }[];
}

export class Turns {
  readonly #handle: Handle;
  readonly #lines = new WeakMap<Socket, Line>();

  /** @param handle resolves once it has answered; never rejects */
  constructor(handle: Handle) {
    this.#handle = handle;
  }

  take(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req;
    let line = this.#lines.get(socket);
    if (line === undefined)
      this.#lines.set(
        socket,
        (line = { current: undefined, unread: undefined, paused: false, ending: false, waiting: [] }),
      );
    if (line.ending) return;
    if (line.current === undefined) return void this.#run(socket, line, req, res);
    if (line.waiting.length === MAX_PIPELINED) {
      line.ending = true;
      line.waiting.length = 0;
      socket.destroy();
      return;
    }
    line.waiting.push({ req, res });
    line.paused = true;
    socket.pause();
  }

  /** Ends the connection behind the answer under way. @returns false where there is none, or it has not begun and its request has not come whole */
  endAfter(socket: Socket): boolean {
    const line = this.#lines.get(socket);
    if (line?.current === undefined) return false;
    const { req, res } = line.current;
    if (!req.complete && !res.headersSent) return false;
    line.ending = true;
    return true;
  }

  /** The last answer of the connection has been given, or that to the request of which more is still parsed. */
  hasAnswered(socket: Socket): boolean {
    const line = this.#lines.get(socket);
    return line?.ending === true || line?.unread?.complete === false;
  }

  async #run(socket: Socket, line: Line, req: IncomingMessage, res: ServerResponse): Promise<void> {
    line.current = { req, res };
    await this.#handle(req, res);
    line.current = undefined;
    line.unread = req.complete ? undefined : req;
    // An answer that closes the connection is the last: RFC 9112, 9.6.
    if (!res.shouldKeepAlive || socket.destroyed) {
      line.ending = true;
      line.waiting.length = 0;
      return;
    }
    const next = line.waiting.shift();
    if (next !== undefined) return this.#run(socket, line, next.req, next.res);
    if (line.ending) socket.destroySoon();
    else if (line.paused) socket.resume();
    line.paused = false;
  }
}
