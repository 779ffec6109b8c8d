// A memory limit around a process: a cgroup of the memory controller, version 1 or 2, whichever this machine has. Needs
// root, and a place where groups may be made.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const V1 = '/sys/fs/cgroup/memory';
const V2 = '/sys/fs/cgroup';

export interface MemoryEvents {
  /** Processes of the group that the kernel killed for want of memory. */
  readonly oomKills: number;
  /** How often the limit was met and something had to be reclaimed. */
  readonly limitMet: number;
  readonly peakBytes: number;
  /** Charged to the group now: all of it, page cache, and anonymous memory. */
  readonly usageBytes: number;
  readonly cacheBytes: number;
  readonly anonymousBytes: number;
}

function numberIn(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
}

export class MemoryGroup {
  readonly version: 1 | 2;
  readonly #path: string;

  /** @throws Error in one line where no group can be made or limited here */
  static make(name: string, limitBytes: number): MemoryGroup {
    const version = existsSync(join(V1, 'memory.limit_in_bytes')) ? 1 : 2;
    const path = join(version === 1 ? V1 : V2, name);
    try {
      if (version === 2 && !readFileSync(join(V2, 'cgroup.subtree_control'), 'utf8').includes('memory')) {
        writeFileSync(join(V2, 'cgroup.subtree_control'), '+memory');
      }
      mkdirSync(path);
    } catch (error) {
      throw new Error(`no memory cgroup can be made: ${(error as Error).message}`, { cause: error });
    }
    const group = new MemoryGroup(version, path);
    try {
      writeFileSync(join(path, version === 1 ? 'memory.limit_in_bytes' : 'memory.max'), String(limitBytes));
      // Without swap a limit is a limit.
      const swap = join(path, version === 1 ? 'memory.swappiness' : 'memory.swap.max');
      if (existsSync(swap)) writeFileSync(swap, '0');
    } catch (error) {
      group.remove();
      throw new Error(`the memory cgroup takes no limit: ${(error as Error).message}`, { cause: error });
    }
    return group;
  }

  private constructor(version: 1 | 2, path: string) {
    this.version = version;
    this.#path = path;
  }

  /** A command line that runs `command` inside: the shell enters, then becomes it, so that all its memory is charged here. */
  inside(command: string, args: readonly string[]): [string, string[]] {
    return ['sh', ['-c', 'echo $$ > "$0" && exec "$@"', join(this.#path, 'cgroup.procs'), command, ...args]];
  }

  events(): MemoryEvents {
    const read = (file: string): string => readFileSync(join(this.#path, file), 'utf8').trim();
    if (this.version === 1) {
      return {
        oomKills: numberIn(read('memory.oom_control'), 'oom_kill'),
        limitMet: Number(read('memory.failcnt')),
        peakBytes: Number(read('memory.max_usage_in_bytes')),
        usageBytes: Number(read('memory.usage_in_bytes')),
        cacheBytes: numberIn(read('memory.stat'), 'cache'),
        anonymousBytes: numberIn(read('memory.stat'), 'rss'),
      };
    }
    const peak = existsSync(join(this.#path, 'memory.peak')) ? Number(read('memory.peak')) : 0;
    const events = read('memory.events');
    return {
      oomKills: numberIn(events, 'oom_kill'),
      limitMet: numberIn(events, 'max'),
      peakBytes: peak,
      usageBytes: Number(read('memory.current')),
      cacheBytes: numberIn(read('memory.stat'), 'file'),
      anonymousBytes: numberIn(read('memory.stat'), 'anon'),
    };
  }

  /** Once no process is in it. */
  remove(): void {
    rmdirSync(this.#path);
  }
}
