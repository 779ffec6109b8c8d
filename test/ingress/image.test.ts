// The container's settings belong together: its options, the heap caps it starts node with, the limit that its documents name.

import t from 'tap';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { resolveLogOptions } from '../../src/base/options.ts';
import { resolveServeConfig } from '../../src/cli/config.ts';
import { heapCaps, memorySum } from '../../src/ingress/memory.ts';
import { sourceOf } from '../support/platform-root.ts';

const MIB = 2 ** 20;
/** What docker stop waits for before it kills. */
const STOP_MS = 10_000;
/** Anonymous memory of the health check's node: measured 10 MiB. */
const HEALTH_CHECK_MIB = 16;

/** The variables of the one ENV instruction. */
function variables(): Record<string, string> {
  const block = /^ENV ((?:.*\\\n)*.*)$/m.exec(sourceOf('Dockerfile'))![1];
  const pairs = [...block.matchAll(/([A-Z_]+)=(?:"([^"]*)"|(\S+))/g)];
  return Object.fromEntries(pairs.map(([, name, quoted, plain]) => [name, quoted ?? plain]));
}

const all = variables();
const ours = Object.fromEntries(Object.entries(all).filter(([name]) => name.startsWith('SPILLWAY_')));
const config = resolveServeConfig({}, ours);
const log = resolveLogOptions(config.log);
const gateway = resolveGatewayOptions(config.gateway);

t.test('the image sets options that exist, and listens beyond loopback with tokens only', async (t) => {
  t.ok(Object.keys(ours).length >= 5, Object.keys(ours).join());
  t.equal(log.dir, '/data');
  t.match(gateway, { http: { host: '0.0.0.0', port: 8080 }, tcp: { host: '0.0.0.0', port: 8081 } });
  t.equal(gateway.tokens, '/etc/spillway/tokens');
  t.throws(() => resolveServeConfig({}, { ...ours, SPILLWAY_TOKENS: 'off' }), { code: 'INVALID_OPTION' });
});

t.test('the heap caps are those of its options', async (t) => {
  t.strictSame(all['NODE_OPTIONS']!.split(' '), heapCaps(log, gateway).main.flags);
});

t.test('the memory sum and the health check fit into the limit that Dockerfile and compose.yaml name', async (t) => {
  const { totalBytes } = memorySum(log, gateway);
  for (const [file, pattern] of [
    ['Dockerfile', /--memory=(\d+)m/],
    ['compose.yaml', /mem_limit: (\d+)m/],
  ] as const) {
    const limitMiB = Number(pattern.exec(sourceOf(file))?.[1]);
    t.ok(totalBytes / MIB + HEALTH_CHECK_MIB <= limitMiB, `${file}: ${totalBytes / MIB} MiB of ${limitMiB}`);
  }
});

t.test('a drain ends before docker stop kills', async (t) => {
  t.ok(gateway.drainMs <= STOP_MS - 1000, `drainMs ${gateway.drainMs}`);
});
