// Runs cases over raw sockets against a gateway process, and looks at it after each.
//
// After every case: it heard what it should have, in its order, and nothing more; the process is the same and takes a good record
// over a fresh connection; the log holds what the case may store and nothing else; its counter moved and no 5xx was given that it
// does not expect; nothing is held for anybody. After every area: the descriptors are those of before, nothing was logged as an
// error, resident memory is within RSS_BOUND_BYTES of what it was once warm.

import { errorKinds, type ErrorCode } from '../../src/base/errors.ts';
import { Raw, type Figures } from '../support/gateway-talk.ts';
import { within } from '../support/log-support.ts';
import { latin1, MIB, type Area, type Bytes, type Case, type Place, type Said, type Talk } from './case.ts';
import { counterOf, judgeAnswer, saidInFrames } from './judge.ts';
import { TOKEN, type Subject } from './subject.ts';

/** Long beside what an answer takes, short beside the deadlines that the full run waits for. */
const HEARS_WITHIN_MS = 10_000;
const FULL_HEARS_WITHIN_MS = 60_000;
const AT_REST_WITHIN_MS = 10_000;
/** What V8 and malloc may keep of what the corpus sent, beyond what good requests have already made them keep. */
export const RSS_BOUND_BYTES = 64 * MIB;

export interface Outcome {
  readonly name: string;
  readonly wrong: readonly string[];
  readonly left: readonly string[];
  readonly ms: number;
}

async function converse(subject: Subject, area: Area, c: Case, at: Place): Promise<string[]> {
  const wire = await Raw.connect(area.to === 'http' ? subject.http : area.to === 'tcp' ? subject.tcp : subject.unix);
  const figures = (): Promise<Figures> => subject.figures();
  const until: Talk['until'] = async (condition, what) => {
    for (const deadline = performance.now() + deadlineOf(c); !condition(await figures());) {
      if (performance.now() > deadline) throw new Error(`not within ${deadlineOf(c)} ms: ${what}`);
    }
  };
  const talk: Talk = { wire, figures, until, http: subject.http, tcp: subject.tcp };
  try {
    for (const step of c.send(at)) {
      if (typeof step === 'function') await step(talk);
      else if (wire.socket.writable) wire.write(latin1(step));
    }
    return area.to === 'http' ? await hearAnswers(wire, c) : await hearFrames(wire, c);
  } catch (error) {
    return [(error as Error).message];
  } finally {
    wire.destroy();
  }
}

const deadlineOf = (c: Case): number => (c.full === true ? FULL_HEARS_WITHIN_MS : HEARS_WITHIN_MS);

async function hearAnswers(wire: Raw, c: Case): Promise<string[]> {
  const wrong: string[] = [];
  for (const said of c.gets) {
    if (said === 'closed') {
      await wire.ended(deadlineOf(c));
      if (wire.rest !== '') wrong.push(`expected nothing more, got '${wire.rest.slice(0, 200)}'`);
      return wrong;
    }
    let answer: Awaited<ReturnType<Raw['answer']>> | undefined;
    try {
      answer = await wire.answer(deadlineOf(c));
    } catch (error) {
      return [...wrong, `expected ${said}, got: ${(error as Error).message.slice(0, 300)}`];
    }
    wrong.push(...judgeAnswer(said, answer, c.says));
  }
  if (wire.rest !== '') wrong.push(`expected nothing more, got '${wire.rest.slice(0, 200)}'`);
  return wrong;
}

async function hearFrames(wire: Raw, c: Case): Promise<string[]> {
  if (c.gets.includes('closed')) await wire.ended(deadlineOf(c));
  const { said, message } = saidInFrames(wire.received);
  if (wire.isEnded) said.push('closed');
  const told = c.mayStore === undefined ? said : said.filter((word) => !word.startsWith('ACK'));
  const [expected, came] = [c.gets, told].map((list: readonly Said[] | readonly string[]) => list.join(', '));
  if (expected !== came) return [`expected ${expected}, got ${came}${message === '' ? '' : ` (${message})`}`];
  return c.says === undefined || c.says.test(message) ? [] : [`expected a message like ${c.says}, got '${message}'`];
}

const held = ['ingressBytes', 'answerBytes', 'queuedBytes', 'paused'] as const;

/** Asks until nothing is held and nobody but the asker is connected. @returns the figures, and what was left */
async function atRest(subject: Subject): Promise<{ figures: Figures; left: string[] }> {
  const deadline = performance.now() + AT_REST_WITHIN_MS;
  for (;;) {
    const figures = await subject.figures();
    const left = held.filter((name) => figures[name] !== 0).map((name) => `${name} ${figures[name]}`);
    if (figures.connections > 1) left.push(`connections ${figures.connections}`);
    if (left.length === 0 || performance.now() > deadline) return { figures, left };
  }
}

function sameBytes(a: Bytes, b: Uint8Array): boolean {
  return Buffer.compare(latin1(a), b) === 0;
}

const shown = (bytes: Bytes): string =>
  `'${Buffer.from(latin1(bytes)).toString('latin1', 0, 60)}' (${bytes.length} bytes)`;

/**
 * The log from one offset to the next good record: what the case may store, and nothing else. Offsets have no gaps: where the good
 * record got the next one, there is nothing to read.
 */
