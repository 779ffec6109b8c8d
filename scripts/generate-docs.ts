// Prints docs/options.md and docs/errors.md from the tables that the program itself uses; a test compares the files.
// `node dist/scripts/generate-docs.js` after a change.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { errorKinds } from '../src/base/errors.ts';
import { gatewayOptionTable } from '../src/base/gateway-options.ts';
import { describeOption, logOptionTable, type OptionSpec } from '../src/base/options.ts';
import { variableOf } from '../src/cli/config.ts';

const cell = (text: string): string => text.replace(/\|/g, '\\|');

function optionRows(table: readonly OptionSpec[], more: (spec: OptionSpec) => readonly string[]): string[] {
  return table.map((spec) => {
    const { flag, defaultText, bounds } = describeOption(spec);
    const cells = [`\`${spec.name}\``, `\`${flag}\``, ...more(spec), defaultText, cell(bounds), cell(spec.sentence)];
    return `| ${cells.join(' | ')} |`;
  });
}

export function renderOptions(): string {
  return [
    '# Options',
    '',
    'Printed from the one options table (`src/base/options.ts`, `gateway-option-table.ts`) by `scripts/generate-docs.ts`. Sizes are a number',
    "of bytes or text such as `'64KiB'`, `'1MiB'`, `'10MB'`.",
    '',
    '## The log',
    '',
    'The dotted names are those of `open({ … })`, the flags those of `spillway ingest`.',
    '',
    '| option | flag | default | bounds | meaning |',
    '|---|---|---|---|---|',
    ...optionRows(logOptionTable, () => []),
    '',
    'Bounds that tie options to each other: `laneBytes` is a power of two; `maxRecordBytes` is at most a quarter and',
    '`window.maxBytes` at most half of `laneBytes`; `segmentBytes` holds at least the largest batch; `window.lingerMs` or `window.sloP99Ms`, not',
    'both.',
    '',
    '## The gateway',
    '',
    '`spillway serve` takes those of the log too (there `dir` is `./data`, `window.sloP99Ms` is `sloP99Ms` unless `window.lingerMs` is set, and `maxWaitingBytes` 16 MiB by default). A flag wins',
    'over the environment, that over the file of `--config`; `spillway config explain` shows which won.',
    '',
    '| option | flag | environment | default | bounds | meaning |',
    '|---|---|---|---|---|---|',
    ...optionRows(gatewayOptionTable, (spec) => [`\`${variableOf(spec.name)}\``]),
    '',
    'In the file alone, under `streams`: per stream name `overflow`, `maxBlockMs`, and `schema`, the path of a JSON Schema that every',
    'record of the stream must match.',
    '',
  ].join('\n');
}

export function renderErrors(): string {
  const rows = Object.entries(errorKinds).map(
    ([code, kind]) =>
      `| \`${code}\` | ${kind.retryable ? 'yes' : 'no'} | ${kind.exit} | ${kind.status} | ${cell(kind.meaning)} |`,
  );
  return [
    '# Errors',
    '',
    'Printed from the closed list in `src/base/errors.ts` by `scripts/generate-docs.ts`. Every public function throws or rejects',
    'with a `SpillwayError`; its `code` is the contract, its `message` one line that may improve. *Retryable*: the same call',
    'may succeed later without anybody changing anything. *Exit*: status of the command line. *HTTP*: status of the gateway.',
    '',
    '| code | retryable | exit | HTTP | meaning |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(join(process.cwd(), 'docs', 'options.md'), renderOptions());
  writeFileSync(join(process.cwd(), 'docs', 'errors.md'), renderErrors());
}
