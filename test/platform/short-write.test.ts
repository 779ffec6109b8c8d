// A write of which the system does only a part, as on a disk that runs full: here under a limit on the size of files. The
// rest must be tried, and what that says must be told; the part alone is never taken for the whole.

import t from 'tap';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { directory } from '../support/log-support.ts';
import { workingModes } from '../support/modes.ts';

const child = fileURLToPath(new URL('../support/platform-short-write.js', import.meta.url));
const BYTES = 16 * 1024;
/** For `ulimit -f`, which counts in these. */
const SECTOR_BYTES = 512;
const LIMIT_BYTES = 20 * SECTOR_BYTES;

for (const mode of workingModes) {
  for (const how of ['write', 'durableWrite']) {
    t.test(`${mode}, ${how}: a part is not the whole`, async (t) => {
      const limited = `ulimit -f ${LIMIT_BYTES / SECTOR_BYTES}; exec "$@"`;
      const args = [process.execPath, child, directory(t), mode, how, String(BYTES)];
      const told = execFileSync('sh', ['-c', limited, 'sh', ...args], { encoding: 'utf8' });
      t.same(JSON.parse(told), { ended: 'IO_ERROR EFBIG', size: LIMIT_BYTES });
    });
  }
}
