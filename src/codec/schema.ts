// The JSON Schema of a stream (ajv). A record is parsed to be checked, and the result thrown away: what is stored are its bytes.
//
// Promises:
//   - a schema is read and compiled once per thread and path; a change of the file is seen after a restart;
//   - a schema that cannot be used is refused with its file's name: not JSON, unknown keywords or formats, references to elsewhere;
//   - a record cannot reach beyond itself: it is merged into nothing, `__proto__` is a key like others, and only its own keys
//     count as present.
// Drafts: 2020-12 (also where `$schema` is missing), 2019-09, 7. `format` needs a package that is not here: it is refused.
// Limits: MAX_SCHEMA_BYTES a file. Parsing takes up to DECODE_HEAP_PER_RECORD_BYTE bytes of heap per byte of one record.
// A schema's `pattern` or `uniqueItems` may take any time: it runs on a thread that can be ended (ingress/decode-pool.ts).

import type { Options, ValidateFunction } from 'ajv';
import { isUtf8 } from 'node:buffer';
import { createRequire } from 'node:module';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import { MAX_SCHEMA_BYTES } from '../base/limits.ts';
import { show } from '../base/options.ts';
import { readBounded } from '../platform/bounded-file.ts';
import { scanJson } from './json-scan.ts';

export type Schema = ValidateFunction;

/** Why a record is refused. */
export interface Refused {
  readonly code: 'INVALID_JSON' | 'SCHEMA_MISMATCH';
  readonly message: string;
}

/** Entry of ajv for each draft; the first is for schemas that name none. */
const drafts: readonly (readonly [pattern: RegExp, module: string])[] = [
  [/^https?:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/, 'ajv/dist/2020.js'],
  [/^https?:\/\/json-schema\.org\/draft\/2019-09\/schema#?$/, 'ajv/dist/2019.js'],
  [/^https?:\/\/json-schema\.org\/draft-07\/schema#?$/, 'ajv'],
];

const ajvOptions: Options = {
  // A misspelt keyword would check nothing. The other strict rules are matters of taste.
  strict: true,
  strictTypes: false,
  strictTuples: false,
  strictRequired: false,
  // Else `required: ['constructor']` is always there.
  ownProperties: true,
  logger: false,
};

// Loaded on first use: most threads never check a schema.
const require = createRequire(import.meta.url);
type AjvClass = new (options: Options) => { compile(schema: object | boolean): ValidateFunction };

/** Bounded by the paths that the options name. */
const compiled = new Map<string, Schema>();

function unusable(path: string, reason: string): SpillwayError {
  return new SpillwayError('INVALID_OPTION', `schema ${path}: ${reason}`, { subject: path });
}

function readSchema(path: string): unknown {
  const bytes = readBounded(path, MAX_SCHEMA_BYTES);
  if (bytes === undefined) throw new Error(`expected at most ${MAX_SCHEMA_BYTES} bytes`);
  return JSON.parse(bytes.toString());
}

function compile(path: string): Schema {
  const schema = readSchema(path);
  if ((typeof schema !== 'object' || schema === null || Array.isArray(schema)) && typeof schema !== 'boolean') {
    throw new Error(`expected an object, true or false, got ${show(schema)}`);
  }
  const draft: unknown = typeof schema === 'object' ? (schema as { $schema?: unknown }).$schema : undefined;
  const entry =
    draft === undefined ? drafts[0] : drafts.find(([pattern]) => typeof draft === 'string' && pattern.test(draft));
  if (entry === undefined) throw new Error(`expected $schema to be draft 2020-12, 2019-09 or 7, got ${show(draft)}`);
  const { default: Ajv } = require(entry[1]) as { default: AjvClass };
  const validate = new Ajv(ajvOptions).compile(schema);
  // It would answer with a promise, which is always true.
  if ('$async' in validate) throw new Error('expected a schema without $async');
  return validate;
}

/** The schema of a file, compiled. @throws INVALID_OPTION naming the file */
export function compileSchema(path: string): Schema {
  let schema = compiled.get(path);
  if (schema === undefined) {
    try {
      schema = compile(path);
    } catch (error) {
      throw unusable(path, reasonOf(error).split('\n')[0]);
    }
    compiled.set(path, schema);
  }
  return schema;
}

/** @returns why the record is refused; undefined where it matches */
export function checkRecord(schema: Schema, record: Uint8Array): Refused | undefined {
  if (!isUtf8(record)) return { code: 'INVALID_JSON', message: 'expected UTF-8, got other bytes' };
  const bytes = Buffer.from(record.buffer, record.byteOffset, record.length);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString());
  } catch (error) {
    return { code: 'INVALID_JSON', message: whyInvalid(bytes) ?? reasonOf(error) };
  }
  try {
    if (schema(value)) return undefined;
  } catch (error) {
    // A recursive schema follows a record as deep as it goes.
    if (error instanceof RangeError) return { code: 'SCHEMA_MISMATCH', message: 'nested too deep to be checked' };
    throw error;
  }
  const [{ instancePath, message = 'does not match' }] = schema.errors!;
  return { code: 'SCHEMA_MISMATCH', message: `${instancePath === '' ? 'it' : show(instancePath)} ${message}` };
}

/** The same refusal with a byte position, in our words. */
function whyInvalid(record: Uint8Array): string | undefined {
  try {
    scanJson(record, () => undefined);
    return undefined;
  } catch (error) {
    return `${reasonOf(error)}, counted from its beginning`;
  }
}
