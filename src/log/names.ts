// The files of a log's directory. A name never comes from a user: only offsets go in.
//
//     lock                        who writes here (log/lock.ts)
//     checkpoint                  durable end and log start (log/checkpoint.ts)
//     00000000000000001000.seg    segment whose first record has offset 1000
//     00000000000000001000.idx    its index: there once it is sealed, never before
//     spare                       a segment's worth of file, filled once, waiting to be used (again)
//     window                      where the adaptive window was last good (log/window-file.ts)
//     *.tmp                       half-made; removed when the log is opened for writing

const DIGITS = 20;

export const LOCK_FILE = 'lock';
export const CHECKPOINT_FILE = 'checkpoint';
export const SPARE_FILE = 'spare';
export const WINDOW_FILE = 'window';

export function segmentName(baseOffset: number): string {
  return `${String(baseOffset).padStart(DIGITS, '0')}.seg`;
}

export function indexName(baseOffset: number): string {
  return `${String(baseOffset).padStart(DIGITS, '0')}.idx`;
}

export interface DirectoryListing {
  /** Base offsets, ascending. */
  readonly segments: number[];
  readonly indexes: Set<number>;
  readonly temporary: string[];
  readonly foreign: string[];
  readonly hasCheckpoint: boolean;
  readonly hasSpare: boolean;
}

export function sortNames(names: readonly string[]): DirectoryListing {
  const segments: number[] = [];
  const indexes = new Set<number>();
  const temporary: string[] = [];
  const foreign: string[] = [];
  for (const name of names) {
    const match = /^(\d{20})\.(seg|idx)$/.exec(name);
    const offset = match === null ? NaN : Number(match[1]);
    if (match !== null && Number.isSafeInteger(offset)) {
      if (match[2] === 'seg') segments.push(offset);
      else indexes.add(offset);
    } else if (/^(\d{20}\.idx|checkpoint|spare|window|probe)\.tmp$|^probe\.tmp$/.test(name)) {
      temporary.push(name);
    } else if (![LOCK_FILE, CHECKPOINT_FILE, SPARE_FILE, WINDOW_FILE].includes(name)) {
      foreign.push(name);
    }
  }
  segments.sort((a, b) => a - b);
  return {
    segments,
    indexes,
    temporary,
    foreign,
    hasCheckpoint: names.includes(CHECKPOINT_FILE),
    hasSpare: names.includes(SPARE_FILE),
  };
}
