// `spillway serve` as a process of its own, on free ports, and what became of it.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { atEnd } from './at-end.ts';
import { within } from './log-support.ts';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const LISTENS_WITHIN_MS = 20_000;
const running = new Set<ChildProcess>();
atEnd(() => running.forEach((child) => child.kill('SIGKILL')));

export interface Addresses {
  readonly http: number;
  readonly tcp: number;
}

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly requests?: number;
  readonly connections?: number;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly atMs: number;
  /** What it logged. */
  readonly lines: readonly LogLine[];
}

export interface StartOptions {
  readonly dir: string;
  readonly unix: string;
  readonly flags?: readonly string[];
  /** Another Node than this one. */
  readonly node?: string;
  readonly nodeFlags?: readonly string[];
  /** Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv;
}

export class GatewayProcess {
  readonly ended: Promise<Ended>;
  /** Undefined where it ended before it listened. */
  readonly listening: Promise<Addresses | undefined>;
  readonly #child: ChildProcess;
  #out = '';
  #err = '';
  #onSaid = (): void => undefined;

  constructor({ dir, unix, flags = [], node = process.execPath, nodeFlags = [], env = process.env }: StartOptions) {
    const where = ['--dir', dir, '--http', '127.0.0.1:0', '--tcp', '127.0.0.1:0', '--unix', unix];
    // tap puts a loader into NODE_OPTIONS of whatever is spawned, and with that Node 20 keeps twice as much on the heap.
    const child = spawn('env', ['-u', 'NODE_OPTIONS', node, ...nodeFlags, main, 'serve', ...where, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
    });
    this.#child = child;
    running.add(child);
    child.stderr.on('data', (chunk: Buffer) => {
      this.#err += chunk.toString();
      this.#onSaid();
    });
    this.listening = new Promise((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        this.#out += chunk.toString();
        const [, http, tcp] = /http:\/\/127\.0\.0\.1:(\d+), tcp:\/\/127\.0\.0\.1:(\d+)/.exec(this.#out) ?? [];
        if (tcp !== undefined) resolve({ http: Number(http), tcp: Number(tcp) });
      });
      child.once('close', () => resolve(undefined));
    });
    this.ended = this.#end();
  }

  /** @throws Error with what it said, where it does not listen in time */
  async listens(): Promise<Addresses> {
    const addresses = await within(this.listening, 'the gateway listens', LISTENS_WITHIN_MS);
    if (addresses === undefined) throw new Error(`the gateway ended before it listened: ${this.#err.slice(-600)}`);
    return addresses;
  }

  /** Resolves once it has logged this, or has ended. */
  async logs(text: string): Promise<void> {
    void this.ended.then(() => this.#onSaid());
    while (!this.#err.includes(text) && running.has(this.#child)) {
      await new Promise<void>((resolve) => (this.#onSaid = resolve));
    }
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get isAlive(): boolean {
    return running.has(this.#child) && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Lines on stderr of that level and above, and those that are no log lines: whatever it complained about so far. */
  complaints(level: number): string[] {
    return this.#err.split('\n').filter((line) => {
      const said = /^\{"level":(\d+)/.exec(line);
      return line !== '' && (said === null || Number(said[1]) >= level);
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async #end(): Promise<Ended> {
    const [code, signal] = (await once(this.#child, 'close')) as [number | null, NodeJS.Signals | null];
    running.delete(this.#child);
    const lines = this.#err
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        try {
          return JSON.parse(line) as LogLine;
        } catch {
          // A killed process may have been in the midst of a line; anything else that is no log line is a crash.
          return { level: signal === 'SIGKILL' ? 30 : 60, msg: line };
        }
      });
    return { code, signal, atMs: performance.now(), lines };
  }
}
