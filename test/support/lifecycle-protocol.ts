// What the parts of the lifecycle proof say to each other, and the payloads that all of them can tell whole from garbled.

import type { IoMode, LaneHandle, LogOptionsInput } from '../../src/index.ts';
import type { Cell } from './lifecycle-cells.ts';

/** What a process of the proof is asked to do. */
export type Task =
  | {
      readonly kind: 'cells';
      readonly inWorker: boolean;
      readonly io: IoMode;
      readonly states: string[];
      readonly disk: string;
    }
  | {
      readonly kind: 'terminate producers' | 'terminate openers' | 'terminate a full lane';
      readonly io: IoMode;
      readonly times: number;
      readonly seed: number;
      readonly disk: string;
    };

export interface Done {
  readonly tried: number;
  readonly violations: readonly string[];
  readonly figures?: Readonly<Record<string, number>>;
  readonly cells?: readonly Cell[];
}

/** What a worker of lifecycle-worker.ts does. */
export type WorkerTask =
  | { readonly kind: 'cells'; readonly io: IoMode; readonly states: string[]; readonly disk: string }
  | { readonly kind: 'produce'; readonly handle: LaneHandle; readonly who: string }
  | { readonly kind: 'open and produce'; readonly options: LogOptionsInput; readonly who: string }
  | { readonly kind: 'fill a lane'; readonly handle: LaneHandle; readonly records: number };

/** Posted by a producing worker for each acknowledgement. */
export interface Told {
  readonly i: number;
  readonly offset: number;
}

/** A figure of those that were ended: of how many the log held more than they had been told. */
export const UNDER_WAY = 'ended with appends under way';

/** Enough for several batches and laps at once. */
export const IN_FLIGHT = 40;

export const smallLog = {
  segmentBytes: '256KiB',
  laneBytes: '64KiB',
  maxRecordBytes: '8KiB',
  maxLanes: 256,
  window: { maxRecords: 20, maxBytes: '16KiB', lingerMs: 0 },
} as const;

/** Who and which, then one byte again and again: a torn or mixed copy shows. */
export function payloadOf(who: string, i: number): Buffer {
  const head = `${who}:${i}:`;
  const bytes = Buffer.alloc(head.length + (((i * 2654435761) >>> 0) % (i % 8 === 0 ? 8000 : 300)), 33 + (i % 90));
  bytes.write(head, 'latin1');
  return bytes;
}

/** Appends for ever, many at a time; tells of each acknowledgement as soon as its promise settles. */
export async function produce(
  lane: { append(stream: string, payload: Uint8Array): Promise<{ offset: number }> },
  who: string,
  tell: (told: Told) => void,
): Promise<void> {
  let next = 0;
  const one = async (): Promise<void> => {
    for (;;) {
      const i = next++;
      const { offset } = await lane.append(who, payloadOf(who, i));
      tell({ i, offset });
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, one));
}
