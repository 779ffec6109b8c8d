// The framed protocol, as the server and as the client reads it: frames cut anywhere, and what stands in them.
//
//     flags u8 · seed of the cuts u16 · bytes of the connection
//
// flags: 1 = the client's side, 2 = a producer without an id, 4 = small frames only, 8 = a byte at a time.

import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { isUtf8 } from 'node:buffer';
import { SpillwayError } from '../../../src/base/errors.ts';
import { expandAppend } from '../../../src/codec/append-codec.ts';
import { decodeAppend, encodeAppend, framesOf, payloadsOf } from '../../../src/codec/append-frame.ts';
import { FrameParser } from '../../../src/codec/frame-parser.ts';
import * as f from '../../../src/codec/frames.ts';
import { Random } from '../random.ts';
import { bytesOf, must, outcomeOf, Taker, type Target } from '../target.ts';

const CLIENT = 1;
const NO_ID = 2;
const MOST_BYTES = 65_536;
/** Of a frame that is compressed, and not what it says, there are some more. */
const REFUSALS = ['PROTOCOL_ERROR', 'BAD_ENCODING', 'BODY_TOO_LARGE', 'UNSUPPORTED_ENCODING'] as const;
const SMALL = 4;
const BYTEWISE = 8;
/** Around each chunk: who reads there gets something else in every cut. */
const GUARD = 64;

interface Read {
  /** Each frame: header, payload, and what was decoded of it. */
  readonly frames: readonly {
    readonly header: f.FrameHeader;
    readonly payload: Uint8Array;
    readonly decoded: string;
  }[];
  readonly error: string;
}

/** A Buffer, which has a say of its own in how it becomes JSON, is written as other bytes are. */
function plain(value: unknown): string {
  return JSON.stringify(value, function (this: Record<string, unknown>, key, v: unknown) {
    const raw = this[key];
    return raw instanceof Uint8Array ? Buffer.from(raw).toString('hex') : v;
  });
}

function decodeAny(
  frame: f.Frame,
  identity: boolean,
): { readonly value: unknown; readonly again: Uint8Array | undefined } {
  const { type, payload, streamId, flags } = frame;
  switch (type) {
    case f.frameType.hello: {
      const value = f.decodeHello(frame);
      return { value, again: f.encodeHello(value) };
    }
    case f.frameType.stream: {
      const value = f.decodeStream(frame);
      return { value, again: isUtf8(payload) ? f.encodeStream(streamId, value) : undefined };
    }
    case f.frameType.append: {
      let value: unknown;
      expandAppend(frame, MOST_BYTES, (whole) => {
        must(whole.payload.length < f.COMPRESSED_APPEND_BYTES || whole === frame, 'no more comes out than may');
        value = appendOf({ ...whole, payload: new Uint8Array(whole.payload) }, identity, flags);
      });
      return { value, again: undefined };
    }
    case f.frameType.welcome: {
      const value = f.decodeWelcome(frame);
      return { value, again: f.encodeWelcome(value) };
    }
    case f.frameType.ack: {
      const value = f.decodeAck(frame);
      const reserved = Buffer.from(payload).readUInt32LE(12);
      return { value, again: reserved === 0 ? f.encodeAck(value) : undefined };
    }
    case f.frameType.credit: {
      const value = f.decodeCredit(frame);
      return { value, again: f.encodeCredit(value) };
    }
    case f.frameType.error: {
      const value = f.decodeError(frame);
      const flag = payload[13 + payload[12]];
      const text = payload.subarray(20 + payload[12]);
      const isPlain = flag <= 1 && isUtf8(text) && text.length <= f.MAX_MESSAGE_BYTES;
      return { value, again: isPlain ? f.encodeError(value) : undefined };
    }
    default:
      return { value: null, again: undefined };
  }
}

