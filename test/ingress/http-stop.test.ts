// HTTP when the gateway cannot go on, or has to stop: failed logs, full disks, draining. What was accepted is answered, and what
// waits is told.

import { join } from 'node:path';
import t from 'tap';
import { SmallDisk } from '../support/full-disk-mounts.ts';
import { ByHand } from '../support/gateway-by-hand.ts';
import { Inside, isError, isStored } from '../support/gateway-inside.ts';
import {
  ask,
  bytes,
  figuresOf,
  head,
  post,
  Raw,
  recordsOf,
  untilFigures,
  type Answer,
} from '../support/gateway-talk.ts';
import { until, within } from '../support/log-support.ts';

const KIB = 1024;

t.test('a failed log: nothing is taken, what waits is told, reading goes on', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const waits = post(g.port, 's', 'x', bytes);
  await untilFigures(g.port, (f) => f.queuedBytes > 0, 'one is under way');
  g.fail({ code: 'POISONED', message: 'fdatasync: EIO', details: {} });
  const told = isError(t, await waits, 'POISONED', 'who waited');
  t.match(told['message'], /EIO/, 'why');
  isError(t, await post(g.port, 's', 'x', bytes), 'POISONED', 'a new one');
  const ready = await ask(g.port, { path: '/readyz' });
  t.same([ready.status, JSON.parse(ready.text)], [503, { ready: false, state: 'poisoned' }]);
  const healthy = await ask(g.port, { path: '/healthz' });
  t.same([healthy.status, JSON.parse(healthy.text)], [200, { ok: true }], 'the process itself is well');
  t.equal((await ask(g.port, { path: recordsOf('s') })).status, 200, 'reading');
  t.match((await ask(g.port, { path: '/metrics' })).text, /^spillway_log_state\{state="poisoned"\} 1$/m);
  t.equal((await figuresOf(g.port)).ingressBytes, 0);
});

t.test('draining: what was accepted is answered, the rest hears 503, idle connections close', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const idle = await Raw.connect(g.port);
  idle.write('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n');
  t.same(JSON.parse((await idle.answer()).text), { ready: true, state: 'open' });
  const fresh = await Raw.connect(g.port);
  const slow = await Raw.connect(g.port);
  slow.write(head('s', 4) + 'sl');
  const waits = await Raw.connect(g.port);
  waits.write(head('s', 5) + 'waits');
  // One that has begun its second request on a connection: it is not idle.
  const second = await Raw.connect(g.port);
  second.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  await second.answer();
  second.write('GET /readyz HTTP/1.1\r\n');
  await untilFigures(g.port, (f) => f.queuedBytes > 0 && f.ingressBytes >= 4, 'both are under way');
  await until(() => g.count('connections') === 5, 'all are there');
  const drained = g.drain(20_000);
  t.match(await idle.ended(), /end|closed/, 'idle');
  t.match(await fresh.ended(), /end|closed/, 'one that never asked');
  second.write('Host: x\r\n\r\n');
  const not = await second.answer();
  t.same([not.status, JSON.parse(not.text)], [503, { ready: false, state: 'draining' }]);
  t.equal(not.headers['connection'], 'close');
  await t.rejects(ask(g.port, { path: '/healthz' }), { code: 'ECONNREFUSED' }, 'nobody new');
  slow.write('ow');
  await until(() => g.count('queuedBytes') > 60, 'the slow one is whole');
  g.commit();
  for (const raw of [waits, slow]) {
    const answer = await raw.answer();
    isStored(t, answer, 'accepted before');
    t.equal(answer.headers['connection'], 'close');
    await raw.ended();
  }
  t.same(await within(drained, 'the drain'), { requests: 0, connections: 0 });
});

t.test('draining: a request on a connection that is still open is refused, and its body let pass', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const raw = await Raw.connect(g.port);
  raw.write(`POST ${recordsOf('s')} HTTP/1.1\r\nHost: x\r\n`);
  await until(() => g.count('connections') === 1, 'it is there');
  // Half of a head, seen: the connection is not idle.
  t.equal((await ask(g.port, { path: '/healthz' })).status, 200);
  const drained = g.drain(20_000);
  raw.write('Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nlater');
  const answer = await raw.answer();
  isError(t, answer, 'DRAINING', 'too late');
  t.equal(answer.headers['connection'], 'close');
  t.same(await within(drained, 'the drain'), { requests: 0, connections: 0 });
});

t.test('draining within a time: what is left is counted', async (t) => {
  const g = await ByHand.start(t, { shedAgeMs: 0 });
  const endless = await Raw.connect(g.port);
  endless.write(head('s', 100) + 'no more');
  const waits = await Raw.connect(g.port);
  waits.write(head('s', 5) + 'waits');
  await untilFigures(g.port, (f) => f.queuedBytes > 0 && f.ingressBytes >= 100, 'both are under way');
  t.same(await g.drain(100), { requests: 2, connections: 2 });
  endless.destroy();
  waits.destroy();
});

