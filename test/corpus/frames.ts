// Frames that break the protocol (docs/protocol.md), and records in good frames that are refused.

import { encodeAppend, type RecordToSend } from '../../src/codec/append-frame.ts';
import { encodeBye, encodeHello, encodeStream } from '../../src/codec/frames.ts';
import { Raw } from '../support/gateway-talk.ts';
import {
  byteByByte,
  finish,
  untilStalled,
  join,
  MIB,
  SCHEMA_STREAM,
  TEXT,
  post,
  type Area,
  type Bytes,
  type Case,
  type Place,
  type Said,
  type Step,
} from './case.ts';
import { saidInFrames } from './judge.ts';

const PRODUCER = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
/** Waits for WELCOME. */
export const welcomed: Step = ({ wire }) =>
  wire.until(
    () => (wire.isEnded || saidInFrames(wire.received).said.includes('WELCOME') ? true : undefined),
    'WELCOME',
  );

const hello = (more: { producerId?: Uint8Array; firstSequence?: number; token?: Uint8Array } = {}): Buffer =>
  Buffer.from(encodeHello({ version: 1, producerId: undefined, firstSequence: 0, token: undefined, ...more }));
const record = (payload: Bytes, key: Uint8Array | null = null): RecordToSend => ({
  key,
  payload: typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload,
  unterminated: false,
});
function append(firstSequence: number, payloads: readonly Bytes[], flags = 0, identity = false): Buffer {
  const header = { streamId: 1, firstSequence, flags };
  return Buffer.from(
    encodeAppend(
      header,
      payloads.map((p) => record(p)),
      identity,
    ),
  );
}
const bye = Buffer.from(encodeBye());
const stream = ({ stream: name }: Place): Buffer => Buffer.from(encodeStream(1, name));

/** With numbers written over it, at places from the beginning of the frame. */
function patched(
  frame: Buffer,
  ...changes: readonly (readonly [at: number, bytes: 1 | 2 | 4, value: number])[]
): Buffer {
  const copy = Buffer.from(frame);
  for (const [at, bytes, value] of changes) copy.writeUIntLE(value, at, bytes);
  return copy;
}
function head(payloadBytes: number, type: number, flags = 0, streamId = 0): Buffer {
  return patched(Buffer.alloc(8), [0, 4, payloadBytes], [4, 1, type], [5, 1, flags], [6, 2, streamId]);
}
const [HELLO, STREAM, APPEND, BYE, WELCOME, ACK] = [1, 2, 3, 4, 16, 17];

/** The first frame ends the connection. */
const first = (name: string, bytes: Bytes): Case => ({ name, send: () => [bytes], gets: ['PROTOCOL_ERROR', 'closed'] });
/** Behind HELLO, WELCOME and STREAM 1 there come frames; what they get. */
const then = (
  name: string,
  frames: (at: Place) => readonly Step[],
  gets: readonly Said[] = ['PROTOCOL_ERROR', 'closed'],
): Case => ({
  name,
  send: (at) => [hello(), welcomed, stream(at), ...frames(at)],
  gets: ['WELCOME', ...gets],
});

/** Records that together are far more than any credit. */
const LARGE = Array<string>(64).fill('c'.repeat(MIB));

