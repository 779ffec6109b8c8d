// The one allow-list for names that come from users and end up in files, headers or identifiers elsewhere.

import { SpillwayError } from './errors.ts';
import { show } from './options.ts';

const allowed = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/;

/** Checks a stream name. @throws INVALID_STREAM */
export function checkStreamName(name: unknown): string {
  if (typeof name === 'string' && allowed.test(name)) return name;
  throw new SpillwayError(
    'INVALID_STREAM',
    `stream name ${show(name)}: expected 1 to 200 of A-Z a-z 0-9 . _ - and a letter or digit first`,
    { subject: 'stream' },
  );
}
