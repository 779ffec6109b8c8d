// The memory sum: it grows with every option that costs memory, and is held against the right limit.

import { spawnSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import t from 'tap';
import { SpillwayError } from '../../src/base/errors.ts';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { resolveLogOptions, type LogOptionsInput } from '../../src/base/options.ts';
import { checkMemory, heapCaps, limitOf, memorySum, type MemoryProbe } from '../../src/ingress/memory.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function sum(log: Partial<LogOptionsInput> = {}, gateway: Record<string, unknown> = {}) {
  return memorySum(resolveLogOptions({ dir: 'd', ...log }), resolveGatewayOptions(gateway));
}

t.test('the sum is its rows, and 10 % on top of them', async (t) => {
  const { rows, totalBytes } = sum();
  t.equal(
    totalBytes,
    rows.reduce((total, { bytes }) => total + bytes, 0),
  );
  const slack = rows.at(-1)!;
  t.match(slack.what, /10 %/);
  t.ok(Math.abs(slack.bytes - (totalBytes - slack.bytes) * 0.1) <= 1, 'of all the others');
  t.ok(totalBytes > 256 * MIB && totalBytes < 768 * MIB, `the default is ${Math.round(totalBytes / MIB)} MiB`);
  for (const { what, bytes } of rows) t.ok(Number.isInteger(bytes) && bytes > 0, `${what}: ${bytes}`);
});

t.test('each option that costs memory raises the sum by what it costs, and its row names it', async (t) => {
  const plain = sum().totalBytes;
  const cases: [string, ReturnType<typeof sum>, number][] = [
    ['maxConnections', sum({}, { maxConnections: 2048 }), 1024 * (16 + 8 + 64 + 16 + 64) * 1024],
    ['receiveBufferBytes', sum({}, { receiveBufferBytes: '64KiB' }), 1024 * 2 * 32 * 1024],
    ['ingressBytes', sum({}, { ingressBytes: '64MiB' }), 32 * MIB],
    ['decodedBodyBytes', sum({}, { decodedBodyBytes: '32MiB' }), 2 * 16 * MIB],
    ['laneBytes', sum({ laneBytes: '32MiB' }), 16 * MIB],
    ['window.maxBytes', sum({ window: { maxBytes: '2MiB' } }), 2 * MIB],
    ['maxRecordBytes', sum({ maxRecordBytes: '2MiB' }), 2 * MIB],
    ['maxWaitingBytes', sum({ maxWaitingBytes: '128MiB' }), 64 * MIB],
    ['segmentBytes', sum({ segmentBytes: '512MiB' }), MIB],
    // Scratch and compressor of the commit thread; of a reader the batch that it keeps, and the one that comes out.
    ['codec', sum({ codec: 'gzip' }), 3 * MIB + 4 * MIB],
    ['dedupeKeys', sum({}, { dedupeKeys: 1_000_000 }), 250 * MIB],
    ['recordArrivals', sum({}, { recordArrivals: 'a.csv' }), 3 * 32_768 * 8],
    ['decodeThreads', sum({}, { decodeThreads: 2 }), 2 * MIB + 15 * MIB + 16 * MIB + 8 * MIB],
    ['acceptThreads', sum({}, { acceptThreads: 2 }), 168 * MIB + 20 * MIB + 32 * MIB + 40 * MIB],
  ];
  for (const [option, { rows, totalBytes }, least] of cases) {
    const more = totalBytes - plain;
    t.ok(more >= least * 1.1 - 1, `${option}: ${more} more, at least ${least * 1.1}`);
    t.ok(
      rows.some((row) => row.options.includes(option)),
      `${option}: a row names it`,
    );
  }
  const two = sum({}, { acceptThreads: 2, decodeThreads: 3 });
  const bytesOf = (what: string) => two.rows.find((row) => row.what === what)?.bytes ?? 0;
  t.equal(bytesOf('connections'), 2 * 1024 * 8 * 1024, 'per accept thread');
  const larger = 4 * 2 * 208 * 1024;
  t.equal(
    bytesOf('unread by connections'),
    2 * (1024 * (64 + 16 + 64) * 1024 + larger),
    'the kernel takes twice the buffer',
  );
  t.equal(bytesOf('bodies under way'), 2 * (32 + 4) * MIB, 'and one that grows beside the others');
  t.ok(bytesOf('answers to readers') >= 2 * 6 * MIB, 'the worst text of the largest record, of each accept thread');
  t.equal(bytesOf('worker threads'), (1 + 2 + 6) * 2 * MIB);
  const lanes = bytesOf('lanes') / (16 * MIB);
  t.ok(lanes > 2 && lanes < 2.02, `a lane each: ${lanes}`);
  const bodies = bytesOf('bodies being decoded') / (16 * MIB);
  t.equal(bodies, 2 + 6, 'one more than threads that decode, of each accept thread');
  t.equal(bytesOf('windows of the decode threads'), 6 * 8 * MIB, 'only who decodes has one');
  const schema = sum({}, { streams: { a: { schema: 'a.json' } } }).totalBytes - plain;
  t.equal(Math.round(schema / 1.1 / MIB), 64 + 9, 'records are parsed where a schema asks for it');
  t.ok(sum({}, { tlsCert: 'c', tlsKey: 'k' }).totalBytes > plain, 'encrypted connections take more');
  const compressing = { codec: 'gzip', window: { maxBytes: '2MiB' } } as const;
  const more = sum(compressing).totalBytes - sum({ codec: 'gzip' }).totalBytes;
  t.ok(more >= 6 * MIB * 1.1 - 1, `three staging buffers, the scratch, and two of a reader: ${more}`);
  t.ok(sum({}, { dedupeMs: 0 }).totalBytes < plain, 'nobody remembered, nothing kept');
});

