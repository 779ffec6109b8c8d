// One policy of lab:overflow, live: a line each 250 ms, which a terminal shows in place; with --json a line of JSON instead.

import { readFileSync } from 'node:fs';
import { limitOf } from '../../src/ingress/memory.ts';
import { printStatement, type Statement } from './frame.ts';
import { FACTOR, OWN_CAP_BYTES, recordsPerSecond, runPolicy, type Sample, type Setting } from './overflow-run.ts';

const MIB = 1024 * 1024;

const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;

function liveLine(s: Sample, before: Sample | undefined, limitBytes: number | undefined): string {
  const seconds = (s.ms - (before?.ms ?? 0)) / 1000;
  const rate = (of: 'offered' | 'accepted'): string => {
    // The last look comes right behind the one before: too short for a rate.
    if (seconds < 0.1) return '–'.padStart(6);
    return String(Math.round((s[of] - (before?.[of] ?? 0)) / seconds)).padStart(6);
  };
  const of = limitBytes === undefined ? '' : ` of ${mib(limitBytes)}`;
  return (
    `${(s.ms / 1000).toFixed(2).padStart(6)} s  depth ${String(s.depth).padStart(7)}  RSS ${mib(s.rssBytes).padStart(8)}${of}` +
    `  dropped ${String(s.dropped).padStart(7)}  offered/s ${rate('offered')}  accepted/s ${rate('accepted')}`
  );
}

const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

/** Runs one policy within whatever memory limit there is, and shows how it goes. */
export async function live(statement: Statement, json: boolean, setting: Setting): Promise<void> {
  const { policy } = setting;
  const limit = limitOf(0);
  if (!json) {
    printStatement(statement);
    const rate = recordsPerSecond(setting);
    console.log(
      `policy ${policy}: ${FACTOR * rate} records/s of ${setting.recordBytes} bytes are offered, the disk takes ${rate}/s; ` +
        `${setting.seconds} s; memory limit ${limit === undefined ? 'none' : `${mib(limit.bytes)} (${limit.where})`}`,
    );
    if (process.platform === 'linux') {
      const files = /^RssFile:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? 0;
      console.log(
        `RSS includes ${mib(Number(files) * 1024)} of the program of node, which need not count against the limit`,
      );
    }
    if (policy === 'unbounded' && (limit?.bytes ?? Infinity) > OWN_CAP_BYTES) {
      console.log(
        `no memory limit below ${mib(OWN_CAP_BYTES)} is around this process: it ends itself there, where nothing else would`,
      );
    }
  }
  let before: Sample | undefined;
  const isTerminal = process.stdout.isTTY;
  const tell = (sample: Sample): void => {
    const line = json ? '' : liveLine(sample, before, limit?.bytes);
    if (json) print({ sample });
    else if (isTerminal) process.stdout.write(`\r\u001b[2K${line.slice(0, (process.stdout.columns || 120) - 1)}`);
    else process.stdout.write(`${line}\n`);
    before = sample;
  };
  const outcome = await runPolicy(setting, tell);
  if (json) print({ outcome });
  else {
    if (isTerminal) process.stdout.write('\n');
    if (outcome.cappedBytes !== null) console.log(`ended by itself at ${mib(outcome.cappedBytes)}`);
    const { offered, accepted, dropped, pending, wanted } = outcome;
    console.log(
      `offered ${offered} = accepted ${accepted} + dropped ${dropped} + pending ${pending}; held back ${wanted - offered}; ` +
        `accepted p99 ${outcome.p99Ms.toFixed(0)} ms; largest RSS ${mib(outcome.peakRssBytes)}; I/O mode ${outcome.io}`,
    );
    console.log(outcome.wrong.length === 0 ? 'the ledger is exact' : `the ledger is OFF: ${outcome.wrong.join('; ')}`);
  }
  if (outcome.wrong.length > 0) process.exitCode = 1;
}
