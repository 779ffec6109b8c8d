// The contract of FileIo, for each implementation on a real disk: what is written, what is counted, what fails how.

import t, { type Test } from 'tap';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SpillwayError } from '../../src/base/errors.ts';
import { BLOCK_BYTES, COUNTER_SLOTS, counterSlots, type CounterName } from '../../src/base/limits.ts';
import { ioError, type FileIo } from '../../src/platform/file-io.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { NativeFileIo } from '../../src/platform/native-io.ts';
import { native, nativeMissing } from '../../src/platform/native.ts';

type Counts = Partial<Record<CounterName, number>>;

const modes = ['js', 'direct', 'buffered', 'portable'] as const;
/** What one durable write costs, by strace's names. */
const durableCost: Record<(typeof modes)[number], Counts> = {
  js: { pwrite64: 1, fdatasync: 1, commitWrites: 1, commitSyncs: 1 },
  direct: { pwritev2: 1, commitWrites: 1 },
  buffered: { pwritev2: 1, commitWrites: 1 },
  portable: { pwritev: 1, fdatasync: 1, commitWrites: 1, commitSyncs: 1 },
};

/** A directory under the system's own, gone after the test; each name is a file with that text, or null for a folder. */
function tempDir(t: Test, entries: Record<string, string | null> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), 'spillway-io-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(entries)) {
    if (content === null) mkdirSync(join(dir, name));
    else writeFileSync(join(dir, name), content);
  }
  return dir;
}

function ioFor(mode: (typeof modes)[number], counters = new Float64Array(COUNTER_SLOTS)): FileIo {
  return mode === 'js' ? new JsIo(counters) : new NativeFileIo(native!, mode, counters);
}

/** Calls made while `action` ran; those of 0 left out. */
function counted(io: FileIo, action: () => void): Counts {
  const before = io.counters.slice();
  action();
  const counts: Counts = {};
  for (const [name, slot] of Object.entries(counterSlots) as [CounterName, number][]) {
    if (io.counters[slot] !== before[slot]) counts[name] = io.counters[slot] - before[slot];
  }
  return counts;
}

function failure(t: Test, action: () => unknown, errno: string, ...inMessage: string[]): SpillwayError {
  try {
    action();
  } catch (error) {
    t.ok(error instanceof SpillwayError, `${errno}: a SpillwayError, got ${String(error)}`);
    t.match(error, { code: 'IO_ERROR', details: { errno } });
    for (const part of inMessage)
      t.ok((error as Error).message.includes(part), `"${(error as Error).message}" names ${part}`);
    return error as SpillwayError;
  }
  return t.fail(`${errno}: nothing was thrown`) as never;
}

/** Blocks of a buffer that direct descriptors accept, each byte telling its place. */
function blocks(io: FileIo, count: number, seed: number): Uint8Array {
  const bytes = io.alignedBuffer(count * BLOCK_BYTES);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8) + seed) & 0xff;
  return bytes;
}

