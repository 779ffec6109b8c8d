// Addresses of listeners, as text in options.

import { isIPv4 } from 'node:net';
import { SpillwayError } from './errors.ts';
import { show } from './options.ts';

/** Where a listener listens; undefined is off. */
export interface Address {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
}

/** `'127.0.0.1:8080'`, `'[::1]:8080'` or `'off'`. @throws INVALID_OPTION */
export function parseAddress(name: string, text: string): Address | undefined {
  if (text === 'off') return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    const message = `option '${name}': expected an address and port such as 127.0.0.1:8080, or 'off', got ${show(text)}`;
    throw new SpillwayError('INVALID_OPTION', message, { subject: name });
  }
  return { host: match[1] ?? match[2], port };
}

export function isLoopback(host: string): boolean {
  // A name such as 127.example.org may lead anywhere.
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}
