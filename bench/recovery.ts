// bench:recovery — what opening after a crash reads, and how fast `spillway verify` is beside `cat` of the same files.
//
// A child appends with default options and is killed (SIGKILL) in the midst of it, half a segment beyond the size asked
// for. The directory listing then gives the bound, before anything is opened: all of the segments that have no index, of
// each sealed one its header block and its index; and where the batches end, what has to be read twice: a chunk, to be
// sure of the end, and the last batch, to be written again. Two fresh processes open the log: one counts through FileIo,
// one is traced by strace, file by file. Then `spillway verify` and `cat FILES > /dev/null` in turns, whole processes both, so Node's own start
// counts against verify. Warm: the files lie in the page cache (read once before). Cold, where root may drop it: not
// judged, because the disk decides it.
//
// With an argument `child` this file is one of those children.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock, systemRandom32 } from '../src/base/clock.ts';
import { COUNTER_SLOTS, READ_CHUNK_BYTES } from '../src/base/limits.ts';
import { maxBatchBytes, resolveLogOptions } from '../src/base/options.ts';
import { open, type IoMode } from '../src/index.ts';
import { Log } from '../src/log/log.ts';
import { sortNames } from '../src/log/names.ts';
import { INDEX_HEADER_BYTES } from '../src/log/segment-index.ts';
import type { Verified } from '../src/log/verify.ts';
import { verifyOnThreads } from '../src/pipeline/verify.ts';
import { chooseIo } from '../src/platform/choose-io.ts';
import { parseArguments, runBench, type Bench, type Io } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { PayloadCycle, SEED } from './lib/payloads.ts';
import { MAX_UNDER_WAY_BYTES } from './lib/producer.ts';
import { median, spread } from './lib/stats.ts';

const MIB = 1024 * 1024;
const BLOCK_BYTES = 4096;
const RECORD_BYTES = 256;
const GROUP_RECORDS = 500;
const VERIFY_TARGET = 0.5;
const SEGMENT_BYTES = 64 * MIB;
const self = fileURLToPath(import.meta.url);
const cli = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

// ── children ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Appends for ever, and tells the payload bytes that are acknowledged, one line each. */
async function write(dir: string, io: Io): Promise<void> {
  const log = await open({ dir, io });
  const cycle = new PayloadCycle(RECORD_BYTES, GROUP_RECORDS, SEED);
  const groupBytes = RECORD_BYTES * GROUP_RECORDS;
  const underWay: Promise<unknown>[] = Array.from({ length: Math.floor(MAX_UNDER_WAY_BYTES / groupBytes) });
  for (let g = 0; ; g++) {
    const slot = g % underWay.length;
    await underWay[slot];
    if (g % 64 === 0 && g >= underWay.length) {
      process.stdout.write(`${(g - underWay.length + 1) * groupBytes} ${log.stats().io}\n`);
    }
    underWay[slot] = log.appendMany('bench', cycle.group(g));
  }
}

interface Opened {
  readonly bytesRead: number;
  readonly seconds: number;
  readonly durableOffset: number;
  readonly tornBytes: number;
}

/** Opens the log as its commit thread does, counts what that reads, closes. */
function openCounted(dir: string, io: Io): Opened {
  const options = resolveLogOptions({ dir, io });
  const disk = chooseIo(dir, options.io, new Float64Array(COUNTER_SLOTS));
  const startedMs = performance.now();
  const log = Log.open({ io: disk, clock: systemClock, random32: systemRandom32 }, options);
  const seconds = (performance.now() - startedMs) / 1000;
  const { bytesRead } = disk;
  const { durableOffset, recovered } = log;
  log.close();
  disk.destroy();
  return { bytesRead, seconds, durableOffset, tornBytes: recovered.tornBytes };
}

/** The public way, for strace. */
async function openPublic(dir: string, io: Io): Promise<{ durableOffset: number }> {
  const log = await open({ dir, io });
  const { durableOffset } = log.stats();
  await log.close();
  return { durableOffset };
}

/** As the command line does it, with as many threads. */
async function verifyTimed(dir: string): Promise<Verified & { readonly seconds: number }> {
  const startedMs = performance.now();
  const found = await verifyOnThreads(dir);
  return { ...found, seconds: (performance.now() - startedMs) / 1000 };
}

