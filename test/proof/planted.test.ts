// What counts as caught: test files that fail in every way there is, and what is read from what tap prints of them.

import t from 'tap';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { directory } from '../support/log-support.ts';
import { plantedBugs } from '../support/planted-bugs.ts';
import { cannotTry, runTest, verdictIn } from './planted.ts';
import { ENOUGH_TRIED } from './proof.ts';

const verdicts: Record<string, readonly [body: string, assertion: string, got: string]> = {
  'a violation of a proof': [
    `t.same(['x/1: lost; npm run'], [], 'no violation')`,
    'no violation',
    '"x/1: lost; npm run",',
  ],
  'a long one': [`t.same(['${'long '.repeat(50)}'], [], 'no violation')`, 'no violation', `"${'long '.repeat(50)}",`],
  'an unequal value': [`t.equal(1, 2, 'as many')`, 'as many', '1'],
  'within a subtest': [`await t.test('inner', async (t) => t.ok(false, 'is so'))`, 'is so', ''],
  'a promise that resolves': [`await t.rejects(Promise.resolve(1), { code: 'X' }, 'is refused')`, 'is refused', ''],
  'after what does not count': [
    `t.ok(false, '${ENOUGH_TRIED}, 1'); t.ok(false, 'is so'); throw new Error('x')`,
    'is so',
    '',
  ],
};
const others: Record<string, string> = {
  'nothing fails': `t.ok(true)`,
  'too few tried': `t.ok(false, '${ENOUGH_TRIED}, 1 states, at least 2: a claim')`,
  'a promise rejects': `await Promise.reject(new Error('not ok 1 - x'))`,
  'it throws': `t.test('inner', () => { throw new TypeError('x') })`,
  'an exception is not caught': `setTimeout(() => { throw new Error('x') }); await new Promise((r) => setTimeout(r, 1000))`,
  'a rejection is not handled': `Promise.reject(new Error('x')); await new Promise((r) => setTimeout(r, 1000))`,
  'a time limit': `await t.test('inner', { timeout: 50 }, () => new Promise((r) => setTimeout(r, 500)))`,
  'it never ends': `await new Promise(() => undefined)`,
  'the process exits': `process.exit(3)`,
  'the process is killed': `process.kill(process.pid, 'SIGTERM'); await new Promise((r) => setTimeout(r, 1000))`,
  'a plan that is not kept': `t.plan(2); t.ok(true)`,
};

function tapOf(t: Parameters<typeof directory>[0], body: string): { text: string; failed: boolean } {
  const file = join(directory(t), 'tried.mjs');
  const tap = JSON.stringify(import.meta.resolve('tap'));
  writeFileSync(file, `import t from ${tap};\nt.test('tried', async (t) => {\n  ${body};\n});\n`);
  const { stdout, status } = spawnSync(process.execPath, [file], {
    encoding: 'utf8',
    env: { ...process.env, TAP: '1' },
  });
  return { text: stdout, failed: status !== 0 };
}

for (const [name, [body, assertion, got]] of Object.entries(verdicts)) {
  t.test(`a verdict: ${name}`, async (t) => {
    const { text, failed } = tapOf(t, body);
    t.ok(failed);
    t.same(verdictIn(text), { assertion, got });
  });
}
for (const [name, body] of Object.entries(others)) {
  t.test(`no verdict: ${name}`, async (t) => {
    const { text, failed } = tapOf(t, body);
    t.equal(failed, name !== 'nothing fails');
    t.equal(verdictIn(text), undefined);
  });
}

t.test('a test that blocks its thread is ended at its limit, its children notwithstanding', async (t) => {
  const tree = directory(t);
  mkdirSync(join(tree, 'dist', 'test'), { recursive: true });
  const blocked = `
    import { spawn } from 'node:child_process';
    process.on('SIGTERM', () => undefined);
    spawn('sleep', ['5'], { stdio: 'inherit' });
    console.log('TAP version 14');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5_000);
  `;
  writeFileSync(join(tree, 'dist', 'test', 'blocked.test.js'), blocked);
  writeFileSync(join(tree, 'package.json'), '{ "type": "module" }');
  const { failure, verdict, seconds } = await runTest(tree, 'blocked', process.env, 500);
  t.match(failure, /SIGKILL/);
  t.equal(verdict, undefined, 'it has caught nothing');
  t.ok(seconds < 4, `after ${seconds.toFixed(1)} s`);
});

t.test('a bug whose test would skip is skipped, with the reason', async (t) => {
  const { getuid } = process;
  const { CXX } = process.env;
  t.teardown(() => {
    if (getuid !== undefined) process.getuid = getuid;
    if (CXX === undefined) delete process.env.CXX;
    else process.env.CXX = CXX;
  });
  process.getuid = () => 1000;
  for (const test of ['proof/power', 'proof/full-disk']) {
    t.match(await cannotTry(plantedBugs.find((b) => b.caughtBy === test)!), /root/, test);
  }
  process.env.CXX = '/no/such/compiler';
  t.match(await cannotTry(plantedBugs.find((b) => b.native === true)!), 'building the addon needs /no/such/compiler');
  const others = plantedBugs.filter((b) => b.native !== true && !/power|full-disk/.test(b.caughtBy));
  t.same(
    (await Promise.all(others.map(cannotTry))).filter((why) => why !== undefined),
    [],
    'all others are tried',
  );
});
