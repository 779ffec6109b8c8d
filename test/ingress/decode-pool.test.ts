// The decode threads: what runs inline, what moves, what waits, and what happens to a task without an end.

import t from 'tap';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, getPriority } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { SpillwayError, type ErrorCode } from '../../src/base/errors.ts';
import { DECODE_INLINE_BYTES, DECODE_NICE, WAITER_OVERHEAD_BYTES } from '../../src/base/limits.ts';
import type { DecodedRequest, DecodeTask } from '../../src/codec/request.ts';
import { decodeHeapMiB, DecodePool, type DecodePoolOptions } from '../../src/ingress/decode-pool.ts';
import { until } from '../support/log-support.ts';
import { temporaryDirectory } from '../support/modes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const dir = temporaryDirectory();
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const limits = { maxRecords: 100_000, maxRecordBytes: MIB, maxBytes: 16 * MIB };

/** A schema whose pattern takes for ever on `endless`. */
const backtracking = join(dir, 'backtracking.json');
writeFileSync(backtracking, '{"type":"string","pattern":"^(a+)+$"}');
const endless = `"${'a'.repeat(60)}!"`;

/** In memory of its own, as a body that was read. */
function task(bytes: Uint8Array | string, more: Partial<DecodeTask> = {}): DecodeTask {
  return { body: new Uint8Array(Buffer.from(bytes as string)), encoding: 'identity', shape: 'ndjson', limits, ...more };
}

function gzipTask(text: string): DecodeTask {
  return task(gzipSync(text), { encoding: 'gzip' });
}

function textsOf({ body, ranges, count }: DecodedRequest): string[] {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  return Array.from({ length: count }, (_, i) => bytes.toString('latin1', ranges[2 * i], ranges[2 * i + 1]));
}

async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'fine'> {
  try {
    await promise;
    return 'fine';
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    return error.code;
  }
}

async function withPool(options: Partial<DecodePoolOptions>, use: (pool: DecodePool) => Promise<void>): Promise<void> {
  const pool = new DecodePool({ threads: 1, ...options });
  try {
    await use(pool);
  } finally {
    await pool.close();
  }
}

/** Niceness of each thread of this process. */
function niceness(): number[] {
  // Field 19 of the line, behind a name in brackets that may hold anything.
  const niceOf = (stat: string): number => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  return readdirSync('/proc/self/task').map((tid) => niceOf(readFileSync(`/proc/self/task/${tid}/stat`, 'latin1')));
}

t.test('the threads that decode are nice, and only they', { skip: process.platform !== 'linux' }, async (t) => {
  const own = getPriority();
  await withPool({ threads: 2 }, async (pool) => {
    await pool.decode(gzipTask('x\n'));
    const nice = (): number[] => niceness().filter((n) => n !== own);
    await until(() => nice().length === 2, 'both threads have loaded');
    t.strictSame(nice(), Array(2).fill(Math.min(own + DECODE_NICE, constants.priority.PRIORITY_LOW)));
  });
});

t.test('small plain bodies stay on the calling thread, all others go', async (t) => {
  await withPool({}, async (pool) => {
    const lines = (bytes: number): string => 'x\n'.repeat(bytes / 2);
    for (const bytes of [2, 1000, DECODE_INLINE_BYTES]) {
      const inline = task(lines(bytes));
      const came = await pool.decode(inline);
      t.equal(came.body, inline.body, `${bytes} bytes: the very body`);
      t.strictSame([came.body.length, came.count], [bytes, bytes / 2]);
    }
    const integers = join(dir, 'integers.json');
    writeFileSync(integers, '{"type":"integer"}');
    const moved: [string, DecodeTask, number][] = [
      ['a larger one', task(lines(DECODE_INLINE_BYTES + 2)), DECODE_INLINE_BYTES / 2 + 1],
      ['gzip', gzipTask('1\n2'), 2],
      ['a schema', task('1\n2\n3', { schema: integers }), 3],
      ['a large array', task(`[${'1,'.repeat(50_000)}1]`, { shape: 'json' }), 50_001],
    ];
    for (const [what, gone, count] of moved) {
      const came = await pool.decode(gone);
      t.strictSame([gone.body.length, gone.body.buffer.byteLength], [0, 0], `${what}: its memory moved`);
      t.strictSame([came.count, came.badCount], [count, 0], what);
    }
  });
});

t.test('the same result as inline', async (t) => {
  await withPool({ threads: 2 }, async (pool) => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `{"i":${i}}`);
    const text = lines.join('\n');
    const came = await Promise.all([
      pool.decode(task(text, { wantCrc32c: true })),
      pool.decode(task(gzipSync(text), { encoding: 'gzip', wantCrc32c: true })),
      pool.decode(task(`[${lines.join(', ')}]`, { shape: 'json' })),
    ]);
    for (const decoded of came) t.ok(textsOf(decoded).join('\n') === text, `${decoded.count} records`);
    t.equal(came[0].crc32c, came[1].crc32c);
    t.type(came[0].crc32c, 'number');
    t.equal(came[2].crc32c, undefined);
    const large = await pool.decode(gzipTask(`a\n${'b'.repeat(MIB + 1)}\nc`));
    t.strictSame([textsOf(large), large.badCount], [['a', 'c'], 1]);
    t.match(large.bad, [{ index: 1, byteOffset: 2, code: 'RECORD_TOO_LARGE' }]);
  });
});

