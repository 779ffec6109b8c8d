// The ways in which a log meets a full disk, and leaves it again: the cases of test/proof/full-disk.ts. Each returns what
// was wrong, one line each. The reader is another process: what it finds is what anybody would find.

import { fork, type ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { open, type IoMode, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { readerIo } from '../../src/platform/choose-io.ts';
import { Load, smallLog } from './full-disk-load.ts';
import type { SmallDisk } from './full-disk-mounts.ts';
import type { ReadAnswer, ReadRequest } from './full-disk-reader.ts';
import { codeOf, modeNotReached, until } from './log-support.ts';

const KIB = 1024;
const FULL_LIMIT_MS = 20_000;
const SETTLE_LIMIT_MS = 15_000;
/** Longer than it takes to fill the disk; where a busy machine is slower, the second. */
const RETENTIONS_MS = [3000, 12_000] as const;

/** The process that reads. One for all cases. */
export class OtherProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: ReadAnswer) => void>();
  #nextId = 1;

  constructor() {
    this.#child = fork(fileURLToPath(new URL('./full-disk-reader.js', import.meta.url)));
    this.#child.on('message', (answer: ReadAnswer) => {
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    this.#child.on('exit', () => {
      for (const [id, settle] of this.#waiting) settle({ id, wrong: 'the reading process died' });
    });
  }

  read(dir: string, from?: number): Promise<ReadAnswer> {
    const request: ReadRequest = { id: this.#nextId++, dir, ...(from === undefined ? {} : { from }) };
    return new Promise((resolve) => {
      this.#waiting.set(request.id, resolve);
      this.#child.send(request);
    });
  }

  end(): void {
    this.#child.kill();
  }
}

/** One case: a directory on a small disk, a mode, and a number that its payloads carry. */
export interface Place {
  readonly disk: SmallDisk;
  readonly dir: string;
  readonly io: IoMode;
  readonly run: number;
  /** Bytes that the ballast leaves free. */
  readonly free: number;
  readonly reader: OtherProcess;
}

export class Case {
  readonly wrong: string[] = [];
  /** What is worth counting, and neither right nor wrong. */
  readonly notes: string[] = [];
  /** Everything acknowledged, over all lives: name → offset. */
  readonly acked = new Map<string, number>();
  readonly #place: Place;
  readonly #logs: SpillwayLog[] = [];

  constructor(place: Place) {
    this.#place = place;
  }

  expect(holds: boolean, what: string): void {
    if (!holds) this.wrong.push(what);
  }

