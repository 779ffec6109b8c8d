// A log whose disk is slow, as the producer sees it: the lane of the product, and slow-log-worker.ts at its other end.

import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { systemClock } from '../../src/base/clock.ts';
import { resolveLogOptions, type LogOptionsInput } from '../../src/base/options.ts';
import { Lane } from '../../src/pipeline/lane.ts';
import { createLaneBuffer } from '../../src/platform/lane-memory.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { workerEnvironment } from '../../src/platform/threads.ts';
import { signal } from '../../src/platform/waiter.ts';
import { BenchError } from '../lib/experiment.ts';
import type { SlowLogData } from './slow-log-worker.ts';

export class SlowLog {
  readonly lane: Lane;
  /** The I/O mode under the throttle. */
  readonly io: string;
  readonly #shared: SharedState;
  readonly #port: MessagePort;
  readonly #worker: Worker;

  private constructor(shared: SharedState, port: MessagePort, worker: Worker, lane: Lane, io: string) {
    this.#shared = shared;
    this.#port = port;
    this.#worker = worker;
    this.lane = lane;
    this.io = io;
  }

  static async open(input: LogOptionsInput, diskBytesPerSecond: number): Promise<SlowLog> {
    const options = resolveLogOptions(input);
    mkdirSync(options.dir, { recursive: true });
    const shared = new SharedState();
    const { port1, port2 } = new MessageChannel();
    const data: SlowLogData = { options, shared: shared.buffer, port: port2, diskBytesPerSecond };
    const worker = new Worker(new URL('./slow-log-worker.js', import.meta.url), {
      workerData: data,
      transferList: [port2],
      execArgv: [],
      env: workerEnvironment(),
    });
    const [message] = (await once(port1, 'message')) as [{ opened?: string; closed?: string }];
    if (message.opened === undefined) throw new BenchError(`the log did not open: ${message.closed}`);
    const lane = createLaneBuffer(options.laneBytes);
    const { maxRecordBytes, maxWaitingBytes } = options;
    const log = new SlowLog(
      shared,
      port1,
      worker,
      new Lane({ shared: shared.buffer, lane, limits: { maxRecordBytes, maxWaitingBytes } }, systemClock),
      message.opened,
    );
    log.#tell({ id: 0, kind: 'lane', buffer: lane });
    return log;
  }

  /** Records that the commit loop wrote. */
  get records(): number {
    return this.#shared.stat('records');
  }

  /** Once everything that was appended has its answer. */
  async close(): Promise<void> {
    const ended = once(this.#worker, 'exit');
    const last = once(this.#port, 'message') as Promise<[{ closed: string | null }]>;
    this.#tell({ id: 1, kind: 'close' });
    const [{ closed }] = await last;
    await this.lane.close();
    await ended;
    if (closed !== null) throw new BenchError(`the log did not close: ${closed}`);
  }

  #tell(command: unknown): void {
    this.#port.postMessage(command);
    Atomics.add(this.#shared.words, this.#shared.commands, 1);
    signal(this.#shared.words, this.#shared.doorbell);
  }
}
