#!/usr/bin/env node
// The command line: parses, calls, prints. Exit status: 0 ok, 2 usage or configuration, 3 corruption, 1 other.

import { readFileSync } from 'node:fs';
import { SpillwayError } from '../base/errors.ts';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { inspectCommand, verifyCommand } from './check.ts';
import { addLogFlags, logOptionsFrom } from './flags.ts';
import { ingest } from './ingest.ts';
import { addLoadFlags } from './load-flags.ts';
import { report } from './output.ts';
import { readCommand } from './read.ts';
import { sampleCommand } from './sample.ts';
import { addServeFlags } from './serve-flags.ts';
import { addTuneFlags } from './tune-flags.ts';
import { addTopFlags, DEFAULT_TOP_URL } from './top-flags.ts';

const packageJson = new URL('../../../package.json', import.meta.url);
const { version } = JSON.parse(readFileSync(packageJson, 'utf8')) as { version: string };

function wholeNumber(text: string): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(n))
    throw new InvalidArgumentError('expected a whole number from 0.');
  return n;
}

// What the gateway and the load generator need is loaded by their commands alone: the others start in half the time.

/** Set by the command that ran. */
let status = 0;
/** False where what is printed is not what the command is for: a gateway is to be ended by signals alone. */
let endsWithStdout = true;

