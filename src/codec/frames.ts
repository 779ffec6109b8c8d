// The framed protocol, version 1: the frames of docs/protocol.md, to bytes and back. APPEND has a file of its own,
// append-frame.ts; what arrives in pieces is put together by frame-parser.ts.
//
// Promises: whatever was decoded had the length its type asks for, and numbers that a JavaScript number holds exactly;
// anything else is PROTOCOL_ERROR. Everything is little-endian. A frame:
//
//     0               4       5       6               8
//     ├───────────────┼───────┼───────┼───────────────┼─── … ───┤
//     │ payloadBytes  │ type  │ flags │ stream id u16 │ payload │
//     │ u32           │ u8    │ u8    │ or 0          │         │

import { getU64, setU64, viewOf } from '../base/bytes.ts';
import { SpillwayError } from '../base/errors.ts';

/** `SPWY` as it stands in the bytes. */
export const PROTOCOL_MAGIC = 0x59575053;
export const PROTOCOL_VERSION = 1;
export const FRAME_HEADER_BYTES = 8;
/** What stands before the records of an APPEND, the frame header included: records begin at a multiple of 8. */
export const APPEND_HEADER_BYTES = 24;
export const PRODUCER_ID_BYTES = 16;
/** Longest token of a HELLO. */
export const MAX_TOKEN_BYTES = 4096;
/** Longest payload of any frame to the server but APPEND: what a client without credit can make the server hold. */
export const MAX_CONTROL_BYTES = 32 + MAX_TOKEN_BYTES;
/** Stream ids of a connection are 1 … this; declaring one again gives it another name. Bounds the server's table of names. */
export const MAX_CONNECTION_STREAMS = 256;
/** Longest frame to the client, header included. */
export const MAX_SERVER_FRAME_BYTES = 65_536;
/** Runs of one ACK: more go into a second. */
export const MAX_ACK_RUNS = 2048;
/** Longest message of an ERROR; what is longer is cut. */
export const MAX_MESSAGE_BYTES = 1024;

export const frameType = {
  hello: 1,
  stream: 2,
  append: 3,
  bye: 4,
  welcome: 16,
  ack: 17,
  credit: 18,
  error: 19,
  drain: 20,
} as const;

/** Flag of an APPEND: the sequences between the last APPEND and this one are settled already, and do not come again. */
export const APPEND_SKIPS = 1;
/** Flags of an APPEND: everything behind its header is compressed. One of them at most. */
export const APPEND_GZIP = 2;
export const APPEND_ZSTD = 4;
/**
 * Longest compressed APPEND, as it comes and as it was before, header included; and what it takes of the credit, however short it is: so
 * the room for what comes out is found before anything is decompressed, and one is decompressed in some tenths of a millisecond.
 */
export const COMPRESSED_APPEND_BYTES = 65_536;
/** Flag of a run: the records were durable before this connection sent them. */
export const RUN_DUPLICATE = 1;
/** Flag of a WELCOME: records of this producer that are sent again are recognised. */
export const WELCOME_REMEMBERS = 1;
/** Flags of a WELCOME: an APPEND may be compressed that way. */
export const WELCOME_GZIP = 2;
export const WELCOME_ZSTD = 4;

export interface FrameHeader {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payloadBytes: number;
}

export interface Frame extends FrameHeader {
  /** A view: of the chunk that held the whole frame, else of memory of its own. */
  readonly payload: Uint8Array;
}

export interface Hello {
  readonly version: number;
  /** 16 bytes, not all zero; undefined: records that are sent again are stored again. */
  readonly producerId: Uint8Array | undefined;
  /** Lowest sequence that the client has not settled. */
  readonly firstSequence: number;
  readonly token: Uint8Array | undefined;
}

export interface Welcome {
  readonly version: number;
  /** WELCOME_REMEMBERS, WELCOME_GZIP, WELCOME_ZSTD, or none of them. */
  readonly flags: number;
  /** Longest APPEND, header included. */
  readonly maxFrameBytes: number;
  /** Longest key (without the identity) and payload together. */
  readonly maxRecordBytes: number;
  readonly credit: number;
  /** After the last sequence of this producer that the server knows to be durable; 0: knows none. */
  readonly durableSequence: number;
}

/** Records side by side in sequence and in the log. */
export interface AckRun {
  readonly firstSequence: number;
  readonly firstOffset: number;
  readonly records: number;
  /** RUN_DUPLICATE or 0. */
  readonly flags: number;
}

export interface Ack {
  /** Everything below is settled: by this and earlier runs, by an ERROR, or skipped. */
  readonly sequence: number;
  readonly runs: readonly AckRun[];
}

export interface ErrorFrame {
  readonly firstSequence: number;
  /** 0: the whole connection, which is then closed. */
  readonly records: number;
  /** From the list in base/errors.ts; a newer server may know more. */
  readonly code: string;
  readonly retryable: boolean;
  readonly retryAfterMs: number;
  readonly message: string;
}

