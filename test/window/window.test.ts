import t from 'tap';
import { closeReason, fullBy, remainingMs } from '../../src/window/window.ts';

const window = { maxRecords: 10, maxBytes: 1000, lingerMs: 5 };
const waiting = { records: 1, bytes: 100, ageMs: 0, flush: false };

t.test('each reason closes the batch when it alone holds', async (t) => {
  t.equal(closeReason(window, { ...waiting, records: 10 }), 'records');
  t.equal(closeReason(window, { ...waiting, bytes: 1000 }), 'bytes');
  t.equal(closeReason(window, { ...waiting, flush: true }), 'flush');
  t.equal(closeReason(window, { ...waiting, ageMs: 5 }), 'linger');
  t.equal(closeReason({ ...window, lingerMs: 0 }, waiting), 'idle');
});

t.test('nothing closes while nothing holds, and an empty batch never closes', async (t) => {
  t.equal(closeReason(window, waiting), undefined);
  t.equal(closeReason(window, { ...waiting, records: 9, bytes: 999, ageMs: 4.999 }), undefined);
  t.equal(closeReason(window, { records: 0, bytes: 0, ageMs: 99, flush: true }), undefined);
  t.equal(closeReason({ ...window, lingerMs: 0 }, { records: 0, bytes: 0, ageMs: 0, flush: false }), undefined);
});

t.test('a full window is named before the clock and before a flush', async (t) => {
  t.equal(closeReason(window, { records: 10, bytes: 1000, ageMs: 99, flush: true }), 'records');
  t.equal(closeReason(window, { records: 9, bytes: 1000, ageMs: 99, flush: true }), 'bytes');
  t.equal(closeReason({ ...window, lingerMs: 0 }, { records: 10, bytes: 1, ageMs: 0, flush: false }), 'records');
  t.equal(fullBy(window, 9, 999), undefined);
});

t.test('remainingMs counts down to the linger, simulated clock', async (t) => {
  let nowMs = 100;
  const arrivedMs = nowMs;
  const look = (): typeof waiting => ({ ...waiting, ageMs: nowMs - arrivedMs });
  const closedAt: number[] = [];
  while (closedAt.length === 0) {
    if (closeReason(window, look()) === 'linger') closedAt.push(nowMs);
    nowMs += remainingMs(window, look()) / 2 + 0.001;
  }
  t.ok(closedAt[0] >= 105 && closedAt[0] < 105.01, `closed at ${closedAt[0]}`);
  t.equal(remainingMs(window, { ...waiting, records: 0 }), Infinity);
  t.equal(remainingMs(window, { ...waiting, ageMs: 7 }), 0);
});
