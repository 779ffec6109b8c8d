// A child with all that it starts, as a process group of its own: it is ended as one, and nothing of it outlives it.

import { fork, type ChildProcess, type ForkOptions } from 'node:child_process';
import { once } from 'node:events';

/** For a proof to unmount in, after SIGTERM. */
const GRACE_MS = 5_000;
const groups = new Set<ChildProcess>();
let isEnding = false;

export function forkGroup(script: string, args: readonly string[], options: ForkOptions): ChildProcess {
  const child = fork(script, args, { ...options, detached: true });
  groups.add(child);
  child.once('exit', () => {
    groups.delete(child);
    send(child, 'SIGKILL'); // to what it left
  });
  return child;
}

function send(leader: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader.pid!, signal);
  } catch {
    // Nobody is left.
  }
}

/** First by SIGTERM, which lets it clean up; then by SIGKILL. Resolves when the child has ended. */
export async function endGroup(leader: ChildProcess): Promise<void> {
  if (!groups.has(leader)) return;
  const ended = once(leader, 'exit');
  send(leader, 'SIGTERM');
  const limit = setTimeout(() => send(leader, 'SIGKILL'), GRACE_MS);
  await ended;
  clearTimeout(limit);
}

/** How a child ended. Never resolves once this process ends all groups: nobody shall go on, or report what was cut short. */
export async function endOf(leader: ChildProcess): Promise<[code: number | null, signal: NodeJS.Signals | null]> {
  const how = (await once(leader, 'close')) as [number | null, NodeJS.Signals | null];
  return isEnding ? new Promise(() => undefined) : how;
}

/** A signal to this process ends all groups first. */
export function endGroupsOnSignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      isEnding = true;
      void Promise.all([...groups].map(endGroup)).then(() => process.kill(process.pid, signal));
    });
  }
}

/** In a child of forkGroup(): its group ends when the process is gone that started it. @returns undo */
export function endWithParent(): () => void {
  const end = (): void => void process.kill(0, 'SIGTERM');
  process.once('disconnect', end);
  // To wait for that is no reason to stay.
  process.channel?.unref();
  return () => {
    process.off('disconnect', end);
    process.channel?.ref();
  };
}
