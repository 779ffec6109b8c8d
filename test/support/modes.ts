// The I/O modes that work in a directory, those that do not, with the reason, and those that should: a proof counts against the
// last, so that a mode which is missing is seen.

import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IoMode } from '../../src/base/types.ts';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import { chooseIo } from '../../src/platform/choose-io.ts';
import { nativeMissing } from '../../src/platform/native.ts';

const ioModes = ['direct', 'buffered', 'portable', 'js'] as const satisfies readonly IoMode[];

/** Set by `npm run prove -- --without-addon`: only mode js is expected where no addon loads. */
export const WITHOUT_ADDON = 'SPILLWAY_WITHOUT_ADDON';

export interface Modes {
  readonly working: readonly IoMode[];
  /** Why each of the others does not work. */
  readonly missing: ReadonlyMap<IoMode, string>;
  /** What a proof says it tried: the working ones, and those that this platform should have. */
  readonly expected: readonly IoMode[];
}

export function temporaryDirectory(prefix = 'spillway-'): string {
  return mkdtempSync(join(tmpdir(), prefix));
}

/** A file system may have no O_DIRECT; it says so by EINVAL, and by nothing else. */
function refusesDirect(dir: string): boolean {
  const path = join(dir, 'direct.tmp');
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT));
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EINVAL';
  } finally {
    rmSync(path, { force: true });
  }
}

function shouldWork(mode: IoMode, dir: string): boolean {
  if (mode === 'js') return true;
  if (process.platform !== 'linux') return false;
  if (nativeMissing !== undefined && process.env[WITHOUT_ADDON] === '1') return false;
  return mode !== 'direct' || !refusesDirect(dir);
}

/** @param dir exists, and can be written */
export function modesIn(dir: string): Modes {
  const missing = new Map<IoMode, string>();
  for (const mode of ioModes) {
    try {
      chooseIo(dir, mode, new Float64Array(COUNTER_SLOTS)).destroy();
    } catch (error) {
      missing.set(mode, (error as Error).message);
    }
  }
  const working = ioModes.filter((mode) => !missing.has(mode));
  return { working, missing, expected: ioModes.filter((mode) => !missing.has(mode) || shouldWork(mode, dir)) };
}

function modesOfTemporary(): Modes {
  const dir = temporaryDirectory();
  try {
    return modesIn(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Where tests keep their data. */
export const { working: workingModes, missing: missingModes, expected: expectedModes } = modesOfTemporary();
