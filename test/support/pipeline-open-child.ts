// Child of test/pipeline/open-directory.test.ts: opens a log as somebody else, or holds one. Tells 'opened' or the error's code
// and message. argv: dir, io.

import { open, SpillwayError } from '../../src/index.ts';

const [dir, io] = process.argv.slice(2);
try {
  await open({ dir, io: io as 'js' });
  process.send!('opened');
} catch (error) {
  process.send!(error instanceof SpillwayError ? `${error.code} ${error.message}` : String(error));
  process.disconnect();
}
process.on('disconnect', () => process.exit());