t.test('heap caps: what the process and its workers are told is what V8 takes', async (t) => {
  const caps = heapCaps(resolveLogOptions({ dir: 'd' }), resolveGatewayOptions({}));
  const script = "process.stdout.write(String(require('v8').getHeapStatistics().heap_size_limit))";
  const run = spawnSync(process.execPath, [...caps.main.flags, '-e', script], { encoding: 'utf8', env: {} });
  const limit = Number(run.stdout) / MIB;
  t.ok(limit > 0 && limit <= caps.main.oldMiB + 3 * caps.main.semiMiB, `main: ${limit} MiB ${run.stderr}`);
  for (const name of ['commit', 'accept', 'decode'] as const) {
    const code = `require('worker_threads').parentPort.postMessage(require('v8').getHeapStatistics().heap_size_limit)`;
    const worker = new Worker(code, { eval: true, resourceLimits: caps[name], execArgv: [] });
    const [bytes] = (await once(worker, 'message')) as [number];
    await worker.terminate();
    const { maxOldGenerationSizeMb: old = 0, maxYoungGenerationSizeMb: young = 0 } = caps[name];
    t.ok(bytes / MIB <= old + young && bytes > 0, `${name}: ${bytes / MIB} MiB of ${old + young}`);
  }
});

/** A machine whose files are these. */
function machine(files: Record<string, string>, totalBytes = 8 * GIB): MemoryProbe & { readonly asked: string[] } {
  const asked: string[] = [];
  const read = (path: string): string | undefined => {
    asked.push(path);
    return files[path];
  };
  return { asked, read, totalBytes: () => totalBytes };
}

const v1 = (path: string): string => `12:pids:${path}\n5:cpu,memory,blkio:${path}\n1:name=systemd:${path}\n`;

