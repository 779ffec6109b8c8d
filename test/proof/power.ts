// Proof `power`: the file system under a log is cut off while the log is written (test/support/power-disk.ts says what
// such a cut is true to, and what not), mounted again and recovered. What had been acknowledged is there, and the writer
// that lived on above the dead file system acknowledged nothing more.
//
// Two controls show that it could fail: a file that is written right before each cut without a sync is lost, at least every
// second time, and so is what a writer acknowledges that does not sync.
//
// It failed, as it should, with each of these planted: no sync in the durable write of mode js, pwritev2 without RWF_DSYNC
// (in buffered; direct writes past the page cache), an fdatasync that does nothing, no sync of a recycled segment's header,
// of the checkpoint, or of the directory after a rename (on ext4), a failed write that does not poison, an acknowledgement
// before the write is done.

import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/base/clock.ts';
import { anyMoment, momentText, runWriter, type Moment, type Told } from '../support/kill-child.ts';
import { smallLog } from '../support/kill-protocol.ts';
import { Witness } from '../support/kill-witness.ts';
import type { WriterTask } from '../support/kill-writer.ts';
import { CARELESS_BLOCK_BYTES, carelessBlock } from '../support/power-careless.ts';
import { cannotCut, LoopDisk, type FileSystem } from '../support/power-disk.ts';
import { modesIn } from '../support/modes.ts';
import { repeatCommand, skip, skipModes, type Claim, type ProofContext } from './proof.ts';

const kinds = ['ext4', 'xfs'] as const satisfies readonly FileSystem[];
const CONTROL_BYTES = 10_000;

const keptClaim = (kind: FileSystem): string =>
  `${kind} cut off under load: every acknowledged record is there, and nothing is acknowledged after the failure`;
const controlClaim = (kind: FileSystem): string =>
  `${kind}, control: a file written right before a cut, not synced, is lost`;
const carelessClaim = (kind: FileSystem): string =>
  `${kind}, control: a writer that acknowledges before it syncs loses what it acknowledged`;

