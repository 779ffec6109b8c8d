// The adaptive window of a gateway, as those see it who run it: stats, metrics, and a line at level debug per decision. The law and what
// feeds it: test/window/aimd.test.ts, test/pipeline/window-control.test.ts.

import t from 'tap';
import { WindowLines } from '../../src/ingress/log-state.ts';
import type { WindowStats } from '../../src/pipeline/log-stats.ts';
import { windowReasons } from '../../src/window/aimd.ts';
import { Inside } from '../support/gateway-inside.ts';
import { ask, post } from '../support/gateway-talk.ts';

const plain = { 'content-type': 'text/plain' };

t.test('a gateway with an SLO decides, and says so in stats, metrics and its log', async (t) => {
  const g = await Inside.start(t, { sloP99Ms: 25 }, { window: { maxBytes: '64KiB', sloP99Ms: 25 } });
  const windowOf = (): WindowStats => g.gateway.stats().log.window;
  t.match(windowOf(), { sloP99Ms: 25, lingerMs: 0, reason: 'start', decisions: 0, p99Ms: null });
  const untilMs = performance.now() + 20_000;
  while (windowOf().decisions < 2 && performance.now() < untilMs) {
    await Promise.all(Array.from({ length: 16 }, () => post(g.port, 's', 'x', plain)));
  }
  t.ok(windowOf().decisions >= 2, `${windowOf().decisions} decisions`);
  const untilLogged = performance.now() + 5000;
  while (!g.lines.some((l) => l.msg.startsWith('window: ')) && performance.now() < untilLogged)
    await post(g.port, 's', 'x', plain);
  t.ok(
    g.lines.some((l) => l.level === 20 && /^window: linger \d+\.\d\d ms \([a-z]+\)$/.test(l.msg)),
    'at level debug',
  );
  const { text } = await ask(g.port, { path: '/metrics' });
  const value = (name: string): number => Number(new RegExp(`^spillway_${name} (.*)$`, 'm').exec(text)?.[1]);
  t.ok(value('window_decisions_total') >= 2);
  t.ok(value('window_p99_ms') > 0);
  t.equal(value('window_slo_p99_ms'), 25);
  t.ok(value('window_linger_ms') >= 0 && value('window_linger_ms') < 25);
  const reasons = [...text.matchAll(/^spillway_window_reason\{reason="([a-z]+)"\} ([01])$/gm)];
  t.strictSame(
    reasons.map((m) => m[1]),
    [...windowReasons],
  );
  t.equal(reasons.filter((m) => m[2] === '1').length, 1, 'one of them');
  const stats = JSON.parse((await ask(g.port, { path: '/v1/stats' })).text) as ReturnType<typeof g.gateway.stats>;
  t.equal(stats.sloP99Ms, 25);
  t.match(stats.log.window, { sloP99Ms: 25, unreachable: false, fileFailures: 0 });
  await g.end(t);
});

t.test('a window that stays: its linger alone', async (t) => {
  const g = await Inside.start(t, {}, { window: { maxBytes: '64KiB', lingerMs: 1 } });
  const { text } = await ask(g.port, { path: '/metrics' });
  t.match(text, /^spillway_window_linger_ms 1$/m);
  t.notMatch(text, /spillway_window_(slo|p99|reason|decisions)/);
  await g.end(t);
});

t.test('lines: one per decision, and one where the SLO goes out of reach and comes back', async (t) => {
  const said: string[] = [];
  const say =
    (level: string) =>
    (...args: unknown[]) =>
      void said.push(`${level} ${String(args.at(-1))}`);
  const window: { -readonly [K in keyof WindowStats]: WindowStats[K] } = {
    lingerMs: 3,
    sloP99Ms: 20,
    p99Ms: 7,
    reason: 'grow',
    decisions: 0,
    breaches: 0,
    unreachable: false,
    fileFailures: 0,
  };
  const lines = new WindowLines({ window }, { debug: say('debug'), warn: say('warn'), info: say('info') } as never);
  lines.look();
  t.strictSame(said, [], 'nothing was decided');
  window.decisions = 1;
  lines.look();
  lines.look();
  t.strictSame(said.splice(0), ['debug window: linger 3.00 ms (grow)']);
  Object.assign(window, { decisions: 2, lingerMs: 0, reason: 'unreachable', unreachable: true });
  lines.look();
  window.decisions = 3;
  lines.look();
  Object.assign(window, { decisions: 4, reason: 'grow', unreachable: false });
  lines.look();
  t.strictSame(said, [
    'debug window: linger 0.00 ms (unreachable)',
    'warn a p99 of 20 ms is out of reach: a durable write alone takes longer; nothing lingers',
    'debug window: linger 0.00 ms (unreachable)',
    'debug window: linger 0.00 ms (grow)',
    'info a p99 of 20 ms is within reach again',
  ]);
});
