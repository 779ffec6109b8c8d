// JSON Schema of a stream: which files can be used, and what a record gets.

import t, { type Test } from 'tap';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_SCHEMA_BYTES } from '../../src/base/limits.ts';
import { checkRecord, compileSchema } from '../../src/codec/schema.ts';
import { temporaryDirectory } from '../support/modes.ts';

const dir = temporaryDirectory();
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

let files = 0;
function fileOf(schema: unknown): string {
  const path = join(dir, `${files++}.json`);
  writeFileSync(path, typeof schema === 'string' ? schema : JSON.stringify(schema));
  return path;
}

/** 'fine', or code and message. */
function verdict(path: string, record: string | Buffer): string {
  const refused = checkRecord(compileSchema(path), Buffer.from(record as string));
  return refused === undefined ? 'fine' : `${refused.code}: ${refused.message}`;
}

function unusable(t: Test, path: string, reason: RegExp): void {
  try {
    compileSchema(path);
    t.fail(`${reason}: it was taken`);
  } catch (error) {
    const { code, message, details } = error as { code: string; message: string; details: { subject: string } };
    t.strictSame([code, details.subject], ['INVALID_OPTION', path], String(reason));
    t.ok(message.startsWith(`schema ${path}: `) && !message.includes('\n'), message);
    t.match(message, reason);
  }
}

