// A proxy in front of a gateway, on a port that stays while gateways come and go. It understands just enough of HTTP and of the
// framed protocol to see where a request and where an answer begins and ends, and cuts connections there:
//
//     client ──▶ ┌─────────┐ ──▶ gateway        request   in the midst of it: so many bytes go through, then both ends are cut
//            ◀── │ cutter  │ ◀──                sent      all of it went through, nothing of the answer was waited for
//                └─────────┘                    answer    the gateway has answered: so many bytes of that go through, then cut

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { frameType } from '../../src/codec/frames.ts';

export type Protocol = 'http' | 'framed';

export interface Cut {
  readonly where: 'request' | 'sent' | 'answer';
  /** Part of the message that goes through, from 0 to below 1. */
  readonly part: number;
}

export interface Done extends Cut {
  readonly protocol: Protocol;
  /** For `answer`: it said that records are durable. */
  readonly committed: boolean;
  /** Idempotency-Key of the request. */
  readonly key: string | undefined;
}

interface Message {
  readonly bytes: Buffer;
  /** A request with records, or an answer to one. */
  readonly counts: boolean;
  readonly committed: boolean;
  readonly key: string | undefined;
}

/** Length of the message that begins the bytes, and what it is; undefined while that cannot be told. */
type Measure = (bytes: Buffer) => { length: number; counts: boolean; committed: boolean; key?: string } | undefined;

const measureHttp: Measure = (bytes) => {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const head = bytes.toString('latin1', 0, end + 2);
  const key = /\r\nidempotency-key: ([^\r]*)\r\n/i.exec(head)?.[1];
  const known = { counts: true, committed: head.startsWith('HTTP/1.1 200'), ...(key === undefined ? {} : { key }) };
  if (/\r\ntransfer-encoding: chunked\r\n/i.test(head)) {
    // Chunks hold no such line: they are records that the clients of the proofs make.
    const last = bytes.indexOf('0\r\n\r\n', end);
    return last < 0 ? undefined : { ...known, length: last + 5 };
  }
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(head)?.[1] ?? '0';
  return { ...known, length: end + 4 + Number(length) };
};

const measureFrame: Measure = (bytes) => {
  if (bytes.length < 8) return undefined;
  const type = bytes[4];
  const committed = type === frameType.ack;
  return { length: 8 + bytes.readUInt32LE(0), counts: committed || type === frameType.append, committed };
};

class Splitter {
  readonly #measure: Measure;
  #rest: Buffer = Buffer.alloc(0);

  constructor(protocol: Protocol) {
    this.#measure = protocol === 'http' ? measureHttp : measureFrame;
  }

  push(chunk: Buffer): Message[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const messages: Message[] = [];
    for (
      let m = this.#measure(this.#rest);
      m !== undefined && m.length <= this.#rest.length;
      m = this.#measure(this.#rest)
    ) {
      const { length, counts, committed, key } = m;
      messages.push({ bytes: this.#rest.subarray(0, length), counts, committed, key });
      this.#rest = this.#rest.subarray(length);
    }
    return messages;
  }
}

export class Cutter {
  readonly protocol: Protocol;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Port of the gateway; 0 while there is none. */
  target = 0;
  /** Asked for each request: whether and where to cut. */
  plan: () => Cut | undefined = () => undefined;
  /** Told of each cut, before the client can notice. */
  onCut: (done: Done) => void = () => undefined;

  private constructor(protocol: Protocol) {
    this.protocol = protocol;
    this.#server = createServer({ noDelay: true }, (client) => this.#accept(client));
  }

  static async listen(protocol: Protocol): Promise<Cutter> {
    const cutter = new Cutter(protocol);
    cutter.#server.listen(0, '127.0.0.1');
    await once(cutter.#server, 'listening');
    return cutter;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(client: Socket): void {
    this.#keep(client);
    // As a port that nobody listens on.
    if (this.target === 0) return void client.destroy();
    const gateway = connect({ host: '127.0.0.1', port: this.target, noDelay: true });
    this.#keep(gateway);
    let over = false;
    const end = (): void => {
      over = true;
      client.destroy();
      gateway.destroy();
    };
    client.on('close', end);
    gateway.on('close', end);
    const up = new Splitter(this.protocol);
    const down = new Splitter(this.protocol);
    /** Of requests under way, first to last, as far as they count. */
    const cuts: { readonly cut: Cut | undefined; readonly key: string | undefined }[] = [];
    const cutNow = (cut: Cut, to: Socket, bytes: Buffer, committed: boolean, key: string | undefined): void => {
      over = true;
      const through = bytes.subarray(0, Math.floor(bytes.length * cut.part));
      this.onCut({ ...cut, protocol: this.protocol, committed, key });
      if (through.length === 0) end();
      else to.write(through, end);
    };
    client.on('data', (chunk: Buffer) => {
      for (const { bytes, counts, key } of up.push(chunk)) {
        if (over) return;
        const cut = counts ? this.plan() : undefined;
        if (cut !== undefined && cut.where !== 'answer') {
          cutNow(cut.where === 'sent' ? { ...cut, part: 1 } : cut, gateway, bytes, false, key);
          return;
        }
        if (counts) cuts.push({ cut, key });
        gateway.write(bytes);
      }
    });
    gateway.on('data', (chunk: Buffer) => {
      for (const { bytes, counts, committed } of down.push(chunk)) {
        if (over) return;
        const next = counts ? cuts.shift() : undefined;
        if (next?.cut !== undefined) {
          cutNow(next.cut, client, bytes, committed, next.key);
          return;
        }
        client.write(bytes);
      }
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
  }
}
