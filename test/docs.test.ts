// The documents say what the code does: tables are printed from it, the hex example is decoded by it.

import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  checksumMatches,
  decodeBatchHeader,
  decodeRecords,
  decodeSegmentHeader,
  type BatchHeader,
} from '../src/log/format.ts';
import { codecs } from '../src/base/types.ts';
import { batchDecoder } from '../src/codec/batch-codec.ts';
import { Unpacker } from '../src/log/unpack.ts';
import { crc32cJs } from '../src/platform/js-bytes.ts';
import { compressing, needs } from './support/codecs.ts';
import { renderConstants } from '../scripts/generate-constants.ts';
import { renderErrors, renderOptions } from '../scripts/generate-docs.ts';

const root = process.cwd();
const text = (...path: string[]): string => readFileSync(join(root, ...path), 'utf8');

function hex(name: string): Buffer {
  const match = new RegExp(`\`\`\`hex ${name}\\n([0-9a-f\\n]+)\`\`\``).exec(text('docs', 'format.md'));
  return Buffer.from(match![1].replaceAll('\n', ''), 'hex');
}

t.test('generated files are what their sources give', async (t) => {
  t.equal(text('docs', 'options.md'), renderOptions());
  t.equal(text('docs', 'errors.md'), renderErrors());
  t.equal(text('native', 'constants.h'), renderConstants());
});

t.test('docs/format.md: the example decodes to what it says', async (t) => {
  const segment = decodeSegmentHeader(hex('segment'), crc32cJs);
  if ('invalid' in segment) throw new Error(segment.invalid);
  t.match(segment, { baseOffset: 0, epoch: 1, segmentBytes: 2 * 1024 * 1024 });
  const block = Buffer.alloc(4096);
  hex('batch').copy(block);
  const header = decodeBatchHeader(block, segment, 4096) as BatchHeader;
  t.match(header, { codec: 0, streams: 1, batchBytes: 4096, bodyBytes: 56, tableBytes: 16, records: 2, baseOffset: 0 });
  t.ok(checksumMatches(block, header, crc32cJs));
  const records = decodeRecords(block, header, { from: 0, stream: undefined });
  t.match(records, [
    { offset: 0, stream: 'orders', key: null, unterminated: false },
    { offset: 1, stream: 'orders' },
  ]);
  if (Array.isArray(records))
    t.same(
      records.map((r) => Buffer.from(r.payload).toString()),
      ['hello', ''],
    );
});

for (const codec of compressing) {
  t.test(`docs/format.md: the ${codec} example decodes to what it says`, needs(codec), async (t) => {
    const bytes = Buffer.alloc(4096);
    hex(codec).copy(bytes);
    const header = decodeBatchHeader(bytes, { epoch: 1, salt: 0x09655166 }, 4096) as BatchHeader;
    t.match(header, { codec: codecs.indexOf(codec), rawBytes: 4816, tableBytes: 16, records: 200, baseOffset: 2 });
    t.ok(checksumMatches(bytes, header, crc32cJs));
    const all = { from: 0, stream: undefined };
    const records = new Unpacker(batchDecoder).records({ header, bytes }, all, 'docs/format.md');
    if (!Array.isArray(records)) throw new Error(records.invalid);
    t.equal(records.length, 200);
    t.ok(records.every((r) => r.stream === 'orders' && Buffer.from(r.payload).toString() === 'hello'));
  });
}

t.test('THREATS.md: each row names a test that there is', async (t) => {
  const rows = text('THREATS.md')
    .split('\n')
    .filter((line) => /^\| (?:stranger|client|reader of logs|machine) \|/.test(line));
  t.ok(rows.length > 20, `${rows.length} rows`);
  for (const row of rows) {
    const [, file, title] = /`([a-z-]+\/[a-z-]+\.test\.ts)`: (.+) \|$/.exec(row) ?? [];
    if (file === undefined) t.fail(`no test by file and title: ${row}`);
    else t.ok(text('test', file).includes(`t.test('${title}'`), `${file}: ${title}`);
  }
});

t.test('README.md: the example of embedding runs as it stands', async (t) => {
  const example = /```js\n(import \{ open \}[\s\S]*?)```/.exec(text('README.md'))![1];
  // Beside the compiled code, so that 'spillway' is this package.
  const file = join(root, 'dist', 'readme-example.mjs');
  const dir = join(root, 'dist', 'readme-data');
  rmSync(dir, { recursive: true, force: true });
  writeFileSync(file, example.replace("'./data'", JSON.stringify(dir)));
  t.teardown(() => {
    rmSync(dir, { recursive: true, force: true });
    rmSync(file);
  });
  const run = spawnSync(process.execPath, [file], { encoding: 'utf8' });
  t.equal(run.status, 0, run.stderr);
  t.match(run.stdout, /^0 orders \d+ \{"id":1\}\n1 orders \d+ a\n2 orders \d+ b\n\{/);
});
