import t, { type Test } from 'tap';
import * as fc from 'fast-check';
import { SpillwayError } from '../../src/base/errors.ts';
import {
  checkOption,
  describeOption,
  formatBytes,
  logOptionTable,
  maxBatchBytes,
  parseBytes,
  resolveLogOptions,
  type LogOptions,
  type LogOptionsInput,
  type OptionSpec,
} from '../../src/base/options.ts';
import { nearest } from '../../src/base/spelling.ts';
import { windowLaws } from '../../src/window/aimd.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const table: readonly OptionSpec[] = logOptionTable;

/** What an action throws, which must be INVALID_OPTION. */
function refusal(t: Test, action: () => unknown, name: string): SpillwayError {
  try {
    action();
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    t.equal(error.code, 'INVALID_OPTION', `${name}: code`);
    t.notOk(error.retryable, `${name}: not to be retried`);
    t.notMatch(error.message, /\n/, `${name}: one line`);
    return error;
  }
  return t.fail(`${name}: nothing was thrown`) as never;
}

/** Refused with a line that names the option, what was expected, and what came. */
function refused(t: Test, action: () => unknown, option: string, got: string, name: string): void {
  const { message, details } = refusal(t, action, name);
  t.match(message, new RegExp(`^option '${option.replace('.', '\\.')}': expected .+, got `), `${name}: ${message}`);
  const line = JSON.stringify(got).slice(1, -1); // control characters are escaped
  t.ok(message.endsWith(`got ${line}`), `${name}: "${message}" ends with what came: ${line}`);
  t.equal(details.subject, option, `${name}: subject`);
}

/** `open` options with one value set. */
function withOption(name: string, value: unknown): LogOptionsInput {
  const [head, tail] = name.split('.');
  return { dir: 'd', [head]: tail === undefined ? value : { [tail]: value } } as LogOptionsInput;
}

function valueIn(options: LogOptions, name: string): unknown {
  return name.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], options);
}

t.test('the defaults are those that were promised', async (t) => {
  t.strictSame(resolveLogOptions({ dir: 'd' }), {
    dir: 'd',
    window: { maxRecords: 1000, maxBytes: MIB, lingerMs: 2, sloP99Ms: 0, law: 'headroom' },
    io: 'auto',
    codec: 'none',
    segmentBytes: 64 * MIB,
    laneBytes: 16 * MIB,
    maxLanes: 16,
    maxRecordBytes: MIB,
    maxWaitingBytes: 64 * MIB,
    retentionBytes: 0,
    retentionMs: 0,
  });
});

t.test('an adaptive window: an SLO in place of a linger, never both', async (t) => {
  const windowOf = (window: NonNullable<LogOptionsInput['window']>): object =>
    resolveLogOptions({ dir: 'd', window }).window;
  t.match(windowOf({ sloP99Ms: 20 }), { lingerMs: 0, sloP99Ms: 20, law: 'headroom' });
  t.match(windowOf({ sloP99Ms: 0.5, law: 'aimd' }), { lingerMs: 0, sloP99Ms: 0.5, law: 'aimd' });
  t.match(windowOf({ lingerMs: 3, sloP99Ms: 0 }), { lingerMs: 3, sloP99Ms: 0 }, 'none is stated');
  for (const lingerMs of [0, 3])
    refused(t, () => windowOf({ lingerMs, sloP99Ms: 20 }), 'window.sloP99Ms', 'both', 'both');
  t.strictSame(table.find((s) => s.name === 'window.law')!.choices, windowLaws, 'the laws that there are');
});

