// Options of `spillway load`, in the manner of the one table. Bounded in time and in count, whatever is asked for.

import { SpillwayError } from '../base/errors.ts';
import { checkStreamName } from '../base/names.ts';
import { checkOption, show, type OptionSpec } from '../base/options.ts';
import { arrivalPatterns, type ArrivalPattern } from './arrivals.ts';

const MIB = 1024 * 1024;
/** Requests of one run. */
export const MAX_ARRIVALS = 100_000_000;
/** Bytes of one request. */
const MAX_REQUEST_BYTES = 64 * MIB;

export const loadOptionTable = [
  {
    name: 'target',
    flag: '--target',
    type: 'string',
    default: undefined,
    sentence:
      'Where records go: http(s)://HOST:PORT, tcp(s)://HOST:PORT, unix:PATH, or embedded for a log in this process. A certificate of your own authority needs NODE_EXTRA_CA_CERTS.',
  },
  {
    name: 'rate',
    flag: '--rate',
    type: 'number',
    default: 100,
    min: 0.001,
    max: 10_000_000,
    sentence: 'Records per second on average; a trace has its own.',
  },
  {
    name: 'pattern',
    flag: '--pattern',
    type: 'choice',
    default: 'constant',
    choices: arrivalPatterns,
    sentence: 'How requests arrive: evenly, independently, in bursts of five times the rate, or as they once did.',
  },
  {
    name: 'trace',
    flag: '--trace',
    type: 'string',
    default: 'off',
    sentence: 'CSV file with a column of times, for pattern trace: a row is a request.',
  },
  {
    name: 'timeScale',
    flag: '--time-scale',
    type: 'number',
    default: 1,
    min: 0.001,
    max: 1_000_000,
    sentence: 'How many times as fast a trace is played.',
  },
  {
    name: 'recordBytes',
    flag: '--record-bytes',
    type: 'bytes',
    default: 256,
    min: 1,
    max: 16 * MIB,
    sentence: 'Bytes of each record: letters and digits.',
  },
  {
    name: 'perRequest',
    flag: '--per-request',
    type: 'integer',
    default: 1,
    min: 1,
    max: 1_000_000,
    sentence: 'Records of one request: 1 is sent as bytes, more as NDJSON.',
  },
  {
    name: 'connections',
    flag: '--connections',
    type: 'integer',
    default: 64,
    min: 1,
    max: 16_384,
    sentence: 'Connections at most; over HTTP each carries one request at a time.',
  },
  {
    name: 'seconds',
    flag: '--seconds',
    type: 'number',
    default: 10,
    min: 0.001,
    max: 86_400,
    sentence: 'How long requests are offered; a shorter trace ends before.',
  },
  {
    name: 'stream',
    flag: '--stream',
    type: 'string',
    default: 'load',
    sentence: 'Stream to file the records under.',
  },
  {
    name: 'seed',
    flag: '--seed',
    type: 'integer',
    default: 1,
    min: 0,
    max: 4_294_967_295,
    sentence: 'The same seed gives the same arrivals and the same records.',
  },
  {
    name: 'token',
    flag: '--token',
    type: 'string',
    default: 'off',
    sentence: 'Token to show, or off.',
  },
  {
    name: 'dir',
    flag: '--dir',
    type: 'string',
    default: './data',
    sentence: 'Directory of the log, for target embedded.',
  },
] as const satisfies readonly OptionSpec[];

export interface LoadOptions {
  readonly target: string;
  /** Records per second. */
  readonly rate: number;
  readonly pattern: ArrivalPattern;
  readonly trace: string | undefined;
  readonly timeScale: number;
  readonly recordBytes: number;
  readonly perRequest: number;
  readonly connections: number;
  readonly seconds: number;
  readonly stream: string;
  readonly seed: number;
  readonly token: string | undefined;
  readonly dir: string;
}

function refuse(name: string, expected: string, came: unknown): never {
  throw new SpillwayError('INVALID_OPTION', `option '${name}': expected ${expected}, got ${show(came)}`, {
    subject: name,
  });
}

/** Checks values by name, and fills in the defaults. @throws INVALID_OPTION, INVALID_STREAM */
export function resolveLoadOptions(given: ReadonlyMap<string, unknown>): LoadOptions {
  const values: Partial<Record<keyof LoadOptions, unknown>> = {};
  for (const spec of loadOptionTable as readonly (OptionSpec & { readonly name: keyof LoadOptions })[]) {
    const raw = given.get(spec.name);
    const value = raw === undefined && spec.default !== undefined ? spec.default : checkOption(spec, raw);
    values[spec.name] = spec.type === 'string' && value === 'off' ? undefined : value;
  }
  const options = values as LoadOptions;
  checkStreamName(options.stream);
  if (options.target === undefined) refuse('target', 'a place to send records to', 'off');
  if ((options.pattern === 'trace') !== (options.trace !== undefined)) {
    if (options.trace === undefined) refuse('trace', 'a file, as the pattern is trace', 'off');
    refuse('pattern', "'trace', as there is a trace", options.pattern);
  }
  const requests = (options.rate / options.perRequest) * options.seconds;
  if (options.pattern !== 'trace' && requests > MAX_ARRIVALS) {
    refuse('seconds', `at most ${MAX_ARRIVALS} requests in all`, Math.round(requests));
  }
  if (options.perRequest * (options.recordBytes + 1) > MAX_REQUEST_BYTES) {
    refuse('perRequest', `requests of at most ${MAX_REQUEST_BYTES} bytes`, options.perRequest);
  }
  return options;
}
