// The command line as a person uses it: real processes, real files.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { temporaryDirectory, workingModes } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const logs = fileURLToPath(new URL('../../../../shared/data/logs', import.meta.url));

interface Run {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

function spillway(args: readonly string[], input?: Buffer | string): Run {
  const r = spawnSync(process.execPath, [main, ...args], {
    ...(input === undefined ? {} : { input }),
    maxBuffer: 2 ** 28,
  });
  return { status: r.status, stdout: r.stdout, stderr: r.stderr.toString() };
}

function lastJson(run: Run): Record<string, unknown> {
  return JSON.parse(run.stdout.toString().trimEnd().split('\n').at(-1)!) as Record<string, unknown>;
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const root = temporaryDirectory('spillway-cli-');
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let dirs = 0;
const newDir = (): string => join(root, `log-${dirs++}`);

for (const io of workingModes) {
  t.test(`${io}: ingest then read gives the same bytes, whatever the lines`, async (t) => {
    const texts: Record<string, Buffer> = {
      'with a last newline': Buffer.from('a\nb\n'),
      'without a last newline': Buffer.from('a\nb'),
      'empty lines': Buffer.from('\n\na\n\n'),
      'CRLF and odd bytes': Buffer.concat([Buffer.from('x\r\n'), Buffer.from([0, 255, 254, 10, 128, 10])]),
      'a long line': Buffer.from(`${'z'.repeat(900_000)}\nend`),
      nothing: Buffer.alloc(0),
      'one newline': Buffer.from('\n'),
      'many lines': Buffer.from(Array.from({ length: 30_000 }, (_, i) => `line ${i} ${'y'.repeat(i % 90)}`).join('\n')),
    };
    // Lines are cut before a mode plays a part: all cases in the first mode, two in each of the others.
    const cases = Object.entries(texts).filter(([name]) => io === workingModes[0] || /without|many/.test(name));
    for (const [name, text] of cases) {
      const dir = newDir();
      const ingest = spillway(
        ['ingest', '--dir', dir, '--stream', 's', '--io', io, '--json', '--segment-bytes', '4MiB'],
        text,
      );
      t.equal(ingest.status, 0, `${name}: ${ingest.stderr}`);
      const result = lastJson(ingest);
      t.equal(result['io'], io, 'the mode was reached');
      const read = spillway(['read', '--dir', dir, '--stream', 's', '--format', 'raw']);
      t.equal(sha256(read.stdout), sha256(text), `${name}: same bytes`);
      const verified = spillway(['verify', '--dir', dir, '--json']);
      t.equal(verified.status, 0);
      t.match(lastJson(verified), {
        ok: true,
        records: result['records'],
        bytes: result['bytes'],
        tornBytes: 0,
        problems: [],
      });
    }
  });
}

t.test(
  'real logs come back with the same SHA-256',
  { skip: existsSync(logs) ? false : 'no ../shared/data here' },
  async (t) => {
    for (const file of readdirSync(logs)) {
      const dir = newDir();
      const path = join(logs, file);
      t.equal(spillway(['ingest', '--dir', dir, '--stream', 'log', '--input', path]).status, 0);
      t.equal(sha256(spillway(['read', '--dir', dir, '--format', 'raw']).stdout), sha256(readFileSync(path)), file);
      t.match(lastJson(spillway(['verify', '--dir', dir, '--json'])), { ok: true, problems: [] });
    }
  },
);

t.test('ingest reports what the issue asks for, and the figures agree with each other', async (t) => {
  const dir = newDir();
  const run = spillway(
    ['ingest', '--dir', dir, '--stream', 's', '--window-records', '100', '--linger-ms', '60000', '--json'],
    'r\n'.repeat(1000),
  );
  const result = lastJson(run) as Record<string, number> & {
    syscalls: Record<string, number>;
    closeReasons: Record<string, number>;
  };
  t.match(result, { records: 1000, bytes: 1000, batches: 10, firstOffset: 0, lastOffset: 999 });
  t.equal(result.closeReasons['records'], 10);
  t.equal(result.syscalls['commitWrites'], 10);
  t.ok(result.syscalls['write'] >= 10 && result.syscalls['sync'] >= 1);
  const text = spillway(['ingest', '--dir', dir, '--stream', 's'], 'more\n').stdout.toString();
  t.match(text, /1 records are on stable storage/);
  t.match(text, /offsets +1000 to 1000/);
});

t.test('a line above the cap is refused by number, the rest goes on, exit 1', async (t) => {
  const dir = newDir();
  const text = `first\n${'x'.repeat(3000)}\nthird\n${'y'.repeat(5_000_000)}`;
  const run = spillway(['ingest', '--dir', dir, '--stream', 's', '--max-record-bytes', '2000', '--json'], text);
  t.equal(run.status, 1);
  t.match(run.stderr, /line 2: 3,000 bytes, at most 2,000 fit a record; not ingested \[RECORD_TOO_LARGE\]/);
  t.match(run.stderr, /line 4: 5,000,000 bytes/);
  t.match(lastJson(run), {
    records: 2,
    refused: 2,
    refusedLines: [
      { line: 2, bytes: 3000 },
      { line: 4, bytes: 5_000_000 },
    ],
  });
  t.equal(spillway(['read', '--dir', dir]).stdout.toString(), 'first\nthird\n');
});

t.test('read: stream, from, count, json', async (t) => {
  const dir = newDir();
  spillway(['ingest', '--dir', dir, '--stream', 'a'], '1\n2\n3\n');
  spillway(['ingest', '--dir', dir, '--stream', 'b'], Buffer.from([0xff, 10, 52, 10]));
  t.equal(spillway(['read', '--dir', dir, '--stream', 'a', '--from', '1', '--count', '1']).stdout.toString(), '2\n');
  t.equal(spillway(['read', '--dir', dir, '--count', '0']).stdout.length, 0);
  const rows = spillway(['read', '--dir', dir, '--format', 'json', '--from', '2'])
    .stdout.toString()
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l) as object);
  t.match(rows, [
    { offset: 2, stream: 'a', payload: '3', timestampMs: Number },
    { offset: 3, stream: 'b', payloadBase64: '/w==' },
    { offset: 4, stream: 'b', payload: '4' },
  ]);
  const beyond = spillway(['read', '--dir', dir, '--from', '99']);
  t.equal(beyond.status, 2);
  t.match(beyond.stderr, /offset 99 does not exist yet: the log ends at 5 \[OFFSET_OUT_OF_RANGE\]/);
});

