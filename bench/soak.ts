// soak — minutes of twice what it can take: the gateway with the settings of the image in a memory cgroup of 256 MiB, an open-loop
// generator that offers 2 × the rate it was just measured to accept, in records of 256 bytes, one per request. Its policy is block:
// a connection waits for its answer, so what is offered beyond what is accepted waits with the client and is never sent. That the
// gateway was overloaded is therefore judged by how long it held what reached it: at least twice as long as at half the rate it
// accepts; or by what it refused. Judged too: nothing is killed, resident memory stays below 85 % of the limit and does not rise after minute 2, every request has an answer, and what
// was accepted is what can be read: no record more, none less.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LoadReport } from '../src/load/report.ts';
import { verify } from '../src/log/verify.ts';
import { readerIo } from '../src/platform/choose-io.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { BenchError } from './lib/experiment.ts';
import { statsOf } from './lib/children.ts';
import { ofImage, startInGroup } from './lib/image.ts';
import { MemoryGroup } from './lib/memory-group.ts';
import { sampleOf, slopePerMinute, type Sample } from './lib/resident.ts';
import { ownLimit } from './lib/verdict.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const LIMIT_MIB = 256;
const RSS_SHARE = 0.85;
const SLOPE_TARGET = 1;
const OVERLOAD = 2;
/** Share of what it accepts that it carries with ease. */
const CALM = 0.5;
/** How many times as long a request is held under overload as when it is calm. */
const HELD_TIMES = 2;
const CONNECTIONS = 100;
const RECORD_BYTES = 256;
const SAMPLE_MS = 1000;
/** More than anything here accepts: what is accepted then is the capacity. */
const FLOOD_RATE = 200_000;
const MINUTES = 10;

/** The generator, as a process of its own. */
async function load(root: string, target: string, rate: number, seconds: number): Promise<LoadReport> {
  const main = join(root, 'dist', 'src', 'cli', 'main.js');
  const what = ['--record-bytes', String(RECORD_BYTES), '--connections', String(CONNECTIONS)];
  const when = ['--rate', String(rate), '--seconds', String(seconds)];
  const { stdout } = await run(process.execPath, [main, 'load', '--target', target, ...what, ...when, '--json']);
  return JSON.parse(stdout) as LoadReport;
}

