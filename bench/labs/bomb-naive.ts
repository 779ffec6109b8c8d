// The contrast of lab:bomb: a server that calls gunzipSync on what it is sent, within the same memory limit, and one bomb.

import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { Server } from '../lib/children.ts';
import type { MemoryGroup } from '../lib/memory-group.ts';
import { sampleOf, type Sample } from '../lib/resident.ts';
import { gzipZeros } from './bomb-bodies.ts';
import { own, packageRoot } from './frame.ts';

const BOMB_BYTES = 1024 ** 3;
/** Longest that it may live. */
const PATIENCE_MS = 20_000;

export interface Killed {
  /** As a shell sees it. */
  readonly exitCode: number;
  readonly signal: string;
  readonly oomKills: number;
  readonly version: 1 | 2;
  readonly wireBytes: number;
  readonly decodedBytes: number;
  readonly samples: readonly Sample[];
}

export async function killNaive(group: MemoryGroup, sampleMs: number): Promise<Killed> {
  const script = join(packageRoot, 'dist', 'bench', 'labs', 'naive-gunzip.js');
  const server = await Server.start([script], /listening on .*\n/, (c, a) => group.inside(c, a));
  const { child } = server;
  own(child);
  const startedMs = performance.now();
  const samples: Sample[] = [];
  const look = (): void => {
    const now = sampleOf(child.pid!, startedMs);
    if (now !== undefined) samples.push(now);
  };
  look();
  const timer = setInterval(look, sampleMs);
  const patience = setTimeout(() => child.kill('SIGTERM'), PATIENCE_MS);
  try {
    const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    const body = gzipZeros(BOMB_BYTES);
    const url = /http:\S+/.exec(server.text)![0];
    // It is cut while it waits for an answer: that is what is looked at.
    request(url, { method: 'POST', agent: false })
      .on('error', () => undefined)
      .end(body);
    const [code, signal] = await ended;
    const exitCode = code ?? (signal === 'SIGKILL' ? 137 : 1);
    const { oomKills } = group.events();
    const named = signal?.slice(3) ?? 'none';
    return {
      exitCode,
      signal: named,
      oomKills,
      version: group.version,
      wireBytes: body.length,
      decodedBytes: BOMB_BYTES,
      samples,
    };
  } finally {
    clearInterval(timer);
    clearTimeout(patience);
  }
}
