// What the listeners of one accept thread share: the lane, the log's view, flow control, decoding, who may come in.

import type { Logger } from 'pino';
import { SpillwayError } from '../base/errors.ts';
import type { GatewayOptions } from '../base/gateway-options.ts';
import type { ByteBudget } from '../flow/budget.ts';
import type { Dedupe } from '../flow/dedupe.ts';
import { retryAfterSeconds, type DrainRate } from '../flow/drain-rate.ts';
import type { Shed } from '../flow/shed.ts';
import type { TokenBuckets } from '../flow/token-bucket.ts';
import type { Watermark } from '../flow/watermark.ts';
import type { Admission, AppendedMany } from '../pipeline/job.ts';
import type { Lane } from '../pipeline/lane.ts';
import type { LogView } from '../pipeline/view.ts';
import type { Answers } from './answers.ts';
import type { ArrivalRing } from './arrival-ring.ts';
import type { Tokens } from './auth.ts';
import type { Counters } from './counters.ts';
import type { DecodePool } from './decode-pool.ts';

export interface HostParts {
  readonly options: GatewayOptions;
  readonly maxRecordBytes: number;
  readonly laneBytes: number;
  readonly lane: Lane;
  readonly view: LogView;
  readonly budget: ByteBudget;
  /** What bodies that wait for a decode thread may hold of the budget. */
  readonly threadShare: ByteBudget;
  /** One: the body that may grow beside the budget (body.ts). */
  readonly elder: ByteBudget;
  readonly answers: Answers;
  /** Requests whose decoded body is in memory: one more than there are threads that decode. */
  readonly decodeSlots: ByteBudget;
  readonly mark: Watermark;
  readonly shed: Shed;
  readonly drainRate: DrainRate;
  readonly recordBuckets: TokenBuckets | undefined;
  readonly byteBuckets: TokenBuckets | undefined;
  readonly decode: DecodePool;
  readonly dedupe: Dedupe;
  readonly tokens: Tokens | undefined;
  readonly counters: Counters;
  /** Where arrivals are recorded, if they are. */
  readonly arrivals: ArrivalRing | undefined;
  /** Figures of the whole gateway, as text for Prometheus and as JSON. */
  readonly report: { metrics(): string; stats(withHistograms: boolean): unknown };
  readonly log: Logger;
  readonly clock: { monotonicMs(): number };
}

export class Host {
  readonly parts: HostParts;
  draining = false;
  /** Credit that producers have and have not used: set aside in the budget, and no sign of load. */
  unspentBytes = 0;
  #underWay = 0;
  readonly #whenDone: (() => void)[] = [];
  #paused = false;
  readonly #resume: (() => void)[] = [];
  /** Connections without credit. */
  readonly #starved = new Set<() => void>();

  constructor(parts: HostParts) {
    this.parts = parts;
  }

  /** What a stream does with records that find the lane full. */
  admission(stream: string): Required<Admission> {
    const { overflow, maxBlockMs, streams } = this.parts.options;
    const own = Object.hasOwn(streams, stream) ? streams[stream] : undefined;
    return { overflow: own?.overflow ?? overflow, maxBlockMs: own?.maxBlockMs ?? maxBlockMs };
  }

  schema(stream: string): string | undefined {
    const { streams } = this.parts.options;
    return Object.hasOwn(streams, stream) ? streams[stream].schema : undefined;
  }

  /** Why nothing new can be taken now; undefined while it can. */
  refusal(): SpillwayError | undefined {
    if (this.draining) return new SpillwayError('DRAINING', 'the gateway is shutting down');
    const { view, shed, lane, counters, options } = this.parts;
    const { state } = view;
    if (state === 'full') {
      return new SpillwayError('DISK_FULL', 'the disk is full: nothing can be stored until there is space');
    }
    if (state === 'poisoned') return view.failure;
    if (state !== 'open') return new SpillwayError('DRAINING', `the log is ${state}`);
    if (!shed.update(lane.oldestAgeMs())) return undefined;
    counters.add('shed');
    return new SpillwayError('SHED', `the oldest waiting record is older than ${options.shedAgeMs} ms (shedAgeMs)`);
  }

  /** Whether new records would be taken: what /readyz answers. */
  get ready(): boolean {
    return !this.draining && this.parts.view.state === 'open';
  }

  /** Requests that are not answered yet. */
  get underWay(): number {
    return this.#underWay;
  }

  begin(): void {
    this.#underWay++;
  }

