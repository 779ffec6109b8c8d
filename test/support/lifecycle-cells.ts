// Makes every call of the lifecycle table in one state, and says what each gave. All but the closing ones are made at
// once, in one state; close, close again and dispose in another of the same kind.

import { open, openLane, read, type LogOptionsInput, type SpillwayLog } from '../../src/index.ts';
import { codeOf, until } from './log-support.ts';
import { bringInto, type InState } from './lifecycle-states.ts';
import { calls, expected } from './lifecycle-table.ts';

export interface Cell {
  readonly call: string;
  readonly state: string;
  /** As in the table, `hangs`, or why the state was not reached. */
  readonly came: string;
  readonly expected: string;
}

const HANG_MS = 5000;
const OVER = 'the drain was over';
/** So often it is tried to meet one. */
const DRAINS = 10;
const closing = ['close', 'close again', 'asyncDispose'];

async function readAll(records: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of records);
}

async function openAgain(s: InState): Promise<void> {
  const log = await open({ dir: s.dir, io: s.io! });
  await log.close();
}

function make(call: string, s: InState): Promise<unknown> {
  const log = s.log as SpillwayLog;
  const lane = s.lane!;
  const calling: Record<string, () => unknown> = {
    open: () => openAgain(s),
    append: () => log.append('s', 'x'),
    appendMany: () => log.appendMany('s', ['x', 'y']),
    flush: () => log.flush(),
    read: () => readAll(log.read()),
    'read, following': () => readAll(log.read({ follow: true })),
    'read elsewhere': () => readAll(read({ dir: s.dir })),
    truncateBefore: () => log.truncateBefore(1),
    lane: () => log.lane(),
    stats: () => log.stats(),
    openLane: () => openLane(s.handle!).close(),
    'lane.append': () => lane.append('s', 'x'),
    'lane.appendMany': () => lane.appendMany('s', ['x', 'y']),
    'lane.close': () => lane.close(),
    close: () => log.close(),
    'close again': () => log.close(),
    asyncDispose: () => log[Symbol.asyncDispose](),
  };
  // What throws at once counts as what rejects.
  return new Promise((resolve) => resolve(calling[call]()));
}

/** `resolved` of the support function is `ok` here, `late` is `hangs`. */
const words: Record<string, string> = { resolved: 'ok', late: 'hangs' };

async function cellsOf(
  names: readonly string[],
  state: string,
  dir: string,
  io: LogOptionsInput['io'],
): Promise<Cell[]> {
  const s = await bringInto(state, dir, io);
  const cells = names.filter((call) => expected(call, state) !== undefined);
  if (!s.holds()) {
    await s.leave();
    await s.end();
    return cells.map((call) => ({ call, state, came: 'the state was not reached', expected: expected(call, state)! }));
  }
  const came = new Map<string, string>();
  const before = new Map<string, boolean>();
  const settled = cells.map(async (call) => {
    const code = await codeOf(make(call, s), 2 * HANG_MS);
    // Another thread has to start before it can meet the lock: the drain may have ended by then.
    const isOver = state === 'draining' && call === 'open' && !s.holds();
    came.set(call, isOver ? OVER : (words[code] ?? code));
  });
  const stillHolds = s.holds();
  const waits = (call: string): boolean => expected(call, state)!.startsWith('waits');
  await until(() => cells.every((c) => waits(c) || came.has(c)), 'all that need not wait', HANG_MS).catch(
    () => undefined,
  );
  for (const call of cells) before.set(call, came.has(call));
  await s.leave();
  await Promise.all(settled);
  await s.end();
  return cells.map((call) => {
    const text = came.get(call)!;
    // A drain ends by itself: whether a call was answered before its end is a matter of luck.
    const waited = !before.get(call) && text !== 'hangs' && state !== 'draining';
    const reached = stillHolds ? '' : 'the state did not last; ';
    return { call, state, came: `${reached}${waited ? 'waits, ' : ''}${text}`, expected: expected(call, state)! };
  });
}

/** All cells of a state. @param directory gives an empty one for each log */
export async function cells(state: string, directory: () => string, io: LogOptionsInput['io']): Promise<Cell[]> {
  const ordinary = calls.filter((call) => !closing.includes(call));
  let first = await cellsOf(ordinary, state, directory(), io);
  for (let i = 1; i < DRAINS && first.some(({ came }) => came === OVER); i++) {
    first = await cellsOf(ordinary, state, directory(), io);
  }
  return state === 'opening' ? first : [...first, ...(await cellsOf(closing, state, directory(), io))];
}

/** Cells of several states, one after the other. Where a state cannot be reached, that is what its cells say. */
export async function cellsIn(
  states: readonly string[],
  directory: () => string,
  io: LogOptionsInput['io'],
): Promise<Cell[]> {
  const all: Cell[] = [];
  for (const state of states) {
    try {
      all.push(...(await cells(state, directory, io)));
    } catch (error) {
      all.push({ call: 'every call', state, came: String(error), expected: 'the state is reached' });
    }
  }
  return all;
}
