// Memory that is given back before the collector comes: what may be, what may not, and that those who read from the wire do it.

import t from 'tap';
import { FrameParser } from '../../src/codec/frame-parser.ts';
import { encodeStream, FRAME_HEADER_BYTES } from '../../src/codec/frames.ts';
import { encodeAppend } from '../../src/codec/append-frame.ts';
import { giveBack } from '../../src/platform/give-back.ts';
import { native, nativeMissing } from '../../src/platform/native.ts';
import { ask } from '../support/gateway-talk.ts';
import { Inside } from '../support/gateway-inside.ts';

const skip = native === undefined ? `there is no addon: ${nativeMissing}` : false;
const KIB = 1024;
const MIB = 1024 * KIB;

t.test('what is all of its buffer is empty after it, in every view', { skip }, async (t) => {
  const bytes = new Uint8Array(64 * KIB).fill(1);
  const view = bytes.subarray(10, 20);
  giveBack(bytes);
  t.strictSame([bytes.length, view.length, bytes.buffer.byteLength], [0, 0, 0]);
  giveBack(bytes);
  t.equal(bytes.length, 0, 'a second time nothing happens');
  const pairs = new Uint32Array(2 * KIB);
  giveBack(pairs);
  t.equal(pairs.length, 0, 'of any kind');
});

t.test('what is a part of a buffer, small or shared stays', { skip }, async (t) => {
  const whole = new Uint8Array(64 * KIB);
  const part = whole.subarray(0, 32 * KIB);
  const small = new Uint8Array(KIB);
  const shared = new Uint8Array(new SharedArrayBuffer(64 * KIB));
  for (const bytes of [part, small, shared]) {
    const { length } = bytes;
    giveBack(bytes);
    t.equal(bytes.length, length);
  }
});

t.test('a frame in several chunks is given back when it was handled; the chunk is its owner’s', { skip }, async (t) => {
  const payload = new Uint8Array(20 * KIB).fill(7);
  const record = { key: null, payload, unterminated: false };
  const append = encodeAppend({ streamId: 1, firstSequence: 0, flags: 0 }, [record], false);
  const whole = new Uint8Array(Buffer.concat([encodeStream(1, 'a'), append]));
  const seen: Uint8Array[] = [];
  const lengths: number[] = [];
  const handlers = {
    onHeader: (): undefined => undefined,
    onFrame: (f: { payload: Uint8Array }): void => {
      seen.push(f.payload);
      lengths.push(f.payload.length);
    },
  };
  const cut = whole.length - 5 * KIB;
  const parser = new FrameParser('server', MIB, handlers);
  parser.push(whole.subarray(0, cut));
  parser.push(whole.subarray(cut));
  parser.push(whole);
  const long = append.length - FRAME_HEADER_BYTES;
  t.strictSame(lengths, [1, long, 1, long], 'they were all there');
  t.strictSame(
    seen.map((p) => p.length),
    [1, 0, 1, long],
  );
});

/** The most that buffers took beyond what they took before, looked at after each. */
async function mostTaken(times: number, action: () => Promise<unknown>): Promise<number> {
  await action();
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let i = 0; i < times; i++) {
    await action();
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  return most;
}

t.test('the gateway: 100 bodies of 256 KiB take no more than a few of them', { skip }, async (t) => {
  const limits = { laneBytes: '4MiB', segmentBytes: '4MiB', maxRecordBytes: '512KiB', window: { maxBytes: '1MiB' } };
  const inside = await Inside.start(t, {}, limits);
  const line = `${'x'.repeat(1023)}\n`;
  const body = line.repeat(256);
  const path = '/v1/streams/a/records';
  for (const type of ['application/x-ndjson', 'text/plain']) {
    const most = await mostTaken(100, async () => {
      const { status, text } = await ask(inside.port, { path, body, headers: { 'content-type': type } });
      if (status !== 200) t.fail(text);
    });
    t.ok(most < 8 * MIB, `HTTP, ${type}: ${(most / MIB).toFixed(1)} MiB`);
  }
  t.equal(inside.durableOffset, 101 * 257);
});
