// The commands of the model proof, weighted, and one fixed run per mode that meets everything once, so that even the
// quick proof has been everywhere. What a command does depends on the model only through what is there when it runs
// (which lanes are open, where the log starts and ends), so that any part of a run is a run too: shrinking needs that.

import fc from 'fast-check';
import type { Call, ModelLog } from './model-log.ts';
import { ioModes, refusals, type Answer, type Refusal, type Request } from './model-protocol.ts';
import type { ChildSystem } from './model-process.ts';
import type { Run } from './model-run.ts';
import { shapes } from './model-setting.ts';

export type Command = fc.AsyncCommand<ModelLog, Run>;

function command(text: string, run: (run: Run, model: ModelLog) => Promise<unknown>): Command {
  return {
    check: () => true,
    run: async (model, real) => {
      real.commands++;
      await run(real, model);
    },
    toString: () => text,
  };
}

/** A payload's size: so many bytes from zero, or from the largest that the log takes. */
interface Size {
  readonly fromCap: boolean;
  readonly bytes: number;
}

interface Piece {
  /** Which of the lanes that are open, modulo their number. */
  readonly lane: number;
  readonly stream: string;
  readonly keyBytes: number;
  readonly sizes: readonly Size[];
}

function text(p: Piece): string {
  const first = p.sizes.slice(0, 6).map((s) => (s.fromCap ? `cap${s.bytes === 0 ? '' : -s.bytes}` : s.bytes));
  const sizes = first.join() + (p.sizes.length > 6 ? ` … ${p.sizes.length}` : '');
  return `${p.stream.slice(0, 8)}@${p.lane}[${sizes}]${p.keyBytes < 0 ? '' : `k${p.keyBytes}`}`;
}

/** Three calls, and how many more there are. */
function texts(pieces: readonly Piece[]): string {
  const more = pieces.length > 3 ? ` … ${pieces.length} calls` : '';
  return pieces.slice(0, 3).map(text).join(' ') + more;
}

function put(run: Run, p: Piece): Call {
  const cap = run.maxRecordBytes;
  const keyBytes = Math.min(p.keyBytes, cap);
  const room = cap - Math.max(0, keyBytes);
  const sizes = p.sizes.map((s) => Math.max(0, Math.min(room, s.fromCap ? room - s.bytes : s.bytes)));
  const lanes = [0, ...run.openLanes];
  return run.append({ lane: lanes[p.lane % lanes.length], stream: p.stream, keyBytes, sizes });
}

const append = (p: Piece): Command => command(`append ${text(p)}`, async (run) => run.settled([put(run, p)]));

/** Several calls at once; waits for all answers, for the first few, or for none. */
const burst = (pieces: readonly Piece[], wait: 'all' | 'none'): Command =>
  command(`burst ${wait} ${texts(pieces)}`, async (run) => {
    const calls = pieces.map((p) => put(run, p));
    if (wait === 'all') await run.settled(calls);
  });

/** A place between just before the start and just behind the end, as a part of what is there. */
function placeIn(model: ModelLog, part: number): number {
  const { start, acknowledgedEnd: end } = model;
  return Math.max(0, Math.round(start - 2 + part * (end - start + 4)));
}

function insideOf(model: ModelLog, part: number): number {
  const { start, acknowledgedEnd: end } = model;
  return Math.round(start + part * (end - start));
}

const flush = command('flush', (run) => run.flush());
const readSome = (part: number | undefined, stream: string | undefined, count: number): Command =>
  command(`read ${part === undefined ? '' : part.toFixed(3)} ${stream ?? ''} ${count}`, (run, model) =>
    run.read(part === undefined ? undefined : placeIn(model, part), stream, count),
  );
const follow = (part: number, stream: string | undefined): Command =>
  command(`follow ${part.toFixed(3)} ${stream ?? ''}`, async (run, model) => {
    if (run.followers < 4) run.follow(insideOf(model, part), stream);
  });
const truncate = (part: number): Command =>
  command(`truncate ${part.toFixed(3)}`, (run, model) => run.truncateBefore(insideOf(model, part)));
const openLane = (worker: boolean): Command =>
  command(`lane${worker ? ' in a worker' : ''}`, (run) => run.openLane(worker));
const closeLane = (which: number): Command =>
  command(`closeLane ${which}`, async (run) => {
    const { openLanes } = run;
    if (openLanes.length > 0) await run.closeLane(openLanes[which % openLanes.length]);
  });
