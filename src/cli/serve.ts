// spillway serve: starts the gateway, says where it is, ends it when asked to.
//
//     SIGTERM, SIGINT   drain: what was accepted is answered, then the log is closed. Exit 0; 1 where something was left
//     SIGHUP            the token file is read again
//     again SIGINT      ends at once

import { setDefaultHighWaterMark } from 'node:stream';
import { getHeapStatistics } from 'node:v8';
import { reasonOf, SpillwayError, type ErrorCode } from '../base/errors.ts';
import { resolveGatewayOptions, type GatewayOptions } from '../base/gateway-options.ts';
import { formatBytes, resolveLogOptions } from '../base/options.ts';
import { createLogger } from '../ingress/accept-thread.ts';
import { checkFiles } from '../ingress/files.ts';
import { describe, Gateway } from '../ingress/gateway.ts';
import { checkMemory, heapCaps, limitOf, memorySum, READ_AHEAD_BYTES } from '../ingress/memory.ts';
import { capWorkers, leaveWorkersTheirCaps } from '../platform/threads.ts';
import { resolveServeConfig } from './config.ts';

const MIB = 1024 * 1024;

/** @returns exit status: 0, or 1 when the drain left something or a thread died */
export async function serveCommand(parsed: Readonly<Record<string, unknown>>): Promise<number> {
  const config = resolveServeConfig(parsed);
  const gateway = resolveGatewayOptions(config.gateway);
  const log = resolveLogOptions(config.log);
  const logger = createLogger(gateway.logLevel, 'main');

  const sum = memorySum(log, gateway);
  const limit = limitOf(gateway.memoryLimit);
  logger.info(
    { rows: Object.fromEntries(sum.rows.map((row) => [row.what, row.bytes])), limitBytes: limit?.bytes ?? null },
    `memory: the options add up to ${Math.ceil(sum.totalBytes / MIB)} MiB`,
  );
  checkMemory(sum, limit);
  const { main, commit } = heapCaps(log, gateway);
  const heapBytes = getHeapStatistics().heap_size_limit;
  const capBytes = (main.oldMiB + 3 * main.semiMiB) * MIB;
  if (heapBytes > capBytes + 4 * MIB) {
    // V8 takes these only when it starts.
    const message = `memory: the heap may grow to ${Math.ceil(heapBytes / MIB)} MiB, the sum counts ${capBytes / MIB}: start node with ${main.flags.join(' ')}`;
    if (limit !== undefined) throw new SpillwayError('MEMORY_LIMIT', message, { subject: 'memoryLimit' });
    logger.info(message);
  }

  leaveWorkersTheirCaps();
  // Node 22 reads four times as far ahead of a body that nobody takes yet.
  setDefaultHighWaterMark(false, READ_AHEAD_BYTES);
  capWorkers('commit', commit);

  let ask!: (reason: string) => void;
  const asked = new Promise<string>((resolve) => (ask = resolve));
  let died: string | undefined;
  let server: Gateway | undefined;
  const reload = (): void => {
    if (gateway.tokens === undefined) return logger.info('SIGHUP: there is no token file to read (option tokens)');
    server?.reloadTokens().then(
      () => logger.info('the token file was read again'),
      (error: unknown) => logger.error(`the tokens from before stay: ${reasonOf(error)}`),
    );
  };
  let signals = 0;
  const end = (signal: NodeJS.Signals): void => {
    if (++signals > 1 && signal === 'SIGINT') process.exit(1);
    ask(signal);
  };
  // Before the start, which may read back much: PID 1 of a container has no default action, and docker stop would wait and kill.
  process.on('SIGHUP', reload).on('SIGTERM', end).on('SIGINT', end);
  // A file that cannot be used is told before anything is made on the disk.
  checkFiles(gateway);
  server = await Gateway.start(config.log, gateway, logger, (reason) => ask((died = reason))).catch(nameDir);
  announce(server, gateway);

  const reason = await asked;
  logger.info({ reason }, 'draining: nothing new is taken');
  const left = await server.end();
  process.off('SIGHUP', reload).off('SIGTERM', end).off('SIGINT', end);
  const { gateway: counted, log: figures } = server.stats();
  const books = { records: counted.records, durableOffset: figures.durableOffset, ...left };
  if (died === undefined && left.requests === 0) {
    logger.info(books, 'closed: everything that was accepted is answered');
    return 0;
  }
  logger.error(books, died ?? `closed after drainMs ${gateway.drainMs} with requests that were not answered`);
  return 1;
}

/** What is wrong with the directory names the option that it comes from. */
function nameDir(error: unknown): never {
  const ofDir: readonly ErrorCode[] = ['DIR_UNUSABLE', 'NOT_A_LOG', 'LOCKED'];
  if (!(error instanceof SpillwayError) || !ofDir.includes(error.code)) throw error;
  throw new SpillwayError(error.code, `option 'dir': ${error.message}`, error.details);
}

/** An address that means all of them is none to send to. */
function reachable(url: string): string {
  return url.replace('://0.0.0.0:', '://127.0.0.1:').replace('://[::]:', '://[::1]:');
}

function announce(server: Gateway, options: GatewayOptions): void {
  const { log, listening } = server;
  const { io, appendedOffset } = log.stats();
  const where = describe(listening, options.tlsCert !== undefined);
  const lines = [
    `spillway: listening on ${where.join(', ')}`,
    `spillway: log in ${log.options.dir}, ${appendedOffset} records, I/O mode ${io}, lanes of ${formatBytes(log.options.laneBytes)}`,
  ];
  const http = where.find((line) => line.startsWith('http'));
  if (http !== undefined) {
    lines.push('spillway: try');
    const token = options.tokens === undefined ? '' : " -H 'authorization: Bearer TOKEN'";
    const tls = options.tlsClientCa === undefined ? '' : ' --cert CLIENT.pem --key CLIENT.key';
    lines.push(
      `  curl -sS ${reachable(http)}/v1/streams/demo/records${token}${tls} -H 'content-type: application/x-ndjson' --data-binary '{"hello":"world"}'`,
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}
