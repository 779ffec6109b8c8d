// Against two oracles: the sorted samples themselves, and HdrHistogram.

import { seededRandom } from '../../src/base/clock.ts';
import t from 'tap';
import { build } from 'hdr-histogram-js';
import { Histogram, HISTOGRAM_BYTES, noImage, type HistogramImage } from '../../src/platform/histogram.ts';

const quantiles = [0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1];
const SAMPLES = 20_000;
const random = seededRandom(1);

const distributions: Record<string, () => number> = {
  'uniform 0 … 1,000': () => Math.floor(random() * 1001),
  'uniform 0 … 2^39': () => Math.floor(random() * 2 ** 39),
  'exponential, mean 500': () => Math.floor(-Math.log(1 - random()) * 500),
  'exponential, mean 10^7': () => Math.floor(-Math.log(1 - random()) * 1e7),
  'log-uniform over all powers': () => Math.floor(2 ** (random() * 40)),
  'powers of two and their neighbours': () => 2 ** Math.floor(random() * 40) + Math.floor(random() * 3) - 1,
  'constant 777': () => 777,
  'constant 0': () => 0,
  'constant 1': () => 1,
  'below 64': () => Math.floor(random() * 64),
  'two far apart': () => (random() < 0.9 ? 120 : 5_000_000),
};

/** A sixty-fourth upwards, and one for values that have a bucket each: [v, v + 1). */
function allowed(exact: number): number {
  return exact / 64 + 1;
}

for (const [name, sample] of Object.entries(distributions)) {
  t.test(name, async (t) => {
    const ours = new Histogram();
    const oracle = build({
      lowestDiscernibleValue: 1,
      highestTrackableValue: 2 ** 41,
      numberOfSignificantValueDigits: 4,
    });
    const samples: number[] = [];
    for (let i = 0; i < SAMPLES; i++) {
      const value = sample();
      samples.push(value);
      ours.record(value);
      oracle.recordValue(value);
    }
    samples.sort((a, b) => a - b);
    t.equal(ours.count, oracle.totalCount);
    t.equal(ours.max, samples.at(-1));
    const mean = samples.reduce((sum, v) => sum + v, 0) / SAMPLES;
    t.ok(Math.abs(ours.mean - mean) <= mean * 1e-9, `mean ${ours.mean}, exactly ${mean}`);
    t.ok(Math.abs(ours.mean - oracle.mean) <= oracle.mean / 1000 + 1, `mean ${ours.mean}, HdrHistogram ${oracle.mean}`);
    for (const q of quantiles) {
      const found = ours.quantile(q);
      const exact = samples[Math.max(1, Math.ceil(q * SAMPLES)) - 1];
      t.ok(found >= exact, `q ${q}: ${found} does not flatter ${exact}`);
      t.ok(found <= exact + allowed(exact), `q ${q}: ${found}, exactly ${exact}`);
      // HdrHistogram rounds the rank where we take the next higher: one rank more or less, and its own 4 digits.
      const hdr = [-1 / SAMPLES, 0, 1 / SAMPLES].map((d) =>
        oracle.getValueAtPercentile(Math.min(100, Math.max(0, (q + d) * 100))),
      );
      const slack = allowed(hdr[2]) + hdr[2] / 5000;
      t.ok(found >= hdr[0] - slack && found <= hdr[2] + slack, `q ${q}: ${found}, HdrHistogram ${hdr[1]}`);
    }
    t.equal(ours.quantile(1), ours.max);
  });
}

t.test('every value falls into a bucket that is at most a sixty-fourth too high', async (t) => {
  // Around every power of two, where log2 may round to the wrong side, and for fractions.
  for (let power = 0; power < 40; power++) {
    for (const value of [
      2 ** power,
      2 ** power * (1 + 2 ** -50),
      2 ** power * (2 - 2 ** -52),
      2 ** power * 1.5,
      2 ** power - 0.5,
    ]) {
      const h = new Histogram();
      h.record(value, 9);
      h.record(2 ** 40); // so that max does not cut the answer to size
      const found = h.quantile(0.5);
      if (!(found >= value && found <= value + allowed(value))) t.fail(`${value}: ${found}`);
    }
  }
  t.pass('200 values');
});

