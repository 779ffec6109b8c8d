// bench:tcp — the client over TCP and over a Unix socket against the embedded log, in turns: 256-byte records, 100 per append.
// Every producer is a process of its own; the gateway is the real one.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseArguments, runBench } from './lib/bench.ts';
import { startGateway } from './lib/children.ts';
import { show } from './lib/report.ts';
import { median, spread } from './lib/stats.ts';

const run = promisify(execFile);
const TARGET = 0.5;
const RECORD_BYTES = 256;
const GROUP_RECORDS = 100;

interface Rate {
  readonly recordsPerSecond: number;
  readonly records: number;
  readonly lastOffset: number;
  readonly cpuUsPerRecord: number;
}

await runBench(
  'tcp',
  () => parseArguments('npm run bench:tcp [-- --smoke] [--dir D] [--rounds N]'),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 1 : 7);
    const seconds = a.smoke ? 0.5 : 4;
    return {
      parameters: { rounds, seconds, recordBytes: RECORD_BYTES, groupRecords: GROUP_RECORDS },
      targets: [
        `tcp and unix: acknowledged appends/s ≥ ${TARGET} × embedded, median of the rounds' ratios`,
        'every acknowledged record is durable in the log of the gateway',
      ],
      async body({ report, root, dataDir }) {
        const unix = join(dataDir, 'socket');
        const gateway = await startGateway(root, join(dataDir, 'gateway'), [
          '--unix',
          unix,
          '--linger-ms',
          '0',
          '--retention-bytes',
          '512MiB',
        ]);
        const script = join(root, 'dist', 'bench', 'lib', 'append-rate.js');
        const rate = async (target: string): Promise<Rate> => {
          const args = [script, target, String(seconds), String(RECORD_BYTES), String(GROUP_RECORDS)];
          const { stdout } = await run(process.execPath, ['--max-semi-space-size=16', ...args]);
          return JSON.parse(stdout) as Rate;
        };
        const kinds = ['embedded', 'tcp', 'unix'] as const;
        const results: Record<(typeof kinds)[number], Rate[]> = { embedded: [], tcp: [], unix: [] };
        let sent = 0;
        try {
          for (let r = 0; r < rounds; r++) {
            for (const kind of kinds) {
              report.progress(`${kind}, round ${r + 1} of ${rounds}`);
              const target = { embedded: join(dataDir, 'embedded'), tcp: gateway.tcp, unix: `unix:${unix}` }[kind];
              const result = await rate(target);
              results[kind].push(result);
              if (kind !== 'embedded') sent += result.records;
            }
          }
          const { log } = (await (await fetch(`${gateway.http}/v1/stats`)).json()) as {
            log: { records: number; durableOffset: number; io: string };
          };
          report.io = log.io;
          report.results = { rounds: results, sent, log };
          const of = (kind: (typeof kinds)[number], pick: (x: Rate) => number): number =>
            median(results[kind].map(pick));
          const ratios = (kind: (typeof kinds)[number]): number[] =>
            results[kind].map((x, i) => x.recordsPerSecond / results.embedded[i].recordsPerSecond);
          report.table(
            ['producer', 'records/s', 'MB/s', 'of embedded', 'spread', 'CPU µs per record (producer)'],
            kinds.map((kind) => [
              kind,
              of(kind, (x) => x.recordsPerSecond),
              (of(kind, (x) => x.recordsPerSecond) * RECORD_BYTES) / 1e6,
              median(ratios(kind)),
              `${show(spread(ratios(kind)).min)} … ${show(spread(ratios(kind)).max)}`,
              of(kind, (x) => x.cpuUsPerRecord),
            ]),
          );
          for (const kind of ['tcp', 'unix'] as const) {
            const ratio = median(ratios(kind));
            report.measured(`${kind}: records/s of embedded`, ratio >= TARGET, ratio, `≥ ${TARGET}`);
          }
          const last = Math.max(...results.tcp.map((x) => x.lastOffset), ...results.unix.map((x) => x.lastOffset));
          report.exact('records in the log', log.records === sent, log.records, `${sent}: each once`);
          report.exact(
            'durable offset',
            log.durableOffset > last,
            log.durableOffset,
            `> ${last}, the last acknowledged`,
          );
        } finally {
          await gateway.end();
        }
      },
    };
  },
);
