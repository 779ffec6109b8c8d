// The parser gives the same frames however the bytes are cut, copies no more than it must, and refuses a header before anything is
// kept of its frame.

import t from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { encodeAppend } from '../../src/codec/append-frame.ts';
import { FrameParser } from '../../src/codec/frame-parser.ts';
import {
  decodeHello,
  encodeBye,
  encodeHello,
  encodeStream,
  FRAME_HEADER_BYTES,
  frameType,
  MAX_CONTROL_BYTES,
  MAX_SERVER_FRAME_BYTES,
  type Frame,
} from '../../src/codec/frames.ts';
import {
  appendMin,
  bytes,
  codeOf,
  hex,
  maxFrameBytes,
  none,
  raw,
  read,
  record,
  zeros,
} from '../support/codec-frames.ts';

/** What a client may send, one after the other. */
const conversation = [
  encodeHello({ version: 1, producerId: undefined, firstSequence: 7, token: bytes('secret') }),
  encodeStream(1, 'orders'),
  encodeAppend({ streamId: 1, firstSequence: 7, flags: 0 }, [record('hello'), record('', 'k'), record('end')], false),
  encodeAppend({ streamId: 1, firstSequence: 10, flags: 1 }, [record('x'.repeat(50))], false),
  encodeBye(),
];

t.test('cut at every byte, in two, in three and byte by byte, the same frames come out', async (t) => {
  const whole = new Uint8Array(Buffer.concat(conversation));
  const expected = read([whole], 'server');
  t.strictSame(
    expected.map((f) => f.type),
    [1, 2, 3, 3, 4],
  );
  for (let i = 0; i <= whole.length; i++) {
    t.same(read([whole.subarray(0, i), whole.subarray(i)], 'server'), expected, `at ${i}`);
    const j = Math.min(whole.length, i + 9);
    t.same(read([whole.subarray(0, i), whole.subarray(i, j), whole.subarray(j)], 'server'), expected, `${i} and ${j}`);
  }
  t.same(
    read(
      [...whole].map((b) => Uint8Array.of(b)),
      'server',
    ),
    expected,
    'byte by byte',
  );
});

t.test('id and token of a HELLO are copies: they outlive the chunk', async (t) => {
  const chunk = Buffer.from(
    encodeHello({ version: 1, producerId: zeros(16).fill(1), firstSequence: 0, token: bytes('abc') }),
  );
  new FrameParser('server', maxFrameBytes, {
    onHeader: () => undefined,
    onFrame: (frame) => {
      const hello = decodeHello(frame);
      chunk.fill(0);
      // As text: tap takes any Buffer for the same as a Uint8Array.
      t.equal(hex(hello.producerId!), '01'.repeat(16));
      t.equal(hex(hello.token!), hex(bytes('abc')));
    },
  }).push(chunk);
});

t.test('a frame in one chunk is a view of it; one in several is copied once, to an aligned place', async (t) => {
  const whole = new Uint8Array(Buffer.concat(conversation));
  const payloads: Uint8Array[] = [];
  const handlers = { onHeader: (): undefined => undefined, onFrame: (f: Frame): unknown => payloads.push(f.payload) };
  new FrameParser('server', maxFrameBytes, handlers).push(whole);
  t.ok(
    payloads.every((p) => p.buffer === whole.buffer),
    'views',
  );
  payloads.length = 0;
  const parser = new FrameParser('server', maxFrameBytes, handlers);
  const cut = conversation[0].length + conversation[1].length + 30;
  parser.push(whole.subarray(0, cut));
  t.equal(parser.midFrame, true);
  t.equal(payloads.length, 2);
  parser.push(whole.subarray(cut));
  t.strictSame(
    payloads.map((p) => p.buffer === whole.buffer),
    [true, true, false, true, true],
  );
  t.equal(payloads[2].byteOffset % 8, 0);
  t.equal(payloads[2].buffer.byteLength, conversation[2].length - FRAME_HEADER_BYTES, 'not more than the frame');
});

