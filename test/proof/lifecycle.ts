// What a call gives in every state of a log, in the main thread and in a worker, as one table says
// (test/support/lifecycle-table.ts); and what is left when a thread or a process ends in the midst of things.
//
// `only`: part of a case's name as printed in a violation, such as `direct, main thread`.

import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { open, type IoMode } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { JsIo } from '../../src/platform/js-io.ts';
import { payloadOf, smallLog, UNDER_WAY, type Done, type Task } from '../support/lifecycle-protocol.ts';
import { randomFrom } from '../support/lifecycle-random.ts';
import { calls, expected, states } from '../support/lifecycle-table.ts';
import { expectedModes, missingModes, workingModes } from '../support/modes.ts';
import { directoryForMounts, mount, removeMounts } from '../support/mounts.ts';
import { recordsOf } from '../support/pipeline-logs.ts';
import { repeatCommand, skip, skipModes, type Claim, type Prove, type ProofContext } from './proof.ts';

const QUICK = { terminations: 10, exits: 2 };
const FULL = { terminations: 120, exits: 25 };
/** A process that ends later than this after its last word hangs. */
const END_MS = 5_000;
/** In full, 120 terminations in one process, beside the work of others. */
const TASK_MS = 600_000;
const SOME_ACKNOWLEDGED = 'ended with some of it acknowledged';

/** Asks a process of its own to carry out a task; a hang of it is a violation like another. */
async function carriedOut(task: Task): Promise<Done> {
  const child = fork(new URL('../support/lifecycle-child.js', import.meta.url), { execArgv: ['--no-warnings'] });
  const answer = once(child, 'message').then(([m]) => m as Done);
  const gone = once(child, 'exit').then(([code, signal]): Done => ({
    tried: 0,
    violations: [`${task.kind}: its process ended with ${code ?? signal}`],
  }));
  const limit = setTimeout(() => child.kill('SIGKILL'), TASK_MS);
  child.send(task);
  try {
    return await Promise.race([answer, gone]);
  } finally {
    clearTimeout(limit);
    child.kill('SIGKILL');
    await gone;
  }
}

/** A disk of 1.5 MiB, or why there is none. */
function smallDisk(dir: string): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting a tmpfs needs root';
  try {
    mount(dir, '-t', 'tmpfs', '-o', 'size=1536k', 'tmpfs');
    return undefined;
  } catch (error) {
    return `a tmpfs cannot be mounted here: ${(error as Error).message}`;
  }
}

function tooFew(what: string, times: number, of: number): string {
  return `${what}: ${times} of ${of}, expected at least half`;
}

interface Case {
  readonly name: string;
  readonly task: Task;
}

class Lifecycle {
  readonly #context: ProofContext;
  readonly #root = directoryForMounts('lifecycle');
  readonly #values: typeof QUICK;

  constructor(context: ProofContext) {
    this.#context = context;
    this.#values = context.full ? FULL : QUICK;
  }