/** `--only ext4` or `--only xfs` narrows to one file system. */
export async function prove(context: ProofContext): Promise<readonly Claim[]> {
  const chosen = kinds.filter((kind) => context.only === undefined || context.only === kind);
  // All of them end, whatever happens to one: each has a mount to take down.
  const ends = await Promise.allSettled(chosen.map((kind) => proveOn(kind, context)));
  return ends.flatMap((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}

async function proveOn(kind: FileSystem, { full, seed }: ProofContext): Promise<Claim[]> {
  const why = await cannotCut(kind);
  if (why !== undefined) {
    return [
      skip(keptClaim(kind), 'cuts', why),
      skip(controlClaim(kind), 'cuts', why),
      skip(carelessClaim(kind), 'cuts', why),
    ];
  }
  const disk = new LoopDisk(kind);
  try {
    const cuts = full ? 32 : 4;
    const careless = full ? 4 : 1;
    return [...(await underLoad(kind, disk, cuts, seed)), await withoutSync(kind, disk, careless, seed)];
  } finally {
    disk.remove();
  }
}

async function underLoad(kind: FileSystem, disk: LoopDisk, cuts: number, seed: number): Promise<Claim[]> {
  const violations: string[] = [];
  const random = seededRandom(seed + kind.length);
  const retentionBytes = kind === 'xfs' ? 4 * smallLog.segmentBytes : 0;
  const witness = new Witness(smallLog, retentionBytes);
  const dir = join(disk.path, 'log');
  const failedBy = new Map<string, number>();
  const modes = modesIn(disk.path);
  let tried = 0;
  let torn = 0;
  let controlsLost = 0;
  for (; tried < cuts && violations.length === 0; tried++) {
    const io = modes.working[tried % modes.working.length];
    const moment = anyMoment(random, retentionBytes === 0);
    const task: WriterTask = { dir, io, run: tried, threads: random() < 0.5 ? 1 : 2, retentionBytes, codec: 'none' };
    const control = join(disk.path, `control-${tried}`);
    const told = await cutDuring(disk, 'kill-writer', JSON.stringify(task), moment, control);
    if (!existsSync(control) || statSync(control).size < CONTROL_BYTES) controlsLost++;
    const found = [...witness.hear(tried, told.lines), ...judge(told)];
    const code = told.lines.at(-1)?.split(' ')[1] ?? '';
    failedBy.set(code, (failedBy.get(code) ?? 0) + 1);
    const checked = await witness.check(
      dir,
      modes.working[Math.floor(random() * modes.working.length)],
      random() < 0.5,
    );
    found.push(...checked.violations);
    if (checked.tornBytes > 0) torn++;
    const where = `${kind}, cut ${tried} (${io}, ${momentText(moment)})`;
    violations.push(...found.map((v) => `${where}: ${v}; ${repeatCommand('power', seed, kind)}`));
  }
  return [
    {
      claim: keptClaim(kind),
      tried,
      unit: 'cuts',
      atLeast: cuts,
      violations,
      figures: {
        'acknowledged records': witness.acknowledged,
        'torn tails cut': torn,
        'writers ended with': [...failedBy].map(([code, times]) => `${code} ${times}`).join(', '),
      },
    },
    {
      claim: controlClaim(kind),
      tried: controlsLost,
      unit: `of ${tried} files lost`,
      atLeast: Math.ceil(cuts / 2),
      violations:
        controlsLost < tried / 2
          ? [`of ${tried} files written without a sync ${controlsLost} were lost: the cut is not one`]
          : [],
    },
    ...skipModes(modes.missing, 'cuts', ` on ${kind}`),
  ];
}

async function withoutSync(kind: FileSystem, disk: LoopDisk, cuts: number, seed: number): Promise<Claim> {
  const violations: string[] = [];
  let lost = 0;
  let acknowledged = 0;
  for (let i = 0; i < cuts; i++) {
    const file = join(disk.path, `careless-${i}`);
    const moment: Moment = { after: 'a', count: 500, delayMs: 0 };
    const told = await cutDuring(disk, 'power-careless', file, moment, join(disk.path, `careless-control-${i}`));
    const bytes = existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
    const acks = told.lines.filter((line) => line.startsWith('a ')).length;
    const isThere = (block: number): boolean => {
      const at = block * CARELESS_BLOCK_BYTES;
      return carelessBlock(block).equals(bytes.subarray(at, at + CARELESS_BLOCK_BYTES));
    };
    let missing = 0;
    for (let block = 0; block < acks; block++) if (!isThere(block)) missing++;
    acknowledged += acks;
    lost += missing;
    if (missing === 0) violations.push(`cut ${i}: all ${acks} blocks are there; ${repeatCommand('power', seed, kind)}`);
  }
  const figures = { 'blocks acknowledged': acknowledged, lost };
  return { claim: carelessClaim(kind), tried: cuts, unit: 'cuts', atLeast: cuts, violations, figures };
}

/** Runs a writer, cuts its file system off at the moment, waits for its end, and mounts again. */
async function cutDuring(
  disk: LoopDisk,
  writer: 'kill-writer' | 'power-careless',
  arg: string,
  moment: Moment,
  control: string,
): Promise<Told> {
  let cut = Promise.resolve();
  const told = await runWriter(writer, [arg], {}, moment, (pid) => {
    writeFileSync(control, Buffer.alloc(CONTROL_BYTES, 'control'));
    cut = disk.cut();
    cut.catch(() => endIfThere(pid)); // thrown below
  });
  await cut;
  disk.unmount();
  disk.mount();
  return told;
}

function endIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** The writer must have been refused, and have said so: what fails is told, nothing hangs, no thread dies. */
function judge({ lines, code, signal, hung }: Told): string[] {
  const last = lines.at(-1) ?? '';
  if (hung) return [`the writer hung, last '${last}'`];
  if (code !== 0 || !last.startsWith('e ')) return [`the writer ended with ${code ?? signal}, last '${last}'`];
  const refusals = lines.filter((line) => line.startsWith('r ')).map((line) => line.split(' ')[3]);
  const wrong = refusals.find((c) => c !== 'POISONED' && c !== 'CLOSED');
  if (wrong !== undefined) return [`an append was rejected with ${wrong}, expected POISONED`];
  // A log that failed under its appends says the same when it is closed.
  const poisoned = refusals.includes('POISONED');
  return poisoned && last !== 'e POISONED' ? [`appends were rejected with POISONED, the close said '${last}'`] : [];
}
