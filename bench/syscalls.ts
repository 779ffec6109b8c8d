// bench:syscalls — what one record costs in system calls, counted twice: by the log's own counters and by strace.
//
// For each I/O mode and number of records per batch, a process of its own (syscalls-child.ts) opens a fresh log, appends
// 256-byte records, closes, and prints its counters; it runs under `strace -f -c`. A run is exact or it is wrong: no
// rounds, no medians.

import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { read, type IoMode } from '../src/index.ts';
import { parseArguments, runBench, type Bench } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { PayloadCycle, SEED, verifyTail, type Sample } from './lib/payloads.ts';
import type { Cell } from './lib/report.ts';

const run = promisify(execFile);

const modes: readonly IoMode[] = ['direct', 'buffered', 'portable', 'js'];
/** The calls that both sides count, as strace names them. */
const compared = ['pwrite64', 'pwritev', 'pwritev2', 'fdatasync', 'fsync'] as const;
/** Traced beside them, to show that nothing durable hides in another call. */
const traced = [...compared, 'write', 'sync_file_range'] as const;
type Calls = Record<(typeof traced)[number], number>;

/** Calls in a durable write of one batch. */
const callsPerBatch: Record<IoMode, number> = { direct: 1, buffered: 1, portable: 2, js: 2 };
/** At 1,000 records per batch. */
const perRecordTarget: Record<IoMode, number> = { direct: 0.001, buffered: 0.001, portable: 0.002, js: 0.002 };

const SAMPLE_RECORDS = 1000;

interface ChildOutput {
  readonly io: IoMode;
  readonly systemCalls: Record<string, number>;
  readonly batches: number;
  readonly checkpoints: number;
  readonly durableOffset: number;
  readonly diskBytes: number;
  readonly fillBytes: number;
}

interface Run extends ChildOutput {
  readonly recordsPerBatch: number;
  readonly records: number;
  readonly strace: Calls;
  readonly commitCallsPerBatch: number;
  readonly commitCallsPerRecord: number;
  /** The five compared kinds, whatever for: batches, checkpoints, filling of segments, index, lock. */
  readonly allCallsPerRecord: number;
  readonly sample: Sample;
}

/** Reads the table of `strace -c`: … calls [errors] syscall. */
function parseStrace(text: string): Calls {
  const calls = Object.fromEntries(traced.map((name) => [name, 0])) as Calls;
  for (const line of text.split('\n')) {
    const parts = line.trim().split(/\s+/);
    const name = parts.at(-1) as keyof Calls;
    if (parts.length >= 5 && name in calls) calls[name] = Number(parts[3]);
  }
  return calls;
}

async function needStrace(): Promise<string> {
  try {
    return (await run('strace', ['--version'])).stdout.split('\n')[0];
  } catch {
    throw new BenchError('strace is missing, and without it the counters stand alone: apt-get install strace');
  }
}

