// What lab compression writes: lines of real logs, where they lie beside the repository, and JSON events from a seed.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/base/clock.ts';
import { packageRoot } from './frame.ts';

const LOGS = join(packageRoot, '..', 'shared', 'data', 'logs');
const SEED = 20_261_122;

export interface Input {
  readonly name: string;
  readonly lines: readonly string[];
}

/**
 * Five systems, their files one behind the other, 1.6 MB: more than the largest batch, so that no batch holds a line twice that stood
 * once in its log.
 */
export function realLogs(): Input | { readonly missing: string } {
  const files = existsSync(LOGS) ? readdirSync(LOGS).filter((name) => name.endsWith('.log')) : [];
  if (files.length === 0)
    return { missing: `no *.log in ${join('..', 'shared', 'data', 'logs')} beside the repository` };
  const lines = files.sort().flatMap((name) => readFileSync(join(LOGS, name), 'latin1').split(/\r?\n/));
  return { name: 'logs', lines: lines.filter((line) => line.trim() !== '') };
}

const services = ['checkout', 'cart', 'search', 'auth', 'billing', 'mail'];
const paths = ['/v1/orders', '/v1/carts/items', '/v1/search', '/v1/login', '/v1/invoices', '/healthz'];

/** Request events: the same keys each time, a few values that come again and again, and a trace id that no two share. */
export function jsonEvents(count: number): Input {
  const random = seededRandom(SEED);
  const below = (n: number): number => Math.floor(random() * n);
  const hex = (digits: number): string => Array.from({ length: digits }, () => below(16).toString(16)).join('');
  let timeMs = 1_790_000_000_000;
  const lines = Array.from({ length: count }, () => {
    timeMs += below(20);
    const which = below(services.length);
    return JSON.stringify({
      time: new Date(timeMs).toISOString(),
      level: below(20) === 0 ? 'warn' : 'info',
      service: services[which],
      trace: hex(32),
      user: below(50_000),
      request: { method: below(3) === 0 ? 'POST' : 'GET', path: paths[which], bytes: below(4000) },
      status: below(25) === 0 ? 500 : 200,
      ms: Math.round(random() ** 3 * 2000) / 10,
    });
  });
  return { name: 'json', lines };
}
