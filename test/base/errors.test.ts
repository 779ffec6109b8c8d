import t from 'tap';
import {
  errnoOf,
  errorKinds,
  fromErrorMessage,
  isDiskFull,
  reasonOf,
  SpillwayError,
  toErrorMessage,
  type ErrorCode,
  type ErrorDetails,
} from '../../src/base/errors.ts';
import { filesUnder, sourceOf } from '../support/platform-root.ts';

const codes = Object.keys(errorKinds) as ErrorCode[];

t.test('every code has a sentence, an exit status, and one class', async (t) => {
  for (const code of codes) {
    const kind = errorKinds[code];
    t.match(code, /^[A-Z]+(_[A-Z]+)*$/, `${code}: its form`);
    t.match(kind.meaning, /^[A-Z].{20,}\.$/, `${code}: a sentence`);
    t.ok([1, 2, 3].includes(kind.exit), `${code}: exit ${kind.exit}`);
    t.type(kind.retryable, 'boolean', `${code}: retryable`);
    t.ok(kind.status >= 400 && kind.status <= 503, `${code}: HTTP ${kind.status}`);
    const error = new SpillwayError(code, 'text');
    t.match(error, { code, retryable: kind.retryable, name: 'SpillwayError', message: 'text', details: {} });
    t.ok(error instanceof Error);
  }
});

const withExit = (exit: number): string[] => codes.filter((code) => errorKinds[code].exit === exit).sort();

t.test('exit 3 is corruption and nothing else; usage and configuration are 2', async (t) => {
  t.strictSame(withExit(3), ['CORRUPT']);
  t.strictSame(withExit(2), [
    'DIR_UNUSABLE',
    'INVALID_OPTION',
    'INVALID_STREAM',
    'LOCKED',
    'MEMORY_LIMIT',
    'NOT_A_LOG',
    'OFFSET_OUT_OF_RANGE',
    'UNAUTHORIZED',
    'UNSUPPORTED_FORMAT',
  ]);
});

t.test('what may succeed later, and no other, is retryable', async (t) => {
  const retryable = codes.filter((code) => errorKinds[code].retryable).sort();
  t.strictSame(retryable, [
    'BACKLOG_FULL',
    'DISCONNECTED',
    'DISK_FULL',
    'DRAINING',
    'DROPPED',
    'LOCKED',
    'RATE_LIMITED',
    'REQUEST_TIMEOUT',
    'SHED',
    'TOO_MANY_LANES',
  ]);
});

t.test('the table and the sources know the same codes', async (t) => {
  const files = [...filesUnder('src', '.ts'), ...filesUnder('workers', '.ts')].filter(
    (f) => f !== 'src/base/errors.ts',
  );
  const text = files
    .map(sourceOf)
    .join('\n')
    .replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  for (const code of codes) t.match(text, new RegExp(`'${code}'`), `${code} is used`);
  const thrown = [...text.matchAll(/new SpillwayError\(\s*'([^']*)'/g)].map((m) => m[1]);
  t.ok(thrown.length > 20, `${thrown.length} places were found`);
  for (const code of new Set(thrown)) t.ok(code in errorKinds, `${code} is in the table`);
});

t.test('an error crosses a thread boundary whole, but for its cause', async (t) => {
  const details: ErrorDetails = {
    subject: '00000000.seg',
    errno: 'EIO',
    problems: [
      { file: '00000000.seg', position: 4096, firstOffset: 7, lastOffset: null, message: 'the checksum is wrong' },
    ],
  };
  for (const code of codes) {
    const cause = Object.assign(new Error('inner'), { native: () => 1 }); // a function cannot be cloned
    const sent = new SpillwayError(code, `about ${code}`, { ...details, cause });
    t.equal(sent.cause, cause, 'the cause stays on this side');
    const back = fromErrorMessage(structuredClone(toErrorMessage(sent)));
    t.ok(back instanceof SpillwayError);
    t.equal(back.code, code);
    t.equal(back.message, sent.message);
    t.equal(back.retryable, sent.retryable);
    t.strictSame(back.details, details);
    t.notOk('cause' in back.details, 'no cause');
    t.strictSame(toErrorMessage(back), toErrorMessage(sent), 'and once more');
  }
});

t.test('whatever is thrown becomes a message', async (t) => {
  t.strictSame(toErrorMessage(new TypeError('odd')), { code: 'IO_ERROR', message: 'odd', details: {} });
  t.strictSame(toErrorMessage(new TypeError('odd'), 'POISONED'), { code: 'POISONED', message: 'odd', details: {} });
  t.strictSame(toErrorMessage('text', 'CLOSED'), { code: 'CLOSED', message: 'text', details: {} });
  t.strictSame(toErrorMessage(undefined), { code: 'IO_ERROR', message: 'undefined', details: {} });
  const known = new SpillwayError('CORRUPT', 'bad');
  t.equal(toErrorMessage(known, 'POISONED').code, 'CORRUPT', 'the fallback is for what is not ours');
});

t.test('without a cause there is none', async (t) => {
  t.notOk(Object.hasOwn(new SpillwayError('CLOSED', 'x'), 'cause'));
});

const system = (code: string): Error => Object.assign(new Error(code), { code });

t.test('reasons and errno names', async (t) => {
  t.equal(reasonOf(new Error('why')), 'why');
  t.equal(reasonOf(5), '5');
  const cases: [unknown, string | undefined][] = [
    [system('ENOSPC'), 'ENOSPC'],
    [system('E2BIG'), 'E2BIG'],
    [system('ERR_INVALID_ARG_TYPE'), undefined],
    [system('MODULE_NOT_FOUND'), undefined],
    [new SpillwayError('IO_ERROR', 'x', { errno: 'EIO' }), 'EIO'],
    [new SpillwayError('IO_ERROR', 'x'), undefined],
    [new Error('x'), undefined],
    [null, undefined],
    [undefined, undefined],
    ['ENOSPC', undefined],
    [{ code: 28 }, undefined],
  ];
  for (const [error, errno] of cases) t.equal(errnoOf(error), errno, String(errno));
  for (const errno of ['ENOSPC', 'EDQUOT']) {
    t.ok(isDiskFull(system(errno)), errno);
    t.ok(isDiskFull(new SpillwayError('IO_ERROR', 'x', { errno })), `wrapped ${errno}`);
  }
  for (const errno of ['EIO', 'EROFS', 'EFBIG'])
    t.notOk(isDiskFull(system(errno)), `${errno} is damage, not back-pressure`);
});
