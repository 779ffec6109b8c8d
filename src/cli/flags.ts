// Flags of the command line from the tables of options, and the one way a value that a person wrote is read.

import { InvalidArgumentError, Option, type Command } from 'commander';
import { checkOption, describeOption, logOptionTable, type LogOptionsInput, type OptionSpec } from '../base/options.ts';
import { SpillwayError } from '../base/errors.ts';

/** commander's name of a flag's value: `--linger-ms` → `lingerMs`. */
function attribute(spec: OptionSpec): string {
  return spec.flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

const msOf: Record<string, number> = {
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  sec: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** What a value in another unit would be in the option's own; empty where it does not look like one. */
function unitHint(spec: OptionSpec, value: unknown): string {
  const match = typeof value === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([%a-zµ]+)\s*$/i.exec(value) : null;
  if (match === null) return '';
  const number = Number(match[1]);
  const unit = match[2].toLowerCase();
  if (spec.name.endsWith('Ms') || spec.flag.endsWith('-ms')) {
    return Object.hasOwn(msOf, unit) ? `: in milliseconds that is ${number * msOf[unit]}` : '';
  }
  if (spec.type === 'bytes' && /^[kmg]i?$/.test(unit)) return `: did you mean '${number}${unit[0].toUpperCase()}iB'?`;
  if (spec.type === 'number' && spec.max === 1 && unit === '%') return `: as a fraction that is ${number / 100}`;
  return '';
}

/** Checks a value of a file. @throws INVALID_OPTION, which helps with a wrong unit */
export function checkWritten(spec: OptionSpec, value: unknown): number | string {
  try {
    return checkOption(spec, value);
  } catch (error) {
    const hint = unitHint(spec, value);
    if (!(error instanceof SpillwayError) || hint === '') throw error;
    throw new SpillwayError(error.code, error.message + hint, error.details);
  }
}

/** Checks the text of a flag or a variable. @throws INVALID_OPTION */
export function checkText(spec: OptionSpec, text: string): number | string {
  const isNumber = (spec.type === 'integer' || spec.type === 'number') && text.trim() !== '';
  const number = isNumber ? Number(text) : NaN;
  return checkWritten(spec, Number.isFinite(number) ? number : text);
}

function parse(spec: OptionSpec, text: string): number | string {
  try {
    return checkText({ ...spec, name: spec.flag }, text);
  } catch (error) {
    throw error instanceof SpillwayError ? new InvalidArgumentError(error.message) : error;
  }
}

const placeholder: Record<OptionSpec['type'], string> = {
  integer: 'N',
  number: 'N',
  bytes: 'SIZE',
  choice: 'MODE',
  string: 'FILE',
};
/** Texts that are no files. */
const placeholderOf: Readonly<Record<string, string>> = {
  dir: 'DIR',
  http: 'HOST:PORT',
  report: 'DIR',
  tcp: 'HOST:PORT',
  token: 'TOKEN',
};

/** Adds a flag for every option of a table. None has a default here: what is not given stays undefined. */
export function addFlags(command: Command, table: readonly OptionSpec[]): Command {
  for (const spec of table) {
    const { defaultText, bounds } = describeOption(spec);
    const facts = [bounds, defaultText === 'required' ? 'required' : `default ${defaultText}`]
      .filter((f) => f !== '')
      .join('; ');
    const option = new Option(
      `${spec.flag} <${placeholderOf[spec.name] ?? placeholder[spec.type]}>`,
      facts === '' ? spec.sentence : `${spec.sentence} (${facts})`,
    );
    option.argParser((text: string) => parse(spec, text));
    command.addOption(option);
  }
  return command;
}

/** Adds a flag for every option of `open`. */
export function addLogFlags(command: Command): Command {
  return addFlags(command, logOptionTable);
}

/** What commander parsed, by option name. */
export function flagValues(
  table: readonly OptionSpec[],
  parsed: Readonly<Record<string, unknown>>,
): Map<string, unknown> {
  const given = table.map((spec) => [spec.name, parsed[attribute(spec)]] as const);
  return new Map(given.filter(([, value]) => value !== undefined));
}

/** Values by option name, as the options object of `open`. */
export function logOptionsOf(values: ReadonlyMap<string, unknown>): LogOptionsInput {
  const options: Record<string, unknown> = {};
  const window: Record<string, unknown> = {};
  for (const { name } of logOptionTable) {
    const value = values.get(name);
    if (value === undefined) continue;
    if (name.startsWith('window.')) window[name.slice('window.'.length)] = value;
    else options[name] = value;
  }
  return { ...options, window } as LogOptionsInput;
}

/** What commander parsed, as the options object of `open`. */
export function logOptionsFrom(parsed: Readonly<Record<string, unknown>>): LogOptionsInput {
  return logOptionsOf(flagValues(logOptionTable, parsed));
}
