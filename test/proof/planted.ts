// Proof that the proof can fail: each bug of test/support/planted-bugs.ts is put into a copy of the sources, built, and the
// test that is named for it must turn red by a verdict: an assertion about what the log does that failed. A test that throws,
// crashes, runs into its time limit or tried too few cases has caught nothing; a bug that makes callers hang is caught by a
// test that says so itself. Each of those tests is first seen green on the untouched copy; in the quick run but those that are
// proofs, which `npm run prove` runs anyway.
//
// Two copies are worked on at once. What is patched is what the build reads, so that no switch for bugs is in the product.

import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildAddon, cannotBuild } from '../support/build-addon.ts';
import { cannotMount } from '../support/full-disk-mounts.ts';
import { WITHOUT_ADDON } from '../support/modes.ts';
import { plantedBugs, type PlantedBug } from '../support/planted-bugs.ts';
import { root } from '../support/platform-root.ts';
import { cannotCut } from '../support/power-disk.ts';
import { ENOUGH_TRIED, repeatCommand, skip, type Claim, type ProofContext } from './proof.ts';

const run = promisify(execFile);
const TEST_LIMIT_MS = 150_000;
const GOT_SHOWN = 300;
const COPIES = 2;

/** A copy of the sources with the last build, so that only what changed is compiled. */
function makeTree(): string {
  const tree = mkdtempSync(join(tmpdir(), 'spillway-planted-'));
  for (const name of [
    'src',
    'workers',
    'test',
    'bench',
    'scripts',
    'native',
    'docs',
    'dist',
    'package.json',
    'tsconfig.json',
    'binding.gyp',
    'CMakeLists.txt',
    'README.md',
  ]) {
    cpSync(join(root, name), join(tree, name), {
      recursive: true,
      filter: (path) => !path.includes(join('bench', 'out')),
    });
  }
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  symlinkSync(join(root, 'build'), join(tree, 'build'));
  mkdirSync(join(tree, 'empty'));
  return tree;
}

interface Verdict {
  /** What the assertion that failed says. */
  readonly assertion: string;
  /** The first thing that it got and did not expect: of a proof, its first violation. */
  readonly got: string;
}

/** What tap reports in the form of an assertion, and is none. */
const notAsserted = /^(timeout!|test unfinished|test count|no tests found|.* after end\(\)|received SIG)/;

/** Of the difference in a block, whose lines tap may fold. */
function firstGot(block: readonly string[]): string {
  const at = block.findIndex((line) => /^ {2}\+(?!\+\+ |Array \[$)/.test(line));
  if (at < 0) return '';
  const end = block.findIndex((line, i) => i > at && /^$|^ {2}[-+@ ]|^\S/.test(line));
  return block
    .slice(at, end < 0 ? undefined : end)
    .map((line) => line.trim())
    .join(' ')
    .slice(1)
    .trim()
    .slice(0, GOT_SHOWN);
}

/** The first verdict in what a test printed. Where it threw or was ended tap says so in the block below the line. */
export function verdictIn(tap: string): Verdict | undefined {
  const lines = tap.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const [, indent, assertion] = /^( *)not ok \d+ - (.*)$/.exec(lines[i]) ?? [];
    // A time stands behind a subtest, which repeats what was said within it.
    if (assertion === undefined || assertion.includes(' # time=')) continue;
    const until = lines.indexOf(`${indent}  ...`, i);
    const block = lines.slice(i + 1, until).map((line) => line.slice(indent.length + 2));
    const isAsserted = block.some((line) => line === 'at:' || line.startsWith('source:'));
    const isEnded = block.some((line) => /^(tapCaught|expired|signal|exitCode):/.test(line));
    if (!isAsserted || isEnded || notAsserted.test(assertion) || assertion.startsWith(ENOUGH_TRIED)) continue;
    return { assertion, got: firstGot(block) };
  }
  return undefined;
}

interface Ran {
  /** How it ended, where not well: its first failure of any kind, or else its exit code or signal. */
  readonly failure: string | undefined;
  readonly verdict: Verdict | undefined;
  readonly seconds: number;
}

/** A test whose main thread is blocked never comes to handle another signal than SIGKILL. */
export async function runTest(
  tree: string,
  test: string,
  env: NodeJS.ProcessEnv,
  limitMs = TEST_LIMIT_MS,
): Promise<Ran> {
  const started = performance.now();
  let text = '';
  let ended: string | undefined;
  try {
    ({ stdout: text } = await run(process.execPath, [join(tree, 'dist', 'test', `${test}.test.js`)], {
      cwd: tree,
      env: { ...env, TAP_TIMEOUT: String(limitMs / 1000) },
      timeout: limitMs,
      killSignal: 'SIGKILL',
      maxBuffer: 256 * 1024 * 1024,
    }));
  } catch (error) {
    const { stdout, code, signal } = error as { stdout?: string; code?: number | string; signal?: string | null };
    text = stdout ?? '';
    ended = `ended by ${signal ?? `code ${code}`}`;
  }
  const failed = /^\s*not ok \d+ - (.*)$/m.exec(text)?.[1];
  return {
    failure: failed ?? ended,
    verdict: ended === undefined ? undefined : verdictIn(text),
    seconds: (performance.now() - started) / 1000,
  };
}

