// Child of test/platform/short-write.test.ts, under a limit on the size of files: prints what a write that goes beyond it
// ends with, as JSON. argv: directory, mode, which of the two writes, bytes.

import { join } from 'node:path';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import type { IoMode } from '../../src/base/types.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { native } from '../../src/platform/native.ts';
import { NativeFileIo } from '../../src/platform/native-io.ts';

const [dir, mode, how, bytes] = process.argv.slice(2);
// Or the signal ends the process instead.
process.on('SIGXFSZ', () => undefined);
const counters = new Float64Array(COUNTER_SLOTS);
const io = mode === 'js' ? new JsIo(counters) : new NativeFileIo(native!, mode as Exclude<IoMode, 'js'>, counters);
const fd = io.open(join(dir, `${mode}-${how}`), 'create', how === 'durableWrite');
const buffer = io.alignedBuffer(Number(bytes)).fill(0x77);
let ended = 'as if all were written';
try {
  if (how === 'durableWrite') io.durableWrite(fd, buffer, 0);
  else io.write(fd, buffer, 0);
} catch (error) {
  const { code, details } = error as { code: string; details: { errno?: string } };
  ended = `${code} ${details.errno}`;
}
console.log(JSON.stringify({ ended, size: io.size(fd) }));
io.close(fd);
