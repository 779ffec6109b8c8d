// Flags of the command line from the one options table.

import { InvalidArgumentError, Option, type Command } from 'commander';
import { checkOption, describeOption, logOptionTable, type LogOptionsInput, type OptionSpec } from '../base/options.ts';
import { SpillwayError } from '../base/errors.ts';

/** commander's name of a flag's value: `--linger-ms` → `lingerMs`. */
function attribute(spec: OptionSpec): string {
  return spec.flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function parse(spec: OptionSpec, text: string): number | string {
  const isNumber = (spec.type === 'integer' || spec.type === 'number') && text.trim() !== '';
  try {
    return checkOption({ ...spec, name: spec.flag }, isNumber ? Number(text) : text);
  } catch (error) {
    throw error instanceof SpillwayError ? new InvalidArgumentError(error.message) : error;
  }
}

const placeholder: Record<OptionSpec['type'], string> = {
  integer: 'N',
  number: 'N',
  bytes: 'SIZE',
  choice: 'MODE',
  string: 'DIR',
};

/** Adds a flag for every option of `open`. */
export function addLogFlags(command: Command): Command {
  for (const spec of logOptionTable as readonly OptionSpec[]) {
    const { defaultText, bounds } = describeOption(spec);
    const facts = [bounds, defaultText === 'required' ? 'required' : `default ${defaultText}`]
      .filter((f) => f !== '')
      .join('; ');
    const option = new Option(
      `${spec.flag} <${placeholder[spec.type]}>`,
      facts === '' ? spec.sentence : `${spec.sentence} (${facts})`,
    );
    option.argParser((text: string) => parse(spec, text));
    command.addOption(option);
  }
  return command;
}

/** What commander parsed, as the options object of `open`. */
export function logOptionsFrom(values: Readonly<Record<string, unknown>>): LogOptionsInput {
  const options: Record<string, unknown> = {};
  const window: Record<string, unknown> = {};
  for (const spec of logOptionTable as readonly OptionSpec[]) {
    const value = values[attribute(spec)];
    if (value === undefined) continue;
    if (spec.name.startsWith('window.')) window[spec.name.slice('window.'.length)] = value;
    else options[spec.name] = value;
  }
  return { ...options, window } as unknown as LogOptionsInput;
}