  async open(options: Partial<LogOptionsInput> = {}, dir = this.#place.dir): Promise<SpillwayLog> {
    const log = await open({ dir, io: this.#place.io, ...smallLog, ...options });
    this.#logs.push(log);
    return log;
  }

  /** Appends to a log until the disk is full, and looks at it in that state (which time may end where retention is on). */
  async fill(log: SpillwayLog): Promise<Load> {
    const load = new Load(log, this.#place.run);
    await load.untilFull(log, FULL_LIMIT_MS);
    if (log.options.retentionMs === 0) await this.#lookWhileFull(log, load);
    return load;
  }

  async #lookWhileFull(log: SpillwayLog, load: Load): Promise<void> {
    const before = log.stats();
    // Each try to go on opens a file: once it has tried again, that it is still full is its own word.
    await until(() => log.stats().systemCalls.openat > before.systemCalls.openat, 'another try', 5000);
    const { state, durableOffset } = log.stats();
    this.expect(state === 'full', `while the disk is full the state is ${state}`);
    this.expect(load.heldBack > 0, 'nothing is held back');
    this.expect(load.failed.size === 0, `appends fail with ${[...load.failed.keys()].join()}`);
    const beyond = [...load.acked.values()].filter((offset) => offset >= before.durableOffset).length;
    this.expect(beyond === 0, `${beyond} appends were acknowledged beyond the durable end`);
    this.expect(durableOffset === before.durableOffset, 'the durable end moved while it was full');
    this.expect(load.acked.size > 0, 'nothing was acknowledged before it was full');
    this.#take(load);
    await this.everythingIsThere('while full');
  }

  #take(load: Load): void {
    for (const [name, offset] of load.acked) this.acked.set(name, offset);
  }

  /** Waits until nothing is held back any more, and says so where that does not come. */
  async settled(log: SpillwayLog, load: Load, what: string, limitMs = SETTLE_LIMIT_MS): Promise<boolean> {
    try {
      await until(() => load.heldBack === 0, what, limitMs);
    } catch {
      const { state, startOffset, durableOffset } = log.stats();
      this.wrong.push(
        `${what}: ${load.heldBack} appends are still held back after ${limitMs} ms; state ${state}, offsets ${startOffset} to ${durableOffset}`,
      );
      return false;
    }
    this.#take(load);
    return true;
  }

  /** What another process finds: every acknowledged record that was not truncated away, at its offset, and no offset twice. */
  async everythingIsThere(when: string, start = 0): Promise<number> {
    const found = await this.#place.reader.read(this.#place.dir);
    if ('wrong' in found) {
      this.wrong.push(`${when}, another process reads: ${found.wrong}`);
      return 0;
    }
    this.expect(found.first === start, `${when}: the first record has offset ${found.first}, expected ${start}`);
    let missing = 0;
    for (const [name, offset] of this.acked) {
      if (offset >= found.first && found.names[offset - found.first] !== name) missing++;
    }
    this.expect(
      missing === 0,
      `${when}: ${missing} of ${this.acked.size} acknowledged records are not at their offset`,
    );
    return found.names.length;
  }

  /** Closes, opens again where there is space, and compares: exactly what was acknowledged, verified, and it goes on. */
  async reopened(when: string, start = 0): Promise<void> {
    const log = await this.open();
    const { durableOffset, startOffset } = log.stats();
    this.expect(startOffset === start, `${when}: the start is ${startOffset}, expected ${start}`);
    this.expect(
      durableOffset === this.acked.size,
      `${when}: ${durableOffset} records, ${this.acked.size} were acknowledged`,
    );
    const load = new Load(log, this.#place.run + 1);
    load.append(20);
    await this.settled(log, load, `${when}: appends after reopening`);
    await load.close();
    await log.close();
    const found = await this.everythingIsThere(when, start);
    this.expect(
      found === this.acked.size - start,
      `${when}: ${found} records are read, from ${start} of ${this.acked.size}`,
    );
    const io = readerIo();
    const { problems } = verify(io, this.#place.dir);
    io.destroy();
    this.expect(problems.length === 0, `${when}, verify: ${problems.map((p) => p.message).join('; ')}`);
  }

  /** The log goes on, and is closed in peace. */
  async goesOn(log: SpillwayLog, load: Load): Promise<void> {
    load.append(50);
    await this.settled(log, load, 'further appends');
    const { state, systemCalls, batches } = log.stats();
    this.expect(state === 'open', `afterwards the state is ${state}`);
    this.expect(load.failed.size === 0, `appends failed with ${[...load.failed.keys()].join()}`);
    const notReached = modeNotReached(this.#place.io, systemCalls, batches);
    this.expect(notReached === undefined, `mode ${this.#place.io} was not reached: ${notReached}`);
    await load.close();
    await log.close();
  }

  /** Forgets what was, and begins with an empty directory. */
  async restart(): Promise<void> {
    await this.end();
    this.acked.clear();
    rmSync(this.#place.dir, { recursive: true });
  }

  /** Whatever happened: nothing of this case stays open. */
  async end(): Promise<void> {
    this.#place.disk.release();
    for (const log of this.#logs) await log.close().catch(() => undefined);
  }
}

export type Scenario = (c: Case, place: Place) => Promise<void>;

export const scenarios: Record<string, Scenario> = {
  /** Somebody else deletes a file. */
  async deleted(c, { disk, free }) {
    const log = await c.open();
    disk.leave(free);
    const load = await c.fill(log);
    const flushed = codeOf(log.flush(), SETTLE_LIMIT_MS);
    disk.release();
    await c.settled(log, load, 'space was returned by somebody else');
    c.expect((await flushed) === 'resolved', `a flush from while it was full: ${await flushed}`);
    await c.goesOn(log, load);
    await c.reopened('reopened');
  },

  /** Our own truncation makes the room. */
  async truncated(c, { disk, free }) {
    const log = await c.open();
    disk.leave(free);
    const load = await c.fill(log);
    let start = 0;
    // What is held back may fill what one truncation freed: as often as it is full again.
    for (let i = 0; i < 20 && load.heldBack > 0; i++) {
      start = log.stats().durableOffset;
      const code = await codeOf(log.truncateBefore(start), SETTLE_LIMIT_MS);
      c.expect(code === 'resolved', `truncateBefore while full: ${code}`);
      if (code !== 'resolved') break;
      await until(() => load.heldBack === 0 || isFullAt(log, start), 'it goes on', SETTLE_LIMIT_MS).catch(
        () => undefined,
      );
    }
    await c.settled(log, load, 'space was returned by truncateBefore');
    disk.release();
    await c.goesOn(log, load);
    await c.reopened('reopened', start);
  },

  /** Time passes, and retention makes the room. */
  async retention(c, { disk, free }) {
    for (const retentionMs of RETENTIONS_MS) {
      const log = await c.open({ retentionMs });
      disk.leave(free);
      const load = await c.fill(log).catch((error: unknown) => {
        // It never got full: retention was quicker.
        if (retentionMs === RETENTIONS_MS.at(-1)) throw error;
      });
      if (load === undefined) {
        await c.restart();
        continue;
      }
      await c.settled(log, load, `all segments have become older than retentionMs ${retentionMs}`, retentionMs + 4000);
      disk.release();
      await c.settled(log, load, 'and then space was returned by somebody else');
      await c.goesOn(log, load);
      await c.reopened('reopened', log.stats().startOffset);
      return;
    }
  },

  /** Closed while full. */
  async closed(c, { disk, free }) {
    const log = await c.open();
    disk.leave(free);
    const load = await c.fill(log);
    const code = await codeOf(log.close(), SETTLE_LIMIT_MS);
    c.expect(code === 'DISK_FULL', `close while full: ${code}`);
    await c.settled(log, load, 'close while full answers every append');
    const codes = [...load.failed.keys()].join();
    c.expect(codes === 'DISK_FULL', `what was held back is told '${codes}'`);
    await load.close();
    await c.everythingIsThere('after the close, still full');
    // It opens again, has no room for a segment, and can be truncated: what that frees is the room.
    const again = await c.open();
    const start = again.stats().durableOffset;
    await again.truncateBefore(start);
    const more = new Load(again, 0);
    more.append(10);
    await c.settled(again, more, 'appends after a truncation, with nothing else returned');
    c.expect(more.failed.size === 0, `appends after a truncation: ${[...more.failed.keys()].join()}`);
    await more.close();
    await again.close();
    disk.release();
    await c.reopened('reopened', start);
  },

  /** Not one block is free when it is opened; and a new log beside it. */
  async 'opened full'(c, { disk, dir }) {
    const first = await c.open();
    const before = new Load(first, 0);
    before.append(100);
    await c.settled(first, before, 'appends before it is full');
    await before.close();
    await first.close();
    disk.leave(0);
    const fresh = await codeOf(c.open({}, join(dir, '..', 'fresh')), SETTLE_LIMIT_MS);
    c.expect(fresh === 'DISK_FULL', `a new log on a full disk: ${fresh}`);
    // There is room in its active segment: it opens, and takes records until that is full.
    const log = await c.open();
    const load = await c.fill(log);
    c.expect((await codeOf(log.close(), SETTLE_LIMIT_MS)) === 'DISK_FULL', 'close while full');
    await c.settled(log, load, 'close while full answers every append');
    await load.close();
    disk.release();
    await c.reopened('reopened');
    await (await c.open({}, join(dir, '..', 'fresh'))).close();
  },

  /** Full only while the next segment is prepared in the background: nobody notices. */
  async spare(c, { disk, run }) {
    const options = { segmentBytes: '3MiB', window: { maxRecords: 200, maxBytes: '32KiB', lingerMs: 0 } } as const;
    const log = await c.open(options);
    disk.leave(256 * KIB);
    const load = new Load(log, run);
    const states = new Set<string>();
    const appendBytes = async (bytes: number): Promise<void> => {
      const end = log.stats().recordBytes + bytes;
      while (log.stats().recordBytes < end) {
        load.append(50);
        if (!(await c.settled(log, load, 'appends'))) return;
        states.add(log.stats().state);
        if (load.failed.size > 0) throw new Error(`appends fail with ${[...load.failed.keys()].join()}`);
      }
    };
    const { fillBytes } = log.stats();
    await appendBytes(1500 * KIB);
    const filled = log.stats().fillBytes - fillBytes;
    c.expect(filled < 1500 * KIB, `${filled} bytes of zeros fitted on a full disk: it was not full`);
    disk.release();
    await appendBytes(2500 * KIB);
    c.expect([...states].join() === 'open', `states ${[...states].join()}: a full disk showed that was not in the way`);
    const { rolls } = log.stats();
    c.expect(rolls >= 1, `${rolls} rolls`);
    await c.goesOn(log, load);
    await c.reopened('reopened');
  },
};

function isFullAt(log: SpillwayLog, start: number): boolean {
  const { state, durableOffset } = log.stats();
  return state === 'full' && durableOffset > start;
}
