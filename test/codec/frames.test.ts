// Frames come back as they went, are what docs/protocol.md says, and no bytes within one lead out of it. How they come out of chunks:
// frame-parser.test.ts.

import t from 'tap';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SpillwayError } from '../../src/base/errors.ts';
import { decodeAppend, encodeAppend, framesOf, payloadsOf, recordBytes } from '../../src/codec/append-frame.ts';
import {
  APPEND_HEADER_BYTES,
  decodeAck,
  decodeCredit,
  decodeError,
  decodeHello,
  decodeStream,
  decodeWelcome,
  encodeAck,
  encodeBye,
  encodeCredit,
  encodeDrain,
  encodeError,
  encodeHello,
  encodeStream,
  encodeWelcome,
  FRAME_HEADER_BYTES,
  frameType,
  MAX_ACK_RUNS,
  MAX_CONNECTION_STREAMS,
  MAX_CONTROL_BYTES,
  MAX_MESSAGE_BYTES,
  MAX_SERVER_FRAME_BYTES,
  MAX_TOKEN_BYTES,
  PROTOCOL_MAGIC,
  type Frame,
} from '../../src/codec/frames.ts';
import { bytes, codeOf, hex, none, one, read, record, zeros } from '../support/codec-frames.ts';

const document = readFileSync(join(process.cwd(), 'docs', 'protocol.md'), 'utf8');

function example(name: string): Uint8Array {
  const match = new RegExp(`\`\`\`hex ${name}\\n([0-9a-f\\n]+)\`\`\``).exec(document);
  return new Uint8Array(Buffer.from(match![1].replaceAll('\n', ''), 'hex'));
}

t.test('docs/protocol.md: every example decodes to what it says, and is what the encoder writes', async (t) => {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i);
  const hello = { version: 1, producerId: id, firstSequence: 0, token: bytes('secret') };
  t.same(decodeHello(one(example('hello'))), hello);
  t.equal(hex(encodeHello(hello)), hex(example('hello')));

  const stream = one(example('stream'));
  t.match(stream, { type: 2, streamId: 1 });
  t.equal(decodeStream(stream), 'orders');
  t.equal(hex(encodeStream(1, 'orders')), hex(example('stream')));

  const append = one(example('append'));
  const decoded = decodeAppend(append, true);
  t.match(append, { type: 3, flags: 0, streamId: 1 });
  t.match(decoded, { firstSequence: 0, records: 2, largestBytes: 5 });
  t.same(payloadsOf(decoded.frames), [bytes('hello'), bytes('x')]);
  const header = { streamId: 1, firstSequence: 0, flags: 0 };
  t.equal(hex(encodeAppend(header, [record('hello'), record('x', 'k')], true)), hex(example('append')));
  t.equal(example('append').length, 120, 'what the example of CREDIT gives');

  t.match(one(example('bye')), { type: 4, payloadBytes: 0 });
  t.equal(hex(encodeBye()), hex(example('bye')));

  const welcome = decodeWelcome(one(example('welcome')));
  const MIB = 2 ** 20;
  t.same(welcome, {
    version: 1,
    flags: 1,
    maxFrameBytes: 2 * MIB,
    maxRecordBytes: MIB,
    credit: 4 * MIB,
    durableSequence: 0,
  });
  t.equal(hex(encodeWelcome(welcome)), hex(example('welcome')));

  const ack = decodeAck(one(example('ack')));
  t.same(ack, { sequence: 2, runs: [{ firstSequence: 0, firstOffset: 1000, records: 2, flags: 0 }] });
  t.equal(hex(encodeAck(ack)), hex(example('ack')));

  t.equal(decodeCredit(one(example('credit'))), 120);
  t.equal(hex(encodeCredit(120)), hex(example('credit')));

  const error = decodeError(one(example('error')));
  t.same(error, {
    firstSequence: 2,
    records: 1,
    code: 'DROPPED',
    retryable: true,
    retryAfterMs: 1000,
    message: 'the lane is full',
  });
  t.equal(hex(encodeError(error)), hex(example('error')));

  t.match(one(example('drain')), { type: 20, payloadBytes: 0 });
  t.equal(hex(encodeDrain()), hex(example('drain')));
});