/** What an APPEND takes of the credit. */
export function appendCredit({ flags, payloadBytes }: Pick<FrameHeader, 'flags' | 'payloadBytes'>): number {
  return (flags & (APPEND_GZIP | APPEND_ZSTD)) === 0 ? FRAME_HEADER_BYTES + payloadBytes : COMPRESSED_APPEND_BYTES;
}

export function protocolError(message: string): SpillwayError {
  return new SpillwayError('PROTOCOL_ERROR', message);
}

/** @throws PROTOCOL_ERROR */
export function getExact(v: DataView, at: number): number {
  const value = getU64(v, at);
  if (value > Number.MAX_SAFE_INTEGER) throw protocolError('a sequence or an offset of 2^53 or more');
  return value;
}

/** A frame whose payload is still to be filled in. */
export function newFrame(type: number, payloadBytes: number, flags = 0, streamId = 0): [Buffer, DataView] {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payloadBytes);
  const v = viewOf(frame);
  v.setUint32(0, payloadBytes, true);
  v.setUint8(4, type);
  v.setUint8(5, flags);
  v.setUint16(6, streamId, true);
  return [frame, v];
}

function expectBytes(frame: Frame, name: string, bytes: number): void {
  if (frame.payload.length !== bytes) {
    throw protocolError(`${name}: expected a payload of ${bytes} bytes, got ${frame.payload.length}`);
  }
}

//     8        12        14            16            32              40
//     ├─────────┼─────────┼─────────────┼─────────────┼───────────────┼── … ──┤
//     │ magic   │ version │ tokenBytes  │ producer id │ firstSequence │ token │

export function encodeHello(hello: Hello): Uint8Array {
  const { token, producerId } = hello;
  const [frame, v] = newFrame(frameType.hello, 32 + (token?.length ?? 0));
  v.setUint32(8, PROTOCOL_MAGIC, true);
  v.setUint16(12, hello.version, true);
  v.setUint16(14, token?.length ?? 0, true);
  if (producerId === undefined) frame.fill(0, 16, 32);
  else frame.set(producerId, 16);
  setU64(v, 32, hello.firstSequence);
  if (token !== undefined) frame.set(token, 40);
  return frame;
}

export function decodeHello(frame: Frame): Hello {
  const { payload } = frame;
  const v = viewOf(payload);
  if (payload.length < 32) throw protocolError(`HELLO: expected a payload of 32 bytes or more, got ${payload.length}`);
  if (v.getUint32(0, true) !== PROTOCOL_MAGIC) throw protocolError('HELLO: does not begin with SPWY');
  const version = v.getUint16(4, true);
  // What follows may look different in another version.
  if (version !== PROTOCOL_VERSION) throw protocolError(`HELLO: expected version ${PROTOCOL_VERSION}, got ${version}`);
  const tokenBytes = v.getUint16(6, true);
  expectBytes(frame, 'HELLO', 32 + tokenBytes);
  // Copies: they outlive the chunk. `slice` of a Buffer would be a view.
  const id = new Uint8Array(payload.subarray(8, 8 + PRODUCER_ID_BYTES));
  return {
    version,
    producerId: id.every((b) => b === 0) ? undefined : id,
    firstSequence: getExact(v, 24),
    token: tokenBytes === 0 ? undefined : new Uint8Array(payload.subarray(32)),
  };
}

/** The stream id stands in the frame header, the name is the payload. */
export function encodeStream(streamId: number, name: string): Uint8Array {
  const [frame] = newFrame(frameType.stream, Buffer.byteLength(name), 0, streamId);
  frame.write(name, FRAME_HEADER_BYTES);
  return frame;
}

/** @throws PROTOCOL_ERROR */
export function checkStreamId(streamId: number): void {
  if (streamId <= MAX_CONNECTION_STREAMS) return;
  throw protocolError(`STREAM: expected an id of 1 to ${MAX_CONNECTION_STREAMS}, got ${streamId}`);
}

export function decodeStream(frame: Frame): string {
  const { payload } = frame;
  return Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('utf8');
}

export function encodeBye(): Uint8Array {
  return newFrame(frameType.bye, 0)[0];
}

//     8         10      12              16               20       24
//     ├─────────┼───────┼───────────────┼────────────────┼────────┼─────────────────────┤
//     │ version │ flags │ maxFrameBytes │ maxRecordBytes │ credit │ durableSequence u64 │

export function encodeWelcome(welcome: Welcome): Uint8Array {
  const [frame, v] = newFrame(frameType.welcome, 24);
  v.setUint16(8, welcome.version, true);
  v.setUint16(10, welcome.flags, true);
  v.setUint32(12, welcome.maxFrameBytes, true);
  v.setUint32(16, welcome.maxRecordBytes, true);
  v.setUint32(20, welcome.credit, true);
  setU64(v, 24, welcome.durableSequence);
  return frame;
}

