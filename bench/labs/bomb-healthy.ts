// Healthy clients of lab:bomb: open-loop load at a constant rate, alone or beside a flood of bombs, and what the gateway says of its
// event loop meanwhile.

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { resolveLoadOptions } from '../../src/load/options.ts';
import { runLoad } from '../../src/load/run.ts';
import { statsOf } from '../lib/children.ts';
import type { Loaded } from '../lib/verdict.ts';
import { gzipZeros, zstdZeros } from './bomb-bodies.ts';
import { packageRoot } from './frame.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;

interface Bombers {
  readonly dir: string;
  readonly bomb: 'gzip' | 'zstd';
  readonly connections: number;
}

interface Bombed {
  /** One of them. */
  readonly wireBytes: number;
  /** By status. */
  readonly answers: Readonly<Record<string, number>>;
  readonly cut: number;
  /** Answers 413: all of these bodies are below wireBodyBytes, so each was decoded as far as it goes. */
  readonly decodeRefusals: number;
}

export interface Phase {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly accepted: number;
  /** By code. */
  readonly refused: Readonly<Record<string, number>>;
  /** Never sent, or without an answer. */
  readonly unanswered: number;
  /** eventLoopDelayMs of each whole second: the p99 of what its timer of 10 ms saw. */
  readonly delaysMs: readonly number[];
  /** What the healthy clients' generator says of itself. */
  readonly limit: Loaded['limit'];
  readonly verdict: string;
  readonly refusedDecodedBytes: number;
  readonly bombs: Bombed | undefined;
}

export interface Round {
  readonly bomb: string;
  readonly alone: Phase;
  readonly among: Phase;
}

/**
 * Small on the wire, so that sending them costs this machine little: what is compared is the decoding. Together the gzip ones are less than
 * the ingressBytes of the image, the zstd ones more: then those who wait for the decode thread leave no room to others.
 */
const bodies = { gzip: () => gzipZeros(100 * MIB), zstd: () => zstdZeros(10 * 1024 * MIB) };

async function flood(http: string, { dir, bomb, connections }: Bombers, seconds: number): Promise<Bombed> {
  const file = join(dir, `bomb.${bomb}`);
  const body = bodies[bomb]();
  writeFileSync(file, body);
  const script = join(packageRoot, 'dist', 'bench', 'lib', 'flood.js');
  const args = [
    `${http}/v1/streams/bomb/records`,
    file,
    'application/octet-stream',
    bomb,
    String(connections),
    String(seconds),
  ];
  const { stdout } = await run(process.execPath, [script, ...args]);
  const { answers, cut } = JSON.parse(stdout) as { answers: Record<string, number>; cut: number };
  return { wireBytes: body.length, answers, cut, decodeRefusals: answers['413'] ?? 0 };
}

export async function beside(
  http: string,
  healthy: { readonly rate: number; readonly connections: number; readonly recordBytes: number },
  seconds: number,
  bombers?: Bombers,
): Promise<Phase> {
  const options = resolveLoadOptions(new Map<string, unknown>(Object.entries({ ...healthy, seconds, target: http })));
  const before = (await statsOf(http)).gateway;
  // The gateway sets both once a second: looked at twice as often, none is missed, and the same pair is the same second.
  const looks = new Map<string, number>();
  const startedMs = performance.now();
  const timer = setInterval(() => {
    // The figure is that of the last whole second: not one from before.
    if (performance.now() - startedMs < 1900) return;
    statsOf(http).then(
      ({ gateway: { eventLoopDelayMs, eventLoopDelayMaxMs } }) =>
        looks.set(`${eventLoopDelayMs} ${eventLoopDelayMaxMs}`, eventLoopDelayMs),
      () => undefined,
    );
  }, 500);
  try {
    const bombing = bombers === undefined ? undefined : flood(http, bombers, seconds);
    const report = await runLoad(options);
    const bombs = await bombing;
    const after = (await statsOf(http)).gateway;
    return {
      p50Ms: report.latencyMs.p50,
      p99Ms: report.latencyMs.p99,
      accepted: report.accepted.records,
      refused: report.refused,
      unanswered: report.unsent + report.unanswered,
      delaysMs: [...looks.values()],
      limit: report.limit,
      verdict: report.verdict,
      refusedDecodedBytes: after.refusedDecodedBytes - before.refusedDecodedBytes,
      bombs,
    };
  } finally {
    clearInterval(timer);
  }
}
