// spillway lab NAME: starts an experiment as a process of its own, and ends as it ended.
//
// The experiments are no part of what is built upon (nothing here imports them): they lie compiled beside it. Their process has caps
// of its own: NODE_OPTIONS of a container are those of the gateway, and with them V8 would end what the kernel is to end.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SpillwayError } from '../base/errors.ts';
import { overflowPolicies } from '../base/gateway-options.ts';
import { show } from '../base/options.ts';
import { nearest } from '../base/spelling.ts';
import { limitOf } from '../ingress/memory.ts';
import { workerEnvironment } from '../platform/threads.ts';

export const labNames = ['overflow', 'bomb', 'nagle', 'window', 'aimd', 'compression'] as const;
/** For lab overflow: those of the product, and what people write first. */
const labPolicies = [...overflowPolicies, 'unbounded'];
/** More heap than the limits that labs run in: what is killed there is killed by the kernel. */
export const labNodeFlags = ['--max-old-space-size=512', '--max-semi-space-size=4'] as const;

interface LabFlags {
  readonly policy?: string;
  readonly seconds?: number;
  readonly rounds?: number;
  readonly dir?: string;
  readonly out?: string;
  readonly trace?: string;
  readonly smoke?: boolean;
  readonly quick?: boolean;
  readonly json?: boolean;
}

function invalid(message: string, subject: string): SpillwayError {
  return new SpillwayError('INVALID_OPTION', message, { subject });
}

function check(name: string, { policy, json }: LabFlags): void {
  if (!(labNames as readonly string[]).includes(name)) {
    const near = nearest(name, labNames);
    const hint = near === undefined ? `there are ${labNames.join(', ')}` : `did you mean '${near}'?`;
    throw invalid(`unknown lab ${show(name)}: ${hint}`, name);
  }
  if (name !== 'overflow' && policy !== undefined) throw invalid(`option '--policy': lab ${name} has none`, 'policy');
  if (policy !== undefined && !labPolicies.includes(policy))
    throw invalid(`option '--policy': expected one of ${labPolicies.join(', ')}, got ${show(policy)}`, 'policy');
  if (json === true && policy === undefined) throw invalid("option '--json': it goes with --policy", 'json');
}

/** Processes that the kernel has killed in the group whose limit holds here, and the file that says so. */
function oomKills(): { readonly count: number; readonly where: string } | undefined {
  const limit = limitOf(0);
  if (limit === undefined) return undefined;
  for (const file of ['memory.events', 'memory.oom_control']) {
    const where = join(dirname(limit.where), file);
    if (!existsSync(where)) continue;
    const count = /^oom_kill (\d+)$/m.exec(readFileSync(where, 'utf8'))?.[1];
    if (count !== undefined) return { count: Number(count), where };
  }
  return undefined;
}

/** @returns the lab's exit status; 128 + the signal that ended it, as a shell has it */
export async function labCommand(name: string, flags: LabFlags): Promise<number> {
  check(name, flags);
  const script = fileURLToPath(new URL(`../../bench/labs/${name}.js`, import.meta.url));
  if (!existsSync(script)) throw invalid(`lab ${name} is not part of this installation: ${script} is missing`, name);
  const args = Object.entries(flags).flatMap(([flag, value]) =>
    value === true ? [`--${flag}`] : [`--${flag}`, String(value)],
  );
  const before = oomKills();
  const child = spawn(process.execPath, [...labNodeFlags, script, ...args], {
    stdio: 'inherit',
    env: workerEnvironment(),
  });
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on('SIGTERM', forward).on('SIGINT', forward);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('exit', (...ended) => resolve(ended)).once('error', reject);
  });
  process.off('SIGTERM', forward).off('SIGINT', forward);
  if (signal === null) return code ?? 1;
  const status = 128 + constants.signals[signal];
  const after = oomKills();
  const kernel =
    after !== undefined && after.count > (before?.count ?? 0)
      ? `: the kernel killed it for want of memory, oom_kill ${after.count} in ${after.where}`
      : '';
  process.stderr.write(`\nspillway: lab ${name} was ended by signal ${signal.slice(3)}, exit ${status}${kernel}\n`);
  return status;
}