t.test('every row is complete, and each name and flag is there once', async (t) => {
  t.equal(new Set(table.map((s) => s.name)).size, table.length, 'names');
  t.equal(new Set(table.map((s) => s.flag)).size, table.length, 'flags');
  for (const spec of table) {
    t.match(spec.flag, /^--[a-z]+(-[a-z0-9]+)*$/, `${spec.name}: flag`);
    t.match(spec.sentence, /^[A-Z].+\.$/, `${spec.name}: sentence`);
    t.equal(spec.choices !== undefined, spec.type === 'choice', `${spec.name}: choices`);
    const numeric = ['integer', 'number', 'bytes'].includes(spec.type);
    t.equal(spec.min !== undefined && spec.max !== undefined, numeric, `${spec.name}: bounds`);
    if (spec.default !== undefined) {
      t.equal(checkOption(spec, spec.default), spec.default, `${spec.name}: default accepted`);
      t.equal(valueIn(resolveLogOptions({ dir: 'd' }), spec.name), spec.default, `${spec.name}: default used`);
      t.equal(
        valueIn(resolveLogOptions(withOption(spec.name, undefined)), spec.name),
        spec.default,
        `${spec.name}: undefined`,
      );
    }
  }
});

t.test('each option takes its bounds and refuses what lies beyond', async (t) => {
  for (const spec of table) {
    if (spec.min === undefined || spec.max === undefined) continue;
    t.equal(checkOption(spec, spec.min), spec.min, `${spec.name}: min`);
    t.equal(checkOption(spec, spec.max), spec.max, `${spec.name}: max`);
    const below = spec.min - 1;
    const above = spec.max + 1;
    refused(t, () => checkOption(spec, below), spec.name, String(below), `${spec.name} below min`);
    refused(t, () => checkOption(spec, above), spec.name, String(above), `${spec.name} above max`);
    refused(
      t,
      () => resolveLogOptions(withOption(spec.name, below)),
      spec.name,
      String(below),
      `open: ${spec.name} below min`,
    );
    refused(
      t,
      () => resolveLogOptions(withOption(spec.name, above)),
      spec.name,
      String(above),
      `open: ${spec.name} above max`,
    );
  }
});

t.test('each option refuses the wrong type', async (t) => {
  const strange: [unknown, string][] = [
    [null, 'null'],
    [true, 'true'],
    [{}, 'an object'],
    [[1], 'an array'],
    [5n, '5'],
    [Symbol('s'), 'Symbol(s)'],
  ];
  const notNumbers: [unknown, string][] = [
    [NaN, 'NaN'],
    [Infinity, 'Infinity'],
    [-Infinity, '-Infinity'],
    ['', "''"],
    ['many', "'many'"],
  ];
  for (const spec of table) {
    const values = [...strange];
    if (spec.type === 'string') values.push([5, '5'], ['', "''"], ['a\0b', "'a\0b'"], [undefined, 'undefined']);
    else if (spec.type === 'choice') values.push([5, '5'], ['', "''"], ['turbo', "'turbo'"], ['AUTO', "'AUTO'"]);
    else values.push(...notNumbers);
    if (spec.type === 'integer' || spec.type === 'bytes')
      values.push([(spec.min ?? 0) + 0.5, String((spec.min ?? 0) + 0.5)]);
    if (spec.type === 'integer' || spec.type === 'number') values.push(['5', "'5'"]);
    for (const [value, got] of values) {
      const name = `${spec.name} = ${got}`;
      refused(t, () => checkOption(spec, value), spec.name, got, name);
      if (value !== undefined)
        refused(t, () => resolveLogOptions(withOption(spec.name, value)), spec.name, got, `open: ${name}`);
    }
  }
});

t.test('sizes: text with units', async (t) => {
  const cases: [string, number | undefined][] = [
    ['65536', 65_536],
    ['0', 0],
    ['1b', 1],
    ['64KiB', 64 * KIB],
    ['1MiB', MIB],
    ['1mib', MIB],
    ['1 mib', MIB],
    ['  1 MiB  ', MIB],
    ['1GiB', GIB],
    ['1kB', 1000],
    ['1MB', 1e6],
    ['1GB', 1e9],
    ['0.5KiB', 512],
    ['10parsecs', undefined],
    ['1 k', undefined],
    ['1TiB', undefined],
    ['MiB', undefined],
    ['', undefined],
    ['-1KiB', undefined],
    ['+1KiB', undefined],
    ['1e3', undefined],
    ['0x10', undefined],
    ['1,5MiB', undefined],
    ['1.MiB', undefined],
    ['1 MiB 2', undefined],
    ['1MiB\0', undefined],
  ];
  const spec = table.find((s) => s.name === 'retentionBytes')!;
  for (const [text, bytes] of cases) {
    t.equal(parseBytes(text), bytes, JSON.stringify(text));
    if (bytes === undefined) refused(t, () => checkOption(spec, text), spec.name, `'${text}'`, JSON.stringify(text));
    else t.equal(checkOption(spec, text), bytes, `as an option: ${JSON.stringify(text)}`);
  }
  refused(t, () => checkOption(spec, '0.3KiB'), spec.name, "'0.3KiB'", 'part of a byte');
  t.equal(resolveLogOptions({ dir: 'd', segmentBytes: '32MiB' }).segmentBytes, 32 * MIB);
  refused(
    t,
    () => resolveLogOptions({ dir: 'd', laneBytes: '10parsecs' }),
    'laneBytes',
    "'10parsecs'",
    'open: 10parsecs',
  );
});