t.test('read --follow from a second process while the first appends', async (t) => {
  const dir = newDir();
  const writer = spawn(process.execPath, [main, 'ingest', '--dir', dir, '--stream', 's', '--linger-ms', '1'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  t.teardown(() => writer.kill());
  writer.stdin.write('first\n');
  while (
    !existsSync(join(dir, 'checkpoint')) ||
    spillway(['verify', '--dir', dir, '--json']).stdout.indexOf('"records":1') < 0
  );
  const reader = spawn(process.execPath, [main, 'read', '--dir', dir, '--follow'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => reader.kill());
  let seen = '';
  reader.stdout.on('data', (d: Buffer) => (seen += d.toString()));
  const until = async (text: string): Promise<void> => {
    while (!seen.endsWith(text)) await once(reader.stdout, 'data');
  };
  await until('first\n');
  for (let i = 0; i < 20; i++) {
    writer.stdin.write(`line ${i}\n`);
    await until(`line ${i}\n`);
  }
  t.equal(seen.split('\n').length - 1, 21, 'each record once, while the writer was alive');
  t.equal(writer.exitCode, null);
  writer.stdin.end();
  await once(writer, 'exit');
  reader.kill('SIGTERM');
  const [code] = (await once(reader, 'exit')) as [number];
  t.equal(code, 0);
});

t.test('bad input: one clear line, a code, the documented exit status', async (t) => {
  const file = join(root, 'a-file');
  writeFileSync(file, 'x');
  const foreign = join(root, 'foreign');
  mkdirSync(foreign);
  writeFileSync(join(foreign, 'thesis.doc'), 'x');
  const dir = newDir();
  spillway(['ingest', '--dir', dir, '--stream', 's'], 'x\n');
  const ok = ['ingest', '--dir', dir, '--stream', 's'];
  const cases: [string, string[], number, RegExp][] = [
    ['directory is a file', ['ingest', '--dir', file, '--stream', 's'], 2, /not a directory.*\[DIR_UNUSABLE\]/],
    ['directory of somebody else', ['ingest', '--dir', foreign, '--stream', 's'], 2, /thesis\.doc.*\[NOT_A_LOG\]/],
    ['read what does not exist', ['read', '--dir', join(root, 'none')], 2, /no such directory \[DIR_UNUSABLE\]/],
    ['verify what is no log', ['verify', '--dir', foreign], 2, /\[NOT_A_LOG\]/],
    [
      'stream name',
      ['ingest', '--dir', dir, '--stream', '../x'],
      2,
      /stream name '\.\.\/x': expected.*\[INVALID_STREAM\]/,
    ],
    ['unknown option', [...ok, '--window-record', '3'], 2, /--window-records/],
    ['wrong number', [...ok, '--window-records', 'many'], 2, /--window-records.*expected a whole number/],
    ['wrong size', [...ok, '--segment-bytes', '10parsecs'], 2, /--segment-bytes.*expected a size/],
    ['options that do not fit', [...ok, '--segment-bytes', '64KiB'], 2, /segmentBytes.*at least.*\[INVALID_OPTION\]/],
    ['wrong mode', [...ok, '--io', 'fast'], 2, /direct.*buffered/],
    ['missing option', ['ingest', '--stream', 's'], 2, /--dir/],
    ['unknown command', ['ingets'], 2, /ingest/],
    ['input is missing', [...ok, '--input', join(root, 'nope')], 2, /--input.*no such file.*\[INVALID_OPTION\]/],
    ['input is a directory', [...ok, '--input', root], 2, /--input.*directory/],
  ];
  for (const [name, args, status, message] of cases) {
    const run = spillway(args, 'x\n');
    t.equal(run.status, status, `${name}: exit status (${run.stderr.trim()})`);
    t.match(run.stderr, message, name);
    t.notMatch(run.stderr, /\n\s+at /, `${name}: no stack trace`);
  }
  t.equal(spillway(['read', '--dir', dir]).stdout.toString(), 'x\n', 'nothing was lost or added');
  t.same(readdirSync(foreign), ['thesis.doc'], 'nothing was touched');
});

t.test('a locked directory names its holder; help and version exit with 0', async (t) => {
  const dir = newDir();
  const holder = spawn(process.execPath, [main, 'ingest', '--dir', dir, '--stream', 's'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  t.teardown(() => holder.kill());
  holder.stdin.write('x\n');
  while (!existsSync(join(dir, 'checkpoint')));
  const run = spillway(['ingest', '--dir', dir, '--stream', 's'], 'y\n');
  t.equal(run.status, 2);
  t.match(run.stderr, new RegExp(`open for writing by process ${holder.pid} .*\\[LOCKED\\]`));
  holder.stdin.end();
  await once(holder, 'exit');
  t.equal(spillway(['ingest', '--dir', dir, '--stream', 's'], 'y\n').status, 0);
  for (const args of [['--help'], ['ingest', '--help'], ['--version']]) t.equal(spillway(args).status, 0);
});

t.test('damage: verify and ingest exit with 3 and say where', async (t) => {
  const dir = newDir();
  spillway(
    ['ingest', '--dir', dir, '--stream', 's', '--window-records', '10', '--linger-ms', '1000'],
    'x\n'.repeat(100),
  );
  const segment = readdirSync(dir).find((f) => f.endsWith('.seg'))!;
  const bytes = readFileSync(join(dir, segment));
  bytes[4096 * 3 + 100] ^= 1;
  writeFileSync(join(dir, segment), bytes);
  const verified = spillway(['verify', '--dir', dir, '--json']);
  t.equal(verified.status, 3);
  t.match(lastJson(verified), {
    ok: false,
    problems: [{ file: segment, position: 4096 * 3, firstOffset: 20, lastOffset: 29 }],
  });
  const ingest = spillway(['ingest', '--dir', dir, '--stream', 's'], 'y\n');
  t.equal(ingest.status, 3);
  t.match(ingest.stderr, /at byte 12288, offsets 20 to 29: .*checksum.*\[CORRUPT\]/);
  t.equal(spillway(['read', '--dir', dir]).status, 3);
});

t.test('sample is the same for the same seed', async (t) => {
  const run = (seed: string): string =>
    execFileSync(process.execPath, [main, 'sample', '--records', '50', '--seed', seed]).toString();
  t.equal(run('7'), run('7'));
  t.not(run('7'), run('8'));
  t.equal(run('7').trim().split('\n').length, 50);
});

t.test('short lines in a crowd: none is missing in the middle, even where nothing may wait', async (t) => {
  const text = Array.from({ length: 400_000 }, (_, i) => i % 10).join('\n') + '\n'.repeat(50_000);
  for (const waiting of ['64MiB', '1MiB', '0']) {
    const dir = newDir();
    const run = spillway(
      ['ingest', '--dir', dir, '--stream', 's', '--lane-bytes', '4MiB', '--max-waiting-bytes', waiting, '--json'],
      text,
    );
    t.equal(run.status, 0, run.stderr);
    t.equal(sha256(spillway(['read', '--dir', dir]).stdout), sha256(Buffer.from(text)), `maxWaitingBytes ${waiting}`);
  }
});

t.test('a reader of stdout that goes away, or stdout that is full, is no stack trace', async (t) => {
  const dir = newDir();
  spillway(['ingest', '--dir', dir, '--stream', 's'], 'x\n'.repeat(100_000));
  const sh = (command: string): { status: number | null; stderr: string } => {
    const r = spawnSync('bash', ['-c', `set -o pipefail; ${command}`], { encoding: 'utf8' });
    return { status: r.status, stderr: r.stderr };
  };
  const node = `${process.execPath} ${main}`;
  for (const command of [
    `${node} read --dir ${dir}`,
    `${node} verify --dir ${dir}`,
    `${node} sample --records 100000`,
  ]) {
    t.same(sh(`${command} | head -1 >/dev/null`), { status: 0, stderr: '' }, command);
    const full = sh(`${command} > /dev/full`);
    t.equal(full.status, 1, command);
    t.match(full.stderr, /^spillway: cannot write to stdout: .*\n$/);
  }
  const directory = sh(`${node} ingest --dir ${dir} --stream s < /tmp`);
  t.equal(directory.status, 2);
  t.match(directory.stderr, /stdin is a directory/);
  t.match(sh(`${node} ingest --dir ${dir} --streem s < /dev/null`).stderr, /--stream/, 'the nearest option is named');
});
