// Short lives of a log on a simulated disk, the model of what they must keep, and the check of what is left of them.

import { errnoOf, isDiskFull, SpillwayError } from '../../src/base/errors.ts';
import type { BatchCompressor, BatchPlan } from '../../src/base/types.ts';
import { batchDecoder } from '../../src/codec/batch-codec.ts';
import { Log, type StorageOptions } from '../../src/log/log.ts';
import { verify } from '../../src/log/verify.ts';
import { planOf, readBack, SimulatedClock } from './log-plans.ts';
import { SimDisk } from './sim-disk.ts';

export const DIR = '/log';

/** The errors that say so of a disk: known here by themselves, since the product may be wrong about them. */
export const NO_ROOM: readonly string[] = ['ENOSPC', 'EDQUOT'];

/** Segments of a header and four blocks: they roll with the third or fourth batch. */
export const storage: StorageOptions = {
  dir: DIR,
  segmentBytes: 20 * 1024,
  window: { maxRecords: 10, maxBytes: 8 * 1024, lingerMs: 0 },
  maxRecordBytes: 8 * 1024,
  retentionBytes: 0,
  retentionMs: 0,
};

export type Step = 'append' | 'appendOverlapped' | 'roll' | 'truncate' | 'reopen';

/** What a life is about: what a call is for shows in this, where its file's name alone does not tell. */
export type Doing = 'opening' | 'appending' | 'rolling' | 'truncating' | 'closing';

/** What the outside knows of a log. */
export class Model {
  /** Payloads whose fate is known: acknowledged, or read once after a recovery. Index is the offset. */
  readonly decided: string[] = [];
  /** Handed to the log in this life behind those: may be there after a crash or not. */
  attempted: string[] = [];
  start = 0;
  /** A truncation that has not returned. */
  truncating: number | undefined;
  /** Tells the payloads of one life from those of another at the same offset. */
  lives = 0;

  copy(): Model {
    const copy = new Model();
    copy.decided.push(...this.decided);
    copy.attempted = this.attempted.slice();
    copy.start = this.start;
    copy.truncating = this.truncating;
    copy.lives = this.lives;
    return copy;
  }

  acknowledge(durableOffset: number): void {
    while (this.decided.length < durableOffset) this.decided.push(this.attempted.shift()!);
  }
}

/** A process that owns the log. */
export class Life {
  readonly disk: SimDisk;
  readonly model: Model;
  doing: Doing = 'opening';
  /** None: batches are plain. */
  compressor: BatchCompressor | undefined;
  #log: Log | undefined;
  readonly #clock = new SimulatedClock();

  constructor(disk: SimDisk, model: Model) {
    this.disk = disk;
    this.model = model;
  }

  open(): void {
    const { model } = this;
    this.doing = 'opening';
    model.lives++;
    let salt = model.lives * 1_000_003;
    const random32 = (): number => (salt = (salt * 48271) % 0x7fffffff);
    this.disk.makeDir(DIR);
    this.#log = Log.open({ io: this.disk, clock: this.#clock, random32, compressor: this.compressor }, storage);
  }

  get log(): Log {
    return this.#log!;
  }

  get isPoisoned(): boolean {
    return this.#log?.poison !== undefined;
  }

  /** After an opening: what it found is durable from then on, what it did not find is gone. */
  decide(): void {
    this.model.acknowledge(this.log.durableOffset);
    this.model.attempted = [];
  }

