// What a proof leaves that is ended in the midst of its work: nothing that is mounted, and no process.

import t from 'tap';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../support/log-support.ts';
import { directoryForMounts, removeMounts } from '../support/mounts.ts';
import { endGroup, forkGroup } from '../support/process-group.ts';

interface Left {
  readonly dir: string;
  readonly pid: number;
}

const cannotMount = process.platform === 'linux' && process.getuid?.() === 0 ? false : 'needs Linux and root, to mount';
const isMounted = (dir: string): boolean => readFileSync('/proc/mounts', 'utf8').includes(` ${dir} `);

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // One that has ended and that nobody waited for yet does not run.
    return !existsSync('/proc/self/stat') || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function begin(how: 'mounted' | 'not mounted'): Promise<{ child: ChildProcess; left: Left }> {
  const child = forkGroup(fileURLToPath(new URL('../support/left-behind.js', import.meta.url)), [how], {});
  const [left] = (await once(child, 'message')) as [Left];
  return { child, left };
}

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  t.test(`what a child started ends with it, by ${signal}`, async (t) => {
    const { child, left } = await begin('not mounted');
    t.ok(runs(left.pid));
    if (signal === 'SIGTERM') await endGroup(child);
    else child.kill(signal);
    await until(() => !runs(left.pid), 'it has ended');
  });
}

t.test('what it mounted goes when it is told to end', { skip: cannotMount }, async (t) => {
  const { child, left } = await begin('mounted');
  t.ok(isMounted(left.dir));
  await endGroup(child);
  t.notOk(isMounted(left.dir));
  t.notOk(existsSync(dirname(left.dir)));
});

t.test('or else, where it was killed, when the next one begins', { skip: cannotMount }, async (t) => {
  const living = await begin('mounted');
  const { child, left } = await begin('mounted');
  child.kill('SIGKILL');
  await once(child, 'exit');
  removeMounts(directoryForMounts('full'));
  t.notOk(isMounted(left.dir));
  t.notOk(existsSync(dirname(left.dir)));
  t.ok(isMounted(living.left.dir), 'that of another that lives stays');
  await endGroup(living.child);
});
