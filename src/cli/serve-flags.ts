// Options and flags of `spillway serve`, apart from what it runs: a command that is not asked for is not loaded.

import type { Command } from 'commander';
import { gatewayOptionTable } from '../base/gateway-options.ts';
import { logOptionTable, type OptionSpec } from '../base/options.ts';
import { addFlags } from './flags.ts';

/**
 * Where `serve` differs from the tables: it runs without being told where, and its window follows sloP99Ms (cli/config.ts), beginning
 * without a linger. What waits is bodies, which ingressBytes bounds.
 */
const serveDefaults = new Map<string, string | number>([
  ['dir', './data'],
  ['window.lingerMs', 0],
  ['window.sloP99Ms', 20],
  ['maxWaitingBytes', 16 * 1024 * 1024],
]);
/** Every option of `serve`, in the order in which it is explained. */
export const serveOptionTable: readonly OptionSpec[] = [
  ...gatewayOptionTable,
  ...logOptionTable.map((spec: OptionSpec) => ({ ...spec, default: serveDefaults.get(spec.name) ?? spec.default })),
];

/** Adds `--config` and a flag for every option of `serve`. */
export function addServeFlags(command: Command): Command {
  command.option('--config <FILE>', 'YAML file with options, by name; SPILLWAY_CONFIG does the same');
  return addFlags(command, serveOptionTable);
}
