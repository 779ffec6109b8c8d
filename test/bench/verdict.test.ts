// Which rounds of load say something of the target.

import t from 'tap';
import { judgeable, ownLimit, type Loaded } from '../../bench/lib/verdict.ts';

const run = (limit: Loaded['limit']): Loaded => ({ limit, verdict: `limit ${limit}` });
const [none, target, generator] = [run('none'), run('target'), run('generator')];

t.test('a run whose generator was the limit is not judged', async (t) => {
  t.equal(ownLimit(none), undefined);
  t.equal(ownLimit(target), undefined);
  t.equal(ownLimit(generator), 'limit generator');
});

t.test('rounds whose generator was the limit do not count; where most are such, none is judged', async (t) => {
  const fit = { alone: none, among: target };
  const unfit = { alone: none, among: generator };
  const of = ({ alone, among }: typeof fit): Loaded[] => [alone, among];
  t.strictSame(judgeable([fit, fit], of), { rounds: [fit, fit] });
  t.strictSame(judgeable([unfit, fit], of), { rounds: [fit] });
  const most = judgeable([unfit, unfit, fit], of);
  t.strictSame(most.rounds, [unfit, unfit, fit]);
  t.equal(most.note, 'the generator was the limit in 2 of 3 rounds');
  t.match(judgeable([unfit], of), { note: 'the generator was the limit in 1 of 1 rounds' });
  t.match(judgeable([], of), { rounds: [], note: String });
});
