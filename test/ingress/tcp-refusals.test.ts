// What a connection of the framed protocol refuses: bad input and whoever has no token end it, a range of records does not.
// Nothing of what is refused is appended or acknowledged, and its credit comes back.

import t from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { encodeAppend } from '../../src/codec/append-frame.ts';
import { APPEND_SKIPS, encodeBye, encodeStream, FRAME_HEADER_BYTES, frameType } from '../../src/codec/frames.ts';
import {
  append,
  bytes,
  ended,
  hello,
  open,
  PipeClient,
  producer,
  TestHost,
  turns,
  until,
} from '../support/tcp-pipe.ts';

/** A frame by hand. */
function raw(type: number, payloadBytes: number, payload = new Uint8Array(0), streamId = 0): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payloadBytes, 0);
  frame[4] = type;
  frame.writeUInt16LE(streamId, 6);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

function changed(frame: Uint8Array, change: (v: DataView) => void): Uint8Array {
  const copy = new Uint8Array(frame);
  change(new DataView(copy.buffer));
  return copy;
}

t.test('bad input: ERROR, closed, nothing appended, nothing acknowledged, a counter moved', async (t) => {
  const early: Record<string, Uint8Array> = {
    'STREAM before HELLO': encodeStream(1, 'orders'),
    'APPEND before HELLO': append(0),
    'BYE before HELLO': encodeBye(),
    'wrong magic': changed(hello(), (v) => v.setUint8(8, 0)),
    'version 2': changed(hello(), (v) => v.setUint16(12, 2, true)),
    'unknown type': raw(99, 0),
    HTTP: Buffer.from('POST /v1/streams/a/records HTTP/1.1\r\n\r\n'),
    'HELLO of 0 bytes': raw(frameType.hello, 0),
    'HELLO of 2^31': raw(frameType.hello, 2 ** 31),
    'a token of a megabyte': raw(frameType.hello, 32 + 2 ** 20),
    'APPEND before WELCOME': Buffer.concat([hello(), encodeStream(1, 'orders'), append(0)]),
  };
  const late: Record<string, Uint8Array> = {
    'a second HELLO': hello(),
    'STREAM of 0 bytes': raw(frameType.stream, 0, undefined, 1),
    'STREAM 257': encodeStream(257, 'orders'),
    'STREAM 0': encodeStream(0, 'orders'),
    'APPEND of 0 bytes': raw(frameType.append, 0, undefined, 1),
    'APPEND without records': changed(append(0), (v) => v.setUint32(16, 0, true)),
    'APPEND of maxFrameBytes + 1': raw(frameType.append, 65_536 - FRAME_HEADER_BYTES + 1, undefined, 1),
    'APPEND of 2^31': raw(frameType.append, 2 ** 31, undefined, 1),
    'APPEND of 2^32 - 1': raw(frameType.append, 2 ** 32 - 1, undefined, 1),
    'a stream that was not declared': append(0, 1, { streamId: 2 }),
    'a gap': append(1),
    'no room for the identity': append(0, 1, { identity: false }),
    'a record that leads out': changed(append(0), (v) => v.setUint32(24, 100, true)),
    'a sequence of 2^53': changed(append(0), (v) => v.setUint32(12, 2 ** 21, true)),
    'after BYE': Buffer.concat([encodeBye(), append(0)]),
    'a frame of the server': raw(frameType.drain, 0),
  };
  const run = async (name: string, client: PipeClient, host: TestHost, frame: Uint8Array): Promise<void> => {
    // And what follows is not looked at.
    client.send(frame, append(0), encodeBye());
    await ended(client);
    t.strictSame(
      client.errors.map((e) => [e.code, e.records]),
      [['PROTOCOL_ERROR', 0]],
      `${name}: ERROR`,
    );
    t.strictSame([client.count(frameType.ack), host.calls.length], [0, 0], `${name}: nothing appended`);
    t.equal(host.counts.protocolErrors, 1, `${name}: counted`);
    t.strictSame(host.errors, [], `${name}: no bug`);
    t.equal(host.given[0].closed, true, `${name}: credit given back`);
    const again = await open(host);
    t.equal(again.errors.length, 0, `${name}: the producer is free again`);
    again.cut();
  };
  for (const [name, frame] of Object.entries(early)) {
    const host = new TestHost();
    await run(name, new PipeClient(host), host, frame);
  }
  for (const [name, frame] of Object.entries(late)) {
    const host = new TestHost();
    await run(name, await open(host), host, frame);
  }
});

