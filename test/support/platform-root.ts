// Where the sources lie: tests run as compiled JS, from `dist` or from anywhere else.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

function isRoot(dir: string): boolean {
  if (!existsSync(join(dir, 'package.json')) || !existsSync(join(dir, 'src', 'index.ts'))) return false;
  return (JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { name?: string }).name === 'spillway';
}

function findRoot(): string {
  for (const start of [process.cwd(), dirname(fileURLToPath(import.meta.url))]) {
    for (let dir = start; ; dir = dirname(dir)) {
      if (isRoot(dir)) return dir;
      if (dir === dirname(dir)) break;
    }
  }
  throw new Error(`no source tree of spillway above ${process.cwd()}`);
}

/** The folder of package.json and src/. */
export const root = findRoot();

/** Paths of all files below a folder, relative to the root, `/` between names; empty where the folder is absent. */
export function filesUnder(folder: string, suffix: string): string[] {
  const at = join(root, folder);
  if (!existsSync(at)) return [];
  return readdirSync(at, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile() && e.name.endsWith(suffix))
    .map((e) => relative(root, join(e.parentPath, e.name)).split(sep).join('/'))
    .sort();
}

export function sourceOf(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}
