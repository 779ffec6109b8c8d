// What a client hears while it waits: a CREDIT of nothing, where nothing else was written since the last beat. So it can tell a gateway
// that holds its records, on a full disk for one, from one that has died.

import type { Socket } from 'node:net';
import { encodeCredit } from '../codec/frames.ts';

export class Pulse {
  readonly #socket: Socket;
  readonly #owes: () => boolean;
  #writtenBytes = 0;

  /** @param owes whether the client waits for something */
  constructor(socket: Socket, owes: () => boolean) {
    this.#socket = socket;
    this.#owes = owes;
  }

  /** To be called every ALIVE_MS. */
  beat(): void {
    const { bytesWritten, writableLength, writable } = this.#socket;
    // What it has not read yet is enough to hear.
    const silent = writable && writableLength === 0 && bytesWritten === this.#writtenBytes;
    if (silent && this.#owes()) this.#socket.write(encodeCredit(0));
    this.#writtenBytes = this.#socket.bytesWritten;
  }
}