async function wrongRecords(
  subject: Subject,
  from: number,
  to: number,
  at: Place,
  stores: readonly Bytes[],
): Promise<string[]> {
  if (from === to && stores.length === 0) return [];
  const found = await subject.recordsFrom(from);
  const last = found.pop();
  if (last?.stream !== 'good') return [`the good record is not the last of the log: ${last?.stream}`];
  const wrong = found
    .filter(({ stream }) => stream !== at.stream)
    .map(({ stream, payload }) => `stored in stream '${stream}': ${shown(payload)}`);
  if (found.length !== stores.length) wrong.push(`expected ${stores.length} records to be stored, got ${found.length}`);
  const i = found.findIndex(({ payload }, n) => n < stores.length && !sameBytes(stores[n], payload));
  if (i >= 0) wrong.push(`record ${i}: expected ${shown(stores[i])}, got ${shown(found[i].payload)}`);
  return wrong;
}

/** @param asked requests for figures between them, which move some counters too */
function wrongCounters(before: Figures, after: Figures, asked: number, area: Area, c: Case): string[] {
  const wrong: string[] = [];
  const counter = counterOf(c, area.to);
  const own = counter === 'answers2xx' || counter === 'connectionsTotal' ? asked : 0;
  if (!(after[counter] - before[counter] > own)) wrong.push(`the counter ${counter} did not move`);
  const refusals = c.gets.filter((said) => errorKinds[said as ErrorCode]?.status >= 500).length;
  const gave = after.answers5xx - before.answers5xx;
  if (area.to === 'http' && gave !== refusals) wrong.push(`expected ${refusals} answers of 5xx, ${gave} were given`);
  return wrong;
}

/** @param next offset that the next record of the log gets; @returns that after the case */
export async function runCase(
  subject: Subject,
  area: Area,
  c: Case,
  index: number,
  next: number,
): Promise<Outcome & { next: number }> {
  const from = performance.now();
  const at = { stream: c.stream ?? `${area.name.replaceAll(' ', '-')}-${index}`, token: TOKEN };
  const wrong: string[] = [];
  let left: string[] = [];
  let offset = next;
  try {
    const before = await subject.figures();
    const { asked } = subject;
    wrong.push(...(await within(converse(subject, area, c, at), 'the conversation is over', 2 * deadlineOf(c))));
    const rest = await atRest(subject);
    left = rest.left;
    wrong.push(...wrongCounters(before, rest.figures, subject.asked - asked, area, c));
    offset = await subject.probe();
    const stores = c.mayStore?.().slice(0, offset - next) ?? c.stores?.(at) ?? [];
    wrong.push(...(await wrongRecords(subject, next, offset, at, stores)));
  } catch (error) {
    wrong.push((error as Error).message);
  }
  if (!subject.isAlive) wrong.push(`the process has ended: ${subject.complaints.slice(-3).join(' | ')}`);
  return { name: c.name, wrong, left, ms: performance.now() - from, next: offset + 1 };
}

/** What a gateway looks like when nobody uses it. */
export interface Baseline {
  readonly descriptors: number | undefined;
  readonly rssBytes: number | undefined;
}

export async function baselineOf(subject: Subject): Promise<Baseline> {
  await subject.warmUp();
  await atRest(subject);
  return { descriptors: subject.descriptors(), rssBytes: subject.resident('VmRSS') };
}

export interface AreaOutcome {
  readonly area: string;
  readonly outcomes: readonly Outcome[];
  /** Left behind by the area as a whole. */
  readonly left: readonly string[];
  readonly descriptors: number | null;
  readonly rssMiB: number | null;
}

/** Waits for what is being closed: a descriptor goes a moment after its connection. */
async function descriptorsBack(subject: Subject, baseline: number): Promise<number> {
  const deadline = performance.now() + AT_REST_WITHIN_MS;
  for (;;) {
    const now = subject.descriptors() ?? 0;
    if (now <= baseline || performance.now() > deadline) return now;
    await subject.figures();
  }
}

export async function runArea(
  subject: Subject,
  area: Area,
  cases: readonly Case[],
  baseline: Baseline,
): Promise<AreaOutcome> {
  const outcomes: Outcome[] = [];
  const left: string[] = [];
  let next = (await subject.probe()) + 1;
  for (const c of cases) {
    const { next: after, ...outcome } = await runCase(subject, area, c, area.cases.indexOf(c), next);
    outcomes.push(outcome);
    next = after;
    if (!subject.isAlive) break;
  }
  const complaints = subject.complaints;
  if (complaints.length > 0) left.push(`it complained: ${complaints.slice(-3).join(' | ')}`);
  let descriptors: number | undefined;
  if (baseline.descriptors !== undefined && subject.isAlive) {
    descriptors = await descriptorsBack(subject, baseline.descriptors);
    if (descriptors > baseline.descriptors) left.push(`${descriptors} descriptors, ${baseline.descriptors} before`);
  }
  const rss = subject.resident('VmRSS');
  if (rss !== undefined && rss - baseline.rssBytes! > RSS_BOUND_BYTES) {
    left.push(`${Math.round((rss - baseline.rssBytes!) / MIB)} MiB more resident than before`);
  }
  return {
    area: area.name,
    outcomes,
    left,
    descriptors: descriptors ?? null,
    rssMiB: rss === undefined ? null : Math.round(rss / MIB),
  };
}
