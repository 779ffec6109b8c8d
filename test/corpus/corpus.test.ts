import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { areas } from './areas.ts';
import { post, TEXT, type Area } from './case.ts';
import { configCases } from './configuration.ts';
import { root, runCorpus } from './corpus.ts';
import { renderPage } from './page.ts';

const LEAST_CASES = 400;
const LIMIT_MS = 240_000;

t.test('docs/bad-input.md is what the cases say, and every name is one case', async (t) => {
  t.equal(readFileSync(join(root, 'docs', 'bad-input.md'), 'utf8'), renderPage(), 'npm run test:corpus -- --page');
  const names = [...areas.flatMap(({ cases }) => cases), ...configCases].map(({ name }) => name);
  t.same(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
    'no name is there twice',
  );
  t.ok(names.length >= LEAST_CASES, `${names.length} cases`);
});

t.test('a case that is wrong is seen', { timeout: LIMIT_MS }, async (t) => {
  const one = (stream: string): Uint8Array => post(stream, TEXT, 'x');
  const cases: Area['cases'] = [
    { name: 'another code', send: ({ stream }) => [post(stream, TEXT, '')], gets: ['BAD_REQUEST'] },
    { name: 'stored all the same', send: ({ stream }) => [one(stream)], gets: [200] },
    { name: 'other bytes', send: ({ stream }) => [one(stream)], gets: [200], stores: () => ['y'] },
    { name: 'elsewhere', send: () => [one('elsewhere')], gets: [200], stores: () => ['x'] },
    {
      name: 'one answer too many',
      send: ({ stream }) => [one(stream), post(stream, `${TEXT}Connection: close\r\n`, 'x')],
      gets: [200, 'closed'],
      stores: () => ['x', 'x'],
    },
    {
      name: 'a counter that stands',
      send: ({ stream }) => [one(stream)],
      gets: [200],
      stores: () => ['x'],
      moves: 'shed',
    },
    { name: 'a good one', send: ({ stream }) => [one(stream)], gets: [200], stores: () => ['x'] },
  ];
  const area: Area = { name: 'wrong', about: '', to: 'http', gateway: 'plain', cases };
  const { areas: done } = await runCorpus({ full: false, only: undefined, node: undefined, areas: [area] });
  t.same(
    done[0].outcomes.map(({ name, wrong }) => [name, wrong.length > 0]),
    cases.map(({ name }) => [name, name !== 'a good one']),
  );
});

t.test('every case gets what it should, and leaves nothing behind', { timeout: LIMIT_MS }, async (t) => {
  const { areas: done, gateways, skipped } = await runCorpus({ full: false, only: undefined, node: undefined });
  for (const { area, outcomes, left } of done) {
    const bad = outcomes.filter((o) => o.wrong.length + o.left.length > 0);
    t.same(bad, [], `${area}: ${outcomes.length} cases`);
    t.same(left, [], `${area}: nothing is left behind`);
  }
  for (const { gateway, wrongEnd, peakMiB, sumMiB } of gateways) {
    t.same(wrongEnd, [], `gateway ${gateway}: drains and ends with 0`);
    t.ok((peakMiB ?? 0) <= sumMiB, `gateway ${gateway}: ${peakMiB} MiB at its highest, of ${sumMiB}`);
  }
  for (const { area, why } of skipped) t.pass(area, { skip: why });
});