t.test('sequences that go back, or repeat, end the connection; SKIPS jumps, and never back', async (t) => {
  const attempt = async (...frames: Uint8Array[]): Promise<[string[][], string[]]> => {
    const host = new TestHost();
    host.autoOffset = 0;
    const client = await open(host, 5);
    client.send(...frames, encodeBye());
    await ended(client);
    return [host.calls.map((c) => c.payloads), client.errors.map((e) => e.code)];
  };
  const flags = APPEND_SKIPS;
  t.strictSame(await attempt(append(5, 2), append(7)), [[['r5', 'r6'], ['r7']], []]);
  t.strictSame(await attempt(append(5, 2), append(6)), [[['r5', 'r6']], ['PROTOCOL_ERROR']]);
  t.strictSame(await attempt(append(5, 2), append(5, 2)), [[['r5', 'r6']], ['PROTOCOL_ERROR']]);
  t.strictSame(await attempt(append(4)), [[], ['PROTOCOL_ERROR']], 'below firstSequence of HELLO');
  t.strictSame(await attempt(append(9, 1, { flags }), append(10)), [[['r9'], ['r10']], []]);
  t.strictSame(await attempt(append(5, 2), append(6, 1, { flags })), [[['r5', 'r6']], ['PROTOCOL_ERROR']]);
  t.strictSame(await attempt(append(5), encodeBye(), encodeStream(2, 'late')), [[['r5']], ['PROTOCOL_ERROR']]);
});

t.test('who has no valid token is not let in', async (t) => {
  for (const token of [undefined, 'wrong', 'secret2', 'x'.repeat(4096)]) {
    const host = new TestHost();
    host.token = 'secret';
    const client = new PipeClient(host);
    client.send(hello(0, producer(), token), encodeStream(1, 'orders'));
    await ended(client);
    t.strictSame(
      client.errors.map((e) => [e.code, e.records]),
      [['UNAUTHORIZED', 0]],
    );
    t.match(host.counts, { unauthorized: 1 });
    t.equal((await host.dedupe!.claim('x')) ?? 'nothing', 'nothing', 'and no producer was claimed');
  }
  const host = new TestHost();
  host.token = 'secret';
  host.autoOffset = 0;
  const client = new PipeClient(host);
  client.send(hello(0, producer(), 'secret'), encodeStream(1, 'orders'));
  await until('WELCOME', () => client.welcome !== undefined);
  client.send(append(0), encodeBye());
  await ended(client);
  t.equal(host.calls[0].who, 'holder');
});

t.test('a range that is refused: its sequences are used up, in order, and the connection goes on', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  const large = { key: bytes('k'), payload: new Uint8Array(1000), unterminated: false };
  const largest = { key: bytes('k'), payload: new Uint8Array(999), unterminated: false };
  client.send(
    encodeStream(2, '../etc/passwd'),
    append(0, 2),
    encodeAppend({ streamId: 1, firstSequence: 2, flags: 0 }, [largest, large], true),
    append(4, 51),
    append(55, 3, { streamId: 2 }),
    append(58, 2),
    append(60, 1),
    encodeAppend({ streamId: 1, firstSequence: 61, flags: 0 }, [largest], true),
    append(62, 50),
    encodeStream(2, 'good'),
    append(112, 1, { streamId: 2 }),
  );
  await until('the appends', () => host.calls.length === 6);
  await turns();
  t.equal(client.errors.length, 0, 'refusals wait for what is before them');
  host.calls[0].durableAt(100);
  await until('the first three', () => client.errors.length === 3);
  t.equal(client.acked, 2);
  host.calls[1].reject(new SpillwayError('DROPPED', 'the lane is full'));
  host.calls[2].reject(new TypeError('a bug'));
  host.calls.slice(3).forEach((call, i) => call.durableAt(200 + i * 100));
  await until('the rest', () => client.acked === 113);
  t.match(client.errors, [
    { code: 'RECORD_TOO_LARGE', firstSequence: 2, records: 2, retryable: false, retryAfterMs: 0 },
    { code: 'TOO_MANY_RECORDS', firstSequence: 4, records: 51 },
    { code: 'INVALID_STREAM', firstSequence: 55, records: 3 },
    {
      code: 'DROPPED',
      firstSequence: 58,
      records: 2,
      retryable: true,
      retryAfterMs: 2500,
      message: 'the lane is full',
    },
    { code: 'IO_ERROR', firstSequence: 60, records: 1, message: 'a bug' },
  ]);
  t.strictSame(client.runs, [
    { firstSequence: 0, firstOffset: 100, records: 2, flags: 0 },
    { firstSequence: 61, firstOffset: 200, records: 1, flags: 0 },
    { firstSequence: 62, firstOffset: 300, records: 50, flags: 0 },
    { firstSequence: 112, firstOffset: 400, records: 1, flags: 0 },
  ]);
  t.equal(host.errors.length, 1, 'a bug is logged');
  t.equal(host.given[0].held, 0, 'credit of what was refused comes back too');
});

t.test('an append that throws instead of rejecting ends the connection and holds nothing', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  host.append = () => {
    throw new TypeError('a bug');
  };
  client.send(append(0));
  await ended(client);
  t.match(client.errors, [{ code: 'IO_ERROR', records: 0 }]);
  t.equal(host.errors.length, 1);
});