t.test('docs/protocol.md: the numbers it names are those of the code', async (t) => {
  const says = (pattern: RegExp): number => Number(pattern.exec(document)![1].replaceAll(',', ''));
  t.equal(says(/HELLO \| client \| 32 … ([\d,]+)/), MAX_CONTROL_BYTES);
  t.equal(says(/STREAM \| client \| 1 … ([\d,]+)/), MAX_CONTROL_BYTES);
  t.equal(says(/Ids are 1 … (\d+)/), MAX_CONNECTION_STREAMS);
  t.equal(says(/token has at most ([\d,]+) bytes/), MAX_TOKEN_BYTES);
  t.equal(says(/is longer than ([\d,]+) bytes, its header included/), MAX_SERVER_FRAME_BYTES);
  t.equal(says(/message has at most ([\d,]+) bytes/), MAX_MESSAGE_BYTES);
  for (const [name, type] of Object.entries(frameType)) {
    t.match(document, `| ${type} | ${name.toUpperCase()} |`, name);
  }
});

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const u53 = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER));
const payload = fc.uint8Array({ maxLength: 40 });
const records = fc.array(
  fc.record({ key: fc.option(payload), payload, unterminated: fc.boolean() }, { noNullPrototype: true }),
  { minLength: 1, maxLength: 12 },
);

t.test('frames come back as they went: HELLO, STREAM, WELCOME, ACK, CREDIT, ERROR', async (t) => {
  const id = fc.option(
    fc.uint8Array({ minLength: 16, maxLength: 16 }).filter((a) => a.some((b) => b !== 0)),
    { nil: undefined },
  );
  const token = fc.option(fc.uint8Array({ minLength: 1, maxLength: 50 }), { nil: undefined });
  fc.assert(
    fc.property(id, u53, token, (producerId, firstSequence, secret) => {
      const hello = { version: 1, producerId, firstSequence, token: secret };
      t.same(decodeHello(one(encodeHello(hello))), hello);
    }),
  );
  fc.assert(
    fc.property(u32, u32, u32, u53, (maxBytes, maxRecordBytes, credit, durableSequence) => {
      const welcome = { version: 1, flags: 1, maxFrameBytes: maxBytes, maxRecordBytes, credit, durableSequence };
      t.same(decodeWelcome(one(encodeWelcome(welcome))), welcome);
      t.equal(decodeCredit(one(encodeCredit(credit))), credit);
    }),
  );
  const run = fc.record({ firstSequence: u53, firstOffset: u53, records: u32, flags: u32 }, { noNullPrototype: true });
  fc.assert(
    fc.property(u53, fc.array(run, { maxLength: 9 }), (sequence, runs) => {
      t.same(decodeAck(one(encodeAck({ sequence, runs }))), { sequence, runs });
    }),
  );
  fc.assert(
    fc.property(u53, u32, fc.boolean(), u32, fc.string({ unit: 'grapheme', maxLength: 40 }), (...values) => {
      const [firstSequence, count, retryable, retryAfterMs, message] = values;
      const error = { firstSequence, records: count, code: 'BACKLOG_FULL', retryable, retryAfterMs, message };
      t.same(decodeError(one(encodeError(error))), error);
    }),
  );
  t.equal(decodeStream(one(encodeStream(256, 'a.b-c_d'))), 'a.b-c_d');
});

t.test('the largest ACK and the largest ERROR are within MAX_SERVER_FRAME_BYTES', async (t) => {
  const run = { firstSequence: 1, firstOffset: 1, records: 1, flags: 0 };
  const runs = Array.from({ length: MAX_ACK_RUNS }, () => run);
  t.equal(decodeAck(read([encodeAck({ sequence: 1, runs })], 'client', MAX_SERVER_FRAME_BYTES)[0]).runs.length, 2048);
  const text = { firstSequence: 0, records: 0, code: 'PROTOCOL_ERROR', retryable: false, retryAfterMs: 0 };
  for (const character of ['a', 'ä', '€', '😀']) {
    const cut = decodeError(one(encodeError({ ...text, message: `x${character.repeat(2000)}` }))).message;
    const size = Buffer.byteLength(character);
    t.equal(cut, `x${character.repeat(Math.floor((MAX_MESSAGE_BYTES - 1) / size))}`, `${size} bytes a character`);
  }
});

