// Frames of the protocol for its tests: made by hand, read by the parser, and the codes of what is refused.

import t from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import type { RecordToSend } from '../../src/codec/append-frame.ts';
import { FrameParser } from '../../src/codec/frame-parser.ts';
import { APPEND_HEADER_BYTES, FRAME_HEADER_BYTES, frameType, type Frame } from '../../src/codec/frames.ts';

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
export const record = (payload: string, key: string | null = null, unterminated = false): RecordToSend => ({
  key: key === null ? null : bytes(key),
  payload: bytes(payload),
  unterminated,
});
export const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
export const maxFrameBytes = 1 << 20;
const typesOfServer: readonly number[] = Object.values(frameType).filter((type) => type >= 16);

/** Reads chunks as the side that gets them; payloads are copied, as a later chunk may reuse nothing but must not matter. */
export function read(chunks: readonly Uint8Array[], side?: 'server' | 'client', max = maxFrameBytes): Frame[] {
  const type = chunks[0].length > 4 ? chunks[0][4] : frameType.hello;
  const frames: Frame[] = [];
  const parser = new FrameParser(side ?? (typesOfServer.includes(type) ? 'client' : 'server'), max, {
    onHeader: () => undefined,
    onFrame: (frame) => frames.push({ ...frame, payload: new Uint8Array(frame.payload) }),
  });
  for (const chunk of chunks) parser.push(chunk);
  t.equal(parser.midFrame, false, 'ends with a whole frame');
  return frames;
}

export function one(frame: Uint8Array): Frame {
  const frames = read([frame]);
  t.equal(frames.length, 1);
  return frames[0];
}

export function codeOf(run: () => unknown): string {
  try {
    run();
    return 'none';
  } catch (error) {
    return error instanceof SpillwayError ? error.code : `not ours: ${String(error)}`;
  }
}

/** A frame by hand. */
export function raw(
  type: number,
  payload: Uint8Array,
  { flags = 0, streamId = 0, payloadBytes = payload.length } = {},
): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payloadBytes, 0);
  frame[4] = type;
  frame[5] = flags;
  frame.writeUInt16LE(streamId, 6);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

export const none = new Uint8Array(0);
export const zeros = (length: number): Uint8Array => new Uint8Array(length);
export const appendMin = APPEND_HEADER_BYTES - FRAME_HEADER_BYTES + 16;
