// Threads that end in the midst of appending: a producer of a lane, and one that had opened the whole log. Whatever moment
// it was, nothing acknowledged is lost, nothing is garbled, and everybody else goes on.

import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { open, read, type IoMode, type LogRecord } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { codeOf, until } from './log-support.ts';
import { recordsOf } from './pipeline-logs.ts';
import {
  payloadOf,
  produce,
  smallLog,
  UNDER_WAY,
  type Done,
  type Told,
  type WorkerTask,
} from './lifecycle-protocol.ts';
import { randomFrom } from './lifecycle-random.ts';

function start(task: WorkerTask): { worker: Worker; told: Told[] } {
  const worker = new Worker(new URL('./lifecycle-worker.js', import.meta.url), { workerData: task });
  const told: Told[] = [];
  worker.on('message', (m: Told) => told.push(m));
  return { worker, told };
}

/** Ends a thread at a moment of chance: after some acknowledgements, and a little. */
async function endSometime({ worker, told }: ReturnType<typeof start>, random: () => number): Promise<void> {
  const after = Math.floor(random() * 120);
  await until(() => told.length > after, 'the producer is at work');
  // Not to wait for anything: any moment will do, and it shall be another one every time.
  await delay(random() * 4);
  await worker.terminate();
}

interface ReadAgain {
  /** Why these records are not an unbroken beginning of what a producer appended, with all that it was told. */
  readonly wrong: readonly string[];
  /** Whether a record that was acknowledged to it is among them: it was judged by something. */
  readonly judged: boolean;
  /** Whether there are more than it was told of: it was ended in the midst of things. */
  readonly underWay: boolean;
}

function judge(records: readonly LogRecord[], who: string, told: readonly Told[]): ReadAgain {
  const own = records.filter((r) => r.stream === who);
  const at = own.findIndex((r, i) => !payloadOf(who, i).equals(r.payload));
  const wrong = at < 0 ? [] : [`${who}: record ${at} of it, offset ${own[at].offset}, is not what was appended`];
  const lost = told.find(({ i, offset }) => own[i]?.offset !== offset);
  if (lost !== undefined) wrong.push(`${who}: record ${lost.i} was acknowledged at ${lost.offset}, not found there`);
  return {
    wrong,
    judged: told.some(({ i, offset }) => own[i]?.offset === offset),
    underWay: own.length > told.length,
  };
}

export async function terminateProducers(io: IoMode, disk: string, times: number, seed: number): Promise<Done> {
  const random = randomFrom(seed);
  const dir = mkdtempSync(join(disk, 'producers-'));
  const log = await open({ ...smallLog, dir, io });
  const violations: string[] = [];
  const expect = async (what: string, promise: Promise<unknown>): Promise<void> => {
    const code = await codeOf(promise);
    if (code !== 'resolved') violations.push(`${io}, seed ${seed}: ${what}: ${code === 'late' ? 'it hangs' : code}`);
  };
  const steady: Told[] = [];
  void produce(log, 'steady', (told) => steady.push(told)).catch(() => undefined);
  const victims: Told[][] = [];
  for (let i = 0; i < times; i++) {
    const victim = start({ kind: 'produce', handle: log.lane(), who: `victim-${i}` });
    await endSometime(victim, random);
    victims.push(victim.told);
    const { length } = steady;
    await expect(`termination ${i}: flush`, log.flush());
    await expect(
      `termination ${i}: the other lane`,
      until(() => steady.length > length + 2, 'more acknowledgements'),
    );
  }
  await expect('close', log.close());
  const again = await open({ ...smallLog, dir, io });
  const records = await recordsOf(again);
  await again.close();
  const found = victims.map((told, i) => judge(records, `victim-${i}`, told));
  violations.push(...[judge(records, 'steady', steady), ...found].flatMap((f) => f.wrong));
  const { problems } = verify(new JsIo(), dir);
  violations.push(...problems.map((p) => `verify: ${p.file}@${p.position}: ${p.message}`));
  const figures = {
    [UNDER_WAY]: found.filter((f) => f.underWay).length,
    'acknowledged to the ended': victims.flat().length,
    'acknowledged to the other': steady.length,
  };
  return { tried: found.filter((f) => f.judged).length, violations, figures };
}