t.test('headers that are refused, before anything is kept of the frame', async (t) => {
  const bad: Record<string, Buffer> = {
    'type 0': raw(0, none),
    'type 5': raw(5, none),
    'a type of the server': raw(frameType.ack, none, { payloadBytes: 16 }),
    HTTP: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    'HELLO of 0 bytes': raw(frameType.hello, none),
    'HELLO of 31': raw(frameType.hello, none, { payloadBytes: 31 }),
    'HELLO too long': raw(frameType.hello, none, { payloadBytes: MAX_CONTROL_BYTES + 1 }),
    'HELLO with flags': raw(frameType.hello, none, { payloadBytes: 32, flags: 1 }),
    'HELLO with a stream': raw(frameType.hello, none, { payloadBytes: 32, streamId: 1 }),
    'STREAM of 0 bytes': raw(frameType.stream, none, { streamId: 1 }),
    'STREAM too long': raw(frameType.stream, none, { streamId: 1, payloadBytes: MAX_CONTROL_BYTES + 1 }),
    'STREAM without id': raw(frameType.stream, none, { payloadBytes: 5 }),
    'APPEND of 0 bytes': raw(frameType.append, none, { streamId: 1 }),
    'APPEND without a record': raw(frameType.append, none, { streamId: 1, payloadBytes: appendMin - 1 }),
    'APPEND without stream': raw(frameType.append, none, { payloadBytes: 64 }),
    'APPEND with flag 8': raw(frameType.append, none, { payloadBytes: 64, streamId: 1, flags: 8 }),
    'APPEND compressed in two ways': raw(frameType.append, none, { payloadBytes: 64, streamId: 1, flags: 6 }),
    'a compressed APPEND of 0 bytes': raw(frameType.append, none, { payloadBytes: 0, streamId: 1, flags: 2 }),
    'a compressed APPEND of 64 KiB and 1': raw(frameType.append, none, { payloadBytes: 65_529, streamId: 1, flags: 2 }),
    'APPEND of maxFrameBytes + 1': raw(frameType.append, none, {
      payloadBytes: maxFrameBytes - FRAME_HEADER_BYTES + 1,
      streamId: 1,
    }),
    'APPEND of 2^31': raw(frameType.append, none, { payloadBytes: 2 ** 31, streamId: 1 }),
    'APPEND of 2^32 - 1': raw(frameType.append, none, { payloadBytes: 2 ** 32 - 1, streamId: 1 }),
    'BYE of 1 byte': raw(frameType.bye, none, { payloadBytes: 1 }),
  };
  for (const [name, header] of Object.entries(bad)) {
    const seen: unknown[] = [];
    const parser = new FrameParser('server', maxFrameBytes, {
      onHeader: (h) => seen.push(h),
      onFrame: (f) => seen.push(f),
    });
    t.equal(
      codeOf(() => parser.push(header)),
      'PROTOCOL_ERROR',
      name,
    );
    parser.push(new Uint8Array(Buffer.concat(conversation)));
    t.strictSame(seen, [], `${name}: nothing came out, before or after`);
  }
  const client = new FrameParser('client', MAX_SERVER_FRAME_BYTES, { onHeader: () => {}, onFrame: () => {} });
  t.equal(
    codeOf(() => client.push(raw(frameType.hello, none, { payloadBytes: 32 }))),
    'PROTOCOL_ERROR',
  );
});

t.test('the longest frame is accepted, and refused by a handler it is not kept', async (t) => {
  const max = 4096;
  const seen: string[] = [];
  const handlers = {
    onHeader: (): unknown => seen.push('header'),
    onFrame: (f: Frame): unknown => seen.push(`frame of ${f.payload.length}`),
  };
  const payloadBytes = max - FRAME_HEADER_BYTES;
  const longest = raw(frameType.append, zeros(payloadBytes), { streamId: 1 });
  new FrameParser('server', max, handlers).push(longest);
  t.strictSame(seen, ['header', `frame of ${payloadBytes}`]);
  const refusing = new FrameParser('server', max, {
    onHeader: () => {
      throw new SpillwayError('RATE_LIMITED', 'no');
    },
    onFrame: () => t.fail('a frame came out'),
  });
  t.equal(
    codeOf(() => refusing.push(longest.subarray(0, 100))),
    'RATE_LIMITED',
  );
  refusing.push(longest);
  const stopping: FrameParser = new FrameParser('server', max, {
    onHeader: () => undefined,
    onFrame: () => {
      seen.push('last');
      stopping.stop();
    },
  });
  stopping.push(Buffer.concat([encodeBye(), encodeBye(), encodeBye()]));
  t.strictSame(seen.slice(2), ['last'], 'a handler may stop it');
});