/** An APPEND's records; those that are written again are the same. */
function appendOf(frame: f.Frame, identity: boolean, flags: number): unknown {
  const append = decodeAppend(frame, identity);
  const { frames, firstSequence, records } = append;
  must(frames.length <= frame.payload.length - 16, 'records lie in the frame');
  const payloads = payloadsOf(frames);
  must(payloads.length === records, 'each record has a payload', () => `${payloads.length} of ${records}`);
  const reserved = identity ? 24 : 0;
  let at = 0;
  let largest = 0;
  const v = new DataView(frames.buffer, frames.byteOffset, frames.length);
  const toSend = payloads.map((payload) => {
    const keyBytes = v.getUint16(at + 14, true);
    const key = frames.subarray(at + 16 + reserved, at + 16 + keyBytes);
    must(payload.byteOffset === frames.byteOffset + at + 16 + keyBytes, 'a payload stands behind its key');
    largest = Math.max(largest, key.length + payload.length);
    const unterminated = (frames[at + 6] & 1) !== 0;
    at += (16 + keyBytes + payload.length + 7) & ~7;
    return { key: key.length === 0 ? null : key, payload, unterminated };
  });
  must(at === frames.length, 'records fill the frame');
  must(largest === append.largestBytes, 'the largest record is known', () => `${append.largestBytes}, is ${largest}`);
  for (const from of [0, records >> 1]) {
    const part = framesOf(append, firstSequence + from, records - from);
    must(payloadsOf(part).length === records - from, 'a part of the records is that part');
  }
  const again = encodeAppend({ streamId: frame.streamId, firstSequence, flags }, toSend, identity);
  const back = decodeAppend({ ...frame, payload: again.subarray(8) }, identity);
  must(again.length === frame.payload.length + 8, 'written again it is as long');
  must(plain(payloadsOf(back.frames)) === plain(payloads), 'written again it holds the same');
  return { firstSequence, records, largest, payloads, keys: toSend.map((r) => r.key) };
}

function read(chunks: readonly Uint8Array[], flags: number): Read {
  const frames: { header: f.FrameHeader; payload: Uint8Array; decoded: string }[] = [];
  let headers = 0;
  const parser = new FrameParser(
    (flags & CLIENT) === 0 ? 'server' : 'client',
    (flags & SMALL) === 0 ? MOST_BYTES : 256,
    {
      onHeader: () => void headers++,
      onFrame: (frame) => {
        const { payload, payloadBytes } = frame;
        must(payload.length === payloadBytes, 'a payload is as long as its header says');
        const chunk = chunks.find((c) => c.buffer === payload.buffer);
        const inside =
          chunk === undefined ||
          (payload.byteOffset >= chunk.byteOffset &&
            payload.byteOffset + payload.length <= chunk.byteOffset + chunk.length);
        must(inside, 'no payload reaches out of its chunk');
        const header = { type: frame.type, flags: frame.flags, streamId: frame.streamId, payloadBytes };
        const outcome = outcomeOf(REFUSALS, () => decodeAny(frame, (flags & NO_ID) === 0));
        const decoded = 'refused' in outcome ? outcome.refused.message : plain(outcome.value.value);
        const again = 'refused' in outcome ? undefined : outcome.value.again;
        if (again !== undefined) {
          const same = again[4] === frame.type && Buffer.compare(again.subarray(8), payload) === 0;
          must(same, 'what was decoded is encoded to the same', () => `type ${frame.type}: ${decoded}`);
        }
        frames.push({ header, payload: new Uint8Array(payload), decoded });
      },
    },
  );
  let error = '';
  for (const chunk of chunks) {
    try {
      parser.push(chunk);
    } catch (thrown) {
      if (!(thrown instanceof SpillwayError) || thrown.code !== 'PROTOCOL_ERROR') throw thrown;
      must(error === '', 'after an error nothing comes out');
      error = thrown.message;
    }
  }
  must(headers === frames.length || headers === frames.length + 1, 'each frame was announced');
  return { frames, error };
}

/** A chunk with other bytes around it. */
function guarded(bytes: Uint8Array, guard: number): Uint8Array {
  const memory = new Uint8Array(bytes.length + 2 * GUARD).fill(guard);
  memory.set(bytes, GUARD);
  return memory.subarray(GUARD, GUARD + bytes.length);
}

function run(input: Uint8Array): void {
  const t = new Taker(input);
  const flags = t.u8();
  const random = new Random(t.u16());
  const bytes = t.rest();
  const whole = read([guarded(bytes, 0xaa)], flags);
  let at = 0;
  for (const { header, payload } of whole.frames) {
    must(Buffer.compare(payload, bytes.subarray(at + 8, at + 8 + header.payloadBytes)) === 0, 'a payload is what came');
    at += 8 + header.payloadBytes;
  }
  const chunks: Uint8Array[] = [];
  for (let from = 0; from < bytes.length;) {
    const length = (flags & BYTEWISE) === 0 ? random.below(1 << random.below(9)) : 1;
    chunks.push(guarded(bytes.subarray(from, from + length), 0x55));
    from += length;
  }
  const cut = read(chunks, flags);
  must(plain(cut) === plain(whole), 'cut anywhere, the same frames', () =>
    `${plain(cut)} ${plain(whole)}`.slice(0, 500),
  );
}

