// Starting worker threads: where their compiled entry lies, and with which environment. The one home of process.env.

import { Worker, type MessagePort } from 'node:worker_threads';

/** Entry of a worker in `workers/`, compiled beside `src/`. TypeScript does not rewrite such paths: this does. */
function workerUrl(name: string): URL {
  return new URL(`../../workers/${name}.js`, import.meta.url);
}

/**
 * Starts a worker. Clean execArgv and no NODE_OPTIONS: a profiler that preloads code into every thread would write over
 * its own files.
 */
export function startWorker(name: string, workerData: unknown, transferList: readonly MessagePort[] = []): Worker {
  const { NODE_OPTIONS: _dropped, ...env } = process.env;
  return new Worker(workerUrl(name), {
    workerData,
    transferList: [...transferList],
    execArgv: [],
    env,
    name: `spillway-${name}`,
  });
}

/** The variables whose name begins with `prefix`. */
export function environment(prefix: string): Record<string, string> {
  const given = Object.entries(process.env).filter(([name, value]) => name.startsWith(prefix) && value !== undefined);
  return Object.fromEntries(given) as Record<string, string>;
}