t.test('sizes: what formatBytes writes, parseBytes reads', async (t) => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.nat(),
        fc.maxSafeNat(),
        fc.nat(4096).map((n) => n * MIB),
      ),
      (n) => parseBytes(formatBytes(n)) === n,
    ),
    { seed: 3 },
  );
  t.equal(formatBytes(1536), '1536');
  t.equal(formatBytes(3 * KIB), '3KiB');
  t.equal(formatBytes(2 * GIB), '2GiB');
  t.equal(formatBytes(0), '0');
});

t.test('a word that only the prototype knows is no unit', async (t) => {
  for (const word of ['constructor', 'valueof', 'tostring']) t.equal(parseBytes(`1${word}`), undefined, word);
});

t.test('an unknown option names the nearest', async (t) => {
  const message = (input: object): string =>
    refusal(t, () => resolveLogOptions(input as LogOptionsInput), JSON.stringify(input)).message;
  t.equal(message({ dir: 'd', windw: {} }), "unknown option 'windw': did you mean 'window'?");
  t.equal(message({ dir: 'd', window: { maxRecrods: 1 } }), "unknown option 'maxRecrods': did you mean 'maxRecords'?");
  t.equal(message({ dir: 'd', window: { lingerms: 1 } }), "unknown option 'lingerms': did you mean 'lingerMs'?");
  t.equal(message({ dir: 'd', segmentbytes: 1 }), "unknown option 'segmentbytes': did you mean 'segmentBytes'?");
  t.match(message({ dir: 'd', colour: 1 }), /^unknown option 'colour': known are dir, window, io, /);
  t.match(message(JSON.parse('{"dir":"d","__proto__":{}}') as object), /^unknown option '__proto__'/);
  t.equal(nearest('xyzzy', ['window', 'io']), undefined);
  t.equal(nearest('io', []), undefined);
});

t.test('options and window must be objects', async (t) => {
  for (const [value, got] of [
    [null, 'null'],
    [5, '5'],
    ['d', "'d'"],
    [[], 'an array'],
    [undefined, 'undefined'],
  ] as const) {
    t.equal(
      refusal(t, () => resolveLogOptions(value as unknown as LogOptionsInput), got).message,
      `options: expected an object, got ${got}`,
    );
    if (value === undefined) continue;
    const input = { dir: 'd', window: value } as unknown as LogOptionsInput;
    t.equal(refusal(t, () => resolveLogOptions(input), got).message, `option 'window': expected an object, got ${got}`);
  }
});

t.test('dir has no default', async (t) => {
  refused(t, () => resolveLogOptions({} as LogOptionsInput), 'dir', 'undefined', 'no dir');
});