const u32 = fc.nat(2 ** 32 - 1);
const exact = fc.oneof(fc.nat(1000), fc.maxSafeNat());
const small = fc.uint8Array({ maxLength: 24 });
const name = fc.string({ maxLength: 12 }).filter((s) => s !== '');
const records = fc.array(fc.record({ key: fc.option(small), payload: small, unterminated: fc.boolean() }), {
  minLength: 1,
  maxLength: 4,
});
const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
const toServer = fc.oneof(
  fc
    .tuple(fc.option(id), exact, fc.option(small))
    .map(([producerId, firstSequence, token]) =>
      f.encodeHello({ version: 1, producerId: producerId ?? undefined, firstSequence, token: token ?? undefined }),
    ),
  fc.tuple(fc.integer({ min: 1, max: 300 }), name).map(([streamId, n]) => f.encodeStream(streamId, n)),
  fc
    .tuple(exact, records, fc.boolean(), fc.nat(1))
    .map(([firstSequence, r, identity, flag]) =>
      encodeAppend({ streamId: 1, firstSequence, flags: flag }, r, identity),
    ),
  fc.tuple(exact, records, fc.boolean(), fc.nat(1)).map(([firstSequence, r, identity, flag]) => {
    const whole = encodeAppend({ streamId: 1, firstSequence, flags: 0 }, r, identity);
    const [frame] = f.newFrame(f.frameType.append, 0, flag | f.APPEND_GZIP, 1);
    const payload = gzipSync(whole.subarray(f.FRAME_HEADER_BYTES), { level: 1 });
    frame.writeUInt32LE(payload.length, 0);
    return Buffer.concat([frame, payload]);
  }),
  fc.constant(f.encodeBye()),
);
const run24 = fc.record({ firstSequence: exact, firstOffset: exact, records: u32, flags: fc.nat(1) });
const toClient = fc.oneof(
  fc
    .record({
      version: fc.constant(1),
      flags: fc.nat(1),
      maxFrameBytes: u32,
      maxRecordBytes: u32,
      credit: u32,
      durableSequence: exact,
    })
    .map(f.encodeWelcome),
  fc.record({ sequence: exact, runs: fc.array(run24, { maxLength: 3 }) }).map(f.encodeAck),
  u32.map(f.encodeCredit),
  fc
    .record({
      firstSequence: exact,
      records: u32,
      code: fc.constantFrom('DROPPED', 'POISONED'),
      retryable: fc.boolean(),
      retryAfterMs: u32,
      message: fc.string(),
    })
    .map(f.encodeError),
  fc.constant(f.encodeDrain()),
);
const connection = fc.oneof(
  fc.tuple(fc.constantFrom(0, 2, 4, 6, 8, 10), fc.array(toServer, { maxLength: 5 })),
  fc.tuple(fc.constantFrom(1, 5, 9), fc.array(toClient, { maxLength: 5 })),
);

export const frames: Target = {
  name: 'frames',
  promise:
    'frames cut anywhere come out as those in one piece, lead nowhere outside, and are encoded to what they were',
  maxBytes: 1024,
  quick: 25_000,
  leastCovered: 105,
  dictionary: bytesOf(
    'SPWY',
    '\x20\0\0\0\x01\0\0\0',
    '\x04\0\0\0\x12\0\0\0',
    '\0\0\0\0\x04\0\0\0',
    '\x10\0\0\0\x11\0\0\0',
    '\x18\0\0\0\x10\0\0\0',
    '\x20\0\0\0\x03\0\x01\0',
    '\xff\xff\xff\xff',
    '\0\0\x20\0',
    '\x18\0',
  ),
  structured: fc
    .tuple(connection, fc.nat(65_535))
    .map(([[flags, list], cuts]) => Buffer.concat([Buffer.of(flags, cuts & 255, cuts >> 8), ...list])),
  run,
};
