// Flags of `spillway tune`, apart from what it runs: a command that is not asked for is not loaded.

import type { Command } from 'commander';
import { tuneOptionTable } from '../load/tune-options.ts';
import { addFlags } from './flags.ts';

/** Adds a flag for every option of `spillway tune`. */
export function addTuneFlags(command: Command): Command {
  return addFlags(command, tuneOptionTable);
}
