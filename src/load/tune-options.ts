// Options of `spillway tune`: what it has of its own, and rows of `spillway load` for the arrivals.

import { SpillwayError } from '../base/errors.ts';
import { checkOption, type OptionSpec } from '../base/options.ts';
import { loadOptionTable, resolveLoadOptions, type LoadOptions } from './options.ts';

const own = [
  {
    name: 'sloP99Ms',
    flag: '--slo-p99-ms',
    type: 'number',
    default: undefined,
    min: 0.001,
    max: 60_000,
    sentence: 'Target for the 99th percentile of the time from when a record is due to its acknowledgement.',
  },
  {
    name: 'report',
    flag: '--report',
    type: 'string',
    default: 'off',
    sentence: 'Directory for the report: all windows as JSON, and a heat map; made when missing.',
  },
] as const satisfies readonly OptionSpec[];

const shared = ['rate', 'pattern', 'trace', 'timeScale', 'recordBytes', 'seconds', 'seed', 'dir'] as const;
const MIB = 1024 * 1024;

function sharedRow(name: (typeof shared)[number]): OptionSpec {
  const row: OptionSpec = loadOptionTable.find((spec) => spec.name === name)!;
  if (name === 'dir')
    return { ...row, sentence: 'Directory on the disk to tune for. What is written there is removed again.' };
  // The largest that a log takes by default.
  if (name === 'recordBytes') return { ...row, max: MIB };
  return name === 'rate' ? { ...row, default: 'none', sentence: row.sentence } : row;
}

export const tuneOptionTable: readonly OptionSpec[] = [own[0], ...shared.map(sharedRow), own[1]];

export interface TuneOptions {
  readonly sloP99Ms: number;
  readonly report: string | undefined;
  /** Arrivals and directory. */
  readonly load: LoadOptions;
}

function refuse(name: string, message: string): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': ${message}`, { subject: name });
}

/** Checks values by name, and fills in the defaults. @throws INVALID_OPTION */
export function resolveTuneOptions(given: ReadonlyMap<string, unknown>): TuneOptions {
  if (!given.has('sloP99Ms')) refuse('sloP99Ms', 'is required: a p99 in milliseconds');
  if (!given.has('trace') && !given.has('rate')) refuse('rate', 'expected a rate, or a trace, got neither');
  const checked = new Map<string, unknown>();
  for (const spec of tuneOptionTable) {
    if (given.has(spec.name)) checked.set(spec.name, checkOption(spec, given.get(spec.name)));
  }
  const { sloP99Ms, report, ...arrivals } = Object.fromEntries(checked);
  const pattern = given.has('trace') && !given.has('pattern') ? { pattern: 'trace' } : {};
  return {
    sloP99Ms: sloP99Ms as number,
    report: report === 'off' ? undefined : (report as string | undefined),
    load: resolveLoadOptions(new Map(Object.entries({ ...arrivals, ...pattern, target: 'embedded' }))),
  };
}
