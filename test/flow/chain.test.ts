import t from 'tap';
import * as fc from 'fast-check';
import { Chain, type Link } from '../../src/flow/chain.ts';

function valuesOf(chain: Chain<number>): number[] {
  const values: number[] = [];
  for (let link = chain.first; link !== undefined; link = link.after) values.push(link.value);
  return values;
}

function valuesBackwards(last: Link<number> | undefined): number[] {
  const values: number[] = [];
  for (let link = last; link !== undefined; link = link.before) values.unshift(link.value);
  return values;
}

t.test('a chain is an array from which members leave', async (t) => {
  const step = fc.record({ op: fc.constantFrom('push', 'remove', 'toEnd'), which: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const chain = new Chain<number>();
      const links: Link<number>[] = [];
      let model: number[] = [];
      for (const { op, which } of steps) {
        if (op === 'push' || links.length === 0) {
          model.push(links.length);
          links.push(chain.push(links.length));
          continue;
        }
        // Also one that has left already.
        const link = links[which % links.length];
        const inside = model.includes(link.value);
        const others = model.filter((value) => value !== link.value);
        if (op === 'remove') {
          if (chain.remove(link) !== inside) return false;
          model = others;
        } else {
          chain.moveToEnd(link);
          if (inside) model = [...others, link.value];
        }
        const last = links.find((l) => l.value === model.at(-1));
        const forwards = JSON.stringify(valuesOf(chain)) === JSON.stringify(model);
        const backwards = JSON.stringify(valuesBackwards(last)) === JSON.stringify(model);
        if (!forwards || !backwards || chain.length !== model.length) return false;
      }
      return true;
    }),
    { seed: 1, numRuns: 500 },
  );
  t.pass('500 runs');
});
