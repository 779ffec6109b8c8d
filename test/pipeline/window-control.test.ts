// The adaptive window on the commit thread: what it reads off the lanes, when an interval ends, how long it is deaf, and the file that
// it begins from. Lanes and commit loop are the real ones; the clock moves when a test says so, and while the disk works.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { open } from '../../src/index.ts';
import { Lane } from '../../src/pipeline/lane.ts';
import { windowStats, WindowControl, type PointStore } from '../../src/pipeline/window-control.ts';
import { createLaneBuffer, laneFigures } from '../../src/platform/lane-memory.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { SharedState } from '../../src/platform/shared-state.ts';
import { listDirectory } from '../../src/log/recovery.ts';
import { verify } from '../../src/log/verify.ts';
import { readWindowPoint, writeWindowPoint } from '../../src/log/window-file.ts';
import { goalMs, type WindowLaw } from '../../src/window/aimd.ts';
import { directory } from '../support/log-support.ts';
import { openLog, SimulatedClock } from '../support/log-plans.ts';
import { LoopByHand } from '../support/pipeline-loop.ts';

const SLO = 20;
const options = { maxRecords: 1000, maxBytes: 2 ** 20, lingerMs: 0, sloP99Ms: SLO, law: 'headroom' as WindowLaw };

class Store implements PointStore {
  saved: number[] = [];
  readonly #loads: () => number | undefined;
  constructor(loads: () => number | undefined = () => undefined) {
    this.#loads = loads;
  }
  load(): number | undefined {
    return this.#loads();
  }
  save(lingerMs: number): void {
    this.saved.push(lingerMs);
  }
}

/** A control whose lanes and batches are made up: a batch of 20 every 10 ms, of records that came one after the other. */
class Subject {
  readonly shared = new SharedState();
  readonly store: Store;
  readonly control: WindowControl;
  readonly #lane = createLaneBuffer(4096);
  nowMs = 1_000_000;

