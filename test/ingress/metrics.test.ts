// What a gateway says of itself: /metrics as Prometheus reads it, /v1/stats with and without histograms, and both alike.

import t from 'tap';
import { Histogram, noImage } from '../../src/platform/histogram.ts';
import type { GatewayStats } from '../../src/ingress/metrics.ts';
import { dropCauses } from '../../src/platform/lane-figures.ts';
import { stageNames } from '../../src/pipeline/log-stats.ts';
import { closeReasons } from '../../src/base/types.ts';
import { Inside } from '../support/gateway-inside.ts';
import { ask, bytes, post, untilFigures } from '../support/gateway-talk.ts';

const RECORDS = 60;

interface Family {
  readonly type: string;
  readonly samples: Map<string, number>;
}

/** Families by name. Throws where the text is not as Prometheus wants it: a type line once, its samples behind it, each once. */
function parse(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  let name = '';
  for (const line of text.trimEnd().split('\n')) {
    if (line.startsWith('# HELP ')) continue;
    const typed = /^# TYPE (spillway_[a-z0-9_]+) (counter|gauge|summary)$/.exec(line);
    if (typed !== null) {
      name = typed[1];
      if (families.has(name)) throw new Error(`${name} begins twice`);
      families.set(name, { type: typed[2], samples: new Map() });
      continue;
    }
    const sample = /^(spillway_[a-z0-9_]+)((?:\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})?) (-?[0-9.e+-]+)$/.exec(line);
    if (sample === null) throw new Error(`no sample: ${line}`);
    const family = families.get(name)!;
    const ofSummary = family.type === 'summary' && [`${name}_sum`, `${name}_count`].includes(sample[1]);
    if (sample[1] !== name && !ofSummary) throw new Error(`${line} behind the type of ${name}`);
    const key = sample[1].slice(name.length) + sample[2];
    if (family.samples.has(key)) throw new Error(`twice: ${line}`);
    family.samples.set(key, Number(sample[3]));
  }
  return families;
}

async function statsOf(g: Inside, query = ''): Promise<GatewayStats> {
  return JSON.parse((await ask(g.port, { path: `/v1/stats${query}` })).text) as GatewayStats;
}

t.test(
  `after ${RECORDS} records: /metrics is well-formed, says what /v1/stats says, and stages are the whole`,
  async (t) => {
    const g = await Inside.start(t);
    for (let i = 0; i < RECORDS; i++) t.equal((await post(g.port, 's', `record ${i}`, bytes)).status, 200);
    const { log } = await statsOf(g);
    const families = parse((await ask(g.port, { path: '/metrics' })).text);
    const value = (name: string, key = ''): number | undefined => families.get(`spillway_${name}`)?.samples.get(key);

    for (const reason of closeReasons)
      t.equal(value('log_batches_closed_total', `{reason="${reason}"}`), log.closeReasons[reason], reason);
    t.strictSame(
      ['newest', 'oldest', 'blocked_too_long', 'backlog'].map((cause) => value(`dropped_${cause}_total`)),
      dropCauses.map((cause) => log.drops[cause]),
    );
    t.strictSame([value('queued_records'), value('queued_bytes'), value('oldest_age_ms')], [0, 0, 0]);
    t.strictSame(log.queue, { records: 0, bytes: 0, oldestAgeMs: 0 });

    const summaries = {
      log_latency_us: log.latency,
      log_durable_write_us: log.durableWrite,
      log_batch_age_us: log.batchAge,
    };
    for (const [name, l] of Object.entries(summaries)) {
      t.equal(families.get(`spillway_${name}`)?.type, 'summary');
      t.strictSame(
        ['{quantile="0.5"}', '{quantile="0.9"}', '{quantile="0.99"}', '{quantile="0.999"}', '{quantile="1"}'].map((q) =>
          value(name, q),
        ),
        [l.p50Us, l.p90Us, l.p99Us, l.p999Us, l.maxUs],
        name,
      );
      t.strictSame([value(name, '_sum'), value(name, '_count')], [l.sumUs, l.count], name);
    }
    for (const [name, sizes] of [
      ['log_batch_records', log.batchRecords],
      ['log_batch_bytes', log.batchBytes],
    ] as const) {
      t.strictSame(
        [value(name, '{quantile="0.99"}'), value(name, '_sum'), value(name, '_count')],
        [sizes.p99, sizes.sum, sizes.count],
      );
    }
    t.equal(log.batchRecords.count, log.batches);
    t.equal(log.batchRecords.sum, RECORDS);
    t.equal(log.latency.count, RECORDS);
    t.equal(log.batchAge.count, log.batches, 'one lane: a sample per batch');
    let parts = 0;
    for (const stage of stageNames) {
      t.equal(value('log_stage_us', `_count{stage="${stage}"}`), RECORDS, stage);
      t.equal(value('log_stage_us', `{stage="${stage}",quantile="0.5"}`), log.stages[stage].p50Us, stage);
      parts += value('log_stage_us', `_sum{stage="${stage}"}`)!;
    }
    t.ok(Math.abs(parts - log.latency.sumUs) < 1, `${parts} of ${log.latency.sumUs} µs`);
    t.ok(log.stages.write.sumUs > log.stages.lane.sumUs, 'one at a time: the disk is what is waited for');
  },
);

t.test('histograms where asked for: the time between two looks by itself', async (t) => {
  const g = await Inside.start(t);
  t.equal((await statsOf(g)).histograms, undefined);
  t.equal((await statsOf(g, '?histograms=0')).histograms, undefined);
  for (let i = 0; i < 5; i++) await post(g.port, 's', 'x', bytes);
  const before = await statsOf(g, '?histograms=1');
  t.equal(Histogram.between(noImage, before.histograms!.latency).count, 5);
  for (let i = 0; i < 7; i++) await post(g.port, 's', 'x', bytes);
  const after = await statsOf(g, '?histograms=1');
  t.ok(after.log.uptimeMs > before.log.uptimeMs, 'the time of each look is in it');
  for (const name of ['latency', ...stageNames, 'batchAge', 'batchRecords', 'batchBytes', 'durableWrite'] as const) {
    const between = Histogram.between(before.histograms![name], after.histograms![name]);
    t.equal(between.count, 7, name);
    const all = Histogram.between(noImage, after.histograms![name]);
    t.ok(between.max <= all.max, `${name}: ${between.max} of ${all.max}`);
  }
  t.equal(Histogram.between(before.histograms!.batchRecords, after.histograms!.batchRecords).quantile(0.5, true), 1);
});

t.test('a queue: 3 records behind a linger of 20 s show their number, bytes and age', async (t) => {
  const g = await Inside.start(t, {}, { window: { maxBytes: '64KiB', lingerMs: 20_000 } });
  const answers = [1, 2, 3].map((i) => post(g.port, 's', `record ${i}`, bytes));
  await untilFigures(g.port, (f) => f.queuedBytes >= 3 * 24 && f.oldestAgeMs > 1, 'all are in the lane');
  const { log } = await statsOf(g);
  t.equal(log.queue.records, 3);
  t.ok(log.queue.bytes >= 3 * 24 && log.queue.oldestAgeMs > 1, JSON.stringify(log.queue));
  const { samples } = parse((await ask(g.port, { path: '/metrics' })).text).get('spillway_queued_records')!;
  t.equal(samples.get(''), 3);
  await g.gateway.log.flush();
  for (const answer of await Promise.all(answers)) t.equal(answer.status, 200);
  t.strictSame((await statsOf(g)).log.queue, { records: 0, bytes: 0, oldestAgeMs: 0 });
  t.ok((await statsOf(g)).log.closeReasons.flush >= 1);
});
