// An accept thread over a lane that nobody drains until the test says so: a full lane, an old queue and a failed log are then
// no matter of luck.

import pino from 'pino';
import type { Test } from 'tap';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import type { ErrorMessage } from '../../src/base/errors.ts';
import { DedupeTable } from '../../src/flow/dedupe.ts';
import { Accept, type Left } from '../../src/ingress/accept.ts';
import { createCounters, readCounters, type CounterName } from '../../src/ingress/counters.ts';
import { createLaneBuffer, notifyLane } from '../../src/platform/lane-memory.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { openLog } from './log-plans.ts';
import { directory } from './log-support.ts';
import { LoopByHand } from './pipeline-loop.ts';

const LANE_BYTES = 64 * 1024;
const MAX_RECORD_BYTES = 12 * 1024;

export class ByHand {
  readonly loop = new LoopByHand();
  readonly errors: string[] = [];
  readonly #counters = createCounters(1);
  readonly #lane = createLaneBuffer(LANE_BYTES);
  readonly #dir: string;
  readonly #accept: Accept;

  private constructor(
    dir: string,
    options: Readonly<Record<string, unknown>>,
    maxWaitingBytes: number,
    arrivals?: SharedArrayBuffer,
  ) {
    this.#dir = dir;
    this.loop.queue({ id: 0, kind: 'lane', buffer: this.#lane });
    this.loop.shared.state = 'open';
    const { buffer } = this.loop.shared;
    const opened = { io: 'js', tornBytes: 0, foreign: [], nativeMissing: undefined } as const;
    const logger = pino({ level: 'error' }, { write: (line: string) => void this.errors.push(line) });
    const dedupe = new DedupeTable({ maxKeys: 1000, maxAgeMs: 60_000 }, () => Date.now());
    this.#accept = new Accept(
      {
        options: resolveGatewayOptions({ http: '127.0.0.1:0', tcp: 'off', ...options }),
        maxRecordBytes: MAX_RECORD_BYTES,
        laneBytes: LANE_BYTES,
        view: { dir, segmentBytes: 256 * 1024, shared: buffer, opened, lanes: [this.#lane] },
        lane: {
          shared: buffer,
          lane: this.#lane,
          limits: { maxRecordBytes: MAX_RECORD_BYTES, maxWaitingBytes },
        },
        counters: this.#counters,
        ...(arrivals === undefined ? {} : { arrivals }),
        heapLimits: {},
        decodeLimits: {},
        thread: 0,
        reusePort: false,
      },
      dedupe,
      logger,
    );
  }

  static async start(
    t: Test,
    options: Readonly<Record<string, unknown>> = {},
    maxWaitingBytes = 1024 * 1024,
    arrivals?: SharedArrayBuffer,
  ): Promise<ByHand> {
    const hand = new ByHand(directory(t), options, maxWaitingBytes, arrivals);
    t.teardown(async () => {
      hand.fail({ code: 'POISONED', message: 'the test is over', details: {} });
      await hand.#accept.close();
    });
    await hand.#accept.listen();
    return hand;
  }

  get port(): number {
    return this.#accept.listening.http!.port;
  }

  count(name: CounterName): number {
    return readCounters(this.#counters)[name];
  }

  /** Makes durable what is in the lane. What waits for room there hears that the log is closed: this is the loop's only run. */
  commit(): void {
    const { log } = openLog(this.#dir, new JsIo(), { segmentBytes: 256 * 1024, maxRecordBytes: MAX_RECORD_BYTES });
    this.loop.close();
    this.loop.run(log, { maxRecords: 1000, maxBytes: 32 * 1024, lingerMs: 0 });
  }

  fail(error: ErrorMessage): void {
    this.loop.shared.fail(error);
    notifyLane(this.#lane);
  }

  drain(withinMs: number): Promise<Left> {
    return this.#accept.drain(withinMs);
  }
}
