// Runs a writer (kill-writer.ts, kill-script.ts) and does something to it at a chosen moment of its life. What comes
// through the pipe is what a client would have been told: a line that was cut was told to nobody.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LineKind } from './kill-protocol.ts';

/** So many lines of this kind, and then so many milliseconds. */
export interface Moment {
  readonly after: LineKind;
  readonly count: number;
  readonly delayMs: number;
}

export interface Told {
  readonly lines: readonly string[];
  readonly signal: string | null;
  readonly code: number | null;
  /** True where it had to be ended because it did not end, nor the moment come. */
  readonly hung: boolean;
}

/** A writer that lives longer than this hangs, and is ended. */
const HANGS_MS = 30_000;

export const momentText = ({ after, count, delayMs }: Moment): string => `${after}×${count} +${delayMs} ms`;

/** A moment somewhere in the life of kill-writer.ts. @param truncates whether the writer does */
export function anyMoment(random: () => number, truncates: boolean): Moment {
  const upTo = (n: number): number => Math.floor(random() * n);
  const choice = random();
  if (choice < 0.4) return { after: 'a', count: 1 + upTo(400), delayMs: 0 };
  if (choice < 0.6) return { after: 'o', count: 1 + upTo(2), delayMs: upTo(60) };
  if (choice < 0.75) return { after: 'c', count: 1, delayMs: upTo(15) };
  if (choice < 0.9 && truncates) return { after: 't', count: 1 + upTo(4), delayMs: upTo(6) };
  return { after: 'O', count: 1, delayMs: upTo(250) };
}

export async function runWriter(
  name: 'kill-writer' | 'kill-script' | 'power-careless',
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  moment: Moment | undefined,
  act: (pid: number) => void,
): Promise<Told> {
  const script = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  let acted = false;
  let hung = false;
  let text = '';
  let seen = 0;
  let looked = 0;
  let timer: NodeJS.Timeout | undefined;
  const hangs = setTimeout(() => {
    hung = true;
    child.kill('SIGKILL');
  }, HANGS_MS);
  const due = (): void => {
    if (child.exitCode !== null || child.signalCode !== null || acted) return;
    acted = true;
    act(child.pid!);
  };
  const soon = (delayMs: number): void => {
    if (delayMs === 0) due();
    else timer ??= setTimeout(due, delayMs);
  };
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (moment === undefined) return;
    for (let end = text.indexOf('\n', looked); end >= 0; end = text.indexOf('\n', looked)) {
      if (text[looked] === moment.after && ++seen === moment.count) soon(moment.delayMs);
      looked = end + 1;
    }
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearTimeout(timer);
  clearTimeout(hangs);
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return { lines: lines.slice(0, -1), signal, code, hung };
}
