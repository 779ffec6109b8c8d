// Configuration of `spillway serve`: every option of both tables, from the file, the environment and the flags.
// A flag wins over a variable, a variable over the file, the file over the default. Promises: whatever is written is
// checked, even where something stronger sets the same option; an unknown key or variable is refused with the nearest
// known one; every refusal is one line that begins with where the value came from (`gateway.yaml:3`, `SPILLWAY_HTTP`,
// `--http`) and names the option.

import { SpillwayError } from '../base/errors.ts';
import { gatewayOptionTable, resolveGatewayOptions, shedAgeMsOf, windowSloOf } from '../base/gateway-options.ts';
import { checkStreamName } from '../base/names.ts';
import { resolveLogOptions, show, type LogOptionsInput } from '../base/options.ts';
import { nearest } from '../base/spelling.ts';
import { environment } from '../platform/threads.ts';
import { readConfigFile, type FileEntry } from './config-file.ts';
import { checkText, checkWritten, flagValues, logOptionsOf } from './flags.ts';
import { serveOptionTable } from './serve-flags.ts';

export { addServeFlags, serveOptionTable } from './serve-flags.ts';

export type OriginKind = 'default' | 'file' | 'environment' | 'flag';

/** Where the value of an option comes from. */
export interface Origin {
  readonly kind: OriginKind;
  /** `gateway.yaml:3`, `SPILLWAY_HTTP`, `--http`; of a default, `default`. */
  readonly where: string;
}

export interface ServeConfig {
  /** For `open`: complete. */
  readonly log: LogOptionsInput;
  /** For `resolveGatewayOptions`: complete. */
  readonly gateway: Readonly<Record<string, unknown>>;
  /** By option name; of `streams`, by `streams.NAME.KEY`, those that are set. */
  readonly origins: ReadonlyMap<string, Origin>;
}

const specs = new Map(serveOptionTable.map((spec) => [spec.name, spec]));

const PREFIX = 'SPILLWAY_';
const CONFIG_VARIABLE = 'SPILLWAY_CONFIG';
/** Names with our prefix that are not ours to judge: node-gyp-build's, and those of builds with test hooks. */
const foreignVariable = /^SPILLWAY_(?:PREBUILD|TEST_.*)$/;
/** What Kubernetes and Docker links set in every container beside a service that is called spillway or spillway-…. */
const serviceLink = /^SPILLWAY_(?:\w+_)?(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)$/;
const serviceUrl = /^(?:tcp|udp|sctp):\/\//;

/** `window.maxRecords` → `SPILLWAY_WINDOW_MAX_RECORDS`. */
export function variableOf(name: string): string {
  const snake = name.replaceAll('.', '_').replace(/[A-Z]/g, (letter) => `_${letter}`);
  return PREFIX + snake.toUpperCase();
}

const byVariable = new Map(serveOptionTable.map((spec) => [variableOf(spec.name), spec]));
const streamKeys = ['overflow', 'maxBlockMs', 'schema'];

interface Setting {
  readonly value: unknown;
  readonly origin: Origin;
}

/** Adds where a value came from to whatever refuses it. */
function from<T>(where: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw error instanceof SpillwayError ? refusal(`${where}: ${error.message}`, error.details.subject) : error;
  }
}

function refusal(message: string, subject: string | undefined): SpillwayError {
  return new SpillwayError('INVALID_OPTION', message, subject === undefined ? {} : { subject });
}

/** Letters only: `linger-ms`, `LINGER_MS` and `lingerMs` are one. */
const bare = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** The option meant by an unknown name: one that has it as its flag or last part, else the nearest in spelling. */
function meant(name: string): string | undefined {
  const wanted = bare(name);
  const same = serveOptionTable.find((spec) =>
    [spec.name, spec.flag, spec.name.split('.').at(-1)!].some((known) => bare(known) === wanted),
  );
  return same?.name ?? nearest(name, [...specs.keys(), 'streams', 'window']);
}

function unknown(where: string, what: string, name: string, near: string | undefined): never {
  const hint = near === undefined ? "'spillway config explain' lists all" : `did you mean '${near}'?`;
  throw refusal(`${where}: unknown ${what} ${show(name)}: ${hint}`, name);
}

/** Sets an option of one stream; its value is checked where the whole is. */
function setStreamOption(
  streams: Record<string, Record<string, unknown>>,
  stream: NonNullable<FileEntry['stream']>,
  entry: FileEntry,
  where: string,
): void {
  from(where, () => checkStreamName(stream.name));
  if (!streamKeys.includes(stream.key)) {
    const near = nearest(stream.key, streamKeys);
    unknown(where, 'option', entry.name, near === undefined ? undefined : `streams.${stream.name}.${near}`);
  }
  if (!Object.hasOwn(streams, stream.name)) streams[stream.name] = {};
  streams[stream.name][stream.key] = entry.value;
}

class Settings {
  readonly values = new Map<string, Setting>();
  readonly streams: Record<string, Record<string, unknown>> = {};
  readonly streamOrigins = new Map<string, Origin>();

