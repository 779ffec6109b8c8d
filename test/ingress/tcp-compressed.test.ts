// The server's side of compressed APPENDs: what reaches the log, what they take of the credit, and how those end that are none.

import t from 'tap';
import { gzipSync } from 'node:zlib';
import { APPEND_GZIP, COMPRESSED_APPEND_BYTES, FRAME_HEADER_BYTES, frameType } from '../../src/codec/frames.ts';
import { raw } from '../support/codec-frames.ts';
import { append, ended, names, open, TestHost, until } from '../support/tcp-pipe.ts';

function compressed(frame: Uint8Array, payload = gzipSync(frame.subarray(FRAME_HEADER_BYTES))): Buffer {
  return raw(frameType.append, payload, { flags: APPEND_GZIP, streamId: 1 });
}

t.test('plain and compressed in turns, cut anywhere: the records reach the log in order', async (t) => {
  const host = new TestHost();
  host.autoOffset = 500;
  const client = await open(host);
  const all = Buffer.concat([compressed(append(0, 30)), append(30, 5), compressed(append(35, 10))]);
  for (let at = 0; at < all.length; at += 37) client.send(all.subarray(at, at + 37));
  await until('all are acknowledged', () => client.acked === 45);
  t.same(
    host.calls.flatMap((call) => call.payloads),
    names(0, 45),
  );
  t.same(client.errors, []);
});

t.test('each takes 64 KiB of the credit until it is answered, however short it is', async (t) => {
  const host = new TestHost();
  host.firstCredit = 2 * COMPRESSED_APPEND_BYTES + 1000;
  const client = await open(host);
  client.send(compressed(append(0, 3)), compressed(append(3, 3)), append(6, 1));
  await until('all have come', () => host.calls.length === 3);
  t.equal(host.given[0].held, 2 * COMPRESSED_APPEND_BYTES + append(6, 1).length);
  for (const call of host.calls) call.durableAt(0);
  await until('all are answered', () => client.acked === 7);
  t.equal(host.given[0].held, 0);
  // What is left of the credit is not enough for another behind one that is under way.
  client.send(append(7, 1), compressed(append(8, 1)));
  await until('it is refused', () => client.errors.length > 0);
  t.match(client.errors, [{ code: 'PROTOCOL_ERROR', message: /APPEND of 65536 bytes with a credit of/ }]);
});

for (const [what, payload, code] of [
  ['a bomb', gzipSync(Buffer.alloc(10 * 1024 * 1024)), 'BODY_TOO_LARGE'],
  ['no gzip', Buffer.alloc(100, 7), 'BAD_ENCODING'],
  ['cut off', gzipSync(append(0, 40).subarray(FRAME_HEADER_BYTES)).subarray(0, 60), 'BAD_ENCODING'],
  ['compressed twice', gzipSync(gzipSync(append(0, 40).subarray(FRAME_HEADER_BYTES))), 'PROTOCOL_ERROR'],
] as const) {
  t.test(`${what}: the connection ends with ${code}, and nothing is appended`, async (t) => {
    const host = new TestHost();
    const client = await open(host);
    client.send(compressed(append(0, 40), payload));
    await ended(client);
    t.match(client.errors, [{ records: 0, code }]);
    t.equal(host.calls.length, 0);
    t.equal(host.given[0].closed, true);
    t.same(host.errors, [], 'nothing that nobody expected');
  });
}
