// An accept thread that is not the main one: whatever it is asked, and how much at once, it answers each.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { DedupeTable } from '../../src/flow/dedupe.ts';
import { AcceptThread } from '../../src/ingress/accept-thread.ts';
import { tokenDigest } from '../../src/ingress/auth.ts';
import { createCounters } from '../../src/ingress/counters.ts';
import { heapCaps } from '../../src/ingress/memory.ts';
import { SpillwayLog } from '../../src/pipeline/open.ts';
import { smallLog } from '../support/gateway-inside.ts';
import { figuresOf, Raw, recordsOf } from '../support/gateway-talk.ts';
import { codeOf, directory, within } from '../support/log-support.ts';

const token = 'a-token-of-the-test';
const authorization = `Bearer ${token}`;

async function started(t: Test) {
  const dir = directory(t);
  const file = join(dir, 'tokens');
  writeFileSync(file, `${tokenDigest(token).toString('hex')} app\n`);
  const log = await SpillwayLog.open({ ...smallLog, dir: join(dir, 'log'), maxLanes: 2 });
  const options = resolveGatewayOptions({ http: '127.0.0.1:0', tcp: 'off', tokens: file });
  const caps = heapCaps(log.options, options);
  const { maxRecordBytes, laneBytes } = log.options;
  const deaths: string[] = [];
  const data = {
    options,
    maxRecordBytes,
    laneBytes,
    view: log.view.handle,
    lane: log.lane(),
    counters: createCounters(1),
    heapLimits: caps.accept,
    decodeLimits: caps.decode,
    thread: 0,
    reusePort: false,
  };
  const table = new DedupeTable({ maxKeys: 10, maxAgeMs: 1000 }, () => 0);
  const thread = new AcceptThread(data, table, (reason) => deaths.push(reason));
  const { http } = await thread.listen();
  const end = async (): Promise<void> => {
    const closed = thread.close();
    await log.close();
    await within(closed, 'the thread is closed');
    t.strictSame(deaths, []);
  };
  return { thread, file, port: http!.port, end };
}

t.test('a reload while it drains: both are answered', async (t) => {
  const { thread, file, port, end } = await started(t);
  const raw = await Raw.connect(port);
  raw.write(
    `POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\na`,
  );
  const begun = async (): Promise<void> => {
    while ((await figuresOf(port, { authorization })).ingressBytes === 0);
  };
  await within(begun(), 'a request is under way');
  const drained = thread.drain(20_000);
  t.equal(await codeOf(thread.reloadTokens()), 'resolved', 'read again, and nothing else');
  writeFileSync(file, 'nonsense\n');
  t.equal(await codeOf(thread.reloadTokens()), 'INVALID_OPTION', 'the right answer to each');
  raw.write('b');
  t.equal((await raw.answer()).status, 200, 'what was under way is answered');
  t.strictSame(await within(drained, 'the drain'), { requests: 0, connections: 0 });
  await end();
});

t.test('reloads close together: each is answered, by its own outcome', async (t) => {
  const { thread, end } = await started(t);
  const codes = await Promise.all([1, 2, 3].map(() => codeOf(thread.reloadTokens())));
  t.strictSame(codes, ['resolved', 'resolved', 'resolved']);
  await end();
  t.equal(await codeOf(thread.reloadTokens()), 'resolved', 'closed: nobody comes in, so there is nothing to do');
  t.match(await codeOf(thread.drain(1)), /^accept thread 0 /, 'anything else is refused, and not left open');
  t.equal(await codeOf(thread.close()), 'resolved', 'closing it twice is closing it once');
});
