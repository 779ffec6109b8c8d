// lab compression: what a codec saves, and what it costs, by how full the batches are that it is given; on disk, where a batch pads to
// a block of 4,096 bytes, and on the wire, where a request is what the client made it.

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { open } from '../../src/index.ts';
import { connect } from '../../src/client/connect.ts';
import { codecs, type Codec } from '../../src/base/types.ts';
import { codecLacks } from '../../src/codec/batch-codec.ts';
import { median, spread } from '../lib/stats.ts';
import { startGateway, type Gateway } from '../lib/children.ts';
import { jsonEvents, realLogs, type Input } from './compression-input.ts';
import { labNodeFlags } from '../../src/cli/lab.ts';
import { own, packageRoot, parseLabArguments, runLab, type Lab } from './frame.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Bytes of records per batch; the first is one record, alone. */
const fills = [
  { name: '1 record', bytes: 0 },
  { name: '4 KiB', bytes: 4 * KIB },
  { name: '16 KiB', bytes: 16 * KIB },
  { name: '64 KiB', bytes: 64 * KIB },
  { name: '256 KiB', bytes: 256 * KIB },
  { name: '1 MiB', bytes: MIB },
] as const;
type Fill = (typeof fills)[number];
const TINY = fills[0];
const FULL = fills.at(-1)!;
/** What a codec has to save of filled batches of real logs; of tiny ones nothing is expected, on disk and on the wire. */
const SAVES = 2;
/** Lines handed over at a time. */
const CHUNK = 2000;
/** Ticks of /proc/PID/stat: 100 a second on every Linux that Node runs on. */
const TICK_US = 10_000;

const here = codecs.filter((codec) => codecLacks(codec) === undefined);
const wireCodecs = (['none', 'gzip', 'zstd'] as const).filter((codec) => codecLacks(codec) === undefined);
const missing = codecs.flatMap((codec) => {
  const lacks = codecLacks(codec);
  return lacks === undefined ? [] : [`${codec}: needs ${lacks}`];
});

/** Ways to the gateway. */
const wires = ['http', 'tcp'] as const;
type Wire = (typeof wires)[number];

interface Sample {
  readonly where: 'disk' | Wire;
  readonly input: string;
  readonly fill: string;
  readonly codec: Codec;
  /** Batches on disk, requests or frames on the wire. */
  readonly batches: number;
  readonly records: number;
  readonly bytesPerRecord: number;
  /** Compressing on the commit thread, by the log's own counter: time that goes by, so that a busy machine makes it more. */
  readonly compressUsPerRecord: number;
  /** Of all threads: of the process with the log; on the wire of the client, and of the gateway. */
  readonly cpuUsPerRecord: number;
  readonly gatewayCpuUsPerRecord: number | null;
  readonly recordsPerSecond: number;
  /** How many of the batches are stored, or sent, compressed. */
  readonly compressed: number | null;
}

/** The lines over and over, from where the last call ended: `count` of them. */
function* cycle({ lines }: Input): Generator<string[], never, number> {
  let at = 0;
  let count = yield [];
  for (;;) {
    const part: string[] = [];
    for (; part.length < count; at = (at + 1) % lines.length) part.push(lines[at]);
    count = yield part;
  }
}

