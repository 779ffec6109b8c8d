// Options of the gateway beside those of its log: values come from flags, environment and a file (cli/config.ts); each is
// checked here against its row of gateway-option-table.ts, and then all together.

import { isLoopback, parseAddress, type Address } from './address.ts';
import { SpillwayError } from './errors.ts';
import { gatewayOptionTable, shedAgeMsOf, type OverflowPolicy } from './gateway-option-table.ts';
import { MAX_SOCKET_PATH_BYTES } from './limits.ts';
import { checkStreamName } from './names.ts';
import { checkKeys, checkOption, show, type OptionSpec } from './options.ts';

export {
  gatewayOptionTable,
  overflowPolicies,
  shedAgeMsOf,
  windowSloOf,
  type OverflowPolicy,
} from './gateway-option-table.ts';

export type { Address };
export type GatewayOptionName = (typeof gatewayOptionTable)[number]['name'];

/** What one stream has of its own: in the file only, under `streams`. */
export interface StreamOptions {
  readonly overflow?: OverflowPolicy;
  readonly maxBlockMs?: number;
  /** Path of a JSON Schema that every record of the stream must match. */
  readonly schema?: string;
}

/** Checked and complete: structured-cloneable, so that an accept thread gets exactly this. */
export interface GatewayOptions {
  readonly http: Address | undefined;
  readonly tcp: Address | undefined;
  readonly unix: string | undefined;
  readonly acceptThreads: number;
  readonly decodeThreads: number;
  readonly maxConnections: number;
  readonly receiveBufferBytes: number;
  readonly wireBodyBytes: number;
  readonly decodedBodyBytes: number;
  readonly maxRequestRecords: number;
  readonly ingressBytes: number;
  readonly overflow: OverflowPolicy;
  readonly maxBlockMs: number;
  readonly highWater: number;
  readonly lowWater: number;
  readonly sloP99Ms: number;
  readonly shedAgeMs: number;
  readonly rateRecords: number;
  readonly rateBytes: number;
  readonly dedupeMs: number;
  readonly dedupeKeys: number;
  readonly dedupeBytes: number;
  readonly tokens: string | undefined;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsClientCa: string | undefined;
  readonly memoryLimit: number;
  readonly drainMs: number;
  readonly recordArrivals: string | undefined;
  readonly logLevel: string;
  readonly streams: Readonly<Record<string, StreamOptions>>;
}

function refuse(name: string, expected: string, came: unknown): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': expected ${expected}, got ${show(came)}`, {
    subject: name,
  });
}

function checkStreams(given: unknown): Record<string, StreamOptions> {
  if (given === undefined) return {};
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    refuse('streams', 'a table of stream names', given);
  }
  const streams: Record<string, StreamOptions> = {};
  for (const [name, value] of Object.entries(given)) {
    checkStreamName(name);
    const where = `option 'streams.${name}'`;
    checkKeys(value, ['overflow', 'maxBlockMs', 'schema'], where);
    const stream: { -readonly [K in keyof StreamOptions]: StreamOptions[K] } = {};
    for (const key of ['overflow', 'maxBlockMs'] as const) {
      const raw = (value as Record<string, unknown>)[key];
      if (raw === undefined) continue;
      const row: OptionSpec = gatewayOptionTable.find((s) => s.name === key)!;
      const checked = checkOption({ ...row, name: `streams.${name}.${key}` }, raw);
      if (key === 'overflow') stream.overflow = checked as OverflowPolicy;
      else stream.maxBlockMs = checked as number;
    }
    const { schema } = value as { schema?: unknown };
    if (schema !== undefined) {
      if (typeof schema !== 'string' || schema === '') refuse(`streams.${name}.schema`, 'the path of a file', schema);
      stream.schema = schema;
    }
    streams[name] = stream;
  }
  return streams;
}

/**
 * Checks values by name (those of the table, and `streams`) and fills in the defaults.
 * @throws INVALID_OPTION naming the option, what was expected and what came
 */
export function resolveGatewayOptions(given: Readonly<Record<string, unknown>>): GatewayOptions {
  checkKeys(given, [...gatewayOptionTable.map((s) => s.name), 'streams'], 'gateway options');
  const values: Partial<Record<keyof GatewayOptions, unknown>> = { streams: checkStreams(given['streams']) };
  for (const spec of gatewayOptionTable as readonly (OptionSpec & { readonly name: keyof GatewayOptions })[]) {
    const raw = given[spec.name];
    const value = raw === undefined ? spec.default : checkOption(spec, raw);
    values[spec.name] = spec.type === 'string' && value === 'off' ? undefined : value;
  }
  if (given['shedAgeMs'] === undefined) values['shedAgeMs'] = shedAgeMsOf(values['sloP99Ms'] as number);
  for (const name of ['http', 'tcp'] as const) {
    const text = values[name];
    if (text !== undefined) values[name] = parseAddress(name, text as string);
  }
  const options = values as GatewayOptions;
  checkTogether(options);
  return options;
}

/** Bounds that tie options to each other. */
function checkTogether(o: GatewayOptions): void {
  if (o.lowWater >= o.highWater) refuse('lowWater', `less than highWater (${o.highWater})`, o.lowWater);
  if (o.http === undefined && o.tcp === undefined && o.unix === undefined) {
    refuse('http', "an address for at least one of 'http', 'tcp' and 'unix'", 'off');
  }
  // The kernel takes a longer one, and cuts it.
  if (o.unix !== undefined && Buffer.byteLength(o.unix) > MAX_SOCKET_PATH_BYTES) {
    refuse('unix', `a path of at most ${MAX_SOCKET_PATH_BYTES} bytes`, o.unix);
  }
  if ((o.tlsCert === undefined) !== (o.tlsKey === undefined)) {
    refuse(o.tlsKey === undefined ? 'tlsKey' : 'tlsCert', 'both tlsCert and tlsKey, or neither', 'off');
  }
  if (o.tlsClientCa !== undefined && o.tlsCert === undefined)
    refuse('tlsCert', 'a certificate, as tlsClientCa is set', 'off');
  if (o.ingressBytes < o.wireBodyBytes) {
    refuse('ingressBytes', `at least wireBodyBytes (${o.wireBodyBytes})`, o.ingressBytes);
  }
  for (const name of ['http', 'tcp'] as const) {
    const address = o[name];
    if (address === undefined || isLoopback(address.host)) continue;
    if (o.tokens === undefined && o.tlsClientCa === undefined) {
      refuse(name, "a loopback address, or 'tokens' or 'tlsClientCa' beside it", `${address.host}:${address.port}`);
    }
  }
}