t.test('nothing recorded', async (t) => {
  const h = new Histogram();
  t.match(h, { count: 0, max: 0, mean: 0 });
  for (const q of quantiles) t.equal(h.quantile(q), 0);
});

t.test('huge values clamp in their bucket, not in the maximum, and touch nothing else', async (t) => {
  const buffer = new SharedArrayBuffer(HISTOGRAM_BYTES + 16);
  const edges = [new Float64Array(buffer, 0, 1), new Float64Array(buffer, HISTOGRAM_BYTES + 8, 1)];
  edges.forEach((edge) => edge.fill(42));
  const h = new Histogram(buffer, 8);
  for (const value of [2 ** 40 - 1, 2 ** 40, 2 ** 45, 2 ** 53, 1e300]) h.record(value);
  t.equal(h.count, 5);
  t.equal(h.max, 1e300);
  for (const q of quantiles) t.equal(h.quantile(q), 2 ** 40, `q ${q}`);
  t.strictSame(
    edges.map((edge) => edge[0]),
    [42, 42],
    'the memory before and behind',
  );
});

t.test('negative values count as 0', async (t) => {
  const h = new Histogram();
  h.record(-5);
  h.record(-0.1);
  t.equal(h.count, 2);
  t.equal(h.max, 0);
  t.equal(h.quantile(0.5), 0);
});

t.test('record with a count is that many records', async (t) => {
  const one = new Histogram();
  const many = new Histogram();
  for (const [value, count] of [
    [5, 3],
    [900, 70],
    [0, 1],
    [123_456, 26],
  ]) {
    many.record(value, count);
    for (let i = 0; i < count; i++) one.record(value);
  }
  t.equal(many.count, 100);
  t.equal(many.mean, one.mean);
  t.equal(many.max, one.max);
  for (const q of quantiles) t.equal(many.quantile(q), one.quantile(q), `q ${q}`);
  t.equal(many.quantile(0.01), 1, 'the zero: its bucket ends at 1');
});

t.test('whole numbers: the largest of the bucket, and below 128 the number itself', async (t) => {
  for (const value of [0, 1, 2, 63, 64, 100, 127, 128, 1000, 65_537, 2 ** 26]) {
    const h = new Histogram();
    h.record(value, 9);
    h.record(2 ** 39); // so that max does not cut the answer to size
    const found = h.quantile(0.5, true);
    t.ok(found >= value && found <= value + Math.max(0, Math.ceil(value / 64) - 1), `${value}: ${found}`);
    t.ok(value >= 128 || found === value, `${value}: ${found}`);
  }
});

t.test('merge of nine, and of an oracle merged of nine, is one of all', async (t) => {
  const PARTS = 9;
  const settings = {
    lowestDiscernibleValue: 1,
    highestTrackableValue: 2 ** 41,
    numberOfSignificantValueDigits: 4,
  } as const;
  const parts = Array.from({ length: PARTS }, () => ({ ours: new Histogram(), oracle: build(settings) }));
  const one = new Histogram();
  const names = Object.keys(distributions);
  for (let i = 0; i < PARTS * 3000; i++) {
    const value = distributions[names[i % names.length]]();
    const part = parts[(i * 7) % PARTS];
    part.ours.record(value);
    part.oracle.recordValue(value);
    one.record(value);
  }
  const merged = new Histogram();
  const oracle = build(settings);
  for (const part of parts) {
    merged.merge(part.ours);
    oracle.add(part.oracle);
  }
  t.equal(merged.count, oracle.totalCount);
  t.strictSame(merged.image.buckets, one.image.buckets, 'bucket by bucket');
  t.equal(merged.max, one.max);
  t.ok(Math.abs(merged.sum - one.sum) <= one.sum * 1e-12);
  for (const q of quantiles) {
    const found = merged.quantile(q);
    t.equal(found, one.quantile(q), `q ${q}`);
    const hdr = [-1 / one.count, 0, 1 / one.count].map((d) =>
      oracle.getValueAtPercentile(Math.min(100, Math.max(0, (q + d) * 100))),
    );
    const slack = allowed(hdr[2]) + hdr[2] / 5000;
    t.ok(found >= hdr[0] - slack && found <= hdr[2] + slack, `q ${q}: ${found}, HdrHistogram ${hdr[1]}`);
  }
});

