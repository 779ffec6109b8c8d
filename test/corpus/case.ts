// What a case of the corpus is: bytes that a client should not send, or need not, and what they get. The tables beside this file hold
// them; run.ts sends them to a gateway and judges; docs/bad-input.md is printed from them (page.ts).

import { once } from 'node:events';
import type { ErrorCode } from '../../src/base/errors.ts';
import type { CounterName } from '../../src/ingress/counters.ts';
import { recordsOf, type Figures, type Raw } from '../support/gateway-talk.ts';

/** Where a case happens. */
export interface Place {
  /** The stream that is its own, unless it names one. */
  readonly stream: string;
  /** A token that is known, where tokens are asked for. */
  readonly token: string;
}

/** What a step that is more than bytes has at hand. */
export interface Talk {
  readonly wire: Raw;
  figures(): Promise<Figures>;
  /** Asks again and again. @throws Error where it does not come in time */
  until(condition: (figures: Figures) => boolean, what: string): Promise<unknown>;
  /** The addresses of the gateway: for further connections. */
  readonly http: number;
  readonly tcp: number;
}

/** Bytes to write (text is Latin-1: each character a byte), or something to do. */
export type Step = Uint8Array | string | ((talk: Talk) => unknown);
export type Bytes = Uint8Array | string;

/**
 * What the client hears, in order. HTTP: a status that is no error, or the code of an error, whose status is that of docs/errors.md.
 * Frames: `WELCOME`; `ACK 2`, records acknowledged in a row; `1 × CODE`, so many records refused; a code alone, which ends the
 * connection. `closed`: the gateway closes, and says nothing more. Without it the connection is left open, and the client leaves.
 */
export type Said = ErrorCode | number | `ACK ${number}` | `${number} × ${ErrorCode}` | 'WELCOME' | 'closed';

export interface Case {
  /** In words: also the handle of `--only`, and a line of docs/bad-input.md. */
  readonly name: string;
  readonly send: (at: Place) => readonly Step[];
  readonly gets: readonly Said[];
  /** Records of its stream that are there afterwards; none, unless it says which. */
  readonly stores?: (at: Place) => readonly Bytes[];
  /** Instead: any number of these from the first on, each with its ACK, which `gets` leaves out. */
  readonly mayStore?: () => readonly Bytes[];
  /** What counts it; unless it is told, the counter of what it gets. */
  readonly moves?: CounterName;
  /** The message of the last error, where it is part of the promise. */
  readonly says?: RegExp;
  /** A stream that has options of its own, instead of one that nobody else uses. */
  readonly stream?: string;
  /** Only where the Node of the gateway has no zstd. */
  readonly withoutZstd?: true;
  /** Takes as long as a deadline that no option shortens: in the full run alone. */
  readonly full?: true;
}

export interface Area {
  readonly name: string;
  /** What it is about, for the page. */
  readonly about: string;
  readonly to: 'http' | 'tcp' | 'unix';
  /** The gateway it needs. */
  readonly gateway: 'plain' | 'tokens' | 'zstd';
  readonly cases: readonly Case[];
}

export const KIB = 1024;
export const MIB = 1024 * KIB;
/** The stream of the gateways that has a JSON Schema: objects, `n` an integer where it is there. */
export const SCHEMA_STREAM = 'with-schema';

export const latin1 = (bytes: Bytes): Uint8Array => (typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
export const join = (...parts: readonly Bytes[]): Uint8Array => Buffer.concat(parts.map(latin1));

/** Request line and Host of a POST of records. */
export const line = (stream: string, version = '1.1'): string =>
  `POST ${recordsOf(stream)} HTTP/${version}\r\nHost: x\r\n`;
export const TEXT = 'Content-Type: text/plain\r\n';
export const LINES = 'Content-Type: application/x-ndjson\r\n';
export const JSON_TYPE = 'Content-Type: application/json\r\n';

/** A whole POST, well-formed but for its headers. @param query with its `?` */
export function post(stream: string, headers: string, body: Bytes, query = ''): Uint8Array {
  const bytes = latin1(body);
  const first = `POST ${recordsOf(stream)}${query} HTTP/1.1\r\nHost: x\r\n`;
  return join(`${first}${headers}Content-Length: ${bytes.length}\r\n\r\n`, bytes);
}

/** A POST in chunks: the text of the chunks is the case's. */
export const chunked = (stream: string, chunks: Bytes, headers = TEXT): Uint8Array =>
  join(`${line(stream)}${headers}Transfer-Encoding: chunked\r\n\r\n`, chunks);

export const chunk = (bytes: Bytes): Uint8Array => join(`${latin1(bytes).length.toString(16)}\r\n`, bytes, '\r\n');

/** One write for each byte, the next when the kernel has the one before. */
export const byteByByte =
  (bytes: Bytes): Step =>
  async ({ wire }) => {
    for (const byte of latin1(bytes)) {
      if (!wire.socket.writable) return;
      await new Promise((resolve) => wire.socket.write(Buffer.of(byte), resolve));
    }
  };

/** The client closes its side, and listens on. */
export const finish: Step = ({ wire }) => void wire.socket.end();

/** Writes the same again and again, until something comes back or the connection ends. */
export const untilAnswered =
  (bytes: Bytes): Step =>
  async ({ wire }) => {
    while (wire.received.length === 0 && !wire.isEnded && wire.socket.writable) {
      wire.socket.write(latin1(bytes));
      await drained(wire);
      // What came is looked at between the writes.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };

/** Waits for room in the kernel, or the end of the connection. */
async function drained(wire: Raw): Promise<void> {
  if (wire.socket.destroyed || !wire.socket.writableNeedDrain) return;
  const over = new AbortController();
  const { signal } = over;
  await Promise.race([once(wire.socket, 'drain', { signal }), once(wire.socket, 'close', { signal })]).catch(
    () => undefined,
  );
  over.abort();
}

/** Waits until one more connection was cut for not reading its answers. */
export const untilStalled: Step = async ({ figures, until }) => {
  const before = await figures();
  await until(({ stalled }) => stalled > before.stalled, 'it is cut');
};