async function child(task: string, dir: string, io: Io): Promise<void> {
  if (task === 'write') return await write(dir, io);
  const result =
    task === 'open'
      ? openCounted(dir, io)
      : task === 'open-public'
        ? await openPublic(dir, io)
        : await verifyTimed(dir);
  process.stdout.write(JSON.stringify(result));
}

function runChild(task: string, dir: string, io: Io, ...before: string[]): unknown {
  const [command, ...args] = [...before, process.execPath, self, 'child', task, dir, io];
  return JSON.parse(execFileSync(command, args, { encoding: 'utf8', maxBuffer: 64 * MIB }));
}

// ── the bench ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs the writer until `bytes` payload bytes are acknowledged, kills it. @returns the bytes, and the mode it chose */
async function writeAndKill(dir: string, io: Io, bytes: number): Promise<{ acknowledged: number; io: IoMode }> {
  const writer = spawn(process.execPath, [self, 'child', 'write', dir, io], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  const last = (): string[] => text.slice(0, text.lastIndexOf('\n')).split('\n').at(-1)!.split(' ');
  writer.stdout.on('data', (data: Buffer) => {
    text = (text + data.toString('latin1')).slice(-4096);
    if (text.includes('\n') && Number(last()[0]) >= bytes) writer.kill('SIGKILL');
  });
  const [, signal] = (await once(writer, 'close')) as [number | null, string | null];
  if (signal !== 'SIGKILL') throw new BenchError(`the writer ended by itself: ${text.slice(-300)}`);
  const [acknowledged, mode] = last();
  return { acknowledged: Number(acknowledged), io: mode as IoMode };
}

interface Listing {
  readonly segments: number;
  readonly sealed: number;
  readonly sealedNames: ReadonlySet<string>;
  readonly segmentFileBytes: number;
  /** What an open may read, and of what that consists. */
  readonly boundBytes: number;
  readonly bound: string;
  /** Segments, indexes, checkpoint: what verify reads, and cat is given. */
  readonly files: readonly string[];
  readonly fileBytes: number;
}

function list(dir: string): Listing {
  const names = readdirSync(dir).sort();
  const { segments, indexes } = sortNames(names);
  const sizeOf = (name: string): number => statSync(join(dir, name)).size;
  const sum = (list: readonly string[]): number => list.reduce((total, name) => total + sizeOf(name), 0);
  const isSealed = (name: string): boolean => indexes.has(Number.parseInt(name, 10));
  const segmentFiles = names.filter((n) => n.endsWith('.seg'));
  const indexFiles = names.filter((n) => n.endsWith('.idx'));
  const unsealed = segmentFiles.filter((n) => !isSealed(n));
  const parts = {
    'unsealed segments': sum(unsealed),
    'their ends a second time': unsealed.length * (READ_CHUNK_BYTES + maxBatchBytes(resolveLogOptions({ dir }))),
    // The header alone first: it says how long the rest may be.
    indexes: sum(indexFiles) + indexFiles.length * INDEX_HEADER_BYTES,
    'a block per sealed segment': (segments.length - unsealed.length) * BLOCK_BYTES,
    'checkpoint and lock, twice': 2 * sum(names.filter((n) => n === 'checkpoint' || n === 'lock')),
  };
  const files = names.filter((n) => n.endsWith('.seg') || n.endsWith('.idx') || n === 'checkpoint');
  return {
    segments: segments.length,
    sealed: segments.length - unsealed.length,
    sealedNames: new Set(segmentFiles.filter(isSealed)),
    segmentFileBytes: sum(segmentFiles),
    boundBytes: Object.values(parts).reduce((a, b) => a + b, 0),
    bound: Object.entries(parts)
      .map(([what, bytes]) => `${what} ${bytes}`)
      .join(' + '),
    files: files.map((n) => join(dir, n)),
    fileBytes: sum(files),
  };
}

interface Traced {
  readonly durableOffset: number;
  /** File of the log → bytes that reads of it returned. */
  readonly bytes: ReadonlyMap<string, number>;
  readonly total: number;
}

/** What a process that opens the log reads of it, as strace sees it. */
function trace(bench: Bench, dir: string, io: Io): Traced | undefined {
  if (spawnSync('strace', ['--version'], { stdio: 'ignore' }).status !== 0) return undefined;
  const output = join(bench.dataDir, 'strace.txt');
  const flags = ['-f', '-y', '-s', '0', '-e', 'trace=read,readv,pread64,preadv', '-o', output];
  const { durableOffset } = runChild('open-public', dir, io, 'strace', ...flags) as { durableOffset: number };
  const bytes = new Map<string, number>();
  let total = 0;
  for (const line of readFileSync(output, 'utf8').split('\n')) {
    // 1234 pread64(20</data/log/0.seg>, ""..., 65536, 4096) = 65536
    const at = line.indexOf(`<${dir}/`);
    if (at < 0) continue;
    const result = / = (\d+)$/.exec(line);
    if (result === null) throw new BenchError(`strace: a read without its result: ${line.slice(0, 200)}`);
    const name = line.slice(at + dir.length + 2, line.indexOf('>', at));
    bytes.set(name, (bytes.get(name) ?? 0) + Number(result[1]));
    total += Number(result[1]);
  }
  return { durableOffset, bytes, total };
}

/** Seconds of a whole process. */
function timed(command: string, args: readonly string[]): number {
  const startedMs = performance.now();
  const { status, stderr } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (status !== 0) throw new BenchError(`${command} ended with ${status}: ${stderr.slice(0, 300)}`);
  return (performance.now() - startedMs) / 1000;
}

function dropCaches(): boolean {
  try {
    execFileSync('sync');
    writeFileSync('/proc/sys/vm/drop_caches', '1');
    return true;
  } catch {
    return false;
  }
}

interface Round {
  readonly verifySeconds: number;
  readonly verifyInsideSeconds: number;
  readonly catSeconds: number;
  readonly pipeSeconds: number;
  readonly ratio: number;
}

/** One turn of each. @param before run before each of them */
function oneRound(dir: string, files: readonly string[], before: () => void): Round {
  before();
  const verifySeconds = timed(process.execPath, [cli, 'verify', '--dir', dir, '--json']);
  before();
  const catSeconds = timed('cat', files);
  before();
  const pipeSeconds = timed('sh', ['-c', 'cat "$@" | wc -c', 'sh', ...files]);
  before();
  const { seconds } = runChild('verify', dir, 'auto') as { seconds: number };
  return { verifySeconds, verifyInsideSeconds: seconds, catSeconds, pipeSeconds, ratio: catSeconds / seconds };
}

function openChecks(bench: Bench, dir: string, io: Io, acknowledgedRecords: number): Listing & { opened: Opened } {
  const { report } = bench;
  const before = list(dir);
  report.say(`bound of an open, from the listing: ${before.bound} = ${before.boundBytes} bytes`);
  report.say(`of ${before.segmentFileBytes} bytes in ${before.segments} segments, ${before.sealed} of them sealed\n`);
  const opened = runChild('open', dir, io) as Opened;
  const traced = trace(bench, dir, io);
  report.exact('the log is longer than its active segment: sealed segments', before.sealed >= 1, before.sealed, '≥ 1');
  report.exact(
    'every acknowledged record is there after the kill: durable records',
    opened.durableOffset >= acknowledgedRecords,
    opened.durableOffset,
    `≥ ${acknowledgedRecords}`,
  );
  const target = `≤ ${before.boundBytes} bytes`;
  const { bytesRead } = opened;
  report.exact('bytes read by the first open, FileIo', bytesRead <= before.boundBytes, bytesRead, target);
  if (traced === undefined) report.say('strace is not installed: the count of FileIo stands alone\n');
  else {
    report.exact('bytes read by an open, strace', traced.total <= before.boundBytes, traced.total, target);
    const ofSealed = [...traced.bytes].filter(([name]) => before.sealedNames.has(name)).map(([, bytes]) => bytes);
    const most = Math.max(0, ...ofSealed);
    report.exact('of them of any sealed segment', most <= BLOCK_BYTES, most, `≤ ${BLOCK_BYTES} bytes`);
    const { durableOffset } = traced;
    report.exact(
      'and it finds the same end',
      durableOffset === opened.durableOffset,
      durableOffset,
      `${opened.durableOffset}`,
    );
  }
  return { ...before, opened };
}

function verifyChecks(bench: Bench, dir: string, listing: Listing, records: number, rounds: number): unknown {
  const { report } = bench;
  const found = runChild('verify', dir, 'auto') as Verified;
  report.exact('verify finds no problem', found.ok, found.problems.length, '0 problems');
  report.exact('verify counts every record', found.records === records, found.records, String(records));
  const files = [...listing.files];
  const series: Record<string, Round[]> = { warm: [] };
  timed('cat', files);
  for (let r = 0; r < rounds; r++) {
    report.progress(`warm, round ${r + 1} of ${rounds}`);
    series.warm.push(oneRound(dir, files, () => undefined));
  }
  if (dropCaches()) {
    series.cold = [];
    for (let r = 0; r < Math.min(rounds, 3); r++) {
      report.progress(`cold, round ${r + 1}`);
      series.cold.push(oneRound(dir, files, dropCaches));
    }
  }
  const rows = Object.entries(series).map(([name, list]) => {
    const of = (key: keyof Round): number => median(list.map((x) => x[key]));
    const speed = (key: keyof Round): number => listing.fileBytes / of(key) / 1e6;
    return [
      name,
      list.length,
      speed('verifySeconds'),
      speed('verifyInsideSeconds'),
      speed('catSeconds'),
      speed('pipeSeconds'),
      of('ratio'),
    ];
  });
  const header = [
    'page cache',
    'rounds',
    'verify MB/s, whole process',
    'from its call to its result',
    'cat > /dev/null',
    'cat | wc -c',
  ];
  report.table([...header, 'verify ÷ cat'], rows);
  const ratios = series.warm.map((x) => x.ratio);
  const { min, max } = spread(ratios);
  const name = `verify over cat > /dev/null, warm (rounds ${min.toFixed(2)} … ${max.toFixed(2)})`;
  report.measured(name, median(ratios) >= VERIFY_TARGET, median(ratios), `≥ ${VERIFY_TARGET}`);
  return series;
}

async function bench(): Promise<void> {
  const usage = 'npm run bench:recovery [-- --smoke] [--dir D] [--io MODE] [--rounds N]';
  await runBench(
    'recovery',
    () => parseArguments(usage),
    (a) => {
      const logBytes = (a.smoke ? 64 : 1024) * MIB;
      const rounds = a.rounds ?? (a.smoke ? 2 : 7);
      return {
        parameters: {
          logBytes,
          killAfterPayloadBytes: logBytes + SEGMENT_BYTES / 2,
          recordBytes: RECORD_BYTES,
          groupRecords: GROUP_RECORDS,
          rounds,
          io: a.io,
          options: 'defaults',
          pageCache: 'warm, judged; cold (drop_caches before each run), reported',
          seed: SEED,
        },
        targets: [
          'opening after a kill reads at most: the unsealed segments (of their ends a chunk and the last batch twice), the indexes, and a header block of each sealed segment',
          `verify, in a fresh process from its call to its result, ≥ ${VERIFY_TARGET} × the speed of cat FILES > /dev/null, in turns, page cache warm, median (the start of Node.js is printed, not judged: it does not grow with the log)`,
        ],
        async body(bench) {
          const { report, dataDir } = bench;
          const dir = join(dataDir, 'log');
          report.progress(`writing ${logBytes / MIB} MiB, then SIGKILL`);
          const written = await writeAndKill(dir, a.io, logBytes + SEGMENT_BYTES / 2);
          report.io = written.io;
          const { opened, ...listing } = openChecks(bench, dir, a.io, written.acknowledged / RECORD_BYTES);
          const series = verifyChecks(bench, dir, list(dir), opened.durableOffset, rounds);
          report.results = {
            written,
            listing: { ...listing, files: listing.files.length, sealedNames: undefined },
            opened,
            series,
          };
          rmSync(dir, { recursive: true });
        },
      };
    },
  );
}

if (process.argv[2] === 'child') await child(process.argv[3], process.argv[4], process.argv[5] as Io);
else await bench();
