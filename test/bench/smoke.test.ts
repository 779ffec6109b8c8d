// Every bench runs with its smallest values: exact counts are judged, ratios are not.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { MemoryGroup } from '../../bench/lib/memory-group.ts';

const has = (tool: string): boolean => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status === 0;
const bench = (name: string): string => fileURLToPath(new URL(`../../bench/${name}.js`, import.meta.url));

/** Whether a memory cgroup can be made here. */
function canGroup(): boolean {
  try {
    MemoryGroup.make(`spillway-smoke-${process.pid}`, 64 * 2 ** 20).remove();
    return true;
  } catch {
    return false;
  }
}

interface Outcome {
  readonly name: string;
  readonly checks: readonly { readonly name: string; readonly pass: boolean | null }[];
}

for (const [name, tool] of [
  ['syscalls', 'strace'],
  ['append', 'c++'],
  ['instrumentation', undefined],
  ['latency', 'c++'],
  ['before-after', 'c++'],
  ['memory', undefined],
  ['recovery', 'strace'],
  ['container', 'cgroups'],
  ['soak', 'cgroups'],
  ['overload', undefined],
  ['hostile', undefined],
  ['labs/overflow', 'cgroups'],
  ['labs/bomb', 'cgroups'],
  ['labs/nagle', undefined],
  ['labs/window', undefined],
  ['labs/aimd', undefined],
  ['labs/compression', undefined],
] as const) {
  const there = tool === 'cgroups' ? canGroup() : tool === undefined || has(tool);
  const missing = there ? false : `${tool} is not there`;
  const written = name.replace('labs/', 'lab-');
  t.test(`${name.startsWith('labs/') ? '' : 'bench:'}${name} --smoke`, { skip: missing }, async (t) => {
    const run = spawnSync(process.execPath, [bench(name), '--smoke'], { encoding: 'utf8' });
    t.equal(run.status, 0, `${run.stderr}\n${run.stdout.slice(-2000)}`);
    const outcome = JSON.parse(readFileSync(join('bench', 'out', `${written}.smoke.json`), 'utf8')) as Outcome;
    t.equal(outcome.name, written);
    const judged = outcome.checks.filter((c) => c.pass !== null);
    t.ok(judged.length > 0, `${judged.length} checks were judged`);
    t.same(
      judged.filter((c) => c.pass !== true),
      [],
    );
  });
}
