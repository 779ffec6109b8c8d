// Builds a variant of the addon beside the one that ships: with further defines, or with a planted bug. A process loads it
// when SPILLWAY_PREBUILD names the directory (node-gyp-build looks there first, and workers inherit the environment).
//
// Variants lie in build-native/variant-<hash of all that goes in>, so each is built once. Two processes may build the same
// one at once: each builds in a directory of its own, and the first rename wins.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { filesUnder, root, sourceOf } from './platform-root.ts';

export interface Patch {
  /** Path from the root: `native/io.cc`. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly find: string;
  readonly replace: string;
}

export interface Variant {
  /** Without `-D`. */
  readonly defines?: readonly string[];
  readonly patch?: Patch;
}

const BUILT = join('build', 'Release', 'spillway.node');

/** Why no addon can be built here; undefined where it can. */
export function cannotBuild(): string | undefined {
  for (const tool of ['make', process.env.CXX ?? 'g++', 'python3']) {
    try {
      execFileSync(tool, ['--version'], { stdio: 'ignore' });
    } catch {
      return `building the addon needs ${tool}`;
    }
  }
  return undefined;
}

/** @returns the directory for SPILLWAY_PREBUILD */
export function buildAddon({ defines = [], patch }: Variant): string {
  const sources = new Map<string, string>();
  for (const file of [...filesUnder('native', '.cc'), ...filesUnder('native', '.h'), 'binding.gyp']) {
    if (!file.startsWith('native/test/')) sources.set(file, sourceOf(file));
  }
  if (patch !== undefined) sources.set(patch.file, patched(sources.get(patch.file), patch));

  const hash = createHash('sha256').update(JSON.stringify([process.version, process.arch, defines, [...sources]]));
  const variant = join(root, 'build-native', `variant-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(join(variant, BUILT))) return variant;

  mkdirSync(dirname(variant), { recursive: true });
  const work = mkdtempSync(`${variant}-`);
  try {
    for (const [file, text] of sources) {
      mkdirSync(dirname(join(work, file)), { recursive: true });
      writeFileSync(join(work, file), text);
    }
    symlinkSync(join(root, 'node_modules'), join(work, 'node_modules'));
    compile(work, defines);
    const done = join(work, 'done');
    mkdirSync(dirname(join(done, BUILT)), { recursive: true });
    cpSync(join(work, BUILT), join(done, BUILT));
    try {
      renameSync(done, variant);
    } catch (error) {
      if (!existsSync(join(variant, BUILT))) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return variant;
}

function patched(text: string | undefined, { file, find, replace }: Patch): string {
  const times = text === undefined ? 0 : text.split(find).length - 1;
  if (times !== 1)
    throw new Error(`the patch of ${file}: ${JSON.stringify(find)} stands there ${times} times, not once`);
  return text!.replace(find, () => replace);
}

function compile(cwd: string, defines: readonly string[]): void {
  const require = createRequire(import.meta.url);
  const nodeGyp = join(dirname(require.resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
  const env: NodeJS.ProcessEnv = { ...process.env, CXXFLAGS: defines.map((d) => `-D${d}`).join(' ') };
  // The headers that came with this very Node.js, where they did: else node-gyp fetches them.
  const prefix = resolve(dirname(process.execPath), '..');
  const hasHeaders =
    existsSync(join(prefix, 'include', 'node', 'node_api.h')) &&
    readFileSync(join(prefix, 'include', 'node', 'node_version.h'), 'utf8').includes(
      `NODE_MAJOR_VERSION ${process.versions.node.split('.')[0]}\n`,
    );
  if (hasHeaders && env.npm_config_nodedir === undefined) env.npm_config_nodedir = prefix;
  try {
    execFileSync(process.execPath, [nodeGyp, 'rebuild', '--jobs', '2'], { cwd, env, stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer };
    const output = `${stdout?.toString() ?? ''}${stderr?.toString() ?? ''}`;
    throw new Error(`the addon did not build:\n${output.slice(-3000)}`, { cause: error });
  }
}
