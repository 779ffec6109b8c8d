// spillway load: an open-loop generator against a gateway or a log, and what came of it.

import { loadOptionTable, resolveLoadOptions } from '../load/options.ts';
import type { LatencyFigures, LoadReport } from '../load/report.ts';
import { runLoad } from '../load/run.ts';
import { flagValues } from './flags.ts';
import { count, figure, printJson, printTable } from './output.ts';

function latencies({ p50, p99, p999, max }: LatencyFigures): string {
  return `p50 ${figure(p50)} ms, p99 ${figure(p99)} ms, p99.9 ${figure(p999)} ms, max ${figure(max)} ms`;
}

function printText(report: LoadReport): void {
  const { offered, sent, accepted, refused, setting } = report;
  const lost = report.unsent + report.unanswered;
  process.stdout.write(`${String(setting['target'])}: ${report.verdict}\n`);
  printTable([
    ['offered', `${figure(offered.recordsPerSecond)} records/s, ${count(offered.requests)} requests`],
    ['sent', `${figure(sent.recordsPerSecond)} records/s, ${count(sent.requests)} requests`],
    [
      'accepted',
      `${figure(accepted.recordsPerSecond)} records/s, ${figure(accepted.bytesPerSecond / 1e6)} MB/s, ${count(accepted.requests)} requests in ${figure(report.seconds)} s`,
    ],
    [
      'refused',
      Object.entries(refused)
        .map(([code, n]) => `${code} ${count(n)}`)
        .join(', ') || 'none',
    ],
    ['never sent, never answered', `${count(report.unsent)}, ${count(report.unanswered)}`],
    ['latency from the intended time', latencies(report.latencyMs)],
    ...(lost === 0 ? [] : [['of all offered, at least', latencies(report.offeredLatencyMs)] as const]),
    ['sent late', latencies(report.lateMs)],
    ['of that by this generator', latencies(report.ownLagMs)],
    ['held by the target', latencies(report.heldMs)],
    ['its event loop', `${figure(report.eventLoopBusy * 100)} % busy`],
  ]);
  if (report.interrupted) process.stderr.write('spillway: interrupted: not all was offered\n');
}

/**
 * @returns exit status: 0, or 1 where nothing was accepted or it was interrupted
 * @throws INVALID_OPTION, INVALID_STREAM, and what reaching the target rejects with
 */
export async function loadCommand(parsed: Readonly<Record<string, unknown>>, json: boolean): Promise<number> {
  const options = resolveLoadOptions(flagValues(loadOptionTable, parsed));
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    const report = await runLoad(options, interrupt.signal);
    if (json) printJson(report);
    else printText(report);
    return report.accepted.requests === 0 || report.interrupted ? 1 : 0;
  } finally {
    process.removeListener('SIGINT', onSignal).removeListener('SIGTERM', onSignal);
  }
}
