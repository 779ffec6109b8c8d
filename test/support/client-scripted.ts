// A test of the framed client against gateways that do what its script says, and that have seen nothing against the protocol.

import t, { type Test } from 'tap';
import { connect } from '../../src/client/connect.ts';
import type { Client } from '../../src/client/client.ts';
import type { ClientOptionsInput } from '../../src/client/options.ts';
import { within } from './log-support.ts';
import { FakeGateway, type Script } from './client-gateway.ts';

export const patient = { connectTimeoutMs: 5_000, giveUpMs: 20_000 };

type Start = (script?: Script, options?: ClientOptionsInput) => Promise<{ gateway: FakeGateway; client: Client }>;

/** A test whose gateways have seen nothing against the protocol. */
export function scripted(name: string, body: (t: Test, start: Start) => Promise<void>): void {
  t.test(name, async (t) => {
    const gateways: FakeGateway[] = [];
    await body(t, async (script = {}, options = patient) => {
      const gateway = await FakeGateway.start(t, script);
      gateways.push(gateway);
      const client = await within(connect(gateway.url, options), 'connected');
      // What still waits by then is given up with the gateway.
      t.teardown(() => void client.close().catch(() => undefined));
      return { gateway, client };
    });
    for (const { violations } of gateways) t.same(violations, [], 'nothing against the protocol');
  });
}

export const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `r${from + i}`);
