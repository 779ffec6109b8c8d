// One run of the model proof: a directory, the child that has its log open, and the model. Its methods are what the
// commands (model-commands.ts) are made of; each throws a Violation where child and model disagree.

import { rmSync } from 'node:fs';
import { read, type CloseReason, type LogStats } from '../../src/index.ts';
import { inspect, verify } from '../../src/log/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { modeNotReached } from './log-support.ts';
import { temporaryDirectory } from './modes.ts';
import { makeCall, ModelLog, violate, type Call } from './model-log.ts';
import type { ChildPool, ChildSystem, Listener } from './model-process.ts';
import { checkRetention, MAX_LANES, optionsFor, shapes, type Setting } from './model-setting.ts';
import { refusals, type Answer, type CallSpec, type Refusal, type Settled, type WireRecord } from './model-protocol.ts';

interface Follower {
  readonly id: number;
  readonly from: number;
  readonly stream: string | undefined;
  readonly records: WireRecord[];
  ended: string | undefined;
}

/** How often each thing that is meant to happen has happened. */
export type Reached = Map<string, number>;

export class Run implements Listener {
  readonly dir = temporaryDirectory('spillway-model-');
  readonly model = new ModelLog();
  readonly #pool: ChildPool;
  readonly #reached: Reached;
  #setting: Setting;
  #child!: ChildSystem;
  readonly #calls = new Map<number, Call>();
  #followers: Follower[] = [];
  #openLanes: number[] = [];
  #nextLane = 1;
  #nextCall = 1;
  #nextFollower = 1;
  /** Where a truncation under way at a kill may have moved the start to. */
  #pendingStart = 0;
  /** Highest start that a truncation of ours has set; retention may go beyond. */
  #truncatedTo = 0;
  #closing = false;
  #lastStats: LogStats | undefined;
  commands = 0;

  constructor(pool: ChildPool, reached: Reached, setting: Setting) {
    this.#pool = pool;
    this.#reached = reached;
    this.#setting = setting;
  }

  get maxRecordBytes(): number {
    return shapes[this.#setting.shape].maxRecordBytes;
  }

  /** Lanes beside the log's own. */
  get openLanes(): readonly number[] {
    return this.#openLanes;
  }

  get followers(): number {
    return this.#followers.length;
  }

  reach(what: string, times = 1): void {
    this.#reached.set(what, (this.#reached.get(what) ?? 0) + times);
  }

  onSettled({ call: id, firstOffset, lastOffset, code }: Settled): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    this.#calls.delete(id);
    if (code === undefined) {
      call.state = 'acknowledged';
      call.firstOffset = firstOffset!;
      call.lastOffset = lastOffset!;
    } else if (code === 'CLOSED' && this.#closing && call.spec.lane !== 0) {
      call.state = 'half refused';
      this.reach('calls refused because the log closed under their lane');
    } else {
      // Not thrown here, in the midst of an event: found when the run waits for the call.
      call.state = 'in doubt';
      this.#refusedWrongly ??= `call ${id} of lane ${call.spec.lane} was rejected with ${code}`;
    }
  }
  #refusedWrongly: string | undefined;

  onFollowed(id: number, records: readonly WireRecord[]): void {
    this.#followers.find((f) => f.id === id)?.records.push(...records);
  }

  onFollowerEnd(id: number, how: string): void {
    const follower = this.#followers.find((f) => f.id === id);
    if (follower !== undefined) follower.ended = how;
  }

  // --- what commands do

  async open(setting: Setting = this.#setting): Promise<void> {
    this.#child = await this.#pool.take(this);
    this.#setting = setting;
    this.#closing = false;
    this.#lastStats = undefined;
    const options = optionsFor(this.dir, setting);
    const { stats, code, message } = await this.#child.answer({ kind: 'open', options });
    if (stats === undefined) violate(`open was rejected with ${code}: ${message}`);
    if (stats.io !== setting.io) violate(`mode ${setting.io} was asked for, ${stats.io} was reached`);
    this.reach(`logs opened in mode ${setting.io}`);
    if (stats.tornBytes > 0) this.reach('torn tails cut');
    await this.#compare(stats, 'log');
  }

  get setting(): Setting {
    return this.#setting;
  }

