// What a log must hold, as plain arrays: the model of the model proof. It knows calls (an append or an appendMany) by lane
// in the order they were made, and decides, whenever it is shown the whole log, which record came from which call:
//
//   - a call that was answered stands where the answer said, whole;
//   - a call without an answer when its process was killed is in doubt: a prefix of its records may be there, none behind
//     it of the same lane without it; what is decided once stays;
//   - a refused call left nothing, but where it was refused because the log closed under a lane of somebody else: there a
//     prefix of it may be left.
//
// Records of different lanes may alternate in any way, and may be equal byte for byte: so all ways to deal the records out
// to the lanes are followed at once, and only if none is left is the log wrong.

import { type CallSpec, isUnterminated, optionsOf, payloadsOf, type WireRecord } from './model-protocol.ts';

export class Violation extends Error {}

export function violate(message: string): never {
  throw new Violation(message);
}

export interface ModelRecord {
  readonly stream: string;
  readonly key: Uint8Array | null;
  readonly payload: Uint8Array;
  readonly unterminated: boolean;
}

export interface Call {
  readonly spec: CallSpec;
  readonly records: readonly ModelRecord[];
  state: 'under way' | 'acknowledged' | 'half refused' | 'in doubt';
  firstOffset: number;
  lastOffset: number;
  /** Durable offset that a flush behind this call was answered with. */
  flushedAt: number;
}

export function makeCall(spec: CallSpec): Call {
  // The format does not tell a key of 0 bytes from none.
  const key = spec.keyBytes > 0 ? optionsOf(spec).key! : null;
  const unterminated = isUnterminated(spec);
  const records = payloadsOf(spec).map((payload) => ({ stream: spec.stream, key, payload, unterminated }));
  return { spec, records, state: 'under way', firstOffset: -1, lastOffset: -1, flushedAt: -1 };
}

function equalBytes(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === null || b === null ? a === b : Buffer.compare(a, b) === 0;
}

export function equalRecords(a: ModelRecord, b: ModelRecord): boolean {
  return (
    a.stream === b.stream &&
    a.unterminated === b.unterminated &&
    equalBytes(a.payload, b.payload) &&
    equalBytes(a.key, b.key)
  );
}

export function show(r: ModelRecord | undefined): string {
  if (r === undefined) return 'nothing';
  const key = r.key === null ? '' : `, key of ${r.key.length}`;
  return `${r.stream.slice(0, 8)}: ${r.payload.length} bytes ${Buffer.from(r.payload.subarray(0, 6)).toString('hex')}${key}`;
}

/** Records from `from` on that somebody was handed, in order; checked when the log is next shown whole. */
export interface Observation {
  readonly what: string;
  readonly stream: string | undefined;
  readonly from: number;
  readonly records: readonly WireRecord[];
  /** Ends early only here: every record below was durable when it was asked for. */
  readonly mustReach: number;
  readonly maxRecords: number;
}

interface Item {
  readonly record: ModelRecord;
  readonly call: Call;
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/** Ways to deal records out to lanes that are followed at once; more means that the model itself is at a loss. */
const MAX_WAYS = 20_000;

export class ModelLog {
  /** By offset; undefined where a record was removed before anybody saw it. */
  readonly decided: (ModelRecord | undefined)[] = [];
  start = 0;
  /** Calls that are not decided yet, by lane, in the order they were made. */
  readonly lanes = new Map<number, Call[]>();
  #observations: Observation[] = [];
  /** In-doubt records that turned out to be there, and not. */
  found = 0;
  lost = 0;
  compared = 0;

  get end(): number {
    return this.decided.length;
  }

  /** Every record below this has been durable: the last acknowledged one says so. */
  get acknowledgedEnd(): number {
    let end = this.end;
    for (const calls of this.lanes.values()) for (const c of calls) end = Math.max(end, c.lastOffset + 1);
    return end;
  }

  get underWay(): Call[] {
    return [...this.lanes.values()].flat().filter((c) => c.state === 'under way');
  }

  add(call: Call): void {
    const calls = this.lanes.get(call.spec.lane);
    if (calls === undefined) this.lanes.set(call.spec.lane, [call]);
    else calls.push(call);
  }

  forget(call: Call): void {
    const calls = this.lanes.get(call.spec.lane)!;
    calls.splice(calls.indexOf(call), 1);
  }

  observe(observation: Observation): void {
    this.#observations.push(observation);
  }