  done(): void {
    if (--this.#underWay === 0) for (const go of this.#whenDone.splice(0)) go();
  }

  /** Resolves once nothing is under way: also what nobody waits for any more, as its client is gone. */
  async allDone(): Promise<void> {
    while (this.#underWay > 0) await new Promise<void>((resolve) => this.#whenDone.push(resolve));
  }

  /** Appends, and keeps the books. @param payloadBytes `bytes` without framing @throws as `Lane.appendMany` */
  async append(
    records: number,
    bytes: number,
    start: (lane: Lane) => Promise<AppendedMany>,
    payloadBytes = (): number => bytes,
  ): Promise<AppendedMany> {
    const { lane, counters, drainRate, clock, arrivals } = this.parts;
    arrivals?.record(clock.monotonicMs(), records, payloadBytes());
    const started = start(lane);
    this.look();
    try {
      const appended = await started;
      drainRate.add(bytes, clock.monotonicMs());
      counters.add('records', records);
      counters.add('recordBytes', bytes);
      return appended;
    } catch (error) {
      if (error instanceof SpillwayError && error.code === 'TOO_MANY_STREAMS') counters.add('tooManyStreams');
      throw error;
    } finally {
      this.look();
    }
  }

  /** Seconds after which a refused client may expect room. */
  retryAfter(): number {
    const { drainRate, clock, lane, budget } = this.parts;
    return retryAfterSeconds(lane.queuedBytes + budget.waitingBytes, drainRate.bytesPerSecond(clock.monotonicMs()));
  }

  /** Milliseconds until the rate limit lets this much through; 0 when it did, and was charged. */
  charge(who: string, records: number, bytes: number): number {
    const { recordBuckets, byteBuckets, clock } = this.parts;
    if (recordBuckets === undefined && byteBuckets === undefined) return 0;
    const nowMs = clock.monotonicMs();
    const waitMs = Math.max(
      records === 0 ? 0 : (recordBuckets?.take(who, records, nowMs) ?? 0),
      bytes === 0 ? 0 : (byteBuckets?.take(who, bytes, nowMs) ?? 0),
    );
    if (waitMs > 0) this.parts.counters.add('rateLimited');
    return waitMs;
  }

  /** Fill of the fuller of lane and budget, as a fraction. */
  get level(): number {
    const { lane, budget, laneBytes, options } = this.parts;
    return Math.max(lane.queuedBytes / laneBytes, (budget.usedBytes - this.unspentBytes) / options.ingressBytes);
  }

  /** Compares the fill with the marks; whoever waited to read goes on below the low one. */
  look(): void {
    const { mark, lane, budget, drainRate, clock } = this.parts;
    this.#paused = mark.update(this.level);
    if (!this.#paused) for (const go of this.#resume.splice(0)) go();
    if (!this.#paused && this.#starved.size > 0 && budget.freeBytes > 0) {
      const starved = [...this.#starved];
      this.#starved.clear();
      for (const ask of starved) ask();
    }
    // How fast a queue drains shows only while there is one.
    if (lane.isIdle) drainRate.idle(clock.monotonicMs());
  }

  /** Brings the figures of this thread up to date that are not counted as things happen. */
  sample(): void {
    const { lane, counters, budget, answers, arrivals } = this.parts;
    const { newest, oldest, blockedTooLong, backlog } = lane.drops;
    counters.set('droppedNewest', newest);
    counters.set('droppedOldest', oldest);
    counters.set('droppedBlockedTooLong', blockedTooLong);
    counters.set('droppedBacklog', backlog);
    if (arrivals !== undefined) counters.set('arrivalsLost', arrivals.lost);
    counters.set('ingressBytes', budget.usedBytes);
    counters.set('answerBytes', answers.budget.usedBytes);
    counters.set('queuedBytes', lane.queuedBytes);
    counters.set('oldestAgeMs', lane.oldestAgeMs());
    counters.set('paused', this.#paused ? 1 : 0);
  }

  /** True while nothing more should be read. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Calls back once there may be room for credit. */
  whenRoom(ask: () => void): void {
    this.#starved.add(ask);
  }

  /** Resolves once sockets may be read; false where that took longer than `timeoutMs`. */
  async readable(timeoutMs: number): Promise<boolean> {
    if (!this.#paused) return true;
    return new Promise<boolean>((resolve) => {
      const go = (): void => {
        clearTimeout(timer);
        resolve(true);
      };
      const timer = setTimeout(() => {
        const i = this.#resume.indexOf(go);
        if (i >= 0) this.#resume.splice(i, 1);
        resolve(false);
      }, timeoutMs);
      this.#resume.push(go);
    });
  }
}
