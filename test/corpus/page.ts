// docs/bad-input.md, printed from the cases: what the page says is what is tried.

import { errorKinds, type ErrorCode } from '../../src/base/errors.ts';
import { areas } from './areas.ts';
import { latin1, type Area, type Case } from './case.ts';
import { configCases } from './configuration.ts';

const cell = (text: string): string =>
  text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('*', '\\*').replaceAll('_', '\\_');

function said(c: Case, to: Area['to']): string {
  const words = c.gets.map((word) => {
    if (to !== 'http' || !Object.hasOwn(errorKinds, word)) return String(word).replace(/[A-Z]+_[A-Z_]+/, '`$&`');
    return `${errorKinds[word as ErrorCode].status} \`${word}\``;
  });
  const silent = words.length === 0 ? ['the client goes away'] : [];
  return [...words, ...silent].join(', ');
}

function stored(c: Case): string {
  if (c.mayStore !== undefined) return 'some of them, acknowledged';
  const records = c.stores?.({ stream: '', token: '' }) ?? [];
  if (records.length === 0) return '';
  const bytes = records.reduce((sum, record) => sum + latin1(record).length, 0);
  return `${records.length.toLocaleString('en-US')} (${bytes.toLocaleString('en-US')} B)`;
}

function areaLines(area: Area): string[] {
  const rows = area.cases.map((c) => `| ${cell(c.name)} | ${said(c, area.to)} | ${stored(c)} |`);
  return [
    `## ${area.name}`,
    '',
    area.about,
    '',
    '| what comes | what it gets | records stored |',
    '|---|---|---|',
    ...rows,
    '',
  ];
}

export function renderPage(): string {
  const count = areas.reduce((sum, { cases }) => sum + cases.length, 0) + configCases.length;
  return [
    '# What bad input gets',
    '',
    'Printed from the cases in `test/corpus/` by `npm run test:corpus -- --page`. `npm run test:corpus` sends each of them over a raw socket to a',
    `running gateway with default limits, ${count} in all. After every one it asks: did the client hear exactly this, is the process alive, does it take a good`,
    'record over a fresh connection, does the log hold what stands here and nothing else, did a counter move (docs/operate.md), is nothing held',
    'for anybody; after every table: are the descriptors and the memory those of before. Codes: [errors.md](errors.md).',
    '',
    '*closed*: the gateway closes the connection behind it, so that nothing that follows is taken for a request. Cases that wait for a deadline',
    '(10 s, 30 s) run with `--full`. A name in the first column is the handle of `--only`.',
    '',
    ...areas.flatMap(areaLines),
    '## configuration',
    '',
    '`spillway serve` and `config explain` do not start: exit 2, and one line on stderr that names the key and where it stands.',
    '',
    '| what is wrong |',
    '|---|',
    ...configCases.map((c) => `| ${cell(c.name)} |`),
    '',
  ].join('\n');
}
