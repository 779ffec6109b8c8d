// Flags of `spillway top`, apart from what it runs: a command that is not asked for is not loaded.

import type { Command } from 'commander';
import { SpillwayError } from '../base/errors.ts';
import { checkOption, show, type OptionSpec } from '../base/options.ts';
import { addFlags, flagValues } from './flags.ts';

export const DEFAULT_TOP_URL = 'http://127.0.0.1:8080';

const topOptionTable = [
  {
    name: 'intervalMs',
    flag: '--interval-ms',
    type: 'integer',
    default: 1000,
    min: 100,
    max: 60_000,
    sentence: 'Time between two looks: rates and quantiles are of what came between them.',
  },
  {
    name: 'sloP99Ms',
    flag: '--slo-p99-ms',
    type: 'number',
    default: 0,
    min: 0,
    max: 600_000,
    sentence: "What the p99 from append to durable is held against; 0 the gateway's own.",
  },
  {
    name: 'token',
    flag: '--token',
    type: 'string',
    default: 'off',
    sentence: 'Token to show, or off.',
  },
] as const satisfies readonly OptionSpec[];

export interface TopOptions {
  /** Where the gateway is: scheme, host and port. */
  readonly origin: string;
  readonly intervalMs: number;
  /** 0: the gateway's own. */
  readonly sloP99Ms: number;
  readonly token: string | undefined;
}

/** Adds a flag for every option of `spillway top`. */
export function addTopFlags(command: Command): Command {
  return addFlags(command, topOptionTable);
}

/** @throws INVALID_OPTION */
export function topOptionsFrom(url: string, parsed: Readonly<Record<string, unknown>>): TopOptions {
  const at = URL.canParse(url) ? new URL(url) : undefined;
  const isPlain = at !== undefined && at.pathname === '/' && at.search === '' && at.hash === '' && at.username === '';
  if (!isPlain || !['http:', 'https:'].includes(at.protocol)) {
    const message = `URL: expected http://HOST:PORT or https://HOST:PORT of a gateway, got ${show(url)}`;
    throw new SpillwayError('INVALID_OPTION', message, { subject: 'url' });
  }
  const given = flagValues(topOptionTable, parsed);
  const value = (spec: OptionSpec): number | string => checkOption(spec, given.get(spec.name) ?? spec.default);
  const [intervalMs, sloP99Ms, token] = topOptionTable.map(value);
  return {
    origin: at.origin,
    intervalMs: intervalMs as number,
    sloP99Ms: sloP99Ms as number,
    token: token === 'off' ? undefined : (token as string),
  };
}