  /** Does one step; the model learns what was acknowledged, also where the step fails. */
  do(step: Step): void {
    try {
      this.#do(step);
    } finally {
      if (this.#log !== undefined) this.model.acknowledge(this.#log.durableOffset);
    }
  }

  #do(step: Step): void {
    const { model } = this;
    if (step === 'append' || step === 'appendOverlapped') {
      const plan = this.#plan();
      this.doing = 'rolling';
      this.#patiently(() => {
        while (!this.log.hasRoomFor(plan)) this.log.roll();
      });
      this.doing = 'appending';
      this.log.append(plan, step === 'appendOverlapped');
    } else if (step === 'roll') {
      this.doing = 'rolling';
      this.#patiently(() => this.log.roll());
    } else if (step === 'truncate') {
      const offset = Math.max(model.start, this.log.durableOffset - 1);
      this.doing = 'truncating';
      model.truncating = offset;
      this.#patiently(() => this.log.truncateBefore(offset));
      model.start = offset;
      model.truncating = undefined;
    } else {
      this.doing = 'closing';
      this.log.settleAll();
      model.acknowledge(this.log.durableOffset);
      this.log.close();
      this.#log = undefined;
      this.open();
    }
  }

  /** As the commit loop does at a roll, and the caller of a truncation: a full disk is waited for. */
  #patiently(action: () => void): void {
    for (let tries = 0; ; tries++) {
      try {
        return action();
      } catch (error) {
        if (!isDiskFull(error) || this.isPoisoned || tries >= 3) throw error;
        // Waited for where nothing will get better: the commit loop would do so for ever.
        if (!NO_ROOM.includes(errnoOf(error) ?? ''))
          throw new Error(`${errnoOf(error)} was taken for a full disk`, { cause: error });
      }
    }
  }

  /** Ends the life in order, as far as the disk lets it. */
  close(): void {
    this.doing = 'closing';
    this.#log?.close();
  }

  /** Batches that fill one block and two, in turn, so that every sector matters when a write is torn. */
  #plan(): BatchPlan {
    const { model } = this;
    const from = model.decided.length + model.attempted.length;
    // Two short ones, then a long one, which a codec makes a block shorter.
    const long = this.compressor === undefined ? from % 2 === 1 : from % 3 === 2;
    const payloads = Array.from({ length: long ? 1 : 2 }, (_, i) =>
      `${model.lives}:${from + i}:`.padEnd(long ? 7600 : 1900, String(from % 10)),
    );
    model.attempted.push(...payloads);
    return planOf(payloads.map((payload) => ({ payload })));
  }
}

function ends(text: string): string {
  return text.length > 30 ? `${text.slice(0, 20)}…` : text;
}

/** Reads a log whole and compares it with the model, which then knows more. Returns what is wrong. */
function compare(disk: SimDisk, log: Log, model: Model): string | undefined {
  const { startOffset: start, durableOffset: end } = log;
  const mayStart = [model.start, model.truncating].filter((s) => s !== undefined);
  if (!mayStart.includes(start)) return `the log starts at ${start}, expected ${mayStart.join(' or ')}`;
  if (end < model.decided.length) return `the log ends at ${end}, acknowledged were ${model.decided.length}`;
  const known = [...model.decided, ...model.attempted];
  if (end > known.length) return `the log ends at ${end}, appended were only ${known.length}`;
  const { records, error } = readBack(disk, DIR, { durableOffset: () => end });
  if (error !== undefined) return `reading: ${error.code} ${error.message}`;
  if (records.length !== end - start) return `${records.length} records can be read, from ${start} to ${end}`;
  for (const [i, r] of records.entries()) {
    const text = Buffer.from(r.payload).toString('latin1');
    if (r.offset !== start + i || text !== known[start + i])
      return `record ${i} has offset ${r.offset} and '${ends(text)}', expected ${start + i} and '${ends(known[start + i])}'`;
  }
  const { problems } = verify(disk, DIR, undefined, batchDecoder);
  if (problems.length > 0) return `verify: ${problems[0].file} at ${problems[0].position}: ${problems[0].message}`;
  model.acknowledge(end);
  model.attempted = [];
  model.start = start;
  model.truncating = undefined;
  return undefined;
}

/**
 * What must hold of any disk that a crash left: it opens; every acknowledged record is there, those in doubt are a prefix of
 * what was appended, nothing else; what was found once stays, also if the power goes right after; appending goes on, and
 * what is acknowledged then stays too. Returns what is wrong.
 */
export function checkRecovery(left: SimDisk, before: Model): string | undefined {
  const model = before.copy();
  let disk = left;
  const stages = ['after the crash', 'after a second power cut', 'after one more batch and a third power cut'];
  for (const [i, stage] of stages.entries()) {
    try {
      const life = new Life(disk, model);
      life.open();
      const wrong = compare(disk, life.log, model);
      if (wrong !== undefined) return `${stage}: ${wrong}`;
      if (i === 1) life.do('append');
      // Everything in doubt is lost: whoever relied on it shows now.
      disk = disk.crash(4096, []);
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error;
      return `${stage}: ${error.code} ${error.message}`;
    }
  }
  return undefined;
}

/** Runs a life until its end or until the power is cut. True where it was cut, whatever the log made of the error. */
export function cutShort(disk: SimDisk, action: () => void): boolean {
  try {
    action();
  } catch (error) {
    if (!disk.powerIsOff) throw error;
  }
  return disk.powerIsOff;
}
