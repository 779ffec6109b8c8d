// spillway token: a new random token, and its line for the file of option `tokens`.

import { randomBytes } from 'node:crypto';
import { SpillwayError } from '../base/errors.ts';
import { checkStreamName } from '../base/names.ts';
import { tokenDigest } from '../ingress/auth.ts';
import { printJson, printTable } from './output.ts';

/** As many as a SHA-256 digest has: guessing the token is no easier than finding one for a digest. */
const TOKEN_BYTES = 32;

/** @returns exit status 0 @throws INVALID_OPTION for a name outside the allow-list */
export function tokenCommand(name: string, json: boolean): number {
  try {
    checkStreamName(name);
  } catch (error) {
    const { message } = error as SpillwayError;
    throw new SpillwayError('INVALID_OPTION', message.replace('stream name', '--name'), { subject: 'name' });
  }
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  const line = `${tokenDigest(token).toString('hex')} ${name}`;
  if (json) printJson({ token, line, name });
  else {
    printTable([
      ['token', token],
      ['line', line],
    ]);
  }
  return 0;
}
