// The house rules of docs/architecture.md, read off the sources: floors, single homes, sizes, one list of native files.

import t from 'tap';
import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { filesUnder, root, sourceOf } from './support/platform-root.ts';

const MAX_SOURCE_LINES = 400;
const MAX_WORKER_LINES = 40;
/** From docs/vocabulary: what each stands for has another word, or is said with a unit. */
const bannedIdentifiers = ['batchSize', 'batchTime', 'badRecord', 'errorQueue', 'coalescedSync'];

const floorOfFolder: Record<string, number> = {
  base: 0,
  platform: 1,
  log: 2,
  window: 2,
  flow: 2,
  codec: 2,
  sink: 2,
  pipeline: 3,
  ingress: 4,
  client: 4,
  load: 5,
  cli: 6,
  dashboard: 6,
};

/** Folder that a file belongs to, `index` for src/index.ts; its floor, undefined where the plan knows no such folder. */
function placeOf(file: string): { folder: string; floor: number | undefined } {
  const [top, folder] = file.split('/');
  if (top === 'workers') return { folder: 'workers', floor: 6 };
  if (file === 'src/index.ts') return { folder: 'index', floor: 6 };
  return { folder, floor: floorOfFolder[folder] };
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:'"`])\/\/.*$/gm, '$1');
}

/** What a file imports: static, for effect only, dynamic, and re-exported. */
function importsOf(text: string): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\1/g;
  return [...withoutComments(text).matchAll(pattern)].map((m) => m[2]);
}

const sources = filesUnder('src', '.ts');
const workers = filesUnder('workers', '.ts');
const all = [...sources, ...workers];
/** file → files of the project that it imports */
const graph = new Map(
  all.map((file) => [
    file,
    importsOf(sourceOf(file))
      .filter((to) => to.startsWith('.'))
      .map((to) => posix.join(posix.dirname(file), to)),
  ]),
);

function filesWith(pattern: RegExp, files: readonly string[] = all): string[] {
  return files.filter((file) => pattern.test(withoutComments(sourceOf(file))));
}

t.test('the reader of imports sees every form, and no comment', async (t) => {
  const text = `
    import a from './a.ts'; // from './comment.ts'
    import './b.ts';
    export * from "./c.ts";
    /* import './d.ts' */
    const e = await import('./e.ts');
    import {
      f,
    } from './f.ts';
    const url = 'https://x.test/'; import './g.ts';`;
  t.strictSame(importsOf(text), ['./a.ts', './b.ts', './c.ts', './e.ts', './f.ts', './g.ts']);
  t.ok(sources.length > 20, `${sources.length} files were found`);
  t.ok([...graph.values()].flat().length > 50, 'edges were found');
});

t.test('every folder has its floor, and every import is one of an existing file', async (t) => {
  for (const file of all) t.not(placeOf(file).floor, undefined, `${file}: the plan knows this folder`);
  for (const [file, imports] of graph) {
    for (const to of imports) t.ok(existsSync(join(root, to)) && to.endsWith('.ts'), `${file} imports ${to}`);
  }
});

t.test('imports go down, or stay in the folder', async (t) => {
  for (const [file, imports] of graph) {
    const from = placeOf(file);
    for (const to of imports) {
      if (!to.startsWith('src/') && !to.startsWith('workers/')) continue;
      const target = placeOf(to);
      const fine = target.folder === from.folder || target.floor! < from.floor!;
      t.ok(fine, `${file} (floor ${from.floor}) → ${to} (floor ${target.floor})`);
    }
  }
});

t.test('nothing imports bench/ or test/', async (t) => {
  for (const [file, imports] of graph) {
    const outside = imports.filter((to) => !to.startsWith('src/') && !to.startsWith('workers/'));
    t.strictSame(outside, [], file);
  }
});

t.test('what has one home stays there', async (t) => {
  t.strictSame(filesWith(/Atomics\s*\.\s*(wait|waitAsync|notify)\b/), ['src/platform/waiter.ts']);
  t.strictSame(filesWith(/\bprocess\s*\.\s*env\b/), ['src/platform/threads.ts']);
});

t.test('every file is reached from an entry', async (t) => {
  const entries = ['src/index.ts', 'src/cli/main.ts', ...workers].filter((file) => graph.has(file));
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file)) return;
    reached.add(file);
    graph.get(file)?.forEach(visit);
  };
  entries.forEach(visit);
  t.ok(workers.length > 0, 'there are workers');
  t.strictSame(
    sources.filter((file) => !reached.has(file)),
    [],
  );
});

const lines = (file: string): number => sourceOf(file).split('\n').length - 1;

t.test('one file, one idea', async (t) => {
  for (const file of sources)
    t.ok(lines(file) <= MAX_SOURCE_LINES, `${file}: ${lines(file)} lines, at most ${MAX_SOURCE_LINES}`);
  for (const file of workers)
    t.ok(lines(file) < MAX_WORKER_LINES, `${file}: ${lines(file)} lines, under ${MAX_WORKER_LINES}`);
});

t.test('avoided words are no identifiers', async (t) => {
  const files = [...all, ...filesUnder('native', '.cc'), ...filesUnder('native', '.h')];
  for (const name of bannedIdentifiers) t.strictSame(filesWith(new RegExp(`\\b${name}\\b`), files), [], name);
});

/** The native sources that a build file names, tests aside. */
function listed(file: string): string[] {
  const text = sourceOf(file).replace(/^\s*#.*$/gm, '');
  const names = [...text.matchAll(/native\/([A-Za-z0-9_./-]+\.cc)\b/g)].map((m) => m[1]);
  return [...new Set(names.filter((name) => !name.startsWith('test/')))].sort();
}

t.test('binding.gyp and CMakeLists.txt build the same files', async (t) => {
  const missing = ['binding.gyp', 'CMakeLists.txt'].filter((file) => !existsSync(join(root, file)));
  if (missing.length > 0)
    return void t.pass('both list the same', { skip: `there is no ${missing.join(' and no ')} yet` });
  const onDisk = filesUnder('native', '.cc')
    .map((file) => file.slice('native/'.length))
    .filter((file) => !file.startsWith('test/'));
  t.ok(onDisk.length > 0, 'there are native sources');
  t.strictSame(listed('binding.gyp'), listed('CMakeLists.txt'), 'both lists');
  t.strictSame(listed('binding.gyp'), onDisk, 'and what lies there');
});

t.test('native/constants.h is what its generator writes', async (t) => {
  if (!existsSync(join(root, 'scripts/generate-constants.ts'))) {
    return void t.pass('equal', { skip: 'there is no scripts/generate-constants.ts yet' });
  }
  const compiled = new URL('../scripts/generate-constants.js', import.meta.url).href;
  const { renderConstants } = (await import(compiled)) as { renderConstants(): string };
  t.equal(sourceOf('native/constants.h'), renderConstants());
});
