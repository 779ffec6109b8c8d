// Child of test/log/lock.test.ts: takes the lock of a directory and keeps it until it is killed. argv: dir, io.

import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import { DirectoryLock } from '../../src/log/lock.ts';
import { lockIo } from '../../src/platform/choose-io.ts';

const [dir, way] = process.argv.slice(2);
// Held by a name that is used later: a lock that nobody refers to ends with its descriptor, when that is collected.
const lock = DirectoryLock.take(lockIo(way as 'js', new Float64Array(COUNTER_SLOTS)), dir);
process.send!('held');
process.on('disconnect', () => {
  lock.release();
  process.exit();
});
