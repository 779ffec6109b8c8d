// spillway verify and spillway inspect: what a directory holds, and whether it is whole.

import { errorKinds } from '../base/errors.ts';
import { formatBytes } from '../base/options.ts';
import { inspect } from '../log/verify.ts';
import { verifyOnThreads } from '../pipeline/verify.ts';
import { readerIo } from '../platform/choose-io.ts';
import { count, printJson, printTable } from './output.ts';

function warnForeign(foreign: readonly string[]): void {
  if (foreign.length === 0) return;
  process.stderr.write(
    `spillway: ${foreign.length} file(s) here are not Spillway's and were left alone: ${foreign.slice(0, 5).join(', ')}\n`,
  );
}

/** @returns exit status: 0 whole, 3 damaged */
export async function verifyCommand(dir: string, json: boolean): Promise<number> {
  const result = await verifyOnThreads(dir);
  warnForeign(result.foreign);
  for (const p of result.problems) {
    process.stderr.write(
      `spillway: ${p.file} byte ${p.position}, offsets ${p.firstOffset} to ${p.lastOffset ?? 'unknown'}: ${p.message} [CORRUPT]\n`,
    );
  }
  if (result.unreadFor !== null) {
    process.stderr.write(
      `spillway: ${count(result.unreadBatches)} batch(es) are compressed: to look into them takes ${result.unreadFor}; their checksums are right\n`,
    );
  }
  if (json) printJson(result);
  else {
    process.stdout.write(`${dir}: ${result.ok ? '0 problems' : `${result.problems.length} problem(s)`}\n`);
    printTable([
      [
        'durable range',
        result.firstOffset === null ? 'empty' : `offsets ${result.firstOffset} to ${result.lastOffset}`,
      ],
      ['records', `${count(result.records)} in ${count(result.batches)} batches, ${result.segments} segment(s)`],
      ['payload bytes', count(result.bytes)],
      [
        'torn tail',
        result.tornBytes === 0 ? 'none' : `${count(result.tornBytes)} bytes of a batch that was never acknowledged`,
      ],
    ]);
  }
  return result.ok ? 0 : errorKinds.CORRUPT.exit;
}

/** @returns exit status: 0, or 3 where recovery would refuse the log */
export function inspectCommand(dir: string, json: boolean): number {
  const io = readerIo();
  try {
    const { segments, found } = inspect(io, dir);
    warnForeign(found.listing.foreign);
    if (json) {
      printJson({
        startOffset: found.startOffset,
        endOffset: found.endOffset,
        checkpoint: found.checkpoint ?? null,
        spare: found.listing.hasSpare,
        tornBytes: found.tornBytes,
        segments,
        problems: found.problems,
      });
    } else {
      process.stdout.write(
        `${dir}: offsets ${found.startOffset} to ${found.endOffset - 1}, ${segments.length} segment(s)${found.listing.hasSpare ? ', one spare' : ''}\n`,
      );
      for (const s of segments) {
        const streams = Object.entries(s.streams).map(([name, n]) => `${name} ${count(n)}`);
        process.stdout.write(
          `  ${s.file}  ${s.sealed ? 'sealed  ' : 'unsealed'}  offsets ${s.firstOffset} to ${s.nextOffset - 1}  epoch ${s.epoch}  ` +
            `${count(s.batches)} batches  ${formatBytes(s.usedBytes)} of ${formatBytes(s.fileBytes)}  ` +
            `${streams.slice(0, 4).join(', ')}${streams.length > 4 ? ` and ${streams.length - 4} more streams` : ''}\n`,
        );
      }
      for (const p of found.problems) process.stdout.write(`  PROBLEM ${p.file} byte ${p.position}: ${p.message}\n`);
    }
    return found.problems.length === 0 ? 0 : errorKinds.CORRUPT.exit;
  } finally {
    io.destroy();
  }
}