async function onDisk(dir: string, input: Input, fill: Fill, codec: Codec, records: number): Promise<Sample> {
  const tiny = fill === TINY;
  // Filled batches are closed by their bytes; tiny ones as soon as a record is there.
  const window = tiny ? { lingerMs: 0 } : { maxBytes: fill.bytes, maxRecords: 1_000_000, lingerMs: 1000 };
  const log = await open({ dir, codec, window });
  const lines = cycle(input);
  lines.next();
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  if (tiny) for (let i = 0; i < records; i++) await log.append('s', lines.next(1).value[0]);
  else {
    const appends: Promise<unknown>[] = [];
    for (let i = 0; i < records; i += CHUNK)
      appends.push(log.appendMany('s', lines.next(Math.min(CHUNK, records - i)).value));
    const flushed = log.flush();
    await Promise.all([...appends, flushed]);
  }
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const stats = log.stats();
  await log.close();
  rmSync(dir, { recursive: true });
  return {
    where: 'disk',
    input: input.name,
    fill: fill.name,
    codec,
    batches: stats.batches,
    records: stats.records,
    bytesPerRecord: stats.diskBytes / stats.records,
    compressUsPerRecord: stats.compression.us / stats.records,
    cpuUsPerRecord: (user + system) / stats.records,
    gatewayCpuUsPerRecord: null,
    recordsPerSecond: stats.records / seconds,
    compressed: stats.compression.batches,
  };
}

/** CPU that a process has used, in µs, by the kernel's ticks. */
function cpuUsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

async function onWire(
  gateway: Gateway,
  wire: Wire,
  input: Input,
  tiny: boolean,
  codec: 'none' | 'gzip' | 'zstd',
  records: number,
): Promise<Sample> {
  const client = await connect(gateway[wire], { codec });
  const pid = gateway.child.pid!;
  const lines = cycle(input);
  lines.next();
  const sends = client.stats().sends;
  const cpu = process.cpuUsage();
  const gatewayUs = cpuUsOf(pid);
  const startMs = performance.now();
  if (tiny) for (let i = 0; i < records; i++) await client.append('s', lines.next(1).value[0]);
  // A call of about a MiB is one request.
  else
    for (let left = records; left > 0; left -= 4 * CHUNK)
      await client.appendMany('s', lines.next(Math.min(left, 4 * CHUNK)).value);
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const { sentBytes, sends: all } = client.stats();
  const gatewayCpuUs = cpuUsOf(pid) - gatewayUs;
  await client.close();
  return {
    where: wire,
    input: input.name,
    fill: tiny ? TINY.name : FULL.name,
    codec,
    batches: all - sends,
    records,
    bytesPerRecord: sentBytes / records,
    compressUsPerRecord: 0,
    cpuUsPerRecord: (user + system) / records,
    gatewayCpuUsPerRecord: gatewayCpuUs / records,
    recordsPerSecond: records / seconds,
    compressed: null,
  };
}

interface Summary extends Omit<Sample, 'batches' | 'records' | 'compressed'> {
  readonly batches: number;
  readonly compressed: number | null;
  readonly rounds: number;
  /** Of the bytes without a codec, same input and fill: 2 is half as many. */
  readonly ratio: number;
  readonly ratioMin: number;
  readonly ratioMax: number;
  /** CPU of all threads beyond that without a codec in the same round. */
  readonly extraCpuUsPerRecord: number;
}

const keyOf = (s: Pick<Sample, 'where' | 'input' | 'fill' | 'codec'>, codec = s.codec): string =>
  [s.where, s.input, s.fill, codec].join('/');

/** Medians over the rounds; the ratio of each round to the one without a codec in the same round. */
function summarize(samples: readonly Sample[]): Summary[] {
  const grouped = new Map<string, Sample[]>();
  for (const s of samples) grouped.set(keyOf(s), [...(grouped.get(keyOf(s)) ?? []), s]);
  return [...grouped.values()].map((mine) => {
    const plain = grouped.get(keyOf(mine[0], 'none'))!;
    const ratios = mine.map((s, i) => plain[i].bytesPerRecord / s.bytesPerRecord);
    const middle = (of: (s: Sample) => number): number => median(mine.map(of));
    const { where, input, fill, codec, batches, compressed } = mine[0];
    return {
      where,
      input,
      fill,
      codec,
      batches,
      compressed,
      rounds: mine.length,
      bytesPerRecord: middle((s) => s.bytesPerRecord),
      compressUsPerRecord: middle((s) => s.compressUsPerRecord),
      cpuUsPerRecord: middle((s) => s.cpuUsPerRecord),
      gatewayCpuUsPerRecord: where === 'disk' ? null : middle((s) => s.gatewayCpuUsPerRecord ?? 0),
      recordsPerSecond: middle((s) => s.recordsPerSecond),
      ratio: median(ratios),
      ratioMin: spread(ratios).min,
      ratioMax: spread(ratios).max,
      extraCpuUsPerRecord: median(mine.map((s, i) => s.cpuUsPerRecord - plain[i].cpuUsPerRecord)),
    };
  });
}

