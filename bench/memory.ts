// bench:memory — how much memory a saturated log takes, and that it does not grow.
//
// A process of its own (memory-child.ts) keeps one log with one lane of 16 MiB full: acknowledged as fast as it goes, and
// beyond that until it refuses; with records of 256 bytes and of mixed sizes. From outside, each 250 ms, /proc tells its
// resident memory: all of it (with the program's own pages) and the anonymous part alone, which is what a limit cannot
// reclaim. Judged: the largest value, and the slope of a straight line through the values after 20 s.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { verify } from '../src/log/verify.ts';
import { readerIo } from '../src/platform/choose-io.ts';
import { parseArguments, runBench, type Bench, type Io } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import type { Cell } from './lib/report.ts';
import { SEED } from './lib/payloads.ts';
import { sampleOf, slopePerMinute, type Sample } from './lib/resident.ts';
import { settings, type MemoryResult, type RecordBytes, type Way } from './memory-child.ts';

const MIB = 1024 * 1024;
const SAMPLE_MS = 250;
const RSS_TARGET_MIB = 130;
const SLOPE_TARGET = 1;
const HELD_BACK_TARGET = 0.9;
const SLOPE_FROM_SECONDS = 20;
/**
 * V8 takes and gives back pages of 256 KiB as it likes: over 40 s its wandering alone is a slope of ± 1.5 MiB per minute, over
 * 160 s it no longer hides what is judged.
 */
const SECONDS = 180;
/**
 * Caps of V8's heaps, stated as a service in a small container states them: without, Node.js lets the young generation swing
 * by 48 MiB and puts off collecting the old one, and that is what one would see.
 */
const HEAP_CAPS = ['--max-semi-space-size=1', '--max-old-space-size=24'];

const subjects: readonly { readonly recordBytes: RecordBytes; readonly way: Way }[] = [
  { recordBytes: 256, way: 'lane' },
  { recordBytes: 'mixed', way: 'lane' },
  { recordBytes: 256, way: 'waiting' },
  { recordBytes: 'mixed', way: 'waiting' },
];

interface Subject extends MemoryResult {
  readonly recordBytes: RecordBytes;
  readonly way: Way;
  readonly samples: readonly Sample[];
  readonly rssMaxMiB: number;
  readonly anonymousMaxMiB: number;
  readonly rssSlope: number;
  readonly anonymousSlope: number;
}

