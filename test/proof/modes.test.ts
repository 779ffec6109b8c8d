// A mode that does not work is seen: it is still expected, unless the file system has no O_DIRECT, or who runs the proof says so.

import t from 'tap';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cannotBuild } from '../support/build-addon.ts';
import { directory } from '../support/log-support.ts';
import { missingModes, modesIn, workingModes, WITHOUT_ADDON } from '../support/modes.ts';
import { directoryForMounts, mount, removeMounts } from '../support/mounts.ts';
import { holds, skipModes } from './proof.ts';

const skip = process.platform === 'linux' ? false : 'elsewhere the modes that work are those expected';
const ioModes = ['direct', 'buffered', 'portable', 'js'];

/** A process for which there is no addon. */
function without(t: Parameters<typeof directory>[0], args: readonly string[], more: NodeJS.ProcessEnv = {}) {
  const empty = directory(t);
  mkdirSync(join(empty, 'build'));
  const { [WITHOUT_ADDON]: _, ...env } = process.env;
  return spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...env, SPILLWAY_PREBUILD: empty, ...more },
  });
}

t.test('without the addon the native modes are missing, and expected', { skip }, async (t) => {
  const script = `
    import { expectedModes, missingModes, workingModes } from ${JSON.stringify(import.meta.resolve('../support/modes.js'))};
    process.stdout.write(JSON.stringify([workingModes, [...missingModes.keys()], expectedModes, [...missingModes.values()]]));
  `;
  const args = ['--input-type=module', '--eval', script];
  const [working, missing, expected, reasons] = JSON.parse(without(t, args).stdout) as string[][];
  t.same(working, ['js']);
  t.same(missing, ioModes.slice(0, 3));
  t.ok(ioModes.slice(1).every((mode) => expected.includes(mode)));
  t.match(reasons[0], /needs the native addon/);
  const excused = JSON.parse(without(t, args, { [WITHOUT_ADDON]: '1' }).stdout) as string[][];
  t.same(excused[2], ['js'], 'unless that was said');
  t.same(excused[1], ioModes.slice(0, 3), 'which is told all the same');
});

t.test('npm run prove does not begin without the addon where it could be built', async (t) => {
  if (skip !== false || cannotBuild() !== undefined) return void t.pass('begins', { skip: 'no compiler, or no Linux' });
  const { status, stderr, stdout } = without(t, [fileURLToPath(new URL('main.js', import.meta.url)), 'full-disk']);
  t.equal(status, 2);
  t.match(stderr, /^prove: the native addon does not load: .*--without-addon\n$/);
  t.equal(stdout, '');
});

const noRamfs = process.getuid?.() === 0 ? skip : 'needs root, to mount';
t.test('direct is not expected of a file system that refuses O_DIRECT', { skip: noRamfs }, async (t) => {
  const top = directoryForMounts('full');
  t.teardown(() => removeMounts(top));
  const dir = join(top, 'disk');
  mkdirSync(dir);
  mount(dir, '-t', 'ramfs', 'ramfs');
  const { working, missing, expected } = modesIn(dir);
  if (workingModes.length === 1) return void t.pass('the others are', { skip: 'no addon' });
  t.same([...missing.keys()], ['direct']);
  t.match(missing.get('direct'), /EINVAL/);
  t.same(expected, working);
});

t.test('a mode that is missing is a row of its own, which is not judged', async (t) => {
  const rows = skipModes(new Map([['direct', 'no such luck']]), 'lives', ' on tmpfs');
  t.match(rows, [{ claim: 'mode direct on tmpfs', skipped: 'mode direct does not work here: no such luck' }]);
  t.equal(holds(rows[0]), null);
  t.equal(skipModes(missingModes, 'lives').length, 4 - workingModes.length);
});
