// The I/O modes that work in the directory where tests keep their data.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IoMode } from '../../src/base/types.ts';
import { COUNTER_SLOTS } from '../../src/base/limits.ts';
import { chooseIo } from '../../src/platform/choose-io.ts';

export function temporaryDirectory(prefix = 'spillway-'): string {
  return mkdtempSync(join(tmpdir(), prefix));
}

function works(mode: IoMode): boolean {
  const dir = temporaryDirectory();
  try {
    chooseIo(dir, mode, new Float64Array(COUNTER_SLOTS)).destroy();
    return true;
  } catch {
    return false;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

export const workingModes: readonly IoMode[] = (['direct', 'buffered', 'portable', 'js'] as const).filter(works);
