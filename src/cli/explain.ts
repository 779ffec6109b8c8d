// spillway config explain: every option of serve, its value, where that came from, and what it means.

import { resolveGatewayOptions } from '../base/gateway-options.ts';
import { describeOption, formatBytes, resolveLogOptions, type OptionSpec } from '../base/options.ts';
import { checkFiles } from '../ingress/files.ts';
import { memorySum, type MemorySum } from '../ingress/memory.ts';
import { resolveServeConfig, serveOptionTable, variableOf, type Origin, type ServeConfig } from './config.ts';
import { printJson } from './output.ts';

interface Row {
  readonly name: string;
  readonly value: unknown;
  readonly origin: Origin;
  /** Undefined where the option is one of a stream. */
  readonly spec?: OptionSpec;
}

function rowsOf(config: ServeConfig): Row[] {
  const log: Readonly<Record<string, unknown>> = { ...config.log };
  const window: Readonly<Record<string, unknown>> = { ...config.log.window };
  const rows: Row[] = serveOptionTable.map((spec) => {
    const { name } = spec;
    const value = name.startsWith('window.')
      ? window[name.slice('window.'.length)]
      : (log[name] ?? config.gateway[name]);
    // A window that follows an SLO has no linger of its own.
    const shown = name === 'window.lingerMs' && value === undefined ? 'adaptive' : value;
    return { name, value: shown, origin: config.origins.get(name)!, spec };
  });
  const streams = config.gateway['streams'] as Record<string, Record<string, unknown>>;
  for (const [stream, options] of Object.entries(streams)) {
    for (const [key, value] of Object.entries(options)) {
      const name = `streams.${stream}.${key}`;
      rows.push({ name, value, origin: config.origins.get(name)! });
    }
  }
  return rows;
}

function asJson({ name, value, origin, spec }: Row): object {
  const about =
    spec === undefined
      ? {}
      : {
          type: spec.type,
          default: spec.default,
          ...(spec.min === undefined ? {} : { min: spec.min, max: spec.max }),
          ...(spec.choices === undefined ? {} : { choices: spec.choices }),
          flag: spec.flag,
          variable: variableOf(name),
          sentence: spec.sentence,
        };
  return { name, value, origin: origin.kind, where: origin.where, ...about };
}

function asText({ name, value, origin, spec }: Row): string {
  const text = spec?.type === 'bytes' ? formatBytes(value as number) : String(value);
  const head = `${`${name} = ${text}`.padEnd(40)}  ${origin.kind === 'default' ? 'default' : `from ${origin.where}`}\n`;
  if (spec === undefined) return head;
  const { defaultText, bounds } = describeOption(spec);
  const facts = [`default ${defaultText}`, bounds, spec.flag, variableOf(name)].filter((fact) => fact !== '');
  return `${head}    ${spec.sentence} (${facts.join('; ')})\n`;
}

function memoryLine(bytes: number, what: string): string {
  return `${(bytes / 2 ** 20).toFixed(1).padStart(8)} MiB  ${what}\n`;
}

function memoryText({ rows, totalBytes }: MemorySum): string {
  const lines = rows.map((row) => memoryLine(row.bytes, row.what)).join('');
  return `memory, at most\n${lines}${memoryLine(totalBytes, 'together')}`;
}

/** @returns exit status 0 @throws INVALID_OPTION where `serve` would refuse to start with the same flags */
export function explainCommand(parsed: Readonly<Record<string, unknown>>, json: boolean): number {
  const config = resolveServeConfig(parsed);
  const rows = rowsOf(config);
  const gateway = resolveGatewayOptions(config.gateway);
  checkFiles(gateway);
  const memory = memorySum(resolveLogOptions(config.log), gateway);
  if (json) printJson({ options: rows.map(asJson), memory });
  else process.stdout.write(`${rows.map(asText).join('')}\n${memoryText(memory)}`);
  return 0;
}
