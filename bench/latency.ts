// bench:latency — one record at a time on an idle system: from append to durable, beside a single durable write of the
// plain native loop (lib/floor.ts) in the same mode, in turns.

import { join } from 'node:path';
import { open } from '../src/index.ts';
import { parseArguments, runBench } from './lib/bench.ts';
import { Floor, floorModeOf } from './lib/floor.ts';
import { PayloadCycle, SEED, verifyTail } from './lib/payloads.ts';
import { median, quantile, spread } from './lib/stats.ts';

const TARGET = 1.5;
const RECORD_BYTES = 256;
/** What one such record takes on disk, and what the floor writes. */
const WRITE_BYTES = 4096;

interface Round {
  readonly oursP50Us: number;
  readonly oursP99Us: number;
  readonly floorP50Us: number;
  readonly floorP99Us: number;
  readonly ratio: number;
}

await runBench(
  'latency',
  () => parseArguments('npm run bench:latency [-- --smoke] [--dir D] [--io MODE] [--rounds N]'),
  (a) => {
    const rounds = a.rounds ?? (a.smoke ? 2 : 7);
    const records = a.smoke ? 50 : 1000;
    const warmUpRecords = a.smoke ? 20 : 500;
    return {
      parameters: {
        rounds,
        recordsPerRound: records,
        warmUpRecords,
        recordBytes: RECORD_BYTES,
        floorWriteBytes: WRITE_BYTES,
        lingerMs: 0,
        io: a.io,
        seed: SEED,
      },
      targets: [
        `p50 of append → durable ≤ ${TARGET} × p50 of the floor's single durable write, median over the rounds`,
      ],
      async body({ report, root, dataDir }) {
        const floor = Floor.compile(root, dataDir, a.smoke ? 4 * 1024 * 1024 : 64 * 1024 * 1024);
        await floor.prepare();
        const dir = join(dataDir, 'log');
        const log = await open({
          dir,
          io: a.io,
          window: { lingerMs: 0 },
          ...(a.smoke ? { segmentBytes: '4MiB' } : {}),
        });
        const results: Round[] = [];
        const cycle = new PayloadCycle(RECORD_BYTES, 500, SEED);
        let appended = 0;
        const one = async (): Promise<number> => {
          const payload = cycle.at(appended++);
          const before = performance.now();
          await log.append('bench', payload);
          return (performance.now() - before) * 1000;
        };
        try {
          const { io } = log.stats();
          report.io = io;
          const mode = floorModeOf(io);
          for (let i = 0; i < warmUpRecords; i++) await one();
          await floor.batches(mode, WRITE_BYTES, warmUpRecords);
          for (let r = 0; r < rounds; r++) {
            report.progress(`round ${r + 1} of ${rounds}`);
            const us: number[] = [];
            for (let i = 0; i < records; i++) us.push(await one());
            const plain = await floor.batches(mode, WRITE_BYTES, records);
            const oursP50Us = quantile(us, 0.5);
            results.push({
              oursP50Us,
              oursP99Us: quantile(us, 0.99),
              floorP50Us: plain.p50Us,
              floorP99Us: plain.p99Us,
              ratio: oursP50Us / plain.p50Us,
            });
          }
          const stats = log.stats();
          const from = Math.max(0, stats.durableOffset - 200);
          const sample = await verifyTail(log.read({ from }), new Map([['bench', { cycle, count: appended }]]));
          const of = (key: keyof Round): number => median(results.map((x) => x[key]));
          report.results = { rounds: results, durableWrite: stats.durableWrite, batches: stats.batches, sample };
          const rows = results.map((x, i) => [
            String(i + 1),
            x.oursP50Us,
            x.oursP99Us,
            x.floorP50Us,
            x.floorP99Us,
            x.ratio,
          ]);
          rows.push(['median', of('oursP50Us'), of('oursP99Us'), of('floorP50Us'), of('floorP99Us'), of('ratio')]);
          report.table(['round', 'append → durable p50 µs', 'p99 µs', 'floor p50 µs', 'p99 µs', 'p50 ratio'], rows);
          const write = stats.durableWrite;
          report.say(
            `of it the durable write itself, as the commit thread saw it (all rounds, warm-up included): p50 ${write.p50Us.toFixed(1)} µs, p99 ${write.p99Us.toFixed(1)} µs;`,
          );
          report.say(
            `the rest, p50 ${(of('oursP50Us') - write.p50Us).toFixed(1)} µs, is the way to that thread and back.\n`,
          );
          report.exact('durable records', stats.durableOffset === appended, stats.durableOffset, String(appended));
          report.exact('one batch per record', stats.batches === appended, stats.batches, String(appended));
          const { min, max } = spread(results.map((x) => x.ratio));
          const name = `p50 over the floor's p50 (rounds ${min.toFixed(2)} … ${max.toFixed(2)})`;
          report.measured(name, of('ratio') <= TARGET, of('ratio'), `≤ ${TARGET}`);
        } finally {
          await log.close();
        }
      },
    };
  },
);