t.test('the limit: the option, else the tightest group of this process', async (t) => {
  const memoryOf = { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/memory.max': `${GIB}\n` };
  t.strictSame(limitOf(5 * MIB, machine(memoryOf)), { bytes: 5 * MIB, where: 'memoryLimit' }, 'the option wins');
  const cases: [string, Record<string, string>, { bytes: number; where: string } | undefined][] = [
    ['v2, a namespace of its own', memoryOf, { bytes: GIB, where: '/sys/fs/cgroup/memory.max' }],
    ['v2, no limit', { ...memoryOf, '/sys/fs/cgroup/memory.max': 'max\n' }, undefined],
    ['v2, above the memory of the machine', { ...memoryOf, '/sys/fs/cgroup/memory.max': `${9 * GIB}` }, undefined],
    [
      'v2, all of the machine',
      { ...memoryOf, '/sys/fs/cgroup/memory.max': `${8 * GIB}` },
      { bytes: 8 * GIB, where: '/sys/fs/cgroup/memory.max' },
    ],
    [
      'v2, a service in a slice: the slice is tighter',
      {
        '/proc/self/cgroup': '0::/system.slice/spillway.service\n',
        '/sys/fs/cgroup/system.slice/spillway.service/memory.max': String(2 * GIB),
        '/sys/fs/cgroup/system.slice/memory.max': String(GIB),
      },
      { bytes: GIB, where: '/sys/fs/cgroup/system.slice/memory.max' },
    ],
    [
      'v2, the other way round',
      {
        '/proc/self/cgroup': '0::/a/b\n',
        '/sys/fs/cgroup/a/b/memory.max': String(GIB),
        '/sys/fs/cgroup/a/memory.max': String(2 * GIB),
        '/sys/fs/cgroup/memory.max': 'max',
      },
      { bytes: GIB, where: '/sys/fs/cgroup/a/b/memory.max' },
    ],
    [
      'v1, path of the host, only the top is mounted',
      { '/proc/self/cgroup': v1('/docker/4f1'), '/sys/fs/cgroup/memory/memory.limit_in_bytes': `${256 * MIB}\n` },
      { bytes: 256 * MIB, where: '/sys/fs/cgroup/memory/memory.limit_in_bytes' },
    ],
    [
      'v1, no limit',
      { '/proc/self/cgroup': v1('/'), '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n' },
      undefined,
    ],
    [
      'hybrid: version 2 without memory beside version 1 with it',
      {
        '/proc/self/cgroup': `${v1('/x')}0::/y\n`,
        '/sys/fs/cgroup/memory/x/memory.limit_in_bytes': String(GIB),
        '/sys/fs/cgroup/unified/y/cgroup.procs': '',
      },
      { bytes: GIB, where: '/sys/fs/cgroup/memory/x/memory.limit_in_bytes' },
    ],
    [
      'another controller of that path is none of ours',
      { '/proc/self/cgroup': '3:cpu:/a\n', '/sys/fs/cgroup/memory/a/memory.limit_in_bytes': String(GIB) },
      undefined,
    ],
    ['no control groups', {}, undefined],
    ['nonsense', { '/proc/self/cgroup': 'x\n0::\n:::\n', '/sys/fs/cgroup/memory.max': 'soon' }, undefined],
    [
      'outside of the namespace',
      { '/proc/self/cgroup': '0::/../../x\n', '/sys/fs/cgroup/x/memory.max': String(GIB) },
      { bytes: GIB, where: '/sys/fs/cgroup/x/memory.max' },
    ],
  ];
  for (const [name, files, expected] of cases) {
    const probe = machine(files);
    t.strictSame(limitOf(0, probe), expected, name);
    for (const path of probe.asked) t.match(path, /^\/(?:proc\/self\/cgroup|sys\/fs\/cgroup\/(?!.*\.\.).*)$/, name);
  }
  const here = limitOf(0);
  t.ok(here === undefined || here.bytes > 0, 'this machine can be asked');
});

t.test('above the limit: one line with the sum, the limit, and what to turn down', async (t) => {
  const small = sum({}, { maxConnections: 10_000 });
  t.doesNotThrow(() => checkMemory(small, undefined));
  t.doesNotThrow(() => checkMemory(small, { bytes: small.totalBytes, where: 'memoryLimit' }), 'as much is fine');
  try {
    checkMemory(small, { bytes: small.totalBytes - 1, where: '/sys/fs/cgroup/memory.max' });
    t.fail('nothing was thrown');
  } catch (error) {
    const { code, message, details } = error as SpillwayError;
    t.equal(code, 'MEMORY_LIMIT');
    t.equal(details.subject, 'memoryLimit');
    t.notMatch(message, /\n/);
    t.match(message, /add up to \d+ MiB, above the limit of \d+ MiB \(\/sys\/fs\/cgroup\/memory\.max\)/);
    t.match(
      message,
      /largest: unread by connections 1408 MiB \(maxConnections, receiveBufferBytes\); heap of the main thread \d+ MiB \(/,
    );
    t.notMatch(message, /slack/, 'what cannot be turned down is not named');
  }
});