t.test('a body that is part of a buffer is copied, and its neighbours stay', async (t) => {
  await withPool({}, async (pool) => {
    const gzip = gzipSync('1\n2\n3');
    const whole = Buffer.alloc(gzip.length + 20, 7);
    gzip.copy(whole, 10);
    const part = whole.subarray(10, 10 + gzip.length);
    const came = await pool.decode({ ...gzipTask(''), body: part });
    t.strictSame(textsOf(came), ['1', '2', '3']);
    t.strictSame([whole.length, whole[0], part.length], [gzip.length + 20, 7, gzip.length]);
    const shared = new Uint8Array(new SharedArrayBuffer(gzip.length));
    shared.set(gzip);
    t.strictSame(textsOf(await pool.decode({ ...gzipTask(''), body: shared })), ['1', '2', '3'], 'shared memory');
    const pooled = Buffer.from(gzip);
    t.strictSame(textsOf(await pool.decode({ ...gzipTask(''), body: pooled })), ['1', '2', '3'], "Node's pool");
  });
});

t.test('errors keep code, message and details', async (t) => {
  await withPool({}, async (pool) => {
    const none = join(dir, 'none.json');
    const cases: [ErrorCode, DecodeTask, RegExp][] = [
      ['BAD_ENCODING', task('plain', { encoding: 'gzip' }), /^body: gzip: incorrect header check$/],
      ['BODY_TOO_LARGE', gzipTask('x'.repeat(16 * MIB + 1)), /at most 16777216 bytes/],
      ['EMPTY_REQUEST', gzipTask('\n'), /no record/],
      ['TOO_MANY_RECORDS', gzipTask('x\n'.repeat(100_001)), /at most 100000 records/],
      ['INVALID_JSON', task(gzipSync('[1'), { encoding: 'gzip', shape: 'json' }), /at byte 2, got the end/],
      ['INVALID_OPTION', task('1', { schema: none }), /none\.json: ENOENT/],
    ];
    for (const [code, bad, message] of cases) {
      const error = await pool.decode(bad).catch((e: unknown) => e);
      t.ok(error instanceof SpillwayError, code);
      t.match(error, { code, message });
    }
    const error = await pool.decode(task('1', { schema: none })).catch((e: unknown) => e);
    t.strictSame((error as SpillwayError).details, { subject: none });
    const bug = task(gzipSync('1'), { encoding: 'lzw' as 'gzip' });
    await t.rejects(pool.decode(bug), { code: 'WORKER_DIED', message: /^decode: a thread ended: / }, 'a fault of ours');
    t.equal(await codeOf(pool.decode(gzipTask('1'))), 'fine', 'and the thread goes on');
  });
});

t.test('tasks wait in order, within a bound in bytes', async (t) => {
  const sizes = Array.from({ length: 6 }, (_, i) => gzipTask(`${i}\n`.repeat(1000 * (i + 1))));
  const bytes = sizes.map((s) => s.body.length + WAITER_OVERHEAD_BYTES);
  const waiting = bytes.slice(1, 4).reduce((a, b) => a + b);
  await withPool({ maxWaitingBytes: waiting }, async (pool) => {
    // Until its thread has loaded, everything waits.
    await pool.decode(gzipTask('0'));
    const order: number[] = [];
    const decode = (i: number): Promise<ErrorCode | 'fine'> =>
      codeOf(pool.decode(sizes[i]).then((came) => order.push(came.count / 1000 - 1)));
    const first = [0, 1, 2, 3].map(decode);
    t.equal(pool.waitingBytes, waiting, 'one runs, three wait');
    t.equal(await decode(4), 'BACKLOG_FULL', 'one too many');
    t.ok(sizes[4].body.length > 0, 'and it still has its body');
    t.strictSame(await Promise.all(first), ['fine', 'fine', 'fine', 'fine']);
    t.strictSame([order, pool.waitingBytes], [[0, 1, 2, 3], 0]);
    t.equal(await decode(4), 'fine', 'later there is room');
  });
  await withPool({ maxWaitingBytes: 10 }, async (pool) => {
    await pool.decode(gzipTask('0'));
    const came = [gzipTask('1'), gzipTask('2'), gzipTask('3')].map((each) => codeOf(pool.decode(each)));
    t.strictSame(await Promise.all(came), ['fine', 'fine', 'BACKLOG_FULL'], 'one above the bound waits alone');
    t.equal(pool.waitingBytes, 0);
  });
});

