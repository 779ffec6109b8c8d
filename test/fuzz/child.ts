// One target in a process of its own: whatever it does to itself, main.ts goes on.
//
//     node child.js TARGET STATE {"seed", "executions", "save", "only"}
//
// Before each execution number, length and input are written to the file STATE: `u32 executions · u32 bytes · input`. So main.ts knows
// whether it gets on, and which input it hangs or died on.

// First, so that it sees the others.
import './coverage.ts';
import { openSync, readFileSync, writeSync } from 'node:fs';
import { fuzz, smallest, tryInput, type EngineOptions } from './engine.ts';
import { readCorpus, writeCorpus, writeFinding, type ChildResult, type ChildTask } from './files.ts';
import { brokenTargets, targets } from './targets/all.ts';

const [name, statePath, json] = process.argv.slice(2);
const task = JSON.parse(json) as ChildTask;
const target = [...targets, ...brokenTargets].find((t) => t.name === name);
if (target === undefined) throw new Error(`no target is called ${name}`);

const LOOK_EVERY = 1000;

const fd = openSync(statePath, 'w');
const state = Buffer.alloc(8 + Math.max(target.maxBytes, 1024 * 1024));
const parent = process.ppid;
let executions = 0;
function announce(input: Uint8Array): void {
  // The loop never looks whether main.js is still there.
  if (executions % LOOK_EVERY === 0 && process.ppid !== parent) process.exit(1);
  state.writeUInt32LE(++executions >>> 0, 0);
  state.writeUInt32LE(input.length, 4);
  state.set(input, 8);
  writeSync(fd, state, 0, 8 + input.length, 0);
}

const covers = (url: string): boolean => url.includes('/dist/src/');

function run(): ChildResult {
  if (task.only !== undefined) {
    const input = readFileSync(task.only);
    announce(input);
    const finding = tryInput(target!, input);
    return { executions: 1, covered: 0, corpus: 0, findings: finding === undefined ? [] : [finding.message] };
  }
  const options: EngineOptions = { ...task, corpus: readCorpus(name), covers, announce };
  const result = fuzz(target!, options);
  const findings = result.findings.map((f) => writeFinding(name, f.key, f.message, f.input));
  if (task.save) writeCorpus(name, smallest(target!, [...options.corpus, ...result.corpus], covers));
  return { executions: result.executions, covered: result.covered, corpus: result.corpus.length, findings };
}

process.send!(run());
process.disconnect();