t.test('a file that cannot be used is named', async (t) => {
  unusable(t, join(dir, 'none.json'), /ENOENT/);
  unusable(t, dir, /it is no regular file$/);
  unusable(t, fileOf(''), /JSON/);
  unusable(t, fileOf('{"type":'), /JSON/);
  unusable(t, fileOf([]), /expected an object, true or false, got an array/);
  unusable(t, fileOf('null'), /got null/);
  unusable(t, fileOf('"x"'), /got 'x'/);
  unusable(t, fileOf({ type: 'objekt' }), /schema is invalid/);
  unusable(t, fileOf({ propertys: {} }), /unknown keyword: "propertys"/);
  unusable(t, fileOf({ type: 'string', format: 'email' }), /unknown format "email"/);
  unusable(t, fileOf({ $ref: 'https://example.test/other.json' }), /can't resolve reference/);
  unusable(t, fileOf({ $schema: 'https://example.test/schema' }), /expected \$schema to be draft/);
  unusable(t, fileOf({ $schema: 7 }), /expected \$schema to be draft/);
  unusable(t, fileOf({ $async: true, type: 'object' }), /without \$async/);
  unusable(t, fileOf({ pattern: '(' }), /regular expression/i);
  unusable(t, fileOf(`{"title":"${'x'.repeat(MAX_SCHEMA_BYTES)}"}`), /expected at most 1048576 bytes/);
});

t.test('drafts', async (t) => {
  const tuple = { type: 'array', items: false, prefixItems: [{ type: 'integer' }] };
  const drafts: [what: string, schema: object][] = [
    ['none', tuple],
    ['2020-12', { $schema: 'https://json-schema.org/draft/2020-12/schema', ...tuple }],
    [
      '2019-09',
      {
        $schema: 'https://json-schema.org/draft/2019-09/schema',
        type: 'array',
        items: [{ type: 'integer' }],
        additionalItems: false,
      },
    ],
    [
      '7',
      {
        $schema: 'http://json-schema.org/draft-07/schema#',
        type: 'array',
        items: [{ type: 'integer' }],
        additionalItems: false,
      },
    ],
  ];
  for (const [what, schema] of drafts) {
    const path = fileOf(schema);
    t.equal(verdict(path, '[1]'), 'fine', what);
    t.match(verdict(path, '["1"]'), /^SCHEMA_MISMATCH: '\/0' must be integer$/, what);
    t.match(verdict(path, '[1,2]'), /^SCHEMA_MISMATCH: it must NOT have more than 1 items$/, what);
  }
  t.equal(verdict(fileOf('true'), '1'), 'fine');
  t.match(verdict(fileOf('false'), '1'), /^SCHEMA_MISMATCH/);
});

t.test('records', async (t) => {
  const path = fileOf({
    type: 'object',
    required: ['id'],
    properties: { id: { type: 'integer' }, tag: { type: ['string', 'null'], maxLength: 3 } },
  });
  const cases: [string | Buffer, RegExp][] = [
    ['{"id":1}', /^fine$/],
    [' {"id":1,"tag":null}\t', /^fine$/],
    ['{"id":9007199254740993}', /^fine$/],
    ['{"id":1,"tag":"\\ud800"}', /^fine$/],
    ['{"id":1,"id":"2"}', /^SCHEMA_MISMATCH: '\/id' must be integer$/],
    ['{"id":"1"}', /^SCHEMA_MISMATCH: '\/id' must be integer$/],
    ['{}', /^SCHEMA_MISMATCH: it must have required property 'id'$/],
    ['[]', /^SCHEMA_MISMATCH: it must be object$/],
    ['{"id":1', /^INVALID_JSON: JSON: expected ',' or '}' at byte 7, got the end, counted from its beginning$/],
    ['{"id":01}', /^INVALID_JSON: JSON: expected .* at byte 7/],
    ['\ufeff{"id":1}', /^INVALID_JSON: .*byte order mark/],
    ['', /^INVALID_JSON/],
    [Buffer.from('{"id":1,"tag":"\xff"}', 'latin1'), /^INVALID_JSON: expected UTF-8/],
    [Buffer.from('{"id":1,"tag":"\xed\xa0\x80"}', 'latin1'), /^INVALID_JSON: expected UTF-8/],
  ];
  for (const [record, wanted] of cases)
    t.match(verdict(path, record), wanted, JSON.stringify(record.toString('latin1')));
});

t.test('a record reaches nothing beyond itself', async (t) => {
  const open = fileOf({ type: 'object' });
  t.equal(verdict(open, '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'), 'fine');
  t.equal(({} as { polluted?: number }).polluted, undefined);
  const closed = fileOf({ type: 'object', properties: { a: true }, additionalProperties: false });
  t.match(verdict(closed, '{"__proto__":{"a":1}}'), /^SCHEMA_MISMATCH: it must NOT have additional properties$/);
  const inherited = fileOf({ type: 'object', required: ['constructor', 'toString', '__proto__'] });
  t.match(verdict(inherited, '{}'), /^SCHEMA_MISMATCH: it must have required property/);
  t.equal(verdict(inherited, '{"constructor":1,"toString":2,"__proto__":3}'), 'fine');
  const defaults = fileOf({ type: 'object', properties: { a: { type: 'integer', default: 5 } }, required: ['a'] });
  t.match(verdict(defaults, '{}'), /required property/, 'no default is filled in');
});

t.test('any depth', async (t) => {
  const depth = 200_000;
  const record = `${'['.repeat(depth)}${']'.repeat(depth)}`;
  t.equal(verdict(fileOf({ type: 'array' }), record), 'fine');
  const recursive = fileOf({ $id: 'tree', type: 'array', items: { $ref: 'tree' } });
  t.equal(verdict(recursive, '[[],[[]]]'), 'fine');
  t.match(verdict(recursive, '[[],[1]]'), /^SCHEMA_MISMATCH: '\/1\/0' must be array$/);
  t.equal(verdict(recursive, record), 'SCHEMA_MISMATCH: nested too deep to be checked');
  t.equal(verdict(recursive, '[]'), 'fine', 'and it goes on working');
});

t.test('compiled once', async (t) => {
  const path = fileOf({ type: 'integer' });
  const schema = compileSchema(path);
  writeFileSync(path, '{"type":"string"}');
  t.equal(compileSchema(path), schema);
  const broken = fileOf('{');
  unusable(t, broken, /JSON/);
  writeFileSync(broken, '{"type":"string"}');
  t.equal(verdict(broken, '"x"'), 'fine', 'a broken file is read again');
  const twice = [fileOf({ $id: 'same', type: 'integer' }), fileOf({ $id: 'same', type: 'string' })];
  t.strictSame([verdict(twice[0], '1'), verdict(twice[1], '"1"')], ['fine', 'fine'], 'two files with one $id');
});
