// Whatever is done through the public interface, and wherever the process is killed, callers are told what a plain array
// would tell them. Random runs of commands (fast-check) against a child process that really dies, in every I/O mode, with
// limits so small that segments roll and lanes go round at once; the first run of each mode is a fixed tour that meets
// everything, whose commands are not counted as random ones. Model: test/support/model-log.ts.
//
// `only`: MODE, or MODE/PATH/REPLAY as printed in a violation. The seed decides what is tried; how a killed process had
// got on is the machine's doing, so a repeated case may need several tries.

import fc from 'fast-check';
import type { IoMode } from '../../src/index.ts';
import { workingModes } from '../support/modes.ts';
import { anyCommand, tour, type Command } from '../support/model-commands.ts';
import { ChildPool } from '../support/model-process.ts';
import { ioModes, refusals } from '../support/model-protocol.ts';
import { Run, type Reached } from '../support/model-run.ts';
import { shapes } from '../support/model-setting.ts';
import { repeatCommand, skip, type Claim, type ProofContext } from './proof.ts';

/** A mode has had enough when it has had all three: random runs, random commands in them, time. */
const QUICK = { randomRuns: 4, randomCommands: 60, ms: 0, maxCommands: 30 };
const FULL = { randomRuns: 20, randomCommands: 500, ms: 65_000, maxCommands: 80 };
/** Never reached. */
const MAX_RUNS = 100_000;
/** For making a failing run smaller. */
const SHRINK_MS = 8_000;

/** What the runs of a proof must have met, at least once in all modes together. */
const mustReach = [
  'kills with calls under way',
  'kills while opening',
  'records in doubt found',
  'rolls',
  'looks at a lane gone round',
  'looks at a log with recycled segments',
  'truncations',
  'records followed',
  'flushes with calls under way',
  'lanes in the same thread',
  'lanes in workers',
  'lanes beyond maxLanes',
  'lanes closed',
  'reads out of range',
  'reopenings in another mode',
  'reopenings with other segments',
  'looks at a start that retention moved',
  'looks at what retention keeps',
  'batches closed by records',
  'batches closed by bytes',
  'batches closed by linger',
  'batches closed by flush',
  'batches closed by idle',
  'whole logs compared, read from the log',
  'whole logs compared, read from the directory',
  ...Object.keys(refusals).map((what) => `refused: ${what}`),
];

interface Tried {
  readonly violations: string[];
  randomRuns: number;
  randomCommands: number;
  tourCommands: number;
  compared: number;
}

async function tryMode(
  mode: IoMode,
  context: ProofContext,
  replay: { path: string; replayPath: string } | undefined,
  pool: ChildPool,
  reached: Reached,
): Promise<Tried> {
  const values = context.full ? FULL : QUICK;
  const tried: Tried = { violations: [], randomRuns: 0, randomCommands: 0, tourCommands: 0, compared: 0 };
  let isTour = replay === undefined;
  const startedAt = performance.now();
  let failedAt: number | undefined;
  const property = fc.asyncProperty(
    fc.commands([anyCommand(workingModes)], {
      maxCommands: values.maxCommands,
      size: 'max',
      ...(replay === undefined ? {} : { replayPath: replay.replayPath }),
    }),
    fc.record({ shape: fc.nat(shapes.length - 1), retention: fc.boolean() }),
    async (commands: Iterable<Command>, setting) => {
      // Between two runs, never in the midst of one: the child would go on with it.
      const now = performance.now();
      const isEnough =
        failedAt === undefined
          ? tried.randomRuns >= values.randomRuns &&
            tried.randomCommands >= values.randomCommands &&
            now >= startedAt + values.ms
          : now > failedAt + SHRINK_MS;
      if (isEnough) throw new fc.PreconditionFailure(true);
      const run = new Run(pool, reached, { ...setting, io: mode });
      try {
        await run.open();
        await fc.asyncModelRun(() => ({ model: run.model, real: run }), commands);
        await run.finish();
      } catch (error) {
        failedAt ??= performance.now();
        await pool.kill();
        throw error;
      } finally {
        if (isTour) tried.tourCommands = run.commands;
        else {
          tried.randomRuns++;
          tried.randomCommands += run.commands;
        }
        isTour = false;
        tried.compared += run.model.compared;
        run.remove();
      }
    },
  );
  const result = await fc.check(property, {
    seed: context.seed,
    numRuns: MAX_RUNS,
    examples: [[tour(workingModes, ioModes.indexOf(mode)), { shape: 0, retention: false }]],
    ...(replay === undefined ? {} : { path: replay.path, endOnFailure: true }),
  });
  if (result.failed) {
    const [commands, setting] = result.counterexample!;
    const counterexample = `${String(commands)}, opened with ${JSON.stringify(setting)}`;
    const replayPath = /replayPath="([^"]*)"/.exec(counterexample)?.[1] ?? '';
    const only = `${mode}/${result.counterexamplePath}/${replayPath}`;
    const error = result.errorInstance as Error;
    const why = error instanceof Error ? error.message : String(error);
    tried.violations.push(
      `${why} — after ${counterexample.replace(/\/\*.*?\*\//g, '')} — ${repeatCommand('model', context.seed, only)}`,
    );
  }
  return tried;
}

export async function prove(context: ProofContext): Promise<readonly Claim[]> {
  const claims: Claim[] = [];
  const [wantedMode, path, ...rest] = context.only?.split('/') ?? [];
  const replay = path === undefined ? undefined : { path, replayPath: rest.join('/') };
  const reached: Reached = new Map();
  const pool = new ChildPool();
  try {
    for (const mode of ioModes) {
      if (wantedMode !== undefined && wantedMode !== mode) continue;
      const claim = `${mode}: what callers are told and can read is what the model holds, through kills and reopenings`;
      if (!workingModes.includes(mode)) {
        claims.push(skip(claim, 'random commands', `mode ${mode} does not work here`));
        continue;
      }
      const { violations, randomRuns, randomCommands, tourCommands, compared } = await tryMode(
        mode,
        context,
        replay,
        pool,
        reached,
      );
      claims.push({
        claim,
        tried: randomCommands,
        unit: replay === undefined ? 'random commands' : 'commands',
        atLeast: replay === undefined ? (context.full ? FULL : QUICK).randomCommands : 1,
        violations,
        figures: { 'random runs': randomRuns, 'commands of the tour': tourCommands, 'records compared': compared },
      });
    }
  } finally {
    await pool.end();
  }
  if (context.only === undefined) {
    const missing = mustReach.filter((what) => (reached.get(what) ?? 0) === 0);
    claims.push({
      claim: 'the runs met what they were meant to meet',
      tried: mustReach.length - missing.length,
      unit: 'situations',
      atLeast: mustReach.length,
      violations: missing.map((what) => `not met: ${what}`),
      figures: Object.fromEntries([...reached].sort(([a], [b]) => a.localeCompare(b))),
    });
  }
  return claims;
}
