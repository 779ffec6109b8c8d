// The tail that forgets: quantiles of what came in the last seconds, and of nothing older; what is out of range counts at its end.

import t from 'tap';
import { Recent } from '../../src/window/recent.ts';

t.test('quantiles are upper bounds of what was added, within the range', async (t) => {
  const recent = new Recent(-20, 80, 5000);
  recent.age(0);
  t.equal(recent.quantile(0.99), -20, 'nothing yet');
  for (let i = 1; i <= 100; i++) recent.add(i / 2, 1);
  for (const q of [0.01, 0.5, 0.99, 1]) {
    const exact = (q * 100) / 2;
    const got = recent.quantile(q);
    t.ok(got >= exact && got <= exact + 100 / 512 + 1e-9, `${q}: ${got}, exactly ${exact}`);
  }
  recent.add(1e9, 1000);
  t.equal(recent.quantile(0.99), 80, 'above the range');
  recent.add(-1e9, 1e6);
  t.ok(recent.quantile(0.5) <= -20 + 100 / 512 + 1e-9, 'below it');
});

t.test('what is older than the memory is gone, and what is younger by a slice is there', async (t) => {
  const recent = new Recent(0, 100, 5000);
  recent.age(1000);
  recent.add(90, 10);
  for (let nowMs = 1000; nowMs <= 5400; nowMs += 100) {
    recent.age(nowMs);
    recent.add(10, 1);
  }
  t.ok(recent.quantile(0.99) > 89, 'still there');
  recent.age(6000);
  t.ok(recent.quantile(1) < 11, 'forgotten');
  const { count } = recent;
  t.ok(count > 0 && count <= 45, `${count} of the others`);
  recent.age(1e9);
  t.equal(recent.count, 0, 'a long silence forgets all');
  recent.add(50, 1);
  recent.age(1e9 + 4000);
  t.equal(recent.count, 1, 'and goes on');
});