interface Values {
  readonly rounds: number;
  readonly records: number;
  readonly tinyRecords: number;
}

async function measure({ report, dataDir }: Lab, inputs: readonly Input[], v: Values): Promise<Sample[]> {
  const samples: Sample[] = [];
  // Its batches are not what is measured: the wire is.
  const gateway = await startGateway(packageRoot, join(dataDir, 'gateway'), [], labNodeFlags);
  own(gateway.child);
  try {
    for (let r = 0; r < v.rounds; r++) {
      report.progress(`round ${r + 1} of ${v.rounds}`);
      for (const input of inputs) {
        // Codecs in turn within each fill: what slows the machine down slows all of them.
        for (const fill of fills) {
          const records = fill === TINY ? v.tinyRecords : v.records;
          for (const codec of here) samples.push(await onDisk(join(dataDir, 'log'), input, fill, codec, records));
        }
        for (const wire of wires) {
          for (const tiny of [true, false]) {
            const records = tiny ? v.tinyRecords : v.records;
            for (const codec of wireCodecs) samples.push(await onWire(gateway, wire, input, tiny, codec, records));
          }
        }
      }
    }
  } finally {
    await gateway.end();
  }
  return samples;
}

function plots(lab: Lab, inputs: readonly Input[], summaries: readonly Summary[]): void {
  const compressing = here.filter((codec) => codec !== 'none');
  const series = (of: (s: Summary) => number): { name: string; points: (readonly [number, number])[] }[] =>
    inputs.flatMap((input) =>
      compressing.map((codec) => ({
        name: `${codec}, ${input.name}`,
        points: fills.map((fill, i) => {
          const s = summaries.find(
            (m) => keyOf(m) === keyOf({ where: 'disk', input: input.name, fill: fill.name, codec }),
          )!;
          return [i, of(s)] as const;
        }),
      })),
    );
  const x = 'records in a batch, in bytes before compression';
  const xLabels = fills.map((fill) => fill.name);
  lab.plot('ratio', {
    title: 'lab:compression: how many times fewer bytes on disk, by how full batches are',
    x,
    xLabels,
    y: 'bytes without a codec over bytes with it',
    series: series((s) => s.ratio),
    levels: [{ name: 'nothing saved', y: 1 }],
  });
  lab.plot('cpu', {
    title: 'lab:compression: time of the commit thread for compressing, by how full batches are',
    x,
    xLabels,
    y: 'µs per record',
    series: series((s) => s.compressUsPerRecord),
  });
}

function judge({ report }: Lab, summaries: readonly Summary[], realMissing: string | undefined): void {
  for (const s of summaries) {
    if (s.codec === 'none' || (s.fill !== TINY.name && s.fill !== FULL.name)) continue;
    const what = `${s.where}, ${s.input}, ${s.codec}, ${s.fill === TINY.name ? s.fill : 'filled'}: times fewer bytes`;
    if (s.fill === TINY.name) report.exact(what, s.ratio <= 1, s.ratio, '≤ 1: nothing is gained');
    else report.measured(what, s.ratio >= SAVES, s.ratio, `≥ ${SAVES}`);
    if (s.where === 'disk' && s.fill === TINY.name) {
      report.exact(
        `disk, ${s.input}, ${s.codec}, ${s.fill}: batches`,
        s.compressed === 0,
        s.compressed,
        '0 compressed: it is not tried',
      );
    }
  }
  if (realMissing !== undefined)
    report.measured('real logs', false, null, `≥ ${SAVES} where batches are filled`, realMissing);
}

