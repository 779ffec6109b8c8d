// Time on a connection of the framed protocol: the beat that who waits hears, and the deadlines of HELLO and of a frame.

import t from 'tap';
import type { Socket } from 'node:net';
import type { ErrorCode } from '../../src/base/errors.ts';
import { encodeStream, frameType } from '../../src/codec/frames.ts';
import { Pulse } from '../../src/ingress/pulse.ts';
import type { TcpLimits } from '../../src/ingress/tcp-host.ts';
import { append, hello, open, PipeClient, TestHost, turns, until } from '../support/tcp-pipe.ts';

t.test('whoever waits hears something at every beat, and nobody else', async (t) => {
  const host = new TestHost();
  const client = await open(host);
  const pulse = new Pulse(client.pipe as unknown as Socket, () => client.connection.owes);
  const heard = async (which: PipeClient, beating: Pulse): Promise<number> => {
    const before = which.count(frameType.credit);
    beating.beat();
    await turns();
    return which.count(frameType.credit) - before;
  };
  t.equal(await heard(client, pulse), 0, 'WELCOME has just been written');
  t.equal(await heard(client, pulse), 0, 'it waits for nothing');
  client.send(append(0));
  await until('the append', () => host.calls.length === 1);
  const { credit } = client;
  for (let i = 0; i < 3; i++) t.equal(await heard(client, pulse), 1, 'its record is held');
  t.equal(client.credit, credit, 'of nothing');

  const newer = new PipeClient(host);
  const newerPulse = new Pulse(newer.pipe as unknown as Socket, () => newer.connection.owes);
  t.equal(await heard(newer, newerPulse), 0, 'before HELLO');
  newer.send(hello(0));
  await turns();
  t.equal(newer.welcome, undefined);
  t.equal(await heard(newer, newerPulse), 1, 'its producer is held by an older connection');
  t.equal(await heard(client, pulse), 0, 'which was cut');
  host.calls[0].durableAt(0);
  await until('WELCOME', () => newer.welcome !== undefined);
  newer.send(encodeStream(1, 'orders'), append(0));
  await until('an ACK', () => newer.acked === 1);
  await heard(newer, newerPulse);
  t.equal(await heard(newer, newerPulse), 0, 'all is answered');
});

t.test('no HELLO, half a HELLO, half a frame: cut after their time', async (t) => {
  // Deadlines keep no process alive, and there is no socket here.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(alive));
  const cases: Record<string, { limits: Partial<TcpLimits>; before: Uint8Array; code: ErrorCode }> = {
    nothing: { limits: { helloMs: 20 }, before: new Uint8Array(0), code: 'REQUEST_TIMEOUT' },
    'half a HELLO': { limits: { helloMs: 20 }, before: hello().subarray(0, 20), code: 'REQUEST_TIMEOUT' },
  };
  for (const [name, { limits, before, code }] of Object.entries(cases)) {
    const host = new TestHost(limits);
    const client = new PipeClient(host);
    if (before.length > 0) client.send(before);
    await client.connection.ended;
    t.match(client.errors, [{ code, records: 0, retryable: true }], name);
  }
  for (const part of [4, 30]) {
    const host = new TestHost({ frameMs: 30 });
    host.autoOffset = 0;
    const client = await open(host);
    client.send(append(0), append(1).subarray(0, part));
    await client.connection.ended;
    t.match(client.errors, [{ code: 'REQUEST_TIMEOUT', records: 0 }], `${part} bytes of a frame`);
    t.equal(client.acked, 1);
  }
});

/** setTimeout under the control of the test. */
class FakeTimers {
  #nowMs = 0;
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  readonly #due = new Map<object, { atMs: number; run: () => void }>();

  install(): void {
    const start = (run: () => void, ms: number): object => {
      const timer = {
        unref: () => timer,
        refresh: () => (this.#due.set(timer, { atMs: this.#nowMs + ms, run }), timer),
      };
      return timer.refresh();
    };
    globalThis.setTimeout = start as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((timer: object) => this.#due.delete(timer)) as typeof clearTimeout;
  }

  uninstall(): void {
    Object.assign(globalThis, this.#real);
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const [timer, { atMs, run }] of this.#due) {
      if (atMs > this.#nowMs) continue;
      this.#due.delete(timer);
      run();
    }
  }
}

t.test('the time of a frame begins with it: not with the one before, and not while nothing is read', async (t) => {
  const timers = new FakeTimers();
  timers.install();
  t.teardown(() => timers.uninstall());
  const host = new TestHost({ frameMs: 1000, maxUnsettledFrames: 1 });
  const client = await open(host);
  const [a, b, c] = [append(0), append(1), append(2)];
  const step = async (ms: number, ...parts: Uint8Array[]): Promise<number> => {
    timers.advance(ms);
    for (const part of parts) client.send(part);
    await turns();
    return client.errors.length;
  };
  t.equal(await step(5000, a.subarray(0, 10)), 0, 'an idle connection has no deadline');
  t.equal(await step(900, a.subarray(10)), 0);
  t.equal(await step(5000, b.subarray(0, 10)), 0, 'nor has one between two frames');
  t.equal(await step(900, Buffer.concat([b.subarray(10), c.subarray(0, 10)])), 0);
  t.equal(client.pipe.isPaused(), true, 'two frames have no answer');
  t.equal(await step(5000), 0, 'not read from for 5 s');
  t.equal(await step(700), 0, 'and some more');
  host.calls.forEach((call) => call.durableAt(0));
  t.equal(await step(0), 0);
  t.equal(client.pipe.isPaused(), false);
  t.equal(await step(999, c.subarray(10, 11)), 0);
  t.equal(await step(2, c.subarray(11, 12)), 1, '1,000 ms after reading went on, however it trickles');
  t.match(client.errors, [{ code: 'REQUEST_TIMEOUT' }]);

  const other = new TestHost({ frameMs: 1000 });
  const busy = await open(other);
  busy.send(a.subarray(0, 10));
  await turns();
  timers.advance(900);
  busy.send(Buffer.concat([a.subarray(10), b.subarray(0, 10)]));
  await turns();
  timers.advance(900);
  await turns();
  t.strictSame(busy.errors, [], 'one chunk ended a frame and began the next');
  timers.advance(200);
  await turns();
  t.match(busy.errors, [{ code: 'REQUEST_TIMEOUT' }]);
});
