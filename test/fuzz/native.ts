// The target that runs in C++: native/test/core_fuzz.cc under libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer. Built once
// per state of the sources, in build-native. Where there is no clang with libFuzzer it is skipped, and says so.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filesUnder, root, sourceOf } from '../support/platform-root.ts';
import { corpusDir, corpusFiles, writeCorpus, writeFinding, type ChildResult, type ChildTask } from './files.ts';

export const NATIVE_TARGET = 'native';

const sources = ['native/batch.cc', 'native/crc32c.cc', 'native/frames.cc', 'native/test/core_fuzz.cc'];
const flags = [
  '-std=c++17',
  '-O1',
  '-g',
  '-fsanitize=fuzzer,address,undefined',
  '-fno-sanitize-recover=all',
  '-Inative',
];
const compiler = process.env['FUZZ_CXX'] ?? 'clang++';
const MAX_BYTES = 4096;
/** One execution takes less. */
const HANG_SECONDS = 20;

/** @returns the program, or why there is none */
function build(): { readonly program: string } | { readonly skipped: string } {
  if (spawnSync(compiler, ['--version']).status !== 0) return { skipped: `there is no ${compiler} here` };
  const hash = createHash('sha256').update(JSON.stringify(flags));
  for (const file of [...sources, ...filesUnder('native', '.h')]) hash.update(sourceOf(file));
  const folder = join(root, 'build-native', 'fuzz');
  const program = join(folder, `core_fuzz-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(program)) return { program };
  mkdirSync(folder, { recursive: true });
  const half = `${program}.${process.pid}`;
  const { status, stderr } = spawnSync(compiler, [...flags, ...sources, '-o', half], { cwd: root, encoding: 'utf8' });
  // A clang without its runtime libraries cannot link it.
  if (status !== 0 && /libclang_rt|-fsanitize=fuzzer|cannot find/.test(stderr))
    return { skipped: `this ${compiler} comes without libFuzzer` };
  if (status !== 0) throw new Error(`core_fuzz.cc did not compile:\n${stderr.slice(-2000)}`);
  renameSync(half, program);
  return { program };
}

async function run(program: string, args: readonly string[]): Promise<{ code: number | null; said: string }> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: root });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-20_000)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, said };
}

function number(said: string, pattern: RegExp): number {
  return Number([...said.matchAll(pattern)].at(-1)?.[1] ?? 0);
}

/** Seed corpus, executions and findings as those of the other targets. */
export async function runNative(task: ChildTask): Promise<ChildResult & { readonly skipped?: string }> {
  const built = build();
  if ('skipped' in built) return { executions: 0, covered: 0, corpus: 0, findings: [], skipped: built.skipped };
  const work = mkdtempSync(join(tmpdir(), 'spillway-fuzz-'));
  try {
    const found = join(work, 'found');
    const artifacts = join(work, 'artifacts');
    for (const dir of [found, artifacts, corpusDir(NATIVE_TARGET)]) mkdirSync(dir, { recursive: true });
    const common = [`-max_len=${MAX_BYTES}`, `-timeout=${HANG_SECONDS}`, `-artifact_prefix=${artifacts}/`];
    if (task.only !== undefined) common.push(task.only);
    else {
      common.push(`-runs=${task.executions}`, `-seed=${(task.seed % 2 ** 31) + 1}`, '-print_final_stats=1');
      // What is found goes into the first; the second is only read.
      common.push(found, corpusDir(NATIVE_TARGET));
    }
    const { code, said } = await run(built.program, common);
    const why = /(?:ERROR: \w+: |runtime error: |\.(?:cc|h):\d+: ).*/.exec(said)?.[0] ?? `it ends with ${code}`;
    const findings =
      task.only === undefined
        ? readdirSync(artifacts).map((name) =>
            writeFinding(NATIVE_TARGET, why, why, readFileSync(join(artifacts, name))),
          )
        : code === 0
          ? []
          : [why];
    if (code !== 0 && findings.length === 0) findings.push(`${why}: ${said.slice(-300)}`);
    if (task.save && findings.length === 0) await save(built.program, work, found);
    return {
      executions: task.only === undefined ? number(said, /stat::number_of_executed_units: (\d+)/g) : 1,
      covered: number(said, /cov: (\d+)/g),
      corpus: readdirSync(found).length + corpusFiles(NATIVE_TARGET).length,
      findings,
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function save(program: string, work: string, found: string): Promise<void> {
  const merged = join(work, 'merged');
  mkdirSync(merged);
  await run(program, ['-merge=1', `-max_len=${MAX_BYTES}`, merged, found, corpusDir(NATIVE_TARGET)]);
  writeCorpus(
    NATIVE_TARGET,
    readdirSync(merged).map((name) => readFileSync(join(merged, name))),
  );
}
