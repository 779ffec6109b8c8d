// The system under test of the model proof, as a process that can be killed: one log at a time, commands over IPC, and
// every acknowledgement told to the parent as soon as its promise settles.

import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { open, openLane, type Lane, type LogRecord, type SpillwayLog } from '../../src/index.ts';
import {
  carryOut,
  codeOfError,
  type Answer,
  type CallSpec,
  type FromChild,
  type Refusal,
  type Request,
  type Settled,
  type ToChild,
  type WireRecord,
} from './model-protocol.ts';

let log: SpillwayLog | undefined;
const lanes = new Map<number, Lane | Worker>();

function tell(message: FromChild): void {
  process.send!(message);
}

function wire(r: LogRecord): WireRecord {
  return { offset: r.offset, stream: r.stream, key: r.key, payload: r.payload, unterminated: r.unterminated };
}

function append(spec: CallSpec): void {
  const lane = spec.lane === 0 ? log! : lanes.get(spec.lane)!;
  if (lane instanceof Worker) lane.postMessage(spec);
  else void carryOut(lane, spec).then((settled) => tell({ settled }));
}

async function follow(follower: number, options: { from?: number; stream?: string }): Promise<void> {
  try {
    for await (const record of log!.read({ ...options, follow: true })) tell({ follower, records: [wire(record)] });
    tell({ follower, ended: 'end' });
  } catch (error) {
    tell({ follower, ended: codeOfError(error) });
  }
}

async function readRecords(request: Request & { kind: 'read' }): Promise<WireRecord[]> {
  const { kind: _kind, count, ...options } = request;
  const records: WireRecord[] = [];
  for await (const record of log!.read(options)) {
    if (records.length === count) break;
    records.push(wire(record));
  }
  return records;
}

async function openOneLane(lane: number, inWorker: boolean): Promise<void> {
  const handle = log!.lane();
  if (!inWorker) {
    lanes.set(lane, openLane(handle));
    return;
  }
  const worker = new Worker(new URL('./model-lane-worker.js', import.meta.url), { workerData: handle });
  await once(worker, 'message');
  worker.on('message', (settled: Settled) => tell({ settled }));
  lanes.set(lane, worker);
}

async function closeLane(lane: number): Promise<void> {
  const taken = lanes.get(lane)!;
  lanes.delete(lane);
  if (!(taken instanceof Worker)) return taken.close();
  const gone = once(taken, 'exit');
  taken.postMessage('close');
  await gone;
}

/** @throws what the misuse throws */
function misuse(what: Refusal): unknown {
  const l = log!;
  const cap = l.options.maxRecordBytes;
  switch (what) {
    case 'stream name with a slash':
      return l.append('../s', 'x');
    case 'payload above the cap':
      return l.append('s', Buffer.alloc(cap + 1));
    case 'one of three payloads above the cap':
      return l.appendMany('s', ['a', Buffer.alloc(cap + 1), 'b']);
    case 'payload and key together above the cap':
      return l.append('s', Buffer.alloc(cap), { key: 'k' });
    case 'no payloads':
      return l.appendMany('s', []);
    case 'a number as payload':
      return l.append('s', 5 as never);
    case 'unknown append option':
      return l.append('s', 'x', { kee: 'k' } as never);
    case 'read from -1':
      return l.read({ from: -1 }).next();
    case 'read from beyond the end':
      return l.read({ from: l.stats().durableOffset + 1_000_000 }).next();
    case 'read of a bad stream':
      return l.read({ stream: '.' }).next();
    case 'truncate beyond the end':
      return l.truncateBefore(l.stats().durableOffset + 1_000_000);
    case 'truncate before -1':
      return l.truncateBefore(-1);
    case 'lane taken twice': {
      const handle = l.lane();
      const lane = openLane(handle);
      try {
        return openLane(handle);
      } finally {
        void lane.close();
      }
    }
    case 'open twice':
      return open(l.options);
  }
}

async function answer(request: Request): Promise<Answer> {
  switch (request.kind) {
    case 'open':
      log = await open(request.options);
      return { stats: log.stats() };
    case 'flush':
      await log!.flush();
      return { stats: log!.stats() };
    case 'stats':
      return { stats: log!.stats() };
    case 'truncate':
      await log!.truncateBefore(request.offset);
      return { stats: log!.stats() };
    case 'read':
      return { records: await readRecords(request) };
    case 'lane':
      await openOneLane(request.lane, request.worker);
      return {};
    case 'closeLane':
      await closeLane(request.lane);
      return {};
    case 'refused':
      await misuse(request.what);
      return {};
    case 'close':
      await log!.close();
      // Each answers what it still holds, and ends.
      await Promise.all([...lanes.keys()].map(closeLane));
      return { stats: log!.stats() };
    case 'afterClose':
      await log!.append('s', 'x');
      return {};
  }
}

process.on('message', (m: ToChild) => {
  if ('append' in m) return append(m.append);
  if ('follow' in m) {
    const { follower, ...options } = m.follow;
    return void follow(follower, options);
  }
  const { id } = m;
  return void answer(m.request).then(
    (given) => tell({ id, answer: given }),
    (error: unknown) => tell({ id, answer: { code: codeOfError(error), message: String(error) } }),
  );
});
process.on('disconnect', () => process.exit());
tell({ ready: true });