async function body(lab: Lab, v: Values): Promise<void> {
  const { report } = lab;
  const real = realLogs();
  const realMissing = 'missing' in real ? real.missing : undefined;
  if (realMissing !== undefined) report.say(`real logs: skipped: ${realMissing}`);
  for (const line of missing) report.say(`not here: ${line}`);
  const inputs = [...('missing' in real ? [] : [real]), jsonEvents(10_000)];
  const samples = await measure(lab, inputs, v);
  const summaries = summarize(samples);
  const columns = ['input', 'batch', 'codec', 'bytes/record', 'times fewer', 'of rounds', 'compress µs/record'];
  report.say('on disk: a batch is a multiple of 4,096 bytes, so that one record takes a block whatever its codec');
  report.table(
    [...columns, 'CPU µs/record', 'of it by the codec', 'records/s'],
    summaries
      .filter((s) => s.where === 'disk')
      .map((s) => [
        s.input,
        s.fill,
        s.codec,
        s.bytesPerRecord,
        s.ratio,
        `${s.ratioMin.toFixed(2)} … ${s.ratioMax.toFixed(2)}`,
        s.compressUsPerRecord,
        s.cpuUsPerRecord,
        s.codec === 'none' ? null : s.extraCpuUsPerRecord,
        s.recordsPerSecond,
      ]),
  );
  report.say(
    'on the wire: bodies of HTTP requests without their heads, and frames of at most 64 KiB over TCP; small ones are sent as they are',
  );
  report.table(
    ['over', ...columns.slice(0, 6), 'client CPU µs/record', 'gateway CPU µs/record', 'records/s'],
    summaries
      .filter((s) => s.where !== 'disk')
      .map((s) => [
        s.where,
        s.input,
        s.fill === TINY.name ? '1 record' : 'filled',
        s.codec,
        s.bytesPerRecord,
        s.ratio,
        `${s.ratioMin.toFixed(2)} … ${s.ratioMax.toFixed(2)}`,
        s.cpuUsPerRecord,
        s.gatewayCpuUsPerRecord,
        s.recordsPerSecond,
      ]),
  );
  plots(lab, inputs, summaries);
  report.results = { notHere: missing, realLogs: realMissing ?? 'there', summaries, samples };
  judge(lab, summaries, realMissing);
}

await runLab(
  {
    name: 'compression',
    question:
      'A batch is compressed as a whole. What does that save, on disk and on the wire, by how full batches are, and what does it cost?',
    method:
      'Lines of real logs and JSON events into a log: one record per batch (linger 0, each awaited), then batches of 4 KiB to 1 MiB, with every ' +
      'codec in turn, round by round; and through the client to a gateway, over HTTP and in frames, one record per call and about a MiB per call.',
    expected: `Tiny batches gain nothing: a batch is a block of 4,096 bytes at least. Filled ones of real logs take ${SAVES} to 4 times fewer bytes, or fewer still.`,
    refutedBy: 'A gain on batches of one record, or filled batches of real logs that do not shrink to half.',
  },
  () => parseLabArguments('compression', ['rounds']),
  (a) => {
    const rounds = a.numbers.rounds ?? (a.smoke ? 1 : 5);
    const records = a.smoke ? 8000 : 60_000;
    const tinyRecords = a.smoke ? 40 : 1000;
    return {
      parameters: {
        rounds,
        records,
        tinyRecords,
        fills: fills.map((f) => f.name),
        codecs: here,
        wire: wireCodecs,
        notHere: missing,
      },
      targets: [
        'batches of one record: no fewer bytes with a codec, on disk and on the wire; none is stored compressed',
        `batches of 1 MiB: ≥ ${SAVES} × fewer bytes with each codec, on disk and on the wire`,
      ],
      body: (lab) => body(lab, { rounds, records, tinyRecords }),
    };
  },
);
