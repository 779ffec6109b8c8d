// Starting worker threads: where their compiled entry lies, and with which environment. The one home of process.env.

import { setFlagsFromString } from 'node:v8';
import { Worker, type MessagePort, type ResourceLimits } from 'node:worker_threads';

/** Entry of a worker in `workers/`, compiled beside `src/`. TypeScript does not rewrite such paths: this does. */
export function workerUrl(name: string): URL {
  return new URL(`../../workers/${name}.js`, import.meta.url);
}

/** Environment of a worker: without NODE_OPTIONS, or a profiler that preloads code into every thread would write over its own files. */
export function workerEnvironment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _dropped, ...env } = process.env;
  return env;
}

/** Heap caps that this process has for the workers of an entry. */
const capsOfEntry = new Map<string, ResourceLimits>();

/** Heap caps of the workers of an entry, for those that are started from now on: they win over what whoever starts one asks for. */
export function capWorkers(name: string, caps: ResourceLimits): void {
  capsOfEntry.set(name, caps);
}

/** Starts a worker, with a clean execArgv for the same reason. */
export function startWorker(
  name: string,
  workerData: unknown,
  transferList: readonly MessagePort[] = [],
  resourceLimits: ResourceLimits = {},
): Worker {
  return new Worker(workerUrl(name), {
    workerData,
    transferList: [...transferList],
    execArgv: [],
    env: workerEnvironment(),
    resourceLimits: { ...resourceLimits, ...capsOfEntry.get(name) },
    name: `spillway-${name}`,
  });
}

/**
 * V8 takes the heap caps of the command line for every worker too, whatever its own are. Called once the main thread has its heap, this
 * leaves workers to their own; the main thread keeps what it has.
 */
export function leaveWorkersTheirCaps(): void {
  setFlagsFromString('--max-old-space-size=0');
  setFlagsFromString('--max-semi-space-size=0');
}

/** The variables whose name begins with `prefix`. */
export function environment(prefix: string): Record<string, string> {
  const given = Object.entries(process.env).filter(([name, value]) => name.startsWith(prefix) && value !== undefined);
  return Object.fromEntries(given) as Record<string, string>;
}