  addDefaults(): void {
    for (const { name, default: value } of serveOptionTable) {
      this.values.set(name, { value, origin: { kind: 'default', where: 'default' } });
    }
  }

  addFile(path: string): void {
    const lineOf = new Map<string, number>();
    for (const entry of readConfigFile(path)) {
      const where = `${path}:${entry.line}`;
      const origin: Origin = { kind: 'file', where };
      const before = lineOf.get(entry.name);
      if (before !== undefined) {
        throw refusal(`${where}: option '${entry.name}': expected once, it is in line ${before} too`, entry.name);
      }
      lineOf.set(entry.name, entry.line);
      if (entry.stream !== undefined) {
        setStreamOption(this.streams, entry.stream, entry, where);
        this.streamOrigins.set(entry.name, origin);
        continue;
      }
      const spec = specs.get(entry.name);
      if (spec === undefined) unknown(where, 'option', entry.name, meant(entry.name));
      this.values.set(spec.name, { value: from(where, () => checkWritten(spec, entry.value)), origin });
    }
  }

  addEnvironment(variables: Readonly<Record<string, string>>): void {
    for (const [variable, text] of Object.entries(variables)) {
      if (variable === CONFIG_VARIABLE || foreignVariable.test(variable) || serviceLink.test(variable)) continue;
      if (variable.endsWith('_PORT') && serviceUrl.test(text)) continue;
      const spec = byVariable.get(variable);
      if (spec === undefined) {
        const known = [...byVariable.keys(), CONFIG_VARIABLE];
        const option = meant(variable.slice(PREFIX.length));
        const near = option !== undefined && specs.has(option) ? variableOf(option) : nearest(variable, known);
        unknown('environment', 'variable', variable, near);
      }
      const value = from(variable, () => checkText(spec, text));
      this.values.set(spec.name, { value, origin: { kind: 'environment', where: variable } });
    }
  }

  addFlags(parsed: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of flagValues(serveOptionTable, parsed)) {
      this.values.set(name, { value, origin: { kind: 'flag', where: specs.get(name)!.flag } });
    }
  }

  config(): ServeConfig {
    const values = new Map([...this.values].map(([name, setting]) => [name, setting.value]));
    if (this.values.get('shedAgeMs')!.origin.kind === 'default') {
      values.set('shedAgeMs', shedAgeMsOf(values.get('sloP99Ms') as number));
    }
    // The window follows the SLO, unless a linger is stated. An SLO and a linger of the window are refused together, where both are.
    const isStated = (name: string): boolean => this.values.get(name)!.origin.kind !== 'default';
    if (!isStated('window.sloP99Ms')) {
      values.set('window.sloP99Ms', isStated('window.lingerMs') ? 0 : windowSloOf(values.get('sloP99Ms') as number));
    }
    if (!isStated('window.lingerMs') && values.get('window.sloP99Ms') !== 0) values.delete('window.lingerMs');
    const gateway: Record<string, unknown> = { streams: this.streams };
    for (const { name } of gatewayOptionTable) gateway[name] = values.get(name);
    const origins = new Map([...this.values].map(([name, setting]) => [name, setting.origin]));
    for (const [name, origin] of this.streamOrigins) origins.set(name, origin);
    return { log: logOptionsOf(values), gateway, origins };
  }
}

/** What only shows when the options are seen together, with the origin of the one that the message names. */
function checkTogether(config: ServeConfig): void {
  try {
    const log = resolveLogOptions(config.log);
    const { acceptThreads } = resolveGatewayOptions(config.gateway);
    // The log's own lane, and one of each thread that accepts beside it.
    const lanes = acceptThreads === 1 ? 1 : acceptThreads + 1;
    if (log.maxLanes < lanes) {
      throw refusal(
        `option 'maxLanes': expected at least acceptThreads + 1 (${lanes}), got ${log.maxLanes}`,
        'maxLanes',
      );
    }
  } catch (error) {
    const subject = error instanceof SpillwayError ? error.details.subject : undefined;
    const origin = subject === undefined ? undefined : config.origins.get(subject);
    if (!(error instanceof SpillwayError) || origin === undefined) throw error;
    const { message } = error;
    throw refusal(origin.kind === 'default' ? `${message}, its default` : `${origin.where}: ${message}`, subject);
  }
}

/**
 * The configuration that flags, environment and file add up to.
 * @param parsed what commander parsed of `addServeFlags`
 * @throws INVALID_OPTION: one line, with where the value came from and the option
 */
export function resolveServeConfig(
  parsed: Readonly<Record<string, unknown>>,
  variables: Readonly<Record<string, string>> = environment(PREFIX),
): ServeConfig {
  const settings = new Settings();
  settings.addDefaults();
  const path = parsed['config'] ?? variables[CONFIG_VARIABLE];
  if (typeof path === 'string') settings.addFile(path);
  settings.addEnvironment(variables);
  settings.addFlags(parsed);
  const config = settings.config();
  checkTogether(config);
  return config;
}
