// What every bench says of itself: environment, parameters, targets (before the run), one table, checks (after it), and
// the same as JSON. Figures come from the run; none is written here by hand.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';

export interface Check {
  readonly name: string;
  /** null: not judged, and `note` says why. */
  readonly pass: boolean | null;
  readonly figure: number | string | null;
  readonly target: string;
  readonly note?: string;
}

export type Cell = string | number | null | undefined;

/** Magic numbers of statfs(2). */
const fileSystems: Record<number, string> = {
  0xef53: 'ext4',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x858458f6: 'ramfs',
  0x794c7630: 'overlay',
  0x2fc12fc1: 'zfs',
  0x6969: 'nfs',
};

export function fileSystemOf(dir: string): string {
  const { type } = statfsSync(dir);
  return fileSystems[type] ?? `0x${type.toString(16)}`;
}

function gitCommit(root: string): string | null {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    const commit = git('rev-parse', 'HEAD');
    return git('status', '--porcelain', '--untracked-files=no') === '' ? commit : `${commit} with changes`;
  } catch {
    return null;
  }
}

function environmentOf(root: string, dataDir: string): Record<string, Cell> {
  const list = cpus();
  const memoryLimit = ((): number | null => {
    try {
      const text = readFileSync('/sys/fs/cgroup/memory.max', 'utf8').trim();
      return text === 'max' ? null : Number(text);
    } catch {
      return null;
    }
  })();
  return {
    node: process.version,
    cpu: list[0]?.model ?? 'unknown',
    cpuCount: list.length,
    kernel: `${process.platform} ${release()} ${process.arch}`,
    memoryBytes: totalmem(),
    memoryLimitBytes: memoryLimit,
    dataDir,
    fileSystem: fileSystemOf(dataDir),
    io: null,
    gitCommit: gitCommit(root),
  };
}

/** 1234567 → `1,234,567`; fractions with as many digits as tell something. */
export function show(value: Cell): string {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'string') return value;
  if (!Number.isFinite(value)) return 'never';
  const abs = Math.abs(value);
  const digits = Number.isInteger(value) || abs >= 1000 ? 0 : abs >= 100 ? 1 : abs >= 1 ? 2 : abs >= 0.01 ? 3 : 5;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function renderTable(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const text = [header, ...rows.map((r) => r.map(show))];
  // A row with one cell is a remark across the table: it does not widen the columns.
  const full = text.filter((r) => r.length === header.length);
  const widths = header.map((_, c) => Math.max(...full.map((r) => r[c].length)));
  const isText = header.map((_, c) => rows.some((r) => r.length === header.length && typeof r[c] === 'string'));
  const line = (r: readonly string[]): string =>
    r
      .map((cell, c) => (r.length < header.length || isText[c] ? cell.padEnd(widths[c]) : cell.padStart(widths[c])))
      .join('  ')
      .trimEnd();
  return [line(text[0]), widths.map((w) => '─'.repeat(w)).join('  '), ...text.slice(1).map(line)].join('\n');
}

function pairs(o: Record<string, unknown>): string {
  return Object.entries(o)
    .map(([k, v]) => `${k} ${typeof v === 'string' ? v : JSON.stringify(v)}`)
    .join(' · ');
}

export class Report {
  readonly name: string;
  readonly smoke: boolean;
  readonly environment: Record<string, Cell>;
  readonly parameters: Record<string, unknown>;
  readonly checks: Check[] = [];
  /** Whatever the bench measured, round by round. */
  results: unknown = [];
  readonly #startedAt = new Date().toISOString();
  readonly #outDir: string;

  /** @param outDir where the JSON goes */
  constructor(
    name: string,
    smoke: boolean,
    root: string,
    dataDir: string,
    parameters: Record<string, unknown>,
    outDir = join(root, 'bench', 'out'),
  ) {
    this.name = name;
    this.smoke = smoke;
    this.parameters = parameters;
    this.environment = environmentOf(root, dataDir);
    this.#outDir = outDir;
  }

  /** Known once a log is open. */
  set io(mode: string) {
    this.environment.io = mode;
  }

  begin(targets: readonly string[], title = `bench ${this.name}`): void {
    console.log(`${title}${this.smoke ? ' (smoke: the figures mean nothing)' : ''}`);
    console.log(`  environment  ${pairs(this.environment)}`);
    console.log(`  parameters   ${pairs(this.parameters)}`);
    targets.forEach((t, i) => console.log(`  ${i === 0 ? 'targets    ' : '           '}  ${t}`));
    console.log('');
  }

  /** A file beside the JSON of this run, named after it. */
  attach(suffix: string, content: string): void {
    mkdirSync(this.#outDir, { recursive: true });
    const path = join(this.#outDir, `${this.name}-${suffix.replace('.', this.smoke ? '.smoke.' : '.')}`);
    writeFileSync(path, content);
    console.log(`written: ${path}`);
  }

  /** A line for whoever waits; not part of the table. */
  progress(text: string): void {
    process.stderr.write(`  … ${text}\n`);
  }

  table(header: readonly string[], rows: readonly (readonly Cell[])[]): void {
    console.log(renderTable(header, rows));
    console.log('');
  }

  say(text: string): void {
    console.log(text);
  }

  /** Judged in smoke too: a count, an equality. */
  exact(name: string, pass: boolean, figure: number | string | null, target: string): void {
    this.checks.push({ name, pass, figure, target });
  }

  /** A ratio or a time: needs the full values and a quiet machine. `note` given: not judged, for that reason. */
  measured(name: string, pass: boolean, figure: number | string | null, target: string, note?: string): void {
    const why = this.smoke ? 'not judged in smoke' : note;
    // What is no number (a ratio of nothing) is no pass.
    const sane = typeof figure !== 'number' || !Number.isNaN(figure);
    this.checks.push({
      name,
      pass: why === undefined ? pass && sane : null,
      figure,
      target,
      ...(why === undefined ? {} : { note: why }),
    });
  }

  /** Prints the checks and writes the JSON. Returns the exit code. */
  finish(): number {
    for (const c of this.checks) {
      const word = c.pass === null ? '  – ' : c.pass ? ' ok ' : 'FAIL';
      console.log(
        `${word} ${c.name}: ${show(c.figure)} (target ${c.target})${c.note === undefined ? '' : `; ${c.note}`}`,
      );
    }
    const failed = this.checks.filter((c) => c.pass === false).length;
    const { name, environment, parameters, results, checks } = this;
    mkdirSync(this.#outDir, { recursive: true });
    // Beside the full figures, never over them.
    const path = join(this.#outDir, `${name}${this.smoke ? '.smoke' : ''}.json`);
    const json = {
      name,
      startedAt: this.#startedAt,
      finishedAt: new Date().toISOString(),
      smoke: this.smoke,
      environment,
      parameters,
      results,
      checks,
    };
    writeFileSync(path, `${JSON.stringify(json, null, 2)}\n`);
    const judged = checks.filter((c) => c.pass !== null).length;
    console.log(`\n${judged - failed} checks hold, ${failed} fail, ${checks.length - judged} not judged; ${path}`);
    return failed > 0 ? 1 : 0;
  }
}
