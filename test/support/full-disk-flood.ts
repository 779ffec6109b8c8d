// Child of test/proof/full-disk.ts: appends at full speed inside a memory cgroup, for a number of seconds and until
// so many bytes are written, with default options but for the retention that keeps its disk small. argv: dir, io, seconds,
// bytes. Prints what it did and how large it was.

import { readFileSync } from 'node:fs';
import { open, type LogOptionsInput } from '../../src/index.ts';

const [dir, io, seconds, bytes] = process.argv.slice(2);
const GROUP_RECORDS = 500;
const UNDER_WAY = 64;

function residentMiB(): { all: number; anonymous: number } {
  const status = readFileSync('/proc/self/status', 'latin1');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024;
  return { all: of('VmRSS'), anonymous: of('RssAnon') + of('RssShmem') };
}

const log = await open({
  dir,
  io: io as NonNullable<LogOptionsInput['io']>,
  retentionBytes: '192MiB',
  window: { lingerMs: 0 },
});
const payloads = Array.from({ length: GROUP_RECORDS }, (_, i) => Buffer.alloc(256, i));
const underWay: Promise<unknown>[] = [];
const most = { all: 0, anonymous: 0 };
const endsAt = performance.now() + Number(seconds) * 1000;
for (let g = 0; performance.now() < endsAt || log.stats().diskBytes < Number(bytes); g++) {
  await underWay[g % UNDER_WAY];
  underWay[g % UNDER_WAY] = log.appendMany('flood', payloads);
  if (g % 16 !== 0) continue;
  const { all, anonymous } = residentMiB();
  most.all = Math.max(most.all, all);
  most.anonymous = Math.max(most.anonymous, anonymous);
}
await Promise.all(underWay);
const { durableOffset, diskBytes, io: mode } = log.stats();
await log.close();
process.stdout.write(
  JSON.stringify({ mode, durableOffset, diskBytes, rssMiB: most.all, anonymousMiB: most.anonymous }),
);
