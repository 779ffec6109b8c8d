// Which directory the public interface opens as a log: one writer, what cannot be one, files that are not its own, newer versions.

import t from 'tap';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open, read, SpillwayError } from '../../src/index.ts';
import { crc32cJs } from '../../src/platform/js-bytes.ts';
import { codeOf, directory } from '../support/log-support.ts';
import { endWorkers, openSmall, recordsOf } from '../support/pipeline-logs.ts';

t.teardown(endWorkers);

async function childWith(
  t: { teardown(f: () => void): unknown },
  dir: string,
  uid?: number,
): Promise<{ child: ChildProcess; word: string }> {
  const child = fork(new URL('../support/pipeline-open-child.js', import.meta.url), [dir, 'js'], {
    execArgv: [],
    ...(uid === undefined ? {} : { uid, gid: uid, cwd: '/' }),
    stdio: 'ignore',
  });
  t.teardown(() => child.kill('SIGKILL'));
  const word = await Promise.race([
    once(child, 'message').then(([m]) => m as string),
    once(child, 'exit').then(([code]) => `ended with ${String(code)}`),
    once(child, 'error').then(([e]) => `did not start: ${String(e)}`),
  ]);
  return { child, word };
}

t.test('one writer: a second open here or elsewhere is refused and told by whom; then it may', async (t) => {
  const dir = directory(t);
  const { log } = await openSmall({ dir, io: 'js' });
  await t.rejects(open({ dir, io: 'js' }), {
    code: 'LOCKED',
    message: new RegExp(`this process \\(pid ${process.pid}\\)`),
  });
  t.equal((await childWith(t, dir)).word.split(' ')[0], 'LOCKED');
  t.equal(await codeOf(log.append('s', 'x')), 'resolved', 'the holder is not disturbed');
  await log.close();
  const { child, word } = await childWith(t, dir);
  t.equal(word, 'opened');
  await t.rejects(open({ dir, io: 'js' }), { code: 'LOCKED', message: new RegExp(`process ${child.pid}`) });
  child.kill('SIGKILL');
  await once(child, 'exit');
  const again = await open({ dir, io: 'js' });
  t.equal(again.stats().durableOffset, 1, 'a killed holder is taken over at once');
  await again.close();
});

t.test('directories that cannot be a log', async (t) => {
  const base = directory(t);
  const file = join(base, 'file');
  writeFileSync(file, 'mine');
  await t.rejects(open({ dir: file, io: 'js' }), { code: 'DIR_UNUSABLE', message: /file/ });
  await t.rejects(open({ dir: join(file, 'below'), io: 'js' }), { code: 'DIR_UNUSABLE' });
  t.equal(readFileSync(file, 'utf8'), 'mine');
  const foreign = join(base, 'foreign');
  mkdirSync(foreign);
  writeFileSync(join(foreign, 'letter.txt'), 'mine');
  await t.rejects(open({ dir: foreign, io: 'js' }), { code: 'NOT_A_LOG', message: /letter\.txt/ });
  t.same(readdirSync(foreign), ['letter.txt'], 'untouched');
  t.equal(await codeOf(recordsOf({ read: (o) => read({ dir: foreign, ...o }) })), 'NOT_A_LOG');
  t.equal(await codeOf(recordsOf({ read: (o) => read({ dir: join(base, 'nowhere'), ...o }) })), 'DIR_UNUSABLE');
  t.notOk(existsSync(join(base, 'nowhere')), 'reading makes no directory');
  await t.rejects(open({ dir: base, segmntBytes: 5 } as unknown as { dir: string }), {
    code: 'INVALID_OPTION',
    message: /segmentBytes/,
  });
  await t.rejects(open({} as unknown as { dir: string }), { code: 'INVALID_OPTION', message: /dir/ });
});

t.test('a directory that may not be written', async (t) => {
  const dir = directory(t);
  chmodSync(dir, 0o755);
  const root = process.getuid?.() === 0;
  if (!root) chmodSync(dir, 0o555);
  const { word } = root
    ? await childWith(t, dir, 65534)
    : { word: (await open({ dir, io: 'js' }).catch((e: SpillwayError) => e.code)) as string };
  if (root && /did not start|ended with/.test(word)) {
    t.pass(`SKIPPED: as root, and the program cannot be read by another user (${word})`);
    return;
  }
  t.match(word, /^DIR_UNUSABLE/);
  t.same(readdirSync(dir), [], 'nothing was made');
});

t.test('foreign files beside a log are left alone', async (t) => {
  const dir = directory(t);
  (await openSmall({ dir, io: 'js' }).then(({ log }) => log.append('s', 'x').then(() => log.close()))) as void;
  const names = ['letter.txt', '123.seg', '00000000000000000000.seg.bak', 'other.tmp', 'spare.tmp.txt'];
  for (const f of names) writeFileSync(join(dir, f), 'mine');
  const { log } = await openSmall({ dir, io: 'js' });
  await log.appendMany(
    's',
    Array.from({ length: 500 }, () => Buffer.alloc(1000)),
  );
  await log.truncateBefore(400);
  await log.close();
  for (const f of names) t.equal(readFileSync(join(dir, f), 'utf8'), 'mine', f);
});

t.test('a log of a newer version is refused, and not changed', async (t) => {
  for (const file of ['00000000000000000000.seg', 'checkpoint']) {
    const dir = directory(t);
    const { log } = await openSmall({ dir, io: 'js' });
    await log.append('s', 'x');
    await log.close();
    const bytes = readFileSync(join(dir, file));
    for (const at of file === 'checkpoint' ? [0, 4096] : [0]) {
      bytes.writeUInt16LE(2, at + 4);
      bytes.writeUInt32LE(crc32cJs(bytes.subarray(at, at + 60)), at + 60);
    }
    writeFileSync(join(dir, file), bytes);
    await t.rejects(open({ dir, io: 'js' }), { code: 'UNSUPPORTED_FORMAT', message: /version 2/ }, file);
    t.equal(await codeOf(recordsOf({ read: (o) => read({ dir, ...o }) })), 'UNSUPPORTED_FORMAT', `${file}: reading`);
    t.ok(readFileSync(join(dir, file)).equals(bytes));
    await t.rejects(open({ dir, io: 'js' }), { code: 'UNSUPPORTED_FORMAT' }, 'and the lock was given back');
  }
});