t.test('APPEND comes back as it went, whole and in parts', async (t) => {
  fc.assert(
    fc.property(records, fc.boolean(), u32, (list, identity, firstSequence) => {
      const frame = encodeAppend({ streamId: 9, firstSequence, flags: 0 }, list, identity);
      const sizes = list.map((r) => recordBytes(r.key?.length ?? 0, r.payload.length, identity));
      t.equal(frame.length, APPEND_HEADER_BYTES + sizes.reduce((a, b) => a + b, 0));
      const append = decodeAppend(one(frame), identity);
      t.equal(append.firstSequence, firstSequence);
      t.equal(append.records, list.length);
      t.same(
        payloadsOf(append.frames),
        list.map((r) => r.payload),
      );
      t.equal(append.largestBytes, Math.max(...list.map((r) => (r.key?.length ?? 0) + r.payload.length)));
      for (let from = 0; from < list.length; from++) {
        const part = framesOf(append, firstSequence + from, list.length - from);
        t.same(
          payloadsOf(part),
          list.slice(from).map((r) => r.payload),
        );
        t.same(payloadsOf(framesOf(append, firstSequence + from, 1)), [list[from].payload]);
      }
    }),
    { numRuns: 60 },
  );
});

t.test('APPEND: keys, flags, padding and room for the identity lie as in the log', async (t) => {
  const [frame] = read([encodeAppend({ streamId: 1, firstSequence: 5, flags: 0 }, [record('xyz', 'key', true)], true)]);
  const { frames } = decodeAppend(frame, true);
  const v = new DataView(frames.buffer, frames.byteOffset);
  t.equal(v.getUint32(0, true), 3, 'payloadBytes');
  t.equal(v.getUint32(4, true), 1 << 16, 'stream 0, flag unterminated, kind 0');
  t.equal(v.getUint32(8, true), 0, 'time');
  t.equal(v.getUint16(12, true), 0, 'time');
  t.equal(v.getUint16(14, true), 27, 'keyBytes with the identity');
  t.same(frames.subarray(16, 40), new Uint8Array(24), 'identity');
  t.equal(Buffer.from(frames.subarray(40, 46)).toString(), 'keyxyz');
  t.same(frames.subarray(46), new Uint8Array(2), 'padding');
});