  #wants(name: string): boolean {
    return this.#context.only === undefined || name.includes(this.#context.only);
  }

  #repeat(name: string): string {
    return repeatCommand('lifecycle', this.#context.seed, name);
  }

  /** Runs cases two at a time. */
  async #all(cases: readonly Case[]): Promise<{ name: string; done: Done }[]> {
    const results: { name: string; done: Done }[] = [];
    const left = cases.filter((c) => this.#wants(c.name));
    const one = async (): Promise<void> => {
      for (let c = left.shift(); c !== undefined; c = left.shift()) {
        results.push({ name: c.name, done: await carriedOut(c.task) });
      }
    };
    await Promise.all([one(), one()]);
    return results;
  }

  async cells(): Promise<Claim[]> {
    const onDisk: Case[] = [];
    const full: Case[] = [];
    const planned: [string[], string[]] = [[], []];
    let noDisk: string | undefined;
    for (const inWorker of [false, true]) {
      const where = inWorker ? 'worker thread' : 'main thread';
      for (const io of this.#planned) {
        planned[0].push(`${io}, ${where}`);
        if (io !== 'direct') planned[1].push(`${io}, ${where}, full`);
      }
      for (const io of this.#modes()) {
        const others = states.filter((s) => s !== 'full');
        const task = { kind: 'cells', inWorker, io } as const;
        onDisk.push({ name: `${io}, ${where}`, task: { ...task, states: others, disk: this.#disk() } });
        if (io === 'direct') continue; // not on every tmpfs
        const disk = this.#disk();
        noDisk ??= smallDisk(disk);
        if (noDisk !== undefined) continue;
        full.push({ name: `${io}, ${where}, full`, task: { ...task, states: ['full'], disk } });
      }
    }
    const results = [await this.#all(onDisk), await this.#all(full)];
    const names = ['every call in every state gives what the table says', 'so does every call on a full disk'];
    return names.map((claim, i) => {
      if (i === 1 && noDisk !== undefined) return skip(claim, 'cells', noDisk);
      const columns = states.filter((s) => (s === 'full') === (i === 1));
      const perCase = columns.flatMap((s) => calls.filter((c) => expected(c, s) !== undefined)).length;
      const violations = results[i].flatMap(({ name, done }) => [
        ...done.violations,
        ...(done.cells ?? [])
          .filter(
            (c) =>
              c.came !== c.expected &&
              c.came !== c.expected.replace('waits, ', c.state === 'draining' ? '' : 'waits, '),
          )
          .map((c) => `${name}: ${c.call} in ${c.state}: ${c.came}, expected ${c.expected} — ${this.#repeat(name)}`),
      ]);
      const tried = results[i].reduce((n, { done }) => n + done.tried, 0);
      const atLeast = perCase * planned[i].filter((name) => this.#wants(name)).length;
      return { claim, tried, unit: 'cells', atLeast, violations };
    });
  }

  async terminations(): Promise<Claim[]> {
    const { terminations: times } = this.#values;
    const { seed } = this.#context;
    const kinds = [
      [
        'terminate producers',
        'a producer that is terminated in mid-append disturbs nobody and loses nothing acknowledged',
        times,
      ],
      [
        'terminate openers',
        'a log whose thread was terminated can be opened again at once (mode js: it stays locked), and all that was acknowledged is read',
        Math.ceil(times / 2),
      ],
      [
        'terminate a full lane',
        'a terminated producer with more unread acknowledgements than a lane holds keeps nobody waiting',
        1,
      ],
    ] as const;
    const claims: Claim[] = [];
    for (const [kind, claim, count] of kinds) {
      const cases = this.#modes().map((io): Case => {
        const task = { kind, io, times: count, seed, disk: this.#disk() };
        return { name: `${kind}, ${io}`, task: task as Task };
      });
      const planned = this.#planned.filter((io) => this.#wants(`${kind}, ${io}`)).length;
      const results = await this.#all(cases);
      if (results.length === 0) continue;
      const violations = results.flatMap(({ name, done }) =>
        done.violations.map((v) => `${v} — ${this.#repeat(name)}`),
      );
      const figures: Record<string, number> = {};
      for (const { done } of results) {
        for (const [what, n] of Object.entries(done.figures ?? {})) figures[what] = (figures[what] ?? 0) + n;
      }
      const isFullLane = kind === 'terminate a full lane';
      // Of terminations those after which an acknowledged record was read again.
      const tried = results.reduce((n, { done }) => n + done.tried, 0);
      const atLeast = planned * (isFullLane ? 4 : count);
      const underWay = figures[UNDER_WAY] ?? 0;
      if (!isFullLane && underWay < atLeast / 2) violations.push(tooFew(UNDER_WAY, underWay, atLeast));
      claims.push({ claim, tried, unit: isFullLane ? 'calls' : 'terminations', atLeast, violations, figures });
    }
    return claims;
  }

  async exits(): Promise<Claim[]> {
    const random = randomFrom(this.#context.seed);
    const codes: Record<string, number> = {
      'process.exit': 7,
      'an exception': 1,
      'a rejection': 1,
      'process.exit while closing': 7,
      'its last line': 0,
    };
    const left: { name: string; io: IoMode; how: string; after: number }[] = [];
    for (const io of this.#planned) {
      for (const how of Object.keys(codes)) {
        for (let i = 0; i < this.#values.exits; i++) {
          left.push({ name: `${how}, ${io}, ${i}`, io, how, after: i === 0 ? 0 : Math.floor(random() * 60) });
        }
      }
    }
    const planned = left.filter((c) => this.#wants(c.name));
    const cases = planned.filter((c) => workingModes.includes(c.io));
    if (cases.length === 0) return [];
    const atLeast = planned.length;
    let tried = 0;
    const violations: string[] = [];
    const figures = { acknowledged: 0, [SOME_ACKNOWLEDGED]: 0, [UNDER_WAY]: 0 };
    const one = async (): Promise<void> => {
      for (let c = cases.shift(); c !== undefined; c = cases.shift()) {
        const { name, io, how, after } = c;
        const came = await this.#exit(io, how, after, codes[how]);
        tried++;
        figures.acknowledged += came.acknowledged;
        if (came.acknowledged > 0) figures[SOME_ACKNOWLEDGED]++;
        if (came.acknowledged < came.appended) figures[UNDER_WAY]++;
        violations.push(...came.violations.map((v) => `${name}: ${v} — ${this.#repeat(name)}`));
      }
    };
    await Promise.all([one(), one()]);
    if (this.#context.only === undefined) {
      for (const what of [UNDER_WAY, SOME_ACKNOWLEDGED] as const) {
        if (figures[what] < atLeast / 2) violations.push(tooFew(what, figures[what], atLeast));
      }
    }
    const claim = 'a process that ends in mid-flush ends at once, and keeps all that was acknowledged';
    return [{ claim, tried, unit: 'exits', atLeast, violations, figures }];
  }

  async #exit(
    io: IoMode,
    how: string,
    after: number,
    code: number,
  ): Promise<{ violations: string[]; acknowledged: number; appended: number }> {
    const dir = this.#disk();
    const violations: string[] = [];
    const program = fileURLToPath(new URL('../support/lifecycle-exit.js', import.meta.url));
    const child = spawn(process.execPath, [program, dir, io, how, String(after)], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let said = '';
    let limit: NodeJS.Timeout | undefined;
    child.stdout.on('data', (text: Buffer) => {
      said += text.toString();
      if (limit !== undefined || !said.includes('end\n')) return;
      limit = setTimeout(() => {
        violations.push(`it had not ended ${END_MS} ms after its last line`);
        child.kill('SIGKILL');
      }, END_MS);
    });
    const start = setTimeout(() => child.kill('SIGKILL'), 4 * END_MS);
    const [came] = (await once(child, 'close')) as [number | null];
    clearTimeout(limit);
    clearTimeout(start);
    if (came !== code && violations.length === 0) violations.push(`it ended with ${came}, expected ${code}`);
    const acks = said
      .split('\n')
      .filter((line) => /^\d/.test(line))
      .map((line) => line.split(' ').map(Number));
    const log = await open({ ...smallLog, dir, io });
    const records = await recordsOf(log);
    await log.close();
    const garbled = records.findIndex((r, i) => !payloadOf('exit', i).equals(r.payload));
    if (garbled >= 0) violations.push(`offset ${garbled} is not what was appended`);
    const lost = acks.find(([i, offset]) => i !== offset || offset >= records.length);
    if (lost !== undefined) violations.push(`record ${lost[0]} was acknowledged at ${lost[1]} of ${records.length}`);
    const appended = 120;
    if (how === 'its last line' && acks.length !== appended)
      violations.push(`${acks.length} of ${appended} acknowledged`);
    const { problems } = verify(new JsIo(), dir);
    violations.push(...problems.map((p) => `verify: ${p.file}@${p.position}: ${p.message}`));
    return { violations, acknowledged: acks.length, appended };
  }

  end(): void {
    removeMounts(this.#root);
  }

  #disk(): string {
    mkdirSync(this.#root, { recursive: true });
    return mkdtempSync(join(this.#root, 'disk-'));
  }

  /** The fastest, and the one without the addon; all of them in the long run. */
  get #planned(): readonly IoMode[] {
    return this.#context.full ? expectedModes : expectedModes.filter((m, i) => i === 0 || m === 'js');
  }

  /** Those of them that work. */
  #modes(): readonly IoMode[] {
    return this.#planned.filter((m) => workingModes.includes(m));
  }
}

export const prove: Prove = async (context) => {
  const lifecycle = new Lifecycle(context);
  try {
    const claims = [...(await lifecycle.cells()), ...(await lifecycle.terminations()), ...(await lifecycle.exits())];
    return [...claims, ...skipModes(missingModes, 'cells')];
  } finally {
    lifecycle.end();
  }
};