async function measure(
  bench: Bench,
  mode: IoMode,
  recordsPerBatch: number,
  records: number,
  segmentBytes: number,
): Promise<Run | { readonly refused: string }> {
  const dir = join(bench.dataDir, 'log');
  const output = join(bench.dataDir, 'strace.txt');
  mkdirSync(dir, { recursive: true });
  try {
    const child = fileURLToPath(new URL('./syscalls-child.js', import.meta.url));
    const { stdout } = await run('strace', [
      '-f',
      '-c',
      '-e',
      `trace=${traced.join(',')}`,
      '-o',
      output,
      process.execPath,
      child,
      dir,
      mode,
      String(recordsPerBatch),
      String(records),
      String(segmentBytes),
    ]);
    const told = JSON.parse(stdout) as ChildOutput & { refused?: { code?: string; message: string } };
    if (told.refused !== undefined) {
      if (told.refused.code === 'INVALID_OPTION') return { refused: told.refused.message };
      throw new BenchError(`${mode}, ${recordsPerBatch} records per batch: ${told.refused.message}`);
    }
    const from = Math.max(0, told.durableOffset - SAMPLE_RECORDS);
    const cycle = new PayloadCycle(256, 500, SEED);
    const sample = await verifyTail(read({ dir, from }), new Map([['bench', { cycle, count: records }]]));
    const { commitWrites, commitSyncs } = told.systemCalls;
    const all = compared.reduce((sum, name) => sum + told.systemCalls[name], 0);
    return {
      ...told,
      recordsPerBatch,
      records,
      strace: parseStrace(readFileSync(output, 'utf8')),
      commitCallsPerBatch: (commitWrites + commitSyncs) / told.batches,
      commitCallsPerRecord: (commitWrites + commitSyncs) / records,
      allCallsPerRecord: all / records,
      sample,
    };
  } catch (error) {
    if (error instanceof BenchError) throw error;
    const { stderr, message } = error as { stderr?: string; message: string };
    throw new BenchError(`strace could not run the child: ${stderr?.trim() || message}`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function judge(bench: Bench, r: Run): void {
  const { report } = bench;
  const where = `${r.io}, ${r.recordsPerBatch} per batch`;
  const differing = compared.filter((name) => r.systemCalls[name] !== r.strace[name]);
  const figure = differing.map((name) => `${name} ${r.systemCalls[name]} / ${r.strace[name]}`).join(', ') || 'equal';
  report.exact(
    `${where}: counters and strace agree on ${compared.join(', ')}`,
    differing.length === 0,
    figure,
    'equal',
  );
  report.exact(`${where}: durable records`, r.durableOffset === r.records, r.durableOffset, String(r.records));
  const batches = r.records / r.recordsPerBatch;
  report.exact(`${where}: batches`, r.batches === batches, r.batches, String(batches));
  const perBatch = callsPerBatch[r.io];
  report.exact(
    `${where}: commit calls per batch`,
    r.commitCallsPerBatch === perBatch,
    r.commitCallsPerBatch,
    `exactly ${perBatch}`,
  );
  if (r.recordsPerBatch === 1000) {
    const target = perRecordTarget[r.io];
    report.exact(
      `${where}: commit calls per record`,
      r.commitCallsPerRecord <= target,
      r.commitCallsPerRecord,
      `≤ ${target}`,
    );
  }
}

await runBench(
  'syscalls',
  () => parseArguments('npm run bench:syscalls [-- --smoke] [--dir D]'),
  ({ smoke }) => {
    const perBatch = smoke ? [1, 1000] : [1, 10, 100, 1000, 10_000];
    const recordsOf = (n: number): number => {
      const wanted = smoke ? 50 : n === 1 ? 500 : n === 10 ? 5000 : 50_000;
      return Math.ceil(wanted / n) * n;
    };
    // The smallest that holds a batch of 8 MiB, where the time to fill it with zeros is most of the run.
    const segmentBytes = (smoke ? 12 : 64) * 1024 * 1024;
    return {
      parameters: {
        modes,
        recordsPerBatch: perBatch,
        records: Object.fromEntries(perBatch.map((n) => [n, recordsOf(n)])),
        recordBytes: 256,
        segmentBytes,
        window: 'maxBytes 8MiB, lingerMs 60000: only maxRecords closes a batch',
        seed: SEED,
      },
      targets: [
        `${compared.join(', ')}: counters equal strace, in every run`,
        'commit calls (write and sync of batches) per batch: exactly 1 for direct and buffered, 2 for portable and js',
        'commit calls per record at 1,000 per batch: ≤ 0.001 for direct and buffered, ≤ 0.002 for portable and js',
        'every record durable, and the last of each run read back byte for byte',
      ],
      async body(bench) {
        const { report } = bench;
        report.environment.strace = await needStrace();
        report.io = modes.join(', ');
        const header = [
          'mode',
          'records/batch',
          'records',
          'batches',
          'checkpoints',
          ...compared.map((name) => `${name} counted/strace`),
          'commit calls/batch',
          'commit calls/record',
          'all calls/record',
        ];
        const rows: Cell[][] = [];
        const results: unknown[] = [];
        for (const mode of modes) {
          for (const n of perBatch) {
            report.progress(`${mode}, ${n} per batch`);
            const r = await measure(bench, mode, n, recordsOf(n), segmentBytes);
            if ('refused' in r) {
              rows.push([`${mode}: not available here: ${r.refused}`]);
              results.push({ mode, refused: r.refused });
              // A platform without RWF_DSYNC or O_DIRECT has no such mode; Linux has.
              if (process.platform === 'linux')
                report.exact(`${mode} is available`, false, r.refused, 'available on Linux');
              break;
            }
            results.push(r);
            rows.push([
              mode,
              n,
              r.records,
              r.batches,
              r.checkpoints,
              ...compared.map((name) => `${r.systemCalls[name]} / ${r.strace[name]}`),
              r.commitCallsPerBatch,
              r.commitCallsPerRecord,
              r.allCallsPerRecord,
            ]);
            judge(bench, r);
          }
        }
        report.results = results;
        report.table(header, rows);
        report.say(
          'all calls/record: the five kinds whatever for, so filling of segments, checkpoints and the lock are in it.\n',
        );
      },
    };
  },
);