/** Posts until the disk is full. @returns what is still without an answer then */
async function fillDisk(g: Inside): Promise<Promise<Answer>[]> {
  const waiting = new Set<Promise<Answer>>();
  const isFull = (): boolean => g.gateway.log.stats().state === 'full';
  for (let i = 0; i < 2000 && !isFull(); i++) {
    const answer = post(g.port, 's', Buffer.alloc(32 * KIB, `${i}:`), bytes);
    waiting.add(answer);
    void Promise.allSettled([answer]).then(() => waiting.delete(answer));
    await until(() => waiting.size < 8 || isFull(), 'an answer, or a full disk');
  }
  return [...waiting];
}

t.test(
  'a full disk: 503, not ready, and it goes on when there is space',
  { skip: process.getuid?.() === 0 ? false : 'mounting a small disk needs root' },
  async (t) => {
    const disk = SmallDisk.make('tmpfs', 12 * KIB * KIB);
    t.teardown(() => disk.unmount());
    disk.leave(4 * KIB * KIB);
    const g = await Inside.start(t, { shedAgeMs: 0, maxBlockMs: 60_000 }, { dir: join(disk.dir, 'log') });
    const waiting = await fillDisk(g);
    const ready = await ask(g.port, { path: '/readyz' });
    t.same([ready.status, JSON.parse(ready.text)], [503, { ready: false, state: 'full' }]);
    t.equal((await ask(g.port, { path: '/healthz' })).status, 200, 'and well');
    t.match((await ask(g.port, { path: '/metrics' })).text, /^spillway_log_state\{state="full"\} 1$/m);
    t.equal((await ask(g.port, { path: `${recordsOf('s')}?max=1` })).status, 200, 'reading goes on');
    const refusal = await post(g.port, 's', 'x', bytes);
    isError(t, refusal, 'DISK_FULL', 'a new one');
    t.ok(waiting.length > 0, `${waiting.length} were under way`);
    const lines = ['the disk is full: nothing is stored until there is space', 'there is space again: the log is open'];
    const logged = (line: string): number => g.lines.filter(({ msg }) => msg === line).length;
    await until(() => logged(lines[0]) > 0, 'it is logged');
    disk.release();
    for (const answer of await within(Promise.all(waiting), 'what was held back', 20_000)) {
      t.ok(answer.status === 200 || answer.status === 503, `held back: ${answer.status} ${answer.text}`);
    }
    await until(() => g.gateway.log.stats().state === 'open', 'the log is open again');
    t.equal((await ask(g.port, { path: '/readyz' })).status, 200, 'ready');
    isStored(t, await post(g.port, 's', 'x', bytes), 'it goes on by itself');
    await g.isAtRest(t, 'after a full disk');
    const { gateway, log } = g.gateway.stats();
    t.equal(gateway.records, log.durableOffset, 'what was answered is what is there');
    await until(() => logged(lines[1]) > 0, 'that it goes on is logged');
    t.same(lines.map(logged), [1, 1], 'each once');
    await g.end(t, [lines[0]]);
  },
);

t.test(
  'a drain on a full disk says what is left before the log is closed',
  { skip: process.getuid?.() === 0 ? false : 'mounting a small disk needs root' },
  async (t) => {
    const disk = SmallDisk.make('tmpfs', 12 * KIB * KIB);
    t.teardown(() => disk.unmount());
    disk.leave(4 * KIB * KIB);
    const options = { shedAgeMs: 0, maxBlockMs: 60_000, drainMs: 200 };
    const g = await Inside.start(t, options, { dir: join(disk.dir, 'log') });
    const waiting = await fillDisk(g);
    t.ok(waiting.length > 0, `${waiting.length} are held`);
    void Promise.allSettled(waiting);
    await t.rejects(g.gateway.end(), { code: 'DISK_FULL' });
    const left = g.lines.filter((line) => /drainMs/.test(line.msg)) as {
      level: number;
      msg: string;
      requests?: number;
    }[];
    t.match(left, [{ level: 50, requests: Number }]);
    t.ok(left[0].requests! > 0 && left[0].requests! <= waiting.length, `${left[0].requests} are left`);
  },
);

t.test('a drain that cuts peers who owe nothing leaves no request', async (t) => {
  const g = await Inside.start(t, { drainMs: 200 });
  const half = await Raw.connect(g.port);
  half.write('GET /healthz HTTP/1.1\r\nHo');
  await ask(g.port, { path: '/healthz' });
  t.same(await g.end(t), { requests: 0, connections: 1 });
  t.match(
    g.lines.filter((line) => /drainMs/.test(line.msg)),
    [{ level: 40, requests: 0, connections: 1 }],
  );
});