const refused = (what: Refusal): Command => command(`refused: ${what}`, (run) => run.refused(what));
const check = (through: 'log' | 'directory'): Command => command(`check ${through}`, (run) => run.check(through));

/** Changes of the setting at a reopening; undefined leaves as it is. */
interface Change {
  readonly shape?: number;
  readonly io?: number;
  readonly retention?: boolean;
}

function changed(run: Run, change: Change, modes: readonly string[]): Run['setting'] {
  const { setting } = run;
  const io = change.io === undefined ? setting.io : (modes[change.io % modes.length] as Run['setting']['io']);
  if (io !== setting.io) run.reach('reopenings in another mode');
  if (change.shape !== undefined && shapes[change.shape].segmentBytes !== shapes[setting.shape].segmentBytes) {
    run.reach('reopenings with other segments');
  }
  return { io, shape: change.shape ?? setting.shape, retention: change.retention ?? setting.retention };
}

const reopen = (change: Change, modes: readonly string[]): Command =>
  command(`reopen ${JSON.stringify(change)}`, async (run) => {
    await run.close();
    await run.open(changed(run, change, modes));
  });

export const underKill = ['nothing', 'flush', 'truncate', 'close'] as const;

interface Kill {
  readonly pieces: readonly Piece[];
  /** Part of the calls that are answered before. */
  readonly after: number;
  readonly under: (typeof underKill)[number];
  readonly part: number;
  /** Kills the next process too, so long after it began to open the log. */
  readonly againAfterMs: number | undefined;
  readonly change: Change;
}

const kill = (k: Kill, modes: readonly string[]): Command => {
  const again = k.againAfterMs === undefined ? '' : ` again after ${k.againAfterMs.toFixed(1)} ms`;
  const what = `kill after ${k.after.toFixed(2)} of ${texts(k.pieces)}, under ${k.under} ${k.part.toFixed(3)}`;
  return command(`${what}${again} ${JSON.stringify(k.change)}`, async (run, model) => {
    const offset = insideOf(model, k.part);
    const calls = k.pieces.map((p) => put(run, p));
    await run.settled(calls, Math.floor(k.after * calls.length));
    if (k.under === 'truncate') run.mayTruncate(offset);
    if (k.under === 'close') run.mayClose();
    const requests: Record<Kill['under'], Request | undefined> = {
      nothing: undefined,
      flush: { kind: 'flush' },
      truncate: { kind: 'truncate', offset },
      close: { kind: 'close' },
    };
    const request = requests[k.under];
    const ask = (child: ChildSystem): Promise<Answer>[] => (request === undefined ? [] : [child.ask(request)]);
    await run.kill(ask);
    if (k.againAfterMs !== undefined) await run.killWhileOpening(k.againAfterMs);
    await run.open(changed(run, k.change, modes));
  });
};

const streams = ['s', 'orders', 'x'.repeat(200), 'T-1.2_3'];
const size = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ fromCap: fc.constant(false), bytes: fc.constantFrom(0, 1, 7, 8, 9, 15, 16, 17) }),
  },
  { weight: 3, arbitrary: fc.record({ fromCap: fc.constant(false), bytes: fc.nat(600) }) },
  { weight: 2, arbitrary: fc.record({ fromCap: fc.constant(true), bytes: fc.nat(9) }) },
);
const pieceOf = (maxSizes: number): fc.Arbitrary<Piece> =>
  fc.record({
    lane: fc.nat(5),
    stream: fc.constantFrom(...streams),
    keyBytes: fc.oneof(
      { weight: 3, arbitrary: fc.constant(-1) },
      { weight: 1, arbitrary: fc.constantFrom(0, 1, 7, 300) },
    ),
    sizes: fc.array(size, { minLength: 1, maxLength: maxSizes }),
  });
const part = fc.double({ min: 0, max: 1, noNaN: true });
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 2 });
const change = (): fc.Arbitrary<Change> =>
  fc.record(
    { shape: fc.nat(shapes.length - 1), io: fc.nat(ioModes.length - 1), retention: fc.boolean() },
    { requiredKeys: [] },
  );

