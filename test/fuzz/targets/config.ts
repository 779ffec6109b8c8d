// What an operator writes: the configuration file, environment variables, values of options, tables of streams.
//
//     kind u8: 0 file, 1 file of one line many times (how often u8, length of its head u8, head, line), 2 value of an option, 3 variables, 4 options as JSON · …

import fc from 'fast-check';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAddress } from '../../../src/base/address.ts';
import { resolveGatewayOptions } from '../../../src/base/gateway-options.ts';
import {
  checkOption,
  formatBytes,
  parseBytes,
  resolveLogOptions,
  type LogOptionsInput,
} from '../../../src/base/options.ts';
import { resolveServeConfig, serveOptionTable } from '../../../src/cli/config.ts';
import { checkText } from '../../../src/cli/flags.ts';
import { bytesOf, must, mustBeALine, outcomeOf, Taker, type Outcome, type Target } from '../target.ts';

/** Of a file of one line many times. It may have 64 KiB; most of such files are slow to parse, and what is quadratic shows before. */
const REPEATED_BYTES = 8 * 1024;
const SLOW_MS = 500;

const dir = mkdtempSync(join(tmpdir(), 'spillway-fuzz-'));
const path = join(dir, 'c.yaml');
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

const prototypes = [Object.prototype, Array.prototype, Function.prototype, String.prototype, Map.prototype];
const shapeOfPrototypes = (): string => prototypes.map((p) => Reflect.ownKeys(p).length).join();
const untouched = shapeOfPrototypes();

function mustName(outcome: Outcome<unknown>): void {
  must(shapeOfPrototypes() === untouched, 'nothing is added to what all objects share');
  if (!('refused' in outcome)) return;
  const { message, details } = outcome.refused;
  mustBeALine(message);
  must(details.subject !== undefined, 'a refusal names what it is about', () => message);
}

function mustBeWithin(value: unknown, name: string): void {
  const spec = serveOptionTable.find((s) => s.name === name);
  if (spec === undefined || typeof value !== 'number') return;
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = spec;
  must(value >= min && value <= max, 'a value lies within its bounds', () => `${name} ${value}`);
}

function tryConfig(variables: Readonly<Record<string, string>>, file: Uint8Array | undefined): void {
  if (file !== undefined) writeFileSync(path, file);
  const parsed = { dir: '/tmp/spillway', ...(file === undefined ? {} : { config: path }) };
  const outcome = outcomeOf(['INVALID_OPTION'], () => resolveServeConfig(parsed, variables));
  mustName(outcome);
  if ('refused' in outcome) return;
  const { gateway, log, origins } = outcome.value;
  for (const [name, value] of Object.entries({ ...gateway, ...log })) mustBeWithin(value, name);
  for (const name of Object.keys(gateway['streams'] as object)) {
    must(/^[A-Za-z0-9][\w.-]{0,199}$/.test(name), 'a stream has a name that is allowed', () => JSON.stringify(name));
  }
  must(
    [...origins.values()].every((o) => o.where !== ''),
    'each value has an origin',
  );
}

/** One line as often as fits, each `#` the number of the line. @param size how much fits: 7 is all there may be, less is half each */
function repeated(size: number, head: Uint8Array, line: Uint8Array): Buffer {
  const text = Buffer.from(line).toString('latin1');
  const parts = [Buffer.from(head)];
  let bytes = head.length;
  for (let n = 0; text !== ''; n++) {
    const next = Buffer.from(text.replaceAll('#', n.toString(36)), 'latin1');
    bytes += next.length;
    if (bytes > REPEATED_BYTES >> (7 - (size & 7))) break;
    parts.push(next);
  }
  return Buffer.concat(parts);
}

function tryValue(spec: (typeof serveOptionTable)[number], text: string): void {
  const outcome = outcomeOf(['INVALID_OPTION'], () => checkText(spec, text));
  mustName(outcome);
  if ('value' in outcome) mustBeWithin(outcome.value, spec.name);
  const bytes = parseBytes(text);
  if (bytes !== undefined) must(bytes >= 0, 'a size is a number', () => `${text} ${bytes}`);
  if (bytes !== undefined && Number.isSafeInteger(bytes)) {
    must(parseBytes(formatBytes(bytes)) === bytes, 'a size is written as it is read', () => formatBytes(bytes));
  }
  const address = outcomeOf(['INVALID_OPTION'], () => parseAddress('http', text));
  mustName(address);
  if ('value' in address && address.value !== undefined) {
    const { host, port } = address.value;
    must(host !== '' && port >= 0 && port <= 65_535, 'an address has a host and a port', () => text);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return;
  }
  mustName(outcomeOf(['INVALID_OPTION'], () => checkOption(spec, json)));
}

function tryOptions(text: string): void {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    return;
  }
  const table = given as Record<string, unknown>;
  mustName(outcomeOf(['INVALID_OPTION', 'INVALID_STREAM'], () => resolveGatewayOptions(table)));
  mustName(outcomeOf(['INVALID_OPTION', 'INVALID_STREAM'], () => resolveGatewayOptions({ streams: given })));
  mustName(outcomeOf(['INVALID_OPTION'], () => resolveLogOptions(given as LogOptionsInput)));
}

