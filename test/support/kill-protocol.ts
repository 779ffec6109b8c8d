// What the writers of the proofs `kills` and `power` and the process that watches them agree on: the options of the log,
// the bytes of every record, and the lines a writer tells through a pipe that outlives it:
//
//     o / O                      about to open / open
//     a FIRST LAST LANE SEQ N    N records of LANE, from SEQ on, are acknowledged: the first at FIRST, the last at LAST
//     r LANE SEQ CODE            the append of these was rejected
//     t OFFSET / T OFFSET        about to truncate before / truncated
//     c / C                      about to close / closed
//     e CODE                     the life ended by this error
//     z CALLS                    the life ended as it should, after so many counted system calls

import { writeSync } from 'node:fs';
import type { LogOptionsInput, LogStats } from '../../src/index.ts';

export type LineKind = 'o' | 'O' | 'a' | 'r' | 't' | 'T' | 'c' | 'C' | 'e' | 'z';

/** In one write, so that the lines of two threads never mix. */
export function tell(kind: LineKind, ...words: readonly (number | string)[]): void {
  const line = `${[kind, ...words].join(' ')}\n`;
  for (;;) {
    try {
      writeSync(1, line);
      return;
    } catch (error) {
      // Node.js may have made the pipe non-blocking; the watcher will come round to reading it.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}

/** Who appended a record: the n-th process, its lane, the place in that lane. */
export interface Origin {
  readonly run: number;
  readonly lane: number;
  readonly sequence: number;
}

/** Its records are large: a scripted life fills segments with few calls. */
export const SCRIPT_LANE = 1000;

/** Known to writer and watcher, different for every record. */
export function payloadOf({ run, lane, sequence }: Origin): Buffer {
  const head = `${run}:${lane}:${sequence}:`;
  const spread = ((sequence + lane) * 2654435761) >>> 0;
  const most = lane === SCRIPT_LANE ? 6000 : sequence % 50 === 0 ? 16_000 : 700;
  const bytes = Buffer.alloc(head.length + (spread % most), (run * 31 + sequence) & 0xff);
  bytes.write(head, 'latin1');
  return bytes;
}

/** Undefined where the bytes are not exactly those of a record that somebody may have appended. */
export function originOf(payload: Uint8Array): Origin | undefined {
  const [run, lane, sequence] = Buffer.from(payload.buffer, payload.byteOffset, Math.min(40, payload.length))
    .toString('latin1')
    .split(':')
    .map(Number);
  const origin = { run, lane, sequence };
  const isNumber = [run, lane, sequence].every((n) => Number.isSafeInteger(n) && n >= 0);
  return isNumber && payloadOf(origin).equals(payload) ? origin : undefined;
}

export const streamOf = (lane: number): string => `lane-${lane}`;

/** Small, so that rolls, recycling, full lanes and several writes under way come within a fraction of a second. */
export const smallLog = {
  segmentBytes: 256 * 1024,
  maxRecordBytes: 16 * 1024,
  laneBytes: 128 * 1024,
  window: { maxRecords: 32, maxBytes: 32 * 1024, lingerMs: 1 },
} as const satisfies Omit<LogOptionsInput, 'dir'>;

/** For kill-script.ts: three large records fill a batch, four batches a segment. */
export const scriptLog = {
  ...smallLog,
  segmentBytes: 64 * 1024,
  window: { maxRecords: 100, maxBytes: 16 * 1024, lingerMs: 1 },
} as const satisfies Omit<LogOptionsInput, 'dir'>;

/** System calls that the addon counted for a log so far, opening included. */
export function callsOf({ systemCalls }: LogStats): number {
  const { bytesWritten: _bytes, commitWrites: _writes, commitSyncs: _syncs, ...calls } = systemCalls;
  return Object.values(calls).reduce((sum, n) => sum + n, 0);
}
