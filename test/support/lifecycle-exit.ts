// Child of the lifecycle proof that ends without closing its log. Tells of each acknowledgement through a pipe that
// outlives it. argv: dir, io, how, acknowledgements before the end.

import { writeSync } from 'node:fs';
import { open } from '../../src/index.ts';
import { payloadOf, smallLog } from './lifecycle-protocol.ts';

const [dir, io, how, after] = process.argv.slice(2);
const log = await open({ ...smallLog, dir, io: io as 'direct' });
let acknowledged = 0;
let i = 0;

const endings: Record<string, () => unknown> = {
  'process.exit': () => process.exit(7),
  'an exception': () => {
    throw new Error('thrown on purpose');
  },
  'a rejection': () => Promise.reject(new Error('rejected on purpose')),
  'process.exit while closing': () => {
    void log.close();
    process.exit(7);
  },
  // Nothing is wrong: it waits for what is under way, and ends by itself.
  'its last line': () => undefined,
};

/** Appends and asks for a flush without waiting for either. */
function burst(): void {
  for (let end = i + 60; i < end; i++) {
    const mine = i;
    log.append('exit', payloadOf('exit', mine)).then(
      ({ offset }) => {
        writeSync(1, `${mine} ${offset}\n`);
        acknowledged++;
      },
      () => undefined,
    );
  }
  void log.flush().catch(() => undefined);
}

burst();
const look = (): void => {
  if (acknowledged < Number(after)) return void setImmediate(look);
  burst();
  writeSync(1, 'end\n');
  endings[how]();
};
setImmediate(look);
