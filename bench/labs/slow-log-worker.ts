// Thread entry: the commit loop of a log whose disk is slow. Everything in it is the product's own (log, commit loop, lane, I/O
// mode) but the FileIo, which is an argument of the log: its durable writes are made, and then take as long as on a disk of
// `diskBytesPerSecond`. The thread really blocks in them, as it does in the kernel.

import { receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { systemClock, systemRandom32 } from '../../src/base/clock.ts';
import { toErrorMessage } from '../../src/base/errors.ts';
import type { LogOptions } from '../../src/base/options.ts';
import { Log } from '../../src/log/log.ts';
import { CommitLoop, type Command } from '../../src/pipeline/commit-loop.ts';
import { chooseIo } from '../../src/platform/choose-io.ts';
import type { FileIo } from '../../src/platform/file-io.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { waitForSignal } from '../../src/platform/waiter.ts';

export interface SlowLogData {
  readonly options: LogOptions;
  readonly shared: SharedArrayBuffer;
  readonly port: MessagePort;
  readonly diskBytesPerSecond: number;
}

/** Slows down the durable writes of batches; opening, filling segments and reading stay as they are. */
function slow(io: FileIo, bytesPerSecond: number): FileIo {
  const never = new Int32Array(new SharedArrayBuffer(4));
  const durableWrite = io.durableWrite.bind(io);
  /** When the disk is done with what it was given. */
  let freeAtMs = 0;
  const results: unknown[] = [];
  let failed: unknown;
  io.durableWrite = (fd, bytes, position) => {
    freeAtMs = Math.max(freeAtMs, performance.now()) + (bytes.length / bytesPerSecond) * 1000;
    durableWrite(fd, bytes, position);
    // A timed wait may end early by less than a millisecond.
    for (let ms = freeAtMs - performance.now(); ms > 0; ms = freeAtMs - performance.now()) {
      waitForSignal(never, 0, 0, ms);
    }
  };
  // One write at a time: what is submitted is made at once, its error kept for `settle`;
  // behind one that failed nothing more is written.
  io.submit = (fd, bytes, position) => {
    try {
      if (failed === undefined) io.durableWrite(fd, bytes, position);
    } catch (error) {
      failed = error;
    }
    results.push(failed);
  };
  io.settle = () => {
    const result = results.shift();
    if (result !== undefined) throw result;
  };
  return io;
}

const { options, shared, port, diskBytesPerSecond } = workerData as SlowLogData;
const state = new SharedState(shared);
let io: FileIo | undefined;
try {
  io = chooseIo(options.dir, options.io, state.counters);
  const log = Log.open({ io: slow(io, diskBytesPerSecond), clock: systemClock, random32: systemRandom32 }, options);
  port.postMessage({ opened: io.mode });
  const next = (): Command | undefined => receiveMessageOnPort(port)?.message as Command | undefined;
  const reply = new CommitLoop(state, log, options.window, systemClock, { next, reply: () => undefined }).run();
  port.postMessage({ closed: reply.error?.message ?? null });
} catch (error) {
  port.postMessage({ closed: toErrorMessage(error).message });
} finally {
  io?.destroy();
  port.close();
}
