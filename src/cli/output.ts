// What commands say, and how they end. Results go to stdout, errors and progress to stderr.

import { errorKinds, SpillwayError, reasonOf } from '../base/errors.ts';

const number = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

export function count(n: number): string {
  return number.format(n);
}

/** A figure with three significant digits, or none where it is not known. */
export function figure(n: number): string {
  if (!Number.isFinite(n)) return '–';
  return n >= 1000 ? count(n) : String(Number(n.toPrecision(3)));
}

export function milliseconds(us: number): string {
  return `${figure(us / 1000)} ms`;
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

export function printTable(rows: readonly (readonly [string, string])[]): void {
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, value] of rows) process.stdout.write(`  ${name.padEnd(width)}  ${value}\n`);
}

/** Prints what went wrong in one line (damage: one line each), and returns the exit status. */
export function report(error: unknown, json: boolean): number {
  if (!(error instanceof SpillwayError)) {
    process.stderr.write(`spillway: ${reasonOf(error)}\n`);
    if (json) printJson({ error: 'INTERNAL', message: reasonOf(error) });
    return 1;
  }
  process.stderr.write(`spillway: ${error.message} [${error.code}]\n`);
  for (const p of error.details.problems ?? []) {
    process.stderr.write(
      `  ${p.file} byte ${p.position}, offsets ${p.firstOffset} to ${p.lastOffset ?? 'unknown'}: ${p.message}\n`,
    );
  }
  if (json) printJson({ error: error.code, message: error.message, problems: error.details.problems ?? [] });
  return errorKinds[error.code].exit;
}