async function measure(bench: Bench, recordBytes: RecordBytes, way: Way, io: Io, seconds: number): Promise<Subject> {
  const dir = join(bench.dataDir, 'log');
  const program = fileURLToPath(new URL('./memory-child.js', import.meta.url));
  const args = [program, dir, io, String(seconds), String(recordBytes), way];
  const startedMs = performance.now();
  const child = spawn(process.execPath, [...HEAP_CAPS, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const samples: Sample[] = [];
  const timer = setInterval(() => {
    const now = sampleOf(child.pid!, startedMs);
    if (now !== undefined) samples.push(now);
  }, SAMPLE_MS);
  try {
    let text = '';
    child.stdout.on('data', (data: Buffer) => (text += data.toString('latin1')));
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    if (code !== 0) throw new BenchError(`the child ended by ${signal ?? `code ${code}`}`);
    const told = JSON.parse(text) as MemoryResult;
    const disk = readerIo();
    const found = verify(disk, dir);
    disk.destroy();
    if (!found.ok || found.lastOffset !== told.records - 1) {
      throw new BenchError(
        `verify: ${found.problems.length} problems, last offset ${found.lastOffset} of ${told.records}`,
      );
    }
    const late = samples.filter((s) => s.seconds >= Math.min(SLOPE_FROM_SECONDS, seconds / 3));
    return {
      ...told,
      recordBytes,
      way,
      samples,
      rssMaxMiB: Math.max(...samples.map((s) => s.rssMiB)),
      anonymousMaxMiB: Math.max(...samples.map((s) => s.anonymousMiB)),
      rssSlope: slopePerMinute(late, (s) => s.rssMiB),
      anonymousSlope: slopePerMinute(late, (s) => s.anonymousMiB),
    };
  } finally {
    clearInterval(timer);
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
}

function judge({ report }: Bench, x: Subject, seconds: number): Cell[] {
  const where = `${x.recordBytes === 'mixed' ? 'mixed sizes' : `${x.recordBytes} bytes`}, ${x.way}`;
  report.exact(`${where}: durable records`, x.durableOffset === x.records, x.durableOffset, String(x.records));
  const samples = Math.floor((seconds * 1000) / SAMPLE_MS / 2);
  report.exact(`${where}: samples`, x.samples.length >= samples, x.samples.length, `≥ ${samples}`);
  if (x.way === 'waiting') report.exact(`${where}: refused with BACKLOG_FULL`, x.refused > 0, x.refused, '> 0');
  report.measured(
    `${where}: held back by the log`,
    x.heldBackShare >= HELD_BACK_TARGET,
    x.heldBackShare,
    `in ≥ ${HELD_BACK_TARGET} of all ${settings.spanMs} ms`,
  );
  report.measured(`${where}: RSS max, MiB`, x.rssMaxMiB <= RSS_TARGET_MIB, x.rssMaxMiB, `≤ ${RSS_TARGET_MIB}`);
  report.measured(
    `${where}: slope of RSS after ${SLOPE_FROM_SECONDS} s, MiB/min`,
    x.rssSlope < SLOPE_TARGET,
    x.rssSlope,
    `< ${SLOPE_TARGET}`,
  );
  return [
    x.recordBytes,
    x.way,
    x.records / x.seconds,
    x.payloadBytes / x.seconds / 1e6,
    x.heldBackShare,
    x.refused,
    x.rssMaxMiB,
    x.rssSlope,
    x.anonymousMaxMiB,
    x.anonymousSlope,
    x.heapTotalBytes / MIB,
    x.externalBytes / MIB,
  ];
}

await runBench(
  'memory',
  () => parseArguments('npm run bench:memory [-- --smoke] [--dir D] [--io MODE] [--seconds N]', ['seconds']),
  (a) => {
    const seconds = a.numbers.seconds ?? (a.smoke ? 3 : SECONDS);
    const chosen = a.smoke ? subjects.slice(1, 3) : subjects;
    return {
      parameters: {
        seconds,
        heapCaps: HEAP_CAPS,
        sampleMs: SAMPLE_MS,
        subjects: chosen,
        ...settings,
        lingerMs: 0,
        io: a.io,
        seed: SEED,
      },
      targets: [
        `resident memory of the whole process, one lane of ${settings.laneBytes / MIB} MiB, saturated: at most ${RSS_TARGET_MIB} MiB`,
        `its slope (Theil and Sen) after ${SLOPE_FROM_SECONDS} s: < ${SLOPE_TARGET} MiB per minute`,
        `saturated: the producer is held back in ≥ ${HELD_BACK_TARGET} of all spans of ${settings.spanMs} ms`,
        'every record durable, and the log verified',
      ],
      async body(bench) {
        const { report } = bench;
        if (process.platform !== 'linux') throw new BenchError('resident memory is read from /proc: Linux only');
        const results: Subject[] = [];
        const rows: Cell[][] = [];
        for (const { recordBytes, way } of chosen) {
          report.progress(`${recordBytes} bytes, ${way}, ${seconds} s`);
          const subject = await measure(bench, recordBytes, way, a.io, seconds);
          report.io = subject.io;
          results.push(subject);
          rows.push(judge(bench, subject, seconds));
        }
        report.results = results;
        const load = ['record bytes', 'producer', 'durable records/s', 'payload MB/s', 'held back', 'refused'];
        const memory = ['RSS max MiB', 'slope MiB/min', 'anonymous max MiB', 'slope MiB/min'];
        report.table([...load, ...memory, 'V8 heap MiB', 'external MiB'], rows);
        report.say('RSS counts the pages of the Node program itself, which processes share; anonymous does not.');
        report.say("V8 heap: of the producer's thread, at the end; the commit thread has one of its own.\n");
      },
    };
  },
);
