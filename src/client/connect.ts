// `connect`: a gateway as if it were the embedded log.

import type { Client } from './client.ts';
import { resolveClientOptions, type ClientOptionsInput } from './options.ts';

/**
 * Connects to a gateway (`spillway serve`); what comes back has the verbs of the log that `open` gives.
 *
 *     const log = await connect('tcp://127.0.0.1:8081')
 *
 * Addresses: tcp://HOST:PORT, tcps://HOST:PORT (TLS), unix:/PATH, http://HOST:PORT, https://HOST:PORT.
 * Rejects with INVALID_OPTION, DISCONNECTED, UNAUTHORIZED, PROTOCOL_ERROR.
 */
export async function connect(url: string, options: ClientOptionsInput = {}): Promise<Client> {
  const checked = resolveClientOptions(url, options);
  // Loaded when they are needed: who embeds the log has no use for node:http or node:tls.
  if (checked.target.kind === 'http') return (await import('./http.ts')).HttpClient.connect(checked);
  return (await import('./framed.ts')).FramedClient.connect(checked);
}