t.test('a task without an end is ended, and those behind it are not', async (t) => {
  await withPool({ taskMs: 2500 }, async (pool) => {
    for (const round of [1, 2]) {
      const hanging = pool.decode(task(endless, { schema: backtracking }));
      const behind = [1, 2, 3].map((i) => pool.decode(gzipTask(`${i}`)));
      // Retryable, it would come back for ever, and take the thread each time.
      const refused = { code: 'SCHEMA_MISMATCH', retryable: false, message: /took longer than 2500 ms/ };
      await t.rejects(hanging, refused, `round ${round}`);
      t.strictSame((await Promise.all(behind)).map(textsOf), [['1'], ['2'], ['3']], `round ${round}: those behind it`);
    }
    t.equal(await codeOf(pool.decode(task('"aaa"', { schema: backtracking }))), 'fine', 'the schema is usable');
  });
});

t.test('whoever waits for a thread is refused in time, and leaves nothing behind', async (t) => {
  await withPool({ taskMs: 3000, maxWaitMs: 300 }, async (pool) => {
    const hanging = codeOf(pool.decode(task(endless, { schema: backtracking })));
    const from = performance.now();
    const patient = codeOf(pool.decode(gzipTask('1'), 60_000));
    const behind = [pool.decode(gzipTask('2')), pool.decode(gzipTask('3'), 100), pool.decode(gzipTask('4'), 0)];
    t.strictSame(await Promise.all(behind.map(codeOf)), ['BACKLOG_FULL', 'BACKLOG_FULL', 'BACKLOG_FULL']);
    t.ok(performance.now() - from < 2500, 'before the task without an end was ended');
    t.ok(pool.waitingBytes < 2 * WAITER_OVERHEAD_BYTES, 'only the patient one is counted');
    t.strictSame(await Promise.all([hanging, patient]), ['SCHEMA_MISMATCH', 'fine']);
    t.equal(pool.waitingBytes, 0);
  });
});

t.test('close finishes what it has', async (t) => {
  const pool = new DecodePool({ threads: 1 });
  const under = [1, 2, 3].map((i) => pool.decode(gzipTask(`${i}`)));
  const closed = pool.close();
  const late = [pool.decode(gzipTask('4')), pool.decode(task('5'))].map(codeOf);
  t.strictSame((await Promise.all(under)).map(textsOf), [['1'], ['2'], ['3']]);
  t.strictSame(await Promise.all(late), ['DRAINING', 'DRAINING'], 'nothing new, inline neither');
  await closed;
  await pool.close();
});

t.test('the largest record that a schema parses fits the heap', async (t) => {
  const any = join(dir, 'any.json');
  writeFileSync(any, '{"type":"array"}');
  const resourceLimits = { maxOldGenerationSizeMb: decodeHeapMiB(MIB), maxYoungGenerationSizeMb: 12 };
  await withPool({ resourceLimits }, async (pool) => {
    for (const record of [
      `[${'{},'.repeat(MIB / 3 - 2)}{}]`,
      `[${'[],'.repeat(MIB / 3 - 2)}[]]`,
      `${'['.repeat(MIB / 2)}${']'.repeat(MIB / 2)}`,
    ]) {
      const came = await pool.decode(task(`${record}\n${record}`, { schema: any }));
      t.strictSame([came.count, came.badCount], [2, 0], `${record.slice(0, 9)}…`);
    }
  });
});

t.test('threads start without NODE_OPTIONS and execArgv', async (t) => {
  const trace = join(dir, 'trace.txt');
  const hook = join(dir, 'hook.cjs');
  const threadId = "require('node:worker_threads').threadId";
  writeFileSync(hook, `require('node:fs').appendFileSync(${JSON.stringify(trace)}, ${threadId} + ' ');`);
  const module = JSON.stringify(new URL('../../src/ingress/decode-pool.js', import.meta.url).href);
  const script = `
    const { DecodePool } = await import(${module});
    const pool = new DecodePool({ threads: 1 });
    const body = new Uint8Array((await import('node:zlib')).gzipSync('1'));
    const limits = ${JSON.stringify(limits)};
    const came = await pool.decode({ body, encoding: 'gzip', shape: 'ndjson', limits });
    await pool.close();
    console.log(came.count, Object.keys(process.env).includes('NODE_OPTIONS'));`;
  const options = { env: { ...process.env, NODE_OPTIONS: `--require=${hook}` }, encoding: 'utf8' } as const;
  const threadsOf = (source: string, printed: string): string => {
    writeFileSync(trace, '');
    const args = ['--require', hook, '--input-type=module', '-e', source];
    t.equal(execFileSync(process.execPath, args, options), printed);
    return readFileSync(trace, 'utf8');
  };
  // A test runner may bring a thread of its own into every process, which loads the hook too.
  const without = threadsOf('console.log(0)', '0\n');
  t.match(without, /^0 /, 'the hook works');
  t.equal(threadsOf(script, '1 true\n'), without, 'no thread more than without a pool');
});

t.test(
  'pools that are closed while their threads load: Node would abort the process if they were ended then',
  async (t) => {
    for (let i = 0; i < 12; i++) {
      await withPool({ threads: 2 }, async (pool) => {
        // Each round at another moment of the loading.
        await new Promise<void>((resolve) => setTimeout(resolve, i * 12));
        await pool.close();
      });
    }
    t.pass('the process is there');
  },
);