t.test('options that are bound to each other', async (t) => {
  const small = { dir: 'd', laneBytes: '64KiB', maxRecordBytes: '16KiB', window: { maxBytes: '32KiB' } } as const;
  t.equal(resolveLogOptions(small).maxRecordBytes, 16 * KIB, 'each at its bound');

  const over = (change: Partial<LogOptionsInput>): LogOptionsInput => ({ ...small, ...change });
  for (const laneBytes of [12 * KIB, 64 * KIB - 8, 64 * KIB + 1]) {
    refused(
      t,
      () => resolveLogOptions(over({ laneBytes })),
      'laneBytes',
      formatBytes(laneBytes),
      `laneBytes ${laneBytes}`,
    );
  }
  refused(
    t,
    () => resolveLogOptions(over({ maxRecordBytes: 16 * KIB + 1 })),
    'maxRecordBytes',
    '16385',
    'more than a quarter',
  );
  refused(
    t,
    () => resolveLogOptions(over({ window: { maxBytes: 32 * KIB + 1 } })),
    'window.maxBytes',
    '32769',
    'more than half',
  );
  refused(
    t,
    () => resolveLogOptions(over({ segmentBytes: '1GB' })),
    'segmentBytes',
    '1000000000',
    'no multiple of a block',
  );

  // 4096 for the segment's own block, and the batch: 64 + 16384 + 32768 rounded up to blocks.
  const least = 4096 + 53_248;
  t.equal(4096 + maxBatchBytes(resolveLogOptions(small)), least);
  t.ok(least < 64 * KIB, 'so small that the lower bound of segmentBytes is what counts');
  t.equal(resolveLogOptions(over({ segmentBytes: '64KiB' })).segmentBytes, 64 * KIB);

  const larger = { dir: 'd', laneBytes: '1MiB', maxRecordBytes: '256KiB', window: { maxBytes: '64KiB' } } as const;
  // One record of 256 KiB is larger than the window: 64 + 16384 + (262144 + 16 + 8), in blocks, and 4096.
  const needed = 4096 + Math.ceil((64 + 16_384 + 262_168) / 4096) * 4096;
  t.equal(resolveLogOptions({ ...larger, segmentBytes: needed }).segmentBytes, needed, 'the largest batch fits');
  const short = needed - 4096;
  refused(
    t,
    () => resolveLogOptions({ ...larger, segmentBytes: short }),
    'segmentBytes',
    formatBytes(short),
    'one block short',
  );
});

t.test('the largest record and the largest window fit the batch that maxBatchBytes promises', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: KIB, max: 64 * MIB }),
      fc.integer({ min: 1, max: 16 * MIB }),
      (maxBytes, maxRecordBytes) => {
        const bytes = maxBatchBytes({ window: { maxRecords: 1, maxBytes, lingerMs: 0 }, maxRecordBytes });
        const frame = Math.ceil((16 + maxRecordBytes) / 8) * 8;
        return bytes % 4096 === 0 && bytes >= 64 + 16_384 + Math.max(maxBytes, frame);
      },
    ),
    { seed: 4 },
  );
  t.pass('property holds');
});

t.test('resolving what was resolved changes nothing', async (t) => {
  const once = resolveLogOptions({ dir: 'd', laneBytes: '32MiB', window: { lingerMs: 0.5 }, retentionBytes: '1GB' });
  t.strictSame(resolveLogOptions(once), once);
  t.strictSame(structuredClone(once), once, 'and it reaches a worker as it is');
});

const described = (name: string): object => describeOption(table.find((s) => s.name === name)!);

t.test('what help prints comes from the table', async (t) => {
  for (const spec of table) {
    const { flag, defaultText, bounds } = describeOption(spec);
    t.equal(flag, spec.flag);
    t.not(defaultText, '', `${spec.name}: default`);
    if (spec.type !== 'string') t.not(bounds, '', `${spec.name}: bounds`);
  }
  t.match(described('dir'), { defaultText: 'required', bounds: '' });
  t.match(described('io'), { defaultText: 'auto', bounds: 'auto | direct | buffered | portable | js' });
  t.match(described('segmentBytes'), { defaultText: '64MiB', bounds: '64KiB … 1GiB' });
  t.match(described('retentionBytes'), { defaultText: '0', bounds: '0 … ' });
});

t.test('a text with line breaks is shown in one line', async (t) => {
  refusal(t, () => resolveLogOptions({ dir: 'd', io: 'a\nb' as 'js' }), 'io');
  refusal(t, () => resolveLogOptions({ dir: 'd', 'a\nb': 1 } as LogOptionsInput), 'unknown');
});
