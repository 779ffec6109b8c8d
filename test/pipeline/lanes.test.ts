import t from 'tap';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { openLane } from '../../src/index.ts';
import type { LaneWorkerData } from '../support/pipeline-lane-worker.ts';
import { codeOf, directory, modeNotReached, until, within } from '../support/log-support.ts';
import { endWorkers, openSmall, recordsOf, text } from '../support/pipeline-logs.ts';
import { workingModes } from '../support/modes.ts';

function start(data: LaneWorkerData): Worker {
  return new Worker(new URL('../support/pipeline-lane-worker.js', import.meta.url), { workerData: data });
}

async function answerOf(worker: Worker): Promise<Record<string, unknown>> {
  const [answer] = (await once(worker, 'message')) as [Record<string, unknown>];
  return answer;
}

t.teardown(endWorkers);

for (const io of workingModes) {
  t.test(`${io}: three workers and the main thread append at once`, async (t) => {
    const { log } = await openSmall({ dir: directory(t), io });
    const count = 1500;
    const names = ['w1', 'w2', 'w3'];
    const answers = names.map((who) => answerOf(start({ handle: log.lane(), who, task: 'count', count })));
    const mine = await Promise.all(Array.from({ length: count }, (_, i) => log.append('main', `main:${i}`)));
    const offsets: Record<string, number[]> = { main: mine.map((a) => a.offset) };
    for (const answer of await Promise.all(answers)) offsets[answer.done as string] = answer.offsets as number[];
    const records = await recordsOf(log);
    t.equal(records.length, 4 * count);
    t.ok(
      records.every((r, i) => r.offset === i),
      'dense',
    );
    for (const who of ['main', ...names]) {
      const own = records.filter((r) => r.stream === who);
      t.ok(own.length === count && own.every((r, i) => text(r) === `${who}:${i}`), `${who}: all there, in order`);
      t.ok(
        own.every((r, i) => r.offset === offsets[who][i]),
        `${who}: each stands where its append said`,
      );
    }
    const stats = log.stats();
    t.equal(modeNotReached(io, stats.systemCalls, stats.batches), undefined);
    t.equal(stats.latency.count, 4 * count, 'the latency of closed lanes is kept');
    t.ok(stats.batches < count, `${stats.batches} batches: lanes share them`);
    await log.close();
  });

  t.test(`${io}: a worker that is terminated in mid-append loses nothing acknowledged, and others go on`, async (t) => {
    const dir = directory(t);
    const { log } = await openSmall({ dir, io });
    const victim = start({ handle: log.lane(), who: 'victim', task: 'tell', count: 0 });
    const told: { i: number; offset: number }[] = [];
    victim.on('message', (m: { i: number; offset: number }) => told.push(m));
    const other = answerOf(start({ handle: log.lane(), who: 'other', task: 'count', count: 600 }));
    await until(() => told.length > 300, '300 acknowledgements');
    await victim.terminate();
    const after = await within(
      Promise.all(Array.from({ length: 300 }, (_, i) => log.append('main', `main:${i}`))),
      'appends of others',
    );
    t.equal(after.length, 300);
    t.equal((await other).done, 'other');
    await within(log.close(), 'close');
    const { log: again } = await openSmall({ dir, io });
    const records = await recordsOf(again);
    t.ok(
      told.every(({ i, offset }) => records[offset]?.stream === 'victim' && text(records[offset]) === `victim:${i}`),
      `${told.length} acknowledged`,
    );
    const own = records.filter((r) => r.stream === 'victim');
    t.ok(
      own.every((r, i) => text(r) === `victim:${i}`),
      'a prefix of what was appended, in order',
    );
    t.equal(records.filter((r) => r.stream === 'other').length, 600);
    await again.close();
  });
}

t.test('a lane has one producer, and none after it was closed', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js', maxLanes: 2 });
  const handle = log.lane();
  t.throws(() => log.lane(), { code: 'TOO_MANY_LANES', message: /maxLanes/ });
  const lane = openLane(handle);
  t.throws(() => openLane(handle), { code: 'LANE_TAKEN' });
  t.same(await lane.append('s', 'x'), { offset: 0 });
  await lane.close();
  await lane.close();
  t.throws(() => openLane(handle), { code: 'LANE_TAKEN' });
  t.equal(await codeOf(lane.append('s', 'x')), 'CLOSED');
  const next = openLane(log.lane());
  t.same(await next.append('s', 'y'), { offset: 1 }, 'the place of a closed lane is free again');
  await log.close();
  t.equal(await codeOf(next.append('s', 'z')), 'CLOSED');
  t.throws(() => log.lane(), { code: 'CLOSED' });
});

t.test('closing drains what other threads appended, and comes to an end while they go on', async (t) => {
  const { log } = await openSmall({ dir: directory(t), io: 'js', maxWaitingBytes: '1MiB' });
  const worker = start({ handle: log.lane(), who: 'flood', task: 'flood', count: 0 });
  const answers: Record<string, unknown>[] = [];
  worker.on('message', (m: Record<string, unknown>) => answers.push(m));
  await until(() => answers.length > 0, 'the flood');
  t.equal(await codeOf(log.close(), 5000), 'resolved');
  await until(() => answers.length > 1, 'the end of the flood').catch(() => undefined);
  t.match(answers[1], { code: 'CLOSED' });
  await worker.terminate();
  await endWorkers();
});

t.test(
  'a thread that dies with more acknowledgements unread than a lane holds does not keep the log from closing',
  async (t) => {
    // A thousand batches of one record: on a memory disk, where there is one, for the sake of time.
    const dir = existsSync('/dev/shm') ? mkdtempSync('/dev/shm/spillway-') : directory(t);
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const window = { maxRecords: 1, maxBytes: '16KiB', lingerMs: 0 };
    const { log } = await openSmall({ dir, io: 'js', window, laneBytes: '256KiB' });
    const worker = start({ handle: log.lane(), who: 'stuck', task: 'stuck', count: 1500 });
    t.match(await answerOf(worker), { put: 1500 });
    await until(() => log.stats().durableOffset >= 1020, 'as many batches as a lane holds acknowledgements of', 20_000);
    await worker.terminate();
    t.equal(await codeOf(log.append('main', 'still works')), 'resolved', 'others are acknowledged');
    t.equal(await codeOf(log.close(), 8000), 'resolved', 'close');
    await endWorkers();
  },
);
