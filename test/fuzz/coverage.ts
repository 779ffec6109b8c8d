// Which pieces of the compiled sources have run, from V8's precise block coverage of this process.
//
// It begins when this module is loaded, and never ends: a function that was compiled before has no blocks, nor has one that was
// compiled for a coverage that has ended. So this module is loaded before those that are to be seen.
// V8 cuts a function into blocks by what it counted, so the same code comes in other pieces each time: what has run is kept per
// character, and the figure counts the beginnings of blocks, ever seen, that have run.

import { Session, type Profiler } from 'node:inspector';

interface Script {
  /** 1 where something ran. */
  ran: Uint8Array;
  readonly beginnings: Set<number>;
}

const session = new Session();
session.connect();
session.post('Profiler.enable');
session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });

export class Coverage {
  readonly #scripts = new Map<string, Script>();
  readonly #wanted: (url: string) => boolean;
  #now = new Uint8Array(0);

  /** @param wanted which scripts count, by their URL */
  constructor(wanted: (url: string) => boolean) {
    this.#wanted = wanted;
    // What ran before is not its business.
    session.post('Profiler.takePreciseCoverage');
  }

  /**
   * Whether anything has run since the last call that is not counted yet.
   * @param count counts it
   */
  take(count: boolean): boolean {
    let isNew = false;
    // On its own thread the inspector answers before `post` returns.
    session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error !== null) throw error;
      for (const { url, functions } of taken.result) {
        if (this.#wanted(url) && this.#look(url, functions, count)) isNew = true;
      }
    });
    return isNew;
  }

  #look(url: string, functions: readonly Profiler.FunctionCoverage[], count: boolean): boolean {
    let script = this.#scripts.get(url);
    let end = 0;
    for (const { ranges } of functions) end = Math.max(end, ranges[0].endOffset);
    if (script === undefined) this.#scripts.set(url, (script = { ran: new Uint8Array(end), beginnings: new Set() }));
    if (script.ran.length < end) {
      const larger = new Uint8Array(end);
      larger.set(script.ran);
      script.ran = larger;
    }
    if (this.#now.length < end) this.#now = new Uint8Array(end);
    const now = this.#now.fill(0, 0, end);
    // From the outside in: an inner range has the last word.
    for (const { ranges } of functions) {
      for (const { startOffset, endOffset, count: times } of ranges) {
        script.beginnings.add(startOffset);
        now.fill(times > 0 ? 1 : 0, startOffset, endOffset);
      }
    }
    let isNew = false;
    const { ran } = script;
    for (let i = 0; i < end; i++) {
      if (now[i] === 0 || ran[i] === 1) continue;
      if (count) ran[i] = 1;
      isNew = true;
    }
    return isNew;
  }

  /** Blocks that have run. */
  get covered(): number {
    let blocks = 0;
    for (const { ran, beginnings } of this.#scripts.values()) {
      for (const at of beginnings) blocks += ran[at];
    }
    return blocks;
  }
}
