// The floor: bench/native/floor.cc, compiled when asked for. What a plain native loop reaches on the same disk, writing
// batches of the same size in the same I/O mode, with nothing around it.

import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { IoMode } from '../../src/index.ts';
import { BenchError } from './experiment.ts';

const run = promisify(execFile);

export type FloorMode = 'direct' | 'buffered' | 'portable' | 'record';

export interface FloorResult {
  readonly seconds: number;
  readonly bytes: number;
  readonly batches: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** The plain loop that a log's mode is measured against: `js` makes the calls of `portable`. */
export function floorModeOf(io: IoMode): Exclude<FloorMode, 'record'> {
  return io === 'js' ? 'portable' : io;
}

export class Floor {
  readonly #program: string;
  readonly #dir: string;
  readonly #fileBytes: number;

  /** @param fileBytes size of the file that the batches go round in; filled with zeros once */
  static compile(root: string, dir: string, fileBytes: number): Floor {
    const program = join(dir, 'floor');
    try {
      execFileSync(
        'c++',
        ['-std=c++17', '-O2', '-Wall', '-Wextra', '-o', program, join(root, 'bench/native/floor.cc')],
        { stdio: 'pipe' },
      );
    } catch (error) {
      const { code, stderr } = error as { code?: string; stderr?: Buffer };
      if (code === 'ENOENT')
        throw new BenchError('no C++ compiler (c++): the floor cannot be measured; apt-get install g++');
      throw new BenchError(`the floor does not compile: ${stderr?.toString() ?? String(error)}`);
    }
    return new Floor(program, dir, fileBytes);
  }

  private constructor(program: string, dir: string, fileBytes: number) {
    this.#program = program;
    this.#dir = dir;
    this.#fileBytes = fileBytes;
  }

  /** Makes the file, so that no round pays for it. */
  async prepare(): Promise<void> {
    await this.#start('direct', 4096, 0);
  }

  /** Writes `batches` durable batches one after the other. */
  async batches(mode: Exclude<FloorMode, 'record'>, batchBytes: number, batches: number): Promise<FloorResult> {
    return await this.#start(mode, batchBytes, batches);
  }

  /** The classic: a file that grows, one write(2) and one fdatasync(2) per record. */
  async records(recordBytes: number, records: number): Promise<FloorResult> {
    return await this.#start('record', recordBytes, records);
  }

  async #start(mode: FloorMode, batchBytes: number, batches: number): Promise<FloorResult> {
    const file = join(this.#dir, mode === 'record' ? 'floor.records' : 'floor.batches');
    const args = { mode, file, fileBytes: this.#fileBytes, batchBytes, batches };
    try {
      const { stdout } = await run(
        this.#program,
        Object.entries(args).map(([k, v]) => `${k}=${v}`),
      );
      return JSON.parse(stdout) as FloorResult;
    } catch (error) {
      const { stderr, message } = error as { stderr?: string; message: string };
      throw new BenchError(`the floor failed (${mode}): ${stderr?.trim() || message}`);
    }
  }
}
