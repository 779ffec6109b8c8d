// Where the adaptive window was last good, for the next run to begin with: one line of JSON in the file `window`. A hint, and no
// more: it is replaced as a whole (temporary file, rename), never synced, and whoever finds it missing, torn or foreign goes on without.

import { join } from 'node:path';
import { isMissing } from '../base/errors.ts';
import type { FileIo } from '../platform/file-io.ts';
import { WINDOW_FILE } from './names.ts';

export interface WindowPoint {
  /** What it is good for: under another SLO it says nothing. */
  readonly sloP99Ms: number;
  readonly lingerMs: number;
}

const MAX_BYTES = 256;

/** Undefined where there is none. @throws Error for what is damaged or of something else, IO_ERROR */
export function readWindowPoint(io: FileIo, dir: string): WindowPoint | undefined {
  let fd: number;
  try {
    fd = io.open(join(dir, WINDOW_FILE), 'read', false);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const bytes = Buffer.alloc(MAX_BYTES);
    const length = io.read(fd, bytes, 0);
    const value = (JSON.parse(bytes.toString('utf8', 0, length)) ?? {}) as Partial<Record<keyof WindowPoint, unknown>>;
    const { sloP99Ms, lingerMs } = value;
    if (typeof sloP99Ms !== 'number' || typeof lingerMs !== 'number' || !(sloP99Ms > 0) || !(lingerMs >= 0)) {
      throw new Error(`${WINDOW_FILE}: this is not the point of a window`);
    }
    return { sloP99Ms, lingerMs };
  } finally {
    io.close(fd);
  }
}

/** @throws IO_ERROR */
export function writeWindowPoint(io: FileIo, dir: string, { sloP99Ms, lingerMs }: WindowPoint): void {
  const path = join(dir, WINDOW_FILE);
  const temporary = `${path}.tmp`;
  // Of a write that failed half-way; opening removes it too.
  if (io.exists(temporary)) io.unlink(temporary);
  const fd = io.open(temporary, 'create', false);
  try {
    io.write(fd, Buffer.from(`${JSON.stringify({ sloP99Ms, lingerMs })}\n`), 0);
  } finally {
    io.close(fd);
  }
  io.rename(temporary, path);
}
