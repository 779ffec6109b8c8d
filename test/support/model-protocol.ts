// What the parent of the model proof and its child say to each other, and the bytes that both derive from a call's number:
// payloads do not cross the pipe on their way in, only on their way back.

import type { IoMode, LogOptionsInput, LogStats } from '../../src/index.ts';

/** One `append` (a single size) or `appendMany`. */
export interface CallSpec {
  readonly call: number;
  /** 0: the log's own; others were opened by `lane`. */
  readonly lane: number;
  readonly stream: string;
  /** Bytes of the key; -1: none. */
  readonly keyBytes: number;
  readonly sizes: readonly number[];
}

/** Calls that must be refused, each with the code that the caller gets. */
export const refusals = {
  'stream name with a slash': 'INVALID_STREAM',
  'payload above the cap': 'RECORD_TOO_LARGE',
  'one of three payloads above the cap': 'RECORD_TOO_LARGE',
  'payload and key together above the cap': 'RECORD_TOO_LARGE',
  'no payloads': 'INVALID_RECORD',
  'a number as payload': 'INVALID_RECORD',
  'unknown append option': 'INVALID_OPTION',
  'read from -1': 'INVALID_OPTION',
  'read from beyond the end': 'OFFSET_OUT_OF_RANGE',
  'read of a bad stream': 'INVALID_STREAM',
  'truncate beyond the end': 'OFFSET_OUT_OF_RANGE',
  'truncate before -1': 'OFFSET_OUT_OF_RANGE',
  'lane taken twice': 'LANE_TAKEN',
  'open twice': 'LOCKED',
} as const;
export type Refusal = keyof typeof refusals;

export type Request =
  | { readonly kind: 'open'; readonly options: LogOptionsInput }
  | { readonly kind: 'flush' | 'stats' | 'close' | 'afterClose' }
  | { readonly kind: 'truncate'; readonly offset: number }
  | { readonly kind: 'read'; readonly from?: number; readonly stream?: string; readonly count: number }
  | { readonly kind: 'lane'; readonly lane: number; readonly worker: boolean }
  | { readonly kind: 'closeLane'; readonly lane: number }
  | { readonly kind: 'refused'; readonly what: Refusal };

export type ToChild =
  | { readonly id: number; readonly request: Request }
  | { readonly append: CallSpec }
  | { readonly follow: { readonly follower: number; readonly from?: number; readonly stream?: string } };

export interface WireRecord {
  readonly offset: number;
  readonly stream: string;
  readonly key: Uint8Array | null;
  readonly payload: Uint8Array;
  readonly unterminated: boolean;
}

/** Answer to a request: what it gave, or the code it was rejected with. */
export interface Answer {
  readonly code?: string;
  readonly message?: string;
  readonly stats?: LogStats;
  readonly records?: readonly WireRecord[];
}

/** What became of a call. */
export interface Settled {
  readonly call: number;
  readonly firstOffset?: number;
  readonly lastOffset?: number;
  readonly code?: string;
}

export type FromChild =
  | { readonly ready: true }
  | { readonly id: number; readonly answer: Answer }
  | { readonly settled: Settled }
  | { readonly follower: number; readonly records: readonly WireRecord[] }
  | { readonly follower: number; readonly ended: string };

/** Bytes that look like noise and are the same wherever they are asked for. */
export function bytesOf(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let x = Math.imul(seed + 1, 2654435761);
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

export function payloadsOf(spec: CallSpec): Buffer[] {
  return spec.sizes.map((size, i) => bytesOf(spec.call * 1000 + i, size));
}

export function optionsOf(spec: CallSpec): { key?: Buffer; unterminated?: boolean } {
  return {
    ...(spec.keyBytes < 0 ? {} : { key: bytesOf(spec.call * 1000 + 999, spec.keyBytes) }),
    ...(isUnterminated(spec) ? { unterminated: true } : {}),
  };
}

export function isUnterminated(spec: CallSpec): boolean {
  return spec.call % 13 === 5;
}

/** Carries out a call on a lane or a log. One form of promise for both, so that answers come in the order of the calls. */
export async function carryOut(
  to: {
    append(stream: string, payload: Uint8Array, options: object): Promise<{ offset: number }>;
    appendMany(
      stream: string,
      payloads: Uint8Array[],
      options: object,
    ): Promise<{ firstOffset: number; lastOffset: number }>;
  },
  spec: CallSpec,
): Promise<Settled> {
  const payloads = payloadsOf(spec);
  const { call } = spec;
  try {
    if (payloads.length > 1) return { call, ...(await to.appendMany(spec.stream, payloads, optionsOf(spec))) };
    const { offset } = await to.append(spec.stream, payloads[0], optionsOf(spec));
    return { call, firstOffset: offset, lastOffset: offset };
  } catch (error) {
    return { call, code: codeOfError(error) };
  }
}

export function codeOfError(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return code ?? message ?? String(error);
}

export const ioModes: readonly IoMode[] = ['direct', 'buffered', 'portable', 'js'];