  /** Makes a call without waiting for its answer. */
  append(spec: Omit<CallSpec, 'call'>): Call {
    const call = makeCall({ ...spec, call: this.#nextCall++ });
    this.#calls.set(call.spec.call, call);
    this.model.add(call);
    this.reach('records appended', call.records.length);
    this.#child.post({ append: call.spec });
    return call;
  }

  async settled(calls: readonly Call[], count = calls.length): Promise<void> {
    const done = (): boolean => calls.filter((c) => c.state !== 'under way').length >= count;
    await this.#child.until(done, `${count} of ${calls.length} calls are answered`);
    if (this.#refusedWrongly !== undefined) violate(this.#refusedWrongly);
  }

  /** What was appended before, through a lane of the child's main thread, is durable when it is answered. */
  async flush(): Promise<void> {
    const before = this.model.underWay.filter((c) => c.spec.lane === 0);
    const { stats, code } = await this.#child.answer({ kind: 'flush' });
    if (stats === undefined) violate(`flush was rejected with ${code}`);
    for (const call of before) call.flushedAt = stats.durableOffset;
    if (before.length > 0) this.reach('flushes with calls under way');
  }

  async truncateBefore(offset: number): Promise<void> {
    const { stats, code } = await this.#child.answer({ kind: 'truncate', offset });
    if (stats === undefined) violate(`truncateBefore(${offset}) was rejected with ${code}`);
    this.#truncated(offset);
    this.#checkStart(stats);
    this.reach('truncations');
  }

  /** Asks for a read and looks at the answer when the log is next compared. */
  async read(from: number | undefined, stream: string | undefined, count: number): Promise<void> {
    const mustReach = this.model.acknowledgedEnd;
    const quiet = this.#calls.size === 0;
    const known = this.model.start;
    const where = { ...(from === undefined ? {} : { from }), ...(stream === undefined ? {} : { stream }) };
    const { records, code } = await this.#child.answer({ kind: 'read', count, ...where });
    if (records === undefined) {
      const mayBeGone = from !== undefined && (from < known || (this.#setting.retention && from < mustReach));
      const mayBeAhead = from !== undefined && from > mustReach;
      if (code !== 'OFFSET_OUT_OF_RANGE' || !(mayBeGone || mayBeAhead)) {
        violate(`read from ${from} was rejected with ${code}; the log holds ${known} to before ${mustReach}`);
      }
      this.reach('reads out of range');
      return;
    }
    if (from !== undefined && (from < known || (quiet && from > mustReach))) {
      violate(`read from ${from} was allowed; the log holds ${known} to before ${mustReach}`);
    }
    this.reach('records read', records.length);
    // Without retention the start is known; with it the first record may be anywhere behind it.
    const start = from ?? (this.#setting.retention ? records[0]?.offset : known);
    if (start === undefined || (stream !== undefined && from === undefined && this.#setting.retention)) return;
    const what = `read(from ${from}, stream ${stream}, ${count})`;
    this.model.observe({ what, stream, from: start, records, mustReach, maxRecords: count });
  }

  follow(from: number, stream: string | undefined): void {
    const id = this.#nextFollower++;
    this.#followers.push({ id, from, stream, records: [], ended: undefined });
    this.#child.post({ follow: { follower: id, from, ...(stream === undefined ? {} : { stream }) } });
    this.reach('followers');
  }

  /** Opens a lane; beyond maxLanes it is refused. */
  async openLane(worker: boolean): Promise<void> {
    const lane = this.#nextLane++;
    const { code } = await this.#child.answer({ kind: 'lane', lane, worker });
    // The log's own takes one.
    const expected = this.#openLanes.length + 1 >= MAX_LANES ? 'TOO_MANY_LANES' : undefined;
    if (code !== expected) violate(`a lane beside ${this.#openLanes.length} others: ${code}, expected ${expected}`);
    if (code !== undefined) return this.reach('lanes beyond maxLanes');
    this.#openLanes.push(lane);
    this.reach(worker ? 'lanes in workers' : 'lanes in the same thread');
  }

  async closeLane(lane: number): Promise<void> {
    this.#openLanes = this.#openLanes.filter((l) => l !== lane);
    const calls = this.model.underWay.filter((c) => c.spec.lane === lane);
    const { code } = await this.#child.answer({ kind: 'closeLane', lane });
    if (code !== undefined) violate(`lane.close was rejected with ${code}`);
    await this.settled(calls);
    this.reach('lanes closed');
  }

  async refused(what: Refusal): Promise<void> {
    // The one that takes a lane needs room for it.
    if (what === 'lane taken twice' && this.#openLanes.length + 1 >= MAX_LANES) return;
    const { code } = await this.#child.answer({ kind: 'refused', what });
    if (code !== refusals[what]) violate(`${what}: ${code ?? 'it was carried out'}, expected ${refusals[what]}`);
    this.reach(`refused: ${what}`);
  }

  /** Waits for all answers, then compares the whole log, read by the child or by this process. */
  async check(through: 'log' | 'directory'): Promise<void> {
    await this.settled([...this.#calls.values()]);
    const { stats } = await this.#child.answer({ kind: 'stats' });
    this.#look(stats!);
    await this.#compare(stats!, through);
    await this.#checkFollowers();
  }

  async close(): Promise<void> {
    this.#closing = true;
    const { stats, code } = await this.#child.answer({ kind: 'close' });
    if (stats === undefined) violate(`close was rejected with ${code}`);
    this.#openLanes = [];
    await this.settled([...this.#calls.values()]);
    this.#look(stats);
    const late = (await this.#child.answer({ kind: 'afterClose' })).code;
    if (late !== 'CLOSED') violate(`append after close: ${late ?? 'it was carried out'}, expected CLOSED`);
    await this.#compare(stats, 'directory');
    await this.#child.until(() => this.#followers.every((f) => f.ended !== undefined), 'followers end with the log');
    await this.#checkFollowers();
    this.#followers = [];
    this.reach('closes');
  }

  /** Ends the process here and now, whatever it is doing. */
  async kill(alsoAsked: (child: ChildSystem) => Promise<Answer>[] = () => []): Promise<void> {
    for (const asked of alsoAsked(this.#child)) asked.catch(() => undefined);
    await this.#pool.kill();
    this.reach('kills');
    if (this.#calls.size > 0) this.reach('kills with calls under way');
    for (const call of this.#calls.values()) call.state = 'in doubt';
    this.#calls.clear();
    this.#openLanes = [];
    const followers = this.#followers.splice(0);
    this.#verify('after a kill');
    const { startOffset, endOffset } = this.#inspect();
    if (startOffset < this.model.start) violate(`the log starts at ${startOffset}, it did at ${this.model.start}`);
    this.#checkStart({ startOffset });
    const { found, lost } = this.model;
    this.model.settle(startOffset, endOffset, endOffset === 0 ? [] : await this.#readDirectory());
    this.reach('records in doubt found', this.model.found - found);
    this.reach('records in doubt lost', this.model.lost - lost);
    for (const f of followers) {
      this.model.check({ ...f, what: `follower from ${f.from}`, mustReach: 0, maxRecords: Infinity });
    }
  }

  /** A truncation that is asked for and not waited for. */
  mayTruncate(offset: number): void {
    this.#pendingStart = Math.max(this.#pendingStart, offset);
  }

  /** A close that is asked for and not waited for. */
  mayClose(): void {
    this.#closing = true;
  }

  /** Kills a process while it opens the log. */
  async killWhileOpening(afterMs: number): Promise<void> {
    this.#child = await this.#pool.take(this);
    const opening = this.#child.ask({ kind: 'open', options: optionsFor(this.dir, this.#setting) });
    await Promise.race([opening, new Promise((resolve) => setTimeout(resolve, afterMs))]);
    this.reach('kills while opening');
    await this.kill();
  }

  async finish(): Promise<void> {
    await this.close();
    this.#verify('at the end');
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  async #compare(stats: LogStats, through: 'log' | 'directory'): Promise<void> {
    const { startOffset, durableOffset } = stats;
    this.#checkStart(stats);
    const records = through === 'directory' ? await this.#readDirectory() : await this.#readLog();
    // Retention may have gone on since the figures were taken.
    const start = this.#setting.retention ? (records[0]?.offset ?? durableOffset) : startOffset;
    const least = Math.max(startOffset, this.model.start);
    if (start < least) violate(`offset ${start} was read of a log that starts at ${least}`);
    this.model.settle(start, durableOffset, records);
    this.reach(`whole logs compared, read from the ${through}`);
  }

  async #readLog(): Promise<readonly WireRecord[]> {
    // Retention may overtake a reader; not again and again, while nobody appends.
    for (let tries = 1; ; tries++) {
      const { records, code } = await this.#child.answer({ kind: 'read', count: Number.MAX_SAFE_INTEGER });
      if (records !== undefined) return records;
      const overtaken = code === 'OFFSET_OUT_OF_RANGE' && this.#setting.retention;
      if (!overtaken || tries === 5) violate(`reading the whole log: ${code}`);
    }
  }

  async #readDirectory(): Promise<WireRecord[]> {
    const records: WireRecord[] = [];
    try {
      for await (const r of read({ dir: this.dir })) records.push(r);
    } catch (error) {
      violate(`reading from another process: ${String(error)}`);
    }
    return records;
  }

  /** Start and end as the directory tells them, for nobody has it open. */
  #inspect(): { startOffset: number; endOffset: number } {
    const io = new JsIo();
    try {
      return inspect(io, this.dir).found;
    } finally {
      io.destroy();
    }
  }

  #truncated(offset: number): void {
    this.#truncatedTo = Math.max(this.#truncatedTo, offset);
    this.model.start = Math.max(this.model.start, offset);
  }

  #checkStart({ startOffset }: Pick<LogStats, 'startOffset'>): void {
    if (startOffset === this.#pendingStart) this.#truncated(startOffset);
    const { start } = this.model;
    // Retention writes its new start down, where readers look, before the figures say so.
    const { retention } = this.#setting;
    const wrong = retention ? startOffset < this.#truncatedTo : startOffset !== start;
    if (wrong) violate(`the log starts at ${startOffset}, expected ${retention ? this.#truncatedTo : start}`);
    if (startOffset > this.#truncatedTo) this.reach('looks at a start that retention moved');
  }

  async #checkFollowers(): Promise<void> {
    for (const f of this.#followers) {
      const expected = this.model.decided.filter((r, i) => i >= f.from && (f.stream ?? r?.stream) === r?.stream).length;
      const what = `follower from ${f.from}, stream ${f.stream}`;
      await this.#child.until(
        () => f.records.length >= expected || f.ended !== undefined,
        `${what} sees ${expected} records; it saw ${f.records.length}`,
      );
      const overtaken =
        f.ended === 'OFFSET_OUT_OF_RANGE' && this.model.start > (f.records.at(-1)?.offset ?? f.from - 1) + 1;
      const mayEnd = f.ended === undefined || (f.ended === 'end' && this.#closing) || overtaken;
      if (!mayEnd) violate(`${what} ended with ${f.ended} after ${f.records.length} records of ${expected}`);
      if (overtaken) this.reach('followers overtaken by truncation');
      this.reach('records followed', f.records.length);
      this.model.check({ ...f, what, mustReach: overtaken ? 0 : this.model.end, maxRecords: Infinity });
    }
    this.#followers = this.#followers.filter((f) => f.ended === undefined);
  }

  /** Counts what has happened since the last look at the figures of this log. */
  #look(stats: LogStats): void {
    const notReached = modeNotReached(stats.io, stats.systemCalls, stats.batches);
    if (notReached !== undefined) violate(`mode ${stats.io}: ${notReached}`);
    const { segmentBytes, laneBytes } = shapes[this.#setting.shape];
    const last = this.#lastStats;
    this.#lastStats = stats;
    this.reach('batches', stats.batches - (last?.batches ?? 0));
    this.reach('rolls', stats.rolls - (last?.rolls ?? 0));
    for (const [reason, times] of Object.entries(stats.closeReasons)) {
      this.reach(`batches closed by ${reason}`, times - (last?.closeReasons[reason as CloseReason] ?? 0));
    }
    // Where all segments there are were begun since the log was opened, they have one size.
    if (this.#setting.retention && stats.startOffset > this.#truncatedTo && stats.rolls > stats.segments) {
      checkRetention(stats.segments, segmentBytes);
      this.reach('looks at what retention keeps');
    }
    if (stats.recordBytes > laneBytes) this.reach('looks at a lane gone round');
    if (stats.rolls * segmentBytes > stats.fillBytes) this.reach('looks at a log with recycled segments');
  }

  #verify(when: string): void {
    const io = new JsIo();
    try {
      const { problems, ok } = verify(io, this.dir);
      if (!ok) violate(`verify ${when}: ${problems.map((p) => `${p.file}@${p.position}: ${p.message}`).join('; ')}`);
    } catch (error) {
      if (this.model.end > 0) violate(`verify ${when}: ${String(error)}`);
    } finally {
      io.destroy();
    }
    this.reach('verifications');
  }
}
