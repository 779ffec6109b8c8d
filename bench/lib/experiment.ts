// What benches, labs, proofs, the corpus and the fuzzer share: how their command line is read, and how one of them ends.

import { parseArgs, type ParseArgsConfig } from 'node:util';

/** Exit with one clear line, no stack: something is missing here, or an argument is wrong. */
export class BenchError extends Error {}

type Flags = NonNullable<ParseArgsConfig['options']>;

/** Flags of the command line; `--help` prints the usage and ends the process. @throws BenchError for a flag that there is not */
export function readFlags<T extends Flags>(
  usage: string,
  options: T,
  allowPositionals = false,
): ReturnType<typeof parseArgs<{ options: T & { help: { type: 'boolean' } }; allowPositionals: true }>> {
  try {
    const all = { ...options, help: { type: 'boolean' } } as const;
    const read = parseArgs({ options: all, allowPositionals: true });
    if (!allowPositionals && read.positionals.length > 0)
      throw new Error(`Unexpected argument '${read.positionals[0]}'`);
    if ((read.values as { help?: boolean }).help !== true) return read;
  } catch (error) {
    throw new BenchError(`${(error as Error).message.split('. ')[0]}; usage: ${usage}`);
  }
  console.log(`usage: ${usage}`);
  process.exit(0);
}

/** @throws BenchError */
export function wholeNumber(flag: string, text: string, least = 1): number {
  const n = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(n) && n >= least) return n;
  throw new BenchError(`--${flag}: expected a whole number from ${least}, got '${text}'`);
}

/**
 * Runs what has an end to clean up after, however it comes.
 * @param name what the line begins with that says what went wrong
 * @param run resolves to the exit status
 * @param clean may come twice
 */
export async function runToEnd(name: string, run: () => Promise<number>, clean: () => void): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      clean();
      process.exit(1);
    });
  }
  try {
    process.exitCode = await run();
  } catch (error) {
    // Not process.exit: what was printed must reach a pipe.
    const known = error instanceof BenchError || (error as { code?: string }).code === 'INVALID_OPTION';
    console.error(`${name}: ${known ? (error as Error).message : ((error as Error).stack ?? String(error))}`);
    process.exitCode = 1;
  } finally {
    clean();
  }
}

/** For what takes its flags as it loads: a mistake ends the process with 2. */
export function orExit<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(`${name}: ${error.message}`);
    process.exit(2);
  }
}
