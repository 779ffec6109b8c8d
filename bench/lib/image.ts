// The settings of the image, read from the Dockerfile: what a bench runs outside of Docker is what the image runs.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { resolveLogOptions } from '../../src/base/options.ts';
import { resolveServeConfig } from '../../src/cli/config.ts';
import { heapCaps } from '../../src/ingress/memory.ts';
import { startGateway, type Gateway } from './children.ts';
import type { MemoryGroup } from './memory-group.ts';

/** What does not belong into a sandbox: where it listens and stores. */
const OURS = /^SPILLWAY_(?:DIR|HTTP|TCP|TOKENS|DRAIN_MS)$/;

/** Variables of the image that begin with a prefix. */
export function ofImage(root: string, prefix: string): Record<string, string> {
  const env = /^ENV ((?:.*\\\n)*.*)$/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))![1];
  const pairs = [...env.matchAll(/([A-Z_]+)=(\S+)/g)].filter(([, name]) => name.startsWith(prefix) && !OURS.test(name));
  return Object.fromEntries(pairs.map(([, name, value]) => [name, value]));
}

/**
 * The gateway within a memory limit, with variables as settings, the heap caps that belong to them, and malloc as the image has it.
 * @param node another node than the running one
 */
export async function startInGroup(
  root: string,
  dir: string,
  group: MemoryGroup,
  settings: Readonly<Record<string, string>>,
  more: readonly string[],
  node?: string,
): Promise<Gateway> {
  const config = resolveServeConfig({}, settings);
  const { flags } = heapCaps(resolveLogOptions(config.log), resolveGatewayOptions(config.gateway)).main;
  const own = Object.entries(settings).flatMap(([variable, value]) => [
    `--${variable.slice('SPILLWAY_'.length).toLowerCase().replaceAll('_', '-')}`,
    value,
  ]);
  const malloc = Object.entries(ofImage(root, 'MALLOC_')).map(([variable, value]) => `${variable}=${value}`);
  const inside = (command: string, args: readonly string[]): [string, string[]] =>
    group.inside('env', [...malloc, node ?? command, ...args]);
  return startGateway(root, dir, [...own, ...more], flags, inside);
}