/** Tests that skip where something is missing: they stay green then, whatever the bug. */
const mayBeSkipped: Readonly<Record<string, () => Promise<string | undefined>>> = {
  'proof/power': async () => {
    const [why, other] = [await cannotCut('ext4'), await cannotCut('xfs')];
    return why === undefined || other === undefined ? undefined : why;
  },
  'proof/full-disk': async () => cannotMount(),
};

/** Why a bug cannot be tried here; undefined where it can. */
export async function cannotTry({ native, caughtBy }: PlantedBug): Promise<string | undefined> {
  return (native === true ? cannotBuild() : undefined) ?? mayBeSkipped[caughtBy]?.();
}

/** Returns why a bug was not caught, or what caught it. */
async function plant(tree: string, bug: PlantedBug): Promise<Ran | string> {
  const originals = new Map<string, string>();
  try {
    const env: NodeJS.ProcessEnv = { ...process.env, SPILLWAY_PROOF_VIOLATIONS: '1' };
    if (bug.withoutAddon === true) {
      env.SPILLWAY_PREBUILD = join(tree, 'empty');
      env[WITHOUT_ADDON] = '1';
    }
    if (bug.native === true) {
      try {
        env.SPILLWAY_PREBUILD = buildAddon({ patch: bug.patches[0] });
      } catch (error) {
        return (error as Error).message.split('\n').slice(0, 2).join(' ');
      }
    } else
      for (const { file, find, replace } of bug.patches) {
        const path = join(tree, file);
        const text = readFileSync(path, 'utf8');
        if (!originals.has(path)) originals.set(path, text);
        const times = text.split(find).length - 1;
        if (times !== 1) return `${file}: the text to be replaced stands there ${times} times, not once`;
        writeFileSync(
          path,
          text.replace(find, () => replace),
        );
      }
    try {
      await run(process.execPath, [
        join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
        '-p',
        tree,
        '--noUnusedLocals',
        'false',
        '--noUnusedParameters',
        'false',
      ]);
    } catch (error) {
      const wrong = (error as { stdout?: string }).stdout
        ?.split('\n')
        .find((line) => bug.patches.some((p) => line.includes(p.file)));
      if (wrong !== undefined) return `does not compile: ${wrong}`;
    }
    return await runTest(tree, bug.caughtBy, env);
  } finally {
    for (const [path, text] of originals) writeFileSync(path, text);
  }
}

export async function prove({ full, seed, only }: ProofContext): Promise<Claim[]> {
  const wanted = plantedBugs.filter((b) => only === undefined || b.name === only);
  const bugs: PlantedBug[] = [];
  const skipped: Claim[] = [];
  for (const bug of wanted) {
    const why = await cannotTry(bug);
    if (why === undefined) bugs.push(bug);
    else skipped.push(skip(`'${bug.name}' is caught by ${bug.caughtBy}`, 'bugs', why));
  }
  const violations: string[] = [];
  const red: string[] = [];
  const table: { bug: string; caughtBy: string; assertion: string; got: string; seconds: number }[] = [];
  const queue = [...bugs];
  const tests = [...new Set(wanted.map((b) => b.caughtBy))];
  const seenFirst = full ? tests : tests.filter((test) => !test.startsWith('proof/'));
  const baseline = [...seenFirst];
  const work = async (): Promise<void> => {
    const tree = makeTree();
    try {
      for (let test = baseline.pop(); test !== undefined; test = baseline.pop()) {
        const { failure } = await runTest(tree, test, process.env);
        if (failure !== undefined) red.push(`${test} is red without any bug: ${failure}`);
      }
      for (let bug = queue.shift(); bug !== undefined; bug = queue.shift()) {
        const result = await plant(tree, bug);
        const repeat = repeatCommand('planted', seed, bug.name);
        if (typeof result === 'string') violations.push(`'${bug.name}': ${result}; ${repeat}`);
        else if (result.verdict === undefined) {
          const ended = result.failure === undefined ? 'stays green' : `is red without a verdict: ${result.failure}`;
          violations.push(`'${bug.name}': ${bug.caughtBy} ${ended} (${result.seconds.toFixed(1)} s); ${repeat}`);
        } else
          table.push({
            bug: bug.name,
            caughtBy: bug.caughtBy,
            ...result.verdict,
            seconds: Math.round(result.seconds * 10) / 10,
          });
      }
    } finally {
      rmSync(tree, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: COPIES }, work));
  table.sort((a, b) => bugs.findIndex((x) => x.name === a.bug) - bugs.findIndex((x) => x.name === b.bug));
  return [
    {
      claim: 'each bug planted on purpose is caught by a failed assertion of the test that is named for it',
      tried: bugs.length,
      unit: 'bugs',
      atLeast: only === undefined ? 16 : bugs.length,
      violations,
      figures: { caught: table.length },
      rows: table,
    },
    {
      claim: `the tests named for them${full ? '' : ', but those that are proofs of their own,'} are green without any bug`,
      tried: seenFirst.length,
      unit: 'tests',
      atLeast: only === undefined ? 6 : 0,
      violations: red,
    },
    ...skipped,
  ];
}
