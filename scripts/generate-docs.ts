// Prints docs/options.md and docs/errors.md from the tables that the program itself uses; a test compares the files.
// `node dist/scripts/generate-docs.js` after a change.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { errorKinds } from '../src/base/errors.ts';
import { describeOption, logOptionTable, type OptionSpec } from '../src/base/options.ts';

const cell = (text: string): string => text.replace(/\|/g, '\\|');

export function renderOptions(): string {
  const rows = (logOptionTable as readonly OptionSpec[]).map((spec) => {
    const { flag, defaultText, bounds } = describeOption(spec);
    return `| \`${spec.name}\` | \`${flag}\` | ${defaultText} | ${cell(bounds)} | ${cell(spec.sentence)} |`;
  });
  return [
    '# Options',
    '',
    'Printed from the one options table (`src/base/options.ts`) by `scripts/generate-docs.ts`. Sizes are a number of bytes or',
    "text such as `'64KiB'`, `'1MiB'`, `'10MB'`. The dotted names are those of `open({ … })`, the flags those of `spillway ingest`.",
    '',
    '| option | flag | default | bounds | meaning |',
    '|---|---|---|---|---|',
    ...rows,
    '',
    'Bounds that tie options to each other: `laneBytes` is a power of two; `maxRecordBytes` is at most a quarter and',
    '`window.maxBytes` at most half of `laneBytes`; `segmentBytes` holds at least the largest batch.',
    '',
  ].join('\n');
}

export function renderErrors(): string {
  const rows = Object.entries(errorKinds).map(
    ([code, kind]) => `| \`${code}\` | ${kind.retryable ? 'yes' : 'no'} | ${kind.exit} | ${cell(kind.meaning)} |`,
  );
  return [
    '# Errors',
    '',
    'Printed from the closed list in `src/base/errors.ts` by `scripts/generate-docs.ts`. Every public function throws or rejects',
    'with a `SpillwayError`; its `code` is the contract, its `message` one line that may improve. *Retryable*: the same call',
    'may succeed later without anybody changing anything. *Exit*: status of the command line.',
    '',
    '| code | retryable | exit | meaning |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(join(process.cwd(), 'docs', 'options.md'), renderOptions());
  writeFileSync(join(process.cwd(), 'docs', 'errors.md'), renderErrors());
}
