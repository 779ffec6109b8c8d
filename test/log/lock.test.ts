import t from 'tap';
import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import { DirectoryLock } from '../../src/log/lock.ts';
import { lockIo } from '../../src/platform/choose-io.ts';
import { native } from '../../src/platform/native.ts';
import { directory } from '../support/log-support.ts';
import { thrown } from '../support/log-plans.ts';

/** The kernel's lock where there is the addon, the text alone in mode js. */
const ways = native === undefined ? (['js'] as const) : (['js', 'auto'] as const);
type Way = (typeof ways)[number];

function ioOf(way: Way): ReturnType<typeof lockIo> {
  return lockIo(way, new Float64Array(COUNTER_SLOTS));
}

async function holder(t: { teardown(f: () => void): unknown }, dir: string, way: Way): Promise<ChildProcess> {
  const child = fork(new URL('../support/log-lock-holder.js', import.meta.url), [dir, way], { execArgv: [] });
  t.teardown(() => child.kill('SIGKILL'));
  const [message] = (await once(child, 'message')) as [string];
  if (message !== 'held') throw new Error(message);
  return child;
}

for (const way of ways) {
  t.test(`${way}: one holder in this process, named; free again after release`, async (t) => {
    const dir = directory(t);
    const io = ioOf(way);
    const other = ioOf(way);
    t.teardown(() => (io.destroy(), other.destroy()));
    const lock = DirectoryLock.take(io, dir);
    const error = thrown(() => DirectoryLock.take(other, dir));
    t.match(error, { code: 'LOCKED', retryable: true });
    t.ok(error.message.includes(`this process (pid ${process.pid})`), error.message);
    lock.release();
    DirectoryLock.take(other, dir).release();
    t.equal(readFileSync(join(dir, 'lock'), 'utf8').trim(), '', 'the file stays, and names nobody');
  });

  for (const theirs of ways) {
    t.test(
      `${way} against a ${theirs} holder in another process: refused while it lives, taken over once it is killed`,
      async (t) => {
        const dir = directory(t);
        const io = ioOf(way);
        t.teardown(() => io.destroy());
        const child = await holder(t, dir, theirs);
        for (let i = 0; i < 3; i++) {
          const error = thrown(() => DirectoryLock.take(io, dir));
          t.equal(error.code, 'LOCKED');
          t.ok(error.message.includes(`process ${child.pid} on ${hostname()}`), error.message);
          t.ok(error.message.includes(dir), 'and the directory');
        }
        child.kill('SIGKILL');
        await once(child, 'exit');
        const lock = DirectoryLock.take(io, dir);
        t.equal((JSON.parse(readFileSync(join(dir, 'lock'), 'utf8')) as { pid: number }).pid, process.pid);
        lock.release();
      },
    );
  }

  t.test(`${way}: what a dead or unreadable holder left does not hold`, async (t) => {
    const me = { pid: process.pid, startTicks: '1', host: hostname(), kernelLock: false };
    const child = fork(new URL('../support/log-lock-holder.js', import.meta.url), [directory(t), way], {
      execArgv: [],
    });
    await once(child, 'message');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const texts: [string, string][] = [
      ['a dead process id', JSON.stringify({ ...me, pid: child.pid, startTicks: '' }).padEnd(512)],
      ['a process id that is used again: other start time', JSON.stringify(me).padEnd(512)],
      ['a torn text', '{"pid":12'],
      ['nothing', ''],
      ['not an object', '17'],
      ['a text where a number is due', '{"pid":"1"}'],
    ];
    for (const [what, text] of texts) {
      const dir = directory(t);
      writeFileSync(join(dir, 'lock'), text);
      const io = ioOf(way);
      DirectoryLock.take(io, dir).release();
      t.pass(what);
      io.destroy();
    }
  });

  t.test(`${way}: a holder on another host is believed, whatever its process id`, async (t) => {
    const dir = directory(t);
    writeFileSync(
      join(dir, 'lock'),
      JSON.stringify({ pid: 2 ** 22 + 1, startTicks: '', host: 'elsewhere.example', kernelLock: false }),
    );
    const io = ioOf(way);
    t.teardown(() => io.destroy());
    t.match(
      thrown(() => DirectoryLock.take(io, dir)),
      { code: 'LOCKED', message: /on elsewhere\.example; .*if that process is gone, remove .*lock$/ },
    );
  });

  t.test(
    `${way}: a holder in another pid namespace, or of another boot, is believed under the same host name`,
    async (t) => {
      for (const elsewhere of [{ pidNamespace: 'pid:[1]' }, { bootId: '00000000-0000-0000-0000-000000000000' }]) {
        const dir = directory(t);
        // Of the ids that mean something here, this one is dead.
        const holder = { pid: 2 ** 22 + 1, startTicks: '1', host: hostname(), kernelLock: false, ...elsewhere };
        writeFileSync(join(dir, 'lock'), JSON.stringify(holder));
        const io = ioOf(way);
        t.match(
          thrown(() => DirectoryLock.take(io, dir)),
          { code: 'LOCKED', message: /another container.*if that process is gone, remove .*lock$/ },
          Object.keys(elsewhere)[0],
        );
        io.destroy();
      }
    },
  );

  for (const theirs of ways) {
    const cannot = spawnSync('unshare', ['-fp', '--mount-proc', 'true']).status === 0 ? false : 'no new pid namespace';
    t.test(`${way} against a ${theirs} holder in another pid namespace`, { skip: cannot }, async (t) => {
      const dir = directory(t);
      const io = ioOf(way);
      t.teardown(() => io.destroy());
      const script = fileURLToPath(new URL('../support/log-lock-holder.js', import.meta.url));
      const child = spawn('unshare', ['-fp', '--kill-child', '--mount-proc', process.execPath, script, dir, theirs], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      t.teardown(() => child.kill('SIGKILL'));
      t.equal(((await once(child, 'message')) as [string])[0], 'held');
      t.throws(() => DirectoryLock.take(io, dir), { code: 'LOCKED' }, 'two writers on one host name');
    });
  }

  t.test(`${way}: a refused taker leaves the holder’s text and no descriptor`, async (t) => {
    const dir = directory(t);
    const io = ioOf(way);
    const lock = DirectoryLock.take(io, dir);
    const text = readFileSync(join(dir, 'lock'), 'utf8');
    const other = ioOf(way);
    thrown(() => DirectoryLock.take(other, dir));
    t.equal(readFileSync(join(dir, 'lock'), 'utf8'), text);
    lock.release();
    io.destroy();
    other.destroy();
  });
}
