// A process lives as long as something waits for its acknowledgement, and not for the client's sake.

import t from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { until, within } from '../support/log-support.ts';
import { FakeGateway, type Arrived } from '../support/client-gateway.ts';
import { FakeHttp } from '../support/client-http.ts';

const script = fileURLToPath(new URL('../support/client-child.js', import.meta.url));

function run(t: { teardown(action: () => unknown): unknown }, url: string, records: number) {
  const child = spawn(process.execPath, [script, url, String(records)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const out = { text: '' };
  child.stdout.on('data', (chunk: Buffer) => (out.text += chunk.toString()));
  const exit = once(child, 'close').then(([code]) => code as number | null);
  return { out, exit };
}

t.test('an idle client over tcp', async (t) => {
  const gateway = await FakeGateway.start(t);
  const { out, exit } = run(t, gateway.url, 0);
  t.equal(await within(exit, 'ended by itself', 10_000), 0);
  t.equal(out.text, 'idle\n');
});

t.test('an idle client that has lost its gateway', async (t) => {
  const gateway = await FakeGateway.start(t, {
    onAppend: (connection, append) => {
      connection.store(append);
      setImmediate(() => connection.cut());
    },
  });
  const { out, exit } = run(t, gateway.url, 3);
  t.equal(await within(exit, 'ended by itself', 10_000), 0);
  t.equal(out.text, 'idle\n0\n1\n2\n');
});

t.test('pending appends keep it alive, also while there is no gateway', async (t) => {
  const held: Arrived[] = [];
  const gateway = await FakeGateway.start(t, { onAppend: (_, append) => void held.push(append) });
  const { port } = gateway;
  const { out, exit } = run(t, gateway.url, 3);
  await until(() => held.length === 1, 'arrived');
  await gateway.stop();
  t.equal(await Promise.race([exit, new Promise((resolve) => setTimeout(resolve, 500, 'alive'))]), 'alive');
  gateway.script = {};
  await gateway.listen(port);
  t.equal(await within(exit, 'ended by itself', 10_000), 0);
  t.equal(out.text, 'idle\n0\n1\n2\n');
});

t.test('http: idle, and with appends under way', async (t) => {
  const gateway = await FakeHttp.start(t);
  const idle = run(t, gateway.url, 0);
  t.equal(await within(idle.exit, 'ended by itself', 10_000), 0);
  const busy = run(t, gateway.url, 3);
  t.equal(await within(busy.exit, 'ended by itself', 10_000), 0);
  t.equal(busy.out.text, 'idle\n0\n1\n2\n');
});
