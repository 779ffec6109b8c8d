// Who plays in the schedules of test/proof/ring.ts: the real CommitLoop over a log in memory, and callers that use the
// real LaneProducer as src/pipeline/lane.ts does, with blocking waits in place of its asynchronous ones. Both ends check
// what they get at once: a record's bytes when they are copied, an acknowledgement when it is read.
// Everything a thread knows lies in objects made anew each time its code runs, or in the scenario's memory.

import { SpillwayError } from '../../src/base/errors.ts';
import { RECORD_HEADER_BYTES } from '../../src/base/limits.ts';
import type { BatchPlan } from '../../src/base/types.ts';
import type { Log } from '../../src/log/log.ts';
import { CommitLoop, type Command, type CommandPort, type Reply } from '../../src/pipeline/commit-loop.ts';
import { frameBytes, noAcknowledgement } from '../../src/platform/lane-memory.ts';
import { LaneProducer } from '../../src/platform/lane-producer.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { signal, waitForSignal } from '../../src/platform/waiter.ts';
import { commandKinds, mail, timestampOf, type CommandKind, type World } from './schedule-memory.ts';

/** Ends the schedule with this as its violation. */
export type Violate = (message: string) => never;

/** As many writes stay under way as in src/log/log.ts. */
const MOST_UNDER_WAY = 2;

/** Stands in for Log: keeps nothing, compares each byte with what its producer was to send. */
class CheckedLog {
  durableOffset = 0;
  appendedOffset = 0;
  readonly startOffset = 0;
  readonly checkpoints = 0;
  readonly rolls = 0;
  readonly fillBytes = 0;
  readonly segments = 1;
  readonly batchBytesWritten = 0;
  readonly poison = undefined;
  readonly checkpointIsBehind = false;
  readonly compression = { batches: 0, rawBytes: 0, storedBytes: 0, us: 0 };
  onWrite: (us: number, atMs: number) => void = () => undefined;
  readonly #world: World;
  readonly #violate: Violate;
  readonly #underWay: number[] = [];
  readonly #failsFrom: number;

  constructor(world: World, violate: Violate, failsFrom: number) {
    this.#world = world;
    this.#violate = violate;
    this.#failsFrom = failsFrom;
  }

  hasRoomFor(): boolean {
    return true;
  }