  constructor(store = new Store(), law: WindowLaw = 'headroom') {
    this.store = store;
    this.control = new WindowControl({ ...options, law }, this.shared, store);
    this.control.addLane(this.#lane);
  }

  get stats(): ReturnType<typeof windowStats> {
    return windowStats(this.shared);
  }

  /** @param restMs what records take beyond the linger */
  run(ms: number, restMs = 1, writeMs = 0.5, perBatch = 20): void {
    const { latency, window } = laneFigures(this.#lane).histograms;
    for (const untilMs = this.nowMs + ms; this.nowMs < untilMs;) {
      this.nowMs += 10;
      const { lingerMs } = this.control.window;
      for (let i = 0; i < perBatch; i++) {
        const waitMs = lingerMs * (1 - i / perBatch);
        latency.record((waitMs + restMs) * 1000);
        window.record(waitMs * 1000);
      }
      this.shared.histograms.durableWrite.record(writeMs * 1000);
      this.shared.add('batches', 1);
      this.shared.add('records', perBatch);
      this.shared.countClose('linger');
      this.control.committed(this.nowMs);
    }
  }
}

t.test('deaf for the first second, then an interval each quarter of a second', async (t) => {
  const s = new Subject();
  s.run(1000, 500);
  t.match(s.stats, { decisions: 0, lingerMs: 0, p99Ms: null, reason: 'start', sloP99Ms: SLO });
  s.run(350);
  t.equal(s.stats.decisions, 1, 'and what came before it is not counted');
  t.equal(s.stats.reason, 'grow');
  t.ok(s.stats.p99Ms! < 1.1, `p99 ${s.stats.p99Ms}`);
  s.run(10_000);
  const { lingerMs, decisions, breaches, reason } = s.stats;
  t.ok(lingerMs > goalMs(SLO) - 2.5 && lingerMs < goalMs(SLO) - 0.9, `linger ${lingerMs}`);
  t.match({ breaches, reason }, { breaches: 0, reason: 'hold' });
  t.ok(decisions > 25 && decisions < 45, `${decisions} intervals`);
});

t.test('a few records far above the SLO end the interval at once; the tail then leaves less', async (t) => {
  const s = new Subject(new Store(() => 15));
  s.run(3000);
  const before = s.stats;
  t.ok(before.lingerMs >= 15, 'it began where it was good');
  const fromMs = s.nowMs;
  while (s.control.window.lingerMs === before.lingerMs && s.nowMs < fromMs + 1000) s.run(10, 12, 11);
  t.ok(s.nowMs - fromMs <= 110, `${s.nowMs - fromMs} ms`);
  t.ok(s.stats.lingerMs < before.lingerMs - 1, `linger ${s.stats.lingerMs}`);
  const moved = s.stats.decisions;
  s.run(50, 40);
  t.equal(s.stats.decisions, moved, 'deaf for a look: those are of before');
  s.run(500, 12, 11);
  t.ok(s.stats.lingerMs <= goalMs(SLO) - 11, `half a second later it is where it should be: ${s.stats.lingerMs}`);
  s.run(6000, 1);
  t.ok(s.stats.lingerMs > 15, 'and it grows again once the memory is over');
});

t.test('a disk that has just become slow shows before it is 1 % of the last five seconds', async (t) => {
  const s = new Subject();
  s.run(8000);
  const { lingerMs } = s.stats;
  const records = s.shared.stat('records');
  while (s.stats.lingerMs === lingerMs && s.shared.stat('records') < records + 4000) s.run(10, 30, 0.5, 4);
  const seen = s.shared.stat('records') - records;
  t.ok(seen > 10 && seen < 90, `${seen} records of which each was above the SLO, after 10,000 that were not`);
});

t.test('a write above the SLO: unreachable, and over when it is', async (t) => {
  for (const law of ['headroom', 'aimd'] as const) {
    const s = new Subject(new Store(() => 15), law);
    s.run(2500);
    s.run(1000, 31, 30);
    t.match(s.stats, { unreachable: true, lingerMs: 0, reason: 'unreachable' }, law);
    s.run(8000);
    t.match(s.stats, { unreachable: false }, law);
    t.ok(s.stats.lingerMs > 5, `${law}: linger ${s.stats.lingerMs}`);
  }
});

t.test('too few records: the interval waits for more, up to two seconds; without any there is none', async (t) => {
  const s = new Subject();
  s.run(1300);
  const { decisions } = s.stats;
  s.run(1500, 1, 0.5, 0);
  t.equal(s.stats.decisions, decisions, 'none came');
  const few = new Subject();
  few.run(1010, 1, 0.5, 1);
  const fromMs = few.nowMs;
  const had = few.stats.decisions;
  while (few.stats.decisions === had && few.nowMs < fromMs + 5000) {
    few.run(10, 1, 0.5, 1);
    few.run(190, 1, 0.5, 0);
  }
  t.ok(few.nowMs - fromMs > 1500 && few.nowMs - fromMs <= 2300, `${few.nowMs - fromMs} ms`);
});

t.test('after a silence longer than the memory half of the linger is taken for granted, once', async (t) => {
  const s = new Subject();
  s.run(8000);
  const { lingerMs } = s.stats;
  s.nowMs += 4000;
  s.run(10);
  t.equal(s.stats.lingerMs, lingerMs, 'a shorter one changes nothing');
  s.run(300);
  s.nowMs += 6000;
  s.run(10);
  t.match(s.stats, { lingerMs: lingerMs / 2, reason: 'start' });
  s.run(100);
  t.equal(s.stats.lingerMs, lingerMs / 2);
  s.run(5000);
  t.ok(s.stats.lingerMs > 0.95 * lingerMs, `and it is back: ${s.stats.lingerMs}`);
});

t.test('a lane that is closed is counted to its end, and forgotten', async (t) => {
  const s = new Subject();
  s.run(1100);
  const buffer = createLaneBuffer(4096);
  s.control.addLane(buffer);
  laneFigures(buffer).histograms.latency.record(9000, 10_000);
  new Int32Array(buffer, 0, 1)[0] = 2;
  s.run(300);
  t.ok(s.stats.p99Ms! >= 9 && s.stats.p99Ms! < 9.2, `p99 ${s.stats.p99Ms}`);
  laneFigures(buffer).histograms.latency.record(30_000, 10_000);
  s.run(600);
  t.equal(s.stats.breaches, 0, 'nobody looks at it any more');
});

t.test(
  'the point: written when idle, where it has moved by a tenth and a minute is over, and at the end',
  async (t) => {
    const s = new Subject();
    s.control.idle(s.nowMs);
    t.strictSame(s.store.saved, [], 'nothing is known yet');
    s.run(8000);
    s.control.idle(s.nowMs);
    t.equal(s.store.saved.length, 1);
    s.run(3000, 9, 8);
    s.control.idle(s.nowMs);
    t.equal(s.store.saved.length, 1, 'not again so soon');
    s.control.idle(s.nowMs + 60_000);
    t.equal(s.store.saved.length, 2);
    s.control.close();
    t.equal(s.store.saved.length, 2, 'it is there already');
    const throwing = new Subject(
      new Store(() => {
        throw new Error('damaged');
      }),
    );
    t.match(throwing.stats, { fileFailures: 1, lingerMs: 0, reason: 'start' }, 'counted, and no more');
  },
);

/** A disk whose durable writes take as long as it is told. */
class TimedIo extends JsIo {
  readonly clock: SimulatedClock;
  writeMs = 2;
  constructor(clock: SimulatedClock) {
    super();
    this.clock = clock;
  }
  override durableWrite(...args: Parameters<JsIo['durableWrite']>): void {
    super.durableWrite(...args);
    this.clock.nowMs += this.writeMs;
  }
}

t.test('the commit loop goes by the window that it moves, and saves the point once the log is closed', async (t) => {
  const clock = new SimulatedClock();
  const io = new TimedIo(clock);
  const { log } = openLog(directory(t), io, {}, clock);
  const loop = new LoopByHand();
  const buffer = createLaneBuffer(256 * 1024);
  const store = new Store(() => 7);
  const control = new WindowControl({ ...options, maxRecords: 4 }, loop.shared, store);
  loop.queue({ id: 0, kind: 'lane', buffer });
  const limits = { maxRecordBytes: 8192, maxWaitingBytes: 2 ** 20 };
  const lane = new Lane({ shared: loop.shared.buffer, lane: buffer, limits }, clock);
  const told: Promise<unknown>[] = [];
  for (let i = 0; i < 40; i++) told.push(lane.append('s', 'x'));
  loop.flush();
  const window = { maxRecords: 10, maxBytes: 16 * 1024, lingerMs: 3 };
  loop.run(log, window, clock, control);
  await Promise.all(told);
  t.equal(loop.shared.stat('batches'), 10, 'batches of 4, the bound of the window of the control');
  t.match(windowStats(loop.shared), { sloP99Ms: SLO, lingerMs: 7 });
  t.strictSame(store.saved, [], 'nothing is good yet, so nothing is written over what was');
});

t.test('a static window says its linger, and nothing else', async (t) => {
  const log = await open({ dir: directory(t), io: 'js', window: { lingerMs: 3 } });
  t.strictSame(log.stats().window, {
    lingerMs: 3,
    sloP99Ms: null,
    p99Ms: null,
    reason: 'start',
    decisions: 0,
    breaches: 0,
    unreachable: false,
    fileFailures: 0,
  });
  await log.close();
});

function pointOf(dir: string): unknown {
  const path = join(dir, 'window');
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined;
}

async function openedWith(t: Test, content: string | undefined): Promise<{ lingerMs: number; fileFailures: number }> {
  const dir = directory(t);
  mkdirSync(dir, { recursive: true });
  if (content !== undefined) writeFileSync(join(dir, 'window'), content);
  const log = await open({ dir, io: 'js', window: { sloP99Ms: SLO } });
  const { lingerMs, fileFailures } = log.stats().window;
  await log.append('s', 'x');
  await log.close();
  t.equal(log.stats().state, 'closed');
  return { lingerMs, fileFailures };
}

t.test(
  'the file: begun from where it fits; a damaged or foreign one is counted, and the log opens all the same',
  async (t) => {
    t.strictSame(await openedWith(t, undefined), { lingerMs: 0, fileFailures: 0 }, 'none');
    t.strictSame(await openedWith(t, '{"sloP99Ms":20,"lingerMs":11.5}\n'), { lingerMs: 11.5, fileFailures: 0 });
    t.strictSame(await openedWith(t, '{"sloP99Ms":20,"lingerMs":1e9}'), { lingerMs: goalMs(SLO), fileFailures: 0 });
    t.strictSame(
      await openedWith(t, '{"sloP99Ms":50,"lingerMs":11.5}'),
      { lingerMs: 0, fileFailures: 0 },
      'another SLO',
    );
    for (const content of [
      '',
      '{',
      '\0'.repeat(200),
      'null',
      '[]',
      '{"sloP99Ms":20}',
      '{"sloP99Ms":20,"lingerMs":-1}',
      `{"a":"${'x'.repeat(1e6)}"}`,
    ]) {
      t.strictSame(
        await openedWith(t, content),
        { lingerMs: 0, fileFailures: 1 },
        JSON.stringify(content.slice(0, 30)),
      );
    }
  },
);

t.test('the file: replaced as a whole, also where a temporary one was left', async (t) => {
  const io = new JsIo();
  const dir = directory(t);
  mkdirSync(dir, { recursive: true });
  t.equal(readWindowPoint(io, dir), undefined);
  writeWindowPoint(io, dir, { sloP99Ms: 20, lingerMs: 3 });
  writeFileSync(join(dir, 'window.tmp'), 'half');
  writeWindowPoint(io, dir, { sloP99Ms: 20, lingerMs: 4.25 });
  t.strictSame(readWindowPoint(io, dir), { sloP99Ms: 20, lingerMs: 4.25 });
  t.notOk(existsSync(join(dir, 'window.tmp')));
  const log = await open({ dir, io: 'js', window: { sloP99Ms: 20 } });
  t.equal(log.stats().window.lingerMs, 4.25);
  await log.close();
  t.strictSame(pointOf(dir), { sloP99Ms: 20, lingerMs: 4.25 }, 'a run without a decision leaves it');
  writeFileSync(join(dir, 'window.tmp'), 'half');
  t.match(listDirectory(io, dir), { foreign: [], temporary: ['window.tmp'] }, 'both names are known');
  t.match(verify(io, dir), { ok: true, foreign: [] });
});
