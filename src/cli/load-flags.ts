// Flags of `spillway load`, apart from what it runs: a command that is not asked for is not loaded.

import type { Command } from 'commander';
import { loadOptionTable } from '../load/options.ts';
import { addFlags } from './flags.ts';

/** Adds a flag for every option of `spillway load`. */
export function addLoadFlags(command: Command): Command {
  return addFlags(command, loadOptionTable);
}
