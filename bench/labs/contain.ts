// A process within a memory limit, and who ended it: in a container where an engine answers and has the image, else in a memory
// cgroup made here (version 1 or 2; needs root).

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { labNodeFlags } from '../../src/cli/lab.ts';
import { MemoryGroup } from '../lib/memory-group.ts';
import { own, packageRoot, Skipped } from './frame.ts';

export const IMAGE = 'spillway';
/** Longest that anything in here may run. */
const PATIENCE_MS = 60_000;

export interface Place {
  readonly docker: boolean;
  readonly sentence: string;
}

export interface Contained {
  /** As a shell sees it: 128 + the signal where one ended it. */
  readonly exitCode: number;
  /** By signal KILL. */
  readonly killed: boolean;
  readonly oomKills: number;
  /** Where that was read. */
  readonly evidence: string;
  readonly lines: readonly string[];
  readonly errors: string;
}

function docker(...args: string[]): string | undefined {
  try {
    return execFileSync('docker', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 20_000,
    }).trim();
  } catch {
    return undefined;
  }
}

/** @throws Skipped where there is neither */
export function whereToRun(cgroupOnly = false): Place {
  const engine = cgroupOnly ? undefined : docker('version', '-f', '{{.Server.Version}}');
  if (engine !== undefined && docker('image', 'inspect', '-f', '{{.Id}}', IMAGE) !== undefined) {
    return { docker: true, sentence: `containers of the image '${IMAGE}', engine ${engine}` };
  }
  try {
    const probe = MemoryGroup.make(`spillway-lab-probe-${process.pid}`, 64 * 2 ** 20);
    probe.remove();
    return { docker: false, sentence: `memory cgroups, version ${probe.version}, no swap` };
  } catch (error) {
    const why =
      engine === undefined ? 'no docker engine answers' : `there is no image '${IMAGE}' (docker build -t ${IMAGE} .)`;
    throw new Skipped(
      `it needs a memory limit around its processes: ${why}, and ${(error as Error).message} (needs root)`,
    );
  }
}

/** glibc's settings of the image, for a process outside of it. */
export function mallocSettings(): string[] {
  try {
    return [...readFileSync(join(packageRoot, 'Dockerfile'), 'utf8').matchAll(/^ +(MALLOC_[A-Z_]+=\d+)/gm)].map(
      (m) => m[1],
    );
  } catch {
    return [];
  }
}

async function finished(child: ChildProcess): Promise<Pick<Contained, 'exitCode' | 'killed' | 'lines' | 'errors'>> {
  let text = '';
  let errors = '';
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (errors = (errors + chunk).slice(-2000)));
  const timer = setTimeout(() => child.kill('SIGTERM'), PATIENCE_MS);
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(timer);
  const killed = signal === 'SIGKILL' || code === 137;
  return { exitCode: code ?? (killed ? 137 : 1), killed, lines: text.split('\n').slice(0, -1), errors };
}

/** @param args of a lab: its script, then its flags */
export async function contain(
  place: Place,
  name: string,
  limitBytes: number,
  args: readonly string[],
): Promise<Contained> {
  return place.docker ? await inContainer(name, limitBytes, args) : await inGroup(name, limitBytes, args);
}

async function inGroup(name: string, limitBytes: number, args: readonly string[]): Promise<Contained> {
  const group = MemoryGroup.make(`spillway-lab-${name}-${process.pid}`, limitBytes);
  try {
    const command = group.inside('env', [
      '-u',
      'NODE_OPTIONS',
      ...mallocSettings(),
      process.execPath,
      ...labNodeFlags,
      ...args,
    ]);
    const child = own(spawn(...command, { stdio: ['ignore', 'pipe', 'pipe'] }));
    const ended = await finished(child);
    const { oomKills } = group.events();
    return { ...ended, oomKills, evidence: `oom_kill ${oomKills} in its cgroup v${group.version}` };
  } finally {
    group.remove();
  }
}

/** As a person types it: the image's own command line, whatever the script's path is here. */
async function inContainer(name: string, limitBytes: number, args: readonly string[]): Promise<Contained> {
  const [, ...flags] = args;
  const container = `spillway-lab-${name}-${process.pid}`;
  const dirAt = flags.indexOf('--dir');
  if (dirAt >= 0) flags.splice(dirAt, 2);
  const limits = [`--memory=${limitBytes}`, `--memory-swap=${limitBytes}`, '--network=none', '--no-healthcheck'];
  const child = own(
    spawn('docker', ['run', '--name', container, ...limits, IMAGE, 'lab', name.split('-')[0], ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  try {
    const ended = await finished(child);
    const killed = docker('inspect', '-f', '{{.State.OOMKilled}}', container);
    return { ...ended, oomKills: killed === 'true' ? 1 : 0, evidence: `OOMKilled: ${killed}` };
  } finally {
    docker('rm', '-f', '-v', container);
  }
}
