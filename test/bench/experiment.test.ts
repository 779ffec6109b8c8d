// Command lines of what runs experiments: a mistake is one clear line, and nothing is run.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { root } from '../support/platform-root.ts';

for (const [script, args, status, said] of [
  ['test/proof/main.js', ['--nope'], 2, /^prove: Unknown option '--nope'; usage: npm run prove [^\n]*\n$/],
  ['test/proof/main.js', ['nope'], 2, /^prove: no proof is called 'nope'; expected one of faults, [^\n]*\n$/],
  ['test/proof/main.js', ['--seed', 'x'], 2, /^prove: --seed: expected a whole number from 0, got 'x'\n$/],
  ['test/fuzz/main.js', ['--executions', '0'], 2, /^fuzz: --executions: expected a whole number from 1, got '0'\n$/],
  ['test/fuzz/main.js', ['more'], 2, /^fuzz: Unexpected argument 'more'; usage: npm run test:fuzz [^\n]*\n$/],
  ['test/corpus/main.js', ['--only'], 2, /^corpus: Option '--only <value>' argument missing; usage: [^\n]*\n$/],
  [
    'bench/syscalls.js',
    ['--rounds', '1e99'],
    1,
    /^bench syscalls: --rounds: expected a whole number from 1, [^\n]*\n$/,
  ],
  ['bench/labs/nagle.js', ['--rounds', ''], 1, /^lab nagle: --rounds: expected a whole number from 1, got ''\n$/],
] as const) {
  t.test(`${script} ${args.join(' ')}`, async (t) => {
    const run = spawnSync(process.execPath, [join(root, 'dist', script), ...args], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    t.match(run.stderr, said);
    t.strictSame([run.status, run.stdout], [status, '']);
    const help = spawnSync(process.execPath, [join(root, 'dist', script), '--help'], { encoding: 'utf8' });
    t.match(help.stdout, /^usage: /);
    t.strictSame([help.status, help.stderr], [0, '']);
  });
}
