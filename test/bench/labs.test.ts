// The parts of the labs that compute: the ledger, the plot, the bombs. That the labs run: smoke.test.ts; as commands: cli/lab.test.ts.

import * as zlib from 'node:zlib';
import t from 'tap';
import { crcOfZeros, gzipMembers, gzipNested, gzipZeros, zstdZeros } from '../../bench/labs/bomb-bodies.ts';
import { disagreements } from '../../bench/labs/ledger.ts';
import { labPolicies } from '../../bench/labs/overflow-run.ts';
import { escapeXml, linePlot, ticks } from '../../bench/lib/svg.ts';

t.test('ledger: exact, and each way to be off by one is named', async (t) => {
  const ledger = { offered: 100, accepted: 60, dropped: 35, pending: 5 };
  const witnesses = { refused: 35, logRecords: 60, readBack: 60 };
  t.strictSame(disagreements(ledger, witnesses), []);
  for (const [what, l, w, words] of [
    ['one that nobody counts', { offered: 101 }, {}, /offered 101/],
    ['one counted twice', { pending: 6 }, {}, /is 101/],
    ['a drop that nobody was told of', {}, { refused: 34 }, /34 promises/],
    ['an acknowledgement without a record', {}, { logRecords: 59 }, /the log wrote 59/],
    ['a record that is not there', {}, { readBack: 59 }, /59 were read back/],
  ] as const) {
    const wrong = disagreements({ ...ledger, ...l }, { ...witnesses, ...w });
    t.equal(wrong.length, 1, what);
    t.match(wrong[0], words, what);
  }
});

t.test('ticks are round, begin at 0 and reach the largest value', async (t) => {
  for (const most of [0.003, 0.9, 1, 7, 10, 64, 256, 99_999, 1e9]) {
    const all = ticks(most);
    t.equal(all[0], 0);
    t.ok(all.at(-1)! >= most, `${most}: ${all.join()}`);
    t.ok(all.length >= 3 && all.length <= 8, `${most}: ${all.length} ticks`);
    t.ok(all.at(-2)! < most, `${most}: no tick too many`);
  }
  t.strictSame(ticks(10), [0, 2, 4, 6, 8, 10]);
  for (const nothing of [0, -1, NaN, Infinity]) t.strictSame(ticks(nothing), [0, 1]);
});

t.test('a plot holds every point, its words escaped, and stays within its frame', async (t) => {
  const svg = linePlot({
    title: 'a < b & "c"',
    x: 'seconds',
    y: 'MiB',
    levels: [{ name: 'limit', y: 256 }],
    series: [
      {
        name: 'one',
        points: [
          [0, 0],
          [5, 128],
          [10, 300],
        ],
        endsHere: true,
      },
      { name: 'none', points: [] },
    ],
  });
  t.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="0 0 760 360"/);
  t.match(svg, 'a &lt; b &amp; &quot;c&quot;');
  t.match(svg, '>seconds<');
  t.match(svg, '>limit<');
  const [, points] = /<polyline points="([^"]+)"/.exec(svg)!;
  const pairs = points.split(' ').map((pair) => pair.split(',').map(Number));
  t.equal(pairs.length, 3);
  for (const [x, y] of pairs) t.ok(x >= 0 && x <= 760 && y >= 0 && y <= 360, `${x},${y}`);
  t.ok(pairs[0][1] > pairs[1][1] && pairs[1][1] > pairs[2][1], 'more is higher up');
  // Every tag that is opened is closed.
  const opened = [...svg.matchAll(/<(svg|text)\b/g)].length;
  t.equal([...svg.matchAll(/<\/(svg|text)>/g)].length, opened);
  t.notMatch(svg, /NaN|Infinity|undefined/);
  t.equal(escapeXml('<&>"'), '&lt;&amp;&gt;&quot;');
});

t.test('the policies of the lab are those of the product, and the array', async (t) => {
  t.strictSame([...labPolicies], ['block', 'drop-newest', 'drop-oldest', 'unbounded']);
});

const MIB = 2 ** 20;

t.test('bombs are bodies that a decoder accepts to the last byte, of the size they are said to have', async (t) => {
  const isZeros = (out: Buffer, bytes: number): boolean => out.length === bytes && out.equals(Buffer.alloc(bytes));
  t.ok(isZeros(zlib.gunzipSync(gzipZeros(3 * MIB)), 3 * MIB), 'gzip');
  t.ok(isZeros(zlib.gunzipSync(gzipMembers(3, 2 * MIB)), 6 * MIB), 'members');
  t.ok(isZeros(zlib.gunzipSync(zlib.gunzipSync(gzipNested(5 * MIB))), 5 * MIB), 'nested');
  t.ok(gzipZeros(1024 * MIB).length < 1.1 * MIB, 'a gigabyte in a megabyte');
  t.ok(zstdZeros(10 * 1024 * MIB).length < MIB, 'ten gigabytes in less than one');
  const unzstd = (zlib as { zstdDecompressSync?: (b: Buffer) => Buffer }).zstdDecompressSync;
  if (unzstd === undefined) t.pass('zstd', { skip: `Node ${process.version} has none` });
  else t.ok(isZeros(unzstd(zstdZeros(3 * MIB)), 3 * MIB), 'zstd');
  t.throws(() => gzipZeros(1000));
  // Its trailer is that of zlib: of sizes with one bit and many, and beyond what is decoded here.
  for (const bytes of [0, 1, 7, 4096, 1_000_003]) {
    const trailer = zlib.gzipSync(Buffer.alloc(bytes)).subarray(-8);
    t.equal(crcOfZeros(bytes), trailer.readUInt32LE(0), `CRC-32 of ${bytes} zeros`);
  }
});
