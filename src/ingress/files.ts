// The files that the gateway's options name: looked at at the start, and by whoever wants to know whether it would start.

import tls, { type TlsOptions } from 'node:tls';
import { reasonOf, SpillwayError } from '../base/errors.ts';
import type { GatewayOptions } from '../base/gateway-options.ts';
import { HANDSHAKE_TIMEOUT_MS } from '../base/limits.ts';
import { compileSchema } from '../codec/schema.ts';
import { readBounded } from '../platform/bounded-file.ts';
import { checkAbsent } from './arrival-file.ts';
import { Tokens } from './auth.ts';

/** A bundle of every authority there is takes a quarter of it. */
const MAX_PEM_BYTES = 1024 * 1024;

/** @throws INVALID_OPTION naming the file */
export function tlsOf(options: GatewayOptions): TlsOptions | undefined {
  const read = (name: 'tlsCert' | 'tlsKey' | 'tlsClientCa'): Buffer | undefined => {
    const path = options[name];
    if (path === undefined) return undefined;
    try {
      const bytes = readBounded(path, MAX_PEM_BYTES);
      if (bytes !== undefined) return bytes;
      throw new Error(`expected at most ${MAX_PEM_BYTES} bytes`);
    } catch (error) {
      const message = `option '${name}': cannot read ${path}: ${reasonOf(error)}`;
      throw new SpillwayError('INVALID_OPTION', message, { subject: name });
    }
  };
  const cert = read('tlsCert');
  const key = read('tlsKey');
  const ca = read('tlsClientCa');
  if (cert === undefined || key === undefined) return undefined;
  const mutual = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true };
  const made = { cert, key, minVersion: 'TLSv1.2' as const, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, ...mutual };
  try {
    tls.createSecureContext(made);
  } catch (error) {
    throw new SpillwayError('INVALID_OPTION', `options 'tlsCert' and 'tlsKey': ${reasonOf(error)}`, {
      subject: 'tlsCert',
    });
  }
  return made;
}

/** @throws INVALID_OPTION naming the file */
export function checkSchemas({ streams }: GatewayOptions): void {
  for (const { schema } of Object.values(streams)) if (schema !== undefined) compileSchema(schema);
}

/** All of them. @throws INVALID_OPTION naming the file, as a start does */
export function checkFiles(options: GatewayOptions): void {
  checkSchemas(options);
  if (options.tokens !== undefined) void new Tokens(options.tokens);
  tlsOf(options);
  const { recordArrivals: path } = options;
  if (path !== undefined) checkAbsent(path);
}