await runBench(
  'soak',
  () => parseArguments('npm run soak [-- --minutes N] [--smoke] [--dir D]', ['minutes']),
  (a) => {
    const seconds = a.smoke ? 3 : (a.numbers.minutes ?? MINUTES) * 60;
    const measuredSeconds = a.smoke ? 1 : 15;
    const slopeFrom = Math.min(120, seconds / 3);
    const most = RSS_SHARE * LIMIT_MIB;
    return {
      parameters: {
        seconds,
        limitMiB: LIMIT_MIB,
        overload: OVERLOAD,
        connections: CONNECTIONS,
        recordBytes: RECORD_BYTES,
      },
      targets: [
        `in a cgroup of ${LIMIT_MIB} MiB, at ${OVERLOAD} × what it accepts: nothing is killed`,
        `the gateway holds requests, p50, ≥ ${HELD_TIMES} × as long as at ${CALM} of what it accepts, or refuses some`,
        `RSS ≤ ${most} MiB, and its slope (Theil and Sen) after ${slopeFrom} s < ${SLOPE_TARGET} MiB per minute`,
        'records accepted = records in the log; every request that was sent has an answer',
      ],
      async body({ report, root, dataDir }) {
        if (process.platform !== 'linux' || process.getuid?.() !== 0)
          throw new BenchError('cgroups need Linux and root');
        const dir = join(dataDir, 'log');
        const group = MemoryGroup.make(`spillway-soak-${process.pid}`, LIMIT_MIB * MIB);
        const more = ['--retention-bytes', '32GiB', '--memory-limit', `${LIMIT_MIB}MiB`];
        const gateway = await startInGroup(root, dir, group, ofImage(root, 'SPILLWAY_'), more);
        const samples: Sample[] = [];
        let timer: NodeJS.Timeout | undefined;
        try {
          report.progress(`what it accepts, ${measuredSeconds} s`);
          // The first of it is warming up.
          const warm = await load(root, gateway.http, FLOOD_RATE, measuredSeconds / 3);
          const free = await load(root, gateway.http, FLOOD_RATE, measuredSeconds);
          const rate = Math.ceil(OVERLOAD * free.accepted.recordsPerSecond);
          const calm = await load(root, gateway.http, CALM * free.accepted.recordsPerSecond, measuredSeconds);
          report.progress(`${rate} records/s offered, ${seconds} s`);
          const startedMs = performance.now();
          timer = setInterval(() => {
            const now = sampleOf(gateway.child.pid!, startedMs);
            if (now !== undefined) samples.push(now);
          }, SAMPLE_MS);
          const soaked = await load(root, gateway.http, rate, seconds);
          clearInterval(timer);
          report.io = (await statsOf(gateway.http)).log.io;
          const ended = once(gateway.child, 'exit');
          gateway.child.kill('SIGTERM');
          const [code] = (await ended) as [number | null];
          const disk = readerIo();
          const found = verify(disk, dir);
          disk.destroy();
          const { oomKills, peakBytes } = group.events();
          const accepted = [warm, free, calm, soaked].reduce((sum, r) => sum + r.accepted.records, 0);
          const rssMiB = Math.max(...samples.map((s) => s.rssMiB));
          const slope = slopePerMinute(
            samples.filter((s) => s.seconds >= slopeFrom),
            (s) => s.rssMiB,
          );
          report.results = { warm, free, calm, soaked, samples, peakBytes };
          report.table(
            [
              'phase',
              'offered/s',
              'sent/s',
              'accepted/s',
              'accepted',
              'refused',
              'never sent',
              'held p50 ms',
              'p50 ms',
              'p99 ms',
              'RSS MiB',
              'MiB/min',
            ],
            [
              ['free', free],
              ['calm', calm],
              ['overload', soaked],
            ].map(([phase, x]) => {
              const r = x as LoadReport;
              const refused = Object.values(r.refused).reduce((sum, n) => sum + n, 0);
              const memory = phase === 'overload' ? [rssMiB, slope] : [null, null];
              const { p50, p99 } = r.latencyMs;
              const rates = [r.offered, r.sent, r.accepted].map((of) => of.recordsPerSecond);
              return [
                phase as string,
                ...rates,
                r.accepted.records,
                refused,
                r.unsent,
                r.heldMs.p50,
                p50,
                p99,
                ...memory,
              ];
            }),
          );
          report.exact('killed by the kernel', oomKills === 0, oomKills, '0');
          report.exact('exit code after SIGTERM', code === 0, code, '0');
          report.measured(
            'offered over accepted',
            soaked.offered.records / soaked.accepted.records >= OVERLOAD * 0.9,
            soaked.offered.records / soaked.accepted.records,
            `≥ ${OVERLOAD * 0.9}`,
          );
          const asked = soaked.sent.records / soaked.accepted.records;
          const held = soaked.heldMs.p50 / calm.heldMs.p50;
          const refused = Object.values(soaked.refused).reduce((sum, n) => sum + n, 0);
          report.measured(
            'overloaded: requests held, p50, of when calm; refused; asked, of accepted',
            refused > 0 || held >= HELD_TIMES,
            `${held.toFixed(1)} ×, ${refused}, ${asked.toFixed(2)} ×`,
            `≥ ${HELD_TIMES} ×, or > 0`,
            refused > 0 ? undefined : (ownLimit(soaked) ?? ownLimit(calm)),
          );
          report.exact('requests without an answer', soaked.unanswered === 0, soaked.unanswered, '0');
          report.exact('problems that verify finds', found.ok, found.problems.length, '0');
          const readable = found.records;
          report.exact('records that can be read', readable === accepted, readable, `${accepted}, those accepted`);
          report.measured('RSS, MiB', rssMiB <= most, rssMiB, `≤ ${most}`);
          report.measured(
            `slope of RSS after ${slopeFrom} s, MiB/min`,
            slope < SLOPE_TARGET,
            slope,
            `< ${SLOPE_TARGET}`,
          );
        } finally {
          clearInterval(timer);
          await gateway.end();
          group.remove();
          rmSync(dir, { recursive: true, force: true });
        }
      },
    };
  },
);
