// Between a client and a gateway: cuts each connection after so many bytes of either direction.

import net, { type AddressInfo, type Socket } from 'node:net';

export class CuttingProxy {
  readonly #server: net.Server;
  readonly #sockets = new Set<Socket>();
  cuts = 0;
  /** Bytes after which the next connection is cut; Infinity: never. */
  nextCut: () => number;

  private constructor(port: () => number, nextCut: () => number) {
    this.nextCut = nextCut;
    this.#server = net.createServer((client) => this.#pair(client, net.connect(port(), '127.0.0.1')));
  }

  /** @param port asked for each connection: a gateway may come back elsewhere */
  static async start(
    t: { teardown(action: () => unknown): unknown },
    port: () => number,
    nextCut: () => number,
  ): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(port, nextCut);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => proxy.stop());
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    return closed;
  }

  #pair(client: Socket, gateway: Socket): void {
    let left = this.nextCut();
    const both = [client, gateway];
    const forward = (from: Socket, to: Socket): void => {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.on('data', (chunk: Buffer) => {
        if (left <= 0) return;
        const taken = chunk.subarray(0, left);
        left -= taken.length;
        to.write(taken, () => {
          if (left > 0 || client.destroyed) return;
          this.cuts++;
          for (const socket of both) socket.destroy();
        });
      });
    };
    forward(client, gateway);
    forward(gateway, client);
  }
}