t.test('contents that are refused', async (t) => {
  const hello = encodeHello({ version: 1, producerId: undefined, firstSequence: 0, token: bytes('abc') });
  const append = encodeAppend({ streamId: 1, firstSequence: 0, flags: 0 }, [record('hello'), record('x', 'kk')], false);
  const changed = (frame: Uint8Array, change: (v: DataView) => void): Frame => {
    const copy = new Uint8Array(frame);
    change(new DataView(copy.buffer));
    return one(copy);
  };
  t.equal(new DataView(hello.buffer, hello.byteOffset).getUint32(8, true), PROTOCOL_MAGIC);
  const hellos: Record<string, (v: DataView) => void> = {
    magic: (v) => v.setUint8(8, 0x73),
    'version 0': (v) => v.setUint16(12, 0, true),
    'version 2': (v) => v.setUint16(12, 2, true),
    'a token shorter than it says': (v) => v.setUint16(14, 4, true),
    'a token longer than it says': (v) => v.setUint16(14, 2, true),
    'a sequence of 2^53': (v) => v.setUint32(36, 2 ** 21, true),
    'a sequence of 2^64 - 1': (v) => v.setBigUint64(32, 2n ** 64n - 1n, true),
  };
  for (const [name, change] of Object.entries(hellos)) {
    t.equal(
      codeOf(() => decodeHello(changed(hello, change))),
      'PROTOCOL_ERROR',
      `HELLO: ${name}`,
    );
  }
  const first = APPEND_HEADER_BYTES;
  const second = first + 24;
  const appends: Record<string, (v: DataView) => void> = {
    'no record': (v) => v.setUint32(16, 0, true),
    'a record less than there are': (v) => v.setUint32(16, 1, true),
    'a record more than there are': (v) => v.setUint32(16, 3, true),
    '2^32 - 1 records': (v) => v.setUint32(16, 2 ** 32 - 1, true),
    'a record that leads out of the frame': (v) => v.setUint32(second, 7, true),
    'a payload of 2^31': (v) => v.setUint32(first, 2 ** 31, true),
    'a payload of 2^32 - 1': (v) => v.setUint32(first, 2 ** 32 - 1, true),
    // In 32-bit arithmetic this record would seem to end where it begins.
    'a payload that wraps to nothing': (v) => v.setUint32(first, 2 ** 32 - 16, true),
    'a key that leads out of the frame': (v) => v.setUint16(second + 14, 65_535, true),
    'a sequence of 2^53': (v) => v.setUint32(12, 2 ** 21, true),
    'sequences beyond 2^53': (v) => v.setBigUint64(8, 2n ** 53n - 2n, true),
  };
  decodeAppend(one(append), false);
  for (const [name, change] of Object.entries(appends)) {
    t.equal(
      codeOf(() => decodeAppend(changed(append, change), false)),
      'PROTOCOL_ERROR',
      `APPEND: ${name}`,
    );
  }
  t.equal(
    codeOf(() => decodeAppend(one(append), true)),
    'PROTOCOL_ERROR',
    'no room for the identity',
  );
  const forClient: Record<string, () => unknown> = {
    WELCOME: () => decodeWelcome({ ...one(encodeDrain()), payload: zeros(23) }),
    'ACK shorter than its runs': () =>
      decodeAck(changed(encodeAck({ sequence: 1, runs: [] }), (v) => v.setUint32(16, 1, true))),
    'ACK of 2^32 - 1 runs': () =>
      decodeAck(changed(encodeAck({ sequence: 1, runs: [] }), (v) => v.setUint32(16, 2 ** 32 - 1, true))),
    CREDIT: () => decodeCredit({ ...one(encodeDrain()), payload: zeros(3) }),
    'ERROR with a long code': () => decodeError(changed(example('error'), (v) => v.setUint8(20, 255))),
    'ERROR with a long message': () => decodeError(changed(example('error'), (v) => v.setUint16(33, 17, true))),
    'ERROR of nothing': () => decodeError({ ...one(encodeDrain()), payload: none }),
  };
  for (const [name, run] of Object.entries(forClient)) t.equal(codeOf(run), 'PROTOCOL_ERROR', name);
});

t.test('whatever is in the bytes, no record leads out of its frame', async (t) => {
  let accepted = 0;
  fc.assert(
    fc.property(
      records,
      fc.boolean(),
      fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }), { maxLength: 3 }),
      (list, identity, changes) => {
        const frame = new Uint8Array(encodeAppend({ streamId: 1, firstSequence: 0, flags: 0 }, list, identity));
        for (const { at, value } of changes) {
          frame[FRAME_HEADER_BYTES + (at % (frame.length - FRAME_HEADER_BYTES))] = value;
        }
        let append;
        try {
          append = decodeAppend(one(frame), identity);
        } catch (error) {
          return t.equal((error as SpillwayError).code, 'PROTOCOL_ERROR');
        }
        accepted++;
        const payloads = payloadsOf(append.frames);
        t.equal(payloads.length, append.records);
        const sum = payloads.reduce((total, p) => total + p.length, 0);
        return t.ok(sum + 16 * payloads.length <= append.frames.length);
      },
    ),
    { numRuns: 400 },
  );
  t.ok(accepted > 40, `${accepted} were accepted`);
});

t.test('reserved fields and the last bytes of a producer id do not hide it', async (t) => {
  const id = zeros(16);
  id[15] = 1;
  const hello = { version: 1, producerId: id, firstSequence: 0, token: undefined };
  t.same(decodeHello(one(encodeHello(hello))).producerId, id);
});
