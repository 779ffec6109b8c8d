// Runs a target in a child process and watches it: one that does not get on, or dies, is a finding with its input, and is started
// again for what is left to do.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFinding, type ChildResult, type ChildTask } from './files.ts';

/** An execution takes less than this, and so do those of a process that shares the processor with others. */
const HANG_MS = 30_000;
const LOOK_MS = 500;
const MOST_STARTS = 4;

/** In memory where there is such a place: it is written before every execution. */
const stateRoot = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

interface Ended {
  readonly result: ChildResult | undefined;
  readonly why: string;
  readonly executions: number;
  readonly input: Uint8Array;
}

function stateOf(path: string): { executions: number; input: Uint8Array } {
  const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  if (bytes.length < 8) return { executions: 0, input: bytes.subarray(0, 0) };
  return { executions: bytes.readUInt32LE(0), input: bytes.subarray(8, 8 + bytes.readUInt32LE(4)) };
}

async function start(target: string, task: ChildTask, dir: string, hangMs: number): Promise<Ended> {
  const path = join(dir, 'state');
  rmSync(path, { force: true });
  const child = fork(fileURLToPath(new URL('child.js', import.meta.url)), [target, path, JSON.stringify(task)], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  });
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)));
  let result: ChildResult | undefined;
  child.on('message', (message) => (result = message as ChildResult));
  let last = -1;
  let movedMs = performance.now();
  let hangs = false;
  const watch = setInterval(() => {
    const { executions } = stateOf(path);
    if (executions !== last) movedMs = performance.now();
    last = executions;
    if (performance.now() - movedMs < hangMs) return;
    hangs = true;
    child.kill('SIGKILL');
  }, LOOK_MS);
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearInterval(watch);
  const reason = /^\w*(?:Error|Violation)\b.*$/m.exec(said)?.[0] ?? said.trim().split('\n', 1)[0];
  const why = hangs ? `hangs for ${hangMs / 1000} s` : `the process ends with ${signal ?? code}: ${reason}`;
  return { result: code === 0 ? result : undefined, why, ...stateOf(path) };
}

/** @param hangMs after so long without the next execution one counts as hanging */
export async function runApart(target: string, task: ChildTask, hangMs = HANG_MS): Promise<ChildResult> {
  const dir = mkdtempSync(join(stateRoot, 'spillway-fuzz-'));
  const findings: string[] = [];
  let executions = 0;
  try {
    for (let starts = 0; starts < MOST_STARTS && executions < task.executions; starts++) {
      const left = { ...task, seed: task.seed + starts, executions: task.executions - executions };
      const ended = await start(target, left, dir, hangMs);
      const { result } = ended;
      executions += result?.executions ?? ended.executions;
      if (result !== undefined) return { ...result, executions, findings: [...findings, ...result.findings] };
      const finding = writeFinding(target, ended.why, ended.why, ended.input);
      // The same again: it would be met by every run.
      if (findings.includes(finding)) break;
      findings.push(finding);
    }
    return { executions, covered: 0, corpus: 0, findings };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
