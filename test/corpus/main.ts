// `npm run test:corpus [-- --full] [--only CASE] [--node PATH]`: every case of bad input over raw sockets against gateway processes,
// one table, bench/out/corpus.json. Exit 1 where a case got what it should not, or left something behind.
//
//     --full        also what waits for deadlines that no option shortens: two minutes more
//     --only CASE   one case, by its name as printed
//     --node PATH   another Node for the gateways
//     --page        writes docs/bad-input.md from the cases, and runs nothing

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { orExit, readFlags } from '../../bench/lib/experiment.ts';
import { Report } from '../../bench/lib/report.ts';
import { root, runCorpus, type CorpusOutcome } from './corpus.ts';
import { renderPage } from './page.ts';
import { RSS_BOUND_BYTES, type AreaOutcome, type Outcome } from './run.ts';
import { MIB } from './case.ts';

const USAGE = 'npm run test:corpus [-- --full] [--only TEXT] [--node PATH] [--page]';
const { values } = orExit('corpus', () =>
  readFlags(USAGE, {
    full: { type: 'boolean', default: false },
    only: { type: 'string' },
    node: { type: 'string' },
    page: { type: 'boolean', default: false },
  }),
);

const isWrong = ({ wrong }: Outcome): boolean => wrong.length > 0;
const leftOf = ({ outcomes, left }: AreaOutcome): number =>
  outcomes.filter((o) => o.left.length > 0).length + left.length;

function print(report: Report, { areas, gateways, skipped }: CorpusOutcome): void {
  const rows = areas.map((area) => [
    area.area,
    area.outcomes.length,
    area.outcomes.filter(isWrong).length,
    leftOf(area),
    (area.outcomes.reduce((sum, { ms }) => sum + ms, 0) / 1000).toFixed(1),
  ]);
  rows.push(...skipped.map(({ area, cases, why }) => [area, `${cases} skipped`, '–', '–', why]));
  report.table(['area', 'cases', 'wrong answers', 'left behind', 'seconds'], rows);
  for (const { area, outcomes, left } of areas) {
    for (const o of outcomes) {
      for (const wrong of [...o.wrong, ...o.left.map((what) => `left behind: ${what}`)]) {
        report.say(`  ! ${area}: ${o.name}: ${wrong}; npm run test:corpus -- --only '${o.name}'`);
      }
    }
    for (const what of left) report.say(`  ! ${area}: left behind: ${what}`);
  }
  for (const { gateway, wrongEnd } of gateways)
    for (const wrong of wrongEnd) report.say(`  ! gateway ${gateway}: ${wrong}`);
}

function check(report: Report, { areas, gateways, skipped }: CorpusOutcome): void {
  for (const area of areas) {
    const wrong = area.outcomes.filter(isWrong).length;
    report.exact(`${area.area}: wrong answers`, wrong === 0, wrong, `0 of ${area.outcomes.length} cases`);
    report.exact(`${area.area}: left behind`, leftOf(area) === 0, leftOf(area), '0');
  }
  for (const { gateway, peakMiB, sumMiB, descriptors, wrongEnd } of gateways) {
    report.exact(`gateway ${gateway}: drains and ends with 0`, wrongEnd.length === 0, wrongEnd.length, '0 complaints');
    report.exact(
      `gateway ${gateway}: peak MiB`,
      peakMiB === null || peakMiB <= sumMiB,
      peakMiB,
      `≤ ${sumMiB}, the memory sum`,
    );
    const name = `gateway ${gateway}: descriptors at rest`;
    if (descriptors === null) report.measured(name, false, null, 'those of before', 'they could not be counted');
    else report.exact(name, descriptors.after <= descriptors.before, descriptors.after, `≤ ${descriptors.before}`);
  }
  for (const { area, why } of skipped)
    report.checks.push({
      name: `${area}: wrong answers`,
      pass: null,
      figure: null,
      target: '0',
      note: `skipped: ${why}`,
    });
}

async function main(): Promise<number> {
  if (values.page) {
    writeFileSync(join(root, 'docs', 'bad-input.md'), renderPage());
    return 0;
  }
  const { full, only, node } = values;
  const parameters = {
    full,
    only: only ?? null,
    gatewayNode: node ?? process.version,
    rssBoundMiB: RSS_BOUND_BYTES / MIB,
  };
  // A part is not the corpus: its figures lie beside those of all.
  const report = new Report(only === undefined ? 'corpus' : 'corpus-part', false, root, root, parameters);
  report.begin(['every case: the documented answer, nothing stored that may not be, nothing left behind']);
  const outcome = await runCorpus({ full, only, node, progress: (text) => report.progress(text) });
  if (outcome.areas.length + outcome.skipped.length === 0) {
    console.error(`test:corpus: --only '${only}': no case is called that`);
    return 2;
  }
  report.results = outcome;
  print(report, outcome);
  check(report, outcome);
  return report.finish();
}

process.exitCode = await main();