  append(plan: BatchPlan, overlap: boolean): void {
    let records = 0;
    let bytes = 0;
    for (let r = 0; r < plan.rangeCount; r++) {
      const [source, from, to] = plan.ranges.subarray(r * 3, r * 3 + 3);
      const data = plan.sources[source];
      const lane = this.#world.lanes.indexOf(data?.buffer as SharedArrayBuffer);
      if (!(lane >= 0 && from >= 0 && from < to && to <= data.length)) this.#violate(`range ${source} ${from}–${to}`);
      // A copy: what a producer writes over it from here on is no longer seen.
      records += this.#check(lane, data.slice(from, to), this.appendedOffset + records);
      bytes += to - from;
    }
    if (records !== plan.records || bytes !== plan.recordBytes)
      this.#violate(
        `a batch of ${plan.records} records, ${plan.recordBytes} bytes has ${records} records, ${bytes} bytes`,
      );
    const rows = plan.streamRecords.reduce((sum, n) => sum + n, 0);
    if (rows !== records) this.#violate(`the stream table of ${records} records counts ${rows}`);
    if (this.appendedOffset + records > this.#failsFrom)
      throw new SpillwayError('POISONED', 'the disk of this scenario fails here');
    this.appendedOffset += records;
    this.#underWay.push(this.appendedOffset);
    // As late as the real log may: a write that overlaps counts once another one is waited for.
    while (this.#underWay.length > (overlap ? MOST_UNDER_WAY : 0)) this.#settle();
  }

  settleAll(): void {
    while (this.#underWay.length > 0) this.#settle();
  }

  roll(): void {
    this.#violate('a roll, where every batch has room');
  }

  retain(): void {}

  checkpoint(): void {}

  close(): void {}

  #settle(): void {
    this.durableOffset = this.#underWay.shift()!;
    this.#world.mail[mail.durable] = this.durableOffset;
    this.onWrite(1, 0);
  }

  /** Whole frames of one lane, compared byte by byte. Returns how many. */
  #check(lane: number, bytes: Uint8Array, firstOffset: number): number {
    const world = this.#world;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    let count = 0;
    while (at < bytes.length) {
      const index = world.mail[mail.drained + lane]++;
      const name = `record ${index} of lane ${lane}`;
      if (index >= world.mail[mail.announced + lane]) this.#violate(`${name} was drained before it was published`);
      const { key, payload } = world.records[lane][index];
      const keyBytes = key?.length ?? 0;
      const size = frameBytes(keyBytes, payload.length);
      if (at + size > bytes.length) this.#violate(`${name}: ${size} bytes in a range with ${bytes.length - at} left`);
      const header = [
        view.getUint32(at, true),
        view.getUint16(at + 4, true),
        view.getUint16(at + 6, true),
        view.getUint32(at + 8, true) + view.getUint16(at + 12, true) * 2 ** 32,
        view.getUint16(at + 14, true),
      ];
      const wanted = [payload.length, lane + 1, index & 1, timestampOf(index), keyBytes];
      if (header.some((value, i) => value !== wanted[i])) this.#violate(`${name}: header ${header}, wanted ${wanted}`);
      for (let i = 0; i < size - RECORD_HEADER_BYTES; i++) {
        const byte = i < keyBytes ? key![i] : (payload[i - keyBytes] ?? 0);
        if (bytes[at + RECORD_HEADER_BYTES + i] !== byte) this.#violate(`${name}: byte ${i} is not what was put`);
      }
      world.mail[mail.owners + firstOffset + count] = lane * 256 + index;
      at += size;
      count++;
    }
    return count;
  }
}

/** The commands of the mailbox, as the MessagePort of commit-thread.ts gives them. */
class MailPort implements CommandPort {
  readonly #world: World;
  readonly #violate: Violate;
  #taken = 0;

  constructor(world: World, violate: Violate) {
    this.#world = world;
    this.#violate = violate;
  }

