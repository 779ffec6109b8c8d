import t from 'tap';
import * as fc from 'fast-check';
import { Shed } from '../../src/flow/shed.ts';
import { Watermark } from '../../src/flow/watermark.ts';

t.test('above from the high mark on, until down at the low one', async (t) => {
  const mark = new Watermark(80, 50);
  t.equal(mark.above, false);
  const answers = [79, 80, 79, 51, 50, 51, 79, 80].map((level) => mark.update(level));
  t.same(answers, [false, true, true, true, false, false, false, true]);
  t.equal(mark.above, true);
});

t.test('a low mark of 0 lets producers go on once there is nothing left', async (t) => {
  const mark = new Watermark(1, 0);
  t.same(
    [1, 0.01, 0, 0.99].map((level) => mark.update(level)),
    [true, true, false, false],
  );
});

t.test('the answer is that of the last level that was outside the marks', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(100), { maxLength: 60, size: 'max' }),
      fc.nat(48),
      fc.integer({ min: 1, max: 50 }),
      (levels, low, gap) => {
        const high = low + gap;
        const mark = new Watermark(high, low);
        return levels.every((level, i) => {
          const outside = levels.slice(0, i + 1).findLast((l) => l >= high || l <= low) ?? 0;
          return mark.update(level) === outside >= high && mark.above === outside >= high;
        });
      },
    ),
    { seed: 2, numRuns: 300 },
  );
  t.pass('300 runs');
});

t.test('sheds from above the bound until below half of it', async (t) => {
  const shed = new Shed(2000);
  t.equal(shed.shedding, false);
  const answers = [0, 2000, 2000.5, 1500, 1000, 999, 1999, 2001, 0].map((age) => shed.update(age));
  t.same(answers, [false, false, true, true, true, false, false, true, false]);
  shed.update(5000);
  t.equal(shed.shedding, true);
});

t.test('a bound of 0 never sheds', async (t) => {
  const shed = new Shed(0);
  t.same(
    [0, 1, 1e12].map((age) => shed.update(age)),
    [false, false, false],
  );
});
