// spillway top: a running gateway, live and in place; not on a terminal, or with --once, one snapshot of one interval as plain text.
//
//     look ──▶ figures since start ──▶ interval ──▶ look ──▶ figures of the interval ──▶ …        until Ctrl-C
//
// A gateway that cannot be reached at first is an error; one that goes away later is said so, and looked for again.

import { setTimeout as delay } from 'node:timers/promises';
import { errorKinds, reasonOf, SpillwayError, type ErrorCode } from '../base/errors.ts';
import { topOptionsFrom, type TopOptions } from './top-flags.ts';
import { topLines, type Look } from './top-view.ts';

const ANSWER_TIMEOUT_MS = 5000;

const terminal = {
  /** Another screen, so that what was on this one comes back; no cursor. */
  enter: '\x1b[?1049h\x1b[?25l',
  leave: '\x1b[?25h\x1b[?1049l',
  home: '\x1b[H',
  clearLine: '\x1b[K',
  clearBelow: '\x1b[J',
} as const;

function isLook(value: unknown): value is Look {
  const { log, gateway, histograms } = (value ?? {}) as Partial<Record<keyof Look, unknown>>;
  const all = [log, gateway, histograms];
  return (
    all.every((part) => typeof part === 'object' && part !== null) &&
    typeof (log as Look['log']).uptimeMs === 'number' &&
    typeof (log as Look['log']).window === 'object' &&
    typeof (histograms as Look['histograms']).latency === 'object'
  );
}

/** The gateway's own error, where it gave one. */
function refusal(origin: string, status: number, text: string): SpillwayError {
  let said: { error?: unknown; message?: unknown } = {};
  try {
    said = (JSON.parse(text) ?? {}) as typeof said;
  } catch {
    // Told below.
  }
  const { error, message } = said;
  if (typeof error === 'string' && Object.hasOwn(errorKinds, error) && typeof message === 'string')
    return new SpillwayError(error as ErrorCode, `${origin}: ${message}`, { subject: 'url' });
  return new SpillwayError('PROTOCOL_ERROR', `${origin} does not answer as a gateway of this version: HTTP ${status}`, {
    subject: 'url',
  });
}

/** @throws DISCONNECTED, PROTOCOL_ERROR, and what the gateway refuses with */
async function look({ origin, token }: TopOptions, signal: AbortSignal): Promise<Look> {
  let status: number;
  let text: string;
  try {
    const answer = await fetch(`${origin}/v1/stats?histograms=1`, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
    });
    status = answer.status;
    text = await answer.text();
  } catch (error) {
    // fetch says no more than that it failed; why is in the cause.
    const { cause } = error as { cause?: unknown };
    throw new SpillwayError('DISCONNECTED', `cannot reach ${origin}: ${reasonOf(cause ?? error)}`, { subject: 'url' });
  }
  let value: unknown;
  try {
    value = status === 200 ? JSON.parse(text) : undefined;
  } catch {
    // No JSON: no gateway.
  }
  if (!isLook(value)) throw refusal(origin, status, text);
  return value;
}

/** Draws over what was drawn before; what does not fit is cut. */
function draw(lines: readonly string[]): void {
  // A terminal that does not know its size says 0.
  const columns = process.stdout.columns || 80;
  const rows = process.stdout.rows || 24;
  const shown = lines.slice(0, rows).map((line) => `${line.slice(0, columns)}${terminal.clearLine}`);
  process.stdout.write(terminal.home + shown.join('\r\n') + terminal.clearBelow);
}

/** False where it was interrupted meanwhile. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
  return !signal.aborted;
}

async function live(options: TopOptions, first: Look, signal: AbortSignal): Promise<void> {
  const { origin, sloP99Ms, intervalMs } = options;
  let before = first;
  let lines = topLines(origin, sloP99Ms, undefined, first);
  process.stdout.write(terminal.enter);
  try {
    draw(lines);
    while (await pause(intervalMs, signal)) {
      try {
        const now = await look(options, signal);
        lines = topLines(origin, sloP99Ms, before, now);
        before = now;
        draw(lines);
      } catch (error) {
        if (!(error instanceof SpillwayError)) throw error;
        draw([...lines, '', `  NO ANSWER, the figures are old: ${error.message} [${error.code}]`]);
      }
    }
  } finally {
    process.stdout.write(`${terminal.leave}${lines.join('\n')}\n`);
  }
}

/**
 * @returns exit status: 0; 1 where a snapshot was interrupted
 * @throws INVALID_OPTION, DISCONNECTED, PROTOCOL_ERROR, UNAUTHORIZED
 */
export async function topCommand(url: string, parsed: Readonly<Record<string, unknown>>): Promise<number> {
  const options = topOptionsFrom(url, parsed);
  const interrupt = new AbortController();
  const end = (): void => interrupt.abort();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, end);
  try {
    const first = await look(options, interrupt.signal);
    if (process.stdout.isTTY && parsed['once'] !== true) {
      await live(options, first, interrupt.signal);
      return 0;
    }
    if (!(await pause(options.intervalMs, interrupt.signal))) return 1;
    const second = await look(options, interrupt.signal);
    process.stdout.write(`${topLines(options.origin, options.sloP99Ms, first, second).join('\n')}\n`);
    return 0;
  } finally {
    for (const signal of signals) process.removeListener(signal, end);
  }
}