/**
 * The thread that had the log open is ended; the same process opens the directory again at once. Not in mode js: there the
 * lock is the process id alone, which lives, and nobody is left to say that the thread does not. It must say so, and what
 * was acknowledged is then read as another process reads it.
 */
export async function terminateOpeners(io: IoMode, disk: string, times: number, seed: number): Promise<Done> {
  const random = randomFrom(seed);
  const violations: string[] = [];
  let acknowledged = 0;
  let judged = 0;
  let underWay = 0;
  for (let i = 0; i < times; i++) {
    const dir = mkdtempSync(join(disk, 'openers-'));
    const opener = start({ kind: 'open and produce', options: { ...smallLog, dir, io }, who: 'opener' });
    await endSometime(opener, random);
    acknowledged += opener.told.length;
    const where = `${io}, seed ${seed}: after termination ${i}`;
    try {
      const found = judge(await recordsAfter(dir, io), 'opener', opener.told);
      violations.push(...found.wrong.map((w) => `${where}: ${w}`));
      if (found.judged) judged++;
      if (found.underWay) underWay++;
    } catch (error) {
      violations.push(`${where}: ${String(error).slice(0, 200)}`);
    }
  }
  return { tried: judged, violations, figures: { [UNDER_WAY]: underWay, acknowledged } };
}

/** What is read of a log whose thread was ended, and that it can be appended to; in mode js, that it stays locked. */
async function recordsAfter(dir: string, io: IoMode): Promise<LogRecord[]> {
  if (io === 'js') {
    const code = await codeOf(open({ ...smallLog, dir, io }));
    if (code !== 'LOCKED') throw new Error(`opening it again: ${code}, expected LOCKED`);
    const records: LogRecord[] = [];
    for await (const record of read({ dir })) records.push(record);
    return records;
  }
  const log = await open({ ...smallLog, dir, io });
  const records = await recordsOf(log);
  await log.append('after', 'x');
  await log.close();
  return records;
}

/** A producer ends that has read none of more acknowledgements than a lane holds: nobody else may wait for it for ever. */
export async function terminateWithFullLane(io: IoMode, disk: string): Promise<Done> {
  const dir = mkdtempSync(join(disk, 'full-lane-'));
  const window = { maxRecords: 1, maxBytes: '16KiB', lingerMs: 0 };
  const log = await open({ ...smallLog, dir, io, window, laneBytes: '128KiB' });
  const records = 1500;
  const worker = new Worker(new URL('./lifecycle-worker.js', import.meta.url), {
    workerData: { kind: 'fill a lane', handle: log.lane(), records } satisfies WorkerTask,
  });
  await once(worker, 'message');
  await worker.terminate();
  const violations: string[] = [];
  const before = log.stats().durableOffset;
  let answered = 0;
  if (before >= records) violations.push(`${io}: all ${records} records were drained before: the case was not reached`);
  for (const [what, call] of [
    ['append', () => log.append('s', 'x')],
    ['flush', () => log.flush()],
    ['append after the flush', () => log.append('s', 'x')],
    ['close', () => log.close()],
  ] as const) {
    const code = await codeOf(call());
    if (code !== 'resolved') violations.push(`${io}: ${what}: ${code === 'late' ? 'it hangs' : code}`);
    else if (before < records) answered++;
  }
  const { durableOffset } = log.stats();
  if (durableOffset !== records + 2) violations.push(`${io}: durable up to ${durableOffset}, expected ${records + 2}`);
  return { tried: answered, violations, figures: { 'drained before the flush': before } };
}
