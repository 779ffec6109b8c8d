// Picks the I/O mode once, when a log opens, by trying it in the directory itself.

import { join } from 'node:path';
import { SpillwayError, errnoOf, isDiskFull, reasonOf } from '../base/errors.ts';
import { BLOCK_BYTES, counterSlots } from '../base/limits.ts';
import type { LogOptions } from '../base/options.ts';
import type { FileIo } from './file-io.ts';
import { JsIo } from './js-io.ts';
import { NativeFileIo } from './native-io.ts';
import { native, nativeMissing } from './native.ts';

/** What a file system or kernel answers that does not have a mode; anything else is a real fault. */
const unsupported = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** A FileIo for reading only: no probing, nothing is written. */
export function readerIo(): FileIo {
  return native === undefined ? new JsIo() : new NativeFileIo(native, 'buffered');
}

/**
 * @param dir an existing, writable directory
 * @throws INVALID_OPTION where the mode asked for does not work here; IO_ERROR where the disk refuses a plain write
 */
export function chooseIo(dir: string, wanted: LogOptions['io'], counters: Float64Array): FileIo {
  if (wanted === 'js') return new JsIo(counters);
  if (native === undefined) {
    if (wanted === 'auto') return new JsIo(counters);
    throw new SpillwayError(
      'INVALID_OPTION',
      `option 'io': ${wanted} needs the native addon, which did not load: ${nativeMissing}`,
      {
        subject: 'io',
      },
    );
  }
  const modes = wanted === 'auto' ? (['direct', 'buffered', 'portable'] as const) : ([wanted] as const);
  let refused: unknown;
  for (const mode of modes) {
    const io = new NativeFileIo(native, mode, counters);
    try {
      probe(io, dir);
      return io;
    } catch (error) {
      io.destroy();
      // A full disk says nothing of the mode, and a log on it can still be drained: opening with O_DIRECT worked.
      if (isDiskFull(error)) return new NativeFileIo(native, mode, counters);
      if (!unsupported.has(errnoOf(error) ?? '')) throw error;
      refused = error;
    }
  }
  throw new SpillwayError('INVALID_OPTION', `option 'io': ${wanted} does not work in ${dir}: ${reasonOf(refused)}`, {
    subject: 'io',
  });
}

/** For the lock file, before a mode is chosen. */
export function lockIo(wanted: LogOptions['io'], counters: Float64Array): FileIo {
  return native === undefined || wanted === 'js' ? new JsIo(counters) : new NativeFileIo(native, 'buffered', counters);
}

/** One real durable write of a block; not counted as a commit, so that commitWrites tells of batches alone. */
function probe(io: FileIo, dir: string): void {
  const path = join(dir, 'probe.tmp');
  if (io.exists(path)) io.unlink(path);
  const fd = io.open(path, 'create', true);
  try {
    io.durableWrite(fd, io.alignedBuffer(BLOCK_BYTES), 0);
  } finally {
    io.close(fd);
    io.unlink(path);
  }
  io.counters[counterSlots.commitWrites] = 0;
  io.counters[counterSlots.commitSyncs] = 0;
}