export function decodeWelcome(frame: Frame): Welcome {
  expectBytes(frame, 'WELCOME', 24);
  const v = viewOf(frame.payload);
  return {
    version: v.getUint16(0, true),
    flags: v.getUint16(2, true),
    maxFrameBytes: v.getUint32(4, true),
    maxRecordBytes: v.getUint32(8, true),
    credit: v.getUint32(12, true),
    durableSequence: getExact(v, 16),
  };
}

//     8              16     20         24
//     ├──────────────┼──────┼──────────┼───────────────┬─────────────┬─────────┬───────┼── … ──┤
//     │ sequence u64 │ runs │ reserved │ firstSequence │ firstOffset │ records │ flags │ next  │
//     │              │ u32  │ 0        │ u64           │ u64         │ u32     │ u32   │ run   │

/** @param runs at most MAX_ACK_RUNS */
export function encodeAck(ack: Ack): Uint8Array {
  const [frame, v] = newFrame(frameType.ack, 16 + ack.runs.length * 24);
  setU64(v, 8, ack.sequence);
  v.setUint32(16, ack.runs.length, true);
  v.setUint32(20, 0, true);
  let at = 24;
  for (const run of ack.runs) {
    setU64(v, at, run.firstSequence);
    setU64(v, at + 8, run.firstOffset);
    v.setUint32(at + 16, run.records, true);
    v.setUint32(at + 20, run.flags, true);
    at += 24;
  }
  return frame;
}

export function decodeAck(frame: Frame): Ack {
  const v = viewOf(frame.payload);
  const count = frame.payload.length < 16 ? 0 : v.getUint32(8, true);
  expectBytes(frame, 'ACK', 16 + count * 24);
  const runs: AckRun[] = [];
  for (let i = 0, at = 16; i < count; i++, at += 24) {
    runs.push({
      firstSequence: getExact(v, at),
      firstOffset: getExact(v, at + 8),
      records: v.getUint32(at + 16, true),
      flags: v.getUint32(at + 20, true),
    });
  }
  return { sequence: getExact(v, 0), runs };
}

export function encodeCredit(bytes: number): Uint8Array {
  const [frame, v] = newFrame(frameType.credit, 4);
  v.setUint32(8, bytes, true);
  return frame;
}

export function decodeCredit(frame: Frame): number {
  expectBytes(frame, 'CREDIT', 4);
  return viewOf(frame.payload).getUint32(0, true);
}

//     8               16        20          21    21+n        22+n           26+n           28+n
//     ├───────────────┼─────────┼───────────┼─ … ─┼───────────┼──────────────┼──────────────┼─── … ───┤
//     │ firstSequence │ records │ codeBytes │code │ retryable │ retryAfterMs │ messageBytes │ message │
//     │ u64           │ u32     │ u8 = n    │ASCII│ u8        │ u32          │ u16          │ UTF-8   │

export function encodeError(error: ErrorFrame): Uint8Array {
  const { code } = error;
  const message = Buffer.from(error.message, 'utf8');
  const messageBytes = wholeCharacters(message, MAX_MESSAGE_BYTES);
  const [frame, v] = newFrame(frameType.error, 20 + code.length + messageBytes);
  setU64(v, 8, error.firstSequence);
  v.setUint32(16, error.records, true);
  v.setUint8(20, code.length);
  frame.write(code, 21, 'latin1');
  const at = 21 + code.length;
  v.setUint8(at, error.retryable ? 1 : 0);
  v.setUint32(at + 1, error.retryAfterMs, true);
  v.setUint16(at + 5, messageBytes, true);
  message.copy(frame, at + 7, 0, messageBytes);
  return frame;
}

/** Bytes of UTF-8 up to a bound that end with a whole character. */
function wholeCharacters(text: Uint8Array, maxBytes: number): number {
  if (text.length <= maxBytes) return text.length;
  let end = maxBytes;
  while (end > 0 && (text[end] & 0xc0) === 0x80) end--;
  return end;
}

export function decodeError(frame: Frame): ErrorFrame {
  const { payload } = frame;
  const v = viewOf(payload);
  const codeBytes = payload.length < 20 ? 0 : v.getUint8(12);
  const at = 13 + codeBytes;
  const messageBytes = payload.length < at + 7 ? 0 : v.getUint16(at + 5, true);
  expectBytes(frame, 'ERROR', at + 7 + messageBytes);
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  return {
    firstSequence: getExact(v, 0),
    records: v.getUint32(8, true),
    code: bytes.toString('latin1', 13, at),
    retryable: v.getUint8(at) !== 0,
    retryAfterMs: v.getUint32(at + 1, true),
    message: bytes.toString('utf8', at + 7),
  };
}

export function encodeDrain(): Uint8Array {
  return newFrame(frameType.drain, 0)[0];
}
