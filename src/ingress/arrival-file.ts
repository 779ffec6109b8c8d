// The file of --record-arrivals: when records came to this gateway, and how many, as a trace for `spillway load` and `tune`.
//
//     timestamp,records,bytes
//     2026-11-22T02:42:41.123456Z,12,3072        a row per request or APPEND frame that was handed to the log
//
// Promises: rows stand in order of time, also those of several accept threads; no thread waits for the file; it is new, readable
// by its owner alone, and at most MAX_TRACE_BYTES long, which is what a trace may have; a row that is not written is counted, or the
// log line says from where on there are none. The file is not synced: it is a measurement, not data.
//
//     accept threads ── a ring each ──▶ main thread: a look every LOOK_MS, oldest first ── one write under way ──▶ file
//
// A row is taken once it is HORIZON_MS old, so that older ones of other threads are there by then. One that comes later still (a
// thread that did not run between its look at the clock and its store) gets the time of the row before it. While a write is under
// way rows wait in their rings, so the rings are the bound of everything.

import { lstatSync } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import type { Logger } from 'pino';
import { systemClock, type Clock } from '../base/clock.ts';
import { errnoOf, reasonOf, SpillwayError } from '../base/errors.ts';
import { MAX_TRACE_BYTES } from '../base/limits.ts';
import { formatBytes } from '../base/options.ts';
import type { ArrivalRing } from './arrival-ring.ts';

const LOOK_MS = 100;
const HORIZON_MS = 100;
/** Rows made into text at once: about half a millisecond, on a thread that may be an accept thread too. */
const ROWS_PER_WRITE = 1024;
const HEADER = 'timestamp,records,bytes\n';

/** As in ISO 8601, with six digits of a second. @param wallMs since the epoch, fractional */
function timestamp(wallMs: number): string {
  const wallUs = Math.floor(wallMs * 1000);
  const micros = wallUs % 1000;
  return `${new Date((wallUs - micros) / 1000).toISOString().slice(0, -1)}${String(micros).padStart(3, '0')}Z`;
}

function cannotCreate(path: string, reason: string): SpillwayError {
  return new SpillwayError('INVALID_OPTION', `option 'recordArrivals': cannot create ${path}: ${reason}`, {
    subject: 'recordArrivals',
  });
}

const IS_THERE = 'it is there already';

/** @throws INVALID_OPTION where something of that name is there, whatever it is */
export function checkAbsent(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw cannotCreate(path, IS_THERE);
}

/** A new file, and nothing else: what is there already is left alone. @throws INVALID_OPTION */
export async function createArrivalFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', 0o600);
  } catch (error) {
    throw cannotCreate(path, errnoOf(error) === 'EEXIST' ? IS_THERE : reasonOf(error));
  }
}

/** What of a file is used: a test has one that is slow, or full. */
export interface ArrivalTarget {
  appendFile(text: string): Promise<void>;
  close(): Promise<void>;
}

export class ArrivalFile {
  readonly #path: string;
  readonly #target: ArrivalTarget;
  readonly #rings: readonly ArrivalRing[];
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #timer: NodeJS.Timeout;
  /** Of the epoch, by the monotonic clock: times of rows do not jump when the machine's clock is set. */
  readonly #epochMs: number;
  #writing: Promise<void> | undefined;
  #text = HEADER;
  #bytes = HEADER.length;
  /** Rows made into text, and those of them that are written. */
  #made = 0;
  #written = 0;
  #lastMs = -Infinity;
  #ended = false;

  constructor(
    path: string,
    target: ArrivalTarget,
    rings: readonly ArrivalRing[],
    log: Pick<Logger, 'info' | 'warn' | 'error'>,
    clock: Clock = systemClock,
    maxBytes = MAX_TRACE_BYTES,
  ) {
    this.#path = path;
    this.#target = target;
    this.#rings = rings;
    this.#log = log;
    this.#clock = clock;
    this.#maxBytes = maxBytes;
    this.#epochMs = clock.wallMs() - clock.monotonicMs();
    this.#timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** Writes what is old enough, unless a write is under way. */
  look(): void {
    this.#writing ??= this.#write(() => this.#clock.monotonicMs() - HORIZON_MS).finally(
      () => (this.#writing = undefined),
    );
  }

  /** Writes all that is there: nobody may record any more. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    await this.#write(() => Infinity);
    await this.#target.close().catch((error: unknown) => this.#fail(error));
    const lost = this.#rings.reduce((sum, ring) => sum + ring.lost, 0);
    const books = { file: this.#path, rows: this.#written, lost };
    if (lost === 0) this.#log.info(books, 'arrivals recorded');
    else this.#log.warn(books, 'arrivals recorded, but some are missing: the file could not keep up');
  }

  /** Leaves no file behind. */
  async discard(): Promise<void> {
    this.#end();
    await this.#writing;
    await this.#target.close().catch(() => undefined);
    await rm(this.#path, { force: true });
  }

  async #write(untilMs: () => number): Promise<void> {
    while (!this.#ended) {
      const full = this.#take(untilMs());
      if (this.#text !== '') {
        const text = this.#text;
        this.#text = '';
        try {
          await this.#target.appendFile(text);
          this.#written = this.#made;
        } catch (error) {
          return this.#fail(error);
        }
      } else if (!full) return;
      if (!full) continue;
      this.#end();
      const where = `${this.#path} has reached ${formatBytes(this.#maxBytes)}`;
      this.#log.warn({ rows: this.#written }, `${where}: arrivals are not recorded any more`);
    }
  }

  /** Makes text of the oldest rows. @returns whether the file is full with them */
  #take(untilMs: number): boolean {
    for (let n = 0; n < ROWS_PER_WRITE; n++) {
      let oldest: ArrivalRing | undefined;
      let oldestMs = Infinity;
      for (const ring of this.#rings) {
        const atMs = ring.oldestMs;
        if (atMs === undefined || atMs >= oldestMs) continue;
        oldest = ring;
        oldestMs = atMs;
      }
      if (oldest === undefined || oldestMs > untilMs) return false;
      const atMs = Math.max(oldestMs, this.#lastMs);
      const { records, bytes } = oldest.take();
      const line = `${timestamp(this.#epochMs + atMs)},${records},${bytes}\n`;
      if (this.#bytes + line.length > this.#maxBytes) return true;
      this.#lastMs = atMs;
      this.#text += line;
      this.#bytes += line.length;
      this.#made++;
    }
    return false;
  }

  #fail(error: unknown): void {
    this.#end();
    this.#log.error(`${this.#path} cannot be written, arrivals are not recorded any more: ${reasonOf(error)}`);
  }

  #end(): void {
    this.#ended = true;
    clearInterval(this.#timer);
    for (const ring of this.#rings) ring.end();
  }
}
