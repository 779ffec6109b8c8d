// 50 SIGKILLs under load. After each: reopen, and find every record whose acknowledgement the parent had received, at
// its offset, byte for byte; and nothing that was never appended. The same directory goes through all of them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { open } from '../../src/index.ts';
import { verify } from '../../src/log/verify.ts';
import { readerIo } from '../../src/platform/choose-io.ts';
import { seededRandom } from '../../src/base/clock.ts';
import { payloadOf } from '../support/kill-payload.ts';
import { temporaryDirectory, workingModes } from '../support/modes.ts';

const KILLS = Number(process.argv[2] ?? 50);
const SEED = 20261121;
const writer = fileURLToPath(new URL('../support/kill-writer.js', import.meta.url));

interface Ack {
  readonly first: number;
  readonly last: number;
  readonly sequence: number;
}

/** Runs a writer, kills it after about `afterAcks` acknowledgements, returns all that came through the pipe. */
async function runAndKill(dir: string, io: string, run: number, afterAcks: number): Promise<Ack[]> {
  const child = spawn(process.execPath, [writer, dir, io, String(run)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  let lines = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    for (const byte of chunk) if (byte === 10) lines++;
    text += chunk.toString('latin1');
    if (lines >= afterAcks) child.kill('SIGKILL');
  });
  const [, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (signal !== 'SIGKILL') throw new Error(`the writer ended by itself (${signal}): ${text.slice(-200)}`);
  // The last line may be cut; a cut line is an acknowledgement nobody received.
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .trim()
    .split('\n')
    .filter((l) => l !== '')
    .map((line) => {
      const [first, last, sequence] = line.split(' ').map(Number);
      return { first, last, sequence };
    });
}

t.test(`${KILLS} kills, each acknowledged record found again`, { timeout: 240_000 }, async (t) => {
  const dir = temporaryDirectory('spillway-kill-');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const random = seededRandom(SEED);
  /** Of every run so far: payload by offset, as acknowledged. */
  const acknowledged = new Map<number, { run: number; sequence: number }>();
  let tornTails = 0;
  let rolls = 0;
  for (let run = 0; run < KILLS; run++) {
    const io = workingModes[run % workingModes.length];
    const acks = await runAndKill(dir, io, run, 1 + Math.floor(random() * 400));
    for (const { first, last, sequence } of acks) {
      if (last - first >= 0)
        for (let o = first; o <= last; o++) acknowledged.set(o, { run, sequence: sequence + o - first });
    }
    const log = await open({
      dir,
      io,
      segmentBytes: '512KiB',
      maxRecordBytes: '16KiB',
      window: { maxBytes: '64KiB' },
      laneBytes: '256KiB',
    });
    const stats = log.stats();
    tornTails += stats.tornBytes > 0 ? 1 : 0;
    rolls = stats.segments;
    let expected = 0;
    let found = 0;
    let wrong = 0;
    for await (const record of log.read()) {
      const known = acknowledged.get(record.offset);
      const text = Buffer.from(record.payload).toString('latin1', 0, 24).split(':');
      const claims = payloadOf(Number(text[0]), Number(text[1]));
      if (record.offset !== expected++ || !claims.equals(record.payload)) wrong++;
      if (known === undefined) continue;
      found++;
      if (known.run !== Number(text[0]) || known.sequence !== Number(text[1])) wrong++;
    }
    await log.close();
    if (wrong > 0 || found !== acknowledged.size) {
      t.equal(wrong, 0, `run ${run} (${io}): no record is garbled or out of order`);
      t.equal(found, acknowledged.size, `run ${run} (${io}): every acknowledged record is there`);
      return;
    }
    // What a lone producer's order promises: acknowledged groups of one lane lie in the order of their sequence.
    for (let i = 1; i < acks.length; i++) {
      if (acks[i].first > acks[i - 1].first !== acks[i].sequence > acks[i - 1].sequence)
        t.fail(`run ${run}: order lost`);
    }
  }
  const io = readerIo();
  const result = verify(io, dir);
  io.destroy();
  t.ok(acknowledged.size > KILLS * 20, `${acknowledged.size} acknowledged records over ${KILLS} kills, all found`);
  t.ok(rolls > 5, `the log went through rolls: ${rolls} segments`);
  t.same(result.problems, [], 'verify finds no problem');
  t.comment(`seed ${SEED}, modes ${workingModes.join(' ')}, torn tails cut: ${tornTails}`);
});