t.test('what came between two images is a histogram of that alone, also after JSON', async (t) => {
  const all = new Histogram();
  const later = new Histogram();
  for (let i = 0; i < 3000; i++) all.record(Math.floor(2 ** (random() * 20)) + 1_000_000);
  const before = JSON.parse(JSON.stringify(all.image)) as HistogramImage;
  for (let i = 0; i < 500; i++) {
    const value = Math.floor(2 ** (random() * 20));
    all.record(value);
    later.record(value);
  }
  const between = Histogram.between(before, JSON.parse(JSON.stringify(all.image)) as HistogramImage);
  t.equal(between.count, 500);
  t.strictSame(between.image.buckets, later.image.buckets);
  t.ok(Math.abs(between.sum - later.sum) < 1, `${between.sum}, ${later.sum}`);
  for (const q of [0.5, 0.9, 0.99]) t.equal(between.quantile(q), later.quantile(q), `q ${q}`);
  t.ok(between.max >= later.max && between.max <= later.max + allowed(later.max), 'the bound of its last bucket');
  const none = Histogram.between(all.image, all.image);
  t.match([none.count, none.sum, none.max, none.quantile(0.99)], [0, 0, 0, 0], 'nothing between');
  t.strictSame(Histogram.between(noImage, all.image).image.buckets, all.image.buckets, 'since the beginning');
  const odd = Histogram.between(noImage, { sum: 1, max: 5, buckets: [-1, 4, 1e9, 4, 0.5, 4, 3, 4, 7] });
  t.equal(odd.count, 4, 'numbers of no bucket are left out');
});

t.test('merge is the record of both', async (t) => {
  const [a, b, both] = [new Histogram(), new Histogram(), new Histogram()];
  for (let i = 0; i < 5000; i++) {
    const value = Math.floor(2 ** (random() * 30));
    (i % 3 === 0 ? a : b).record(value);
    both.record(value);
  }
  const countOfB = b.count;
  const maxOfA = a.max;
  a.merge(b);
  t.equal(a.count, both.count);
  t.ok(Math.abs(a.mean - both.mean) < both.mean * 1e-12);
  t.equal(a.max, both.max);
  t.ok(a.max >= maxOfA);
  for (const q of quantiles) t.equal(a.quantile(q), both.quantile(q), `q ${q}`);
  t.equal(b.count, countOfB, 'the other is as it was');
  a.merge(new Histogram());
  t.equal(a.count, both.count, 'nothing added');
  const empty = new Histogram();
  empty.merge(both);
  t.equal(empty.max, both.max, 'into an empty one');
});

t.test('shared memory: a second view sees what the first records; clear empties both', async (t) => {
  const buffer = new SharedArrayBuffer(HISTOGRAM_BYTES);
  const writer = new Histogram(buffer);
  const reader = new Histogram(buffer);
  writer.record(100, 10);
  t.equal(reader.count, 10);
  t.equal(reader.quantile(0.5), 100);
  writer.clear();
  t.match(reader, { count: 0, max: 0, mean: 0 });
  t.equal(reader.quantile(0.99), 0);
});

t.test(
  'bars: every bucket that has samples, by its largest whole number, and none above the largest sample',
  async (t) => {
    const h = new Histogram();
    t.strictSame(h.bars(), []);
    for (const value of [0, 1, 1, 127, 1000, 1000, 1000]) h.record(value);
    t.strictSame(h.bars(), [
      [0, 1],
      [1, 2],
      [127, 1],
      [1000, 3],
    ]);
    h.record(1001);
    t.strictSame(h.bars().at(-1), [1001, 4], 'the same bucket');
  },
);