function run(input: Uint8Array): void {
  const t = new Taker(input);
  const kind = t.u8() % 5;
  if (kind === 0) return tryConfig({}, t.rest());
  if (kind === 1) return tryConfig({}, repeated(t.u8(), t.take(t.u8()), t.rest()));
  if (kind === 2)
    return tryValue(serveOptionTable[t.u8() % serveOptionTable.length], Buffer.from(t.rest()).toString('utf8'));
  const text = Buffer.from(t.rest()).toString('utf8');
  if (kind === 4) return tryOptions(text);
  const pairs = text.split('\0').map((pair) => pair.split('=', 2) as [string, string?]);
  tryConfig(Object.fromEntries(pairs.map(([name, value = '']) => [`SPILLWAY_${name}`, value])), undefined);
}

const optionNames = serveOptionTable.map((s) => s.name);
const name = fc.oneof(
  fc.constantFrom(...optionNames),
  fc.constantFrom('streams', 'window', '__proto__', 'constructor'),
  fc.string(),
);
const number = fc.oneof(fc.nat(), fc.integer(), fc.double()).map(String);
const size = fc
  .tuple(fc.nat(5000), fc.constantFrom('', 'B', 'KiB', 'MiB', 'GiB', 'kb', '%', 'ms', 's'))
  .map(([n, u]) => `${n}${u}`);
const address = fc
  .oneof(
    fc.ipV4(),
    fc.ipV6().map((ip) => `[${ip}]`),
    fc.domain(),
  )
  .chain((h) => fc.nat(70_000).map((p) => `${h}:${p}`));
const text = fc.oneof(
  number,
  size,
  address,
  fc.constantFrom('off', 'block', 'drop-newest', 'true', '~', '*a', '&a 1'),
  fc.string(),
);
const stream = fc.oneof(fc.constantFrom('orders', 'a.b', '__proto__', 'toString'), fc.string());
const streamTable = fc.dictionary(
  stream,
  fc.oneof(
    fc.record(
      { overflow: fc.constantFrom('block', 'x'), maxBlockMs: fc.integer(), schema: fc.string() },
      { requiredKeys: [] },
    ),
    fc.jsonValue(),
  ),
  { maxKeys: 3 },
);
const yaml = fc.oneof(
  fc.array(fc.tuple(name, text)).map((list) => list.map(([n, v]) => `${n}: ${v}\n`).join('')),
  streamTable.map((streams) => JSON.stringify({ streams })),
  streamTable.map((table) =>
    Object.keys(table)
      .map((s) => `streams.${s}.overflow: block\n`)
      .join(''),
  ),
  fc.constantFrom(
    'window:\n  maxRecords: 5\n  lingerMs: 1\nhttp: 127.0.0.1:1\n',
    'a: &x\n  b: *x\n',
    '%YAML 1.2\n---\n{}\n',
  ),
);
const of = (kind: number, body: string): Buffer => Buffer.concat([Buffer.of(kind), Buffer.from(body)]);
const lines = fc.constantFrom(
  'k#: *a\n',
  '? ',
  '[',
  '{a: ',
  '- ',
  '&# ',
  'a#: &b# 1\n',
  '"\\n',
  'k#:\n',
  '# x\n',
  'streams.s#.overflow: block\n',
);

export const config: Target = {
  name: 'config',
  promise: 'what an operator writes is taken within its bounds or refused in one line that names it, in bounded time',
  maxBytes: 1024,
  quick: 8000,
  slowMs: SLOW_MS,
  leastCovered: 250,
  dictionary: bytesOf(
    ...optionNames.slice(0, 40),
    'streams',
    ': ',
    '\n  ',
    '&a ',
    '*a',
    '<<: ',
    '__proto__',
    '[1]:80',
    'off',
    '1KiB',
    '---\n',
    '%YAML 1.2\n',
    '!!str ',
    '!x ',
    '? ',
    '- ',
    '|\n ',
    '>',
    '"',
    "'",
    '#',
    '{',
    '}',
    '[',
    ']',
    ',',
    '=',
    '\0',
  ),
  structured: fc.oneof(
    yaml.map((y) => of(0, y)),
    // Mostly short ones: they cover what long ones do, so that those are not what is changed further.
    fc
      .tuple(fc.constantFrom(0, 0, 0, 0, 1, 2, 7), lines)
      .map(([size, line]) => Buffer.concat([Buffer.of(1, size, 8), Buffer.from('x: &a 1\n'), Buffer.from(line)])),
    fc.tuple(fc.nat(255), text).map(([spec, v]) => Buffer.concat([Buffer.of(2, spec), Buffer.from(v)])),
    fc
      .array(fc.tuple(fc.constantFrom('HTTP', 'DIR', 'WINDOW_MAX_RECORDS', 'SEGMENT_BYTES', 'X_PORT'), text), {
        maxLength: 4,
      })
      .map((list) => of(3, list.map(([n, v]) => `${n}=${v}`).join('\0'))),
    streamTable.map((table) => of(4, JSON.stringify(table))),
    fc.dictionary(name, fc.jsonValue(), { maxKeys: 4 }).map((table) => of(4, JSON.stringify(table))),
  ),
  run,
};
