// spillway lab as a person types it: what is wrong is one line and exit 2; one policy runs live; a kill is told as a shell has it.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { MemoryGroup } from '../../bench/lib/memory-group.ts';
import { labNames } from '../../src/cli/lab.ts';
import { sourceOf } from '../support/platform-root.ts';
import { temporaryDirectory } from '../support/modes.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const dir = temporaryDirectory('spillway-lab-');
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

function lab(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'lab', ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

t.test('what is wrong is one line, and exit 2', async (t) => {
  for (const [args, words] of [
    [[], /name/],
    [['nothing'], /unknown lab 'nothing': there are overflow, bomb, nagle, window, aimd, compression/],
    [['overfow'], /did you mean 'overflow'/],
    [['../../src/cli/main'], /unknown lab/],
    [
      ['overflow', '--policy', 'drop-all'],
      /expected one of block, drop-newest, drop-oldest, unbounded, got 'drop-all'/,
    ],
    [['nagle', '--policy', 'block'], /lab nagle has none/],
    [['overflow', '--json'], /--json/],
    [['overflow', '--seconds', 'x'], /whole number/],
    [['overflow', '--sconds', '1'], /unknown option/],
    [['overflow', 'nagle'], /too many arguments/],
  ] as const) {
    const { status, stdout, stderr } = lab(...args);
    t.equal(status, 2, `${args.join(' ')}: ${stderr}`);
    t.match(stderr, words);
    if (!args.some((a) => a === '--json')) t.equal(stdout, '');
    t.ok(stderr.trimEnd().split('\n').length <= 2, stderr);
  }
});

t.test('every lab is there, and has a script of its own', async (t) => {
  const { scripts } = JSON.parse(sourceOf('package.json')) as { scripts: Record<string, string> };
  for (const name of labNames) {
    t.ok(existsSync(fileURLToPath(new URL(`../../bench/labs/${name}.js`, import.meta.url))), name);
    t.match(scripts[`lab:${name}`], `lab ${name}`);
  }
});

t.test('one policy, live: lines for people, an exact ledger, exit 0, and nothing is left', async (t) => {
  const { status, stdout, stderr } = lab('overflow', '--policy', 'drop-newest', '--seconds', '1', '--dir', dir);
  t.equal(status, 0, stderr);
  t.match(stdout, /question/);
  t.match(stdout, /refuted by/);
  t.ok([...stdout.matchAll(/depth +\d+ +RSS +\d+ MiB/g)].length >= 3, stdout);
  t.notMatch(stdout, '\u001b', 'no terminal, no control characters');
  const [, offered, accepted, dropped] = /offered (\d+) = accepted (\d+) \+ dropped (\d+) \+ pending 0;/.exec(stdout)!;
  t.equal(Number(offered), Number(accepted) + Number(dropped));
  t.ok(Number(dropped) > 0, 'more was offered than the lane takes');
  t.match(stdout, 'the ledger is exact');
  t.strictSame(readdirSync(dir), []);
});

function group(): MemoryGroup | undefined {
  try {
    return MemoryGroup.make(`spillway-lab-test-${process.pid}`, 192 * 2 ** 20);
  } catch {
    return undefined;
  }
}

const limited = group();
t.test(
  'unbounded within a limit: exit 137, and who did it',
  { skip: limited === undefined && 'no cgroups' },
  async (t) => {
    t.teardown(() => limited!.remove());
    const command = limited!.inside(process.execPath, [main, 'lab', 'overflow', '--policy', 'unbounded', '--dir', dir]);
    // The caps of the image's environment, which are not to be what ends it.
    const env = { ...process.env, NODE_OPTIONS: '--max-old-space-size=42 --max-semi-space-size=4' };
    const { status, stdout, stderr } = spawnSync(command[0], command[1], { encoding: 'utf8', env });
    t.equal(status, 137, stderr);
    t.match(stdout, 'memory limit 192 MiB');
    t.match(stderr, /signal KILL, exit 137: the kernel killed it for want of memory, oom_kill 1 in .*memory/);
    t.equal(limited!.events().oomKills, 1);
    t.notMatch(stderr, /heap out of memory/);
  },
);

t.test(
  'the next run clears away what a killed one left',
  { skip: limited === undefined && 'no cgroups' },
  async (t) => {
    t.ok(readdirSync(join(dir)).length > 0, 'the killed one left its folder');
    t.equal(lab('overflow', '--policy', 'block', '--seconds', '1', '--dir', dir).status, 0);
    t.strictSame(readdirSync(dir), []);
  },
);