/** @param modes those that work here */
export function anyCommand(modes: readonly string[]): fc.Arbitrary<Command> {
  const pieces = fc.array(pieceOf(4), { minLength: 1, maxLength: 60, size: 'max' });
  const kills = fc.record({
    pieces,
    after: part,
    under: fc.constantFrom(...underKill),
    part,
    againAfterMs: maybe(fc.double({ min: 0, max: 120, noNaN: true })),
    change: change(),
  });
  return fc.oneof(
    { weight: 8, arbitrary: pieceOf(1).map(append) },
    { weight: 5, arbitrary: pieceOf(30).map(append) },
    {
      weight: 10,
      arbitrary: fc.tuple(pieces, fc.constantFrom('all' as const, 'none' as const)).map((a) => burst(...a)),
    },
    { weight: 4, arbitrary: fc.constant(flush) },
    {
      weight: 6,
      arbitrary: fc
        .tuple(maybe(part), maybe(fc.constantFrom(...streams)), fc.oneof(fc.nat(20), fc.constant(1e6)))
        .map((a) => readSome(...a)),
    },
    { weight: 4, arbitrary: fc.tuple(part, maybe(fc.constantFrom(...streams))).map((a) => follow(...a)) },
    { weight: 3, arbitrary: part.map(truncate) },
    {
      weight: 3,
      arbitrary: fc
        .oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) })
        .map(openLane),
    },
    { weight: 1, arbitrary: fc.nat(3).map(closeLane) },
    { weight: 3, arbitrary: fc.constantFrom(...(Object.keys(refusals) as Refusal[])).map(refused) },
    { weight: 3, arbitrary: fc.constantFrom('log' as const, 'directory' as const).map(check) },
    { weight: 3, arbitrary: change().map((c) => reopen(c, modes)) },
    { weight: 2, arbitrary: kills.map((k) => kill(k, modes)) },
  );
}

/**
 * Meets everything once: every refusal, rolls, laps, recycled segments, followers over rolls, kills.
 * @param variant two of four kinds of kill each: a process that starts again is what costs time here
 */
export function tour(modes: readonly string[], variant: number): Command[] {
  const bytes = (...sizes: number[]): Size[] => sizes.map((b) => ({ fromCap: false, bytes: b }));
  const cap: Size = { fromCap: true, bytes: 0 };
  const many = (count: number, sizes: readonly Size[], lanes = 1): Piece[] =>
    Array.from({ length: count }, (_, i) => {
      return { lane: i % lanes, stream: streams[i % 3], keyBytes: i % 4 === 1 ? i % 9 : -1, sizes };
    });
  const killed = (under: Kill['under'], againAfterMs?: number): Command =>
    kill({ pieces: many(90, bytes(300), 3), after: 0.5, under, part: 0.4, againAfterMs, change: {} }, modes);
  return [
    follow(0, undefined),
    follow(0, 's'),
    append({ lane: 0, stream: 's', keyBytes: -1, sizes: bytes(0) }),
    append({ lane: 0, stream: 's', keyBytes: 0, sizes: [...bytes(0, 1, 7, 8, 9), cap] }),
    ...(Object.keys(refusals) as Refusal[]).map(refused),
    burst(many(60, [cap]), 'none'),
    flush,
    openLane(false),
    openLane(true),
    burst(many(120, bytes(200), 3), 'none'),
    readSome(0.5, undefined, 10),
    readSome(undefined, 'orders', 1e6),
    readSome(0, undefined, 5),
    readSome(1, undefined, 5),
    openLane(false),
    openLane(false),
    check('log'),
    closeLane(1),
    check('directory'),
    truncate(0.7),
    follow(0.2, undefined),
    burst(many(60, [cap]), 'none'),
    truncate(0.5),
    readSome(0, undefined, 5),
    burst(many(60, [cap]), 'all'),
    check('log'),
    variant % 2 === 0 ? killed('nothing') : killed('flush'),
    openLane(false),
    openLane(true),
    burst(many(40, bytes(900), 3), 'none'),
    reopen({ shape: 2 }, modes),
    append({ lane: 0, stream: 's', keyBytes: -1, sizes: bytes(10) }),
    check('log'),
    openLane(false),
    variant % 2 === 0 ? killed('truncate', 20) : killed('close', 60),
    readSome(0.3, 's', 1e6),
    reopen({ shape: 1, retention: true, io: 1 }, modes),
    burst(many(110, bytes(900, 30)), 'all'),
    check('log'),
    // Frames of 16 bytes end exactly at the end of a lane of 4 KiB; where they stood 8 beside it, one of 24 mends that.
    ...[0, 8, 0].map((size, i) =>
      append({
        lane: 0,
        stream: 's',
        keyBytes: -1,
        sizes: bytes(...Array.from({ length: i === 1 ? 1 : 600 }, () => size)),
      }),
    ),
    reopen({ shape: 3, retention: false }, modes),
    burst(many(30, [cap]), 'all'),
    check('directory'),
  ];
}
