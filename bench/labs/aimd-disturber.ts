// Another process that really writes and syncs to the same disk: chunks into one file, over and over, each followed by an fdatasync.
//
//   node aimd-disturber.js DIR CHUNK_BYTES PAUSE_MS          ends with its parent, or by a signal

import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const FILE_BYTES = 64 * 1024 * 1024;

const [dir, chunkBytes, pauseMs] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const chunk = Buffer.alloc(chunkBytes, 'd');
const fd = openSync(join(dir, 'disturber.dat'), 'w');
const parent = process.ppid;
process.once('exit', () => closeSync(fd));

let position = 0;
function turn(): void {
  if (process.ppid !== parent) process.exit(0);
  writeSync(fd, chunk, 0, chunkBytes, position);
  fdatasyncSync(fd);
  position = position + 2 * chunkBytes > FILE_BYTES ? 0 : position + chunkBytes;
  setTimeout(turn, pauseMs);
}
turn();