for (const mode of modes) {
  t.test(mode, async (t) => {
    if (mode !== 'js' && native === undefined)
      return void t.pass('contract', { skip: `no native addon: ${nativeMissing}` });
    if (mode === 'direct' && !directWorks(tempDir(t)))
      return void t.pass('contract', { skip: 'this file system has no O_DIRECT' });

    t.test('open, write, read, size, close', async (t) => {
      const dir = tempDir(t);
      const path = join(dir, 'file');
      const io = ioFor(mode);
      t.equal(io.mode, mode);
      let fd = -1;
      t.strictSame(
        counted(io, () => (fd = io.open(path, 'create', false))),
        { openat: 1 },
      );
      t.equal(statSync(path).mode & 0o777, 0o640 & ~process.umask(), 'not for everybody');
      const bytes = Buffer.from('0123456789');
      t.strictSame(
        counted(io, () => io.write(fd, bytes, 3)),
        { pwrite64: 1, bytesWritten: 10 },
      );
      t.equal(io.size(fd), 13);
      const into = new Uint8Array(20).fill(0xee);
      const bytesRead = io.bytesRead;
      t.equal(io.read(fd, into, 0), 13, 'fewer than asked for only at the end');
      t.equal(io.bytesRead - bytesRead, 13);
      t.equal(Buffer.from(into).toString('latin1'), `\0\0\x000123456789${'\xee'.repeat(7)}`);
      t.equal(io.read(fd, into.subarray(0, 4), 5), 4);
      t.equal(Buffer.from(into.subarray(0, 4)).toString(), '2345');
      t.equal(io.read(fd, into, 13), 0, 'at the end');
      t.equal(io.read(fd, into, 1000), 0, 'beyond it');
      t.strictSame(
        counted(io, () => io.sync(fd)),
        { fdatasync: 1 },
      );
      t.strictSame(
        counted(io, () => io.close(fd)),
        { close: 1 },
      );
      const fd2 = io.open(path, 'write', false);
      io.write(fd2, Buffer.from('XY'), 4);
      io.close(fd2);
      const fd3 = io.open(path, 'read', false);
      t.equal(io.read(fd3, into, 0), 13, 'nothing was cut');
      t.equal(Buffer.from(into.subarray(3, 13)).toString(), '0XY3456789');
      failure(t, () => io.write(fd3, bytes, 0), 'EBADF', path);
      io.destroy();
    });

    t.test('a durable write is in the file, and costs what the mode promises', async (t) => {
      const path = join(tempDir(t), 'file');
      const io = ioFor(mode);
      const fd = io.open(path, 'create', true);
      io.allocate(fd, 64 * BLOCK_BYTES);
      t.equal(io.size(fd), 64 * BLOCK_BYTES, 'allocated');
      const whole = Buffer.alloc(64 * BLOCK_BYTES);
      for (const [count, at] of [
        [1, 0],
        [16, 1],
        [3, 40],
        [1, 0],
        [1, 63],
      ]) {
        const bytes = blocks(io, count, at + count);
        whole.set(bytes, at * BLOCK_BYTES);
        t.strictSame(
          counted(io, () => io.durableWrite(fd, bytes, at * BLOCK_BYTES)),
          { ...durableCost[mode], bytesWritten: bytes.length },
          `${count} blocks at ${at}`,
        );
      }
      t.ok(readFileSync(path).equals(whole), 'read back');
      io.close(fd);
      io.destroy();
    });

    t.test('submitted writes reach the file in order, and settle one by one', async (t) => {
      const path = join(tempDir(t), 'file');
      const io = ioFor(mode);
      const fd = io.open(path, 'create', true);
      io.allocate(fd, 8 * BLOCK_BYTES);
      const total = counted(io, () => {
        for (let round = 0; round < 10; round++) {
          io.submit(fd, blocks(io, 2, round), 0);
          io.submit(fd, blocks(io, 1, 100 + round), 0); // over the first half of the one before it
          io.settle();
          io.settle();
          const found = readFileSync(path).subarray(0, 2 * BLOCK_BYTES);
          const wanted = Buffer.from(blocks(io, 2, round));
          wanted.set(blocks(io, 1, 100 + round));
          if (!found.equals(wanted)) t.fail(`round ${round}: the later write does not lie over the earlier`);
        }
      });
      const cost = Object.fromEntries(Object.entries(durableCost[mode]).map(([name, n]) => [name, n * 20]));
      t.strictSame(total, { ...cost, bytesWritten: 30 * BLOCK_BYTES }, 'each costs what a durable write does');
      io.close(fd);
      io.destroy();
    });

    t.test('at most three writes are under way', async (t) => {
      const path = join(tempDir(t), 'file');
      const io = ioFor(mode);
      const fd = io.open(path, 'create', true);
      io.allocate(fd, 8 * BLOCK_BYTES);
      const parts = [0, 1, 2, 3].map((n) => blocks(io, 1, n));
      io.submit(fd, parts[0], 0);
      io.submit(fd, parts[1], BLOCK_BYTES);
      io.submit(fd, parts[2], 2 * BLOCK_BYTES);
      if (mode === 'js') {
        t.pass('each is done at once: none is ever under way');
      } else {
        t.throws(() => io.submit(fd, parts[3], 3 * BLOCK_BYTES), /three writes are already under way/);
        t.ok(
          readFileSync(path)
            .subarray(3 * BLOCK_BYTES)
            .every((b) => b === 0),
          'the fourth was not written',
        );
      }
      io.settle();
      io.submit(fd, parts[3], 3 * BLOCK_BYTES);
      io.settle();
      io.settle();
      io.settle();
      t.ok(
        readFileSync(path)
          .subarray(0, 4 * BLOCK_BYTES)
          .equals(Buffer.concat(parts)),
        'all four, after one settled',
      );
      io.close(fd);
      io.destroy();
    });

    t.test('a submitted write that fails is reported by settle, and later ones never reach the file', async (t) => {
      const dir = tempDir(t);
      const readOnly = join(dir, 'read-only');
      const path = join(dir, 'file');
      writeFileSync(readOnly, '');
      const io = ioFor(mode);
      const fd = io.open(path, 'create', true);
      io.allocate(fd, 4 * BLOCK_BYTES);
      const broken = io.open(readOnly, 'read', false);
      io.submit(fd, blocks(io, 1, 1), 0);
      io.settle();
      io.submit(broken, blocks(io, 1, 2), 0);
      io.submit(fd, blocks(io, 1, 3), BLOCK_BYTES);
      const first = failure(t, () => io.settle(), 'EBADF', readOnly);
      t.notOk(first.retryable);
      t.throws(() => io.settle(), { code: 'IO_ERROR' }, 'the one behind it fails too');
      t.throws(
        () => {
          io.submit(fd, blocks(io, 1, 4), 2 * BLOCK_BYTES);
          io.settle();
        },
        { code: 'IO_ERROR' },
        'and so does every one after',
      );
      const content = readFileSync(path);
      t.ok(content.subarray(0, BLOCK_BYTES).equals(blocks(io, 1, 1)), 'what was settled stays');
      t.ok(
        content.subarray(BLOCK_BYTES).every((b) => b === 0),
        'nothing after the failure was written',
      );
      io.destroy();
    });

    t.test('failures carry errno, call and file', async (t) => {
      const dir = tempDir(t, { there: 'x', folder: null });
      const io = ioFor(mode);
      const missing = join(dir, 'missing');
      const there = join(dir, 'there');
      for (const how of ['read', 'write'] as const)
        failure(t, () => io.open(missing, how, false), 'ENOENT', 'open', missing);
      failure(t, () => io.open(there, 'create', false), 'EEXIST', 'open', there);
      failure(t, () => io.open(join(dir, 'folder'), 'write', false), 'EISDIR', 'open', join(dir, 'folder'));
      failure(t, () => io.open(join(there, 'below'), 'read', false), 'ENOTDIR', 'open', join(there, 'below'));
      failure(t, () => io.unlink(missing), 'ENOENT', 'unlink', missing);
      failure(t, () => io.rename(missing, join(dir, 'to')), 'ENOENT', 'rename', missing);
      failure(t, () => io.syncDir(missing), 'ENOENT', 'fsync', missing);
      failure(t, () => io.list(there), 'ENOTDIR', 'readdir', there);
      failure(t, () => io.makeDir(join(there, 'a', 'b')), 'ENOTDIR', 'mkdir', join(there, 'a'));
      t.equal(readFileSync(there, 'utf8'), 'x', 'nothing happened to the file');

      const fd = io.open(there, 'read', false);
      failure(t, () => io.write(fd, Buffer.from('y'), 0), 'EBADF', there);
      failure(t, () => io.durableWrite(fd, blocks(io, 1, 0), 0), 'EBADF', there);
      t.throws(() => io.allocate(fd, 4096), { code: 'IO_ERROR', message: there }, 'allocate on a file for reading');
      io.close(fd);
      const bytes = new Uint8Array(1);
      for (const action of [
        () => io.close(fd),
        () => io.write(fd, bytes, 0),
        () => io.durableWrite(fd, bytes, 0),
        () => io.submit(fd, bytes, 0),
        () => io.read(fd, bytes, 0),
        () => io.size(fd),
        () => io.sync(fd),
        () => io.allocate(fd, 1),
      ]) {
        failure(t, action, 'EBADF', `descriptor ${fd} is not open`);
      }
      io.destroy();
    });

    t.test('a directory without permission', async (t) => {
      if (process.getuid?.() === 0) return void t.pass('refused', { skip: 'the superuser may do anything' });
      const dir = tempDir(t);
      chmodSync(dir, 0o500);
      const io = ioFor(mode);
      failure(t, () => io.open(join(dir, 'new'), 'create', false), 'EACCES', 'permission denied (EACCES)');
      chmodSync(dir, 0o700);
      io.destroy();
    });

    t.test('rename syncs the directory; unlink does not', async (t) => {
      const dir = tempDir(t, { from: 'content', to: 'old', sub: null });
      const io = ioFor(mode);
      const sync = { openat: 1, fsync: 1, close: 1 };
      t.strictSame(
        counted(io, () => io.syncDir(dir)),
        sync,
      );
      t.strictSame(
        counted(io, () => io.rename(join(dir, 'from'), join(dir, 'to'))),
        { rename: 1, ...sync },
      );
      t.equal(readFileSync(join(dir, 'to'), 'utf8'), 'content', 'the old one was replaced');
      t.notOk(io.exists(join(dir, 'from')));
      t.strictSame(
        counted(io, () => io.rename(join(dir, 'to'), join(dir, 'sub', 'to'))),
        { rename: 1, ...sync },
      );
      t.strictSame(
        counted(io, () => io.unlink(join(dir, 'sub', 'to'))),
        { unlink: 1 },
      );
      t.notOk(io.exists(join(dir, 'sub', 'to')));
      io.destroy();
    });

    t.test('list and exists', async (t) => {
      const dir = tempDir(t, { a: '', b: null });
      const io = ioFor(mode);
      t.strictSame(io.list(dir)?.sort(), ['a', 'b']);
      t.equal(io.list(join(dir, 'missing')), undefined);
      t.ok(io.exists(join(dir, 'a')));
      t.ok(io.exists(dir));
      t.notOk(io.exists(join(dir, 'missing')));
      io.destroy();
    });

    t.test('makeDir makes what is missing, and syncs each new entry and the last one that was there', async (t) => {
      const dir = tempDir(t);
      const io = ioFor(mode);
      const deep = join(dir, 'a', 'b', 'c');
      t.strictSame(
        counted(io, () => io.makeDir(deep)),
        { openat: 4, fsync: 4, close: 4 },
      );
      t.ok(statSync(deep).isDirectory());
      t.equal(statSync(deep).mode & 0o777, 0o750 & ~process.umask());
      t.strictSame(
        counted(io, () => io.makeDir(deep)),
        { openat: 1, fsync: 1, close: 1 },
        'it is there, though perhaps only in the cache',
      );
      t.strictSame(
        counted(io, () => io.makeDir(join(dir, 'a', 'd') + '/')),
        { openat: 2, fsync: 2, close: 2 },
      );
      mkdirSync(join(dir, 'real'));
      symlinkSync(join(dir, 'real'), join(dir, 'link'));
      io.makeDir(join(dir, 'link', 'sub'));
      t.ok(statSync(join(dir, 'real', 'sub')).isDirectory(), 'through a link');
      io.destroy();
    });

    t.test('every durable write of 250 is synced', async (t) => {
      const io = ioFor(mode);
      const fd = io.open(join(tempDir(t), 'many'), 'create', true);
      const block = blocks(io, 1, 7);
      const calls = counted(io, () => {
        for (let i = 0; i < 250; i++) io.durableWrite(fd, block, i * block.length);
      });
      const syncs = mode === 'direct' || mode === 'buffered' ? { pwritev2: 250 } : { fdatasync: 250 };
      for (const [name, times] of Object.entries(syncs)) t.equal((calls as Record<string, number>)[name], times, name);
      io.destroy();
    });

    t.test('lock: one holder, even within a process', async (t) => {
      const path = join(tempDir(t, { lock: '' }), 'lock');
      const io = ioFor(mode);
      const other = ioFor(mode);
      const fd = io.open(path, 'write', false);
      if (mode === 'js') {
        t.equal(io.lock(fd), undefined, 'there is no such lock here');
      } else {
        t.strictSame(
          counted(io, () => t.equal(io.lock(fd), true)),
          { flock: 1 },
        );
        const second = other.open(path, 'write', false);
        t.equal(other.lock(second), false, 'held');
        const third = io.open(path, 'write', false);
        t.equal(io.lock(third), false, 'held by the same FileIo');
        io.close(third);
        t.equal(other.lock(second), false, 'closing another descriptor of the file does not free it');
        io.close(fd);
        t.equal(other.lock(second), true, 'free once its holder closed it');
      }
      io.destroy();
      other.destroy();
    });

    t.test('alignedBuffer and destroy', async (t) => {
      const dir = tempDir(t, { a: '', b: '' });
      const io = ioFor(mode);
      for (const size of [BLOCK_BYTES, 5 * BLOCK_BYTES, 1024 * 1024]) {
        const bytes = io.alignedBuffer(size);
        t.equal(bytes.length, size);
        t.ok(bytes.every((b) => b === 0));
        if (mode !== 'js') t.equal(native!.alignmentGap(bytes, BLOCK_BYTES), 0, 'begins at a block');
      }
      const fds = ['a', 'b'].map((name) => io.open(join(dir, name), 'read', false));
      t.strictSame(
        counted(io, () => io.destroy()),
        { close: 2 },
      );
      for (const fd of fds) failure(t, () => io.size(fd), 'EBADF');
      t.strictSame(
        counted(io, () => io.destroy()),
        {},
        'twice is fine',
      );
    });
  });
}

/** True where a block can be written past the page cache. */
function directWorks(dir: string): boolean {
  const io = ioFor('direct');
  try {
    const fd = io.open(join(dir, 'probe'), 'create', true);
    io.durableWrite(fd, io.alignedBuffer(BLOCK_BYTES), 0);
    return true;
  } catch (error) {
    if (['EINVAL', 'EOPNOTSUPP', 'ENOTSUP'].includes((error as SpillwayError).details?.errno ?? '')) return false;
    throw error;
  } finally {
    io.destroy();
  }
}

t.test('ioError: one line with call, file and reason', async (t) => {
  const system = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  t.match(ioError(system, 'write', '/d/f'), {
    code: 'IO_ERROR',
    message: 'write /d/f: no space left on the device (ENOSPC)',
    details: { errno: 'ENOSPC', subject: '/d/f' },
    cause: system,
  });
  const odd = ioError(new Error('something odd'), 'read', '/d/f');
  t.equal(odd.message, 'read /d/f: something odd');
  t.notOk('errno' in odd.details);
  const known = new SpillwayError('LOCKED', 'held');
  t.equal(ioError(known, 'open', '/d'), known, 'what is ours stays as it is');
});
