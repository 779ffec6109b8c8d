// Reading a file that a person named, bounded by what is read and not by the size it claims: it may be growing, or endless. What is no
// regular file is refused: nobody may ever write to the other end of a pipe, and whoever opens or reads it would wait.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

const FIRST_BYTES = 64 * 1024;

/** The whole file; undefined where it is larger than `maxBytes`. @throws what node:fs throws, and Error for what is no regular file */
export function readBounded(path: string, maxBytes: number): Buffer | undefined {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!fstatSync(fd).isFile()) throw new Error('it is no regular file');
    let bytes = Buffer.alloc(Math.min(FIRST_BYTES, maxBytes + 1));
    let length = 0;
    for (;;) {
      const read = readSync(fd, bytes, length, bytes.length - length, null);
      length += read;
      if (length > maxBytes) return undefined;
      if (read === 0) return bytes.subarray(0, length);
      if (length < bytes.length) continue;
      const larger = Buffer.alloc(Math.min(2 * bytes.length, maxBytes + 1));
      bytes.copy(larger);
      bytes = larger;
    }
  } finally {
    closeSync(fd);
  }
}
