// A short run of every fuzz target and all of the committed corpus; and that the loop finds what is hidden in a toy.

// First, so that it sees the others.
import './coverage.ts';
import t from 'tap';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { runApart } from './apart.ts';
import { fuzz, tryInput } from './engine.ts';
import { corpusFiles } from './files.ts';
import { NATIVE_TARGET, runNative } from './native.ts';
import { Violation, type Target } from './target.ts';
import { targets } from './targets/all.ts';

const SEED = 7;
const EXECUTIONS = 1500;
const NATIVE_EXECUTIONS = 30_000;

/** Three bytes behind each other: one in 16 million by chance, found one by one where coverage guides. */
const toy: Target = {
  name: 'toy',
  promise: 'never FUZ',
  maxBytes: 4,
  quick: 0,
  leastCovered: 0,
  dictionary: [],
  structured: fc.constant(new Uint8Array(3)),
  run(input) {
    if (input[0] !== 0x46) return;
    if (input[1] !== 0x55) return;
    if (input[2] === 0x5a) throw new Violation('found');
  },
};

t.test('coverage guides to what chance does not find, and the same seed to the same', async (t) => {
  const go = (covers: (url: string) => boolean): ReturnType<typeof fuzz> =>
    fuzz(toy, { seed: SEED, executions: 40_000, corpus: [], covers, announce: () => undefined });
  const [guided, again] = [1, 2].map(() => go((url) => url.endsWith('/fuzz.test.js')));
  t.equal(guided.findings[0]?.key, 'found');
  t.strictSame([...(guided.findings[0]?.input ?? [])], [0x46, 0x55, 0x5a], 'and makes it as short as it can be');
  t.strictSame(again.findings, guided.findings);
  t.strictSame(go(() => false).findings, [], 'by chance alone it is not found');
});

t.test('a target that hangs is a finding with its input, and so is one that dies', async (t) => {
  const hung = await runApart('hang', { seed: SEED, executions: 10, save: false }, 2000);
  t.match(hung.findings[0], /hangs for 2 s.*--only test\/fuzz\/findings\/hang\//);
  const died = await runApart('die', { seed: SEED, executions: 10, save: false });
  t.match(died.findings[0], /SIGABRT.*--only test\/fuzz\/findings\/die\//);
});

for (const target of targets) {
  t.test(`fuzz ${target.name}: ${target.promise}`, async (t) => {
    const files = corpusFiles(target.name);
    t.ok(files.length > 5, `${files.length} inputs in the corpus`);
    for (const path of files) {
      const finding = tryInput(target, readFileSync(path));
      if (finding !== undefined) t.fail(`${basename(path)}: ${finding.message}`);
    }
    const { executions, covered, findings } = await runApart(target.name, {
      seed: SEED,
      executions: EXECUTIONS,
      save: false,
    });
    t.strictSame(findings, []);
    t.ok(executions >= EXECUTIONS, `${executions} executions`);
    t.ok(covered >= target.leastCovered, `${covered} blocks, at least ${target.leastCovered}`);
  });
}

t.test('fuzz native: findLines, encodeFrames and seal under libFuzzer', async (t) => {
  const { executions, findings, skipped } = await runNative({ seed: SEED, executions: NATIVE_EXECUTIONS, save: false });
  if (skipped !== undefined) return void t.pass(NATIVE_TARGET, { skip: skipped });
  t.strictSame(findings, []);
  t.ok(executions >= NATIVE_EXECUTIONS, `${executions} executions`);
});