const hellos: readonly Case[] = [
  first('HELLO of length 0', head(0, HELLO)),
  first('HELLO of length 31', head(31, HELLO)),
  first('HELLO one byte longer than it may be', head(4129, HELLO)),
  first('HELLO of length 2^31', head(2 ** 31, HELLO)),
  first('HELLO of length 2^32 - 1', head(2 ** 32 - 1, HELLO)),
  first('HELLO with the wrong magic', patched(hello(), [8, 4, 0x21212121])),
  first('HELLO of version 0', patched(hello(), [12, 2, 0])),
  first('HELLO of version 2', patched(hello(), [12, 2, 2])),
  first('HELLO whose token is longer than the frame', patched(hello(), [14, 2, 1])),
  first('HELLO whose token is shorter than the frame', patched(hello({ token: Buffer.from('abc') }), [14, 2, 2])),
  first('HELLO from sequence 2^63', patched(hello(), [36, 4, 2 ** 31])),
  first('HELLO with flags', patched(hello(), [5, 1, 1])),
  first('HELLO with a stream id', patched(hello(), [6, 2, 1])),
  first('APPEND before HELLO', append(0, ['x'])),
  first('STREAM before HELLO', encodeStream(1, 'early')),
  first('BYE before HELLO', bye),
  first('HTTP, where frames are spoken', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  first('TLS, where frames are spoken', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'),
  first('4 KiB of 0xff', '\xff'.repeat(4096)),
  then('a second HELLO', () => [hello()]),
  {
    name: 'APPEND in one piece with HELLO, of a producer that has to be claimed first',
    send: (at) => [join(hello({ producerId: PRODUCER }), stream(at), append(0, ['x'], 0, true))],
    gets: ['PROTOCOL_ERROR', 'closed'],
  },
  {
    name: 'half a HELLO, and the client goes away',
    send: () => [hello().subarray(0, 20), finish],
    gets: ['closed'],
    moves: 'connectionsTotal',
  },
  {
    name: 'no HELLO: 10 s',
    send: () => [],
    gets: ['REQUEST_TIMEOUT', 'closed'],
    moves: 'timedOut',
    full: true,
  },
];

const headers: readonly Case[] = [
  then('a frame of type 0', () => [head(0, 0)]),
  then('a frame of type 255', () => [head(0, 255)]),
  then('WELCOME from the client', () => [head(24, WELCOME)]),
  then('ACK from the client', () => [head(16, ACK)]),
  then('STREAM of length 0', () => [head(0, STREAM, 0, 1)]),
  then('STREAM of length 4,129', () => [head(4129, STREAM, 0, 1)]),
  then('STREAM without an id', () => [head(1, STREAM)]),
  then('STREAM 257', () => [encodeStream(257, 'a')]),
  then('APPEND of length 0', () => [head(0, APPEND, 0, 1)]),
  then('APPEND of length 31', () => [head(31, APPEND, 0, 1)]),
  then('APPEND longer than maxFrameBytes', () => [head(2 * MIB + 16, APPEND, 0, 1)]),
  then('APPEND of length 2^31', () => [head(2 ** 31, APPEND, 0, 1)]),
  then('APPEND of length 2^32 - 1', () => [head(2 ** 32 - 1, APPEND, 0, 1)]),
  then('APPEND with unknown flags', () => [patched(append(0, ['x']), [5, 1, 8])]),
  then('APPEND without a stream', () => [patched(append(0, ['x']), [6, 2, 0])]),
  then('APPEND for a stream that was not declared', () => [patched(append(0, ['x']), [6, 2, 2])]),
  then('BYE of length 1', () => [head(1, BYE)]),
  then('APPEND behind BYE', () => [join(bye, append(0, ['x']))]),
];

const contents: readonly Case[] = [
  then('APPEND of no record', () => [patched(append(0, ['x']), [16, 4, 0])]),
  then('APPEND of fewer records than it says', () => [patched(append(0, ['x']), [16, 4, 2])]),
  then('APPEND of 2^32 - 1 records', () => [patched(append(0, ['x']), [16, 4, 2 ** 32 - 1])]),
  then('APPEND of more records than it says', () => [patched(append(0, ['x', 'y']), [16, 4, 1])]),
  then('a record that leads out of its frame', () => [patched(append(0, ['x']), [24, 4, 1000])]),
  then('a record of 2^32 - 1 bytes', () => [patched(append(0, ['x']), [24, 4, 2 ** 32 - 1])]),
  then('a key that leads out of its frame', () => [patched(append(0, ['x']), [38, 2, 65_535])]),
  then('sequences from 2^53 on', () => [patched(append(0, ['x']), [12, 4, 2 ** 21])]),
  then('a gap in the sequences', () => [append(1, ['x'])]),
  {
    ...then('sequences that go back', () => [append(0, ['x']), ackedOne, append(0, ['x'])], [
      'ACK 1',
      'PROTOCOL_ERROR',
      'closed',
    ]),
    stores: () => ['x'],
  },
  {
    name: 'a record without room for its identity, of a producer that has an id',
    send: (at) => [hello({ producerId: PRODUCER }), welcomed, stream(at), append(0, ['x'], 0, false)],
    gets: ['WELCOME', 'PROTOCOL_ERROR', 'closed'],
  },
  {
    ...then('64 MiB of APPENDs, far beyond the credit', () => LARGE.map((payload, i) => append(i, [payload]))),
    mayStore: () => LARGE,
  },
];

function ackedOne({ wire }: { wire: Raw }): Promise<true> {
  return wire.until(
    () => (wire.isEnded || saidInFrames(wire.received).said.includes('ACK 1') ? true : undefined),
    'ACK',
  );
}

/** A range is refused, the connection goes on, and what follows is stored. */
const range = (name: string, payloads: () => readonly Bytes[], said: Said): Case => ({
  ...then(name, () => {
    const bad = payloads();
    return [append(0, bad), answered, append(bad.length, ['next']), bye];
  }, [said, 'ACK 1', 'closed']),
  stores: () => ['next'],
});

/** Something was said behind WELCOME. */
function answered({ wire }: { wire: Raw }): Promise<true> {
  return wire.until(
    () => (wire.isEnded || saidInFrames(wire.received).said.length > 1 ? true : undefined),
    'an answer',
  );
}

const ranges: readonly Case[] = [
  range('APPEND of a record of 1 MiB + 1', () => ['r'.repeat(MIB + 1)], '1 × RECORD_TOO_LARGE'),
  range('10,001 records in one frame', () => Array<string>(10_001).fill(''), '10001 × TOO_MANY_RECORDS'),
  {
    ...then('records for a stream with a schema', () => [append(0, ['{"n":"x"}']), bye], [
      '1 × SCHEMA_MISMATCH',
      'closed',
    ]),
    stream: SCHEMA_STREAM,
  },
  { ...then('a record of 0 bytes is one', () => [append(0, ['']), bye], ['ACK 1', 'closed']), stores: () => [''] },
  {
    ...then('APPEND of a record of 1 MiB', () => [append(0, ['r'.repeat(MIB)]), bye], ['ACK 1', 'closed']),
    stores: () => ['r'.repeat(MIB)],
  },
  {
    ...then('STREAM with a name of 4 KiB that is never used', () => [encodeStream(2, 'n'.repeat(4096)), bye], [
      'closed',
    ]),
    moves: 'connectionsTotal',
  },
];

/** Looks at the gateway in a row that show no movement: it does not read any more. */
const STILL_LOOKS = 50;
/**
 * Appends that are refused, so many that their answers fill what the kernel holds, of a client that reads none. It keeps to the
 * credit of its WELCOME: the next ones come when the gateway has taken those before.
 */
const deaf: Step = async ({ wire, figures }) => {
  const credit = Buffer.from(wire.received).readUInt32LE(20);
  wire.socket.pause();
  const batch = Math.min(2000, Math.floor(credit / append(0, ['x']).length));
  let { frames: taken } = await figures();
  for (let sequence = 0, still = 0; still < STILL_LOOKS && wire.socket.writable;) {
    wire.write(join(...Array.from({ length: batch }, () => append(sequence++, ['x']))));
    const all = taken + batch;
    for (still = 0; taken < all && still < STILL_LOOKS;) {
      const { frames: now } = await figures();
      still = now === taken ? still + 1 : 0;
      taken = now;
    }
  }
};
const unnamed = (): Buffer => Buffer.from(encodeStream(1, `-${'x'.repeat(60)}`));

const time: readonly Case[] = [
  {
    name: 'a whole conversation that comes byte by byte',
    send: (at) => [byteByByte(hello()), welcomed, byteByByte(join(stream(at), append(0, ['a', 'b']), bye))],
    gets: ['WELCOME', 'ACK 2', 'closed'],
    stores: () => ['a', 'b'],
  },
  ...[1, 4, 7, 8, 9, 23, 24, 39, 40, 41].map((at): Case => ({
    name: `APPEND cut at byte ${at}`,
    send: (place) => {
      const frame = append(0, ['cut']);
      const held = async ({ wire, figures }: { wire: Raw; figures(): Promise<unknown> }): Promise<void> => {
        wire.write(frame.subarray(0, at));
        // Answered behind what it has read of this connection.
        await figures();
      };
      return [hello(), welcomed, stream(place), held, frame.subarray(at), bye];
    },
    gets: ['WELCOME', 'ACK 1', 'closed'],
    stores: () => ['cut'],
  })),
  {
    ...then(
      'half an APPEND, and the client closes its side',
      () => [append(0, ['x'.repeat(100)]).subarray(0, 60), finish],
      ['closed'],
    ),
    moves: 'connectionsTotal',
  },
  {
    name: 'half an APPEND of 1 MiB, and the client goes away',
    send: (at) => [hello(), welcomed, stream(at), append(0, ['x'.repeat(MIB)]).subarray(0, MIB / 2)],
    gets: ['WELCOME'],
    moves: 'connectionsTotal',
  },
  {
    name: '100 connections with credit that they do not use',
    send: () => [
      async ({ tcp }) => {
        const all = await Promise.all(Array.from({ length: 100 }, () => Raw.connect(tcp)));
        for (const raw of all) raw.write(hello());
        for (const raw of all) await raw.until(() => (raw.received.length > 0 ? true : undefined), 'WELCOME');
        for (const raw of all) raw.destroy();
      },
      hello(),
      welcomed,
      bye,
    ],
    gets: ['WELCOME', 'closed'],
    moves: 'connectionsTotal',
  },
  {
    name: 'a client that never reads its answers: it is not read from, and goes away',
    send: () => [hello(), welcomed, unnamed(), deaf],
    gets: ['WELCOME'],
    moves: 'frames',
  },
  {
    name: 'a client that never reads its answers: cut after 30 s',
    send: () => [hello(), welcomed, unnamed(), deaf, untilStalled],
    gets: ['WELCOME'],
    moves: 'stalled',
    full: true,
  },
  {
    ...then('half a frame: 30 s', () => [append(0, ['x']).subarray(0, 20)], ['REQUEST_TIMEOUT', 'closed']),
    moves: 'timedOut',
    full: true,
  },
];

export const frames: Area = {
  name: 'frames',
  about: 'The framed protocol. A frame that breaks it ends the connection; records that are refused do not.',
  to: 'tcp',
  gateway: 'plain',
  cases: [...hellos, ...headers, ...contents, ...ranges, ...time],
};

export const unixFrames: Area = {
  name: 'unix',
  about: 'The same over the Unix socket, a few of each kind.',
  to: 'unix',
  gateway: 'plain',
  cases: [
    ...hellos.filter(({ full }) => full !== true).slice(0, 6),
    ...contents.slice(0, 3),
    ...ranges.slice(0, 2),
    ...time.slice(0, 2),
    first('a request over HTTP', post('unix', TEXT, 'x')),
  ].map((c) => ({ ...c, name: `Unix socket: ${c.name}` })),
};
