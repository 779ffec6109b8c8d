// The runs of lab:window: what the tuner says of a load, and what a log with a window really does with it.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { calibrate, type Calibration } from '../../src/load/calibrate.ts';
import { resolveLoadOptions, type LoadOptions } from '../../src/load/options.ts';
import { arrivalsOf, loadOf, runWindow, spaceOf, swept, type Fact } from '../../src/load/tune.ts';
import type { WindowOptions } from '../../src/base/options.ts';
import { choose, forecastOf, type Candidate, type Space } from '../../src/window/tuner.ts';

export const SLO_MS = 20;

/** A load by name. */
export interface LabLoad {
  readonly name: string;
  readonly options: LoadOptions;
}

export function labLoad(name: string, given: Readonly<Record<string, unknown>>): LabLoad {
  return { name, options: resolveLoadOptions(new Map(Object.entries({ target: 'embedded', ...given }))) };
}

export class Runs {
  readonly #dir: string;
  #next = 0;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** A log of its own, removed behind it. */
  async fact(window: WindowOptions, { options }: LabLoad): Promise<Fact> {
    return this.#within((dir) => runWindow(window, options, dir));
  }

  async calibration(): Promise<Calibration> {
    return this.#within((dir) => calibrate(dir, () => undefined));
  }

  async #within<T>(body: (dir: string) => Promise<T>): Promise<T> {
    const dir = join(this.#dir, `run-${this.#next++}`);
    mkdirSync(dir);
    try {
      return await body(dir);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  }
}

function spaceFor({ options }: LabLoad, calibration: Calibration): Space {
  return spaceOf(SLO_MS, options, loadOf(options, arrivalsOf(options)), calibration);
}

/** The tuner's choice for the load, and all that it looked at. */
export async function tuned(
  load: LabLoad,
  calibration: Calibration,
): Promise<{ readonly chosen: Candidate; readonly candidates: readonly Candidate[]; readonly meets: boolean }> {
  const candidates = await swept(spaceFor(load, calibration));
  return { candidates, ...choose(candidates, SLO_MS) };
}

export function forecast(window: WindowOptions, load: LabLoad, calibration: Calibration): Candidate {
  return forecastOf(window, spaceFor(load, calibration));
}