function program(): Command {
  const root = new Command('spillway')
    .description(
      'Durable batching ingest: a record is acknowledged once it is on stable storage, at one durable write per batch.',
    )
    .version(version)
    .exitOverride()
    .showSuggestionAfterError(true)
    // Whoever reads log lines gets one: what it suggests stands in a second.
    .configureOutput({ outputError: (text, write) => write(`${text.trim().replace(/\s*\n\s*/g, ' ')}\n`) });

  addLogFlags(root.command('ingest').description('append one record per line, and say what it cost'))
    .option('--stream <NAME>', 'stream to file the records under (required)')
    .option('--input <FILE>', 'file to read, - for stdin', '-')
    .option('--json', 'print one JSON object as the last line')
    .action(async (o: Record<string, unknown>) => {
      required(o, 'dir');
      status = await ingest({
        log: logOptionsFrom(o),
        stream: required(o, 'stream'),
        input: String(o['input']),
        json: o['json'] === true,
      });
    });

  root
    .command('read')
    .description('print records, oldest first')
    .option('--dir <DIR>', 'directory of the log (required)')
    .option('--stream <NAME>', 'only records of this stream')
    .option('--from <OFFSET>', 'begin at this offset', wholeNumber)
    .option('--count <N>', 'stop after this many records', wholeNumber)
    .addOption(
      new Option('--format <FORMAT>', 'raw: payloads, one per line; json: one object per line')
        .choices(['raw', 'json'])
        .default('raw'),
    )
    .option('--follow', 'go on with what is appended, until interrupted')
    .action(
      async (o: {
        dir: string;
        stream?: string;
        from?: number;
        count?: number;
        format: 'raw' | 'json';
        follow?: boolean;
      }) => {
        const dir = required(o, 'dir');
        const { stream, from, count = Infinity, format, follow = false } = o;
        const options = {
          ...(stream === undefined ? {} : { stream }),
          ...(from === undefined ? {} : { from }),
          follow,
        };
        status = await readCommand({ dir, read: options, count, format });
      },
    );

  type Check = (dir: string, json: boolean) => number | Promise<number>;
  const check = (name: string, description: string, action: Check): void => {
    root
      .command(name)
      .description(description)
      .option('--dir <DIR>', 'directory of the log (required)')
      .option('--json', 'print one JSON object as the last line')
      .action(async (o: { dir: string; json?: boolean }) => {
        status = await action(required(o, 'dir'), o.json === true);
      });
  };
  check('verify', 'check every batch and every record; exit 3 on damage', verifyCommand);
  check('inspect', 'show segments, offsets, epochs and sizes', inspectCommand);

  root
    .command('sample')
    .description('print generated events, one JSON object per line')
    .option('--records <N>', 'how many', wholeNumber, 1000)
    .option('--seed <N>', 'the same seed gives the same events', wholeNumber, 1)
    .action(async (o: { records: number; seed: number }) => {
      status = await sampleCommand(o.records, o.seed);
    });

  addServeFlags(root.command('serve').description('run the gateway: HTTP and the framed protocol, one log')).action(
    async (o: Record<string, unknown>) => {
      endsWithStdout = false;
      status = await (await import('./serve.ts')).serveCommand(o);
    },
  );

  addLoadFlags(root.command('load').description('offer load at a stated rate, and say what came of it'))
    .option('--json', 'print one JSON object as the last line')
    .action(async (o: Record<string, unknown>) => {
      status = await (await import('./load.ts')).loadCommand(o, o['json'] === true);
    });

  addTuneFlags(
    root.command('tune').description('recommend a window for a p99 target, measured on this disk with these arrivals'),
  )
    .option('--json', 'print one JSON object as the last line')
    .action(async (o: Record<string, unknown>) => {
      status = await (await import('./tune.ts')).tuneCommand(o, o['json'] === true);
    });

  addTopFlags(
    root.command('top').description('watch a running gateway: rates, latency by stage, batches, queue, drops'),
  )
    .argument('[url]', 'where the gateway is', DEFAULT_TOP_URL)
    .option('--once', 'one snapshot of one interval, as plain text; the same where stdout is no terminal')
    .action(async (url: string, o: Record<string, unknown>) => {
      status = await (await import('./top.ts')).topCommand(url, o);
    });

  root
    .command('token')
    .description('print a new random token, and its line for the file of --tokens')
    .option('--name <NAME>', 'name of whoever gets it: in logs and figures', 'token')
    .option('--json', 'print one JSON object as the last line')
    .action(async (o: { name: string; json?: boolean }) => {
      status = (await import('./token.ts')).tokenCommand(o.name, o.json === true);
    });

  root
    .command('lab')
    .description(
      'run an experiment and say what came of it: overflow, bomb, nagle, window, aimd, compression (docs/labs.md)',
    )
    .argument('<name>', 'which one')
    .option('--policy <POLICY>', 'overflow alone: one policy, live: block, drop-newest, drop-oldest, unbounded')
    .option('--seconds <N>', 'how long each part offers load', wholeNumber)
    .option('--rounds <N>', 'how often each part is repeated', wholeNumber)
    .option('--dir <DIR>', 'where temporary logs go: a disk')
    .option('--out <DIR>', 'where figures and plots go (default: ./bench/out)')
    .option('--trace <FILE>', 'window alone: arrivals to replay')
    .option('--quick', 'a minute or two, where the lab knows how')
    .option('--smoke', 'smallest values: shows that it runs, judges counts alone')
    .option('--json', 'with --policy: a JSON object per line')
    .action(async (name: string, o: Record<string, never>) => {
      status = await (await import('./lab.ts')).labCommand(name, o);
    });

  const config = root.command('config').description('the configuration of serve');
  addServeFlags(config.command('explain').description('show every option, its value and where that came from'))
    .option('--json', 'print one JSON object as the last line')
    .action(async (o: Record<string, unknown>) => {
      status = (await import('./explain.ts')).explainCommand(o, o['json'] === true);
    });
  for (const command of root.commands) command.exitOverride().allowExcessArguments(false);
  return root;
}

/** A reader that has gone (`| head`) is the end, not an error; anything else about stdout is one line. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.stderr.write(`spillway: cannot write to stdout: ${error.message}\n`);
  if (endsWithStdout) process.exit(error.code === 'EPIPE' ? 0 : 1);
});

/** Required options are asked for here and not by commander, which would name them before a misspelt one. */
function required(options: Readonly<Record<string, unknown>>, name: string): string {
  const value = options[name];
  if (typeof value === 'string') return value;
  throw new SpillwayError('INVALID_OPTION', `option '--${name}' is required`, { subject: name });
}

async function main(): Promise<number> {
  try {
    await program().parseAsync();
    return status;
  } catch (error) {
    // commander has already printed its one line; help and version end with 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return report(error, process.argv.includes('--json'));
  }
}

process.exitCode = await main();
