// The one allow-list for names that come from users and end up in files, headers or identifiers elsewhere.

import { SpillwayError } from './errors.ts';

const allowed = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/;

/** Checks a stream name. @throws INVALID_STREAM */
export function checkStreamName(name: unknown): string {
  if (typeof name === 'string' && allowed.test(name)) return name;
  const shown = typeof name === 'string' ? JSON.stringify(name.slice(0, 60)) : String(name);
  throw new SpillwayError(
    'INVALID_STREAM',
    `stream name ${shown}: expected 1 to 200 of A-Z a-z 0-9 . _ - and a letter or digit first`,
    { subject: 'stream' },
  );
}
