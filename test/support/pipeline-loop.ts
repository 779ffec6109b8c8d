// The commit loop without its thread: commands are queued beforehand, `run` blocks until the close command, and the
// promises of the lanes settle afterwards, when the event loop gets its turn. Which order things happen in is then no
// matter of luck.

import { systemClock, type Clock } from '../../src/base/clock.ts';
import type { WindowOptions } from '../../src/base/options.ts';
import type { Log } from '../../src/log/log.ts';
import { CommitLoop, type Command, type CommandPort, type Reply } from '../../src/pipeline/commit-loop.ts';
import { Lane, type LaneHandle } from '../../src/pipeline/lane.ts';
import type { WindowControl } from '../../src/pipeline/window-control.ts';
import { createLaneBuffer } from '../../src/platform/lane-memory.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { signal } from '../../src/platform/waiter.ts';

export class LoopByHand implements CommandPort {
  readonly shared = new SharedState();
  readonly replies: Reply[] = [];
  readonly #commands: Command[] = [];
  #nextId = 1;
  #obeyed: Command | undefined;
  /** Called on the loop's thread once it has carried out a command and asks for the next: what another thread may do then. */
  afterCommand: (command: Command) => void = () => undefined;

  /** A lane as a caller has it, known to the loop once it runs. */
  lane(laneBytes = 64 * 1024): { lane: Lane; handle: LaneHandle } {
    const buffer = createLaneBuffer(laneBytes);
    this.queue({ id: 0, kind: 'lane', buffer });
    const handle = {
      shared: this.shared.buffer,
      lane: buffer,
      limits: { maxRecordBytes: 8192, maxWaitingBytes: 2 ** 20 },
    };
    return { lane: new Lane(handle, systemClock), handle };
  }

  queue(command: Command): void {
    this.#commands.push(command);
    Atomics.add(this.shared.words, this.shared.commands, 1);
    signal(this.shared.words, this.shared.doorbell);
  }

  flush(): number {
    const id = this.#nextId++;
    this.queue({ id, kind: 'flush' });
    return id;
  }

  close(): number {
    const id = this.#nextId++;
    this.queue({ id, kind: 'close' });
    return id;
  }

  next(): Command | undefined {
    const obeyed = this.#obeyed;
    this.#obeyed = undefined;
    if (obeyed !== undefined) this.afterCommand(obeyed);
    this.#obeyed = this.#commands.shift();
    return this.#obeyed;
  }

  /** The first answer brings the close command, so that a run ends by itself. */
  reply(reply: Reply): void {
    this.replies.push(reply);
    if (this.replies.length === 1) this.close();
  }

  /** Runs until closed. */
  run(
    log: Log,
    window: WindowOptions = { maxRecords: 10, maxBytes: 16 * 1024, lingerMs: 0 },
    clock: Clock = systemClock,
    control?: WindowControl,
  ): Reply {
    return new CommitLoop(this.shared, log, window, clock, this, control).run();
  }
}
