// Puts frames together from chunks cut anywhere.
//
// Promises: holds at most one frame, of at most maxFrameBytes, and asks `onHeader` before it takes memory for it; a frame
// that lies in one chunk is a view of it, one that does not is copied once, into memory that begins at a multiple of 8;
// after anything was thrown, nothing more comes out.

import { giveBack } from '../platform/give-back.ts';
import {
  APPEND_GZIP,
  APPEND_SKIPS,
  APPEND_ZSTD,
  COMPRESSED_APPEND_BYTES,
  FRAME_HEADER_BYTES,
  frameType,
  MAX_CONTROL_BYTES,
  MAX_SERVER_FRAME_BYTES,
  protocolError,
  type Frame,
  type FrameHeader,
} from './frames.ts';

interface Shape {
  readonly name: string;
  readonly minBytes: number;
  readonly maxBytes: number;
  /** Flags that have a meaning. */
  readonly flags: number;
  readonly hasStream: boolean;
}

const COMPRESSED = APPEND_GZIP | APPEND_ZSTD;
const APPEND_FLAGS = APPEND_SKIPS | COMPRESSED;
/** Payloads of each type, and who may send it. */
const toServer = new Map<number, Shape>([
  [frameType.hello, { name: 'HELLO', minBytes: 32, maxBytes: MAX_CONTROL_BYTES, flags: 0, hasStream: false }],
  [frameType.stream, { name: 'STREAM', minBytes: 1, maxBytes: MAX_CONTROL_BYTES, flags: 0, hasStream: true }],
  [frameType.append, { name: 'APPEND', minBytes: 32, maxBytes: Infinity, flags: APPEND_FLAGS, hasStream: true }],
  [frameType.bye, { name: 'BYE', minBytes: 0, maxBytes: 0, flags: 0, hasStream: false }],
]);
const serverBytes = MAX_SERVER_FRAME_BYTES - FRAME_HEADER_BYTES;
const toClient = new Map<number, Shape>([
  [frameType.welcome, { name: 'WELCOME', minBytes: 24, maxBytes: 24, flags: 0, hasStream: false }],
  [frameType.ack, { name: 'ACK', minBytes: 16, maxBytes: serverBytes, flags: 0, hasStream: false }],
  [frameType.credit, { name: 'CREDIT', minBytes: 4, maxBytes: 4, flags: 0, hasStream: false }],
  [frameType.error, { name: 'ERROR', minBytes: 20, maxBytes: serverBytes, flags: 0, hasStream: false }],
  [frameType.drain, { name: 'DRAIN', minBytes: 0, maxBytes: 0, flags: 0, hasStream: false }],
]);

function checkHeader(shapes: ReadonlyMap<number, Shape>, header: FrameHeader, maxFrameBytes: number): void {
  const { type, flags, streamId, payloadBytes } = header;
  const shape = shapes.get(type);
  if (shape === undefined) throw protocolError(`frame type ${type} is not known here`);
  const isCompressed = type === frameType.append && (flags & COMPRESSED) !== 0;
  const longest = isCompressed ? Math.min(maxFrameBytes, COMPRESSED_APPEND_BYTES) : maxFrameBytes;
  const maxBytes = Math.min(shape.maxBytes, longest - FRAME_HEADER_BYTES);
  const minBytes = isCompressed ? 1 : shape.minBytes;
  if (payloadBytes < minBytes || payloadBytes > maxBytes) {
    throw protocolError(`${shape.name}: expected a payload of ${minBytes} to ${maxBytes} bytes, got ${payloadBytes}`);
  }
  if ((flags & ~shape.flags) !== 0 || (isCompressed && (flags & COMPRESSED) === COMPRESSED))
    throw protocolError(`${shape.name}: flags ${flags} are not known`);
  if ((streamId !== 0) !== shape.hasStream) {
    throw protocolError(`${shape.name}: expected ${shape.hasStream ? 'a' : 'no'} stream id, got ${streamId}`);
  }
}

export interface FrameHandlers {
  /** Once per frame, as soon as its header is there and checked. May throw to refuse it. */
  onHeader(header: FrameHeader): void;
  /** Once per frame, when it is complete. The payload is there for the time of the call: it may be a view of the chunk. */
  onFrame(frame: Frame): void;
}

export class FrameParser {
  readonly #shapes: ReadonlyMap<number, Shape>;
  readonly #maxFrameBytes: number;
  readonly #handlers: FrameHandlers;
  /** A header of which only a part has arrived. */
  readonly #headBytes = new Uint8Array(FRAME_HEADER_BYTES);
  readonly #head = new DataView(this.#headBytes.buffer);
  #headFilled = 0;
  /** A frame of which only a part has arrived. */
  #header: FrameHeader | undefined;
  #body: Uint8Array | undefined;
  #bodyFilled = 0;
  #failed = false;

  /** @param side who reads: it decides which types there are */
  constructor(side: 'server' | 'client', maxFrameBytes: number, handlers: FrameHandlers) {
    this.#shapes = side === 'server' ? toServer : toClient;
    this.#maxFrameBytes = maxFrameBytes;
    this.#handlers = handlers;
  }

  /** Whether a frame has begun that is not complete. */
  get midFrame(): boolean {
    return this.#headFilled > 0 || this.#header !== undefined;
  }

  /** Nothing more comes out, and what was held is let go. Also from within a handler. */
  stop(): void {
    this.#failed = true;
    this.#body = undefined;
  }

  /** @throws PROTOCOL_ERROR, and what the handlers throw */
  push(chunk: Uint8Array): void {
    try {
      this.#push(chunk);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  #push(chunk: Uint8Array): void {
    let at = 0;
    while (!this.#failed && at < chunk.length) {
      if (this.#header === undefined) {
        const taken = Math.min(FRAME_HEADER_BYTES - this.#headFilled, chunk.length - at);
        this.#headBytes.set(chunk.subarray(at, at + taken), this.#headFilled);
        this.#headFilled += taken;
        at += taken;
        if (this.#headFilled < FRAME_HEADER_BYTES) return;
        this.#readHeader();
      }
      at = this.#readBody(chunk, at);
    }
  }

  #readHeader(): void {
    const v = this.#head;
    const header = {
      payloadBytes: v.getUint32(0, true),
      type: v.getUint8(4),
      flags: v.getUint8(5),
      streamId: v.getUint16(6, true),
    };
    this.#headFilled = 0;
    checkHeader(this.#shapes, header, this.#maxFrameBytes);
    this.#handlers.onHeader(header);
    this.#header = header;
  }

  /** @returns where in the chunk the next frame begins, or its end */
  #readBody(chunk: Uint8Array, from: number): number {
    const header = this.#header!;
    const missing = header.payloadBytes - this.#bodyFilled;
    const to = Math.min(chunk.length, from + missing);
    if (this.#bodyFilled === 0 && to - from === missing) {
      this.#emit(header, chunk.subarray(from, to), false);
      return to;
    }
    // Every byte is written before anybody sees it.
    this.#body ??= Buffer.allocUnsafeSlow(header.payloadBytes);
    this.#body.set(chunk.subarray(from, to), this.#bodyFilled);
    this.#bodyFilled += to - from;
    if (to - from === missing) this.#emit(header, this.#body, true);
    return to;
  }

  #emit(header: FrameHeader, payload: Uint8Array, own: boolean): void {
    this.#header = undefined;
    this.#body = undefined;
    this.#bodyFilled = 0;
    this.#handlers.onFrame({ ...header, payload });
    if (own) giveBack(payload);
  }
}