  /**
   * Shown the whole log: `records` are all that can be read, from `start` to before `end`. Decides every call.
   * @throws Violation
   */
  settle(start: number, end: number, records: readonly WireRecord[]): void {
    records.forEach((r, i) => {
      if (r.offset !== start + i) violate(`offset ${r.offset} was read where ${start + i} should stand`);
    });
    if (records.length !== end - start) {
      violate(`${records.length} records were read of a log from ${start} to before ${end}`);
    }
    if (end < this.end) violate(`the log ends at ${end}: offsets up to ${this.end - 1} were there before`);
    this.compared += records.length;
    for (let offset = start; offset < this.end; offset++) {
      const was = this.decided[offset];
      if (was !== undefined && !equalRecords(was, records[offset - start])) {
        violate(`offset ${offset} holds ${show(records[offset - start])}; it held ${show(was)}`);
      }
    }
    const before = this.end;
    this.#deal(start, records);
    for (let offset = before; offset < end; offset++) this.decided[offset] = records[offset - start];
    this.start = start;
    for (const [lane, calls] of this.lanes) {
      for (const c of calls) {
        if (c.flushedAt >= 0 && c.lastOffset >= c.flushedAt) {
          violate(
            `flush was answered at durable offset ${c.flushedAt}; a record of lane ${lane} appended before stands at ${c.lastOffset}`,
          );
        }
      }
    }
    this.lanes.clear();
    for (const o of this.#observations.splice(0)) this.check(o);
  }

  /** @throws Violation */
  check(o: Observation): void {
    let offset = o.from;
    const next = (): number => {
      while (offset < this.end && o.stream !== undefined && this.decided[offset]?.stream !== o.stream) {
        if (this.decided[offset] === undefined) return -1;
        offset++;
      }
      return offset;
    };
    for (const r of o.records) {
      if (next() < 0) return;
      if (r.offset !== offset) violate(`${o.what}: offset ${r.offset} came where ${offset} was next`);
      const expected = this.decided[offset];
      if (offset >= this.end) violate(`${o.what}: offset ${offset} was handed out and is not in the log`);
      if (expected === undefined) return;
      if (!equalRecords(r, expected)) violate(`${o.what}: offset ${offset} was ${show(r)}, is ${show(expected)}`);
      offset++;
    }
    this.compared += o.records.length;
    if (o.records.length < o.maxRecords && next() >= 0 && offset < o.mustReach) {
      violate(`${o.what}: it ended before offset ${offset}, of ${o.mustReach} that were durable`);
    }
  }

  /** Finds a way to deal the records that are not decided yet out to the lanes. @throws Violation where there is none */
  #deal(start: number, records: readonly WireRecord[]): void {
    const lanes = [...this.lanes.values()].map((calls) =>
      calls.flatMap((call) =>
        call.records.map((record, i): Item => {
          return { record, call, isFirst: i === 0, isLast: i === call.records.length - 1 };
        }),
      ),
    );
    const end = start + records.length;
    let ways = new Map<string, number[]>([['', lanes.map(() => 0)]]);
    for (let offset = this.end; offset < end; offset++) {
      const record = offset < start ? undefined : records[offset - start];
      const next = new Map<string, number[]>();
      for (const way of ways.values()) {
        lanes.forEach((items, lane) => {
          for (const at of starts(items, way[lane])) {
            if (!mayStandAt(items[at], offset, record)) continue;
            const to = way.with(lane, at + 1);
            next.set(to.join(), to);
          }
        });
      }
      if (next.size === 0) violate(`offset ${offset} holds ${show(record)}: ${this.#expected(lanes, ways)}`);
      if (next.size > MAX_WAYS) throw new Error(`more than ${MAX_WAYS} ways to deal the records out`);
      ways = next;
    }
    const whole = [...ways.values()].find((way) => lanes.every((items, i) => mayEndAt(items, way[i])));
    if (whole === undefined) {
      violate(`the log ends at ${end}: ${this.#expected(lanes, ways)}`);
    }
    lanes.forEach((items, lane) => {
      for (let i = 0; i < items.length; i++) {
        if (items[i].call.state !== 'in doubt') continue;
        if (i < whole[lane]) this.found++;
        else this.lost++;
      }
    });
  }

  #expected(lanes: readonly Item[][], ways: ReadonlyMap<string, readonly number[]>): string {
    const [way] = ways.values();
    const next = lanes.map((items, lane) => {
      const item = items[way[lane]];
      if (item === undefined) return undefined;
      const { call } = item;
      const where = call.state === 'acknowledged' ? ` at ${call.firstOffset} to ${call.lastOffset}` : '';
      return `call ${call.spec.call} of lane ${call.spec.lane}, ${call.state}${where} (${show(item.record)})`;
    });
    const texts = next.filter((n) => n !== undefined);
    return texts.length === 0 ? 'nothing more was appended' : `next was ${texts.join(' or ')}`;
  }
}

/** Where a lane may go on: at its next record, or behind calls of which the rest was refused. */
function starts(items: readonly Item[], at: number): number[] {
  const found = [at];
  for (let i = at; i < items.length && items[i].call.state === 'half refused';) {
    const { call } = items[i];
    while (i < items.length && items[i].call === call) i++;
    found.push(i);
  }
  return found.filter((i) => i < items.length);
}

function mayStandAt(item: Item, offset: number, record: ModelRecord | undefined): boolean {
  const { call } = item;
  if (call.state === 'acknowledged') {
    if (item.isFirst && call.firstOffset !== offset) return false;
    if (item.isLast && call.lastOffset !== offset) return false;
  }
  return record === undefined || equalRecords(item.record, record);
}

/** True where nothing from here on must be in the log. */
function mayEndAt(items: readonly Item[], at: number): boolean {
  for (let i = at; i < items.length; i++) {
    const { state } = items[i].call;
    if (state === 'acknowledged' || state === 'under way') return false;
  }
  return true;
}