  next(): Command | undefined {
    const words = this.#world.mail;
    if (this.#taken === Atomics.load(words, mail.posted)) return undefined;
    const id = ++this.#taken;
    const kind = commandKinds[words[mail.commands + (id - 1) * 2]];
    return kind === 'lane' ? { id, kind, buffer: this.#world.lanes[this.#argument(id)] } : { id, kind };
  }

  reply(reply: Reply): void {
    const { mail: words } = this.#world;
    if (reply.error === undefined && words[mail.durable] < this.#argument(reply.id))
      this.#violate(`flush answered at ${words[mail.durable]} of ${this.#argument(reply.id)} durable records`);
    words[mail.answers + reply.id] = reply.error === undefined ? 1 : 2;
    signal(words, mail.replied);
  }

  #argument(id: number): number {
    return this.#world.mail[mail.commands + (id - 1) * 2 + 1];
  }
}

/** Body of thread 0: a commit loop from its beginning to its answer to `close`. */
export function runLoop(world: World, violate: Violate, nowMs: () => number, failsFrom: number): Reply {
  const log = new CheckedLog(world, violate, failsFrom);
  const clock = { wallMs: nowMs, monotonicMs: nowMs };
  const port = new MailPort(world, violate);
  const shared = new SharedState(world.shared.buffer);
  return new CommitLoop(shared, log as unknown as Log, world.window, clock, port).run();
}

/** Posts a command as CommitThread does: the message, then COMMANDS, then the doorbell. Returns its id. */
export function post(world: World, kind: CommandKind, argument = 0): number {
  const id = world.enqueue(kind, argument, false);
  Atomics.store(world.mail, mail.posted, id);
  Atomics.add(world.shared.words, world.shared.commands, 1);
  signal(world.shared.words, world.shared.doorbell);
  return id;
}

/** Waits by the rule of waiter.ts: read the word, look, wait. */
function until(words: Int32Array, index: number, ready: () => boolean): void {
  for (;;) {
    const seen = Atomics.load(words, index);
    if (ready()) return;
    waitForSignal(words, index, seen, Infinity);
  }
}

/** Waits until a command has been answered. */
export function awaitAnswer(world: World, id: number): void {
  until(world.mail, mail.replied, () => world.mail[mail.answers + id] !== 0);
}

/** Waits, as a reader does, until the durable offset has come so far. */
export function awaitDurable(world: World, offset: number): void {
  const shared = new SharedState(world.shared.buffer);
  until(shared.words, shared.progress, () => shared.offset('durable') >= offset);
}

/** A caller with a lane of its own. */
export class Producer {
  readonly #world: World;
  readonly #lane: number;
  readonly #shared: SharedState;
  readonly #producer: LaneProducer;
  readonly #run = noAcknowledgement();
  #lastOffset = -1;
  /** Ends what waits, in scenarios where the log closes or fails meanwhile. */
  readonly #mayEnd: boolean;
  put = 0;
  acked = 0;

  constructor(world: World, lane: number, mayEnd = false) {
    this.#world = world;
    this.#lane = lane;
    this.#mayEnd = mayEnd;
    this.#shared = new SharedState(world.shared.buffer);
    const producer = LaneProducer.take(world.lanes[lane], this.#shared);
    if (producer === undefined) throw new Error('the lane is taken');
    this.#producer = producer;
    if (!producer.declare(lane + 1, Buffer.from('s'))) throw new Error('no room for the declaration');
  }

  /** Puts the next records, waiting for room where there is none, and publishes what it has put before it waits. */
  fill(records = 1): void {
    for (let i = 0; i < records; i++) {
      if (this.#tryPut()) continue;
      this.publish();
      this.#until(() => {
        this.readAcks();
        return this.#tryPut();
      });
    }
  }

  publish(): void {
    this.#world.mail[mail.announced + this.#lane] = this.put;
    this.#producer.publish();
  }

  /** Each record published by itself. */
  send(records = 1): void {
    for (let i = 0; i < records; i++) {
      this.fill();
      this.publish();
    }
  }

  awaitAcks(): void {
    this.#until(() => {
      this.readAcks();
      return this.acked === this.put;
    });
  }

  /** @param most runs that are read, at most
   * @param old how many of them lay there, all zeros, from the beginning */
  readAcks(most = Infinity, old = 0): void {
    const run = this.#run;
    const { mail: words } = this.#world;
    for (let n = 0; n < most && this.#producer.nextAck(run); n++) {
      const { firstOffset, records } = run;
      if (n < old) {
        if (firstOffset !== 0 || records !== 0)
          throw new Error(`unread run ${n} was overwritten by {${firstOffset}, ${records}}`);
        continue;
      }
      if (!(records > 0 && firstOffset > this.#lastOffset && firstOffset + records <= words[mail.durable]))
        throw new Error(
          `run {${firstOffset}, ${records}} after offset ${this.#lastOffset}, durable ${words[mail.durable]}`,
        );
      for (let i = 0; i < records; i++) {
        const owner = words[mail.owners + firstOffset + i];
        if (owner !== this.#lane * 256 + this.acked++)
          throw new Error(`offset ${firstOffset + i} acknowledged as record ${this.acked - 1}, is ${owner & 255}`);
      }
      this.#lastOffset = firstOffset + records - 1;
    }
  }

  close(): void {
    this.#producer.close();
  }

  get ended(): boolean {
    const { state } = this.#shared;
    return this.#mayEnd && (state === 'closed' || state === 'poisoned');
  }

  #until(ready: () => boolean): void {
    // The state first, as lane.ts has it: what was acknowledged before it changed is then seen.
    const producer = this.#producer;
    until(producer.signalWords, producer.signalIndex, () => {
      const ended = this.ended;
      return ready() || ended;
    });
  }

  #tryPut(): boolean {
    const { key, payload } = this.#world.records[this.#lane][this.put];
    if (!this.#producer.put(this.#lane + 1, this.put & 1, timestampOf(this.put), key, payload)) return false;
    this.put++;
    return true;
  }
}
